"""MIX'EM (Varamesh and Tuytelaars 2020): a contrastive embedding that is a mixture."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.losses import (
    associative_embedding,
    component_diversity,
    instance_confidence,
    instance_entropy,
    nt_xent,
)
from mixem.methods.base import Clustering, Method, Step, at_least, extract
from mixem.methods.simclr import SimCLRSettings
from mixem.models import MixtureHead, ProjectionHead, mix

__all__ = ["MixEM", "MixEMSettings"]

CONFIDENCE = {"confidence": instance_confidence, "entropy": instance_entropy}


@dataclass(frozen=True)
class MixEMSettings(SimCLRSettings):
    """What networks and losses are made of; the defaults are those of the official code.

    A weight of 0 leaves a term out.

    Attributes:
        embedding_size: Length d of an embedding (``config.yaml``: ``out_dim``).
        temperature: Of NT-Xent.
        components: Number M of mixture components (``n_comps``).
        diversity_weight: Of loss (i), ``w_entropy``.
        confidence_weight: Of loss (ii), ``pimax_loss_w``.
        pull_weight: Of loss (iii) within components, ``w_pull``.
        push_weight: Of loss (iii) between components, ``w_push``.
        confidence: Loss (ii) as the code has it, "confidence" (1 - max p), or as the abstract
            has it, "entropy".
        extra_projection: Another Linear - ReLU - Linear between the mixed embedding and NT-Xent,
            as the architecture picture shows and the released code does not have.
    """

    components: int = 10
    diversity_weight: float = 2.0
    confidence_weight: float = 0.1
    pull_weight: float = 0.1
    push_weight: float = 0.05
    confidence: str = "confidence"
    extra_projection: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, components=1)
        if self.confidence not in CONFIDENCE:
            raise InputError(f"confidence is {self.confidence!r}; give {' or '.join(CONFIDENCE)}")


class MixEM(Method):
    """SimCLR whose embedding is a mixture of M, with three losses that make M categories.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How a training view is drawn.
        settings: See :class:`MixEMSettings`.
        clusters: Number k of k-means centres.
    """

    Settings = MixEMSettings
    has_components = True
    takes_start = "views"  # official ``--init_from``; heads and gate start at random

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: MixEMSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        size = self.settings.embedding_size
        self.head = MixtureHead(self.feature_size, self.settings.components, size)
        extra = self.settings.extra_projection
        self.projection = ProjectionHead(size, size) if extra else nn.Identity()

    def mixture(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixed embeddings z ``(B, d)`` and coefficients p ``(B, M)`` of features ``(B, D)``."""
        embeddings, logits = self.head(features)
        p = logits.to(embeddings.dtype).softmax(1)
        return mix(embeddings, p), p

    def step(self, views: torch.Tensor, name: str = "images") -> Step:
        """The five terms, weighted; all but NT-Xent are sums over the two views."""
        s = self.settings
        z, p = self.mixture(self.backbone(views.flatten(0, 1)))
        by_view = list(zip(z.chunk(2), p.chunk(2), strict=True))

        z1, z2 = self.projection(z).chunk(2)
        terms = {"contrast": nt_xent(z1, z2, temperature=s.temperature)}
        if s.diversity_weight:
            diversity = torch.stack([component_diversity(p) for _, p in by_view])
            terms["diversity"] = s.diversity_weight * diversity.sum()
        if s.confidence_weight:
            confidence = torch.stack([CONFIDENCE[s.confidence](p) for _, p in by_view])
            terms["confidence"] = s.confidence_weight * confidence.sum()
        if s.pull_weight or s.push_weight:
            pull, push = zip(*(associative_embedding(z, p) for z, p in by_view), strict=True)
            if s.pull_weight:
                terms["pull"] = s.pull_weight * torch.stack(pull).sum()
            if s.push_weight:
                terms["push"] = s.push_weight * torch.stack(push).sum()
        return Step(terms, p.detach())

    def bounds(self, images: int) -> dict[str, float]:
        """Of embeddings that are all alike, and of images that are all in one component."""
        return {"contrast": math.log(2 * images - 1), "diversity": 0.0}

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """Mixed embeddings z ``(N, d)``; their length is at most 1."""
        return self.mixture(self.features(images))[0]

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Mixing coefficients p ``(N, M)``."""
        return self.mixture(self.features(images))[1]

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """k-means that starts from the components, and the components as they are."""
        yield from self.kmeans_clusterings(images, fit, protocol)
        yield Clustering("argmax p", extract(self, images, "assign").argmax(1))
