"""Backbones: images in, one feature vector an image out, or for segmentation one a place."""

import itertools
from collections.abc import Callable

import torch
from torch import nn

from mixem.errors import InputError, require_whole
from mixem.models.clusternet import ClusterNet5g, ClusterNet6c, Sobel, residual_stages
from mixem.models.convolution import with_quick_convolutions
from mixem.models.segmentation import SegmentationNet10a
from mixem.models.vectors import Prepared


class SmallNet(nn.Module):
    """Three convolutions and two linear layers, for 16 x 16 images on two CPU cores.

    Each block is a 3 x 3 convolution, batch norm, ReLU and a 2 x 2 max-pool. What is left keeps
    its places (a global average would lose where a stroke is, and with it which digit it makes)
    and goes through two linear layers with batch norm and ReLU. With one of them the features
    keep more of the slant and the width of the strokes, and k-means on them is less stable.

    Args:
        in_channels: Channels of the images.
        width: Channels of the first block; the next ones have two and four times as many.
        size: Height and width of the images in pixels, at least 8.

    Attributes:
        out_features: Length of a feature vector, ``4 * width``.
    """

    def __init__(self, in_channels: int = 1, *, width: int = 32, size: int = 16):
        super().__init__()
        if size < 8:
            raise InputError(f"images of {size} x {size} pixels; the small net needs 8 x 8")
        self.out_features = 4 * width
        blocks: list[nn.Module] = []
        for before, after in itertools.pairwise([in_channels, width, 2 * width, 4 * width]):
            blocks += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        blocks.append(nn.Flatten())
        flat = 4 * width * (size // 8) ** 2
        for before, after in itertools.pairwise([flat, 8 * width, self.out_features]):
            linear = nn.Linear(before, after, bias=False)
            blocks += [linear, nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*blocks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``(N, C, size, size)`` to ``(N, out_features)``, non-negative."""
        return self.layers(images)


def resnet18(in_channels: int = 3, *, stem: str = "imagenet") -> nn.Module:
    """ResNet-18 of torchvision without its classifier.

    Args:
        in_channels: Channels of the images.
        stem: "imagenet" (7 x 7 stride 2 and max-pool; MIX'EM on STL-10), "cifar" (3 x 3 stride 1,
            no max-pool; MIX'EM's ``conv1_k3``, forced for the CIFAR sets in ``run.py``, and
            IMC-SwAV on them) or "stl" (3 x 3 stride 1 and 2 x 2 max-pool; IMC-SwAV on STL-10 and
            Tiny-ImageNet, ``graphs.py``).

    Returns:
        A module that maps ``(N, C, H, W)`` to ``(N, 512)``, averaged over places after the last
        ReLU and so non-negative; its attribute ``out_features`` is 512.
    """
    if stem not in ("imagenet", "cifar", "stl"):
        raise InputError(f"stem is {stem!r}; give 'imagenet', 'cifar' or 'stl'")
    import torchvision  # here, for it takes over a second to import

    net = torchvision.models.resnet18()
    if stem == "imagenet":
        net.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        net.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity() if stem == "cifar" else nn.MaxPool2d(2)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.fc = nn.Identity()
    net.out_features = 512
    return net


class SmallResNet(nn.Sequential):
    """ResNet with few channels, for 32 x 32 images on two CPU cores.

    A 3 x 3 convolution of stride 1, a 2 x 2 max-pool, four stages of basic blocks and the mean
    over places. With the ResNet-18's two blocks a stage and ``width`` 64 it is the network of
    IMC-SwAV on STL-10, :func:`resnet18` with the stem "stl".

    Args:
        in_channels: Channels of the images.
        width: Channels of the first stage; each of the next three has twice as many.
        blocks: Basic blocks of each stage; one makes a ResNet-10, two a ResNet-18.

    Attributes:
        out_features: Length of a feature vector, ``8 * width``.
    """

    def __init__(self, in_channels: int = 3, *, width: int = 16, blocks: int = 1):
        super().__init__(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            *residual_stages(width, (blocks,) * 4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.out_features = 8 * width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Pixels(nn.Flatten):
    """The image itself as its features, for the yardsticks: nothing to be trained.

    Args:
        in_channels: Channels of the images.
        size: Height and width of the images in pixels.

    Attributes:
        out_features: Numbers of an image.
    """

    def __init__(self, in_channels: int = 1, *, size: int = 28):
        super().__init__()
        self.out_features = in_channels * size**2


def _behind_sobel(net: nn.Module, *, keep: bool = False) -> nn.Module:
    behind = nn.Sequential(Sobel(keep=keep), net)
    behind.out_features = net.out_features
    if hasattr(net, "frame"):  # of a network that gives maps
        behind.frame = net.frame
    return behind


# From channels and size of the images to a network. "batch": normalised with the batch at hand.
BACKBONES: dict[str, Callable[[int, int], nn.Module]] = {
    "small": lambda c, size: SmallNet(c, size=size),
    "small-resnet": lambda c, size: SmallResNet(c),
    "small-resnet18": lambda c, size: SmallResNet(c, blocks=2),
    "resnet18": lambda c, size: resnet18(c),
    "resnet18-cifar": lambda c, size: resnet18(c, stem="cifar"),
    "resnet18-stl": lambda c, size: resnet18(c, stem="stl"),
    "clusternet5g": lambda c, size: _behind_sobel(ClusterNet5g(2)),
    "clusternet5g-batch": lambda c, size: _behind_sobel(ClusterNet5g(2, running_statistics=False)),
    "clusternet5g-penultimate": lambda c, size: _behind_sobel(
        ClusterNet5g(2, penultimate=True, size=size)
    ),
    "clusternet6c": lambda c, size: ClusterNet6c(c, size=size),
    "clusternet6c-batch": lambda c, size: ClusterNet6c(c, size=size, running_statistics=False),
    "clusternet6c-sobel": lambda c, size: _behind_sobel(ClusterNet6c(c + 2, size=size), keep=True),
    "clusternet6c-16": lambda c, size: ClusterNet6c(c, size=size, width=16),
    "pixels": lambda c, size: Pixels(c, size=size),
    "vectors": lambda c, size: Prepared(c),  # of features, whose "channels" are their length
    "clusternet6c-16-batch": lambda c, size: ClusterNet6c(
        c, size=size, width=16, running_statistics=False
    ),
    # These give maps.
    "segmentation-net10a": lambda c, size: SegmentationNet10a(c),
    "segmentation-net10a-sobel": lambda c, size: _behind_sobel(
        SegmentationNet10a(c + 2), keep=True
    ),
    "segmentation-net10a-8": lambda c, size: SegmentationNet10a(c, width=8, frame=False),
}


def make_backbone(name: str, *, in_channels: int, size: int = 16) -> nn.Module:
    """The backbone called ``name`` (a key of :data:`BACKBONES`) for images of that many channels.

    Args:
        name: Of the backbone.
        in_channels: Channels of the images.
        size: Height and width of the images; a ResNet takes any.

    Raises:
        InputError: If there is no such backbone, or the images are too small for it, or have no
            channels.
    """
    if name not in BACKBONES:
        raise InputError(f"no backbone {name!r}; there are {', '.join(BACKBONES)}")
    require_whole("in_channels", in_channels)
    require_whole("size", size)
    return with_quick_convolutions(BACKBONES[name](in_channels, size))
