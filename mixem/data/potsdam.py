"""Potsdam from the air, in colours and infrared, as IIC cuts it into tiles."""

import hashlib
import json
from collections.abc import Iterator
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

# What the colours of the labels stand for.
COLOURS = {
    (255, 255, 255): "roads",
    (0, 0, 255): "buildings",
    (0, 255, 255): "vegetation",
    (0, 255, 0): "trees",
    (255, 255, 0): "cars",
    (255, 0, 0): "clutter",
}
SIX = tuple(COLOURS.values())
THREE = {  # of Potsdam-3
    "roads and cars": ("roads", "cars"),
    "buildings and clutter": ("buildings", "clutter"),
    "vegetation and trees": ("vegetation", "trees"),
}
# The sheets whose labels were given to the participants of the contest; there are 38 in all.
LABELLED = frozenset(
    f"{row}_{column}"
    for row in range(2, 8)
    for column in (range(10, 13) if row < 6 else range(7, 13))
)
PICTURES, LABELS = "4_Ortho_RGBIR", ("5_Labels_for_participants", "5_Labels_all")
TILE = 200
TESTED = 855 / 5400  # of the labelled tiles
VERSION = 1  # part of the cache's key; to be raised when the same files decode differently


def read_potsdam(
    root: str | Path | None, split: str, size: int, *, three: bool
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Read the sheets in ``potsdam/4_Ortho_RGBIR`` and ``potsdam/5_Labels_for_participants``.

    These are the folders that ISPRS gives out; ``5_Labels_all`` will do for the latter. Sheets are
    halved and cut into tiles of 200 x 200 pixels (``potsdam_prepare.py``): 8,550 of them, of which
    those of the 24 sheets for participants, 5,400, have labels. "test" are 855 of these, drawn at
    random, since the authors' list is not given out; "train" are the other labelled ones and
    "unlabeled" the rest.

    Decoded once to a cache below the root, and mapped from there.

    Args:
        root: Folder of all data sets; None for the default.
        split: "train", "unlabeled", "test", or several joined by "+".
        size: 200.
        three: Merge the six classes into three (Potsdam-3).

    Returns:
        Images in red, green, blue and infrared, uint8 ``(N, 4, 200, 200)``; masks, uint8
        ``(N, 200, 200)``; and the names of the classes.

    Raises:
        InputError: If files are missing or broken, or for another size.
    """
    if size != TILE:
        raise InputError(f"potsdam has tiles of {TILE} x {TILE} pixels; leave size {size} out")
    place = data_root(root) / "potsdam"
    sheets = _sheets(place)
    key = hashlib.sha256(json.dumps([VERSION, str(place.resolve())]).encode())
    for name, files in sheets.items():
        states = [file.stat() if file else None for file in files]
        key.update(f"{name} {[s and (s.st_size, s.st_mtime_ns) for s in states]}\n".encode())
    cache = data_root(root) / "folders" / key.hexdigest()[:32]
    if not cache.is_dir():
        tiles: dict[str, int] = {}
        about = {"folder": str(place.resolve()), "split": "all", "size": TILE, "channels": 5}
        write_cache(
            cache,
            blocks=_blocks(sheets, tiles),
            changes=(),
            about=lambda: about | {"pictures": sum(tiles.values()), "tiles": tiles},
        )
    pixels, known = map_pixels(cache, size=TILE, channels=5)
    rows = _rows(known["tiles"], sheets, split)
    if len(rows) < len(pixels):
        pixels = pixels[rows]
    masks = pixels[:, 4]
    if not three:
        return pixels[:, :4], masks, SIX
    table = torch.full((256,), IGNORED, dtype=torch.uint8)
    for number, merged in enumerate(THREE.values()):
        table[[SIX.index(name) for name in merged]] = number
    return pixels[:, :4], table[masks.int()], tuple(THREE)


def _sheets(place: Path) -> dict[str, tuple[Path, Path | None]]:
    """Picture and labels of each sheet, by its name, such as "2_10"."""
    found = sorted((place / PICTURES).glob("top_potsdam_*_RGBIR.tif"))
    folder = next((place / name for name in LABELS if (place / name).is_dir()), None)
    if not found or folder is None:
        raise InputError(
            f"potsdam is not in {str(place)!r}; it needs the folders {PICTURES} and {LABELS[0]} of "
            "the ISPRS benchmark, or give another root (--data)"
        )
    sheets: dict[str, tuple[Path, Path | None]] = {}
    for picture in found:
        name = picture.name.removeprefix("top_potsdam_").removesuffix("_RGBIR.tif")
        labels = folder / f"top_potsdam_{name}_label.tif"
        known = name in LABELLED
        if known and not labels.is_file():
            raise InputError(f"{str(labels)!r} is missing; unpack the labels again")
        sheets[name] = picture, labels if known else None
    return sheets


def _blocks(
    sheets: dict[str, tuple[Path, Path | None]], tiles: dict[str, int]
) -> Iterator[NDArray[np.uint8]]:
    """Sheet by sheet the tiles with their masks as a fifth channel ``(n, 5, 200, 200)``."""
    for name, (picture, labels) in sheets.items():
        pixels = _halved(np.asarray(_decoded(picture, 4)))
        mask: NDArray[np.uint8] = np.full(pixels.shape[:2], IGNORED, np.uint8)
        if labels is not None:
            mask = _classes(np.asarray(_decoded(labels, 3))[::2, ::2])
            mask = mask[: pixels.shape[0], : pixels.shape[1]]
            if mask.shape != pixels.shape[:2]:
                raise InputError(f"{str(labels)!r} is not of its picture's size; unpack it again")
        down, across = mask.shape[0] // TILE, mask.shape[1] // TILE
        both = np.dstack([pixels, mask])[: down * TILE, : across * TILE]
        cut = both.reshape(down, TILE, across, TILE, 5).transpose(0, 2, 4, 1, 3)
        tiles[name] = down * across
        yield cut.reshape(-1, 5, TILE, TILE)


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mean of every four pixels; not Pillow's, which takes infrared for transparency."""
    tall, wide = (length // 2 * 2 for length in pixels.shape[:2])
    rows = pixels[0:tall:2].astype(np.uint16) + pixels[1:tall:2]
    return ((rows[:, 0:wide:2] + rows[:, 1:wide:2] + 2) // 4).astype(np.uint8)


def _decoded(path: Path, channels: int) -> Image.Image:
    """A sheet, decoded."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # sheets have 36 million
    try:
        with Image.open(path) as file:
            file.load()
            if len(file.getbands()) != channels:
                raise InputError(
                    f"{str(path)!r} has {len(file.getbands())} channels; it should have {channels}"
                )
            return file
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError) or of_the_machine(error):
            raise
        raise InputError(f"{str(path)!r} cannot be read: {error}; unpack it again") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _classes(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class of each pixel from its colour."""
    found = np.full(colours.shape[:2], IGNORED, np.uint8)
    for number, colour in enumerate(COLOURS):
        found[(colours == colour).all(-1)] = number
    return found


def _rows(
    tiles: dict[str, int], sheets: dict[str, tuple[Path, Path | None]], split: str
) -> torch.Tensor:
    """Numbers of the tiles of a split."""
    labelled = torch.tensor([
        sheets[name][1] is not None for name, count in tiles.items() for _ in range(count)
    ])  # fmt: skip
    with_labels = labelled.nonzero()[:, 0]
    order = torch.randperm(len(with_labels), generator=torch.Generator().manual_seed(0))
    part = torch.zeros(len(labelled), dtype=torch.int64)  # 0 unlabeled, 1 train, 2 test
    part[with_labels] = 1
    part[with_labels[order[: round(TESTED * len(with_labels))]]] = 2
    wanted = [("unlabeled", "train", "test").index(name) for name in split.split("+")]
    return torch.isin(part, torch.tensor(wanted)).nonzero()[:, 0]
