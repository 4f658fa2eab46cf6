"""IMC-SwAV (Ntelemis, Jin and Thomas 2021): prototypes of views, and clusters of prototypes."""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation, ImageSet
from mixem.distributed import gather, size
from mixem.errors import InputError
from mixem.losses import infomax, logit_penalty, swapped_prediction
from mixem.methods.base import Clustering, Method, MethodSettings, Step, at_least, extract, mixed
from mixem.models import ClusterHead
from mixem.models.norm import in_parts

__all__ = ["BATCH_NORM", "IMCSwAV", "IMCSwAVSettings", "batch_norm_of"]

# Which images the batch-norm statistics are of. The first is the main one. The last is
# transductive, and what the official code does before each evaluation (``utils.py``).
BATCH_NORM = ("training views", "training images", "scored images")


@dataclass(frozen=True)
class IMCSwAVSettings(MethodSettings):
    """What views, networks and losses are made of; the defaults are the official code's.

    Attributes:
        large: Number of large views; the first two give the codes.
        small: Number of small views.
        embedding_size: Length d of a projected feature.
        hidden: Width of the classifier's two hidden layers.
        prototypes: Number K of prototypes.
        temperature: Of the prototypes' softmax, tau.
        epsilon: See :func:`mixem.losses.sinkhorn`.
        iterations: See :func:`mixem.losses.sinkhorn`.
        entropy_weight: b in :func:`mixem.losses.infomax`.
        penalty_weight: Of :func:`mixem.losses.logit_penalty`.
        frozen_steps: Steps before the prototypes begin to learn.
        one_pass: Views of one size share their batch statistics, which is faster. In the official
            code every view has its own.
        bank: Train the classifier only on images that have a label, which says nothing but that
            they belong to the labelled part of STL-10. Their features are kept until they are as
            many as a batch; in between the classifier rests. The official code also empties the
            bank at the start of an epoch, and with the PyTorch of its time Adam's momentum moved
            the classifier in between. A run that was stopped goes on with an empty bank.
        small_views: How a small view is drawn; None for no small views.
    """

    large: int = 2
    small: int = 4
    embedding_size: int = 128
    hidden: int = 1024
    prototypes: int = 1000
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    entropy_weight: float = 4.0
    penalty_weight: float = 0.01
    frozen_steps: int = 500
    one_pass: bool = False
    bank: bool = False
    small_views: Augmentation | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, large=2, small=0, embedding_size=1, hidden=1, prototypes=2)
        at_least(self, iterations=0, entropy_weight=0, penalty_weight=0, frozen_steps=0)
        for name in ("temperature", "epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give a positive number")


class IMCSwAV(Method):
    """SwAV, and a classifier that learns the clusters from its prototypes at the same time.

    Encoder, projection and prototypes learn by the swapped prediction. The classifier reads the
    features, and learns to say as much about the prototypes as k clusters can. It gives no
    gradient to the rest, nor gets any from the swapped prediction.

    Args:
        backbone: The encoder; has ``out_features``.
        views: How a large view is drawn.
        settings: See :class:`IMCSwAVSettings`.
        clusters: Number k of clusters.
    """

    Settings = IMCSwAVSettings
    clusters_itself = True
    rests_parts = True
    labels_on_host = True
    outputs = (*Method.outputs, "logits", "scores")

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: IMCSwAVSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        s = self.settings
        self.groups = [(views, s.large)]
        if s.small_views and s.small:
            # What of an image that is not square there is to see, all views agree on.
            self.groups.append((replace(s.small_views, pad=views.pad), s.small))
        self.projection = nn.Sequential(  # one linear map in effect, as in the official code
            nn.Linear(self.feature_size, self.feature_size),
            nn.Linear(self.feature_size, s.embedding_size),
        )
        self.prototypes = nn.Parameter(F.normalize(torch.randn(s.prototypes, s.embedding_size)))
        self.head = ClusterHead(self.feature_size, clusters, hidden=s.hidden)
        self.frozen = s.frozen_steps > 0
        self.banked: list[tuple[torch.Tensor, ...]] = []  # features, scores

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
        """uint8 ``(B, C, h, w)`` to the large views ``(L, B, C, H, W)`` and the small ones."""
        return [views.several(images, count, generator) for views, count in self.groups]

    def draw_pairs(
        self, images: torch.Tensor, companions: torch.Tensor, generator: torch.Generator
    ) -> list[torch.Tensor]:
        """One group of two large views, of the images and of their companions."""
        return [super().draw_pairs(images, companions, generator)]

    def before_step(self, step: int) -> None:
        """Give the prototypes unit length, and let them learn from a certain step on."""
        with torch.no_grad():
            self.prototypes.copy_(F.normalize(self.prototypes))
        self.frozen = step < self.settings.frozen_steps

    def compare(self, features: torch.Tensor) -> torch.Tensor:
        """Scores ``(..., K)`` of features ``(..., D)``: cosines with the prototypes, float32."""
        z = self.projection(features)
        with torch.autocast(z.device.type, enabled=False):  # bfloat16 has two digits for cosines
            z = F.normalize(z.to(self.prototypes.dtype), dim=-1)
            prototypes = self.prototypes.detach() if self.frozen else self.prototypes
            return z @ prototypes.T

    def by_view(self, network: nn.Module, views: list[torch.Tensor]) -> torch.Tensor:
        """A network's answers ``(V, B, ...)`` to groups of views ``(L, B, ...)``, ``(S, B, ...)``.

        Each group goes through the network at once, and each view has its own batch statistics,
        as if it went alone.
        """
        answers = []
        for group in views:
            with in_parts(network, 1 if self.settings.one_pass else len(group)):
                answers.append(network(group.flatten(0, 1)).unflatten(0, (len(group), -1)))
        return torch.cat(answers)

    def step(self, views: list[torch.Tensor], name: str = "images") -> Step:
        """The swapped prediction, and the clusters' information about the prototypes."""
        features = self.by_view(self.backbone, views)
        scores = self.compare(features)
        return self._step(views, scores, features.detach(), scores.detach())

    def targets(self, images: ImageSet) -> torch.Tensor | None:
        """With a bank, which images have a label ``(N,)``; which label it is, is not looked at.

        Raises:
            InputError: If no image has one.
        """
        if not self.settings.bank:
            return None
        if images.labels is None or not (known := images.labels >= 0).any():
            raise InputError(
                f"no image of {images.name}, {images.split}, has a label, and bank trains the "
                "classifier on those that have; set settings.bank=False"
            )
        return known

    def supervised_step(
        self, views: list[torch.Tensor], labels: torch.Tensor, name: str = "images"
    ) -> Step:
        """The same with a bank: the classifier learns whenever enough images are in it."""
        features = self.by_view(self.backbone, views)
        scores = self.compare(features)
        # Of several processes each keeps the images of all, and learns from them.
        chosen = labels
        if size() > 1:
            chosen = gather(labels.to(scores.device, torch.uint8)).bool().cpu()
        rows = chosen.nonzero()[:, 0]
        rows = rows.pin_memory() if scores.is_cuda else rows  # or the copy would wait
        rows = rows.to(scores.device, non_blocking=True)
        images = [gather(x.detach().transpose(0, 1)) for x in (features, scores)]
        self.banked.append(tuple(x[rows].transpose(0, 1) for x in images))
        if sum(x.shape[1] for x, _ in self.banked) < len(chosen):
            return self._step(views, scores)
        known = [torch.cat(parts, 1) for parts in zip(*self.banked, strict=True)]
        self.banked.clear()
        return self._step(views, scores, *known)

    def _step(
        self,
        views: list[torch.Tensor],
        scores: torch.Tensor,
        features: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
    ) -> Step:
        """Terms of the scores, and of the classifier on features and their detached scores."""
        s = self.settings
        swapped = swapped_prediction(
            scores, temperature=s.temperature, epsilon=s.epsilon, iterations=s.iterations
        )
        terms = {"swapped": swapped}
        clusters = None
        if features is not None and known is not None:
            groups = list(features.split([len(group) for group in views]))
            logits = self.by_view(self.head, groups)
            terms["information"] = infomax(
                logits, known, temperature=s.temperature, entropy_weight=s.entropy_weight
            )
            terms["penalty"] = s.penalty_weight * logit_penalty(logits)
            clusters = logits[0].detach().float().softmax(1)
        nearest = scores[0].detach().argmax(1)
        hits = scores.new_zeros(len(self.prototypes)).index_add_(
            0, nearest, torch.ones_like(nearest, dtype=scores.dtype)
        )
        return Step(terms, clusters, hits={"prototypes": hits})

    def bounds(self, images: int) -> dict[str, float]:
        """Of scores that are the same for all prototypes."""
        return {"swapped": math.log(len(self.prototypes))}

    def view_sizes(self) -> set[int]:
        """Those of large and small views too."""
        return super().view_sizes() | {views.size for views, _ in self.groups}

    def embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """Projected features ``(N, d)``, not normalised."""
        return self.projection(self.features(images))

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        """Cosines ``(N, K)`` with the prototypes, of uint8 images."""
        lengths = self.prototypes.norm(dim=1)  # no longer 1 after a step
        return self.compare(self.features(images)) / lengths

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, k)`` of the clusters, of uint8 images."""
        return self.head(self.features(images))

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of uint8 images."""
        return self.logits(images).softmax(1)

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """The classifier under three kinds of batch-norm statistics, and k-means on features."""
        assigned = extract(self, images, "assign").argmax(1)
        yield Clustering("argmax p", assigned, {"batch_norm": BATCH_NORM[0]})
        for kind, source in zip(
            BATCH_NORM[1:], (images if fit is None else fit, images), strict=True
        ):
            with batch_norm_of(self, source):
                assigned = extract(self, images, "assign").argmax(1)
            yield Clustering("argmax p", assigned, {"batch_norm": kind})
        yield from itertools.islice(self.kmeans_clusterings(images, fit, protocol), 1)


@contextmanager
def batch_norm_of(
    method: Method, images: torch.Tensor, *, batches: int = 50, batch_size: int = 256
) -> Iterator[None]:
    """Inside, the batch-norm statistics of a method are those of plain images.

    The running statistics go on from where they are, with their own momentum, as in the official
    code of IMC-SwAV (``utils.py``: 50 batches of the training's size). The images are shuffled in
    a fixed order. Afterwards all is as before.

    Args:
        method: Its backbone and the layers that :meth:`Method.assign` uses.
        images: uint8 ``(N, C, H, W)``.
        batches: At most this many.
        batch_size: Images a batch; an incomplete last one is left out.
    """
    kept = {name: value.clone() for name, value in method.named_buffers()}
    training, device = method.training, method.device
    count = min(batch_size, len(images))
    method.train()
    try:
        with torch.no_grad():
            for chosen in mixed(images).split(count)[: min(batches, len(images) // count)]:
                method.assign(images[chosen].to(device))
        method.train(training)
        yield
    finally:
        method.train(training)
        for name, value in method.named_buffers():
            value.copy_(kept[name])
