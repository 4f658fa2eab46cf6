"""Images in memory as uint8 tensors, and the augmentation of whole batches on their device."""

from mixem.data.augment import Augmentation
from mixem.data.cache import CachedFolder, delete_caches, list_caches
from mixem.data.checks import check_channels, check_set, check_tensor, check_vectors
from mixem.data.images import (
    NAMES,
    SHAPES,
    ImageSet,
    folder_path,
    load_images,
    network_of,
    own_path,
)
from mixem.data.masks import IGNORED
from mixem.data.operations import normalise
from mixem.data.picture import decode
from mixem.data.scenes import SCENES, Scenes, resize_masks
from mixem.data.sources import SOURCES, Source

__all__ = [
    "IGNORED",
    "NAMES",
    "SCENES",
    "SHAPES",
    "SOURCES",
    "Augmentation",
    "CachedFolder",
    "ImageSet",
    "Scenes",
    "Source",
    "check_channels",
    "check_set",
    "check_tensor",
    "check_vectors",
    "decode",
    "delete_caches",
    "folder_path",
    "list_caches",
    "load_images",
    "network_of",
    "normalise",
    "own_path",
    "resize_masks",
]
