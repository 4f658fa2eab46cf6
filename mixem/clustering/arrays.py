"""Checked arrays and numbers from whatever the caller holds."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mixem.errors import InputError

__all__ = ["as_features", "as_integers", "require_whole"]


def as_integers(values: ArrayLike | torch.Tensor, what: str, *, lowest: int) -> NDArray[np.int64]:
    """Returns a one-dimensional int64 array whose entries are at least ``lowest``.

    Args:
        values: (N,) integers.
        what: The name used in the message, such as "labels".
        lowest: The smallest number allowed.

    Raises:
        InputError: If ``values`` is empty, not one-dimensional, not integer, below ``lowest`` or
            above 2^63 - 1.
    """
    array = _to_numpy(values, what)
    if array.ndim != 1:
        raise InputError(f"{what} have shape {array.shape}: give one integer per image, shape (N,)")
    if array.size == 0:
        raise InputError(f"{what} are empty: give at least one image")
    if array.dtype.kind not in "iu":
        raise InputError(f"{what} are of type {array.dtype}: give integers")
    if array.min() < lowest:
        raise InputError(f"{what} contain {array.min()}: the smallest number allowed is {lowest}")
    if array.max() > np.iinfo(np.int64).max:
        raise InputError(
            f"{what} are of type {array.dtype} and contain {array.max()}: number them from 0 on"
        )
    return array.astype(np.int64)


def as_features(values: ArrayLike | torch.Tensor, what: str = "features") -> NDArray[np.float64]:
    """Returns a finite (N, D) float64 array.

    Raises:
        InputError: If ``values`` is empty, not two-dimensional, not numeric or not finite.
    """
    array = _to_numpy(values, what)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} are of type {array.dtype}: give real numbers")
    if array.ndim != 2:
        raise InputError(f"{what} have shape {array.shape}: give one row per image, shape (N, D)")
    if array.size == 0:
        raise InputError(f"{what} have shape {array.shape}: give at least one image and column")
    array = array.astype(np.float64)
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise InputError(
            f"{what} of {bad.sum()} of {len(array)} images are not finite, "
            f"first image {bad.argmax()}: the network has probably diverged"
        )
    return array


def require_whole(value: object, what: str, *, lowest: int, highest: float = np.inf) -> None:
    """Raises unless ``value`` is a whole number, Python's or NumPy's, in a range.

    Raises:
        InputError: If it is none, is True or False, or lies outside.
    """
    if (
        not isinstance(value, int | np.integer)
        or isinstance(value, bool)
        or not lowest <= value <= highest
    ):
        to = "on" if highest == np.inf else f"to {highest}"
        raise InputError(f"{what} is {value!r}: give a whole number from {lowest} {to}")


def _to_numpy(values: ArrayLike | torch.Tensor, what: str) -> NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = values.float() if values.dtype == torch.bfloat16 else values
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"{what} are no array: {error}") from error
