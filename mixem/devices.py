"""Where a run computes, and with how many digits."""

import torch

from mixem.errors import InputError


def resolve_device(device: str) -> torch.device:
    """The device called ``device``; "auto" is a GPU where there is one.

    Raises:
        InputError: If the name means nothing or there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no device {device!r} here ({reason}); use --device auto") from error


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
