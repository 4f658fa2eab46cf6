"""Networks: backbones that give features, heads that give embeddings. No loss, no training."""

from mixem.models.backbones import BACKBONES, SmallNet, make_backbone, resnet18
from mixem.models.heads import MixtureHead, ProjectionHead, mix

__all__ = [
    "BACKBONES",
    "MixtureHead",
    "ProjectionHead",
    "SmallNet",
    "make_backbone",
    "mix",
    "resnet18",
]
