"""Made-up scenes of several textures, with the texture of every pixel."""

import math
from collections.abc import Callable

import torch

from mixem.errors import InputError

Texture = Callable[[int, torch.Generator], torch.Tensor]

BLOCK = 64  # scenes drawn at a time
DRAWS = 4  # draws that make a pixel of noise; their sum is close to a normal distribution


def textures(
    count: int, *, size: int = 64, classes: int = 4, regions: int = 4, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Mosaics of textures that only their structure tells apart.

    The plane is cut into the regions that are nearest to random points, and each is filled with
    one texture: noise that is smoothed along no axis, one or both, or has its sign changed from
    pixel to pixel. All have the same mean and variance and nearly the same distribution of
    values, so a single pixel says next to nothing; neither does mirroring change a class.

    Everything is computed in whole numbers up to one rounding, so the same seed gives the same
    pixels on every machine; and the first scenes are the same whatever the ``count``.

    >>> images, masks, names = textures(2, size=32)
    >>> images.shape, masks.shape, names
    (torch.Size([2, 1, 32, 32]), torch.Size([2, 32, 32]), ('grain', 'across', 'down', 'blobs'))

    Args:
        count: Number N of scenes.
        size: Height and width in pixels, at least 8.
        classes: Number of textures, 2 to 6: the first of :data:`TEXTURES`.
        regions: Random points a scene, at least 1. Neighbours may have the same texture.
        seed: Of all draws.

    Returns:
        Images, uint8 ``(N, 1, size, size)``; masks, uint8 ``(N, size, size)``, the class of each
        pixel; and the names of the classes.

    Raises:
        InputError: If a number is out of its range.
    """
    for name, value, low, high in (
        ("count", count, 1, None),
        ("size", size, 8, None),
        ("classes", classes, 2, len(TEXTURES)),
        ("regions", regions, 1, None),
    ):
        if value < low or (high is not None and value > high):
            upper = "on" if high is None else f"to {high}"
            raise InputError(f"textures with {name} {value}; give a number from {low} {upper}")
    names = tuple(TEXTURES)[:classes]
    images = torch.empty(count, 1, size, size, dtype=torch.uint8)
    masks = torch.empty(count, size, size, dtype=torch.uint8)
    for start in range(0, count, BLOCK):
        generator = torch.Generator().manual_seed((seed << 20) + start)
        mosaics = _mosaics(size, classes, regions, generator)
        pixels = torch.zeros(BLOCK, size, size)
        for number, name in enumerate(names):
            pixels = pixels.where(mosaics != number, TEXTURES[name](size, generator))
        part = slice(start, start + BLOCK)
        masks[part] = mosaics[: count - start]
        images[part, 0] = (127.5 + 42 * pixels[: count - start]).round().clamp(0, 255)
    return images, masks, names


def _mosaics(size: int, classes: int, regions: int, generator: torch.Generator) -> torch.Tensor:
    """Class of each pixel, ``(BLOCK, size, size)``: that of the nearest of some random points."""
    points = torch.randint(size, (2, BLOCK, regions, 1, 1), generator=generator)
    kinds = torch.randint(classes, (BLOCK, regions), generator=generator)
    places = torch.arange(size)
    distance = (places[:, None] - points[0]).square() + (places - points[1]).square()
    nearest = distance.argmin(1).flatten(1)
    return kinds.gather(1, nearest).to(torch.uint8).unflatten(1, (size, size))


def _noise(tall: int, wide: int, *, checks: bool = False) -> Texture:
    """Noise smoothed twice over ``tall`` x ``wide`` pixels, of mean 0 and variance 1."""

    def draw(size: int, generator: torch.Generator) -> torch.Tensor:
        shape = (DRAWS, BLOCK, size + 2 * (tall - 1), size + 2 * (wide - 1))
        fields = torch.randint(-8, 9, shape, generator=generator).sum(0)
        for axis, side in ((1, tall), (2, wide)) * 2:
            sums = fields.cumsum(axis)
            rest = sums.shape[axis] - side
            fields = sums.narrow(axis, side - 1, rest + 1).clone()
            fields.narrow(axis, 1, rest).sub_(sums.narrow(axis, 0, rest))
        if checks:
            places = torch.arange(size)
            fields = fields * (1 - 2 * ((places[:, None] + places) % 2))
        # A draw from -8 to 8 has variance 24; smoothed twice, the weights rise and fall in steps.
        squares = (sum(min(i, 2 * side - i) ** 2 for i in range(2 * side)) for side in (tall, wide))
        return fields / (24 * DRAWS * math.prod(squares)) ** 0.5

    return draw


TEXTURES: dict[str, Texture] = {
    "grain": _noise(1, 1),
    "across": _noise(1, 6),
    "down": _noise(6, 1),
    "blobs": _noise(3, 3),
    "checks": _noise(3, 3, checks=True),
    "clouds": _noise(7, 7),
}
"""From names to functions of size and generator that draw :data:`BLOCK` fields."""
