"""TEMI (Adaloglou et al. 2023): heads on frozen features, taught by their own running means."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.losses import temi
from mixem.methods.base import Clustering, Method, MethodSettings, Step, at_least, extract
from mixem.methods.heads import head_clusterings

__all__ = ["TEMI", "CosineHeads", "TEMISettings"]

JUDGED_BY = 5  # neighbours of each image at least, by which the finished heads are compared


@dataclass(frozen=True)
class TEMISettings(MethodSettings):
    """What pairs, heads and loss are made of; the defaults are the official code's.

    Attributes:
        neighbours: Nearest images K, one of which an image is paired with in each step
            (``--knn``).
        heads: Independent heads (``--num_heads``); the one with the lowest loss counts. Here it is
            that of the finished teacher, there the student's mean over the last epoch.
        hidden: Widths of the two hidden layers (``--hidden_dim``, ``--bottleneck_dim``).
        beta: See :func:`mixem.losses.temi`.
        temperature: See :func:`mixem.losses.temi`.
        momentum: Of the running marginal, see :func:`mixem.losses.temi`.
        teacher_momentum: How much of its weights the teacher keeps at a step
            (``--momentum_teacher``).
    """

    neighbours: int = 50
    heads: int = 16
    hidden: tuple[int, int] = field(default=(512, 256))
    beta: float = 0.6
    temperature: float = 0.1
    momentum: float = 0.9
    teacher_momentum: float = 0.996

    def __post_init__(self) -> None:
        at_least(self, neighbours=1, heads=1)
        if isinstance(self.hidden, list):
            object.__setattr__(self, "hidden", tuple(self.hidden))
        if len(self.hidden) != 2 or min(self.hidden) < 1:
            raise InputError(f"hidden is {self.hidden}; give two widths of at least 1")
        if not 0.5 <= self.beta <= 1 or not self.temperature > 0:
            raise InputError(
                f"beta {self.beta}, temperature {self.temperature}; give a beta from 0.5 to 1 and "
                "a positive temperature"
            )
        for name in ("momentum", "teacher_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a number from 0, below 1")


class CosineHeads(nn.Module):
    """h heads side by side: Linear, GELU, Linear, unit length, cosines with k directions.

    Each cluster's cosine has a factor of its own, 1 at the start, that learns
    (``multi_head.py``: a weight-normalised last layer). A layer of all heads is one product.

    Args:
        in_features: Length D of a feature vector.
        clusters: Number k of clusters.
        heads: How many.
        hidden: Widths of the two hidden layers.
    """

    def __init__(self, in_features: int, clusters: int, heads: int, hidden: tuple[int, int]):
        super().__init__()
        wide, narrow = hidden

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))

        self.first = nn.Linear(in_features, heads * wide)
        nn.init.trunc_normal_(self.first.weight, std=0.02)
        nn.init.zeros_(self.first.bias)
        self.second = drawn(heads, wide, narrow)
        self.second_bias = nn.Parameter(torch.zeros(heads, 1, narrow))
        self.directions = drawn(heads, narrow, clusters)
        self.factors = nn.Parameter(torch.ones(heads, 1, clusters))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``(B, D)`` to logits ``(h, B, k)``."""
        heads = len(self.second)
        x = F.gelu(self.first(features)).unflatten(1, (heads, -1)).transpose(0, 1)
        x = F.normalize(torch.baddbmm(self.second_bias, x, self.second), dim=2)
        return self.factors * (x @ F.normalize(self.directions, dim=1))


class TEMI(Method):
    """Student and teacher heads: an image and its neighbour say as much of each other as they can.

    The teacher begins as the student and follows it as a running mean of its weights. It gets no
    gradient, and it is the teacher that sorts. The backbone is not trained.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How an image is seen.
        settings: See :class:`TEMISettings`.
        clusters: Number k of clusters.

    Attributes:
        marginal: Running mean ``(h, k)`` of the teacher's probabilities.
        losses: Loss ``(h,)`` of each head after training, on all images and some neighbours.
        chosen: The head with the lowest of them, which :meth:`assign` asks.
    """

    Settings = TEMISettings
    clusters_itself = True
    takes_start = "images"
    outputs = (*Method.outputs, "logits")

    marginal: torch.Tensor
    losses: torch.Tensor
    chosen: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: TEMISettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        s = self.settings
        self.student = CosineHeads(self.feature_size, clusters, s.heads, s.hidden)
        self.teacher = CosineHeads(self.feature_size, clusters, s.heads, s.hidden)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.backbone.requires_grad_(False)
        self.register_buffer("marginal", torch.full((s.heads, clusters), 1 / clusters))
        self.register_buffer("losses", torch.zeros(s.heads))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    def rates(self) -> list[tuple[nn.Module, float]]:
        """The student alone learns."""
        return [(self.student, 1.0)]

    @torch.no_grad()
    def before_step(self, step: int) -> None:
        """Let the teacher follow the student."""
        if not step:
            return
        share = 1 - self.settings.teacher_momentum
        for mine, theirs in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            mine.lerp_(theirs, share)

    def step(self, views: torch.Tensor, name: str = "images") -> Step:
        """The mean of the heads' losses for the pairs ``(2, B, ...)``."""
        s = self.settings
        with torch.no_grad():
            features = self.backbone(views.flatten(0, 1))
            taught = self.teacher(features).unflatten(1, (2, -1)).transpose(0, 1)
        learned = self.student(features).unflatten(1, (2, -1)).transpose(0, 1)  # (2, h, B, k)
        losses, marginal = temi(
            learned,
            taught,
            marginal=self.marginal,
            beta=s.beta,
            temperature=s.temperature,
            momentum=s.momentum,
        )
        if self.training:
            self.marginal.copy_(marginal)
        p = (taught[0].float() / s.temperature).softmax(2)
        return Step({"information": losses.mean()}, p, {"heads": losses.detach()})

    def bounds(self, images: int) -> dict[str, float]:
        """Of images that are all in one cluster."""
        return {"information": 0.0}

    def finish(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Choose the head with the lowest loss over all pairs of training images."""
        self.before_step(1)  # of the last step
        s, total = self.settings, torch.zeros(self.settings.heads)
        columns = self.nearest(self, images, "features").T[:: max(1, s.neighbours // JUDGED_BY)]
        logits = extract(self, images, "logits").transpose(0, 1)  # (h, N, k)
        marginal = (logits / s.temperature).softmax(2).mean(1)
        for column in columns:
            both = torch.stack([logits, logits[:, column]])
            total += temi(
                both, both, marginal=marginal, beta=s.beta, temperature=s.temperature, momentum=0.0
            )[0]
        self.losses.copy_(total / len(columns))
        self.chosen.copy_(total.argmin())

    def settle(self, final: Method) -> None:
        """Take over which head is chosen."""
        self.chosen.copy_(final.get_buffer("chosen"))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, h, k)`` of the teacher's heads, of images as ``prepare`` takes them."""
        return self.teacher(self.features(images)).transpose(0, 1)

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Cluster probabilities ``(N, k)`` of the chosen head of the teacher."""
        logits = self.logits(images)[:, self.chosen].float()
        return (logits / self.settings.temperature).softmax(1)

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """The chosen head, k-means on the features, what the heads agree on, and every head."""
        logits = extract(self, images, "logits").transpose(0, 1)
        yield Clustering("argmax p", logits[int(self.chosen)].argmax(1))
        yield from itertools.islice(self.kmeans_clusterings(images, fit, protocol), 1)
        p = (logits / self.settings.temperature).softmax(2)
        yield from head_clusterings(p, self.losses, int(self.chosen))
