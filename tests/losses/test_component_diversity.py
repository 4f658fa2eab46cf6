"""MIX'EM's loss (i): by hand, against a slow reference, corner cases."""

import math

import pytest
import torch

from mixem.errors import InputError
from mixem.losses import component_diversity


def slow(p):
    means = [sum(row[m] for row in p) / len(p) for m in range(len(p[0]))]
    return sum(mean * math.log(mean) for mean in means if mean > 0)


def coefficients(batch, components, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(batch, components, generator=generator, dtype=dtype)).softmax(1)


def test_by_hand():
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    expected = 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert component_diversity(p).item() == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("components", [1, 2, 10])
def test_equals_the_slow_reference_within_its_range(batch, components):
    p = coefficients(batch, components)
    loss = component_diversity(p).item()
    assert loss == pytest.approx(slow(p.tolist()), abs=1e-14)
    assert -math.log(components) - 1e-12 <= loss <= 1e-12


def test_extremes():
    one = torch.eye(4)[[2, 2, 2]]
    assert component_diversity(one).item() == 0
    # Hard but balanced, and undecided: for the batch as a whole both use everything.
    for balanced in (torch.eye(4), torch.full((3, 4), 0.25)):
        assert component_diversity(balanced).item() == pytest.approx(-math.log(4))


def test_order_does_not_matter():
    p = coefficients(7, 5)
    loss = component_diversity(p).item()
    assert component_diversity(p.flip(0)).item() == pytest.approx(loss, rel=1e-14)
    assert component_diversity(p.flip(1)).item() == pytest.approx(loss, rel=1e-14)


def test_gradcheck():
    p = coefficients(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(component_diversity, p)


@pytest.mark.parametrize("gap", [103.0, 104.0, 1000.0])
def test_a_component_that_underflows_is_finite_and_changes_nothing(gap):
    # The official code gives NaN from a gap of 104 on.
    logits = torch.tensor([[0.0, 0.5, -gap], [1.0, 0.0, -gap]], requires_grad=True)
    loss = component_diversity(logits.softmax(1))
    without = component_diversity(logits[:, :2].softmax(1))
    assert loss.item() == pytest.approx(without.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(without, logits)
    assert gradient.isfinite().all()
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_gradient_where_a_component_is_exactly_0():
    p = torch.tensor([[0.25, 0.75, 0.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(component_diversity(p), p)
    # The true derivative ln p + 1 has no value at 0; it is cut off, and still by far the lowest.
    assert gradient[0, :2].tolist() == pytest.approx([math.log(0.25) + 1, math.log(0.75) + 1])
    assert -1000 < gradient[0, 2] < -50


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    p = coefficients(8, 5, dtype=torch.float32).to(dtype)
    loss = component_diversity(p)
    assert loss.dtype == torch.float32
    assert loss.item() == component_diversity(p.float()).item()


def test_autocast_changes_nothing():
    p = coefficients(8, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = component_diversity(p)
    assert loss.dtype == torch.float32
    assert loss.item() == component_diversity(p).item()


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (2, 2, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="p of shape"):
        component_diversity(torch.ones(shape))
