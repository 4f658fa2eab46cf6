"""Single pictures of every kind, upright, in sRGB, with black and white where they belong."""

import errno
import struct
import sys
import threading
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from PIL import Image, ImageOps

from mixem.data import decode
from mixem.data.picture import _Budget, open_picture, read_picture, top_of
from mixem.errors import InputError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Ordinary pictures -------------------------------------------------------------------------------


def test_decode_is_torchvisions_resize_and_centre_crop(tmp_path: Path):
    pixels = noise(60, 90)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ours = decode(tmp_path / "a.png", 20, 3)
    shorter = tvf.resize(torch.from_numpy(pixels).permute(2, 0, 1), [20], antialias=True)
    theirs = tvf.center_crop(shorter, [20, 20]).numpy()
    assert ours.shape == (3, 20, 20)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_large_jpeg_is_decoded_small_and_alike(tmp_path: Path):
    smooth = Image.fromarray(noise(8, 8)).resize((800, 600), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    smooth.save(tmp_path / "a.png")
    fast, exact = (decode(tmp_path / name, 32, 3).astype(int) for name in ("a.jpg", "a.png"))
    assert np.abs(fast - exact).mean() < 2


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("grey.png", Image.new("L", (9, 9), 100), (100, 100, 100)),
        ("bit.png", Image.new("1", (9, 9), 1), (255, 255, 255)),
        ("cmyk.jpg", Image.new("CMYK", (9, 9), (0, 255, 255, 0)), (254, 0, 0)),
        ("palette.gif", Image.new("RGB", (9, 9), BLUE).convert("P"), BLUE),
        ("alpha.png", Image.new("RGBA", (9, 9), (255, 0, 0, 0)), (255, 255, 255)),
        ("half.png", Image.new("RGBA", (9, 9), (0, 0, 0, 128)), (127, 127, 127)),
        ("la.png", Image.new("LA", (9, 9), (10, 255)), (10, 10, 10)),
        ("deep.png", Image.new("I;16", (9, 9), 257 * 130), (130, 130, 130)),
        ("white16.tiff", Image.new("I;16", (9, 9), 65535), (255, 255, 255)),
        ("int.tiff", Image.new("I", (9, 9), 257 * 130), (130, 130, 130)),
        ("pixel.png", Image.new("RGB", (1, 1), GREEN), GREEN),
        ("line.png", Image.new("RGB", (500, 1), GREEN), GREEN),
        ("web.webp", Image.new("RGB", (9, 9), GREEN), GREEN),
    ],
)
def test_modes_become_rgb_and_grey(tmp_path: Path, name: str, image: Image.Image, expected):
    image.save(tmp_path / name, **({"lossless": True} if name == "web.webp" else {}))
    colour = decode(tmp_path / name, 5, 3)
    assert colour.shape == (3, 5, 5)
    assert np.abs(colour.reshape(3, -1).astype(int) - np.array(expected)[:, None]).max() <= 1
    grey = decode(tmp_path / name, 5, 1)
    luma = 0.299 * expected[0] + 0.587 * expected[1] + 0.114 * expected[2]
    assert grey.shape == (1, 5, 5)
    assert np.abs(grey.astype(int) - luma).max() <= 1.5


def test_transparent_palette_becomes_white(tmp_path: Path):
    indexed = Image.new("P", (9, 9), 1)
    indexed.putpalette([0, 0, 0, 255, 0, 0])
    indexed.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    assert (decode(tmp_path / "a.png", 5, 3) == 255).all()


def test_exif_orientation_is_respected(tmp_path: Path):
    upright = Image.new("RGB", (8, 8), BLUE)
    upright.paste(RED, (0, 0, 8, 4))  # red on top
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png", 8, 3), np.asarray(upright).transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 10))
def test_every_orientation_is_that_of_pillow(tmp_path: Path, orientation: int):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation  # 9 means nothing
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    assert np.array_equal(decode(tmp_path / "a.png", 8, 3), upright.transpose(2, 0, 1))


def test_an_odd_exif_entry_does_no_harm(tmp_path: Path):
    """Pillow's own turning writes all entries anew, and fails at a width that is a text."""
    entries = struct.pack("<HHII", 0x0100, 2, 4, int.from_bytes(b"abc\0", "little"))
    entries += struct.pack("<HHII", 0x0112, 3, 1, 6)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    upright = Image.new("RGB", (8, 8), BLUE)
    upright.paste(RED, (0, 0, 8, 4))
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture, pytest.raises((TypeError, struct.error)):
        ImageOps.exif_transpose(picture)
    assert np.array_equal(decode(tmp_path / "a.png", 8, 3), np.asarray(upright).transpose(2, 0, 1))


def test_decode_says_why_not(tmp_path: Path):
    with pytest.raises(InputError, match=r"^No such file or directory$"):
        decode(tmp_path / "none.png", 8, 3)


def test_a_large_jpeg_gives_the_same_as_all_its_pixels(tmp_path: Path, monkeypatch):
    """Draft mode, which reads a photograph of 12 million pixels at an eighth of its sides."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    large = rough.resize((4000, 3000), Image.Resampling.BICUBIC)
    large.save(tmp_path / "a.jpg", quality=90)
    reduced = decode(tmp_path / "a.jpg", 64, 3).astype(int)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
    whole = decode(tmp_path / "a.jpg", 64, 3).astype(int)
    assert np.abs(reduced - whole).max() <= 4
    assert np.abs(reduced - whole).mean() < 0.5


# More than 8 bits --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peak", "top"),
    [(0, 1), (0.5, 1), (1, 1), (2, 255), (255, 255), (256, 1023), (4080, 4095), (4096, 16383),
     (20_000, 65535), (65535, 65535)],
)  # fmt: skip
def test_white_is_what_no_value_exceeds(peak: float, top: int):
    assert top_of(peak) == top


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_twelve_bits_in_sixteen_fill_the_range(tmp_path: Path, ending: str):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65  # to 4095
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    grey = decode(tmp_path / f"a.{ending}", 8, 1)[0]
    assert np.array_equal(grey, values.astype(int) * 255 // 4095)
    assert (grey.min(), grey.max()) == (0, 255)


def test_values_that_fill_sixteen_bits_lose_their_lower_byte(tmp_path: Path):
    values = (np.arange(64) * 1040).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png", 8, 1)[0], values // 257)


def test_white_may_be_given(tmp_path: Path):
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "a.tif")
    assert read_picture(tmp_path / "a.tif", 4, 1).pixels.max() == 1000 * 255 // 1023
    given = read_picture(tmp_path / "a.tif", 4, 1, {"integer": 4095})
    assert given.pixels.max() == 1000 * 255 // 4095
    assert (given.kind, given.peak) == ("integer", 1000)


def test_floats_from_zero_to_one_are_read(tmp_path: Path):
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(decode(tmp_path / "a.tif", 4, 1)[0], (values * 255.0).astype(np.uint8))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[-1.5, 0.5]], r"floating-point pixels from -1\.5 to 0\.5; save it as grey"),
        ([[0.0, 1e6]], r"floating-point pixels from 0 to 1e\+06; save it"),
        ([[0.0, float("nan")]], "floating-point pixels from nan to nan"),
    ],
)
def test_floats_of_another_range_say_so(tmp_path: Path, values: list, message: str):
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=message):
        decode(tmp_path / "a.tif", 4, 1)


def test_signed_integers_below_zero_say_so(tmp_path: Path):
    Image.fromarray(np.array([[-200, 1000]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="32-bit pixels from -200 to 1000; save it as grey"):
        decode(tmp_path / "a.tif", 4, 1)


def pgm(path: Path, values: np.ndarray, white: int) -> None:
    head = f"P5 {values.shape[1]} {values.shape[0]} {white}\n".encode()
    path.write_bytes(head + values.astype(">u2").tobytes())


def test_a_file_that_states_its_white_is_believed(tmp_path: Path):
    pgm(tmp_path / "a.pgm", np.full((4, 4), 1000), 4095)
    assert abs(int(decode(tmp_path / "a.pgm", 4, 1).max()) - 1000 * 255 / 4095) <= 1


def deep_png(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    h, w, c = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    head = struct.pack(">IIBBBBB", w, h, 16, {3: 2, 4: 6, 2: 4}[c], 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_sixteen_bits(tmp_path: Path, channels: int):
    values = np.full((4, 4, channels), 65535)
    values[..., : 1 if channels == 2 else 3] = 257 * 200
    deep_png(tmp_path / "bright.png", values)
    assert (decode(tmp_path / "bright.png", 4, 3) == 200).all()
    values[..., : 1 if channels == 2 else 3] = 4095
    deep_png(tmp_path / "dark.png", values)
    for read in (lambda path: decode(path, 4, 3), lambda path: open_picture(path, 4)):
        with pytest.raises(InputError, match="fill a quarter of their range at most; save it as"):
            read(tmp_path / "dark.png")
    values[..., : 1 if channels == 2 else 3] = 0
    deep_png(tmp_path / "black.png", values)
    assert (decode(tmp_path / "black.png", 4, 3) == 0).all()


# Pages and channels ------------------------------------------------------------------------------


def test_a_stack_is_refused_and_a_reduced_page_is_not(tmp_path: Path):
    pages = [Image.new("L", (8, 8), level) for level in (100, 150, 200)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="a stack of 3 pictures; save each as a file of its own"):
        decode(tmp_path / "stack.tif", 4, 1)
    small = Image.new("L", (4, 4), 150)
    small.encoderinfo = {"tiffinfo": {254: 1}}  # a reduced picture of the page before
    pages[0].save(tmp_path / "thumb.tif", save_all=True, append_images=[small])
    assert (decode(tmp_path / "thumb.tif", 4, 1) == 100).all()


def tiff(path: Path, values: np.ndarray, colours: int) -> None:
    """An uncompressed TIFF with any number of channels of 8 bits."""
    h, w, c = values.shape
    bits = struct.pack(f"<{c}H", *[8] * c)
    tags = {
        256: (3, 1, w), 257: (3, 1, h), 258: (3, c, 8 if c == 1 else 8 + 2 + 12 * 10 + 4),
        259: (3, 1, 1), 262: (3, 1, colours), 273: (4, 1, 8 + 2 + 12 * 10 + 4 + len(bits)),
        277: (3, 1, c), 278: (3, 1, h), 279: (4, 1, values.size), 284: (3, 1, 1),
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, *row) for tag, row in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    path.write_bytes(head + bits + values.astype(np.uint8).tobytes())


def test_a_fourth_channel_is_left_out_and_said(tmp_path: Path):
    values = np.zeros((4, 4, 4))
    values[:] = (10, 20, 30, 99)  # red, green, blue, infrared
    tiff(tmp_path / "a.tif", values, colours=2)
    found = read_picture(tmp_path / "a.tif", 4, 3)
    assert found.pixels[:, 0, 0].tolist() == [10, 20, 30]
    assert found.note == "the first 3 of 4 channels were read"
    assert open_picture(tmp_path / "a.tif", 4).getpixel((0, 0)) == (10, 20, 30)


def test_channels_that_are_no_colours_say_so(tmp_path: Path):
    tiff(tmp_path / "a.tif", np.ones((4, 4, 5)), colours=1)
    with pytest.raises(InputError, match=r"a TIFF of 5 channel\(s\) of 8 bits; save it as RGB"):
        decode(tmp_path / "a.tif", 4, 3)


# Colour profiles ---------------------------------------------------------------------------------


def profile(columns: list[list[float]]) -> bytes:
    """An ICC profile with these red, green and blue, and the curve of sRGB."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0)
    curve += fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    white = [0.9642, 1.0, 0.8249]
    content = {
        name: b"XYZ " + bytes(4) + fixed(*xyz)
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt"), [*columns, white], strict=True)
    }
    content |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    offset, table, body = 128 + 4 + 12 * len(content), b"", b""
    for name, value in content.items():
        table += name + struct.pack(">II", offset + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x04300000, b"mntr", b"RGB ",
                       b"XYZ ") + bytes(12) + b"acsp"  # fmt: skip
    head += bytes(68 - len(head)) + fixed(*white)
    head += bytes(128 - len(head))
    return head + struct.pack(">I", len(content)) + table + body


# Columns of the published matrices, adapted to D50.
DISPLAY_P3 = [
    [0.51512, 0.24120, -0.00105],
    [0.29198, 0.69225, 0.04189],
    [0.15710, 0.06657, 0.78407],
]
SRGB = [[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]]


def as_srgb(colour: tuple[int, int, int]) -> np.ndarray:
    """A colour of Display P3 in sRGB, by the definitions."""
    v = np.array(colour) / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    x = np.linalg.solve(np.array(SRGB).T, np.array(DISPLAY_P3).T @ linear).clip(0, 1)
    return 255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("colour", [(200, 100, 50), (60, 180, 90), (128, 128, 128), (255, 0, 0)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_display_p3_becomes_srgb(tmp_path: Path, colour: tuple[int, int, int], mode: str):
    image = Image.new("RGB", (9, 9), colour).convert(mode)
    image.save(tmp_path / "a.png", icc_profile=profile(DISPLAY_P3))
    found = decode(tmp_path / "a.png", 4, 3)[:, 2, 2]
    np.testing.assert_allclose(found, as_srgb(colour), atol=2)
    grey = decode(tmp_path / "a.png", 4, 1)[0, 2, 2]
    np.testing.assert_allclose(grey, as_srgb(colour) @ [0.299, 0.587, 0.114], atol=2)


def test_pixels_in_srgb_are_left_as_they_are(tmp_path: Path):
    pixels = noise(12, 12)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile(SRGB))
    assert np.array_equal(decode(tmp_path / "a.png", 12, 3), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("broken", [b"?", b"x" * 300, profile(DISPLAY_P3)[:200]])
def test_a_broken_profile_does_no_harm(tmp_path: Path, broken: bytes):
    pixels = noise(12, 12)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=broken)
    assert np.array_equal(decode(tmp_path / "a.png", 12, 3), pixels.transpose(2, 0, 1))


def test_a_profile_of_colours_on_a_grey_picture_does_no_harm(tmp_path: Path):
    Image.new("L", (9, 9), 77).save(tmp_path / "a.png", icc_profile=profile(DISPLAY_P3))
    assert (decode(tmp_path / "a.png", 4, 3) == 77).all()


# Photographs of phones ---------------------------------------------------------------------------


def heif(path: Path, brand: bytes = b"heic") -> None:
    path.write_bytes(struct.pack(">I", 24) + b"ftyp" + brand + bytes(12))


def test_heic_without_the_plugin_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mixem.data.picture._heif_can_be_read", lambda: False)
    heif(tmp_path / "a.HEIC")
    with pytest.raises(InputError, match=r"^a HEIC photograph; install pillow-heif to read it$"):
        decode(tmp_path / "a.HEIC", 4, 3)
    heif(tmp_path / "a.mp4", b"isom")
    with pytest.raises(InputError, match=r"^not a picture that Pillow can read$"):
        decode(tmp_path / "a.mp4", 4, 3)


def test_heic_with_the_plugin(tmp_path: Path):
    """120 pixels by 80, the left half red and the right half blue, as a phone keeps them."""
    plugin = pytest.importorskip("pillow_heif")
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[:, :60, 0] = pixels[:, 60:, 2] = 200
    image = plugin.from_bytes("RGB", (120, 80), pixels.tobytes())
    image.save(tmp_path / "IMG_1.HEIC", quality=100)
    seen = decode(tmp_path / "IMG_1.HEIC", 8, 3).astype(int)
    assert abs(seen[:, 4, 1] - np.array([200, 0, 0])).max() <= 4
    assert abs(seen[:, 4, 6] - np.array([0, 0, 200])).max() <= 4


def test_a_heic_that_is_a_jpeg_is_read(tmp_path: Path):
    Image.new("RGB", (9, 9), GREEN).save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "a.jpg").rename(tmp_path / "a.HEIC")
    assert abs(decode(tmp_path / "a.HEIC", 4, 3)[:, 2, 2].astype(int) - GREEN).max() <= 2


def test_the_plugin_is_asked_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in, for the plug-in is not among what the tests need."""
    from mixem.data.picture import _heif_can_be_read

    heif(tmp_path / "a.heic")
    real, known = Image.open, []

    def opened(path, *rest):
        return Image.new("RGB", (9, 9), BLUE) if known else real(path, *rest)

    plugin = types.ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: known.append(True)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setattr(Image, "open", opened)
    _heif_can_be_read.cache_clear()
    try:
        assert decode(tmp_path / "a.heic", 4, 3)[:, 2, 2].tolist() == list(BLUE)
    finally:
        _heif_can_be_read.cache_clear()


def test_heic_is_read_by_the_plugin(tmp_path: Path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    Image.new("RGB", (64, 48), (200, 30, 40)).save(tmp_path / "a.heic", quality=95)
    assert abs(decode(tmp_path / "a.heic", 8, 3)[:, 4, 4].astype(int) - (200, 30, 40)).max() <= 6


# Large pictures and faults of the machine --------------------------------------------------------


def test_a_picture_above_the_limit_is_refused_or_allowed(tmp_path: Path):
    Image.new("1", (300, 200), 1).save(tmp_path / "a.png")
    words = r"make it smaller, or allow it with --max-pixels 60000$"
    message = rf"^300 x 200 pixels are more than .*; {words}"
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(InputError, match=message):
        decode(tmp_path / "a.png", 4, 1, max_pixels=50_000)
    with pytest.raises(InputError, match=r"^its pixels are more than .* --max-pixels 60000$"):
        decode(tmp_path / "a.png", 4, 1, max_pixels=1_000)
    limit = Image.MAX_IMAGE_PIXELS
    assert (decode(tmp_path / "a.png", 4, 1, max_pixels=60_000) == 255).all()
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("fault", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_a_fault_of_the_machine_is_not_the_pictures(tmp_path: Path, monkeypatch, fault: int):
    def fail(*arguments):
        raise OSError(fault, "a fault")

    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", fail)
    for read in (lambda path: decode(path, 4, 1), lambda path: open_picture(path, 32)):
        with pytest.raises(OSError, match="a fault"):
            read(tmp_path / "a.png")


def test_a_full_memory_is_not_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments):
        raise MemoryError

    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.Image.Image.resize", fail)
    with monkeypatch.context() as patch:
        patch.setattr("PIL.ImageFile.ImageFile.load", fail)
        with pytest.raises(MemoryError):
            decode(tmp_path / "a.png", 4, 1)
    with monkeypatch.context() as patch:  # it would have been left lying on its side
        patch.setattr("PIL.Image.Image.getexif", fail)
        with pytest.raises(MemoryError):
            open_picture(tmp_path / "a.png", 32)


def test_threads_share_a_budget_of_pixels():
    budget, held, most = _Budget(100), [], []

    def work(pixels: int) -> None:
        with budget.of(pixels):
            held.append(min(pixels, 100))
            most.append(sum(held))
            held.remove(min(pixels, 100))

    threads = [threading.Thread(target=work, args=(n,)) for n in (60, 30, 500, 50, 10, 100) * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(most) == len(threads)
    assert max(most) <= 100
    assert budget.left == 100
