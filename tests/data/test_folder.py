"""Folders of good, odd and broken pictures, with classes and splits or without."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from mixem.data import decode, list_caches, load_images
from mixem.data.operations import pad_to_square
from mixem.data.picture import pixel_limit
from mixem.errors import InputError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(path: Path, colour=RED, size=(20, 16), mode="RGB", **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **save)
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def load(path: Path, **options):
    return load_images(f"folder:{path}", **{"split": "all", "size": 8, **options})


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
    "huge.png": (huge, "12000 x 8000 pixels are more than the limit"),
    "float.tiff": (
        lambda path: Image.new("F", (4, 4), -1).save(path),
        "floating-point pixels from",
    ),
    "deep.tiff": (lambda path: Image.new("I", (4, 4), 70_000).save(path), "save it as grey of 8"),
    "new\nline.png": (lambda path: path.write_text("?"), "not a picture that Pillow"),
}


def test_broken_files_are_skipped_and_named(tmp_path: Path):
    for name, (make, _) in BROKEN.items():
        make(tmp_path / name)
    picture(tmp_path / "y" / "good.png", RED)
    picture(tmp_path / "z" / "good.png", GREEN)
    images = load(tmp_path)
    assert images.files == ("y/good.png", "z/good.png")
    assert images.images.shape == (2, 3, 8, 8)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1]
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


# Splits in every spelling -------------------------------------------------------------------------


def as_exported(root: Path, *splits: str) -> Path:
    """Three classes of 2 pictures in each split; one colour a split."""
    for i, split in enumerate(splits):
        for name in "012":
            for j in range(2):
                picture(root / split / name / f"{j}.png", (50 * i, 0, 0))
    return root


@pytest.mark.parametrize("spelling", ["val", "valid", "validation", "dev", "Valid", "VALIDATION"])
def test_a_validation_split_does_not_join_the_training(tmp_path: Path, spelling: str):
    """Fault 2: with train, valid and test, as Roboflow exports them, all three were trained on."""
    root = as_exported(tmp_path, "train", "test", spelling)
    train = load(root, split="train")
    assert len(train) == 6
    assert train.class_names == ("0", "1", "2")
    assert all(name.startswith("train/") for name in train.files)
    for asked in ("val", spelling):
        images = load(root, split=asked)
        assert {name.partition("/")[0] for name in images.files} == {spelling}
    assert len(load(root, split="all")) == 18


@pytest.mark.parametrize("spelling", ["Train", "TRAIN", "training"])
def test_train_and_test_in_other_spellings(tmp_path: Path, spelling: str):
    root = as_exported(tmp_path, spelling, "Testing", "unlabelled")
    assert [len(load(root, split=split)) for split in ("train", "test", "unlabeled")] == [6] * 3
    assert load(root, split="train").class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    "leftover",
    ["__MACOSX/train/0/._0.png", "__MACOSX/0.png", ".thumbnails/0.png", "@eaDir/0.png",
     "notes/readme.txt", "train/@eaDir/thumb.png"],
)  # fmt: skip
def test_leftovers_beside_the_splits_do_no_harm(tmp_path: Path, leftover: str):
    root = as_exported(tmp_path, "train", "test")
    (root / leftover).parent.mkdir(parents=True, exist_ok=True)
    if leftover.endswith(".png"):
        picture(root / leftover)
    else:
        (root / leftover).write_text("?")
    (root / "empty" / "deeper").mkdir(parents=True)
    train = load(root, split="train")
    assert len(train) == 6
    assert train.class_names == ("0", "1", "2")


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "valid"), ("train",), ("test",)])
def test_other_folders_beside_splits_are_refused_by_name(tmp_path: Path, splits: tuple):
    root = as_exported(tmp_path, *splits)
    picture(root / "extra" / "1.png")
    picture(root / "new\nline" / "1.png")
    with pytest.raises(InputError, match=r"beside it 'extra', 'new\\nline', neither") as caught:
        load(root, split="all")
    assert "\n" not in str(caught.value)
    assert "'train'" in str(caught.value) or "'test'" in str(caught.value)


def test_two_spellings_of_one_split_are_refused(tmp_path: Path):
    root = as_exported(tmp_path, "train", "val", "valid")
    with pytest.raises(InputError, match=r"'val' and 'valid' in .* are both the split val"):
        load(root)


def test_validation_alone_is_a_split(tmp_path: Path):
    images = load(as_exported(tmp_path, "val"))
    assert images.class_names == ("0", "1", "2")
    with pytest.raises(InputError, match="has no split 'train'; give 'all' or one of val"):
        load(tmp_path, split="train")


def test_pictures_beside_the_splits_are_named(tmp_path: Path):
    root = as_exported(tmp_path, "train", "test")
    picture(root / "preview.png")
    images = load(root, split="train")
    assert len(images) == 6
    assert images.skipped == (("preview.png", "lies beside the splits train, test"),)


# One class is none --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [("images/1.png", "images/2.png"), ("2021/may/1.png", "2021/june/2.png"),
     ("train/images/1.png", "test/images/2.png"), ("images/1.png", "stray.png")],
)  # fmt: skip
def test_one_sub_folder_is_no_class(tmp_path: Path, names: tuple[str, ...]):
    """Fault 3: all in one sub-folder, so that a collapse had an accuracy of 1."""
    for name in names:
        picture(tmp_path / name)
    images = load(tmp_path)
    assert images.labels is None
    assert images.class_names == ()
    assert len(images) == 2


def test_a_class_without_a_readable_picture_leaves_one(tmp_path: Path):
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.png").write_text("?")
    assert load(tmp_path).labels is None


def test_a_split_with_one_of_several_classes_keeps_its_labels(tmp_path: Path):
    for name in ("train/a/1.png", "train/b/1.png", "test/b/1.png"):
        picture(tmp_path / name)
    assert load(tmp_path, split="test").labels.tolist() == [1]


# Values -------------------------------------------------------------------------------------------


def test_twelve_bits_in_sixteen_are_not_black(tmp_path: Path):
    """Fault 4, as it was found: 16 levels up to 15 of 255, where there are 17 up to white."""
    grey = (load_digits().images[:12] * 15.9375).astype("uint16")
    found = {}
    for name, factor in (("full", 257), ("twelve", 16)):
        (tmp_path / name).mkdir()
        for i, pixels in enumerate(grey):
            Image.fromarray(pixels * factor).save(tmp_path / name / f"{i}.tif")
        found[name] = load(tmp_path / name)
    assert found["full"].images.max() == 255
    assert found["twelve"].images.max() == 4080 * 255 // 4095 == 254
    assert [len(images.images.unique()) for images in found.values()] == [17, 17]
    difference = found["full"].images.int() - found["twelve"].images.int()
    assert difference.abs().max() <= 1
    assert found["full"].notes == ()
    assert found["twelve"].left_out == (
        "white is 4095 in 12 16-bit picture(s), whose values reach 4080"
    )


def test_integers_and_floats_have_a_white_each(tmp_path: Path):
    for name, values in (
        ("a", np.uint16(1000)), ("b", np.uint16(3000)), ("c", np.float32(0.5)),
        ("d", np.float32(1.0)),
    ):  # fmt: skip
        Image.fromarray(np.full((4, 4), values)).save(tmp_path / f"{name}.tif")
    images = load(tmp_path, channels=1)
    assert images.images[:, 0, 0, 0].tolist() == [62, 186, 127, 255]
    assert len(images.notes) == 2


# What is not read ---------------------------------------------------------------------------------


def test_files_of_other_endings_are_counted(tmp_path: Path):
    """Fault 14: 248 SVG files vanished without a word."""
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "2.png")
    for i in range(4):
        (tmp_path / "a" / f"{i}.SVG").write_text("?")
    for name in ("raw.nef", "notes.txt", "README", ".hidden", "a/Thumbs.db"):
        (tmp_path / name).write_text("?")
    images = load(tmp_path)
    assert images.passed_over == ((".svg", 4), ("", 1), (".nef", 1), (".txt", 1))
    assert images.left_out == "4 .svg, 1 without an ending, 1 .nef, 1 other endings not read"
    assert images.skipped == ()


def test_only_the_files_of_the_split_are_counted(tmp_path: Path):
    root = as_exported(tmp_path, "train", "test")
    (root / "train" / "0" / "a.svg").write_text("?")
    (root / "readme.md").write_text("?")
    assert load(root, split="train").passed_over == ((".svg", 1),)
    assert load(root, split="test").passed_over == ()


def test_a_folder_of_other_files_says_what_is_there(tmp_path: Path):
    for i in range(3):
        (tmp_path / f"{i}.svg").write_text("?")
    with pytest.raises(InputError, match=r"no picture in .* \(but 3 \.svg\); give a folder"):
        load(tmp_path)


@pytest.mark.parametrize("ending", ["tga", "jp2", "ico", "pcx", "sgi", "dib", "jpe"])
def test_what_pillow_reads_is_read(tmp_path: Path, ending: str):
    picture(tmp_path / f"a.{ending}", GREEN, (32, 32))
    images = load(tmp_path)
    assert images.files == (f"a.{ending}",)
    assert (images.images[0, :, 4, 4].int() - torch.tensor(GREEN)).abs().max() <= 3


def test_a_sub_folder_without_permission_is_skipped(tmp_path: Path, monkeypatch):
    """Fault 13: it stopped everything, where a file without rights is skipped and named."""
    for name in "abc":
        picture(tmp_path / name / "1.png")
    secret = tmp_path / "b"
    secret.chmod(0)
    if os.access(secret, os.R_OK):  # the superuser may read everything
        real = os.scandir

        def refuse(path):
            if Path(path) == secret:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", refuse)
    try:
        images = load(tmp_path)
    finally:
        secret.chmod(0o755)
    assert images.files == ("a/1.png", "c/1.png")
    assert images.class_names == ("a", "c")
    assert images.skipped == (("b", "Permission denied"),)


@pytest.mark.parametrize("fault", [errno.EMFILE, errno.EIO, errno.ETIMEDOUT])
def test_a_fault_of_the_machine_leaves_out_no_sub_folder(tmp_path: Path, monkeypatch, fault: int):
    """F6: a whole class was skipped, as if it had no rights, where files were too many."""
    for name in "abc":
        picture(tmp_path / name / "1.png")
    real = os.scandir

    def fail(path):
        if Path(path) == tmp_path / "b":
            raise OSError(fault, "a fault", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(InputError, match="b' cannot be read: a fault"):
        load(tmp_path)


def test_a_folder_without_a_bottom_is_skipped(tmp_path: Path):
    picture(tmp_path / "a" / "1.png")
    deep = tmp_path / Path(*"b" * 150)
    deep.mkdir(parents=True)
    images = load(tmp_path)
    assert images.files == ("a/1.png",)
    assert images.skipped == (("/".join("b" * 101), "more than 100 folders deep"),)


def test_pictures_above_the_limit_are_skipped_or_allowed(tmp_path: Path):
    """Fault 22: there was no way to allow them, and no advice."""
    picture(tmp_path / "small.png", size=(20, 20))
    picture(tmp_path / "large.png", size=(60, 50))
    images = load(tmp_path, max_pixels=2000)
    assert images.files == ("small.png",)
    ((name, reason),) = images.skipped
    assert name == "large.png"
    assert reason.startswith("60 x 50 pixels are more than the limit; make it smaller")
    assert reason.endswith("or allow it with --max-pixels 3000")
    assert len(load(tmp_path, max_pixels=3000)) == 2


def test_far_above_the_limit_the_reason_has_the_number_too(tmp_path: Path):
    picture(tmp_path / "small.png", size=(20, 20))
    picture(tmp_path / "large.png", size=(60, 50))  # Pillow itself refuses twice the limit
    ((_, reason),) = load(tmp_path, max_pixels=1000).skipped
    assert reason.endswith("--max-pixels 3000")
    ((_, reason),) = load(tmp_path, max_pixels=2000).skipped
    assert reason.endswith("--max-pixels 3000")


def test_a_cache_made_under_another_limit_is_not_taken(tmp_path: Path):
    picture(tmp_path / "photos" / "small.png", size=(20, 20))
    picture(tmp_path / "photos" / "large.png", size=(60, 50))
    options = {"root": tmp_path / "cache", "memory_limit": 1}
    with pixel_limit(1000):
        assert len(load(tmp_path / "photos", **options)) == 1
    assert len(load(tmp_path / "photos", **options)) == 2
    with pytest.raises(InputError, match="max_pixels is 0; give at least 1"), pixel_limit(0):
        pass


def test_thousands_of_skipped_files_are_one_line(tmp_path: Path):
    picture(tmp_path / "good.png")
    for i in range(3000):
        (tmp_path / f"{i:04}.png").write_text("?")
    images = load(tmp_path)
    assert len(images.skipped) == 3000
    reason = "not a picture that Pillow can read"
    assert images.left_out == (
        f"3000 skipped ('0000.png': {reason}; '0001.png': {reason}; '0002.png': {reason}; ...)"
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_every_name_comes_through(tmp_path: Path):
    """Quotes, line breaks, emoji, and bytes that are no UTF-8: read, skipped and cached alike."""
    names = ["'quote\".png", "new\nline.png", "😀.png", os.fsdecode(b"\xff\xfe.png"), "=cmd|.png"]
    (tmp_path / "in").mkdir()
    for name in names:
        picture(tmp_path / "in" / name)
        (tmp_path / "in" / f"bad {name}").write_text("?")
    inside = load(tmp_path / "in")
    assert set(inside.files) == set(names)
    assert {name for name, _ in inside.skipped} == {f"bad {name}" for name in names}
    assert "\n" not in inside.left_out
    inside.left_out.encode("utf-8")
    for _ in range(2):
        mapped = load(tmp_path / "in", memory_limit=1, root=tmp_path / "cache")
        assert (mapped.files, mapped.skipped) == (inside.files, inside.skipped)
    for name in inside.files:
        assert (tmp_path / "in" / name).is_file()


# Padding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(40, 16), (16, 40), (20, 20), (300, 1)])
def test_a_padded_picture_is_shown_whole(tmp_path: Path, height: int, width: int):
    pixels = noise(height, width)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = load(tmp_path, pad=True).images
    inner = (max(1, round(8 * width / max(height, width))), 8 * height // max(height, width))
    small = Image.fromarray(pixels).resize(inner, Image.Resampling.BILINEAR)
    expected = pad_to_square(torch.from_numpy(np.array(small)).permute(2, 0, 1)[None])
    assert torch.equal(found, expected)
    assert torch.equal(torch.from_numpy(decode(tmp_path / "a.png", 8, 3, pad=True))[None], found)
    assert torch.equal(found, load(tmp_path).images) == (height == width)


def test_what_is_at_the_ends_is_cropped_and_not_padded_away(tmp_path: Path):
    wide = Image.new("RGB", (24, 8), "white")
    wide.paste((255, 0, 0), (0, 0, 8, 8))
    wide.save(tmp_path / "a.png")
    cropped, padded = load(tmp_path).images, load(tmp_path, pad=True).images
    assert cropped.min() == 255  # the red end is gone
    assert padded[0, 1, 3:5, :2].max() < 60


def test_cropped_and_padded_caches_live_side_by_side(tmp_path: Path):
    Image.fromarray(noise(12, 20)).save(tmp_path / "a.png")
    options = {"root": tmp_path / "cache", "memory_limit": 0}
    cropped, padded = load(tmp_path, **options), load(tmp_path, pad=True, **options)
    assert not torch.equal(cropped.images, padded.images)
    assert torch.equal(padded.images, load(tmp_path, pad=True).images)
    assert {cache.pad for cache in list_caches(tmp_path / "cache")} == {True, False}
    assert torch.equal(load(tmp_path, **options).images, cropped.images)


def test_pictures_with_masks_are_not_padded(tmp_path: Path):
    with pytest.raises(InputError, match="leave pad out"):
        load_images(f"pairs:{tmp_path}", split="all", pad=True)
