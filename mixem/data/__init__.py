"""Images in memory as uint8 tensors, and the augmentation of whole batches on their device."""

from mixem.data.augment import Augmentation
from mixem.data.folder import decode
from mixem.data.images import NAMES, SHAPES, ImageSet, load_images
from mixem.data.operations import normalise

__all__ = ["NAMES", "SHAPES", "Augmentation", "ImageSet", "decode", "load_images", "normalise"]
