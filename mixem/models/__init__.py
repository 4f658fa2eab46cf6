"""Networks: backbones give features, heads embeddings or clusters. No loss, no training."""

from mixem.models.backbones import BACKBONES, SmallNet, make_backbone, resnet18
from mixem.models.clusternet import ClusterNet5g, ClusterNet6c, Sobel
from mixem.models.heads import MixtureHead, ProjectionHead, SubHeads, mix

__all__ = [
    "BACKBONES",
    "ClusterNet5g",
    "ClusterNet6c",
    "MixtureHead",
    "ProjectionHead",
    "SmallNet",
    "Sobel",
    "SubHeads",
    "make_backbone",
    "mix",
    "resnet18",
]
