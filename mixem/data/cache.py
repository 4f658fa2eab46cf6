"""Decoded pixels of large folders, kept on disk: written, found again, listed, deleted."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mixem.data.checks import shared
from mixem.data.root import data_root
from mixem.errors import InputError

__all__ = ["CachedFolder", "delete_caches", "list_caches", "map_pixels", "write_cache"]

ABANDONED = 3600  # seconds without a write after which nobody is writing a cache any more


@dataclass(frozen=True)
class CachedFolder:
    """The pixels of a folder as it was when they were decoded.

    Attributes:
        path: Where they lie.
        folder: Absolute path of the folder; "" if it is not known (of an earlier version, or
            never finished).
        split: The part of it.
        size: Height and width of the pictures.
        channels: 1 or 3.
        pictures: How many.
        bytes: What the cache takes up on disk.
        written: When, in seconds since 1970.
        pad: Whether the pictures were padded to squares instead of cropped.
    """

    path: Path
    folder: str
    split: str
    size: int
    channels: int
    pictures: int
    bytes: int
    written: float
    pad: bool = False

    @property
    def of_use(self) -> bool:
        """Whether its folder is still there; if it has changed, the next reading finds out."""
        return bool(self.folder) and Path(self.folder).is_dir()


def list_caches(root: str | Path | None = None) -> list[CachedFolder]:
    """All caches of folders, by folder and then the newest first.

    Args:
        root: As in :func:`mixem.data.load_images`.
    """
    place = data_root(root) / "folders"
    try:
        found = [_described(path) for path in place.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"the caches in {str(place)!r} cannot be read: {error}") from error
    return sorted(found, key=lambda cache: (cache.folder, -cache.written))


def delete_caches(caches: Iterable[CachedFolder]) -> int:
    """Delete caches that :func:`list_caches` gave; what a running process has mapped stays whole.

    Returns:
        The bytes that are free now.

    Raises:
        InputError: If one cannot be deleted; those before it are.
    """
    freed = 0
    for cache in caches:
        try:
            shutil.rmtree(cache.path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(
                f"the cache {str(cache.path)!r} cannot be deleted: {error.strerror}"
            ) from error
        freed += cache.bytes
    return freed


def write_cache(
    place: Path,
    *,
    blocks: Iterable[NDArray[np.uint8]],
    changes: Iterable[tuple[int, NDArray[np.uint8]]],
    about: Callable[[], dict[str, Any]],
) -> None:
    """Write a cache beside its place and move it there in one step; earlier ones of it go.

    Args:
        place: The folder to make.
        blocks: Pixels ``(n, C, size, size)``.
        changes: Number and pixels of pictures to write anew when all blocks are written.
        about: What is known of it when all is written: folder, split, size, channels, pictures,
            and more.

    Raises:
        InputError: If it cannot be written.
    """
    unfinished = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=place.parent))
        with (unfinished / "pixels").open("w+b") as file:
            for block in blocks:
                file.write(np.ascontiguousarray(block).data)
            for row, picture in changes:
                file.seek(row * picture.size)
                file.write(np.ascontiguousarray(picture).data)
        (unfinished / "about.json").write_text(json.dumps(known := about()), encoding="utf-8")
        try:
            unfinished.replace(place)
        except OSError:
            if not place.is_dir():  # else another process was faster
                raise
    except OSError as error:
        raise InputError(
            f"the decoded pictures cannot be written to {str(place.parent)!r} "
            f"({error.strerror or error}); free space there or give another root"
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
    _delete_earlier(place, known)


def map_pixels(place: Path, *, size: int, channels: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """The images of a cache, mapped from the disk and not to be written to; what is known of it.

    Raises:
        InputError: If it is damaged.
    """
    try:
        about = json.loads((place / "about.json").read_text(encoding="utf-8"))
        shape = (about["pictures"], channels, size, size)
        if (place / "pixels").stat().st_size != int(np.prod(shape)):
            raise ValueError("wrong size")
    except (KeyError, OSError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise InputError(
                f"the cache {str(place)!r} cannot be read: {error.strerror}; mend that and try "
                "again"
            ) from error
        raise InputError(f"the cache {str(place)!r} is damaged; delete it") from error
    if not shape[0]:
        return torch.empty(shape, dtype=torch.uint8), about
    # Read-only: a private writable map ("c") of more than the machine's memory is refused by
    # Linux.
    return shared(np.memmap(place / "pixels", np.uint8, "r", shape=shape)), about


def _described(path: Path) -> CachedFolder:
    """What is known of a cache; nothing, if its description cannot be read."""
    try:
        about = json.loads((path / "about.json").read_text(encoding="utf-8"))
        names = ("folder", "split", "size", "channels", "pictures")
        known = {name: about[name] for name in names} | {"pad": about.get("pad", False)}
    except (KeyError, OSError, TypeError, ValueError):
        known = {"folder": "", "split": "", "size": 0, "channels": 0, "pictures": 0}
    status = [file.stat() for file in path.iterdir()]
    written = max((s.st_mtime for s in status), default=path.stat().st_mtime)
    return CachedFolder(path, **known, bytes=sum(s.st_size for s in status), written=written)


def _delete_earlier(place: Path, about: Mapping[str, Any]) -> None:
    """Delete the caches of earlier states of the same pictures."""
    keys = ("folder", "split", "size", "channels", "pad")
    same = tuple(about.get(key, False) for key in keys)  # some say nothing of padding
    for path in place.parent.iterdir():
        if path != place and path.is_dir() and not path.name.startswith("unfinished-"):
            cache = _described(path)
            if tuple(getattr(cache, key) for key in keys) == same:
                # Some systems do not delete what another process has mapped; the next one will.
                shutil.rmtree(path, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Delete what killed processes have left behind."""
    for path in folder.glob("unfinished-*"):
        if time.time() - _described(path).written > ABANDONED:
            shutil.rmtree(path, ignore_errors=True)
