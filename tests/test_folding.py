"""Batch norms folded into convolutions: the same function, or the network as it was."""

import copy

import pytest
import torch
from torch import nn
from torchvision import models

from mixem.folding import folded

NOISE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def trained(network):
    """With batch norms that have something to do."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
            for values in (module.bias.data, module.running_mean):
                values.copy_(torch.randn(values.shape, generator=generator))
    return network.eval().requires_grad_(False)


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_networks_of_torchvision(name):
    network = trained(models.get_model(name, weights=None))
    before = copy.deepcopy(network.state_dict())
    found = folded(network, NOISE)
    assert norms(found) < norms(network)
    if name != "densenet121":  # whose norms mostly come first
        assert norms(found) == 0
    torch.testing.assert_close(found(NOISE), network(NOISE), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_activation_in_timms_norm_stays():
    timm = pytest.importorskip("timm")
    network = trained(timm.create_model("tf_efficientnet_lite0", num_classes=0))
    found = folded(network, NOISE)
    assert norms(found) == 0
    torch.testing.assert_close(found(NOISE), network(NOISE), rtol=1e-4, atol=1e-4)


class Crossed(nn.Module):
    """The norm that is named after the convolution is computed before it."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.convolution(self.norm(x)).mean((2, 3))


def test_what_would_be_another_function_is_left_as_it_is():
    network = trained(Crossed())
    found = folded(network, NOISE)
    assert norms(found) == 1
    assert torch.equal(found(NOISE), network(NOISE))


def test_nothing_to_fold():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    found = folded(network, torch.full((1,), torch.nan))  # is not even tried
    assert found is not network
    assert norms(found) == 1
