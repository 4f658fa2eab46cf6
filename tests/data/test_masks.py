"""Pictures with masks: paired by name, cut alike, refused with a reason."""

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.data.masks import IGNORED, read_pairs
from mixem.errors import InputError


@pytest.fixture
def pairs(tmp_path):
    """Two wide pictures, black on the left and white on the right, and the mask of one."""
    for name in ("images", "masks"):
        (tmp_path / name / "deep").mkdir(parents=True)
    pixels = np.zeros((20, 40), np.uint8)
    pixels[:, 20:] = 255
    for name in ("one", "deep/two"):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.bmp")
    mask = (pixels > 0).astype(np.uint8)
    mask[:2] = IGNORED
    Image.fromarray(mask).save(tmp_path / "masks" / "one.png")
    return tmp_path


def read(folder, size=10, **options):
    options = {"channels": 1, "cache": folder / "cache", "memory_limit": 10**9} | options
    return read_pairs(folder, size=size, **options)


def write(folder, mask, name="one", mode=None):
    image = Image.fromarray(mask)
    image = image.convert(mode) if mode else image
    image.save(folder / "masks" / f"{name}.png")


def test_picture_and_mask_are_cut_alike(pairs):
    folder, masks, names = read(pairs)
    assert folder.files == ("one.bmp", "deep/two.bmp")
    assert folder.labels is None
    assert folder.class_names == ()
    assert names == ("class 0", "class 1")
    assert masks.dtype == torch.uint8
    expected = torch.zeros(10, 10, dtype=torch.uint8)
    expected[:, 5:] = 1
    expected[0] = IGNORED
    assert torch.equal(masks[0], expected)
    assert torch.equal(masks[1], torch.full((10, 10), IGNORED))
    bright = folder.images[0, 0] > 127
    assert torch.equal(bright[1:], expected[1:] == 1)


@pytest.mark.parametrize("size", [7, 20, 33])
@pytest.mark.parametrize("shape", [(20, 40), (31, 20)])
def test_any_size(pairs, shape, size):
    pixels = np.zeros(shape, np.uint8)
    pixels[shape[0] // 2 :] = 255
    Image.fromarray(pixels).save(pairs / "images" / "one.bmp")
    write(pairs, pixels // 255)
    folder, masks, _ = read(pairs, size)
    agree = (folder.images[0, 0] > 127) == (masks[0] == 1)
    assert agree.float().mean() >= 1 - 1 / size


def test_palettes_and_bits_are_class_numbers(pairs):
    palette = Image.fromarray(np.full((20, 40), 2, np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    palette.save(pairs / "masks" / "one.png")
    write(pairs, np.ones((20, 40), bool), "deep/two")
    _, masks, names = read(pairs)
    assert masks[0].unique().tolist() == [2]
    assert masks[1].unique().tolist() == [1]
    assert len(names) == 3


def test_a_turned_picture_is_compared_upright(pairs):
    picture = Image.fromarray(np.zeros((40, 20), np.uint8))
    entries = picture.getexif()
    entries[0x0112] = 6
    picture.save(pairs / "images" / "one.jpg", exif=entries)
    (pairs / "images" / "one.bmp").unlink()
    folder, masks, _ = read(pairs)
    assert masks[folder.files.index("one.jpg")].unique().tolist() == [0, 1, IGNORED]


def test_an_odd_exif_entry_of_a_picture_does_no_harm(pairs):
    picture = Image.fromarray(np.zeros((20, 40), np.uint8))
    picture.save(pairs / "images" / "one.jpg", exif=b"Exif\0\0nonsense")
    (pairs / "images" / "one.bmp").unlink()
    folder, masks, _ = read(pairs)
    assert masks[folder.files.index("one.jpg")].unique().tolist() == [0, 1, IGNORED]


def test_classes_have_names(pairs):
    (pairs / "classes.txt").write_text("dark\nbright\nnever seen\n", encoding="utf-8")
    assert read(pairs)[2] == ("dark", "bright", "never seen")
    (pairs / "classes.txt").write_text("dark\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a mask has class 1, but .* names 1, from 0 on; add"):
        read(pairs)


def test_what_does_not_fit_is_refused(pairs):
    write(pairs, np.zeros((10, 40), np.uint8))
    with pytest.raises(InputError, match=r"one.png' has 40 x 10 pixels, its picture 40 x 20; give"):
        read(pairs)
    write(pairs, np.zeros((20, 40), np.uint8), mode="RGB")
    with pytest.raises(InputError, match=r"one.png' has mode 'RGB'; give 8-bit class numbers"):
        read(pairs)
    (pairs / "masks" / "one.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"one.png' cannot be read") as caught:
        read(pairs)
    assert "\n" not in str(caught.value)
    (pairs / "masks" / "one.png").unlink()
    with pytest.raises(InputError, match=r"no mask in .* of one of the 2 pictures; call the mask"):
        read(pairs)
    (pairs / "masks" / "deep").rmdir()
    (pairs / "masks").rmdir()
    folder, masks, names = read(pairs)
    assert (len(folder.images), masks, names) == (2, None, ())
    (pairs / "images").rename(pairs / "pictures")
    with pytest.raises(InputError, match="has no folder 'images'; give one with the folders"):
        read(pairs)
