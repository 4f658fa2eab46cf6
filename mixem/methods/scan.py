"""SCAN (Van Gansbeke et al. 2020): neighbours in a trained feature space share a cluster."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.losses import neighbour_consistency, self_label
from mixem.methods.base import Clustering, Method, MethodSettings, Step, at_least, extract
from mixem.methods.heads import Agreement, begin_at_centres, head_clusterings, require_start

__all__ = ["SCAN", "SCANSettings", "SelfLabel", "SelfLabelSettings"]


@dataclass(frozen=True)
class SCANSettings(MethodSettings):
    """What pairs, heads and loss are made of; the defaults are the official code's.

    Attributes:
        neighbours: Nearest images K that an image may be paired with (``num_neighbors``).
        entropy_weight: Lambda, of the entropy of the clusters' shares (``entropy_weight``).
        heads: Classifiers that differ in their random start (``nheads``); the one with the lowest
            loss counts.
        agreeing: Heads with the lowest losses whose mean counts; 1 for the best alone.
        head_start: "random", or "k-means": see ``mixem.methods.heads.begin_at_centres``.
    """

    neighbours: int = 20
    entropy_weight: float = 5.0
    heads: int = 1
    agreeing: int = field(default=1, metadata={"source": "the official code: one"})
    head_start: Literal["random", "k-means"] = field(
        default="random", metadata={"source": "the official code"}
    )

    def __post_init__(self) -> None:
        at_least(self, neighbours=1, entropy_weight=0, heads=1, agreeing=1)
        if self.agreeing > self.heads:
            raise InputError(f"{self.agreeing} of {self.heads} heads agree; give fewer")
        require_start(self.head_start)


class SCAN(Method):
    """A backbone that SimCLR trained, and a classifier that gives neighbours one cluster.

    Before the first step each image's nearest neighbours are found among the embeddings of the
    start. A step pairs the image with one of them, or with itself, and both are augmented.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How a training view is drawn.
        settings: See :class:`SCANSettings`.
        clusters: Number k of clusters.

    Attributes:
        losses: Loss ``(h,)`` of each head after training.
        chosen: The head with the lowest of them.
        agreement: The heads that :meth:`assign` asks.
    """

    Settings = SCANSettings
    clusters_itself = True
    takes_start = "images"
    outputs = (*Method.outputs, "logits")

    losses: torch.Tensor
    chosen: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: SCANSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        self.head = nn.Linear(self.feature_size, self.settings.heads * clusters)
        self.register_buffer("losses", torch.zeros(self.settings.heads))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))
        self.agreement = Agreement(self.settings.agreeing, clusters)
        self.pretext: list[Method] = []  # the start, whose weights are not this method's
        self.pairs: torch.Tensor | None = None

    def start_from(self, other: Method) -> None:
        """Take the backbone, and keep the whole for the search of neighbours."""
        super().start_from(other)
        self.pretext = [other]

    def begin(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Set the heads to their start."""
        super().begin(images, generator)
        if self.settings.head_start == "k-means":
            begin_at_centres(self.head, self, images, generator)

    def companions(self, images: torch.Tensor) -> torch.Tensor:
        """Rows ``(N, 1 + K)`` of the image itself and its K nearest ones (step 1 of the paper)."""
        other = self.pretext[0] if self.pretext else self
        found = self.nearest(other, images, "embeddings")
        self.pairs = torch.cat([torch.arange(len(images)).unsqueeze(1), found], 1)
        return self.pairs

    def heads(self, views: torch.Tensor) -> torch.Tensor:
        """Logits ``(h, B, k)`` of float views ``(B, C, H, W)``."""
        return self.head(self.backbone(views)).unflatten(1, (-1, self.clusters)).transpose(0, 1)

    def step(self, views: torch.Tensor, name: str = "images") -> Step:
        """Equation 2 for the pairs ``(2, B, C, H, W)``; the two views have statistics of their own.

        The losses of several heads are added up, as in the official code.
        """
        anchors, neighbours = (self.heads(view) for view in views)
        consistency, diversity = neighbour_consistency(anchors, neighbours)
        weighted = self.settings.entropy_weight * diversity
        return Step(
            {"consistency": consistency.sum(), "diversity": weighted.sum()},
            anchors.detach().float().softmax(2),
            {"heads": (consistency + weighted).detach()},
        )

    def bounds(self, images: int) -> dict[str, float]:
        """Of images that are all in one cluster."""
        return {"diversity": 0.0} if self.settings.entropy_weight else {}

    def finish(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Choose the head with the lowest loss on all pairs of plain training images.

        The entropy has weight 1 here, as in the official code; that looks at the test images, and
        picks the epoch by the same loss.
        """
        pairs = self.companions(images) if self.pairs is None else self.pairs
        logits = extract(self, images, "logits").transpose(0, 1)
        total = torch.zeros(self.settings.heads)
        for column in pairs.T:
            consistency, diversity = neighbour_consistency(logits, logits[:, column])
            total += consistency + diversity
        self.losses.copy_(total / (1 + self.settings.neighbours))
        self.chosen.copy_(self.losses.argmin())
        self.agreement.choose(self.losses, logits.softmax(2))

    def settle(self, final: Method) -> None:
        """Take over which head is chosen, and which agree."""
        self.chosen.copy_(final.get_buffer("chosen"))
        self.agreement.load_state_dict(final.get_submodule("agreement").state_dict())

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, h, k)`` of all heads, of uint8 images."""
        return self.heads(self.prepare(images)).transpose(0, 1)

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of the heads that count."""
        return self.agreement(self.logits(images).transpose(0, 1).float().softmax(2))

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """The heads that count, k-means on the features, what all agree on, and every head."""
        yield Clustering("argmax p", extract(self, images, "assign").argmax(1))
        yield from itertools.islice(self.kmeans_clusterings(images, fit, protocol), 1)
        p = extract(self, images, "logits").transpose(0, 1).softmax(2)
        yield from head_clusterings(p, self.losses, int(self.chosen))


@dataclass(frozen=True)
class SelfLabelSettings(MethodSettings):
    """What counts as sure; the defaults are the official code's.

    Attributes:
        threshold: An image counts if its largest probability is above it.
        balanced: Give every cluster that occurs in a batch the same weight.
    """

    threshold: float = 0.99
    balanced: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise InputError(f"threshold is {self.threshold}; give a number from 0 to below 1")


class SelfLabel(Method):
    """SCAN's third step: an augmented image learns the cluster that the plain one surely has.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How the augmented image is drawn.
        settings: See :class:`SelfLabelSettings`.
        clusters: Number k of clusters.
    """

    Settings = SelfLabelSettings
    clusters_itself = True
    takes_start = "images"
    outputs = (*Method.outputs, "logits")

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: SelfLabelSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        self.head = nn.Linear(self.feature_size, clusters)

    def start_from(self, other: Method) -> None:
        """Take backbone and chosen head of a SCAN run.

        Raises:
            InputError: If the start has no such head.
        """
        super().start_from(other)
        weights = {name: value for name, value in other.state_dict().items() if "head." in name}
        if weights.keys() != {"head.weight", "head.bias"} or len(weights["head.bias"]) % (
            self.clusters
        ):
            raise InputError(
                f"the start, {type(other).__name__}, has no linear head of {self.clusters} "
                "clusters; start from a SCAN run with as many clusters"
            )
        chosen = int(other.get_buffer("chosen"))
        self.head.load_state_dict(
            {
                name.removeprefix("head."): value.unflatten(0, (-1, self.clusters))[chosen]
                for name, value in weights.items()
            }
        )

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The plain image and an augmented one: uint8 ``(B, C, h, w)`` to ``(2, B, C, H, W)``."""
        return torch.stack([self.views.plain(images), self.views(images, generator)])

    def step(self, views: torch.Tensor, name: str = "images") -> Step:
        """The cross-entropy of those that count; the plain images see the batch's statistics too.

        They move the running statistics, as in the official code.
        """
        with torch.no_grad():
            sources = self.head(self.backbone(views[0]))
        logits = self.head(self.backbone(views[1]))
        loss, kept = self_label(
            logits,
            sources,
            threshold=self.settings.threshold,
            balanced=self.settings.balanced,
        )
        return Step({"self-label": loss}, sources.float().softmax(1), {"kept": kept})

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, k)`` of uint8 images."""
        return self.head(self.features(images))

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of uint8 images."""
        return self.logits(images).float().softmax(1)
