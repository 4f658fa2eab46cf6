"""Maps: the cluster of every pixel of a picture, of any size, as a PNG with a palette.

>>> palette(3)
[(230, 159, 0), (86, 180, 233), (0, 158, 115)]
"""

import colorsys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mixem.checkpoint import write_atomically
from mixem.data.picture import open_picture
from mixem.errors import InputError
from mixem.methods import Method
from mixem.sorting.table import guarded, write_csv

__all__ = ["PixelMap", "map_picture", "map_pictures", "palette", "write_map", "write_shares"]

TILE, MARGIN = 512, 32  # pixels: side of a tile, and what is seen around it
WHOLE = 2**20  # pixels: larger than any picture, so that none is decoded at a smaller size
LONGEST = 200  # times as long as wide may a picture be
# Colours that most people can tell apart, by Okabe and Ito, but for black.
OKABE_ITO = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
GOLDEN = 0.618034  # of a turn of the hue: the next colour is far from all before


@dataclass(frozen=True, eq=False)
class PixelMap:
    """A picture and its map.

    Attributes:
        file: Path of the picture below its folder, with "/".
        clusters: uint8 ``(H, W)``, the cluster of each pixel of the upright picture.
        picture: The picture, RGB.
    """

    file: str
    clusters: NDArray[np.uint8]
    picture: Image.Image

    def shares(self, k: int) -> NDArray[np.float64]:
        """Share of each of k clusters in the pixels, ``(k,)``."""
        return np.bincount(self.clusters.ravel(), minlength=k) / self.clusters.size


def palette(k: int) -> list[tuple[int, int, int]]:
    """Colours for k clusters; the first seven are easy to tell apart, also for the colour-blind."""
    more = (
        colorsys.hsv_to_rgb(
            number * GOLDEN % 1, (0.9, 0.5)[number % 2], (0.9, 0.6)[number // 2 % 2]
        )
        for number in range(k - len(OKABE_ITO))
    )
    return [*OKABE_ITO[:k], *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in more)]


@torch.no_grad()
def map_picture(
    method: Method, picture: Image.Image, *, side: int, tile: int = TILE
) -> NDArray[np.uint8]:
    """The cluster of each pixel of a picture.

    The picture is resized so that its shorter side has as many pixels as in training, for a
    texture has to be as coarse as it was there. What is larger than a tile is mapped tile by
    tile, each seen with a margin, so that no seam shows: of a network without the frame, whose
    view is narrower than the margin, the map is that of the whole picture.

    Args:
        method: Sorts pixels; in evaluation mode.
        picture: RGB, of any size.
        side: The shorter side in pixels, at least 16.
        tile: Side of a tile, even.

    Returns:
        uint8, of the picture's height and width.

    Raises:
        InputError: If there are too many clusters for a PNG, or the picture is a mere line.
    """
    if method.clusters > 256:
        raise InputError(f"maps of {method.clusters} clusters; a PNG's palette has 256 colours")
    wide, tall = picture.size
    if max(wide, tall) > LONGEST * min(wide, tall):
        raise InputError(f"{wide} x {tall} pixels, more than {LONGEST} times as long as wide")
    scale = side / min(wide, tall)
    size = max(16, 2 * round(wide * scale / 2)), max(16, 2 * round(tall * scale / 2))
    small = picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)
    channels = method.channels or 3
    if channels not in (1, 3):
        raise InputError(f"a network for {channels} channels; pictures have 1 or 3")
    pixels = np.array(small.convert("L" if channels == 1 else "RGB"))
    images = torch.from_numpy(pixels.reshape(size[1], size[0], channels)).permute(2, 0, 1)[None]
    device = method.device
    found = torch.empty(size[1], size[0], dtype=torch.uint8)
    for inner, outer in _tiles(size[1], size[0], tile):
        maps = method.whole_maps(images[:, :, outer[0], outer[1]].to(device))
        clusters = maps[0].argmax(0).to(torch.uint8).cpu()
        rows, columns = (
            slice(one.start - other.start, one.stop - other.start)
            for one, other in zip(inner, outer, strict=True)
        )
        found[inner] = clusters[rows, columns]
    if size == picture.size:
        return found.numpy()
    enlarged = Image.fromarray(found.numpy()).resize(picture.size, Image.Resampling.NEAREST)
    return np.asarray(enlarged)


def _tiles(
    tall: int, wide: int, tile: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Tiles of a picture, and each with its margin."""

    def along(length: int) -> list[tuple[slice, slice]]:
        if length <= tile:
            return [(slice(0, length), slice(0, length))]
        return [
            (
                slice(start, min(start + tile, length)),
                slice(max(0, start - MARGIN), min(start + tile + MARGIN, length)),
            )
            for start in range(0, length, tile)
        ]

    for rows in along(tall):
        for columns in along(wide):
            yield (rows[0], columns[0]), (rows[1], columns[1])


def map_pictures(
    method: Method, folder: Path, files: Iterable[str], *, side: int
) -> Iterator[PixelMap | tuple[str, str]]:
    """Maps of pictures, one after the other; for one that cannot be read its file and the reason.

    Args:
        method: Sorts pixels; in evaluation mode.
        folder: What the paths of the files begin at.
        files: The pictures.
        side: See :func:`map_picture`.
    """
    for file in files:
        try:
            picture = open_picture(folder / file, WHOLE)
            clusters = map_picture(method, picture, side=side)
        except InputError as error:
            yield file, str(error)
            continue
        yield PixelMap(file, clusters, picture)


def write_map(found: PixelMap, out: Path, *, k: int, overlay: bool = False) -> None:
    """Write a map as a PNG whose pixels are cluster numbers, with a palette.

    Args:
        found: Of a picture ``a/b.jpg``.
        out: Folder for ``a/b.jpg.png``; the whole name stays, for there may be an ``a/b.png`` too.
        k: Number of clusters.
        overlay: Also write ``a/b.jpg.overlay.jpg``, the picture under its map.

    Raises:
        InputError: If a file cannot be written.
    """
    image = Image.fromarray(found.clusters)
    image.putpalette([level for colour in palette(k) for level in colour])

    def write_png(path: Path) -> None:
        image.save(path, format="PNG")

    def write_overlay(path: Path) -> None:
        Image.blend(found.picture, image.convert("RGB"), 0.5).save(path, format="JPEG", quality=90)

    write_atomically(out / f"{found.file}.png", write_png)
    if overlay:
        write_atomically(out / f"{found.file}.overlay.jpg", write_overlay)


def write_shares(rows: Sequence[tuple[str, NDArray[np.float64]]], where: Path | TextIO) -> None:
    """Write the share of each cluster in the pixels of each picture as CSV.

    As in :func:`mixem.sorting.write_table`, no cell begins with what a spreadsheet would run.

    Args:
        rows: File and shares ``(k,)`` of each picture.
        where: A file, which is replaced in one step, or an open text stream.

    Raises:
        InputError: If the file cannot be written; an old one stays.
    """
    k = len(rows[0][1]) if rows else 0
    header = ["file", *(f"cluster_{number}" for number in range(k))]
    cells = [
        [guarded(file, "./"), *(round(share, 6) for share in shares.tolist())]
        for file, shares in rows
    ]
    write_csv([header, *cells], where)
