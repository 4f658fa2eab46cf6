"""Data sets as records, and CIFAR from the pictures of a mirror."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.data import NAMES, SCENES, SHAPES, SOURCES, load_images
from mixem.data.sources import CIFAR10_CLASSES, CIFAR100_CLASSES, SUPERCLASSES, _content
from mixem.errors import InputError


def test_every_set_is_a_record():
    assert (*SOURCES, *SCENES, "folder:PATH", "pairs:PATH") == NAMES
    assert set(SHAPES) == set(SOURCES) - {"digits"}
    for name, (channels, side, classes, counts) in SHAPES.items():
        source = SOURCES[name]
        assert (channels, side, classes) == (source.channels, source.side, source.classes)
        assert counts == source.counts
        assert {part for split in source.splits for part in split.split("+")} == set(counts)
    assert SHAPES["cifar10"] == (3, 32, 10, {"train": 50_000, "test": 10_000})


def test_the_record_of_digits_is_what_is_read():
    source = SOURCES["digits"]
    for part, count in source.counts.items():
        images = load_images("digits", split=part)
        assert images.images.shape == (count, source.channels, source.side, source.side)
        assert images.num_classes == source.classes


def test_a_set_is_added_by_its_record(monkeypatch: pytest.MonkeyPatch):
    def read(root: Path, part: str, download: bool):
        return torch.full((2, 1, 4, 4), 7, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b")

    record = replace(SOURCES["digits"], read=read, side=4, classes=2, splits=("train",))
    monkeypatch.setitem(SOURCES, "sevens", record)
    assert (load_images("sevens", split="train").images == 7).all()
    with pytest.raises(InputError, match="sevens has no split 'test'; give one of train"):
        load_images("sevens", split="test")


# Mirrors ----------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes so few pictures of every class; they are taken for the published ones."""

    def write(name: str, classes: tuple[str, ...], *, prefix: str = "", folder: str = "") -> Path:
        content = {}
        for seed, part in enumerate(("train", "test")):
            rng = np.random.default_rng(seed)
            digests, labels = [], []
            for label, called in enumerate(classes):
                place = tmp_path / (folder or name) / part / called
                place.mkdir(parents=True)
                for i in range(3):
                    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(place / f"{prefix}{(i * 2 + seed) % 3}.png")
                    channels_first = pixels.transpose(2, 0, 1).tobytes()
                    digests.append(hashlib.sha256(channels_first).digest())
                    labels.append(label)
            content[part] = _content(digests, labels)
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], content=content))
        return tmp_path

    return write


def test_cifar10_from_class_folders_in_one_order(mirror):
    root = mirror("cifar10", CIFAR10_CLASSES)
    train = load_images("cifar10", split="train", root=root)
    assert train.images.shape == (30, 3, 32, 32)
    assert train.class_names == CIFAR10_CLASSES
    assert train.labels.bincount().tolist() == [3] * 10
    assert (train.labels.diff() < 0).any()  # not class by class
    # The same pictures under other names and in another place are the same set.
    for number, file in enumerate(sorted((root / "cifar10").rglob("*.png"), reverse=True)):
        file.rename(file.with_name(f"x{number:03}.png"))
    (root / "cifar10").rename(root / "CIFAR-10-dataset")
    again = load_images("cifar10", split="train", root=root)
    assert again.fingerprint == train.fingerprint
    assert torch.equal(again.labels, train.labels)
    assert len(load_images("cifar10", split="train+test", root=root)) == 60


def test_cifar100_and_its_superclasses_from_class_folders(mirror):
    root = mirror("cifar100", CIFAR100_CLASSES, folder="CIFAR-100-dataset")
    fine = load_images("cifar100", split="test", root=root)
    coarse = load_images("cifar100-20", split="test", root=root)
    assert fine.class_names == CIFAR100_CLASSES
    assert coarse.fingerprint == fine.fingerprint
    for a, b in zip(fine.labels.tolist(), coarse.labels.tolist(), strict=True):
        assert fine.class_names[a] in SUPERCLASSES[coarse.class_names[b]].split()


def test_other_pictures_are_not_taken_for_the_published_ones(mirror):
    root = mirror("cifar10", CIFAR10_CLASSES)
    file = next((root / "cifar10" / "train" / "cat").iterdir())
    message = r"pictures in .*train' are not the 50000 published ones, .*; give folder:PATH"
    pixels = np.asarray(Image.open(file)).copy()
    pixels[3, 4, 1] ^= 1
    moved = root / "cifar10" / "train" / "dog" / "moved.png"
    file.rename(moved)
    with pytest.raises(InputError, match=message):  # another class
        load_images("cifar10", split="train", root=root)
    moved.rename(file)
    assert len(load_images("cifar10", split="train", root=root)) == 30
    Image.fromarray(pixels).save(file)
    with pytest.raises(InputError, match=message):  # one bit of one pixel
        load_images("cifar10", split="train", root=root)
    file.unlink()
    with pytest.raises(InputError, match=r"the 29 pictures in .*train' are not"):
        load_images("cifar10", split="train", root=root)
    assert len(load_images("cifar10", split="test", root=root)) == 30


def test_a_mirror_without_classes_says_so(tmp_path: Path):
    place = tmp_path / "cifar10" / "train"
    place.mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(place / "0.png")
    with pytest.raises(InputError, match="has no class folders; give folder:PATH"):
        load_images("cifar10", split="train", root=tmp_path)
