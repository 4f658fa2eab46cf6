"""The arithmetic every loss shares: full precision, whatever autocast says."""

import torch

from mixem.errors import InputError


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """``x`` in float32, or unchanged if it already is float32 or float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def require_matrix(name: str, x: torch.Tensor) -> None:
    """Raise :class:`InputError` unless ``x`` is a non-empty floating-point matrix."""
    if x.ndim != 2 or 0 in x.shape or not x.is_floating_point():
        raise InputError(
            f"{name} has shape {tuple(x.shape)} and type {x.dtype}; "
            "expected a non-empty floating-point matrix with one row per image"
        )
