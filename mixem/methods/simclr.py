"""SimCLR (Chen et al. 2020): two views of an image find each other among all others."""

import math

import torch
from torch import nn

from mixem.data import Augmentation
from mixem.distributed import size
from mixem.losses import nt_xent
from mixem.methods.base import Method, Step
from mixem.models import ProjectionHead


class SimCLR(Method):
    """A backbone, a projection head and NT-Xent: MIX'EM's start and its baseline.

    SimCLR has no clusters of its own; ``assign`` compares with the k-means centres of its
    normalised features, once :meth:`keep_centres` has them.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How a training view is drawn.
        clusters: Number k of k-means centres.
        embedding_size: Length d of an embedding; 32 in MIX'EM's ``config.yaml``.
        temperature: Of NT-Xent; 0.5 in MIX'EM's ``config.yaml``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        *,
        clusters: int = 10,
        embedding_size: int = 32,
        temperature: float = 0.5,
    ):
        super().__init__(backbone, views, clusters=clusters)
        self.head = ProjectionHead(self.feature_size, embedding_size)
        self.temperature = temperature

    def step(self, views: torch.Tensor, name: str = "images") -> Step:
        """NT-Xent of the two views ``(2, B, C, H, W)``, forwarded as one batch."""
        z1, z2 = self.head(self.backbone(views.flatten(0, 1))).chunk(2)
        contrast = nt_xent(z1, z2, temperature=self.temperature)
        return Step({"contrast": contrast}, None, {"contrast": math.log(2 * size() * len(z1) - 1)})

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """Output of the projection head, ``(N, d)``."""
        return self.head(self.features(images))

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities ``(N, k)`` of the kept k-means clusters; see :meth:`Method.cluster`."""
        return self.cluster(images)
