"""IMC-SwAV (Ntelemis, Jin and Thomas 2021): prototypes of views, and clusters of prototypes."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from mixem.data import Augmentation, ImageSet
from mixem.distributed import gather
from mixem.errors import InputError
from mixem.losses import infomax, logit_penalty, swapped_prediction
from mixem.methods.base import Method, Step
from mixem.models import ClusterHead


class IMCSwAV(Method):
    """SwAV, and a classifier that learns the clusters from its prototypes at the same time.

    Encoder, projection and prototypes learn by the swapped prediction. The classifier reads the
    features, and learns to say as much about the prototypes as k clusters can. It gives no
    gradient to the rest, nor gets any from the swapped prediction. The defaults are those of the
    official ``train.py`` and ``model.py``.

    Args:
        backbone: The encoder; has ``out_features``.
        views: How a large view is drawn.
        clusters: Number k of clusters.
        small_views: How a small view is drawn; None for no small views.
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
        one_pass: Forward the views of one size together, which is faster. The official code
            forwards every view alone, with its own batch statistics.
        bank: Train the classifier only on images that have a label, which says nothing but that
            they belong to the labelled part of STL-10. Their features are kept until they are as
            many as a batch; in between the classifier rests. The official code also empties the
            bank at the start of an epoch, and with the PyTorch of its time Adam's momentum moved
            the classifier in between. A run that was stopped goes on with an empty bank.

    Raises:
        InputError: If there are too few views, clusters or hidden units.
    """

    clusters_itself = True
    rests_parts = True

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        *,
        clusters: int = 10,
        small_views: Augmentation | None = None,
        large: int = 2,
        small: int = 4,
        embedding_size: int = 128,
        hidden: int = 1024,
        prototypes: int = 1000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        entropy_weight: float = 4.0,
        penalty_weight: float = 0.01,
        frozen_steps: int = 500,
        one_pass: bool = False,
        bank: bool = False,
    ):
        if large < 2 or small < 0:
            raise InputError(f"{large} large and {small} small views; give at least 2 and 0")
        super().__init__(backbone, views, clusters=clusters)
        self.groups = [(views, large)] + ([(small_views, small)] if small_views and small else [])
        self.projection = nn.Sequential(  # one linear map in effect, as in the official code
            nn.Linear(self.feature_size, self.feature_size),
            nn.Linear(self.feature_size, embedding_size),
        )
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, embedding_size)))
        self.head = ClusterHead(self.feature_size, clusters, hidden=hidden)
        self.temperature = temperature
        self.epsilon = epsilon
        self.iterations = iterations
        self.entropy_weight = entropy_weight
        self.penalty_weight = penalty_weight
        self.frozen_steps = frozen_steps
        self.frozen = frozen_steps > 0
        self.one_pass = one_pass
        self.bank = bank
        self.banked: list[tuple[torch.Tensor, ...]] = []  # features, scores

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
        """uint8 ``(B, C, h, w)`` to the large views ``(L, B, C, H, W)`` and the small ones."""
        return [
            views(images.repeat(count, 1, 1, 1), generator).unflatten(0, (count, -1))
            for views, count in self.groups
        ]

    def before_step(self, step: int) -> None:
        """Give the prototypes unit length, and let them learn from a certain step on."""
        with torch.no_grad():
            self.prototypes.copy_(F.normalize(self.prototypes))
        self.frozen = step < self.frozen_steps

    def compare(self, features: torch.Tensor) -> torch.Tensor:
        """Scores ``(..., K)`` of features ``(..., D)``: cosines with the prototypes, float32."""
        z = self.projection(features)
        with torch.autocast(z.device.type, enabled=False):  # bfloat16 has two digits for cosines
            z = F.normalize(z.to(self.prototypes.dtype), dim=-1)
            prototypes = self.prototypes.detach() if self.frozen else self.prototypes
            return z @ prototypes.T

    def by_view(self, network: nn.Module, views: list[torch.Tensor]) -> torch.Tensor:
        """A network's answers ``(V, B, ...)`` to groups of views ``(L, B, ...)``, ``(S, B, ...)``.

        Each call of the network has its own batch statistics.
        """
        calls = views if self.one_pass else [view for group in views for view in group.split(1)]
        return torch.cat([network(x.flatten(0, 1)).unflatten(0, (len(x), -1)) for x in calls])

    def step(self, views: list[torch.Tensor], name: str = "images") -> Step:
        """The swapped prediction, and the clusters' information about the prototypes."""
        features = self.by_view(self.backbone, views)
        scores = self.compare(features)
        return self._step(scores, features.detach(), scores.detach())

    def targets(self, images: ImageSet) -> torch.Tensor | None:
        """With a bank, which images have a label ``(N,)``; which label it is, is not looked at.

        Raises:
            InputError: If no image has one.
        """
        if not self.bank:
            return None
        if images.labels is None or not (known := images.labels >= 0).any():
            raise InputError(
                f"no image of {images.name}, {images.split}, has a label, and bank trains the "
                "classifier on those that have; set settings.bank=False"
            )
        return known

    def supervised_step(self, views: list[torch.Tensor], labels: torch.Tensor) -> Step:
        """The same with a bank: the classifier learns whenever enough images are in it."""
        features = self.by_view(self.backbone, views)
        scores = self.compare(features)
        # Of several processes each keeps the images of all, and learns from them.
        chosen = gather(labels.to(torch.uint8)).bool()
        images = [gather(x.detach().transpose(0, 1)) for x in (features, scores)]
        self.banked.append(tuple(x[chosen].transpose(0, 1) for x in images))
        if sum(x.shape[1] for x, _ in self.banked) < len(chosen):
            return self._step(scores)
        known = [torch.cat(parts, 1) for parts in zip(*self.banked, strict=True)]
        self.banked.clear()
        return self._step(scores, *known)

    def _step(
        self,
        scores: torch.Tensor,
        features: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
    ) -> Step:
        """Terms of the scores, and of the classifier on features and their detached scores."""
        terms = {
            "swapped": swapped_prediction(
                scores,
                temperature=self.temperature,
                epsilon=self.epsilon,
                iterations=self.iterations,
            )
        }
        clusters = None
        if features is not None and known is not None:
            groups = list(features.split([count for _, count in self.groups]))
            logits = self.by_view(self.head, groups)
            terms["information"] = infomax(
                logits, known, temperature=self.temperature, entropy_weight=self.entropy_weight
            )
            terms["penalty"] = self.penalty_weight * logit_penalty(logits)
            clusters = logits[0].detach().float().softmax(1)
        nearest = scores[0].detach().argmax(1)
        hits = scores.new_zeros(len(self.prototypes)).index_add_(
            0, nearest, torch.ones_like(nearest, dtype=scores.dtype)
        )
        return Step(
            terms,
            clusters,
            {"swapped": math.log(len(self.prototypes))},
            hits={"prototypes": hits},
        )

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

    def cluster(self, images: torch.Tensor) -> torch.Tensor:
        """The same as :meth:`assign`."""
        return self.assign(images)
