"""What the losses refuse. Nothing here makes a GPU wait."""

from collections.abc import Mapping

import torch

from mixem.errors import InputError
from mixem.losses.precision import full_precision

__all__ = [
    "require_alike",
    "require_cosines",
    "require_floats",
    "require_matrix",
    "require_probabilities",
    "require_temperature",
]

ROUNDING = 0.02  # bfloat16 keeps 8 bits, and a mean of rounded rows is rounded again
LARGEST_SCORE = 2.0  # prototypes somewhat longer than 1 may be meant


def require_floats(name: str, x: object, *, ndim: tuple[int, ...] = (), expected: str) -> None:
    """Raise :class:`InputError` unless ``x`` is a non-empty floating-point tensor.

    Args:
        name: The argument's, for the message.
        x: What was given.
        ndim: How many dimensions it may have; () for any number from 1 on.
        expected: The shapes in words, for the message.
    """
    if not isinstance(x, torch.Tensor):
        raise InputError(
            f"{name} of type {type(x).__name__}; give a tensor, {expected}: "
            "torch.as_tensor makes one of an array"
        )
    fits = x.ndim in ndim if ndim else x.ndim > 0
    if not fits or 0 in x.shape or not x.is_floating_point():
        raise InputError(
            f"{name} of shape {tuple(x.shape)} and type {x.dtype}; "
            f"give non-empty floating-point numbers, {expected}"
        )


def require_alike(given: Mapping[str, object], *, ndim: tuple[int, ...], expected: str) -> None:
    """Raise :class:`InputError` unless two tensors, by name, are as above and of one shape."""
    for name, x in given.items():
        require_floats(name, x, ndim=ndim, expected=expected)
    (a, x), (b, y) = ((name, tuple(x.shape)) for name, x in given.items())  # type: ignore[attr-defined]
    if x != y:
        raise InputError(f"{a} of shape {x} and {b} of {y}; give equal shapes, {expected}")


def require_matrix(name: str, x: object) -> None:
    """Raise :class:`InputError` unless ``x`` is a non-empty floating-point matrix."""
    require_floats(name, x, ndim=(2,), expected="a matrix with one row per image")


def require_probabilities(name: str, p: torch.Tensor) -> None:
    """Raise :class:`InputError` where logits are given for probabilities, on a CPU.

    NaN is no mistake of this kind: a loss of NaN is NaN.
    """
    if not _at_hand(p):
        return
    rows = full_precision(p.detach())
    try:
        lowest, highest = (total.item() for total in rows.sum(-1).aminmax())
        least = rows.min().item()
    except RuntimeError:
        return
    if least < -ROUNDING or lowest < 1 - ROUNDING or highest > 1 + ROUNDING:
        raise InputError(
            f"rows of {name} have sums from {lowest:.4g} to {highest:.4g} and entries from "
            f"{least:.4g} on; give probabilities, as softmax makes of logits"
        )


def require_cosines(name: str, scores: torch.Tensor) -> None:
    """Raise :class:`InputError` where scores are far from cosines, on a CPU."""
    if not _at_hand(scores):
        return
    try:
        lowest, highest = (bound.item() for bound in scores.detach().aminmax())
    except RuntimeError:
        return
    if lowest < -LARGEST_SCORE or highest > LARGEST_SCORE:
        raise InputError(
            f"{name} go from {lowest:.4g} to {highest:.4g}; give cosines, of embeddings and "
            "prototypes of length 1 and not yet divided by the temperature"
        )


def require_temperature(temperature: float) -> None:
    """Raise :class:`InputError` unless a temperature and its inverse fit into float32."""
    if not 1e-30 <= temperature <= 1e30:
        raise InputError(f"temperature is {temperature}; give a positive number, 1e-30 to 1e30")


def _at_hand(x: torch.Tensor) -> bool:
    """Whether values can be looked at without waiting for a device or breaking a graph.

    Even then ``item`` raises RuntimeError where there are no values: FakeTensors and vmap.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
