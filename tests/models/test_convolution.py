"""A convolution as a dense layer is PyTorch's convolution, forward and backward."""

import pytest
import torch
from torch import nn

from mixem.models import make_backbone
from mixem.models.convolution import Convolution


@pytest.mark.parametrize(
    ("channels", "side", "kernel", "stride", "padding", "bias"),
    [
        (3, (3, 3), 5, 1, 2, False),
        (2, (2, 3), 3, 1, 1, True),
        (4, (1, 1), 5, 1, 2, True),
        (3, (5, 5), 5, 1, 0, False),
        (3, (4, 4), 3, 2, 1, False),
        (2, (5, 3), (3, 2), (2, 1), (0, 1), True),
    ],
)
def test_dense_is_the_convolution(channels, side, kernel, stride, padding, bias):
    """Values and all gradients, in float64."""
    torch.manual_seed(0)
    layer = Convolution(channels, 6, kernel, stride=stride, padding=padding, bias=bias).double()
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
    """The last layers of large networks in training; not in evaluation, nor in the smallest."""
    asked = []
    real = Convolution.as_dense
    monkeypatch.setattr(
        Convolution, "as_dense", lambda self, x: asked.append(tuple(x.shape[1:])) or real(self, x)
    )

    def asked_by(name, side, *, gradient=True):
        asked.clear()
        network = make_backbone(name, in_channels=1, size=side)
        with torch.set_grad_enabled(gradient):
            network(torch.rand(2, 1, side, side))
        return list(asked)

    assert asked_by("clusternet6c", 24) == [(256, 3, 3)]
    assert asked_by("clusternet6c", 24, gradient=False) == []
    assert asked_by("small", 16) == []
    assert asked_by("small-resnet", 32) == [(128, 2, 2)]


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


def test_the_gradient_has_the_same_bits_each_time():
    """Several threads do not add up the gradient of a tap in an order of their own."""
    torch.manual_seed(0)
    layer = Convolution(64, 64, 5, padding=2, bias=False)
    x = torch.randn(16, 64, 3, 3)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        first, *others = (
            torch.autograd.grad(layer.as_dense(x).square().sum(), layer.weight)[0]
            for _ in range(20)
        )
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first, other) for other in others)
