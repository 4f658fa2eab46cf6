"""The arithmetic that losses share: full precision whatever autocast says, safe at 0."""

import torch

__all__ = ["entropy", "full_precision", "length"]


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """``x`` in float32, or unchanged if it already is float32 or float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def entropy(p: torch.Tensor) -> torch.Tensor:
    """- p ln p of each entry, 0 and with a finite gradient at 0.

    ln is taken of at least the smallest normal number, which changes the value by rounding alone.
    """
    return -p * p.clamp_min(torch.finfo(p.dtype).tiny).log()


def length(x: torch.Tensor) -> torch.Tensor:
    """Euclidean length of the vectors along the last dimension, which stays with size 1.

    Where squares overflow in float32 the vector is divided by a large number first. At 0, where a
    length has no derivative, all derivatives are 0; ``torch.linalg.vector_norm`` has NaN for the
    second.

    Args:
        x: ``(..., d)``, float32 or float64. What is shorter than 1e-18 counts as 0.
    """
    plain = torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True)
    scale = torch.where(plain.isinf(), 1e25, 1.0)
    nowhere = plain < 1e-18  # squares underflow
    inside = (x / scale).masked_fill(nowhere, 1)
    return (torch.linalg.vector_norm(inside, dim=-1, keepdim=True) * scale).masked_fill(nowhere, 0)
