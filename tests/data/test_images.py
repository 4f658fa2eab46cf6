"""Image sets by name: the embedded digits, and torchvision's sets from tiny files."""

import errno
import gzip
import hashlib
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from mixem.data import NAMES, ImageSet, folder_path, load_images
from mixem.data.sources import STL10_CLASSES, SUPERCLASSES
from mixem.errors import InputError

SETS = ("mnist", "fashion-mnist", "cifar10", "cifar100", "cifar100-20", "stl10", "tiny-imagenet")


# Digits -----------------------------------------------------------------------------------------


def test_digits_are_scikit_learns():
    images = load_images("digits", split="train+test")
    data = load_digits()
    assert images.images.shape == (1797, 1, 8, 8)
    assert images.images.dtype == torch.uint8
    assert (images.images.min(), images.images.max()) == (0, 255)
    restored = images.images[:, 0].float() * 16 / 255
    np.testing.assert_allclose(restored, data.images, atol=0.04)
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels, data.target)
    assert images.class_names == tuple("0123456789")
    assert (images.num_classes, images.channels, len(images)) == (10, 1, 1797)


def test_digits_splits_part_the_whole():
    whole, train, test = (
        load_images("digits", split=split) for split in ("train+test", "train", "test")
    )
    assert (len(train), len(test)) == (1297, 500)
    assert torch.equal(torch.cat([train.images, test.images]), whole.images)
    assert torch.equal(torch.cat([train.labels, test.labels]), whole.labels)
    assert len({whole.fingerprint, train.fingerprint, test.fingerprint}) == 3


def test_size_and_channels_are_converted():
    images = load_images("digits", split="test", size=16, channels=3)
    assert images.images.shape == (500, 3, 16, 16)
    assert images.images.dtype == torch.uint8
    assert torch.equal(images.images[:, 0], images.images[:, 2])
    small = load_images("digits", split="test")
    difference = images.images.float().mean((1, 2, 3)) - small.images.float().mean((1, 2, 3))
    assert difference.abs().max() < 8
    same = load_images("digits", split="test", size=8, channels=1)
    assert same.fingerprint == small.fingerprint


# ImageSet ---------------------------------------------------------------------------------------


def tiny(n: int = 5, **options) -> ImageSet:
    pixels = torch.arange(n * 12, dtype=torch.uint8).view(n, 3, 2, 2)
    defaults = {
        "name": "tiny", "split": "all", "images": pixels, "labels": torch.arange(n) % 2,
        "class_names": ("even", "odd"), "files": tuple(f"{i}.png" for i in range(n)),
    }  # fmt: skip
    return ImageSet(**(defaults | options))


def test_fingerprint_is_sha256_of_shape_and_pixels():
    images = tiny()
    expected = hashlib.sha256(b"(5, 3, 2, 2)" + bytes(range(60))).hexdigest()
    assert images.fingerprint == expected
    assert tiny(labels=None, class_names=()).fingerprint == expected
    turned = images.images.transpose(2, 3).contiguous().transpose(2, 3)  # other memory, same images
    assert tiny(images=turned).fingerprint == expected
    assert tiny(images=images.images.view(5, 3, 1, 4)).fingerprint != expected
    changed = images.images.clone()
    changed[4, 2, 1, 1] += 1
    assert tiny(images=changed).fingerprint != expected


def test_fingerprint_does_not_depend_on_blocks():
    pixels = torch.randint(256, (3000, 1, 2, 2), dtype=torch.uint8)
    expected = hashlib.sha256(b"(3000, 1, 2, 2)" + pixels.numpy().tobytes()).hexdigest()
    assert tiny(images=pixels, labels=None, files=()).fingerprint == expected


@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([1, 3]),
        [1, 3],
        slice(1, 4, 2),
        torch.tensor([False, True, False, True, False]),
    ],
)
def test_subset_keeps_parts_together(index):
    images = tiny()
    part = images.subset(index)
    assert torch.equal(part.images, images.images[[1, 3]])
    assert part.labels is not None
    assert part.labels.tolist() == [1, 1]
    assert part.files == ("1.png", "3.png")
    assert part.class_names == images.class_names
    assert part.fingerprint != images.fingerprint


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"images are torch.float32 .* give a uint8 tensor"):
        tiny(images=torch.zeros(5, 3, 2, 2))
    with pytest.raises(InputError, match=r"labels are torch.int64 of shape \(4,\); .* \(5,\)"):
        tiny(labels=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(InputError, match=r"labels are torch\.int32"):
        tiny(labels=torch.zeros(5, dtype=torch.int32))


def test_a_tensor_alone_is_a_set():
    images = ImageSet(torch.zeros(3, 1, 4, 4, dtype=torch.uint8))
    assert (images.name, images.split, images.labels) == ("own", "train", None)
    assert (images.class_names, images.num_classes, images.files) == ((), 0, ())
    assert (images.skipped, images.passed_over, images.notes, images.left_out) == ((), (), (), "")


def test_labels_without_names_are_called_by_their_numbers():
    images = ImageSet(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 2, -1]))
    assert images.class_names == ("0", "1", "2")
    assert tiny(labels=torch.full((5,), -1), class_names=()).class_names == ()


def test_the_old_order_of_arguments_is_refused():
    with pytest.raises(InputError, match=r"of type str; give a uint8 tensor first, .*\.of"):
        ImageSet("tiny", "all", torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(InputError, match="labels are of type list; give an int64 tensor"):
        tiny(labels=[0, 1, 0, 1, 0])


def test_an_index_that_is_no_whole_number_is_refused():
    with pytest.raises(InputError, match=r"an index of torch\.float32; give whole numbers"):
        tiny().subset([1.5])
    assert len(tiny().subset([])) == 0


# Arrays of one's own ----------------------------------------------------------------------------


SMALL = np.arange(5 * 4 * 6 * 3, dtype=np.uint8).reshape(5, 4, 6, 3)  # N, H, W, C


@pytest.mark.parametrize(
    "array",
    [
        SMALL,
        SMALL.transpose(0, 3, 1, 2),
        np.asfortranarray(SMALL),
        SMALL[::-1][::-1],
        torch.from_numpy(SMALL),
        torch.from_numpy(SMALL).permute(0, 3, 1, 2),
        SMALL / 255,
        (SMALL / 255).astype(np.float32),
        torch.from_numpy(SMALL).permute(0, 3, 1, 2).double() / 255,
        torch.from_numpy(SMALL).float().div(255).requires_grad_(),
    ],
)
def test_arrays_of_every_order_and_type_become_the_same_set(array):
    images = ImageSet.of(array, [0, 1, -1, 1, 0], name="mine", class_names=["no", "yes"])
    expected = torch.from_numpy(SMALL).permute(0, 3, 1, 2)
    assert torch.equal(images.images, expected)
    assert images.images.is_contiguous()
    assert not images.images.requires_grad
    assert images.labels.tolist() == [0, 1, -1, 1, 0]
    assert (images.name, images.split, images.class_names) == ("mine", "train", ("no", "yes"))


def test_grey_arrays_need_no_channel():
    grey = SMALL[..., 0]
    for array in (grey, grey[:, None], grey[..., None]):
        assert torch.equal(ImageSet.of(array).images, torch.from_numpy(grey)[:, None].clone())


def test_a_fingerprint_does_not_tell_where_images_came_from():
    digits = load_images("digits", split="test")
    again = ImageSet.of(digits.images.numpy(), digits.labels.numpy())
    assert again.fingerprint == digits.fingerprint
    assert again.class_names == digits.class_names


def test_a_mapped_file_is_shared_without_a_warning(tmp_path: Path):
    np.save(tmp_path / "a.npy", SMALL.transpose(0, 3, 1, 2))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    images = ImageSet.of(mapped)
    assert images.images.data_ptr() == mapped.ctypes.data
    assert torch.equal(images.images, torch.from_numpy(SMALL).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 0, 1, 2], np.array([0, 1, 0, 1, 2], np.uint8), torch.tensor([0, 1, 0, 1, 2]),
     (0, 1, 0, 1, 2)],
)  # fmt: skip
def test_labels_of_every_kind(labels):
    images = ImageSet.of(SMALL, labels)
    assert images.labels.dtype == torch.int64
    assert images.labels.tolist() == [0, 1, 0, 1, 2]
    assert images.class_names == ("0", "1", "2")


def test_no_label_at_all_is_none():
    for labels in (None, [-1] * 5):
        images = ImageSet.of(SMALL, labels, class_names=("a", "b"))
        assert images.labels is None
        assert images.class_names == ()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[1, 2]], r"of type list; give a NumPy array or a tensor, such as numpy\.stack"),
        ("digits", "of type str; give a NumPy array"),
        (tiny(), "an ImageSet already; use it as it is"),
        (SMALL.astype(np.int64), "images are int64; give uint8 from 0 to 255, or floating-point"),
        (SMALL.astype(np.uint16), "images are uint16; give uint8"),
        (SMALL.astype(object), "images are object; give uint8"),
        (SMALL > 3, "images are bool; give uint8"),
        (torch.zeros(5, 1, 4, 4, dtype=torch.int32), r"images are torch\.int32; give uint8"),
        (SMALL / 16.0, r"images are torch\.float64 from 0 to 15\.9375; give numbers from 0 to 1"),
        (SMALL / 255 - 0.5, r"from -0\.5 to .*; give numbers from 0 to 1"),
        (np.full((5, 4, 4), np.nan), "from nan to nan; give numbers from 0 to 1"),
        (np.zeros((5, 4, 4, 4), np.uint8), r"of shape \(5, 4, 4, 4\); give \(N, C, H, W\) or"),
        (np.zeros((5, 2, 6, 6), np.uint8), "with 1 or 3 channels"),
        (np.zeros((5, 16), np.uint8), r"of shape \(5, 16\); give"),
        (SMALL[0], r"one image of shape \(4, 6, 3\); give several, or array\[None\] for one"),
        (SMALL[:0], r"of shape \(0, 4, 6, 3\); give at least one image"),
    ],
)
def test_other_arrays_are_one_line(array, message: str):
    with pytest.raises(InputError, match=message) as caught:
        ImageSet.of(array)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1], None, r"labels of shape \(2,\) for 5 images; give 5 whole numbers"),
        (np.zeros((5, 2), int), None, r"labels of shape \(5, 2\) for 5 images"),
        (3, None, r"labels of shape \(\) for 5 images"),
        (["cat", "dog", "cat", "dog", "cat"], None, r"labels are <U3; .* numpy\.unique"),
        ([0.0, 1.0, 0.0, 1.0, 0.0], None, "labels are float64; give whole numbers"),
        ([True, False, True, True, True], None, "labels are bool; give whole numbers"),
        (torch.zeros(5), None, "labels are float32; give whole numbers"),
        ([0, 1, -2, 1, 0], None, "a label is -2; give numbers from 0 on, or -1 for no label"),
        ([0, 1, 2, 1, 0], ["a", "b"], "labels go up to 2 with 2 class_names; give a name for"),
        ([0, 1, 10**9, 1, 0], None, "a label is 1000000000; number the classes from 0 on"),
    ],
)
def test_other_labels_are_one_line(labels, names, message: str):
    with pytest.raises(InputError, match=message) as caught:
        ImageSet.of(SMALL, labels, class_names=names)
    assert "\n" not in str(caught.value)


# torchvision's sets -----------------------------------------------------------------------------


def write_mnist(root: Path, kind: str = "MNIST") -> None:
    folder = root / kind / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", 3), ("t10k", 2)):
        pixels = np.full((n, 28, 28), n, np.uint8)
        header = struct.pack(">IIII", 0x803, n, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = struct.pack(">II", 0x801, n) + bytes(range(n))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, kind: type, labels: str) -> None:
    """Files in the published format, with their own checksums in the place of the real ones."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    for attribute in ("train_list", "test_list"):
        listed = []
        for name, _ in getattr(kind, attribute):
            pixels = np.repeat(np.array([[10, 20, 30]], np.uint8), 1024, axis=1).repeat(2, axis=0)
            listed.append(write(name, {"data": pixels, labels: [0, 5]}))
        monkeypatch.setattr(kind, attribute, listed)
    names = [f"class {i}" for i in range(10)]
    if kind is datasets.CIFAR100:
        names = sorted(" ".join(SUPERCLASSES.values()).split())
    file, md5 = write(kind.meta["filename"], {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "meta", kind.meta | {"filename": file, "md5": md5})


def write_stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for part, n in (("train", 2), ("test", 3), ("unlabeled", 4)):
        pixels = np.full((n, 3, 96, 96), n, np.uint8)
        pixels[:, :, 5, 7] = 200  # column 5, row 7: the files hold column after column
        pixels.tofile(folder / f"{part}_X.bin")
        np.arange(1, n + 1, dtype=np.uint8).tofile(folder / f"{part}_y.bin")
    for attribute in ("train_list", "test_list"):
        listed = [
            [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]
            for name, _ in getattr(datasets.STL10, attribute)
        ]
        monkeypatch.setattr(datasets.STL10, attribute, listed)


TINY_IDS = ("n02", "n01")  # wnids.txt is not sorted


def write_tiny_imagenet(root: Path) -> Path:
    """Two classes: three and two pictures to train on, the first of them grey, and two more."""
    folder = root / "tiny-imagenet-200"

    def write(path: Path, level: int, mode: str = "RGB") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (64, 64), level if mode == "L" else (level, 0, 0)).save(path)

    for number, (name, count) in enumerate(zip(TINY_IDS, (3, 2), strict=True)):
        for i in range(count):
            mode = "L" if (number, i) == (0, 0) else "RGB"
            file = folder / "train" / name / "images" / f"{name}_{i}.JPEG"
            write(file, 100 * number + 20 * i, mode)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("n02_0.JPEG\t0\t0\t9\t9\n")
    for i in range(2):
        write(folder / "val" / "images" / f"val_{i}.JPEG", 240 - 20 * i)
    rows = [f"val_{i}.JPEG\t{name}\t0\t0\t9\t9\n" for i, name in enumerate(("n01", "n02"))]
    (folder / "val" / "val_annotations.txt").write_text("".join(rows))
    (folder / "wnids.txt").write_text("".join(f"{name}\n" for name in TINY_IDS))
    (folder / "words.txt").write_text("n00\tentity\nn01\tgoldfish, fish\nn02\tmaypole\n")
    return folder


def test_mnist(tmp_path: Path):
    write_mnist(tmp_path)
    images = load_images("mnist", split="train+test", root=tmp_path)
    assert images.images.shape == (5, 1, 28, 28)
    assert images.images[:, 0, 0, 0].tolist() == [3, 3, 3, 2, 2]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 2, 0, 1]
    assert images.class_names == tuple("0123456789")
    assert len(load_images("mnist", split="test", root=tmp_path)) == 2


def test_fashion_mnist(tmp_path: Path):
    write_mnist(tmp_path, "FashionMNIST")
    images = load_images("fashion-mnist", split="train+test", root=tmp_path)
    assert images.images[:, 0, 0, 0].tolist() == [3, 3, 3, 2, 2]
    assert images.labels.tolist() == [0, 1, 2, 0, 1]
    assert images.class_names[:2] == ("T-shirt/top", "Trouser")


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_packed_files_as_debian_has_them(tmp_path: Path, name: str, kind: str):
    """Debian's dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist."""
    write_mnist(tmp_path / "unpacked", kind)
    (tmp_path / name).mkdir()
    for file in (tmp_path / "unpacked" / kind / "raw").iterdir():
        (tmp_path / name / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    for split in ("train", "test", "train+test"):
        packed = load_images(name, split=split, root=tmp_path)
        plain = load_images(name, split=split, root=tmp_path / "unpacked")
        assert packed.fingerprint == plain.fingerprint
        assert torch.equal(packed.labels, plain.labels)
    good = packed_file(tmp_path, name)
    wrong = (
        b"?",
        gzip.compress(b"????" * 9),
        good[:60],
        gzip.compress(b"?"),
        good[:10] + b"\xff" * 9,
    )
    for content in wrong:
        (tmp_path / name / "train-images-idx3-ubyte.gz").write_bytes(content)
        with pytest.raises(InputError, match=rf"{name} .*(damaged|not whole)") as caught:
            load_images(name, split="train", root=tmp_path)
        assert "\n" not in str(caught.value)


def test_a_folder_called_memory_is_not_a_full_one(tmp_path: Path, monkeypatch):
    with pytest.raises(InputError, match="tiny-imagenet is not, or not whole, in"):
        load_images("tiny-imagenet", split="test", root=tmp_path / "memory")

    def fail(*_):
        raise OSError(errno.ENOMEM, "no memory left")

    monkeypatch.setattr("mixem.data.sources._part", fail)
    with pytest.raises(OSError, match="no memory left"):
        load_images("tiny-imagenet", split="test", root=tmp_path)


def test_vectors_may_be_seen_through_any_view():
    array = np.random.default_rng(0).random((6, 4), np.float32)
    for view in (array[::-1], array[:, ::2], array.T):
        assert torch.equal(ImageSet.of_vectors(view).images, torch.tensor(view.copy()).half())


def test_a_name_that_looks_like_a_home_is_unknown():
    with pytest.raises(InputError, match="~nobody-of-that-name"):
        load_images("~nobody-of-that-name", split="train")


def packed_file(root: Path, name: str) -> bytes:
    return (root / name / "t10k-images-idx3-ubyte.gz").read_bytes()


def test_default_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_mnist(tmp_path)
    monkeypatch.setenv("MIXEM_DATA", str(tmp_path))
    assert len(load_images("mnist", split="train")) == 3
    monkeypatch.delenv("MIXEM_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match=r"home/\.cache/mixem/MNIST/raw"):
        load_images("mnist", split="train")


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR10, "labels")
    images = load_images("cifar10", split="train+test", root=tmp_path)
    assert images.images.shape == (12, 3, 32, 32)
    assert images.images.is_contiguous()
    assert [10, 20, 30] in images.images[:, :, 9, 9].tolist()
    assert images.labels is not None
    assert sorted(images.labels.tolist()) == [0] * 6 + [5] * 6  # in an order of our own
    assert images.class_names[5] == "class 5"


def test_cifar100_20_has_superclasses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR100, "fine_labels")
    images = load_images("cifar100-20", split="test", root=tmp_path)
    assert images.num_classes == 20
    assert images.labels is not None
    names = [images.class_names[label] for label in images.labels.tolist()]
    assert names == ["fruit and vegetables", "household furniture"]  # apple and bed


def test_cifar100_has_classes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR100, "fine_labels")
    images = load_images("cifar100", split="train+test", root=tmp_path)
    assert images.images.shape == (4, 3, 32, 32)
    assert images.images[0, :, 9, 9].tolist() == [10, 20, 30]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 5, 0, 5]
    assert images.num_classes == 100
    assert [images.class_names[i] for i in (0, 5)] == ["apple", "bed"]


def test_tiny_imagenet(tmp_path: Path):
    write_tiny_imagenet(tmp_path)
    images = load_images("tiny-imagenet", split="train", root=tmp_path)
    assert images.images.shape == (5, 3, 64, 64)
    assert images.class_names == ("maypole", "goldfish, fish")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    levels = images.images[:, :, 30, 30].float()
    expected = torch.tensor([[0.0] * 3, *([level, 0, 0] for level in (20, 40, 100, 120))])
    torch.testing.assert_close(levels, expected, atol=3, rtol=0)  # JPEG is not exact

    test = load_images("tiny-imagenet", split="test", root=tmp_path)
    assert test.labels is not None
    assert test.labels.tolist() == [1, 0]
    torch.testing.assert_close(
        test.images[:, 0, 30, 30].float(), torch.tensor([240.0, 220]), atol=3, rtol=0
    )
    assert len(load_images("tiny-imagenet", split="train+test", root=tmp_path)) == 7


def test_superclasses_have_five_classes_each():
    fine = " ".join(SUPERCLASSES.values()).split()
    assert len(SUPERCLASSES) == 20
    assert all(len(names.split()) == 5 for names in SUPERCLASSES.values())
    assert len(fine) == len(set(fine)) == 100
    # The coarse label of each fine label as the published pickles have them ("coarse_labels"),
    # in the order of the fine labels, which is alphabetical.
    published = """
        4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16
        9 11 5 5 19 8 8 15 13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10
        0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13
    """
    order = {name: i for i, group in enumerate(SUPERCLASSES.values()) for name in group.split()}
    assert [order[name] for name in sorted(fine)] == [int(n) for n in published.split()]


def test_stl10_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_stl10(tmp_path, monkeypatch)
    for split, labels in (
        ("train", [0, 1]),
        ("test", [0, 1, 2]),
        ("train+test", [0, 1, 0, 1, 2]),
        ("train+unlabeled", [0, 1, -1, -1, -1, -1]),
        ("train+unlabeled+test", [0, 1, -1, -1, -1, -1, 0, 1, 2]),
    ):
        images = load_images("stl10", split=split, root=tmp_path)
        assert images.images.shape == (len(labels), 3, 96, 96)
        assert images.labels is not None
        assert images.labels.tolist() == labels
        assert images.class_names == STL10_CLASSES
        assert (images.images[:, :, 7, 5] == 200).all()  # row 7, column 5
        assert (images.images == 200).sum() == 3 * len(labels)
    unlabeled = load_images("stl10", split="unlabeled", root=tmp_path)
    assert len(unlabeled) == 4
    assert unlabeled.labels is None
    assert unlabeled.class_names == ()


def test_stl10_without_the_parts_that_nobody_asked_for(tmp_path: Path, monkeypatch):
    """The unlabelled images are 2.7 GB; train and test were refused without them."""
    write_stl10(tmp_path, monkeypatch)
    (tmp_path / "stl10_binary" / "unlabeled_X.bin").unlink()
    for split, n in (("train", 2), ("test", 3), ("train+test", 5)):
        assert len(load_images("stl10", split=split, root=tmp_path)) == n
    for split in ("unlabeled", "train+unlabeled"):
        with pytest.raises(InputError, match="stl10 is not, or not whole, in"):
            load_images("stl10", split=split, root=tmp_path)
    with (tmp_path / "stl10_binary" / "test_X.bin").open("ab") as file:
        file.write(b"!")
    assert len(load_images("stl10", split="train", root=tmp_path)) == 2
    with pytest.raises(InputError, match="stl10 is not, or not whole, in"):
        load_images("stl10", split="test", root=tmp_path)


# Failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_missing_files_say_where_and_what_to_do(name: str, tmp_path: Path):
    with pytest.raises(InputError, match=r"give the folder .* download=True") as caught:
        load_images(name, split="train", root=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "--download" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments, **options):
        raise OSError("no\nnetwork")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    for name in ("mnist", "cifar10"):
        with pytest.raises(InputError, match=rf"{name} could not be fetched to .*: ") as caught:
            load_images(name, split="train", root=tmp_path, download=True)
        assert "\n" not in str(caught.value)


def test_nothing_is_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments, **options):
        raise AssertionError("downloaded")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    with pytest.raises(InputError, match="not whole"):
        load_images("mnist", split="train", root=tmp_path)


@pytest.mark.parametrize("length", [0, 3, 40])
def test_damaged_files_are_one_line(length: int, tmp_path: Path):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"mnist .*(damaged|not whole)") as caught:
        load_images("mnist", split="train", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_cifar_file_with_a_wrong_checksum_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR10, "labels")
    with (tmp_path / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"!")
    with pytest.raises(InputError, match="cifar10 is not, or not whole, in"):
        load_images("cifar10", split="train", root=tmp_path)


MISSING = "tiny-imagenet is not, or not whole, in"
VAL = "val/val_annotations.txt"
DAMAGED = "the files of tiny-imagenet in .* are damaged"


@pytest.mark.parametrize(
    ("split", "file", "content", "message"),
    [
        ("train", "wnids.txt", None, MISSING),
        ("train", "words.txt", None, MISSING),
        ("train", "wnids.txt", "", MISSING),
        ("test", VAL, None, MISSING),
        ("test", VAL, "", MISSING),
        ("test", "val/images/val_1.JPEG", None, r"val_1\.JPEG'?: No such file"),
        ("train", "train/n01", None, MISSING),
        ("train", "words.txt", "no tab\n", DAMAGED),
        ("train", "words.txt", "n01\tgoldfish\n", DAMAGED),
        ("test", VAL, "val_0.JPEG\n", DAMAGED),
        ("test", VAL, "val_0.JPEG\tn01\nval_1.JPEG\tn02\nval_1.JPEG\tn77\n", DAMAGED),
        ("train", "train/n01/images/n01_1.JPEG", "no picture", r"n01_1\.JPEG'?: not a picture"),
    ],
)
def test_tiny_imagenet_missing_or_damaged(
    tmp_path: Path, split: str, file: str, content: str | None, message: str
):
    path = write_tiny_imagenet(tmp_path) / file
    if content is not None:
        path.write_text(content)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(InputError, match=message) as caught:
        load_images("tiny-imagenet", split=split, root=tmp_path)
    assert "\n" not in str(caught.value)


def test_tiny_imagenet_is_not_downloaded(tmp_path: Path):
    words = r"tiny-imagenet could not be fetched to .* by hand: unpack http"
    with pytest.raises(InputError, match=words):
        load_images("tiny-imagenet", split="train", root=tmp_path, download=True)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("digit", "did you mean 'digits'"), ("CIFAR10", "did you mean 'cifar10'"), ("folder:", "")],
)
def test_unknown_names_list_the_known_ones(name: str, hint: str):
    with pytest.raises(InputError, match=f"no images are called {name!r}") as caught:
        load_images(name, split="train")
    assert hint in str(caught.value)
    assert all(known in str(caught.value) for known in NAMES)


def test_a_path_without_folder_gets_a_hint(tmp_path: Path):
    with pytest.raises(InputError, match=f"give 'folder:{tmp_path}'"):
        load_images(str(tmp_path), split="all")


def test_a_path_is_a_folder_and_a_doubled_word_is_forgiven(tmp_path: Path):
    """Fault 18: records were called folder:folder:photos."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    for name in (tmp_path, f"folder:{tmp_path}", f"folder:folder:{tmp_path}"):
        images = load_images(name, split="all")
        assert images.name == f"folder:{tmp_path}"
        assert images.files == ("a.png",)


def test_a_folder_may_be_called_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "folder:photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert folder_path("folder:folder:photos") == "folder:photos"


def test_images_in_the_place_of_a_name_are_one_line():
    with pytest.raises(InputError, match=r"of type ImageSet; give one of digits, .*ImageSet\.of"):
        load_images(tiny(), split="train")


def test_without_a_home_what_needs_none_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """F10: digits and small folders ended in a traceback."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    monkeypatch.delenv("MIXEM_DATA", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is no home
    assert len(load_images("digits", split="test")) == 500
    assert len(load_images(tmp_path, split="all")) == 1
    with pytest.raises(InputError, match=r"home directory that cannot be found; .*MIXEM_DATA"):
        load_images("mnist", split="test")
    with pytest.raises(InputError, match="home directory that cannot be found"):
        load_images("folder:~/photos", split="all")


@pytest.mark.parametrize("name", ["digits", *SETS])
def test_unknown_splits_list_the_known_ones(name: str):
    with pytest.raises(InputError, match=f"{name} has no split 'val'; give one of train, test"):
        load_images(name, split="val")


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"size": 8.5}, {"size": True}, {"channels": 2}, {"channels": True},
     {"max_pixels": 0}, {"max_pixels": 1e6}, {"split": None}],
)  # fmt: skip
def test_impossible_shapes_are_refused(options: dict):
    with pytest.raises(InputError, match="; give "):
        load_images("digits", **{"split": "test", **options})


def test_a_few_images_of_each_class():
    every = load_images("digits", split="train")
    few = load_images("digits", split="train/20")
    assert few.split == "train/20"
    assert few.labels.bincount().tolist() == [20] * 10
    first = [(every.labels == c).nonzero()[:20, 0] for c in range(10)]
    assert torch.equal(few.images, every.images[torch.cat(first).sort().values])


@pytest.mark.parametrize("split", ["train/0", "train/", "train/x", "train/-1", "train/1000"])
def test_impossible_numbers_of_images_of_each_class(split):
    with pytest.raises(InputError, match="of each class of digits"):
        load_images("digits", split=split)
