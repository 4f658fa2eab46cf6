"""What kind of images was given: one clear line where a set and a tensor are mixed up."""

import warnings
from typing import Any

import numpy as np
import torch

from mixem.errors import InputError

__all__ = ["check_channels", "check_set", "check_tensor", "check_vectors", "shared"]


def check_tensor(images: Any) -> torch.Tensor:
    """The images, a tensor.

    Raises:
        InputError: If they are an :class:`mixem.data.ImageSet`, an array or anything else.
    """
    if isinstance(images, torch.Tensor):
        return images
    kind = type(images).__name__
    advice = "torch.from_numpy(...) of it" if kind == "ndarray" else "a uint8 tensor (N, C, H, W)"
    if isinstance(getattr(images, "images", None), torch.Tensor):
        advice = "its tensor, which is called .images"
    raise InputError(f"images are of type {kind}; give {advice}")


def check_set(images: Any) -> Any:
    """The images, a set.

    Raises:
        InputError: If they are a tensor, an array or anything else.
    """
    if isinstance(getattr(images, "images", None), torch.Tensor):
        return images
    raise InputError(
        f"images are of type {type(images).__name__}; give an ImageSet, as load_images(...) and "
        "ImageSet.of(images, labels) make them"
    )


def check_channels(images: Any, channels: int) -> None:
    """Refuse images with another number of channels than a network takes.

    Args:
        images: A tensor ``(N, C, H, W)`` or an :class:`mixem.data.ImageSet`.
        channels: What the network takes.

    Raises:
        InputError: If C is another number.
    """
    found = images.shape[1] if isinstance(images, torch.Tensor) else images.channels
    pixels = images if isinstance(images, torch.Tensor) else images.images
    if found != channels and pixels.ndim == 2:
        raise InputError(
            f"features of {found} numbers for a run on features of {channels}; give those of the "
            "network that it was trained on"
        )
    if found != channels:
        raise InputError(
            f"images of {found} channel(s) for a network that takes {channels}; "
            f"load them with load_images(..., channels={channels})"
        )


def check_vectors(vectors: torch.Tensor) -> None:
    """Refuse features without a direction.

    Args:
        vectors: float16 ``(N, D)``.

    Raises:
        InputError: If a row is not finite or all zeros.
    """
    for what, bad in (
        ("not finite, or too large for float16", lambda x: ~x.isfinite().all(1)),
        ("all zeros", lambda x: ~x.any(1)),
    ):
        rows = torch.cat([bad(block) for block in vectors.split(8192)])
        if rows.any():
            raise InputError(
                f"row {int(rows.nonzero()[0])} of the features is {what} ({int(rows.sum())} of "
                f"{len(rows)} rows are); leave such pictures out, or compute the features anew"
            )


def shared(array: "np.ndarray[Any, Any]") -> torch.Tensor:
    """A tensor of the same memory, also of an array that nobody may write to.

    torch warns of such an array, a mapped file for instance, and nobody here writes to it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
