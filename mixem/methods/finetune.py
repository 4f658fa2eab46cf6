"""Supervised finetuning of a trunk that was trained without labels (IIC, table 3)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation, ImageSet
from mixem.errors import InputError
from mixem.methods.base import (
    Clustering,
    Method,
    MethodSettings,
    Step,
    at_least,
    extract,
    refuse_neighbours,
)

__all__ = ["Finetune", "FinetuneSettings", "SupHead5"]


@dataclass(frozen=True)
class FinetuneSettings(MethodSettings):
    """What the classifier is made of.

    Attributes:
        hidden: See :class:`SupHead5`.
        trunk_rate: Learning rate of the trunk as a share of the classifier's (official
            ``trunk_lr`` / ``head_lr``).
    """

    hidden: int = 2048
    trunk_rate: float = 0.1

    def __post_init__(self) -> None:
        at_least(self, hidden=1, trunk_rate=0)
        refuse_neighbours(self)


class SupHead5(nn.Sequential):
    """Linear, batch norm, ReLU, Linear: the classifier of the finetuning (``sup_head5.py``).

    The weights of the linear layers start from N(0, 0.01^2), their biases from 0.

    Args:
        in_features: Length D of a feature vector.
        classes: Number k of classes.
        hidden: Length of the layer between.
    """

    def __init__(self, in_features: int, classes: int, *, hidden: int = 2048):
        super().__init__(
            nn.Linear(in_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, classes),
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)


class Finetune(Method):
    """A trunk and a classifier, trained by the cross-entropy with the labels.

    Args:
        backbone: Gives the features; has ``out_features``. It may end earlier than the trunk it
            starts from.
        views: How a training view is drawn.
        settings: See :class:`FinetuneSettings`.
        clusters: Number k of classes.
    """

    Settings = FinetuneSettings
    clusters_itself = True
    mapping = "identity"
    takes_start = "nothing"
    outputs = (*Method.outputs, "logits")

    def __init__(
        self,
        backbone: nn.Module,
        views: Augmentation,
        settings: FinetuneSettings | None = None,
        *,
        clusters: int = 10,
    ):
        super().__init__(backbone, views, settings, clusters=clusters)
        self.head = SupHead5(self.feature_size, clusters, hidden=self.settings.hidden)

    def start_from(self, other: Method) -> None:
        """Take the trunk of another method, which may go on behind the end of this one.

        Raises:
            InputError: If the other trunk does not have all layers of this one.
        """
        found, wanted = other.backbone.state_dict(), self.backbone.state_dict()
        for name, value in wanted.items():
            if name not in found or found[name].shape != value.shape:
                raise InputError(
                    f"the backbone of the start has no layer {name} of shape {tuple(value.shape)}; "
                    "start from a run with the same backbone, or one that goes on behind its end"
                )
        self.backbone.load_state_dict({name: found[name] for name in wanted})

    def rates(self) -> list[tuple[nn.Module, float]]:
        """The classifier at the full rate, the trunk at its share."""
        return [(self.head, 1.0), (self.backbone, self.settings.trunk_rate)]

    def targets(self, images: ImageSet) -> torch.Tensor:
        """The labels of the images.

        Raises:
            InputError: If an image has none, or one that is no class of the head.
        """
        labels = images.labels
        if labels is None or not ((labels >= 0) & (labels < self.clusters)).all():
            raise InputError(
                f"not every image of {images.name}, {images.split}, has a label from 0 to "
                f"{self.clusters - 1}; give a labelled split, and as many clusters as classes"
            )
        return labels

    def draw_views(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One view of each image: uint8 ``(B, C, h, w)`` to ``(B, C, H, W)``."""
        return self.views(images, generator)

    def supervised_step(
        self, views: torch.Tensor, labels: torch.Tensor, name: str = "images"
    ) -> Step:
        """The mean cross-entropy in nats, of the views ``(B, C, H, W)`` with labels ``(B,)``."""
        logits = self.head(self.backbone(views))
        right = (logits.argmax(1) == labels).float().mean()
        return Step(
            {"cross-entropy": F.cross_entropy(logits, labels)},
            logits.detach().softmax(1),
            {"accuracy": right},
        )

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, k)`` of the central square of uint8 images."""
        return self.head(self.features(images))

    def assign(self, images: torch.Tensor) -> torch.Tensor:
        """Class probabilities ``(N, k)`` of uint8 images from the mean logits of ten crops.

        The crops are the four corners and the centre and their mirror images, with the side of
        the plain view (``utils/semisup/dataset.py``, ``general.py``).
        """
        from torchvision.transforms.v2.functional import ten_crop  # here: it takes a second

        self.views.check_images(images)
        images = self.views.padded(images)
        side = self.views.plain_side or min(images.shape[2:])
        logits = [self.logits(crop) for crop in ten_crop(images, [side, side])]
        return torch.stack(logits).mean(0).softmax(1)

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """The classes by ten crops, and by the central one alone."""
        for kind, what in (("ten crops", "assign"), ("centre crop", "logits")):
            yield Clustering(kind, extract(self, images, what).argmax(1))
