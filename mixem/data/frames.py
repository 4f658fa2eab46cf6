"""Where the pixels of a view come from, and maps of the view brought back there."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from mixem.distributed import rank, size
from mixem.errors import InputError


class Frames(NamedTuple):
    """How each image of a batch was mirrored and turned; see :func:`draw_frames`.

    >>> frames = draw_frames(2, torch.Generator().manual_seed(0), flip=1.0)
    >>> maps = torch.arange(12.0).view(2, 1, 2, 3)
    >>> bool((frames.back(frames.move(maps)) == maps).all())
    True

    Attributes:
        mirrored: bool ``(n,)``, whether left and right were changed.
        matrix: ``(n, 2, 2)``, from a place in the view to the one in the mirrored image it shows,
            both from the centre; None if none was turned.
    """

    mirrored: torch.Tensor
    matrix: torch.Tensor | None = None

    def move(self, images: torch.Tensor) -> torch.Tensor:
        """Views of float images ``(n, C, H, W)``; black comes in from outside."""
        return _turn(self._mirror(images), self.matrix)

    def back(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of the views, ``(..., n, k, H, W)``, in the frame of the images.

        Bilinear after a turn, as in the official code, and 0 where the view showed nothing, so
        that such a pixel counts less; a mirrored map is only mirrored.
        """
        inverse = None if self.matrix is None else torch.linalg.inv_ex(self.matrix).inverse
        return self._mirror(_turn(maps, inverse))

    def _mirror(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(self.mirrored[:, None, None, None], x.flip(-1), x)


def draw_frames(
    n: int,
    generator: torch.Generator,
    *,
    flip: float = 0.5,
    degrees: float = 0.0,
    scale: tuple[float, float] | None = None,
    shear: float = 0.0,
) -> Frames:
    """Frames of n views.

    The published models only mirror. Crops are no part of this: two crops of one image share few
    pixels.

    Args:
        n: Number of images; with several processes, of those here.
        generator: On the images' device.
        flip: Probability of mirroring left and right.
        degrees: Greatest rotation to either side, up to 180.
        scale: Least and greatest factor of enlargement; None for 1.
        shear: Greatest shear parallel to the x axis to either side, in degrees, up to 89.

    Raises:
        InputError: If a value is out of its range.
    """
    for name, value, most in (("flip", flip, 1), ("degrees", degrees, 180), ("shear", shear, 89)):
        if not 0 <= value <= most:
            raise InputError(f"{name} is {value}; give a number from 0 to {most}")
    if scale is not None and not 0 < scale[0] <= scale[1] < float("inf"):
        raise InputError(f"scale is {scale}; give two numbers above 0, the smaller first")

    def uniform(low: float, high: float) -> torch.Tensor:
        # With several processes, the j-th image here is number j * size() + rank() of all.
        draw = torch.rand(n * size(), generator=generator, device=generator.device)
        return draw[rank() :: size()].mul_(high - low).add_(low)

    mirrored = uniform(0, 1) < flip
    if not degrees and not scale and not shear:
        return Frames(mirrored)
    turn = torch.deg2rad(uniform(-degrees, degrees))
    slant = torch.deg2rad(uniform(-shear, shear)).tan()
    factor = uniform(*(scale or (1.0, 1.0)))
    cos, sin = turn.cos(), turn.sin()
    # As operations.affine: rotation after shear, inverted, because a view asks where from.
    rows = torch.stack([cos - sin * slant, sin + cos * slant, -sin, cos], 1)
    return Frames(mirrored, (rows / factor[:, None]).view(-1, 2, 2))


def _turn(x: torch.Tensor, matrix: torch.Tensor | None) -> torch.Tensor:
    """``(..., n, C, H, W)`` seen through the matrices ``(n, 2, 2)``, float32 whatever autocast."""
    if matrix is None:
        return x
    height, width = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        # The grid counts in half heights and widths, the matrix in pixels.
        unit = matrix.new_ones(2, 2)
        unit[0, 1], unit[1, 0] = height / width, width / height
        theta = F.pad(matrix * unit, (0, 1)).to(x.dtype)
        grid = F.affine_grid(theta, [len(matrix), 1, height, width], align_corners=False)
        stack = x.flatten(0, -5) if x.ndim > 4 else x[None]
        turned = [
            F.grid_sample(part, grid, padding_mode="zeros", align_corners=False) for part in stack
        ]
    return torch.stack(turned).view(x.shape)
