"""Networks: backbones give features, heads embeddings or clusters. No loss, no training."""

from mixem.models.backbones import BACKBONES, Pixels, SmallNet, SmallResNet, make_backbone, resnet18
from mixem.models.clusternet import ClusterNet5g, ClusterNet6c, Sobel
from mixem.models.heads import ClusterHead, MixtureHead, ProjectionHead, SubHeads, mix
from mixem.models.segmentation import SegmentationHead, SegmentationNet10a
from mixem.models.vectors import Prepared

__all__ = [
    "BACKBONES",
    "ClusterHead",
    "ClusterNet5g",
    "ClusterNet6c",
    "MixtureHead",
    "Pixels",
    "Prepared",
    "ProjectionHead",
    "SegmentationHead",
    "SegmentationNet10a",
    "SmallNet",
    "SmallResNet",
    "Sobel",
    "SubHeads",
    "make_backbone",
    "mix",
    "resnet18",
]
