"""Slices of a brain with the tissue of every pixel."""

import numpy as np
import torch
import torch.nn.functional as F

from mixem.data.masks import IGNORED
from mixem.errors import InputError

TISSUES = ("grey matter", "white matter", "fluid")
LEAST = 2000  # square millimetres of brain in a slice, so that there is something to see


def brain_slices(size: int = 96) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Axial slices of the MNI152 template, an average of 152 brains seen by MRI.

    From the package nilearn, without a download: the T1 image and the probabilities of grey and
    white matter, at 1 mm. A pixel has the tissue whose probability is above one half, fluid where
    neither is. What is outside of the brain has the value 0 and is not scored. Grey values alone
    tell the tissues well: a case where k-means on pixels is hard to beat.

    Args:
        size: Height and width in pixels.

    Returns:
        Images, uint8 ``(N, 1, size, size)``, from the lowest slice to the top, the nose up; masks,
        uint8 ``(N, size, size)``, ``IGNORED`` outside; and the names of the tissues.

    Raises:
        InputError: If nilearn is not installed or the size is below 16.
    """
    if size < 16:
        raise InputError(f"brain slices of {size} x {size} pixels; give a size of at least 16")
    try:
        from nilearn import datasets
    except ImportError as error:
        raise InputError(
            "brain slices come from nilearn, which is not installed; "
            "pip install 'mixem-book[brain]'"
        ) from error
    names = ("load_mni152_template", "load_mni152_gm_template", "load_mni152_wm_template")
    volumes = [
        np.asarray(getattr(datasets, name)(resolution=1).dataobj, dtype=np.float32)
        for name in names
    ]
    # Axes are right, front, up; of a picture, down and right.
    picture, grey, white = (
        torch.from_numpy(np.ascontiguousarray(volume.transpose(2, 1, 0)[:, ::-1]))
        for volume in volumes
    )
    picture = picture / picture.max()
    chosen = (picture > 0).sum((1, 2)) >= LEAST
    picture, grey, white = (_square(volume[chosen], size) for volume in (picture, grey, white))
    masks = torch.full(picture.shape, TISSUES.index("fluid"), dtype=torch.uint8)
    masks[grey > 0.5] = TISSUES.index("grey matter")
    masks[white > 0.5] = TISSUES.index("white matter")
    images = (255 * picture).round().to(torch.uint8)
    masks[images == 0] = IGNORED
    return images[:, None], masks, TISSUES


def _square(slices: torch.Tensor, size: int) -> torch.Tensor:
    """``(N, H, W)`` with a black border that makes them square, resized to ``(N, size, size)``."""
    height, width = slices.shape[1:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    around = (left, side - width - left, top, side - height - top)
    square = F.pad(slices, around)[:, None]
    return F.interpolate(square, (size, size), mode="bilinear", antialias=True)[:, 0]
