"""Folders of good, odd and broken pictures."""

import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from PIL import Image, ImageOps

from mixem.data import decode, load_images
from mixem.errors import InputError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(path: Path, colour=RED, size=(20, 16), mode="RGB", **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **save)
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Two classes at several depths, one picture outside them, and things to pass over."""
    root = tmp_path / "zoo"
    picture(root / "cat" / "a.png", RED)
    picture(root / "cat" / "young" / "deep" / "b.JPG", RED)
    picture(root / "Dög" / "ü ñ.bmp", BLUE)
    picture(root / "stray.png", GREEN)
    picture(root / ".hidden" / "h.png")
    picture(root / "cat" / ".thumbnail.png")
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / "empty").mkdir()
    (root / "texts").mkdir()
    (root / "texts" / "readme.md").write_text("no picture")
    return root


def load(path: Path, **options):
    return load_images(f"folder:{path}", **{"split": "all", "size": 8, **options})


# What is found ----------------------------------------------------------------------------------


def test_sub_folders_are_classes(zoo: Path):
    images = load(zoo)
    assert images.files == ("stray.png", "Dög/ü ñ.bmp", "cat/a.png", "cat/young/deep/b.JPG")
    assert images.class_names == ("Dög", "cat")
    assert images.labels is not None
    assert images.labels.tolist() == [-1, 0, 1, 1]
    assert images.labels.dtype == torch.int64
    assert images.images.shape == (4, 3, 8, 8)
    assert images.images.dtype == torch.uint8
    assert images.skipped == ()
    green, blue, red = (images.images[i].flatten(1).float().mean(1).round() for i in range(3))
    assert [green.tolist(), blue.tolist(), red.tolist()] == [list(GREEN), list(BLUE), list(RED)]


def test_flat_folder_has_no_labels(tmp_path: Path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png")
    images = load(tmp_path)
    assert images.labels is None
    assert images.class_names == ()
    assert images.num_classes == 0
    assert images.files == ("a.png", "b.png")


@pytest.mark.parametrize("alias", ["train", "train+test", "unlabeled"])
def test_a_folder_without_splits_knows_aliases(zoo: Path, alias: str):
    images = load(zoo, split=alias)
    assert images.split == alias
    assert images.fingerprint == load(zoo).fingerprint


def test_test_is_no_alias(zoo: Path):
    with pytest.raises(InputError, match="has no split 'test'; give 'all'"):
        load(zoo, split="test")


def test_train_and_test_folders_are_splits(tmp_path: Path):
    for part, name in (("train", "ant"), ("train", "bee"), ("test", "bee"), ("test", "cow")):
        picture(tmp_path / part / name / f"{part}.png")
    picture(tmp_path / "unlabeled" / "u.png")
    names = ("ant", "bee", "cow")
    for split, files, labels in (
        ("train", ["train/ant/train.png", "train/bee/train.png"], [0, 1]),
        ("test", ["test/bee/test.png", "test/cow/test.png"], [1, 2]),
        ("test+train", None, [1, 2, 0, 1]),
        ("train+unlabeled", None, [0, 1, -1]),
        ("all", None, [0, 1, 1, 2, -1]),
    ):
        images = load(tmp_path, split=split)
        assert images.class_names == names
        assert images.labels is not None
        assert images.labels.tolist() == labels
        assert files is None or list(images.files) == files
    unlabeled = load(tmp_path, split="unlabeled")
    assert unlabeled.labels is None
    assert unlabeled.class_names == ()
    for wrong in ("val", "train+train", ""):
        with pytest.raises(InputError, match="give 'all' or one of train, test, unlabeled"):
            load(tmp_path, split=wrong)


def test_train_beside_other_classes_is_a_class(tmp_path: Path):
    picture(tmp_path / "train" / "1.png")
    picture(tmp_path / "plane" / "2.png")
    assert load(tmp_path).class_names == ("plane", "train")


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    root = tmp_path / "root"
    picture(tmp_path / "elsewhere" / "far.png")
    picture(root / "cat" / "near.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "same").symlink_to(root / "cat")
    (root / "self").symlink_to(root / "self")
    images = load(root)
    assert images.files[:2] == ("cat/near.png", "dog/far.png")
    assert len(images) == 2


def test_a_pipe_and_a_folder_called_png_are_passed_over(tmp_path: Path):
    picture(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    assert load(tmp_path).files == ("good.png",)


# What cannot be read ----------------------------------------------------------------------------


def truncated_jpeg(path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:1500])


def png_with_broken_checksum(path: Path) -> None:
    Image.fromarray(noise(16, 16)).save(path)
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)


def huge(path: Path) -> None:
    Image.new("1", (12_000, 8_000)).save(path)  # 96 million pixels in a few kB


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated.jpg": (truncated_jpeg, "truncated"),
    "text.png": (lambda path: path.write_text("this is text"), "not a picture that Pillow"),
    "nothing.png": (lambda path: path.write_bytes(b""), "not a picture that Pillow"),
    "damaged.png": (png_with_broken_checksum, ""),
    "dangling.png": (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
    "circle.jpg": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "huge.png": (huge, "12000 x 8000 pixels are more than Pillow's limit"),
    "float.tiff": (lambda path: Image.new("F", (4, 4)).save(path), "range is not known"),
    "deep.tiff": (lambda path: Image.new("I", (4, 4), 70_000).save(path), "range is not known"),
    "new\nline.png": (lambda path: path.write_text("?"), "not a picture that Pillow"),
}


def test_broken_files_are_skipped_and_named(tmp_path: Path):
    for name, (make, _) in BROKEN.items():
        make(tmp_path / name)
    picture(tmp_path / "z" / "good.png", GREEN)
    images = load(tmp_path)
    assert images.files == ("z/good.png",)
    assert images.images.shape == (1, 3, 8, 8)
    assert images.labels is not None
    assert images.labels.tolist() == [0]
    reasons = dict(images.skipped)
    assert set(reasons) == set(BROKEN)
    for name, (_, reason) in BROKEN.items():
        assert reason in reasons[name], name
        assert reasons[name], name
        assert "\n" not in reasons[name], name


def test_a_file_without_permission_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    picture(tmp_path / "a.png")
    secret = picture(tmp_path / "b.png")
    secret.chmod(0)
    if os.access(secret, os.R_OK):  # the superuser may read everything
        real = Image.open

        def refuse(path, *arguments):
            if Path(path) == secret:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments)

        monkeypatch.setattr(Image, "open", refuse)
    images = load(tmp_path)
    assert images.files == ("a.png",)
    assert images.skipped == (("b.png", "Permission denied"),)


def test_images_stay_with_their_names_when_files_are_skipped(tmp_path: Path):
    for i in range(40):
        path = tmp_path / f"{i:02}.png"
        if i % 3 == 0:
            path.write_bytes(b"broken")
        else:
            picture(path, (i, 2 * i, 3 * i))
    images = load(tmp_path)
    assert len(images) == len(images.files) == 26
    assert len(images.skipped) == 14
    for image, name in zip(images.images, images.files, strict=True):
        i = int(name[:2])
        assert image[:, 4, 4].tolist() == [i, 2 * i, 3 * i]


def test_nothing_readable_is_an_error(tmp_path: Path):
    for name in "abcd":
        (tmp_path / f"{name}.png").write_text("?")
    with pytest.raises(InputError, match=r"none of the 4 pictures .* 'a.png': not a") as caught:
        load(tmp_path)
    assert "d.png" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist; give a folder of pictures"),
        (lambda path: path.write_text("?"), "is a file; give a folder of pictures"),
        (lambda path: path.mkdir(), "no picture in .*; give a folder with files that end in"),
    ],
)
def test_no_folder_and_empty_folder_are_errors(tmp_path: Path, make, message: str):
    make(tmp_path / "here")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "here")


# Decoding ---------------------------------------------------------------------------------------


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
        ("deep.png", Image.new("I;16", (9, 9), 257 * 30), (30, 30, 30)),
        ("white16.tiff", Image.new("I;16", (9, 9), 65535), (255, 255, 255)),
        ("int.tiff", Image.new("I", (9, 9), 257 * 30), (30, 30, 30)),
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


# Cache ------------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """More pictures than a block, one of them broken, in two classes."""
    root = tmp_path / "large"
    for i in range(30):
        picture(root / "ab"[i % 2] / f"{i:02}.png", (i, 0, 255 - i))
    (root / "a" / "99.png").write_text("?")
    return root


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixem.data.folder.BLOCK", 7)


def test_the_cache_gives_the_same_images(large: Path, tmp_path: Path):
    inside = load(large)
    mapped = load(large, memory_limit=1000, root=tmp_path / "cache")
    assert torch.equal(mapped.images, inside.images)
    assert mapped.fingerprint == inside.fingerprint
    assert (mapped.files, mapped.skipped) == (inside.files, inside.skipped)
    assert mapped.labels is not None
    assert inside.labels is not None
    assert torch.equal(mapped.labels, inside.labels)
    assert [name for name, _ in mapped.skipped] == ["a/99.png"]
    some = mapped.subset(torch.tensor([3, 1]))
    assert torch.equal(some.images, inside.images[[3, 1]])


def test_the_cache_is_mapped_and_not_read(large: Path, tmp_path: Path):
    mapped = load(large, memory_limit=1000, root=tmp_path / "cache")
    (pixels,) = (tmp_path / "cache" / "folders").glob("*/pixels")
    assert pixels.stat().st_size == mapped.images.numel()
    assert str(pixels) in Path("/proc/self/maps").read_text()


def test_an_unchanged_folder_is_not_decoded_again(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = {"memory_limit": 1000, "root": tmp_path / "cache"}
    first = load(large, **options)

    def refuse(*arguments):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("mixem.data.folder.decode", refuse)
        again = load(large, **options)
        assert again.fingerprint == first.fingerprint
        assert again.skipped == first.skipped
        with pytest.raises(AssertionError, match="decoded again"):
            load(large, **options, channels=1)
    os.utime(large / "a" / "00.png", ns=(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr("mixem.data.folder.decode", refuse)
        with pytest.raises(AssertionError, match="decoded again"):
            load(large, **options)
    picture(large / "a" / "00.png", (200, 200, 200))
    assert load(large, **options).fingerprint != first.fingerprint


def test_a_failed_write_leaves_nothing_behind(large: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # as on a full disk
    try:
        with pytest.raises(InputError, match=r"cannot be written .* free space there") as caught:
            load(large, memory_limit=1000, root=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list((cache / "folders").iterdir()) == []
    assert len(load(large, memory_limit=1000, root=cache)) == 30


def test_an_interrupted_decoding_leaves_nothing_behind(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, calls = decode, []

    def interrupted(path, size, channels):
        calls.append(path)
        if len(calls) > 15:
            raise KeyboardInterrupt
        return real(path, size, channels)

    monkeypatch.setattr("mixem.data.folder.decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(large, memory_limit=1000, root=tmp_path / "cache")
    assert list((tmp_path / "cache" / "folders").iterdir()) == []


def test_a_cache_that_is_a_file_is_an_error(large: Path, tmp_path: Path):
    (tmp_path / "cache").write_text("?")
    with pytest.raises(InputError, match="cannot be written"):
        load(large, memory_limit=1000, root=tmp_path / "cache")


def test_a_damaged_cache_is_an_error(large: Path, tmp_path: Path):
    load(large, memory_limit=1000, root=tmp_path / "cache")
    (pixels,) = (tmp_path / "cache" / "folders").glob("*/pixels")
    with pixels.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(InputError, match=r"the cache .* is damaged; delete it"):
        load(large, memory_limit=1000, root=tmp_path / "cache")


def test_a_large_folder_of_broken_files_is_an_error(tmp_path: Path):
    for i in range(20):
        picture(tmp_path / "in" / f"{i}.png").write_text("?")
    for _ in range(2):
        with pytest.raises(InputError, match="none of the 20 pictures"):
            load(tmp_path / "in", memory_limit=100, root=tmp_path / "cache")
