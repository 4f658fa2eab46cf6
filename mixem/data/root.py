"""Where data sets and caches lie."""

import os
from pathlib import Path

from mixem.errors import InputError

__all__ = ["data_root", "expanded"]


def data_root(root: str | Path | None = None) -> Path:
    """The folder of the data sets and caches: ``root``, ``$MIXEM_DATA`` or ``~/.cache/mixem``.

    Raises:
        InputError: If it lies in a home directory and there is none.
    """
    return expanded(root or os.environ.get("MIXEM_DATA") or "~/.cache/mixem")


def expanded(path: str | Path) -> Path:
    """The path with ``~`` replaced.

    Raises:
        InputError: If there is no such home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{str(path)!r} lies in a home directory that cannot be found; give another folder: "
            "root (--data) or the variable MIXEM_DATA for data and caches"
        ) from error
