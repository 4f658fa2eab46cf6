"""Pictures copied or linked into a folder for each cluster.

Nothing is ever overwritten. Deleted is only what an earlier call put there, and only if it is a
link or still a copy of a picture that is there.
"""

import errno
import filecmp
import os
import re
import shutil
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from mixem.checkpoint import UNFINISHED, read_json, write_json
from mixem.data.root import expanded
from mixem.errors import InputError
from mixem.progress import bar
from mixem.sorting.table import ClusterTable

__all__ = ["Sorted", "sort_into"]

LIST = ".mixem-sorted.json"  # what was put into the folder, or was about to be
SECONDS = 2  # FAT keeps times no more finely
LONGEST = 255  # bytes of a name on most file systems
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


class Sorted(NamedTuple):
    """What :func:`sort_into` did.

    Attributes:
        folders: Name of each cluster's folder; an empty cluster has none.
        placed: Number of pictures copied or linked now.
        unchanged: Number of those that were in place already.
        missing: Files that are no longer there.
        kept: Files of an earlier call that are left as they are: they were changed since, or the
            picture that they are a copy of was changed or is gone.
    """

    folders: tuple[str, ...]
    placed: int
    unchanged: int
    missing: tuple[str, ...]
    kept: tuple[str, ...]


def sort_into(
    directory: str | Path,
    found: ClusterTable,
    *,
    folder: str | Path,
    how: Literal["copy", "link"] = "copy",
) -> Sorted:
    """Copy or link every picture into the folder of its cluster.

    Pictures of one name from different sub-folders become ``1.png``, ``1-2.png``, ... Called
    again, with these clusters or others, it changes what has to change; killed, it goes on.

    Args:
        directory: Where the clusters' folders are made: new, empty, or sorted into before.
        found: The clusters of the files.
        folder: What the files' paths begin at.
        how: "copy", or "link" for symbolic links, which need next to no space.

    Raises:
        InputError: If one of the two folders lies in the other, if the directory holds anything
            else, or cannot be written to, or if its file system is full or has no links.
    """
    if how not in ("copy", "link"):
        raise InputError(f"how is {how!r}; give 'copy' or 'link'")
    root, place = expanded(folder).resolve(), expanded(directory).resolve()
    if not root.is_dir():
        raise InputError(f"the folder of the pictures {str(root)!r} is not there; give it anew")
    if _lies_in(place, root) or _lies_in(root, place):
        raise InputError(
            f"cannot sort {str(root)!r} into {str(place)!r}, for one lies in the other, and copies "
            "would be read as further pictures; give a folder elsewhere"
        )
    before = _earlier(place, root)
    ours = {file: name for file, name in before.items() if _is_ours(place / file, root / name)}
    folders = _folder_names(found)
    missing = tuple(name for name in found.files if not (root / name).is_file())
    plan = _plan(found, folders, missing, taken=_files(place) - set(ours))
    kept = tuple(f for f in before if f not in ours and os.path.lexists(place / f))
    placed, file, temporary = 0, "", place / f".file{UNFINISHED}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # of a call that was killed
        # Written first, so that after a kill everything in place is known as ours.
        write_json(place / LIST, {"folder": str(root), "files": before | plan})
        for file, name in ours.items():
            if plan.get(file) != name or (place / file).is_symlink() != (how == "link"):
                (place / file).unlink()
        _remove_empty(place, {PurePosixPath(f).parts[0] for f in before} - set(folders))
        with bar(len(plan), "sorting") as shown:
            for file, name in plan.items():
                if not os.path.lexists(place / file):
                    _put(root / name, place / file, how=how, temporary=temporary)
                    placed += 1
                shown.update()
    except OSError as error:
        temporary.unlink(missing_ok=True)
        done = sum(os.path.lexists(place / target) for target in plan)
        advice = "free some space or make it writable"
        if how == "link" and error.errno in NO_LINKS:
            advice = "this file system seems to have no links: choose copies instead"
        raise InputError(
            f"cannot {how} to {str(place / file)!r}: {error.strerror or error}; {done} of "
            f"{len(plan)} pictures are in place and nothing is lost; {advice}, then do the same "
            "again to go on"
        ) from error
    write_json(place / LIST, {"folder": str(root), "files": {f: before[f] for f in kept} | plan})
    return Sorted(folders, placed, len(plan) - placed, missing, kept)


def _lies_in(inner: Path, outer: Path) -> bool:
    """Whether a folder, which need not exist yet, is another one or lies in it."""
    return outer.exists() and any(
        path.exists() and path.samefile(outer) for path in (inner, *inner.parents)
    )


def _earlier(place: Path, root: Path) -> dict[str, str]:
    """What an earlier call put into a folder: the picture's name for each file."""
    if not place.exists():
        return {}
    if not place.is_dir():
        raise InputError(f"{str(place)!r} is a file; give a new or an empty folder")
    if not (place / LIST).exists():
        if any(not entry.name.startswith(".") for entry in place.iterdir()):
            raise InputError(
                f"{str(place)!r} holds something else; give a new or an empty folder, or one "
                "that was sorted into before"
            )
        return {}
    known = read_json(place / LIST)
    try:
        other, files = known["folder"], dict(known["files"])
        inside = all(len(PurePosixPath(f).parts) == 2 and ".." not in f.split("/") for f in files)
    except (TypeError, ValueError, KeyError, AttributeError):
        other, files, inside = "", {}, False
    if not inside:
        raise InputError(f"{str(place / LIST)!r} is damaged; give a new folder")
    if other != str(root):
        raise InputError(
            f"{str(place)!r} holds pictures of {other!r}, not of {str(root)!r}; give a new folder"
        )
    return files


def _is_ours(file: Path, source: Path) -> bool:
    """Whether a file can be made again: a link to the picture, or a copy of what is there."""
    if file.is_symlink():
        return str(file.readlink()) == str(source)
    if not (file.is_file() and source.is_file()):
        return False
    a, b = file.stat(), source.stat()
    if a.st_size != b.st_size:
        return False
    return abs(a.st_mtime - b.st_mtime) <= SECONDS or filecmp.cmp(file, source, shallow=False)


def _files(place: Path) -> set[str]:
    """Everything in the clusters' folders, files or not."""
    return {path.relative_to(place).as_posix() for path in place.glob("*/*")}


def _folder_names(found: ClusterTable) -> tuple[str, ...]:
    """A name for each cluster that every file system takes, told apart by its number."""
    digits = len(str(max(found.k - 1, 0)))
    names = [re.sub(r"[^\w ()-]", "_", name)[:50].strip() for name in found.names]
    return tuple(
        f"{c:0{digits}}-{names[c]}" if found.names else f"cluster-{c:0{digits}}"
        for c in range(found.k)
    )


def _plan(
    found: ClusterTable, folders: tuple[str, ...], missing: tuple[str, ...], *, taken: set[str]
) -> dict[str, str]:
    """The picture's name for each file to be, the same for the same folder."""
    gone = set(missing)
    # "a.png" and "A.PNG" are one file on some systems.
    used = {file.casefold() for file in taken}
    last: Counter[str] = Counter()
    plan: dict[str, str] = {}
    for name, cluster in zip(found.files, found.clusters.tolist(), strict=True):
        if name in gone:
            continue
        path = PurePosixPath(name)
        file = first = f"{folders[cluster]}/{path.name}"
        while file.casefold() in used:
            last[first] += 1
            ending = f"-{last[first] + 1}{path.suffix}"
            stem = path.stem
            while len(os.fsencode(stem + ending)) > LONGEST:
                stem = stem[:-1]
            file = f"{folders[cluster]}/{stem}{ending}"
        used.add(file.casefold())
        plan[file] = name
    return plan


def _put(source: Path, file: Path, *, how: str, temporary: Path) -> None:
    """Copies or links one picture; the file is whole or not there."""
    file.parent.mkdir(exist_ok=True)
    if how == "link":
        file.symlink_to(source)
        return
    shutil.copyfile(source, temporary)
    status = source.stat()
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    temporary.rename(file)


def _remove_empty(place: Path, folders: set[str]) -> None:
    for folder in folders:
        if (place / folder).is_dir() and not any((place / folder).iterdir()):
            (place / folder).rmdir()
