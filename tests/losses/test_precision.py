"""Lengths: by hand, at 0, and beyond the range of the squares."""

import pytest
import torch

from mixem.losses.precision import full_precision, length


def test_by_hand():
    x = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[-5.0, 12.0], [0.0, -2.0]]])
    assert length(x).tolist() == [[[5.0], [0.0]], [[13.0], [2.0]]]


def test_usual_lengths_are_bit_for_bit_those_of_pytorch():
    x = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    for scale in (1e-10, 1.0, 1e10):
        found, expected = (scale * x).requires_grad_(), (scale * x).requires_grad_()
        ours = length(found)
        theirs = torch.linalg.vector_norm(expected, dim=1, keepdim=True)
        assert torch.equal(ours, theirs)
        gradients = (
            torch.autograd.grad(ours.sum(), found),
            torch.autograd.grad(theirs.sum(), expected),
        )
        assert torch.equal(gradients[0][0], gradients[1][0])


@pytest.mark.parametrize("scale", [1e-17, 1e19, 1e20, 3e37])
def test_lengths_beyond_the_range_of_the_squares(scale):
    x = torch.tensor([[3.0, 4.0], [4.0, 3.0]])
    found = (scale * x).requires_grad_()
    lengths = length(found)
    assert torch.allclose(lengths / scale, torch.full((2, 1), 5.0), rtol=1e-6)
    assert torch.allclose(torch.autograd.grad(lengths.sum(), found)[0], x / 5, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1e-19, 1e-40])
def test_all_derivatives_at_0_are_0(value):
    x = torch.full((2, 3), value, requires_grad=True)
    lengths = length(x)
    assert not lengths.any()
    (first,) = torch.autograd.grad(lengths.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert not first.any()
    assert not second.any()


def test_infinity_and_nan_are_not_hidden():
    x = torch.tensor([[torch.inf, 1.0], [torch.nan, 1.0]])
    assert length(x)[0] == torch.inf
    assert length(x)[1].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_full_precision_only_widens(dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert full_precision(torch.ones(2, dtype=dtype)).dtype == wide
