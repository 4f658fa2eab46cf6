"""SimCLR (Chen et al. 2020): two views of an image find each other among all others."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.losses import nt_xent
from mixem.methods.base import Method, MethodSettings, Step, at_least
from mixem.models import ProjectionHead

__all__ = ["SimCLR", "SimCLRSettings"]


@dataclass(frozen=True)
class SimCLRSettings(MethodSettings):
    """What network and loss are made of.

    Attributes:
        embedding_size: Length d of an embedding; 32 in MIX'EM's ``config.yaml``.
        temperature: Of NT-Xent; 0.5 in MIX'EM's ``config.yaml``.
    """

    embedding_size: int = 32
    temperature: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, embedding_size=1)
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; give a positive number")


class SimCLR(Method):
    """A backbone, a projection head and NT-Xent: MIX'EM's start and its baseline.

    SimCLR has no clusters of its own; ``assign`` compares with the k-means centres of its
    normalised features, once :meth:`keep_centres` has them.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How a training view is drawn.
        settings: See :class:`SimCLRSettings`.
        clusters: Number k of k-means centres.
    """

    Settings = SimCLRSettings

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: SimCLRSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        self.head = ProjectionHead(self.feature_size, self.settings.embedding_size)

    def step(self, views: torch.Tensor, name: str = "images") -> Step:
        """NT-Xent of the two views ``(2, B, C, H, W)``, forwarded as one batch."""
        z1, z2 = self.head(self.backbone(views.flatten(0, 1))).chunk(2)
        return Step({"contrast": nt_xent(z1, z2, temperature=self.settings.temperature)})

    def bounds(self, images: int) -> dict[str, float]:
        """Of embeddings that are all alike."""
        return {"contrast": math.log(2 * images - 1)}

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """Output of the projection head, ``(N, d)``."""
        return self.head(self.features(images))

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities ``(N, k)`` of the kept k-means clusters; see :meth:`Method.cluster`."""
        return self.cluster(images)
