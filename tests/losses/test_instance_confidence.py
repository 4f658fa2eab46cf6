"""MIX'EM's loss (ii), as the code and as the abstract has it."""

import math

import pytest
import torch

from mixem.errors import InputError
from mixem.losses import instance_confidence, instance_entropy

BOTH = pytest.mark.parametrize("loss", [instance_confidence, instance_entropy])


def slow(loss, p):
    if loss is instance_confidence:
        return sum(1 - max(row) for row in p) / len(p)
    return sum(-x * math.log(x) for row in p for x in row if x > 0) / len(p)


def coefficients(batch, components, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(batch, components, generator=generator, dtype=dtype)).softmax(1)


def test_by_hand():
    p = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.5, 0.25]], dtype=torch.float64)
    assert instance_confidence(p).item() == 0.25  # (0 + 0.5) / 2
    assert instance_entropy(p).item() == pytest.approx(0.75 * math.log(2))  # (0 + 1.5 ln 2) / 2


@BOTH
@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("components", [1, 2, 10])
def test_equals_the_slow_reference_within_its_range(loss, batch, components):
    p = coefficients(batch, components)
    found = loss(p).item()
    assert found == pytest.approx(slow(loss, p.tolist()), abs=1e-14)
    most = 1 - 1 / components if loss is instance_confidence else math.log(components)
    assert -1e-12 <= found <= most + 1e-12
    assert loss(torch.full_like(p, 1 / components)).item() == pytest.approx(most, abs=1e-12)
    assert loss(torch.eye(components)).item() == 0


@BOTH
def test_order_does_not_matter(loss):
    p = coefficients(7, 5)
    assert loss(p.flip(0)).item() == pytest.approx(loss(p).item(), rel=1e-14)
    assert loss(p.flip(1)).item() == pytest.approx(loss(p).item(), rel=1e-14)


@BOTH
def test_gradcheck(loss):
    assert torch.autograd.gradcheck(loss, coefficients(4, 3).requires_grad_())


def test_only_the_largest_coefficient_receives_gradient():
    p = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], requires_grad=True)
    (gradient,) = torch.autograd.grad(instance_confidence(p), p)
    # Of equal ones it is the first.
    assert gradient.tolist() == [[0, -0.5, 0], [-0.5, 0, 0]]


@pytest.mark.parametrize("gap", [103.0, 104.0, 1000.0])
@BOTH
def test_a_component_that_underflows_is_finite_and_changes_nothing(loss, gap):
    logits = torch.tensor([[0.0, 0.5, -gap], [1.0, 0.0, -gap]], requires_grad=True)
    found = loss(logits.softmax(1))
    without = loss(logits[:, :2].softmax(1))
    assert found.item() == pytest.approx(without.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    (expected,) = torch.autograd.grad(without, logits)
    assert gradient.isfinite().all()
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_gradient_of_the_entropy_where_a_coefficient_is_exactly_0():
    p = torch.tensor([[0.25, 0.75, 0.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(instance_entropy(p), p)
    assert gradient[0, :2].tolist() == pytest.approx([-math.log(0.25) - 1, -math.log(0.75) - 1])
    assert 50 < gradient[0, 2] < 1000


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@BOTH
def test_half_precision_is_computed_in_float32(loss, dtype):
    p = coefficients(8, 5, dtype=torch.float32).to(dtype)
    assert loss(p).dtype == torch.float32
    assert loss(p).item() == loss(p.float()).item()


@BOTH
def test_autocast_changes_nothing(loss):
    p = coefficients(8, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(p)
    assert found.dtype == torch.float32
    assert found.item() == loss(p).item()


@BOTH
@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (2, 2, 2)])
def test_other_shapes_are_refused(loss, shape):
    with pytest.raises(InputError, match="p of shape"):
        loss(torch.ones(shape))
