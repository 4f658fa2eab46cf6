"""Where a run computes, and with how many digits."""

import os

import torch

from mixem.errors import InputError, reason

__all__ = ["DEVICE_ERRORS", "resolve_device", "resolve_precision"]

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
# What a GPU raises by itself, such as a full memory. They are RuntimeErrors, as is much else.
DEVICE_ERRORS: tuple[type[BaseException], ...] = (
    torch.cuda.OutOfMemoryError,
    getattr(torch, "AcceleratorError", torch.cuda.OutOfMemoryError),
)


def resolve_device(device: str) -> torch.device:
    """The device called ``device``; "auto" is ``$MIXEM_DEVICE``, or a GPU where there is one.

    Raises:
        InputError: If the name means nothing or there is no such device.
    """
    asked = device
    if device == "auto":
        gpu = "cuda" if torch.cuda.is_available() else "cpu"
        device = os.environ.get("MIXEM_DEVICE") or gpu
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError, ImportError) as error:
        instead = "cpu" if asked == "auto" else "auto"
        why = reason(error)[:100]
        raise InputError(f"no device {device!r} here ({why}); use --device {instead}") from error


def resolve_precision(precision: str, device: torch.device) -> str:
    """The precision called ``precision``; "auto" is the fastest safe one of the device.

    That is bfloat16 on a GPU that has it, NVIDIA's from compute capability 8.0 on (Ampere, 2020).
    All others, and a CPU, have float32. float16, with a scaler for the gradients, is fast on a T4
    or a V100; ask for it, nobody has measured yet what it costs in accuracy.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; give {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "float32"
    new = torch.version.hip or torch.cuda.get_device_capability(device) >= (8, 0)
    return "bfloat16" if new else "float32"
