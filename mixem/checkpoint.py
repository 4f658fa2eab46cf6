"""Files that are whole or absent: atomic writes, checkpoints, weights.

Nothing here unpickles arbitrary objects: checkpoints are read with ``weights_only=True``, weights
are safetensors, everything else is JSON.
"""

import errno
import json
import os
import secrets
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from mixem.errors import InputError, memory_is_full, reason

UNFINISHED = ".unfinished"  # ending of a file that is being written
# What helps where a file of a run is damaged: its training command alone would find the record.
ANEW = "restore it, or delete the folder and train again"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then put it in place in one step.

    A process killed at any moment leaves the old file or the new one, never a part. A link stays
    one, its target is replaced; what is no file, such as ``/dev/null``, is written to.

    Raises:
        InputError: If the folder cannot be written to or the disk is full; the old file stays.
    """
    special = path.exists() and not path.is_file() and not path.is_dir()
    if path.is_symlink() and not special:
        path = path.resolve()
    # Not tempfile's: its files are for the owner's eyes only, whatever the umask says.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}{UNFINISHED}"
    try:
        if special:
            write(path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        # torch.save makes a RuntimeError of a full disk; others are not the disk's.
        of_a_file = any(word in str(error) for word in ("inline_container", "PytorchStream"))
        if isinstance(error, RuntimeError) and not of_a_file:
            raise
        number = getattr(error, "errno", None)
        full = of_a_file or number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space or choose" if full else "choose"
        raise InputError(
            f"cannot write {path}: {reason(error)[:200]}; {advice} another folder with --out"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN is refused."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def read_json(path: Path, advice: str = "restore or delete it") -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        advice: What to do about a file that is damaged.

    Raises:
        InputError: If it is missing, cannot be read now, is not JSON, or holds a NaN or a number
            that is too large to be one.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(value, allow_nan=False)
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}; is the folder a finished run?") from error
    except OSError as error:  # of the rights or the machine: the file itself may be whole
        raise not_now(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {reason(error)[:200]}; {advice}") from error
    return value


def not_now(path: Path, error: OSError) -> InputError:
    """What to say of a file that may be whole."""
    why = error.strerror or reason(error)[:200]
    return InputError(f"cannot read {path}: {why}; mend that and try again")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically."""
    on_cpu = _on_cpu(state)  # before the file: an error of the GPU is not one of the disk
    write_atomically(path, lambda file: torch.save(on_cpu, file))


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(inner) for key, inner in value.items()}
    return [_on_cpu(inner) for inner in value] if isinstance(value, list) else value


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU.

    Raises:
        InputError: If the file is not such a checkpoint, a bit of it has changed, or it cannot be
            read now.
    """
    try:
        with zipfile.ZipFile(path) as file:  # whose sums torch.load does not compare
            if damaged := file.testzip():
                raise InputError(f"{damaged} in it is damaged")
    except OSError as error:
        raise not_now(path, error) from error
    except Exception as error:  # whatever a damaged file leads to
        if memory_is_full(error):
            raise
        raise InputError(
            f"cannot read {path}: {reason(error)[:200]}; delete it to start anew"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if memory_is_full(error):
            raise
        # Not PyTorch's own words, which recommend to run what is in it.
        raise InputError(
            f"cannot read {path}: it holds what no checkpoint does, and nothing of it was run; "
            "delete it to start anew"
        ) from error
    if not (isinstance(state, dict) and isinstance(state.get("identity", {}), dict)):
        raise InputError(f"{path} is not a checkpoint; delete it to start anew")
    return state


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's weights as safetensors, atomically."""
    tensors = {name: value.cpu().contiguous() for name, value in module.state_dict().items()}
    data = safetensors.torch.save(tensors)  # save_file would make the file readable for us only
    write_atomically(path, lambda file: file.write_bytes(data))


def load_weights(path: Path, module: nn.Module) -> None:
    """Load what :func:`save_weights` wrote; every name and shape has to fit.

    Raises:
        InputError: If the file is missing, damaged or of another network, or cannot be read now.
    """
    try:
        path.open("rb").close()  # safetensors says of a file without rights that it is not there
        module.load_state_dict(safetensors.torch.load_file(path))
    except FileNotFoundError as error:
        raise InputError(f"cannot read {path}: it is missing; {ANEW}") from error
    except OSError as error:
        raise not_now(path, error) from error
    except SafetensorError as error:
        raise InputError(f"cannot read {path}: {reason(error)[:200]}; {ANEW}") from error
    except RuntimeError as error:
        if memory_is_full(error):
            raise
        raise InputError(f"{path} holds another network: {reason(error)[:200]}") from error
