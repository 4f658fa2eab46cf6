"""COCO-Stuff and Potsdam from tiny files of the published form."""

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.data import load_images
from mixem.data.coco_stuff import COARSE
from mixem.data.potsdam import LABELLED
from mixem.errors import InputError


@pytest.fixture
def coco(tmp_path):
    """Three pictures of 480 x 400: half sky, half grass; three quarters person; too small."""
    place = tmp_path / "cocostuff"
    for kind in ("images", "annotations"):
        for part in ("train2017", "val2017"):
            (place / kind / part).mkdir(parents=True)
    grass = np.full((400, 480), 124 - 1, np.uint8)
    mixed = grass.copy()
    mixed[:, :240] = 157 - 1
    mixed[:40] = 255
    person = grass.copy()
    person[:300] = 0
    write(place, "train2017", "000", mixed)
    write(place, "train2017", "001", person)
    write(place, "train2017", "002", grass[:350])
    write(place, "val2017", "009", np.where(grass, 155 - 1, 0).astype(np.uint8))  # sea
    return tmp_path


def write(place, part, name, labels):
    Image.fromarray(labels).save(place / "annotations" / part / f"{name}.png")
    colours = np.zeros((*labels.shape, 3), np.uint8)
    colours[..., 0] = np.where(labels == 156, 200, 20)
    Image.fromarray(colours).save(place / "images" / part / f"{name}.jpg", quality=95)


def test_the_coarse_classes_share_the_stuff_labels():
    labels = sorted(label for labels in COARSE.values() for label in labels)
    assert labels == list(range(92, 183))
    assert list(COARSE).index("ground") == 21 - 12
    assert list(COARSE).index("plant") == 22 - 12
    assert list(COARSE).index("sky") == 23 - 12


def test_coco_stuff_3(coco):
    found = load_images("coco-stuff-3", split="train", root=coco)
    assert found.class_names == ("sky", "plant", "ground")
    assert found.images.shape == (1, 3, 160, 160)  # of 158 x 132 pixels at a third
    mask, red = found.masks[0], found.images[0, 0]
    assert (mask[:14] == 255).all()
    assert (mask[-14:] == 255).all()
    assert (mask[14:27] == 255).all()  # unlabelled, and not sky
    assert (mask[30:140, 5:78] == 0).all()
    assert (mask[30:140, 82:155] == 1).all()
    assert red[30:140, 5:70].min() > 150  # red, not blue
    assert red[30:140, 90:155].max() < 60
    again = load_images("coco-stuff-3", split="train", root=coco)
    assert again.fingerprint == found.fingerprint
    assert len(list((coco / "folders").iterdir())) == 1
    with pytest.raises(InputError, match=r"no picture in .* has sides of 360 pixels and 75% of"):
        load_images("coco-stuff-3", split="test", root=coco)


def test_coco_stuff(coco):
    found = load_images("coco-stuff", split="train+test", root=coco)
    assert found.class_names == tuple(COARSE)
    names = [{found.class_names[c] for c in mask.unique() if c != 255} for mask in found.masks]
    assert names == [{"sky", "plant"}, {"water"}]


def test_the_authors_list_is_taken(coco):
    listed = coco / "cocostuff" / "curated" / "train2017"
    listed.mkdir(parents=True)
    (listed / "Coco164kFew_Stuff_6.txt").write_text("001\n000\n")
    found = load_images("coco-stuff-3", split="train", root=coco)
    assert len(found) == 2
    assert set(found.masks[0].unique().tolist()) == {1, 255}


def test_coco_that_is_not_there(coco, tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*train2017'; unpack train2017.zip"):
        load_images("coco-stuff", split="train", root=tmp_path / "elsewhere")
    (coco / "cocostuff" / "images" / "train2017" / "001.jpg").unlink()
    with pytest.raises(InputError, match=r"001.jpg' is missing; unpack the data set again"):
        load_images("coco-stuff", split="train", root=coco)
    (coco / "cocostuff" / "images" / "train2017" / "001.jpg").write_bytes(b"no picture")
    (coco / "cocostuff" / "annotations" / "train2017" / "001.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"001.jpg' or its labels: .*; unpack it again") as caught:
        load_images("coco-stuff", split="train", root=coco)
    assert "\n" not in str(caught.value)


@pytest.fixture
def potsdam(tmp_path):
    """Two sheets of 800 x 800, so four tiles each, one of them with labels."""
    place = tmp_path / "potsdam"
    for name in ("4_Ortho_RGBIR", "5_Labels_all"):
        (place / name).mkdir(parents=True)
    for number, name in enumerate(("2_10", "2_13")):
        pixels = np.full((800, 800, 4), 10 * number, np.uint8)
        pixels[..., 3] = np.arange(800) // 400 * 100
        file = place / "4_Ortho_RGBIR" / f"top_potsdam_{name}_RGBIR.tif"
        Image.fromarray(pixels, mode="RGBA").save(file)
        labels = np.zeros((800, 800, 3), np.uint8)
        labels[:400] = (0, 255, 0)  # trees
        labels[400:] = (255, 255, 0)  # cars
        labels[:2] = (1, 2, 3)
        Image.fromarray(labels).save(place / "5_Labels_all" / f"top_potsdam_{name}_label.tif")
    return tmp_path


def test_there_are_24_sheets_with_labels():
    assert len(LABELLED) == 24


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_potsdam(potsdam):
    whole = load_images("potsdam", split="train+unlabeled+test", root=potsdam)
    assert whole.images.shape == (8, 4, 200, 200)
    assert whole.class_names == ("roads", "buildings", "vegetation", "trees", "cars", "clutter")
    assert [image[3].float().mean().item() for image in whole.images] == [0, 100] * 4
    assert (whole.images[4:, :3] == 10).all()
    assert (whole.masks[4:] == 255).all()  # of this sheet the authors had no labels
    assert (whole.masks[0, 1:] == 3).all()
    assert (whole.masks[0, 0] == 255).all()
    assert (whole.masks[2:4] == 4).all()
    parts = {
        split: load_images("potsdam-3", split=split, root=potsdam)
        for split in ("train", "test", "unlabeled", "train+test")
    }
    assert {split: len(images) for split, images in parts.items()} == {
        "train": 3, "test": 1, "unlabeled": 4, "train+test": 4,
    }  # fmt: skip
    merged = parts["train+test"]
    assert merged.class_names == (
        "roads and cars", "buildings and clutter", "vegetation and trees",
    )  # fmt: skip
    assert torch.equal(merged.masks[2:], torch.zeros(2, 200, 200, dtype=torch.uint8))
    assert (merged.masks[0, 1:] == 2).all()


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_potsdam_that_is_not_there(potsdam, tmp_path):
    with pytest.raises(InputError, match=r"potsdam is not in .*; it needs the folders 4_Ortho"):
        load_images("potsdam", split="train", root=tmp_path / "elsewhere")
    with pytest.raises(InputError, match="tiles of 200 x 200 pixels; leave size 100 out"):
        load_images("potsdam", split="train", root=potsdam, size=100)
    (potsdam / "potsdam" / "5_Labels_all" / "top_potsdam_2_10_label.tif").unlink()
    with pytest.raises(InputError, match=r"2_10_label.tif' is missing; unpack the labels again"):
        load_images("potsdam", split="train", root=potsdam)
