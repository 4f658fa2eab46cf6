"""Folders of pictures: found, decoded by many threads, cached on disk where they are too large."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mixem.data.cache import map_pixels, write_cache
from mixem.data.picture import (
    Picture,
    of_the_machine,
    optional_readers,
    pixel_limit,
    raised_limit,
    read_picture,
    top_of,
)
from mixem.data.root import data_root, expanded
from mixem.errors import InputError
from mixem.progress import bar

__all__ = ["ENDINGS", "Folder", "file_state", "list_folder", "list_pictures", "read_folder"]

# What Pillow reads; .heic only with a plug-in, without which such photographs are named as skipped.
ENDINGS = (
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".ico", ".j2k", ".jfif",
    ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png",
    ".pnm", ".ppm", ".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
SPLITS = ("train", "test", "val", "unlabeled")
SPELLINGS = {name: name for name in SPLITS} | {
    "training": "train", "testing": "test", "valid": "val", "validation": "val", "dev": "val",
    "unlabelled": "unlabeled",
}  # fmt: skip
# What archives, network drives and systems leave behind, beside what is hidden.
LEFTOVERS = (
    "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found",
    "Thumbs.db", "desktop.ini",
)  # fmt: skip
BLOCK = 1024  # pictures decoded at a time: what is held in memory beside the result
DECODING = 3  # part of a cache's key; to be raised when the same file decodes differently
DEEPEST = 100  # folders in each other; Python calls itself for each
NAMES_OF_KINDS = {"integer": "16-bit", "float": "floating-point"}
EMPTY = np.empty(0, np.uint8)


class Folder(NamedTuple):
    """The pictures of a folder.

    Attributes:
        images: uint8 ``(N, C, size, size)``, mapped from a file if they are large.
        labels: int64 ``(N,)``, -1 for pictures outside the class folders; None if all are, or if
            there is only one class.
        class_names: Names of the class folders; () without labels.
        files: Path of each image relative to the folder, with "/".
        skipped: Relative path and reason, in one line, of each file and sub-folder that could
            not be read.
        passed_over: Ending and number of the files that are no pictures by their ending, the most
            frequent first; "" for no ending.
        notes: What else is worth knowing, a line each: what white is in pictures of more than 8
            bits, channels that were left out.
    """

    images: torch.Tensor
    labels: torch.Tensor | None
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    passed_over: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


class _File(NamedTuple):
    """A file that should be a picture: its path below the root, and its class folder or ''."""

    name: str
    class_name: str


@dataclass
class _Found:
    """All that lies below a folder, as paths relative to it."""

    pictures: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass
class _Chosen:
    """The files of a split in a fixed order, and what belongs to them."""

    split: str
    files: list[_File]
    class_names: tuple[str, ...]
    elsewhere: set[str]  # classes of the other splits
    others: list[str]
    skipped: dict[str, str]


@dataclass
class _Outcome:
    """What reading found, beside the pixels."""

    pictures: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    deep: list[tuple[int, str, Picture]] = field(default_factory=list)  # row, file, without pixels
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)  # written at the end


def read_folder(
    path: str | Path,
    *,
    split: str,
    size: int,
    channels: int,
    cache: str | Path | None,
    memory_limit: int,
    max_pixels: int | None,
    pad: bool = False,
) -> Folder:
    """Read the pictures below a folder.

    Sub-folders are classes, and what lies deeper belongs to the class above it; pictures beside
    the class folders are unlabelled. Pictures in one sub-folder alone have no class. Sub-folders
    called train, test, val or unlabeled, in any spelling (Training, valid, validation, dev,
    unlabelled), are splits with classes of their own; others beside them are refused. Hidden
    files, what archives and network drives leave behind, and folders without pictures are passed
    over; files without the ending of a picture are counted.

    Args:
        path: The folder.
        split: One of its splits, several joined by "+", or "all". A folder without splits knows
            "all" and, meaning the same, "train+test", "train" and "unlabeled".
        size: Height and width; see :func:`mixem.data.decode`.
        channels: 1 or 3.
        cache: Folder for the decoded pixels of large folders; None for the default.
        memory_limit: Bytes of decoded pixels from which on they go to the cache.
        max_pixels: Skip pictures with more pixels; None for the limit that holds, Pillow's own but
            inside :func:`mixem.data.picture.pixel_limit`.
        pad: See :func:`mixem.data.decode`.

    Raises:
        InputError: If there is no such folder or split, if no picture can be read, or if the
            cache cannot be written.
    """
    root, chosen, passed_over = _listed(path, split)
    names = [file.name for file in chosen.files]
    reading = _Reading(root, names, size, channels, max_pixels, pad)
    if len(chosen.files) * channels * size**2 > memory_limit:
        images, outcome = reading.through_cache(data_root(cache), chosen.split)
    else:
        images, outcome = reading.into_memory()
    bad = outcome.skipped
    if not len(images):
        first = "; ".join(f"{name!r}: {reason}" for name, reason in list(bad.items())[:3])
        raise InputError(f"none of the {len(bad)} pictures in {str(root)!r} is readable: {first}")
    good = [file for file in chosen.files if file.name not in bad]
    labels, class_names = _labelled(chosen, good)
    return Folder(
        images=images,
        labels=labels,
        class_names=class_names,
        files=tuple(file.name for file in good),
        skipped=(*chosen.skipped.items(), *bad.items()),
        passed_over=passed_over,
        notes=tuple(outcome.notes),
    )


def list_folder(path: str | Path, *, split: str, bad: Mapping[str, str] | None = None) -> Folder:
    """What :func:`read_folder` says of a folder, without pixels; no picture is opened.

    Args:
        path: See :func:`read_folder`.
        split: See :func:`read_folder`.
        bad: Files that are known to be unreadable, and why.
    """
    bad = bad or {}
    _, chosen, passed_over = _listed(path, split)
    good = [file for file in chosen.files if file.name not in bad]
    labels, class_names = _labelled(chosen, good)
    unreadable = {file.name: bad[file.name] for file in chosen.files if file.name in bad}
    return Folder(
        images=torch.empty(0, dtype=torch.uint8),
        labels=labels,
        class_names=class_names,
        files=tuple(file.name for file in good),
        skipped=(*chosen.skipped.items(), *unreadable.items()),
        passed_over=passed_over,
        notes=(),
    )


def _listed(path: str | Path, split: str) -> tuple[Path, _Chosen, tuple[tuple[str, int], ...]]:
    """A folder, the files of a split, and what is passed over, by ending."""
    root = expanded(path)
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        raise InputError(f"the folder {str(root)!r} {what}; give a folder of pictures")
    try:
        found = _look_through(root)
    except OSError as error:
        raise InputError(
            f"the folder {error.filename!r} cannot be read: {error.strerror}"
        ) from error
    chosen = _choose(root, found, split)
    passed_over = _by_ending(chosen.others)
    if not chosen.files:
        raise InputError(_nothing(root, chosen, passed_over))
    return root, chosen, passed_over


def _labelled(chosen: _Chosen, good: list[_File]) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """Labels and class names of the readable files of a split."""
    number = {"": -1} | {name: i for i, name in enumerate(chosen.class_names)}
    labels = torch.tensor([number[file.class_name] for file in good])
    # Where there is only one class there is nothing to tell apart, and nothing to score.
    classes = {file.class_name for file in good} - {""}
    labelled = bool(classes) and len(classes | chosen.elsewhere) > 1
    return (labels, chosen.class_names) if labelled else (None, ())


def list_pictures(root: Path) -> tuple[str, ...]:
    """Paths below a folder of all files that end like a picture, at any depth, by name.

    Raises:
        InputError: If there is no such folder, or none that can be read.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {str(root)!r}; give a folder of pictures")
    try:
        return tuple(_look_through(root).pictures)
    except OSError as error:
        raise InputError(f"the folder {str(root)!r} cannot be read: {error.strerror}") from error


# What is there ----------------------------------------------------------------------------------


def _look_through(root: Path) -> _Found:
    """All that lies below a folder and is not hidden, at every level by name."""
    found = _Found()

    def visit(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        try:
            entries, identity = _entries(folder), _identity(folder)
        except OSError as error:
            if not prefix or of_the_machine(error):
                raise
            found.unreadable[prefix[:-1]] = error.strerror or str(error)
            return
        if identity in above:  # a link back to a folder further up
            return
        if len(above) > DEEPEST:
            found.unreadable[prefix[:-1]] = f"more than {DEEPEST} folders deep"
            return
        for entry in entries:
            name = prefix + entry.name
            if _is_folder(entry):
                visit(Path(entry.path), f"{name}/", above | {identity})
            elif not entry.name.lower().endswith(ENDINGS):
                found.others.append(name)
            elif _is_file(entry):
                found.pictures.append(name)

    visit(root, "", frozenset())
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and neither hidden nor a leftover, by name."""
    with os.scandir(folder) as entries:
        shown = [e for e in entries if not e.name.startswith(".") and e.name not in LEFTOVERS]
    return sorted(shown, key=lambda entry: entry.name)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to a file or to nothing."""
    if entry.is_symlink():
        target = Path(entry.path)
        return target.is_file() or not target.exists()
    return entry.is_file()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is not."""
    try:
        return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()
    except OSError as error:  # a link into a folder without rights
        if of_the_machine(error):
            raise
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from another one, whatever links lead to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


# Splits and classes -----------------------------------------------------------------------------


def _choose(root: Path, found: _Found, split: str) -> _Chosen:
    """The files of a split."""
    folders = _splits(root, found)
    if not folders:
        if split not in ("all", "train+test", "train", "unlabeled"):
            raise InputError(
                f"the folder {str(root)!r} has no split {split!r}; give 'all', or put the "
                "pictures into sub-folders train and test"
            )
        files = _classified(found.pictures, "")
        names = {file.class_name for file in files} - {""}
        skipped = found.unreadable
        return _Chosen("all", files, tuple(sorted(names)), set(), found.others, skipped)
    known = [name for name in SPLITS if name in folders]
    wanted = known if split == "all" else [SPELLINGS.get(s.lower(), s) for s in split.split("+")]
    if not set(wanted) <= set(known) or len(set(wanted)) < len(wanted):
        raise InputError(
            f"the folder {str(root)!r} has no split {split!r}; give 'all' or one of "
            f"{', '.join(known)}, or several joined by +"
        )
    by_split = {name: _classified(found.pictures, f"{folders[name]}/") for name in known}
    classes = {name: {f.class_name for f in files} - {""} for name, files in by_split.items()}
    inside = tuple(f"{folders[name]}/" for name in wanted)
    beside = f"lies beside the splits {', '.join(folders[name] for name in known)}"
    return _Chosen(
        split="+".join(wanted),
        files=[file for name in wanted for file in by_split[name]],
        # Classes are numbered alike in every split, also where a class is missing.
        class_names=tuple(sorted(set().union(*classes.values()))),
        elsewhere=set().union(*(classes[name] for name in known if name not in wanted)),
        others=[name for name in found.others if name.startswith(inside)],
        skipped={name: beside for name in found.pictures if "/" not in name}
        | {k: v for k, v in found.unreadable.items() if f"{k}/".startswith(inside)},
    )


def _splits(root: Path, found: _Found) -> dict[str, str]:
    """The folders that are splits, by the name of the split; {} if sub-folders are classes."""
    tops = sorted({name.partition("/")[0] for name in found.pictures if "/" in name})
    folders: dict[str, str] = {}
    for top in tops:
        if name := SPELLINGS.get(top.lower()):
            if name in folders:
                raise InputError(
                    f"{folders[name]!r} and {top!r} in {str(root)!r} are both the split {name}; "
                    "put their pictures into one of them"
                )
            folders[name] = top
    if not (beside := [top for top in tops if top not in folders.values()]):
        return folders
    # "train" beside "bus" and "plane" may well be a class: not so if it has classes itself, or if
    # there is another such name.
    three = {name: folder for name, folder in folders.items() if name != "unlabeled"}
    inner = tuple(f"{folder}/" for folder in three.values())
    deeper = any(name.count("/") > 1 and name.startswith(inner) for name in found.pictures)
    if len(three) > 1 or (three and deeper):
        shown = ", ".join(repr(name) for name in beside[:5]) + (", ..." if beside[5:] else "")
        raise InputError(
            f"the folder {str(root)!r} has {', '.join(map(repr, three.values()))} and beside it "
            f"{shown}, neither a split nor a class; move that elsewhere, or give the folder of "
            "one split"
        )
    return {}


def _classified(pictures: list[str], prefix: str) -> list[_File]:
    """Pictures of a folder whose sub-folders are classes: first its own, then class by class."""
    files = []
    for name in pictures:
        if name.startswith(prefix):
            first, slash, _ = name[len(prefix) :].partition("/")
            files.append(_File(name, first if slash else ""))
    return sorted(files, key=lambda file: file.class_name)  # within a class as they were found


def _by_ending(names: list[str]) -> tuple[tuple[str, int], ...]:
    """Endings and how often they occur, the most frequent first."""
    endings = Counter(Path(name).suffix.lower() for name in names)
    return tuple(sorted(endings.items(), key=lambda row: (-row[1], row[0])))


def _nothing(root: Path, chosen: _Chosen, passed_over: tuple[tuple[str, int], ...]) -> str:
    """What to say of a folder without a picture."""
    there = [f"{number} {ending or 'without an ending'}" for ending, number in passed_over[:3]]
    there += [f"{name!r}: {reason}" for name, reason in list(chosen.skipped.items())[:3]]
    what = f" (but {', '.join(there)})" if there else ""
    return (
        f"no picture in {str(root)!r}{what}; give a folder with files that end in .jpg, .png, ..."
    )


# Reading ----------------------------------------------------------------------------------------


class _Reading(NamedTuple):
    """Files to be decoded alike."""

    root: Path
    names: list[str]
    size: int
    channels: int
    max_pixels: int | None
    pad: bool

    def into_memory(self) -> tuple[torch.Tensor, _Outcome]:
        """The images as a tensor in memory."""
        outcome = _Outcome()
        shape = (len(self.names), self.channels, self.size, self.size)
        images = torch.empty(shape, dtype=torch.uint8)
        pixels = images.numpy()
        for block in self.blocks(outcome):
            pixels[outcome.pictures - len(block) : outcome.pictures] = block
        for row, picture in self.changes(outcome):
            pixels[row] = picture
        return images[: outcome.pictures], outcome

    def through_cache(self, root: Path, split: str) -> tuple[torch.Tensor, _Outcome]:
        """The same, mapped from a file; decoded only if none of these files has changed."""
        folder = str(self.root.resolve())
        limit = self.max_pixels or raised_limit()
        what = [DECODING, folder, self.size, self.channels, limit, *["pad"] * self.pad]
        what += optional_readers(self.names)
        key = hashlib.sha256(json.dumps(what).encode())
        for name in self.names:
            key.update(json.dumps([name, *file_state(self.root / name)]).encode())
        place = root / "folders" / key.hexdigest()[:32]
        if not place.is_dir():
            outcome = _Outcome()
            about = {
                "folder": folder, "split": split, "size": self.size, "channels": self.channels,
                "pad": self.pad,
            }  # fmt: skip
            write_cache(
                place,
                blocks=self.blocks(outcome),
                changes=self.changes(outcome),
                about=lambda: (
                    about
                    | {name: getattr(outcome, name) for name in ("pictures", "skipped", "notes")}
                ),
            )
        images, known = map_pixels(place, size=self.size, channels=self.channels)
        return images, _Outcome(len(images), known["skipped"], notes=known["notes"])

    def blocks(self, outcome: _Outcome) -> Iterator[NDArray[np.uint8]]:
        """Block by block, the pixels ``(n, C, size, size)`` of the good files."""
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            self._quietly(),
            bar(len(self.names), "decoding") as shown,
        ):
            for start in range(0, len(self.names), BLOCK):
                names = self.names[start : start + BLOCK]
                block: list[NDArray[np.uint8]] = []
                for name, result in zip(names, pool.map(self.attempt, names), strict=True):
                    shown.update()
                    if isinstance(result, str):
                        outcome.skipped[name] = result
                        continue
                    if result.kind:
                        row = outcome.pictures + len(block)
                        outcome.deep.append((row, name, result._replace(pixels=EMPTY)))
                    if result.note:
                        outcome.left_out[result.note] += 1
                    block.append(result.pixels)
                outcome.pictures += len(block)
                if block:
                    yield np.stack(block)

    def changes(self, outcome: _Outcome) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Pictures of more than 8 bits that were scaled otherwise than their folder has to be.

        What white is follows from all pictures, and is known when all are read: a dark picture
        among brighter ones stays dark.
        """
        peaks: dict[str, float] = {}
        for _, _, deep in outcome.deep:
            peaks[deep.kind] = max(peaks.get(deep.kind, 0.0), deep.peak)
        tops = {kind: top_of(peak) for kind, peak in peaks.items()}
        with self._quietly():
            for row, name, deep in outcome.deep:
                if top_of(deep.peak) != tops[deep.kind]:
                    result = self.attempt(name, tops)
                    if isinstance(result, str):
                        raise InputError(f"{name!r} has changed while it was read: {result}")
                    yield row, result.pixels
        for kind, top in tops.items():
            count = sum(deep.kind == kind for _, _, deep in outcome.deep)
            if (kind, top) != ("integer", 65535):
                outcome.notes.append(
                    f"white is {top} in {count} {NAMES_OF_KINDS[kind]} picture(s), whose values "
                    f"reach {peaks[kind]:g}"
                )
        outcome.notes.extend(f"{note} of {n} file(s)" for note, n in outcome.left_out.items())

    def attempt(self, name: str, tops: Mapping[str, int] | None = None) -> Picture | str:
        """A picture, or the reason why it cannot be read."""
        try:
            return read_picture(self.root / name, self.size, self.channels, tops, pad=self.pad)
        except InputError as error:
            return str(error)
        except OSError as error:
            raise InputError(
                f"{name!r} cannot be read now: {error.strerror}; that is a fault of the machine, "
                "mend it and try again"
            ) from error

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Pillow warns of large pictures (skipped, and named) and of odd metadata (of no use)."""
        Image.init()  # loads every format now; threads doing so at once get in each other's way
        with warnings.catch_warnings(), pixel_limit(self.max_pixels):
            warnings.simplefilter("ignore")
            yield


def file_state(path: Path) -> tuple[int, ...]:
    """Size and times of change of a file (contents, and rights), () if there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
