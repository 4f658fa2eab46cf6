"""Sets with masks: by name, from arrays, from folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.data import IGNORED, ImageSet, load_images, own_path, resize_masks
from mixem.data.textures import textures
from mixem.errors import InputError


def test_textures_by_name():
    test = load_images("textures", split="test")
    images, masks, names = textures(200, seed=1)
    assert torch.equal(test.images, images)
    assert torch.equal(test.masks, masks)
    assert (test.class_names, test.num_classes, test.labels) == (names, 4, None)
    again = load_images("textures", split="test")
    assert again.fingerprint == test.fingerprint
    assert test.fingerprint.startswith("3ba81823")  # the same on every machine
    smaller = load_images("textures", split="test", size=32, channels=3)
    assert smaller.images.shape == (200, 3, 32, 32)
    # The nearest of four pixels, so at most a pixel beside the place.
    assert torch.equal(smaller.masks, test.masks[:, 1::2, 1::2])
    both = load_images("textures", split="train+test")
    assert len(both) == 700
    assert torch.equal(both.masks[500:], masks)
    with pytest.raises(InputError, match="textures has no split 'all'; give one of train, test"):
        load_images("textures", split="all")


def test_brain_by_name():
    pytest.importorskip("nilearn")
    found = load_images("brain", split="train+test", size=32)
    assert found.images.shape[1:] == (1, 32, 32)
    assert found.masks.shape == (len(found), 32, 32)
    assert found.class_names == ("grey matter", "white matter", "fluid")


def test_a_part_keeps_its_masks():
    images, masks, names = textures(5, size=8)
    whole = ImageSet(images, masks=masks, class_names=names)
    for index in ([3, 1], slice(1, 4), torch.tensor([True, False, True, False, False])):
        part = whole.subset(index)
        rows = torch.arange(5)[index]
        assert torch.equal(part.images, images[rows])
        assert torch.equal(part.masks, masks[rows])
        assert part.class_names == names


def test_masks_from_arrays():
    array = np.zeros((2, 4, 4))
    found = ImageSet.of(array, masks=np.full((2, 4, 4), -1) + np.eye(4, dtype=int) * 3)
    assert found.masks.dtype == torch.uint8
    assert found.masks[0].tolist() == [
        [2 if i == j else IGNORED for j in range(4)] for i in range(4)
    ]
    assert found.class_names == ("0", "1", "2")
    named = ImageSet.of(array, masks=np.ones((2, 4, 4), np.uint8), class_names=["a", "b"])
    assert named.class_names == ("a", "b")
    assert ImageSet.of(array).masks is None
    for dtype in (np.uint16, np.uint64, np.int8, bool):
        values = np.eye(4, dtype=dtype) * np.ones((2, 1, 1), dtype)
        if dtype is np.int8:
            values[0, 0, 0] = -1
        expected = np.where(values < 0, IGNORED, values.astype(int))
        assert ImageSet.of(array, masks=values).masks.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": np.zeros((2, 4, 5), int)}, r"masks have shape \(2, 4, 5\); give one of \(2, 4"),
        ({"masks": np.zeros((2, 4, 4))}, "masks are float64; give whole numbers below 255"),
        ({"masks": np.full((2, 4, 4), 300)}, "give whole numbers below 255"),
        ({"masks": np.full((2, 4, 4), 2), "class_names": ["a"]}, "a mask has class 2 with 1 class"),
        ({"masks": np.zeros((2, 4, 4), int), "labels": [0, 1]}, "labels and masks; give one"),
    ],
    ids=str,
)
def test_masks_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message) as caught:
        ImageSet.of(np.zeros((2, 4, 4)), **options)
    assert "\n" not in str(caught.value)


def test_a_set_refuses_masks_of_another_type():
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match=r"masks are torch\.int64; give a uint8 tensor, or an"):
        ImageSet(images, masks=torch.zeros(2, 4, 4, dtype=torch.int64))
    with pytest.raises(InputError, match="masks are ndarray; give a uint8 tensor"):
        ImageSet(images, masks=np.zeros((2, 4, 4), np.uint8))


def test_pairs_by_name(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    pixels = np.zeros((20, 40), np.uint8)
    pixels[:, 20:] = 1
    Image.fromarray(pixels * 255).save(tmp_path / "images" / "one.png")
    Image.fromarray(pixels).save(tmp_path / "masks" / "one.png")
    found = load_images(f"pairs:{tmp_path}", split="all", size=10, channels=1)
    assert (found.name, found.split, found.files) == (f"pairs:{tmp_path}", "all", ("one.png",))
    assert torch.equal(found.images[0, 0] > 127, found.masks[0] == 1)
    assert found.class_names == ("class 0", "class 1")
    (tmp_path / "masks" / "one.png").unlink()
    (tmp_path / "masks").rmdir()
    alone = load_images(f"pairs:{tmp_path}", split="all")
    assert alone.images.shape == (1, 3, 64, 64)
    assert (alone.masks, alone.class_names) == (None, ())
    with pytest.raises(InputError, match="has no split 'train'; give 'all'"):
        load_images(f"pairs:{tmp_path}", split="train")


def test_images_of_ones_own():
    assert own_path("folder:folder:photos") == ("folder", "photos")
    assert own_path("pairs:a:b") == ("pairs", "a:b")
    assert own_path("pairs") == own_path("brain") == ("", "")


def test_resized_masks_are_of_the_central_square():
    masks = torch.arange(24, dtype=torch.uint8).view(1, 4, 6)
    assert torch.equal(resize_masks(masks, 4), masks[:, :, 1:5])
    assert torch.equal(resize_masks(masks, 2)[0], masks[0, 1::2, 2:6:2])
    assert torch.equal(
        resize_masks(masks, 8)[0], masks[0, :, 1:5].repeat_interleave(2, 0).repeat_interleave(2, 1)
    )
