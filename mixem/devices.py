"""Where a run computes, and with how many digits."""

import torch

from mixem.errors import InputError, reason

__all__ = ["DEVICE_ERRORS", "resolve_device", "resolve_precision"]

# What a GPU raises by itself, such as a full memory. They are RuntimeErrors, as is much else.
DEVICE_ERRORS: tuple[type[BaseException], ...] = (
    torch.cuda.OutOfMemoryError,
    getattr(torch, "AcceleratorError", torch.cuda.OutOfMemoryError),
)


def resolve_device(device: str) -> torch.device:
    """The device called ``device``; "auto" is a GPU where there is one.

    Raises:
        InputError: If the name means nothing or there is no such device.
    """
    asked = device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError, ImportError) as error:
        instead = "cpu" if asked == "auto" else "auto"
        why = reason(error)[:100]
        raise InputError(f"no device {device!r} here ({why}); use --device {instead}") from error


def resolve_precision(precision: str, device: torch.device) -> str:
    """The precision called ``precision``; "auto" is bfloat16 on a GPU that has it, else float32.

    NVIDIA's have it from compute capability 8.0 on (Ampere, 2020); older ones such as the T4
    imitate it slowly, and their convolutions may not run at all.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise InputError(f"precision is {precision!r}; give auto, float32 or bfloat16")
    if precision == "auto":
        cuda = device.type == "cuda"
        able = cuda and (torch.version.hip or torch.cuda.get_device_capability(device) >= (8, 0))
        return "bfloat16" if able else "float32"
    return precision
