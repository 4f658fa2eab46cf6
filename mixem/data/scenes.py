"""The sets that are known by name and have a mask for every image: one record and one reader each.

A mask says the class of each pixel, 255 where nobody says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from mixem.data.brain import brain_slices
from mixem.data.coco_stuff import read_coco_stuff
from mixem.data.potsdam import read_potsdam
from mixem.data.textures import textures
from mixem.errors import InputError

__all__ = ["SCENES", "Scenes", "read_scenes", "resize_masks"]

Part = tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]  # images, masks, names of the classes


@dataclass(frozen=True)
class Scenes:
    """All that there is to say of such a set; to add one, write its reader and a record.

    Attributes:
        read: Called with the folder of all data sets (None for the default), a split and the side
            that is wanted; returns images uint8 ``(N, C, H, W)``, masks uint8 ``(N, H, W)`` and
            the names of the classes.
        side: Height and width, unless another one is wanted.
        splits: What may be asked for.
    """

    read: Callable[[str | Path | None, str, int], Part]
    side: int
    splits: tuple[str, ...]


def read_scenes(name: str, *, split: str, size: int | None, root: str | Path | None) -> Part:
    """Images, masks and class names of a set in :data:`SCENES`.

    Raises:
        InputError: If there is no such split, or if the set cannot be read.
    """
    scenes = SCENES[name]
    if split not in scenes.splits:
        raise InputError(f"{name} has no split {split!r}; give one of {', '.join(scenes.splits)}")
    return scenes.read(root, split, size or scenes.side)


def resize_masks(masks: torch.Tensor, size: int) -> torch.Tensor:
    """The central square of masks ``(N, H, W)`` as ``(N, size, size)``, by nearest pixels."""
    height, width = masks.shape[1:]
    if (height, width) == (size, size):
        return masks
    side = min(height, width)
    # The centres of the new pixels, in pixels of the mask.
    steps = (torch.arange(size, device=masks.device) + 0.5) * side / size
    rows, columns = ((steps + (length - side) // 2).long() for length in (height, width))
    return masks[:, rows[:, None], columns]


# Readers ----------------------------------------------------------------------------------------

_SCENES = {"train": (500, 0), "test": (200, 1)}  # how many, and the seed


def _textures(root: str | Path | None, split: str, size: int) -> Part:
    parts = [_SCENES[part] for part in split.split("+")]
    made = [textures(count, seed=seed) for count, seed in parts]
    images, masks = torch.cat([one[0] for one in made]), torch.cat([one[1] for one in made])
    if size != images.shape[-1]:
        from torchvision.transforms.v2.functional import resize  # here: it takes a second

        images = resize(images, [size, size], antialias=True)
    return images, resize_masks(masks, size), made[0][2]


def _brain(root: str | Path | None, split: str, size: int) -> Part:
    return brain_slices(size)


_BOTH = ("train", "test", "train+test")
_TILES = (*_BOTH, "unlabeled", "train+unlabeled", "train+unlabeled+test")
SCENES: dict[str, Scenes] = {
    "textures": Scenes(_textures, 64, _BOTH),
    "brain": Scenes(_brain, 96, ("train+test",)),  # neighbours are too alike to be test images
    "coco-stuff": Scenes(partial(read_coco_stuff, three=False), 160, _BOTH),
    "coco-stuff-3": Scenes(partial(read_coco_stuff, three=True), 160, _BOTH),
    "potsdam": Scenes(partial(read_potsdam, three=False), 200, _TILES),
    "potsdam-3": Scenes(partial(read_potsdam, three=True), 200, _TILES),
}
