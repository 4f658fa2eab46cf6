"""The network of IIC's segmentation: an image in, the clusters of its pixels out."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from mixem.errors import InputError


class SegmentationNet10a(nn.Sequential):
    """Six 3 x 3 convolutions that keep the places, IIC's trunk for segmentation.

    Convolution, batch norm and ReLU with 64, 128, 256, 256, 512 and 512 channels, a 2 x 2
    max-pool after the second, the last two dilated by 2 (``net10a.py``, ``vgg.py``): 4.5 million
    parameters.

    Args:
        in_channels: Channels of the images; 5 (colours and Sobel) on COCO-Stuff, 4 on Potsdam.
        width: Channels of the first convolution; 64 in the paper.
        frame: As published, the dilated convolutions are padded by 1 and lose two pixels each
            way, so that a map of 62 x 62 is stretched over 128 pixels behind a head that puts a
            frame around it. False pads by 2, by reflection everywhere: a map of 64 x 64 for
            128 x 128 pixels, which lies where the pixels are and does not show where the image
            ends.

    Attributes:
        out_features: Channels of the features, ``8 * width``.
        frame: As given; the head needs the same.
    """

    def __init__(self, in_channels: int = 3, *, width: int = 64, frame: bool = True):
        if in_channels < 1 or width < 1:
            raise InputError(
                f"SegmentationNet10a for {in_channels} channels, of width {width}; "
                "give at least 1 of both"
            )
        layers: list[nn.Module] = []
        channels = [in_channels, *(width * factor for factor in (1, 2, 4, 4, 8, 8))]
        for number, (before, after) in enumerate(itertools.pairwise(channels)):
            if number == 2:
                layers.append(nn.MaxPool2d(2))
            dilation = 1 if number < 4 else 2
            layers += [
                nn.Conv2d(
                    before,
                    after,
                    3,
                    padding=1 if frame else dilation,
                    dilation=dilation,
                    padding_mode="zeros" if frame else "reflect",
                    bias=False,
                ),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)
        self.out_features = channels[-1]
        self.frame = frame
        _start(self)


class SegmentationHead(nn.Module):
    """h classifiers of every place with a softmax each, side by side, resized to the image.

    Args:
        in_features: Channels D of the features.
        clusters: Number k of clusters.
        heads: Number h of sub-heads; 1 in all published models.
        frame: As published, the 1 x 1 convolution is padded by 1, so that the places around the
            map have the same probability for all clusters, 1/k.
    """

    def __init__(self, in_features: int, clusters: int, heads: int = 1, *, frame: bool = True):
        super().__init__()
        if heads < 1 or clusters < 2:
            raise InputError(
                f"{heads} sub-heads of {clusters} clusters; give at least 1 sub-head and 2 clusters"
            )
        self.heads = heads
        self.convolution = nn.Conv2d(
            in_features, heads * clusters, 1, padding=int(frame), bias=False
        )
        _start(self)

    def forward(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """``(N, D, h, w)`` to float32 probabilities ``(heads, N, k, *size)``; each sums to one."""
        logits = self.convolution(features).unflatten(1, (self.heads, -1))
        p = logits.softmax(2, dtype=torch.promote_types(logits.dtype, torch.float32))
        p = F.interpolate(p.flatten(1, 2), size, mode="bilinear", align_corners=False)
        return p.unflatten(1, (self.heads, -1)).transpose(0, 1)


def _start(module: nn.Module) -> None:
    """Start the convolutions as the official code does (``vgg.py``)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
