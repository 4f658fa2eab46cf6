"""One picture file: decoded, upright, in sRGB, 8 bits, a square."""

import errno
import importlib
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, features

from mixem.data.operations import pad_to_square
from mixem.errors import InputError, reason

__all__ = [
    "Picture", "decode", "of_the_machine", "open_picture", "optional_readers", "pixel_limit",
    "raised_limit", "read_picture", "top_of", "upright_size",
]  # fmt: skip

TURNS = {  # what makes a picture with this orientation entry upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = [TURNS[entry] for entry in (5, 6, 7, 8)]  # width and height change places
# What white may be in pictures of more than 8 bits: one, or what 8, 10, 12, 14, 16 bits hold.
TOPS = (1, 255, 1023, 4095, 16383, 65535)
# Readers that scale what they read to 16 bits by the range that the file states.
SCALED = ("PPM", "JPEG2000")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIF_ENDINGS, AVIF_ENDINGS = (".heic", ".heif", ".hif"), (".avif",)
# Faults of the machine or of a network drive, and not of the file.
MACHINE = (
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EBUSY,
    errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH,
)  # fmt: skip
PILLOWS = Image.MAX_IMAGE_PIXELS  # about 89 million pixels
# Pixels that all threads together decode at a time; a larger picture is decoded alone. A pixel
# with transparency needs 14 bytes meanwhile.
BUDGET = 50_000_000
SRGB_TOLERANCE = 4  # levels by which a profile may move a colour and still be called sRGB


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        pixels: uint8 ``(C, size, size)``.
        kind: "integer" or "float" if the file has more than 8 bits and does not say what white
            is, else "".
        peak: Its greatest value then.
        note: What was left out of it, "" if nothing.
    """

    pixels: NDArray[np.uint8]
    kind: str = ""
    peak: float = 0.0
    note: str = ""


def decode(
    path: str | Path,
    size: int,
    channels: int,
    *,
    max_pixels: int | None = None,
    pad: bool = False,
) -> NDArray[np.uint8]:
    """Decode one picture.

    It is turned upright as its EXIF entry says, its shorter side is resized (bilinear,
    antialiased), its central square cut out, and colours with a profile of their own (Display P3
    of phones) become sRGB. Transparent pixels become white, of an animation the first frame
    counts. Pixels of more than 8 bits are scaled: white is 1, or the greatest number of 8, 10, 12,
    14 or 16 bits, whichever is the first that no value exceeds; in a folder, no value of any
    picture.

    Args:
        path: The file.
        size: Height and width of the result.
        channels: 3 for RGB, 1 for grey.
        max_pixels: Refuse a picture with more pixels; None for Pillow's own limit.
        pad: Resize the longer side instead, and add what is missing of a square, in
            the mean colour of the rim.

    Returns:
        uint8 ``(channels, size, size)``.

    Raises:
        InputError: If the file is no whole picture, or a stack of pictures, or its values say
            nothing about black and white; the message is the reason, without the path.
    """
    with pixel_limit(max_pixels):
        return read_picture(path, size, channels, pad=pad).pixels


@contextmanager
def pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """Set Pillow's limit, which holds for the whole process, and set it back.

    Raises:
        InputError: For a limit below 1.
    """
    if max_pixels is not None and max_pixels < 1:
        raise InputError(f"max_pixels is {max_pixels}; give at least 1")
    before = Image.MAX_IMAGE_PIXELS
    if max_pixels is not None:
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def raised_limit() -> int | None:
    """The limit that holds, None for Pillow's own: part of the key of what is kept."""
    return None if Image.MAX_IMAGE_PIXELS == PILLOWS else Image.MAX_IMAGE_PIXELS


def of_the_machine(error: BaseException | None) -> bool:
    """Whether a file may be whole although it cannot be read now.

    >>> of_the_machine(OSError(errno.EMFILE, "")), of_the_machine(PermissionError(errno.EACCES, ""))
    (True, False)
    """
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in MACHINE)


def optional_readers(names: Iterable[str]) -> list[str]:
    """What reads such files here and elsewhere does not: part of the key of what is kept.

    Who installs a plug-in later has his pictures read then.
    """
    endings = {Path(name).suffix.lower() for name in names}
    heif = not endings.isdisjoint(HEIF_ENDINGS) and _heif_can_be_read()
    with warnings.catch_warnings(action="ignore"):  # an earlier Pillow does not know the word
        avif = not endings.isdisjoint(AVIF_ENDINGS) and features.check("avif") is True
    return ["heif"] * heif + ["avif"] * avif


def top_of(peak: float) -> int:
    """What white is where the greatest value is ``peak``."""
    return next(top for top in TOPS if peak <= top)


def read_picture(
    path: str | Path,
    size: int,
    channels: int,
    tops: Mapping[str, int] | None = None,
    *,
    pad: bool = False,
) -> Picture:
    """Decode one picture of many; see :func:`decode`.

    Args:
        path: The file.
        size: Height and width of the result.
        channels: 3 for RGB, 1 for grey.
        tops: What white is, by kind of picture; else each picture speaks for itself.
        pad: See :func:`decode`.

    Raises:
        InputError: As :func:`decode`.
        OSError: If the machine is at fault: too many open files, a disk that fails.
        MemoryError: If the memory is full.
    """
    with _opened(path, size) as (picture, note):
        return _squared(picture, size, channels, tops or {}, note, pad)


def open_picture(path: str | Path, size: int) -> Image.Image:
    """A whole picture for a network: upright, RGB, sRGB.

    Args:
        path: The file.
        size: What it will be resized to; large JPEG files are decoded at about twice that.

    Raises:
        InputError: As :func:`decode`.
        OSError: As :func:`read_picture`.
        MemoryError: Likewise.
    """
    with _opened(path, size) as (picture, note):
        return _whole(picture, note)


def upright_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture that can be read, as it is seen."""
    with _open(path) as picture:
        return picture.size[::-1] if _turn(picture) in SIDEWAYS else picture.size


@contextmanager
def _opened(path: str | Path, size: int) -> Iterator[tuple[Image.Image, str]]:
    """A picture to be decoded, and what is said of channels that are left out of it."""
    try:
        with _open(path) as picture:
            _require_within_limit(picture)
            note = _pages_and_channels(picture)
            # JPEG can decode at a half, a quarter or an eighth; twice the size is kept for
            # antialiasing. Other formats ignore this.
            picture.draft(None, (2 * size, 2 * size))
            with _BUDGET.of(picture.width * picture.height):
                yield picture, note
    except (InputError, MemoryError):
        raise
    # Pillow's readers raise whatever a broken file leads them to: OSError, SyntaxError,
    # ValueError, struct.error, IndexError, ...
    except Exception as error:
        if of_the_machine(error):
            raise
        raise InputError(_reason(error)) from error


def _require_within_limit(picture: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit and (pixels := picture.width * picture.height) > limit:
        raise InputError(f"{picture.width} x {picture.height} pixels {_TOO_MANY} {pixels}")


def _whole(picture: Image.Image, note: str) -> Image.Image:
    """The picture upright, RGB, sRGB."""
    upright, _, _ = _eight_bits(picture, {}, note)
    colours = _colours(upright)
    if colours is None:
        return _as_mode(upright, "RGB")
    whole = upright if upright.mode == "CMYK" else _as_mode(upright, "RGB")
    turned = ImageCms.applyTransform(whole, colours)
    assert turned is not None
    return turned.convert("RGB")


def _squared(
    picture: Image.Image, size: int, channels: int, tops: Mapping[str, int], note: str, pad: bool
) -> Picture:
    """The picture upright, as 8 bits, its central square or the padded whole resized."""
    upright, kind, peak = _eight_bits(picture, tops, note)
    left = (upright.width - (side := min(upright.size))) / 2
    top = (upright.height - side) / 2
    box = None if pad else (left, top, left + side, top + side)
    shrink = size / max(upright.size) if pad else 0
    width, height = (max(1, round(length * shrink)) if pad else size for length in upright.size)
    colours = _colours(upright)
    mode = "L" if channels == 1 else "RGB"
    if colours is None:
        square = _as_mode(upright, mode)
    else:  # on the small square, for that is cheap
        square = upright if upright.mode == "CMYK" else _as_mode(upright, "RGB")
    square = square.resize((width, height), Image.Resampling.BILINEAR, box=box)
    if colours is not None:
        square = ImageCms.applyTransform(square, colours).convert(mode)  # type: ignore[union-attr]
    pixels = np.asarray(square).reshape(height, width, channels).transpose(2, 0, 1)
    if width != height:
        pixels = pad_to_square(torch.from_numpy(pixels.copy())[None])[0].numpy()
    return Picture(pixels, kind, peak, note)


def _open(path: str | Path) -> Image.Image:
    """Open a picture, whatever its name ends in."""
    try:
        return Image.open(path)
    except Image.UnidentifiedImageError as error:
        with Path(path).open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:] in HEIF_BRANDS:
            if _heif_can_be_read():
                return Image.open(path)
            raise InputError("a HEIC photograph; install pillow-heif to read it") from error
        if head[4:8] == b"ftyp" and head[8:] in (b"avif", b"avis"):
            raise InputError("an AVIF picture; install Pillow 11.3 or later to read it") from error
        if head[:4] in (b"II*\0", b"MM\0*"):
            raise InputError(_odd_tiff(path)) from error
        raise


@cache
def _heif_can_be_read() -> bool:
    """Whether pillow-heif is installed; Pillow knows of it from then on."""
    try:
        plugin = importlib.import_module("pillow_heif")  # not among the dependencies
    except ModuleNotFoundError:  # another ImportError is a fault of what is installed
        return False
    plugin.register_heif_opener()
    return True


def _odd_tiff(path: str | Path) -> str:
    """Why Pillow does not know a TIFF's kind of pixels."""
    with Path(path).open("rb") as file:
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bits, samples = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)), tags.get(277, 1)
    return f"a TIFF of {samples} channel(s) of {bits[0]} bits; save it as RGB or grey of 8 bits"


def _pages_and_channels(picture: Image.Image) -> str:
    """Refuse a stack; what is said of channels that are left out, else ""."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return ""
    if (pages := picture.n_frames) > 1:
        picture.seek(1)
        reduced_or_mask = picture.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & 5
        picture.seek(0)
        if not reduced_or_mask:
            raise InputError(f"a stack of {pages} pictures; save each as a file of its own")
    samples = picture.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    # Pillow takes a fourth channel of unknown meaning (infrared, say) for transparency.
    transparency = picture.mode != "RGB" and TiffImagePlugin.EXTRASAMPLES in picture.tag_v2
    if picture.mode in ("RGB", "RGBA") and samples > 3 and not transparency:
        return f"the first 3 of {samples} channels were read"
    return ""


def _eight_bits(
    picture: Image.Image, tops: Mapping[str, int], note: str
) -> tuple[Image.Image, str, float]:
    """The picture upright, as 8 bits; of a deeper one also its kind and its greatest value.

    Turned not by ``ImageOps.exif_transpose``, which writes all entries anew and fails where one of
    them, whichever, is odd.
    """
    sixteen = ";16" in str(getattr(picture, "tile", [])[:1])  # of which nothing is left when loaded
    known = picture.format in SCALED
    picture.load()
    turn = _turn(picture)
    upright = picture if turn is None else picture.transpose(turn)
    if note:
        upright = upright.convert("RGB")
    if upright.mode.startswith("I") or upright.mode == "F":
        return _as_bytes(upright, tops, known)
    if sixteen:
        _check_deep_colour(upright)
    return upright, "", 0.0


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What makes a picture upright, as its EXIF entry says; None for nothing."""
    try:
        return TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # entries that cannot be read say nothing
        if of_the_machine(error):
            raise
        return None


def _as_bytes(
    picture: Image.Image, tops: Mapping[str, int], known: bool
) -> tuple[Image.Image, str, float]:
    """A picture of more than 8 bits as grey of 8 bits, its kind, and its greatest value."""
    values = np.asarray(picture)
    least, most = float(values.min()), float(values.max())
    name = "floating-point" if picture.mode == "F" else "32-bit"
    if not (least >= 0 and most <= TOPS[-1]):  # also where there are values that are no number
        raise InputError(
            f"{name} pixels from {least:g} to {most:g}; save it as grey of 8 or 16 bits"
        )
    kind = "float" if picture.mode == "F" else "integer"
    top = TOPS[-1] if known else tops.get(kind, top_of(most))
    scaled = values * 255.0 if kind == "float" else values.astype(np.int64) * 255
    grey = Image.fromarray((scaled // top).astype(np.uint8))
    return (grey, "", 0.0) if known else (grey, kind, most)


def _check_deep_colour(picture: Image.Image) -> None:
    """Refuse colours of 16 bits, of which Pillow keeps the upper 8, where these are nearly empty.

    A quarter of the range is what 14 bits in 16 fill. Such a file would come out black.
    """
    values = np.asarray(picture)
    most = values[..., : 1 if picture.mode == "LA" else 3].max()
    if 0 < most < 64:
        raise InputError(
            "colours of 16 bits that fill a quarter of their range at most; save it as 8 bits"
        )


def _colours(picture: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """What turns the picture's colours into sRGB, None if nothing is to be done."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK"):
        return None
    return _to_srgb(profile, "CMYK" if picture.mode == "CMYK" else "RGB")


@lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None if it is sRGB, or of no use for such pictures."""
    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
        return None
    if mode == "RGB":
        levels = np.arange(0, 256, 51, dtype=np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        moved = ImageCms.applyTransform(Image.fromarray(colours), transform)
        if np.abs(np.asarray(moved).astype(int) - colours).max() <= SRGB_TOLERANCE:
            return None
    return transform


def _as_mode(picture: Image.Image, mode: str) -> Image.Image:
    """The picture as 8-bit "L" or "RGB"."""
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        if picture.mode != "RGBA":  # which would be one more copy of it
            picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert(mode)


_TOO_MANY = "are more than the limit; make it smaller, or allow it with --max-pixels"


def _reason(error: Exception) -> str:
    """One line on why a picture cannot be read."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d+", str(error))  # "Image size (... pixels) exceeds limit of ..."
        return f"its pixels {_TOO_MANY} {pixels[0] if pixels else ''}".rstrip()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return reason(error)


class _Budget:
    """A number of pixels that several threads share."""

    def __init__(self, pixels: int) -> None:
        self.pixels = self.left = pixels
        self.changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until so many are free, or all if there are not so many, and hold them."""
        pixels = min(pixels, self.pixels)
        with self.changed:
            self.changed.wait_for(lambda: self.left >= pixels)
            self.left -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.left += pixels
                self.changed.notify_all()


_BUDGET = _Budget(BUDGET)
