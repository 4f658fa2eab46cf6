"""The network of the segmentation: published sizes, frame and weights; the mended form."""

import math

import pytest
import torch

from mixem.errors import InputError
from mixem.models import SegmentationHead, SegmentationNet10a


@pytest.mark.parametrize(
    ("side", "features"),
    [(128, 60), (200, 96)],  # 128, 64, 60 and 200, 100, 96 in the published network
)
def test_published_sizes(side, features):
    net = SegmentationNet10a(1, width=1)
    assert net(torch.rand(2, 1, side, side)).shape == (2, 8, features, features)
    head = SegmentationHead(8, 3)
    p = head(net(torch.rand(2, 1, side, side)), (side, side))
    assert p.shape == (1, 2, 3, side, side)
    assert torch.allclose(p.sum(2), torch.ones(1, 2, side, side), atol=1e-6)


def test_published_weights():
    net = SegmentationNet10a(5)
    convolutions = [m for m in net if isinstance(m, torch.nn.Conv2d)]
    channels = [64, 128, 256, 256, 512, 512]
    assert [c.out_channels for c in convolutions] == channels
    assert [c.dilation[0] for c in convolutions] == [1, 1, 1, 1, 2, 2]
    assert {c.padding for c in convolutions} == {(1, 1)}
    weights = sum(9 * a * b for a, b in zip([5, *channels], channels, strict=False))
    assert sum(p.numel() for p in net.parameters()) == weights + 2 * sum(channels)
    assert net.out_features == 512
    for c in convolutions[1:]:  # Kaiming, fan_in
        expected = math.sqrt(2 / (9 * c.in_channels))
        assert c.weight.std().item() == pytest.approx(expected, rel=0.02)


def test_the_published_head_has_a_frame_that_says_nothing():
    head = SegmentationHead(4, 3)
    features = 5 * torch.randn(2, 4, 6, 6)
    p = head(features, (8, 8))[0]  # as large as the padded map: nothing is resized
    frame = torch.ones(8, 8, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    assert torch.equal(p[..., frame], torch.full((2, 3, 28), 1 / 3))
    assert (p[..., ~frame] - 1 / 3).abs().max() > 0.1


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (33, 29)])
def test_the_mended_network_keeps_the_places(size):
    net = SegmentationNet10a(1, width=2, frame=False).eval()
    head = SegmentationHead(16, 2, frame=net.frame)
    images = torch.rand(2, 1, *size)
    features = net(images)
    assert features.shape == (2, 16, size[0] // 2, size[1] // 2)
    p = head(features, size)
    assert p.shape == (1, 2, 2, *size)
    if size[0] % 2 == 0 and size[1] % 2 == 0:  # mirrored weights see the mirrored image alike
        for m in net:
            if isinstance(m, torch.nn.Conv2d):
                m.weight.data = (m.weight + m.weight.flip(3)) / 2
        one, other = (head(net(x), size) for x in (images, images.flip(3)))
        assert torch.allclose(one, other.flip(4), atol=1e-5)


def test_a_uniform_image_has_no_border_in_the_mended_network_only():
    spread = {}
    for frame in (True, False):
        torch.manual_seed(0)
        net = SegmentationNet10a(1, width=2, frame=frame)  # batch norm shows small differences
        head = SegmentationHead(16, 3, frame=frame)
        p = head(net(torch.full((1, 1, 32, 32), 0.7)), (32, 32))
        spread[frame] = (p.amax((3, 4)) - p.amin((3, 4))).max()
    assert spread[False] < 1e-5
    assert spread[True] > 0.1


def test_sub_heads_are_side_by_side():
    head = SegmentationHead(4, 3, heads=2, frame=False)
    features = torch.randn(5, 4, 6, 7)
    p = head(features, (12, 14))
    assert p.shape == (2, 5, 3, 12, 14)
    for number in range(2):
        alone = SegmentationHead(4, 3, frame=False)
        alone.convolution.weight.data = head.convolution.weight[3 * number : 3 * number + 3].data
        assert torch.allclose(alone(features, (12, 14))[0], p[number], atol=1e-6)


def test_probabilities_are_float32_under_autocast():
    net, head = SegmentationNet10a(1, width=1), SegmentationHead(8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        p = head(net(torch.rand(2, 1, 16, 16)), (16, 16))
    assert p.dtype == torch.float32
    assert torch.allclose(p.sum(2), torch.ones(1, 2, 16, 16), atol=1e-6)


@pytest.mark.parametrize("options", [{"in_channels": 0}, {"width": 0}])
def test_a_network_of_nothing_is_refused(options):
    with pytest.raises(InputError, match="give at least 1 of both"):
        SegmentationNet10a(**options)


@pytest.mark.parametrize(("clusters", "heads"), [(1, 1), (2, 0)])
def test_a_head_of_nothing_is_refused(clusters, heads):
    with pytest.raises(InputError, match="give at least 1 sub-head and 2 clusters"):
        SegmentationHead(4, clusters, heads)
