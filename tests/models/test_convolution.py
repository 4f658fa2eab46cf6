"""A convolution as a dense layer is PyTorch's convolution, forward and backward."""

import pytest
import torch
from torch import nn

from mixem.models import ClusterNet6c
from mixem.models.convolution import Convolution


@pytest.mark.parametrize(
    ("channels", "side", "kernel", "padding", "bias"),
    [
        (3, (3, 3), 5, 2, False),
        (2, (2, 3), 3, 1, True),
        (4, (1, 1), 5, 2, True),
        (3, (5, 5), 5, 0, False),
    ],
)
def test_dense_is_the_convolution(channels, side, kernel, padding, bias):
    """Values and all gradients, in float64."""
    torch.manual_seed(0)
    layer = Convolution(channels, 6, kernel, padding=padding, bias=bias).double()
    x = torch.randn(7, channels, *side, dtype=torch.float64)
    y = torch.randn_like(x).requires_grad_()
    z = y.detach().clone().requires_grad_()
    plain, dense = nn.Conv2d.forward(layer, y), layer.as_dense(z)
    assert plain.shape == dense.shape
    torch.testing.assert_close(dense, plain)
    weights = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * weights).sum(), [y, *layer.parameters()])
    found = torch.autograd.grad((dense * weights).sum(), [z, *layer.parameters()])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_only_where_it_pays(monkeypatch):
    """The last layer of the paper's network in training; not in evaluation, nor a narrow one."""
    asked = []
    real = Convolution.as_dense
    monkeypatch.setattr(
        Convolution, "as_dense", lambda self, x: asked.append(tuple(x.shape[1:])) or real(self, x)
    )
    wide, narrow = ClusterNet6c(), ClusterNet6c(width=16)
    images = torch.rand(2, 1, 24, 24)
    with torch.no_grad():
        wide(images), narrow(images)
    narrow(images)
    assert not asked
    wide(images)
    assert asked == [(256, 3, 3)]


def test_bfloat16_is_as_near_as_the_convolution():
    """Inside autocast both round to bfloat16."""
    torch.manual_seed(0)
    layer = Convolution(32, 64, 5, padding=2, bias=False)
    x = torch.randn(16, 32, 3, 3)
    exact = nn.Conv2d.forward(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        dense = layer.as_dense(x)
    assert dense.dtype == torch.bfloat16
    assert (dense - exact).norm() / exact.norm() < 5e-3
