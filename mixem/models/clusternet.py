"""The networks of IIC: Sobel filters, a ResNet-like and a VGG-like trunk."""

import functools
import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from mixem.errors import InputError


class Sobel(nn.Module):
    """Edges along x and y of the grey image, the input of IIC's networks on colour sets.

    Kernels dx = [[1, 0, -1], [2, 0, -2], [1, 0, -1]] and dy = [[1, 2, 1], [0, 0, 0],
    [-1, -2, -1]], not scaled, with a border of zeros, which leaves a bright frame
    (``utils/cluster/transforms.py``). The official code makes the grey image of 8-bit pixels
    with PIL's weights, which are these.

    Args:
        keep: Put the two edge channels behind the image's own, as model 654 has it.
    """

    kernels: torch.Tensor

    def __init__(self, *, keep: bool = False):
        super().__init__()
        self.keep = keep
        dx = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        kernels = torch.stack([dx, dx.T])[:, None]
        self.register_buffer("kernels", kernels, persistent=False)
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float ``(N, 1 or 3, H, W)`` in [0, 1] to ``(N, 2, H, W)`` in [-4, 4], or ``C + 2``."""
        with torch.autocast(images.device.type, enabled=False):
            grey = images
            if images.shape[1] == 3:
                grey = torch.einsum("nchw,c->nhw", images, self.luma)[:, None]  # type: ignore[arg-type]
            edges = F.conv2d(grey, self.kernels, padding=1)
        return torch.cat([images, edges], 1) if self.keep else edges


class ClusterNet6c(nn.Sequential):
    """Four 5 x 5 convolutions that keep their places, IIC's VGG-like trunk for 24 x 24 images.

    Convolution, batch norm and ReLU with 64, 128, 256 and 512 channels, 2 x 2 max-pools between
    them, flattened (``net6c.py``, ``vgg.py``): 4.3 million parameters, 4608 features.

    Args:
        in_channels: Channels of the images.
        width: Channels of the first convolution; 64 in the paper.
        size: Height and width of the images in pixels, at least 8; 24 in the paper.
        running_statistics: Keep batch norm's running statistics. Without them, as in the recipes
            of MNIST and CIFAR-10, the network normalises with the batch at hand in evaluation
            too, and what it says of an image depends on the images beside it.

    Attributes:
        out_features: Length of a feature vector, ``8 * width * (size // 8) ** 2``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        width: int = 64,
        size: int = 24,
        running_statistics: bool = True,
    ):
        if size < 8 or width < 1:
            raise InputError(
                f"ClusterNet6c for images of {size} x {size} pixels, of width {width}; "
                "give at least 8 x 8 pixels and width 1"
            )
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(
            [in_channels, width, 2 * width, 4 * width, 8 * width]
        ):
            if layers:
                layers.append(nn.MaxPool2d(2))
            layers += [
                nn.Conv2d(before, after, 5, padding=2, bias=False),
                nn.BatchNorm2d(after, track_running_stats=running_statistics),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers, nn.Flatten())
        self.out_features = 8 * width * (size // 8) ** 2
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


class ClusterNet5g(nn.Sequential):
    """ResNet-34 with a small stem, IIC's trunk for colour images.

    A 3 x 3 convolution of stride 1, a 2 x 2 max-pool with padding 1, then 3, 4, 6 and 3 basic
    blocks and the mean over places (``net5g.py``, ``residual.py``): 21.3 million parameters, 512
    features.

    Args:
        in_channels: Channels of the images; 2 after :class:`Sobel`.
        width: Channels of the first stage; 64 in the paper.
        running_statistics: See :class:`ClusterNet6c`.
        penultimate: Stop after the third stage and keep its places, as the finetuning on STL-10
            does (``penultimate_features``); ``size`` is needed then.
        size: Height and width of the images, for ``penultimate``.

    Attributes:
        out_features: Length of a feature vector, ``8 * width``.
    """

    def __init__(
        self,
        in_channels: int = 2,
        *,
        width: int = 64,
        running_statistics: bool = True,
        penultimate: bool = False,
        size: int | None = None,
    ):
        if width < 1 or (penultimate and (size is None or size < 8)):
            raise InputError(
                f"ClusterNet5g of width {width} for images of size {size}; give a width of at "
                "least 1, and with penultimate a size of at least 8"
            )
        norm = functools.partial(nn.BatchNorm2d, track_running_stats=running_statistics)
        blocks = (3, 4, 6) if penultimate else (3, 4, 6, 3)
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            norm(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, padding=1),
            *residual_stages(width, blocks, norm=norm),
        ]
        before = width * 2 ** (len(blocks) - 1)
        if penultimate:
            side = (size // 2 + 1 + 3) // 4  # type: ignore[operator]
            out_features = before * side**2
        else:
            layers.append(nn.AdaptiveAvgPool2d(1))
            out_features = before
        super().__init__(*layers, nn.Flatten())
        self.out_features = out_features
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def residual_stages(
    width: int, blocks: Sequence[int], *, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> list[nn.Module]:
    """The basic blocks of a ResNet, stage after stage.

    Each stage has twice the channels of the one before and, but for the first, halves the map.

    Args:
        width: Channels of the map that comes in and of the first stage.
        blocks: Blocks of each stage; (2, 2, 2, 2) in ResNet-18, (3, 4, 6, 3) in ResNet-34.
        norm: From channels to a layer.
    """
    from torchvision.models.resnet import BasicBlock  # here, for it takes a second to import

    layers: list[nn.Module] = []
    before = width
    for stage, count in enumerate(blocks):
        after = width * 2**stage
        for block in range(count):
            stride, shortcut = 1, None
            if block == 0 and stage > 0:
                stride = 2
                convolution = nn.Conv2d(before, after, 1, stride=2, bias=False)
                shortcut = nn.Sequential(convolution, norm(after))
            layers.append(BasicBlock(before, after, stride, shortcut, norm_layer=norm))
            before = after
    return layers
