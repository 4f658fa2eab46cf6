"""MIX'EM (Varamesh and Tuytelaars 2020): a contrastive embedding that is a mixture."""

import math

import torch
from torch import nn

from mixem.data import Augmentation
from mixem.distributed import size
from mixem.errors import InputError
from mixem.losses import (
    associative_embedding,
    component_diversity,
    instance_confidence,
    instance_entropy,
    nt_xent,
)
from mixem.methods.base import Method, Step
from mixem.models import MixtureHead, ProjectionHead, mix

CONFIDENCE = {"confidence": instance_confidence, "entropy": instance_entropy}


class MixEM(Method):
    """SimCLR whose embedding is a mixture of M, with three losses that make M categories.

    The defaults are those of the official ``config.yaml``. A weight of 0 leaves a term out.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How a training view is drawn.
        clusters: Number k of k-means centres.
        components: Number M of mixture components.
        embedding_size: Length d of an embedding.
        temperature: Of NT-Xent.
        diversity_weight: Of loss (i), ``w_entropy``.
        confidence_weight: Of loss (ii), ``pimax_loss_w``.
        pull_weight: Of loss (iii) within components, ``w_pull``.
        push_weight: Of loss (iii) between components, ``w_push``.
        confidence: Loss (ii) as the code has it, "confidence" (1 - max p), or as the abstract
            has it, "entropy".
        extra_projection: Another Linear - ReLU - Linear between the mixed embedding and NT-Xent,
            as the architecture picture shows and the released code does not have.
    """

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        *,
        clusters: int = 10,
        components: int = 10,
        embedding_size: int = 32,
        temperature: float = 0.5,
        diversity_weight: float = 2.0,
        confidence_weight: float = 0.1,
        pull_weight: float = 0.1,
        push_weight: float = 0.05,
        confidence: str = "confidence",
        extra_projection: bool = False,
    ):
        if confidence not in CONFIDENCE:
            raise InputError(f"confidence is {confidence!r}; give {' or '.join(CONFIDENCE)}")
        super().__init__(backbone, views, clusters=clusters)
        self.head = MixtureHead(self.feature_size, components, embedding_size)
        self.projection = (
            ProjectionHead(embedding_size, embedding_size) if extra_projection else nn.Identity()
        )
        self.temperature = temperature
        self.diversity_weight = diversity_weight
        self.confidence_weight = confidence_weight
        self.pull_weight = pull_weight
        self.push_weight = push_weight
        self.confidence = CONFIDENCE[confidence]

    def mixture(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixed embeddings z ``(B, d)`` and coefficients p ``(B, M)`` of features ``(B, D)``."""
        embeddings, logits = self.head(features)
        p = logits.to(embeddings.dtype).softmax(1)
        return mix(embeddings, p), p

    def step(self, views: torch.Tensor, name: str = "images") -> Step:
        """The five terms, weighted; all but NT-Xent are sums over the two views."""
        z, p = self.mixture(self.backbone(views.flatten(0, 1)))
        by_view = list(zip(z.chunk(2), p.chunk(2), strict=True))

        z1, z2 = self.projection(z).chunk(2)
        terms = {"contrast": nt_xent(z1, z2, temperature=self.temperature)}
        if self.diversity_weight:
            diversity = torch.stack([component_diversity(p) for _, p in by_view])
            terms["diversity"] = self.diversity_weight * diversity.sum()
        if self.confidence_weight:
            confidence = torch.stack([self.confidence(p) for _, p in by_view])
            terms["confidence"] = self.confidence_weight * confidence.sum()
        if self.pull_weight or self.push_weight:
            pull, push = zip(*(associative_embedding(z, p) for z, p in by_view), strict=True)
            if self.pull_weight:
                terms["pull"] = self.pull_weight * torch.stack(pull).sum()
            if self.push_weight:
                terms["push"] = self.push_weight * torch.stack(push).sum()
        bound = math.log(2 * size() * len(z1) - 1)
        return Step(terms, p.detach(), {"contrast": bound, "diversity": 0.0})

    def start_from(self, other: Method) -> None:
        """Take the backbone of another method, as ``--init_from`` does with a SimCLR run.

        Heads and gate keep their random start.

        Raises:
            InputError: If the two backbones are not of the same kind and size.
        """
        try:
            self.backbone.load_state_dict(other.backbone.state_dict())
        except RuntimeError as error:
            raise InputError(
                "the start has another backbone, or was trained on images of another size or "
                "number of channels; start from a run on the same images"
            ) from error

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """Mixed embeddings z ``(N, d)``; their length is at most 1."""
        return self.mixture(self.features(images))[0]

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Mixing coefficients p ``(N, M)``."""
        return self.mixture(self.features(images))[1]
