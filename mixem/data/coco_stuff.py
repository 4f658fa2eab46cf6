"""COCO-Stuff with the coarse classes that IIC tells apart."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mixem.data.cache import map_pixels, write_cache
from mixem.data.masks import IGNORED
from mixem.data.picture import of_the_machine
from mixem.data.root import data_root
from mixem.errors import InputError

# Coarse classes of stuff, in the order of the published numbers 12 to 26, and the labels in each:
# COCO's numbers, of which the files of labels hold one less.
COARSE: dict[str, tuple[int, ...]] = {
    "ceiling": (102, 103),
    "floor": (101, 114, 115, 116, 117, 118),
    "food": (121, 122, 153, 170),
    "furniture": (98, 107, 108, 110, 112, 123, 130, 133, 156, 161, 165),
    "raw material": (100, 132, 139, 143),
    "textile": (92, 93, 104, 105, 109, 131, 137, 141, 152, 167, 168),
    "wall": (171, 172, 173, 174, 175, 176, 177),
    "window": (180, 181),
    "building": (95, 96, 128, 151, 158, 166),
    "ground": (111, 125, 126, 136, 140, 144, 145, 147, 149, 154, 159),
    "plant": (94, 97, 119, 124, 129, 134, 142, 163, 169),
    "sky": (106, 157),
    "solid": (127, 135, 150, 160, 162, 182),
    "structural": (99, 113, 138, 146, 164),
    "water": (120, 148, 155, 178, 179),
}
THREE = ("sky", "plant", "ground")  # of COCO-Stuff-3
LISTS = {True: "Coco164kFew_Stuff_6.txt", False: "Coco164kFull_Stuff_Coarse_7.txt"}
FOLDERS = {"train": "train2017", "test": "val2017"}
LEAST_SIDE, LEAST_SHARE = 360, 0.75  # of pictures that are taken
SCALE = 0.33
BLOCK = 512  # pictures decoded at a time
VERSION = 1  # part of the cache's key; to be raised when the same files decode differently


def read_coco_stuff(
    root: str | Path | None, split: str, size: int, *, three: bool
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Read COCO-Stuff 164k from ``cocostuff/images`` and ``cocostuff/annotations``.

    Both hold the folders ``train2017`` and ``val2017``, of JPEG files and of PNG files with a
    label for each pixel. Where ``cocostuff/curated/train2017`` and so on hold the authors' list of
    images, it is taken. Else the pictures are taken of which both sides have 360 pixels and three
    quarters of the pixels are of a wanted class (``coco164k_prepare.py``).

    Pictures are scaled by 0.33, and the central square is cut out, or filled up with black, so
    that all have one size; the official code keeps the longer side for its random crops. What has
    no class has none here: the official code takes unlabelled pixels of COCO-Stuff-3 for sky, and
    reads colours as blue, green, red.

    Decoded once to a cache below the root, and mapped from there.

    Args:
        root: Folder of all data sets; None for the default.
        split: "train", "test" (val2017) or both.
        size: Height and width of the result, 160 for 480 pixels.
        three: Only sky, plant and ground (COCO-Stuff-3).

    Returns:
        Images, uint8 ``(N, 3, size, size)``; masks, uint8 ``(N, size, size)``; and the names of
        the classes.

    Raises:
        InputError: If files are missing or broken.
    """
    place = data_root(root) / "cocostuff"
    names = THREE if three else tuple(COARSE)
    table = np.full(256, IGNORED, np.uint8)
    for number, name in enumerate(names):
        table[[label - 1 for label in COARSE[name]]] = number
    files = [file for part in split.split("+") for file in _files(place, part, three)]
    key = hashlib.sha256(json.dumps([VERSION, str(place.resolve()), split, size, three]).encode())
    for picture, labels in files:
        for file in (picture, labels):
            state = file.stat()
            key.update(f"{file.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    cache = data_root(root) / "folders" / key.hexdigest()[:32]
    if not cache.is_dir():
        listed = {part for part in split.split("+") if _list(place, part, three).is_file()}
        read = partial(_read, table=table, size=size, strict=set(split.split("+")) != listed)
        count = [0]
        about = {"folder": str(place.resolve()), "size": size, "channels": 4}
        write_cache(
            cache,
            blocks=_blocks(files, read, count),
            changes=(),
            about=lambda: about | {"split": f"{split}, {len(names)}", "pictures": count[0]},
        )
    pixels, _ = map_pixels(cache, size=size, channels=4)
    if not len(pixels):
        raise InputError(
            f"no picture in {str(place / 'images')!r} has sides of {LEAST_SIDE} pixels and "
            f"{LEAST_SHARE:.0%} of pixels of the classes {', '.join(names)}"
        )
    return pixels[:, :3], pixels[:, 3], names


def _list(place: Path, part: str, three: bool) -> Path:
    return place / "curated" / FOLDERS[part] / LISTS[three]


def _files(place: Path, part: str, three: bool) -> list[tuple[Path, Path]]:
    """Pictures and labels of a part, by name."""
    pictures, labels = (place / kind / FOLDERS[part] for kind in ("images", "annotations"))
    for folder in (pictures, labels):
        if not folder.is_dir():
            raise InputError(
                f"there is no folder {str(folder)!r}; unpack {FOLDERS[part]}.zip of COCO into "
                f"{str(place / 'images')!r} and stuffthingmaps_trainval2017.zip of COCO-Stuff into "
                f"{str(place / 'annotations')!r}, or give another root (--data)"
            )
    listed = _list(place, part, three)
    if listed.is_file():
        names = listed.read_text(encoding="utf-8").split()
    else:
        names = sorted(file.stem for file in labels.glob("*.png"))
    found = [(pictures / f"{name}.jpg", labels / f"{name}.png") for name in names]
    for pair in found:
        for file in pair:
            if not file.is_file():
                raise InputError(f"{str(file)!r} is missing; unpack the data set again")
    return found


def _blocks(
    files: list[tuple[Path, Path]], read: partial[NDArray[np.uint8] | None], count: list[int]
) -> Iterator[NDArray[np.uint8]]:
    """The pictures that are taken, with their masks as a fourth channel."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), BLOCK):
            some = pool.map(lambda pair: read(*pair), files[start : start + BLOCK])
            taken = [pixels for pixels in some if pixels is not None]
            count[0] += len(taken)
            if taken:
                yield np.stack(taken)


def _read(
    picture: Path, labels: Path, *, table: NDArray[np.uint8], size: int, strict: bool
) -> NDArray[np.uint8] | None:
    """A picture and its mask, ``(4, size, size)``; None if it is not taken."""
    try:
        with Image.open(labels) as file:
            mask = table[np.asarray(file.convert("L") if file.mode != "L" else file)]
        good = min(mask.shape) >= LEAST_SIDE and (mask != IGNORED).mean() >= LEAST_SHARE
        if strict and not good:
            return None
        scaled = tuple(max(1, round(SCALE * side)) for side in mask.shape[::-1])
        with Image.open(picture) as file:
            if file.size != mask.shape[::-1]:
                raise InputError(f"{str(picture)!r} and its labels differ in size")
            colours = file.convert("RGB").resize(scaled, Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError) or of_the_machine(error):
            raise
        raise InputError(f"{str(picture)!r} or its labels: {error}; unpack it again") from error
    small = Image.fromarray(mask).resize(scaled, Image.Resampling.NEAREST)
    whole = np.dstack([np.asarray(colours), np.asarray(small)]).transpose(2, 0, 1)
    square = np.zeros((4, size, size), np.uint8)
    square[3] = IGNORED
    tall, wide = whole.shape[1:]
    there, here = zip(*(_overlap(length, size) for length in (tall, wide)), strict=True)
    square[:, here[0], here[1]] = whole[:, there[0], there[1]]
    return square


def _overlap(length: int, size: int) -> tuple[slice, slice]:
    """The central pixels of a line, and where they come to lie in one of another length."""
    common = min(length, size)
    old, new = (length - common) // 2, (size - common) // 2
    return slice(old, old + common), slice(new, new + common)
