"""An auto-encoder: a network that must draw the image again from a short code."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.methods.base import Method, MethodSettings, Step, at_least, refuse_neighbours

__all__ = ["AutoEncoder", "AutoEncoderSettings"]


@dataclass(frozen=True)
class AutoEncoderSettings(MethodSettings):
    """What the decoder is made of.

    Attributes:
        code_size: Length d of a code.
        hidden: Width of the decoder's hidden layer.
        channels: Of the images that it draws.
    """

    code_size: int = 10
    hidden: int = 512
    channels: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_neighbours(self)
        at_least(self, code_size=1, hidden=1, channels=1)


class AutoEncoder(Method):
    """A backbone, a linear code and a decoder of two layers: a baseline of IIC's Table 1.

    It has no clusters of its own: k-means sorts its codes, or its features.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How a training view is drawn; the view is what must be drawn again.
        settings: See :class:`AutoEncoderSettings`.
        clusters: Number k of k-means centres.
    """

    Settings = AutoEncoderSettings

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: AutoEncoderSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        code, hidden = self.settings.code_size, self.settings.hidden
        pixels = self.settings.channels * views.size**2
        self.head = nn.Linear(self.feature_size, code)
        self.decoder = nn.Sequential(
            nn.Linear(code, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, pixels)
        )

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One view of each image, ``(1, B, C, H, W)``."""
        return self.views.several(images, 1, generator)

    def step(self, views: torch.Tensor, name: str = "images") -> Step:
        """The mean squared error of the pixels of ``(1, B, C, H, W)``.

        Raises:
            InputError: If the images have other channels than ``settings.channels``.
        """
        (images,) = views
        channels = self.settings.channels
        if images.shape[1] != channels:
            raise InputError(
                f"images of {images.shape[1]} channels, and the decoder draws {channels}; "
                f"set settings.channels to {images.shape[1]}"
            )
        drawn = self.decoder(self.head(self.backbone(images)))
        return Step({"pixels": F.mse_loss(drawn.float(), images.flatten(1).float())})

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """The codes ``(N, d)``."""
        return self.head(self.features(images))

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities ``(N, k)`` of the kept k-means clusters; see :meth:`Method.cluster`."""
        return self.cluster(images)
