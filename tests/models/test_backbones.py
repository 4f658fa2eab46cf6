"""Backbones: sizes, stems, errors."""

import pytest
import torch
from torch import nn

from mixem.errors import InputError
from mixem.models import (
    BACKBONES,
    MixtureHead,
    SmallNet,
    SmallResNet,
    make_backbone,
    resnet18,
)


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    ("stem", "components", "total"),
    [("imagenet", 10, 14_235_018), ("cifar", 10, 14_227_338), ("cifar", 20, 17_023_188)],
)
def test_as_many_parameters_as_the_official_network(stem, components, total):
    assert parameters(resnet18(stem=stem), MixtureHead(512, components, 32)) == total


@pytest.mark.parametrize(
    ("stem", "pixels", "places"),
    [
        ("imagenet", 96, 3),
        # The sizes of IMC-SwAV's large and small crops and whole images.
        *(("cifar", pixels, places) for pixels, places in ((28, 4), (18, 3), (32, 4))),
        *(("stl", pixels, places) for pixels, places in ((76, 5), (52, 4), (96, 6))),
        *(("stl", pixels, places) for pixels, places in ((56, 4), (36, 3), (64, 4))),
    ],
)
def test_last_map_of_the_stems(stem, pixels, places):
    net = resnet18(stem=stem).eval()
    shapes = []
    net.layer4.register_forward_hook(lambda module, given, found: shapes.append(found.shape))
    features = net(torch.randn(2, 3, pixels, pixels))
    assert shapes == [(2, 512, places, places)]
    assert features.shape == (2, 512)
    assert (features >= 0).all()


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in ("vectors", "pixels")])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_backbone_gives_as_many_features_as_it_says(name, channels):
    net = make_backbone(name, in_channels=channels).train()
    features = net(torch.randn(2, channels, 16, 16))
    assert features.shape[:2] == (2, net.out_features)
    assert features.ndim == (4 if hasattr(net, "frame") else 2)  # maps keep their places
    assert (features >= 0).all()
    features.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(("size", "width"), [(8, 4), (16, 32), (20, 5)])
def test_small_net_of_any_size(size, width):
    net = SmallNet(1, width=width, size=size)
    assert net(torch.randn(3, 1, size, size)).shape == (3, 4 * width)
    assert net.out_features == 4 * width


def test_small_net_keeps_places():
    # The same stroke in two corners has other features; after a global average it would not.
    torch.manual_seed(0)
    net = SmallNet().eval()
    images = torch.zeros(2, 1, 16, 16)
    images[0, 0, 2:5, 3] = images[1, 0, 10:13, 11] = 1
    first, second = net(images)
    assert not torch.allclose(first, second, atol=1e-3)


def test_the_stems_start_as_the_rest_of_the_network_does():
    torch.manual_seed(0)
    for stem, kernel in (("imagenet", 7), ("cifar", 3), ("stl", 3)):
        weight = resnet18(stem=stem).conv1.weight
        # He's rule for the outputs: variance 2 / (64 * kernel^2).
        assert weight.std().item() == pytest.approx((2 / 64) ** 0.5 / kernel, rel=0.05)


def test_an_unknown_backbone_or_stem_is_an_error_that_names_the_known_ones():
    with pytest.raises(
        InputError, match=r"'resnet50'.*small, small-resnet, small-resnet18, resnet18, "
    ):
        make_backbone("resnet50", in_channels=3)
    with pytest.raises(InputError, match=r"'tiny'.*'imagenet', 'cifar' or 'stl'"):
        resnet18(stem="tiny")


def count_small(channels, width):
    total = 9 * channels * width + 2 * width
    before = width
    for stage in range(4):
        after = width * 2**stage
        total += 9 * before * after + 9 * after**2 + 4 * after
        total += before * after + 2 * after if stage else 0  # the shortcut that halves the size
        before = after
    return total


@pytest.mark.parametrize(("channels", "width"), [(1, 3), (3, 16)])
def test_small_resnet_of_any_size(channels, width):
    with torch.device("meta"):
        net = SmallResNet(channels, width=width)
        found = []
        for layer in list(net)[4:8]:
            layer.register_forward_hook(lambda module, given, out: found.append(out.shape[1:]))
        for pixels in (32, 18, 9):
            assert net(torch.empty(2, channels, pixels, pixels)).shape == (2, 8 * width)
    assert net.out_features == 8 * width
    assert parameters(net) == count_small(channels, width)
    sides = (16, 8, 4, 2, 9, 5, 3, 2, 4, 2, 1, 1)
    widths = [width * 2**stage for stage in range(4)] * 3
    assert [tuple(shape) for shape in found] == [
        (w, side, side) for w, side in zip(widths, sides, strict=True)
    ]


def test_a_small_resnet_of_full_width_is_the_resnet_18_of_imc_swav():
    torch.manual_seed(0)
    small, full = SmallResNet(width=64, blocks=2), resnet18(stem="stl")
    assert parameters(small) == parameters(full)
    small.load_state_dict(
        dict(zip(small.state_dict(), full.state_dict().values(), strict=True)), strict=True
    )
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(small.eval()(images), full.eval()(images))
    narrow = make_backbone("small-resnet18", in_channels=3)
    assert narrow.out_features == 128
    assert 15 < parameters(full) / parameters(narrow) < 16.5  # a quarter of the channels


def test_the_small_resnets_start_is_hes():
    torch.manual_seed(0)
    for module in SmallResNet(width=32).modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, None, float("nan")])
@pytest.mark.parametrize("what", ["in_channels", "size"])
def test_numbers_that_are_no_size_of_an_image(what, number):
    with pytest.raises(InputError, match=f"{what} is {number}; give a whole number from 1 on"):
        make_backbone("small", **{"in_channels": 1, "size": 8} | {what: number})
