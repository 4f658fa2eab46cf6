"""Files that are whole or absent: atomic writes, checkpoints, weights.

Nothing here unpickles arbitrary objects: checkpoints are read with ``weights_only=True``, weights
are safetensors, everything else is JSON.
"""

import json
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from mixem.errors import InputError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then put it in place in one step.

    A process killed at any moment leaves the old file or the new one, never a part.

    Raises:
        InputError: If the folder cannot be written to or the disk is full; the old file stays.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write {path}: {error}; free some space or choose another folder with --out"
        ) from error
    except RuntimeError as error:  # what torch.save makes of a full disk
        raise InputError(f"cannot write {path}: {error}; is the disk full?") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN is refused."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}; is the folder a finished run?") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; restore or delete it") from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU.

    Raises:
        InputError: If the file is not such a checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot read {path}: {reason}; delete it to start anew") from error


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's weights as safetensors, atomically."""
    tensors = {name: value.contiguous() for name, value in module.state_dict().items()}
    write_atomically(path, lambda file: safetensors.torch.save_file(tensors, file))


def load_weights(path: Path, module: nn.Module) -> None:
    """Load what :func:`save_weights` wrote; every name and shape has to fit.

    Raises:
        InputError: If the file is missing, damaged or of another network.
    """
    try:
        module.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {path}: {error}; train the run again") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} holds another network: {reason}") from error
