"""Folders of pictures: found, decoded by many threads, cached on disk where they are too large."""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from tqdm import tqdm

from mixem.errors import InputError

# Pillow reads .heic only with a plug-in; it is here so that such photographs are named as skipped.
ENDINGS = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
SPLITS = ("train", "test", "val", "unlabeled")
BLOCK = 1024  # pictures decoded at a time: what is held in memory beside the result
DECODING = 2  # part of a cache's key; to be raised when the same file decodes differently
TURNS = {  # what makes a picture with this orientation entry upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MANY = 2000  # pictures from which on a progress bar is shown


class Folder(NamedTuple):
    """The pictures of a folder.

    Attributes:
        images: uint8 ``(N, C, size, size)``, mapped from a file if they are large.
        labels: int64 ``(N,)``, -1 for pictures outside the class folders; None if all are.
        class_names: Names of the class folders; () without labels.
        files: Path of each image relative to the folder, with "/".
        skipped: Relative path and reason, in one line, of each file that could not be read.
    """

    images: torch.Tensor
    labels: torch.Tensor | None
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


class _File(NamedTuple):
    """A file that should be a picture: its path below the root, and its class folder or ''."""

    name: str
    class_name: str


def read_folder(
    path: str | Path,
    *,
    split: str,
    size: int,
    channels: int,
    cache: Path,
    memory_limit: int,
) -> Folder:
    """Read the pictures below a folder.

    Sub-folders are classes, and what lies deeper belongs to the class above it; pictures beside
    the class folders are unlabelled. If the sub-folders are called train, test, val or unlabeled
    and one of them is train or test, they are splits with classes of their own. Hidden files and
    files without the ending of a picture are passed over.

    Args:
        path: The folder.
        split: One of its splits, several joined by "+", or "all". A folder without splits knows
            "all" and, meaning the same, "train+test", "train" and "unlabeled".
        size: Height and width; see :func:`decode`.
        channels: 1 or 3.
        cache: Folder for the decoded pixels of large folders.
        memory_limit: Bytes of decoded pixels from which on they go to the cache.

    Raises:
        InputError: If there is no such folder or split, if no picture can be read, or if the
            cache cannot be written.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        raise InputError(f"the folder {str(root)!r} {what}; give a folder of pictures")
    try:
        files, class_names = _list(root, split)
    except OSError as error:
        raise InputError(
            f"the folder {error.filename!r} cannot be read: {error.strerror}"
        ) from error
    if not files:
        raise InputError(
            f"no picture in {str(root)!r}; give a folder with files that end in .jpg, .png, ..."
        )
    if len(files) * channels * size**2 > memory_limit:
        images, skipped = _through_cache(root, files, size=size, channels=channels, cache=cache)
    else:
        images, skipped = _into_memory(root, files, size=size, channels=channels)
    if not len(images):
        first = "; ".join(f"{name!r}: {reason}" for name, reason in list(skipped.items())[:3])
        raise InputError(f"none of the {len(files)} pictures in {str(root)!r} is readable: {first}")
    good = [file for file in files if file.name not in skipped]
    number = {"": -1} | {name: i for i, name in enumerate(class_names)}
    labels = torch.tensor([number[file.class_name] for file in good])
    labelled = bool((labels >= 0).any())
    return Folder(
        images=images,
        labels=labels if labelled else None,
        class_names=class_names if labelled else (),
        files=tuple(file.name for file in good),
        skipped=tuple(skipped.items()),
    )


def decode(path: str | Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Decode one picture.

    It is turned upright as its EXIF entry says, its shorter side is resized (bilinear,
    antialiased) and its central square cut out. Transparent pixels become white, 16-bit pixels
    are scaled to 8 bits, of an animation the first frame counts.

    Args:
        path: The file.
        size: Height and width of the result.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 ``(channels, size, size)``.

    Raises:
        InputError: If the file is no whole picture; the message is the reason, without the path.
    """
    try:
        with Image.open(path) as picture:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and picture.width * picture.height > limit:
                raise InputError(
                    f"{picture.width} x {picture.height} pixels are more than Pillow's limit"
                )
            # JPEG can decode at a half, a quarter or an eighth; twice the size is kept for
            # antialiasing. Other formats ignore this.
            picture.draft(None, (2 * size, 2 * size))
            upright = _upright(picture)
            left = (upright.width - (side := min(upright.size))) / 2
            top = (upright.height - side) / 2
            square = _as_mode(upright, "L" if channels == 1 else "RGB").resize(
                (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
            )
    except InputError:
        raise
    # Pillow's readers raise whatever a broken file leads them to: OSError, SyntaxError,
    # ValueError, struct.error, IndexError, ...
    except Exception as error:
        raise InputError(_reason(error)) from error
    return np.asarray(square).reshape(size, size, channels).transpose(2, 0, 1)


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF entry says.

    Not by ``ImageOps.exif_transpose``, which writes all entries anew and fails where one of them,
    whichever, is odd.
    """
    picture.load()
    try:
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # entries that cannot be read say nothing
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _as_mode(picture: Image.Image, mode: str) -> Image.Image:
    """The picture as 8-bit "L" or "RGB"."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise InputError("32-bit pixels, whose range is not known")
        picture = Image.fromarray((values // 257).astype(np.uint8))
    elif picture.mode == "F":
        raise InputError("floating-point pixels, whose range is not known")
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert(mode)


def _reason(error: Exception) -> str:
    """One line on why a picture cannot be read."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow's limit"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _list(root: Path, split: str) -> tuple[list[_File], tuple[str, ...]]:
    """Files of a split in a fixed order, and the names of the classes of all splits."""
    own = {entry.name for entry in _entries(root) if _is_folder(entry)}
    has_splits = bool(own & {"train", "test"}) and own <= set(SPLITS)
    known = [name for name in SPLITS if name in own] if has_splits else []
    if not has_splits:
        if split not in ("all", "train+test", "train", "unlabeled"):
            raise InputError(
                f"the folder {str(root)!r} has no split {split!r}; give 'all', or put the "
                "pictures into sub-folders train and test"
            )
        files = list(_classified(root, root))
    else:
        wanted = known if split == "all" else split.split("+")
        if not set(wanted) <= set(known) or len(set(wanted)) < len(wanted):
            raise InputError(
                f"the folder {str(root)!r} has no split {split!r}; give 'all' or one of "
                f"{', '.join(known)}, or several joined by +"
            )
        by_split = {name: list(_classified(root, root / name)) for name in known}
        files = [file for name in wanted for file in by_split[name]]
        # Classes are numbered alike in every split, also where a class is missing.
        all_files = [file for name in known for file in by_split[name]]
        return files, tuple(sorted({file.class_name for file in all_files} - {""}))
    return files, tuple(sorted({file.class_name for file in files} - {""}))


def _classified(root: Path, folder: Path) -> Iterator[_File]:
    """Pictures of a folder whose sub-folders are classes: first its own, then class by class."""
    for entry in _entries(folder):
        if _is_picture(entry):
            yield _File(Path(entry.path).relative_to(root).as_posix(), "")
    for entry in _entries(folder):
        if _is_folder(entry):
            for path in _pictures(Path(entry.path), above=frozenset([_identity(folder)])):
                yield _File(path.relative_to(root).as_posix(), entry.name)


def _pictures(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Pictures at any depth; a link back to a folder further up is not followed."""
    if (identity := _identity(folder)) in above:
        return
    for entry in _entries(folder):
        if _is_picture(entry):
            yield Path(entry.path)
        elif _is_folder(entry):
            yield from _pictures(Path(entry.path), above | {identity})


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, by name."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to a file or to nothing, with the ending of a picture."""
    if not entry.name.lower().endswith(ENDINGS):
        return False
    if entry.is_symlink():
        target = Path(entry.path)
        return target.is_file() or not target.exists()
    return entry.is_file()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is not."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from another one, whatever links lead to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _decoded(
    root: Path, files: list[_File], *, size: int, channels: int
) -> Iterator[tuple[NDArray[np.uint8], dict[str, str]]]:
    """Block by block, the pixels ``(n, C, size, size)`` of the good files and the bad files."""
    Image.init()  # loads every format now; several threads doing so at once get in each other's way

    def attempt(file: _File) -> NDArray[np.uint8] | str:
        try:
            return decode(root / file.name, size, channels)
        except InputError as error:
            return str(error)

    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(
            total=len(files),
            desc="decoding",
            unit="images",
            disable=None if len(files) >= MANY else True,
        ) as bar,
    ):
        # Pillow warns of large pictures (skipped, and named) and of odd metadata (of no use).
        warnings.simplefilter("ignore")
        for start in range(0, len(files), BLOCK):
            block = files[start : start + BLOCK]
            results = list(pool.map(attempt, block))
            good = [result for result in results if not isinstance(result, str)]
            bad = {f.name: r for f, r in zip(block, results, strict=True) if isinstance(r, str)}
            bar.update(len(block))
            yield np.stack(good) if good else np.empty((0, channels, size, size), np.uint8), bad


def _into_memory(
    root: Path, files: list[_File], *, size: int, channels: int
) -> tuple[torch.Tensor, dict[str, str]]:
    """The images as a tensor in memory, and the files that cannot be read, with the reason."""
    images = torch.empty(len(files), channels, size, size, dtype=torch.uint8)
    skipped: dict[str, str] = {}
    count = 0
    for block, bad in _decoded(root, files, size=size, channels=channels):
        images[count : count + len(block)] = torch.from_numpy(block)
        count += len(block)
        skipped |= bad
    return images[:count], skipped


def _through_cache(
    root: Path, files: list[_File], *, size: int, channels: int, cache: Path
) -> tuple[torch.Tensor, dict[str, str]]:
    """The same, mapped from a file; decoded only if none of these files has changed."""
    key = hashlib.sha256(json.dumps([DECODING, str(root.resolve()), size, channels]).encode())
    for file in files:
        key.update(json.dumps([file.name, *_state(root / file.name)]).encode())
    place = cache / "folders" / key.hexdigest()[:32]
    if not place.is_dir():
        _write_cache(place, _decoded(root, files, size=size, channels=channels))
    try:
        skipped = json.loads((place / "skipped.json").read_text(encoding="utf-8"))
        shape = (len(files) - len(skipped), channels, size, size)
        if (place / "pixels").stat().st_size != int(np.prod(shape)):
            raise ValueError("wrong size")
    except (OSError, ValueError) as error:
        raise InputError(f"the cache {str(place)!r} is damaged; delete it") from error
    if not shape[0]:
        return torch.empty(shape, dtype=torch.uint8), skipped
    # Read-only: a private writable map ("c") of more than the machine's memory is refused by
    # Linux. torch warns that nobody may write to it, and nobody does.
    pixels = np.memmap(place / "pixels", np.uint8, "r", shape=shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(pixels), skipped


def _write_cache(place: Path, blocks: Iterator[tuple[NDArray[np.uint8], dict[str, str]]]) -> None:
    """Write pixels and skipped files beside the place and move them there in one step."""
    skipped: dict[str, str] = {}
    unfinished = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=place.parent))
        with (unfinished / "pixels").open("wb") as file:
            for block, bad in blocks:
                file.write(np.ascontiguousarray(block).data)
                skipped |= bad
        (unfinished / "skipped.json").write_text(json.dumps(skipped), encoding="utf-8")
        if not place.exists():  # another process may have been faster
            unfinished.replace(place)
    except OSError as error:
        raise InputError(
            f"the decoded pictures cannot be written to {str(place.parent)!r} "
            f"({error.strerror or error}); free space there or give another root"
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _state(path: Path) -> tuple[int, ...]:
    """Size and times of change of a file (contents, and rights), () if there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
