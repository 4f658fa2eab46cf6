"""MIX'EM's loss (iii), pull and push: by hand, against a slow reference, corner cases."""

import math

import numpy as np
import pytest
import torch

from mixem.errors import InputError
from mixem.losses import associative_embedding


def slow(z, p):
    """Component by component with the zero vector written out, in NumPy."""
    components = p.shape[1]
    means, pull = [], 0.0
    for c in range(components):
        members = [z[b] for b in range(len(z)) if p[b].argmax() == c]
        members.append(np.zeros(z.shape[1]))
        mean = sum(members) / len(members)
        pull += sum(np.linalg.norm(s - mean) for s in members) / len(members) / components
        means.append(mean)
    gaps = [np.linalg.norm(a - b) for a in means for b in means]
    return pull, -sum(gaps) / max(components * (components - 1), 1)


def batch_of(batch, components, size, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, size, generator=generator, dtype=dtype)
    z = z / z.norm(dim=1, keepdim=True) * torch.rand(batch, 1, generator=generator, dtype=dtype)
    return z, (3 * torch.randn(batch, components, generator=generator, dtype=dtype)).softmax(1)


def test_by_hand():
    z = torch.tensor([[0.6, 0.0], [0.0, 0.6], [0.8, 0.0]], dtype=torch.float64)
    p = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)
    # Component 0: z_0, z_1 and 0, mean (0.2, 0.2), distances sqrt(0.2) twice and sqrt(0.08).
    # Component 1: z_2 and 0, mean (0.4, 0), distances 0.4 twice.
    pull, push = associative_embedding(z, p)
    first = (2 * math.sqrt(0.2) + math.sqrt(0.08)) / 3
    assert pull.item() == pytest.approx((first + 0.4) / 2, rel=1e-14)
    assert push.item() == pytest.approx(-math.hypot(0.2, 0.2), rel=1e-14)


@pytest.mark.parametrize("batch", [1, 2, 5, 40])
@pytest.mark.parametrize("components", [1, 2, 3, 10])
@pytest.mark.parametrize("size", [1, 4])
def test_equals_the_slow_reference_within_its_range(batch, components, size):
    z, p = batch_of(batch, components, size)
    pull, push = (loss.item() for loss in associative_embedding(z, p))
    expected = slow(z.numpy(), p.numpy())
    assert pull == pytest.approx(expected[0], abs=1e-13)
    assert push == pytest.approx(expected[1], abs=1e-13)
    assert 0 <= pull <= 2
    assert -math.sqrt(2 * components / max(components - 1, 1)) <= push <= 0


def test_push_comes_close_to_its_bound_when_components_are_far_apart():
    # Two components of many images at opposite points: |mu_0 - mu_1| is nearly 2.
    z = torch.tensor([[1.0], [-1.0]]).repeat(1000, 1)
    p = torch.eye(2).repeat(1000, 1)
    pull, push = associative_embedding(z, p)
    assert push.item() == pytest.approx(-2 * 1000 / 1001)
    assert pull.item() == pytest.approx(2 * 1000 / 1001**2, rel=1e-4)


def test_a_single_image_is_pulled_to_the_origin():
    z, p = torch.tensor([[0.6, 0.8]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    pull, push = associative_embedding(z, p)
    assert pull.item() == pytest.approx(0.5)  # |z| / 2
    assert push.item() == 0  # one component has nothing to be pushed from


def test_an_empty_component_is_at_the_origin():
    z, _ = batch_of(5, 2, 3)
    p = torch.tensor([[0.9, 0.1]], dtype=torch.float64).repeat(5, 1)
    pull, push = associative_embedding(z, p)
    mu = z.sum(0) / 6
    assert push.item() == pytest.approx(-mu.norm().item())
    assert pull.item() == pytest.approx(((z - mu).norm(dim=1).sum() + mu.norm()).item() / 6 / 2)


def test_ties_go_to_the_first_component():
    z, _ = batch_of(4, 2, 3)
    ties = torch.full((4, 3), 1 / 3, dtype=torch.float64)
    first = torch.eye(3, dtype=torch.float64)[[0, 0, 0, 0]]
    assert associative_embedding(z, ties) == associative_embedding(z, first)


def test_order_and_rotation_do_not_matter():
    z, p = batch_of(20, 4, 3)
    expected = [loss.item() for loss in associative_embedding(z, p)]
    rotation = torch.linalg.qr(batch_of(3, 1, 3, seed=1)[0]).Q
    for other in ((z.flip(0), p.flip(0)), (z, p.flip(1)), (z @ rotation, p)):
        found = [loss.item() for loss in associative_embedding(*other)]
        assert found == pytest.approx(expected, rel=1e-12)


def test_gradcheck():
    z, p = batch_of(6, 3, 2)
    assert torch.autograd.gradcheck(lambda z: associative_embedding(z, p), z.requires_grad_())


def test_the_second_derivative_is_that_of_the_numbers():
    z, p = batch_of(6, 3, 2)
    assert torch.autograd.gradgradcheck(lambda z: associative_embedding(z, p), z.requires_grad_())


@pytest.mark.parametrize("p", [torch.eye(3)[[0, 1, 2, 0]], torch.eye(3)[[0] * 4]])
@pytest.mark.parametrize("z", [torch.zeros(4, 3), torch.ones(4, 3), torch.eye(4, 3)])
def test_the_second_derivative_is_finite_where_lengths_are_0(z, p):
    # Of a mean to itself always, then of empty components, and of images at the origin.
    z = z.clone().requires_grad_()
    for loss in associative_embedding(z, p):
        (first,) = torch.autograd.grad(loss, z, create_graph=True)
        (second,) = torch.autograd.grad((first + first.pow(2)).sum(), z, retain_graph=True)
        assert second.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e10, 1e25, 1e30])
def test_pull_and_push_grow_with_z_however_large(scale, dtype):
    z, p = batch_of(8, 3, 4, dtype=torch.float32)
    expected = torch.tensor(associative_embedding(z, p))
    large = (scale * z).to(dtype).requires_grad_()
    losses = associative_embedding(large, p)
    rounding = 1e-5 if dtype == torch.float32 else 2e-2
    assert torch.allclose(torch.stack(losses) / scale, expected, rtol=rounding)
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss, large, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.any()


def test_coefficients_receive_no_gradient():
    z, p = batch_of(6, 3, 2)
    pull, push = associative_embedding(z.requires_grad_(), p.requires_grad_())
    (pull + push).backward()
    assert p.grad is None


@pytest.mark.parametrize("z", [torch.zeros(4, 3), torch.ones(4, 3)])
def test_lengths_of_0_have_gradient_0_and_not_nan(z):
    # All z at the origin, then the means of two components at the same place.
    z = z.clone().requires_grad_()
    p = torch.eye(3)[[0, 1, 0, 1]]
    pull, push = associative_embedding(z, p)
    for loss in (pull, push):
        (gradient,) = torch.autograd.grad(loss, z, retain_graph=True)
        assert gradient.isfinite().all()
    if not z.any():
        assert (pull.item(), push.item()) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z, p = (x.to(dtype) for x in batch_of(8, 3, 4, dtype=torch.float32))
    found = associative_embedding(z, p)
    assert {loss.dtype for loss in found} == {torch.float32}
    assert found == associative_embedding(z.float(), p.float())


def test_autocast_changes_nothing():
    z, p = batch_of(8, 3, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = associative_embedding(z, p)
    assert {loss.dtype for loss in found} == {torch.float32}
    assert found == associative_embedding(z, p)


@pytest.mark.parametrize(
    ("z", "p", "message"),
    [
        ((3, 2), (2, 4), "3 rows and p 2"),
        ((3,), (3, 4), "z of shape"),
        ((3, 2), (3,), "p of shape"),
        ((0, 2), (0, 4), "z of shape"),
        ((3, 2), (3, 0), "p of shape"),
    ],
)
def test_other_shapes_are_refused(z, p, message):
    with pytest.raises(InputError, match=message):
        associative_embedding(torch.ones(z), torch.ones(p))
