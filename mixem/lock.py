"""One process at a time in a folder."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixem.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and hold it; inside, nobody else can.

    The system frees it when the process ends, even if it is killed. Windows and some network
    drives know no such lock; there nothing is held.

    Raises:
        InputError: If another process holds it.
    """
    handle = None
    with contextlib.suppress(OSError):  # who writes into the folder says what is wrong with it
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        if handle is not None and fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"another process is at work in {folder}; wait until it ends, or choose "
                    "another folder"
                ) from error
            except OSError:  # no such locks on this drive
                pass
        yield
    finally:
        if handle is not None:
            os.close(handle)
