"""The data sets that are known by name: one record and one reader each."""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from mixem.data.folder import read_folder
from mixem.data.picture import decode, of_the_machine
from mixem.data.root import data_root
from mixem.errors import InputError, memory_is_full, reason

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR100_CLASSES",
    "SOURCES",
    "STL10_CLASSES",
    "SUPERCLASSES",
    "Part",
    "Source",
    "read_source",
]  # fmt: skip

# The 20 superclasses of CIFAR-100 and their classes, with torchvision's spelling of the classes.
# Source: the table on https://www.cs.toronto.edu/~kriz/cifar.html, in its order, which is that of
# the coarse labels in the published files.
SUPERCLASSES = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
CIFAR100_CLASSES = tuple(sorted(" ".join(SUPERCLASSES.values()).split()))
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# The names in the published class_names.txt, in its order.
STL10_CLASSES = (
    "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
)  # fmt: skip
DIGITS = tuple("0123456789")

# What readers raise where a file is not what it should be.
DAMAGED = (
    AssertionError, EOFError, IndexError, KeyError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip

Part = tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]  # images, labels, class names


@dataclass(frozen=True)
class Source:
    """All that there is to say of a data set; to add one, write its reader and a record.

    Attributes:
        read: Called with the folder of all data sets, a part ("train") and whether to fetch what
            is not there; returns images uint8 ``(N, C, H, W)``, labels and class names.
        folder: Where its files lie below the folder of all data sets; "" if a package brings it.
        channels: 1 for grey images, 3 for colour.
        side: Height and width.
        classes: How many.
        counts: Images in each part.
        splits: What may be asked for: parts, and parts joined by "+".
        mirrors: Folders below the folder of all data sets in which it may also lie, as
            ``train/CLASS/*.png`` and ``test/CLASS/*.png``.
        content: Of each part read from a mirror, what ``_content`` gives for the right images.
    """

    read: Callable[[Path, str, bool], Part]
    folder: str
    channels: int
    side: int
    classes: int
    counts: Mapping[str, int]
    splits: tuple[str, ...] = ("train", "test", "train+test")
    mirrors: tuple[str, ...] = ()
    content: Mapping[str, str] = field(default_factory=dict)


def read_source(
    name: str, *, split: str, root: str | Path | None, download: bool
) -> tuple[torch.Tensor, torch.Tensor | None, tuple[str, ...]]:
    """Images, labels and class names of a data set in :data:`SOURCES`.

    Raises:
        InputError: If there is no such split, or if the files are missing or damaged.
    """
    source = SOURCES[name]
    if split not in source.splits:
        raise InputError(f"{name} has no split {split!r}; give one of {', '.join(source.splits)}")
    where = data_root(root) if source.folder else Path()
    try:
        parts = [_part(source, where, part, download) for part in split.split("+")]
    except InputError:
        raise
    except (OSError, RuntimeError) as error:
        if memory_is_full(error) or of_the_machine(error):
            raise
        raise InputError(_missing(name, source, where, download, error)) from error
    except DAMAGED as error:
        raise InputError(
            f"the files of {name} in {str(where / source.folder)!r} are damaged; delete them and "
            "fetch them again with download=True (--download)"
        ) from error
    images = parts[0][0] if len(parts) == 1 else torch.cat([images for images, _, _ in parts])
    if split == "unlabeled":
        return images, None, ()
    return images, torch.cat([labels for _, labels, _ in parts]), parts[0][2]


def _missing(name: str, source: Source, root: Path, download: bool, error: Exception) -> str:
    """What to say of a data set that is not there."""
    if download:
        return f"{name} could not be fetched to {str(root)!r}: {reason(error)}"
    mirror = f" (or pictures as {source.mirrors[0]}/train/CLASS/*.png)" if source.mirrors else ""
    return (
        f"{name} is not, or not whole, in {str(root / source.folder)!r}; give the folder that "
        f"holds {source.folder}{mirror} as root (--data), or fetch it with download=True "
        "(--download)"
    )


def _part(source: Source, root: Path, part: str, download: bool) -> Part:
    """A part from the published files, or else from a mirror's pictures."""
    if not (root / source.folder).is_dir():
        for mirror in source.mirrors:
            if (root / mirror / "train").is_dir():
                return _from_mirror(source, root / mirror, part)
    images, labels, names = source.read(root, part, download)
    if not source.content:
        return images, labels, names
    rows, _ = _fixed_order(images, labels)
    return images[rows], labels[rows], names


def _from_mirror(source: Source, folder: Path, part: str) -> Part:
    """A part from class folders of PNG files, in one order whatever the files are called."""
    found = read_folder(
        folder, split=part, size=source.side, channels=source.channels, cache=None,
        memory_limit=2**62, max_pixels=None,
    )  # fmt: skip
    if found.labels is None:
        raise InputError(f"{str(folder / part)!r} has no class folders; {_AS_FOLDER}")
    rows, digests = _fixed_order(found.images, found.labels)
    labels = found.labels.tolist()
    if _content(digests, labels) != source.content[part]:
        raise InputError(
            f"the {len(labels)} pictures in {str(folder / part)!r} are not the "
            f"{source.counts[part]} published ones, or not in their classes; {_AS_FOLDER}"
        )
    return found.images[rows], found.labels[rows], found.class_names


def _fixed_order(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, list[bytes]]:
    """The order of the SHA-256 of the pixels, as good as random, and these.

    The published order cannot be told from pictures in class folders; this one can, and it serves
    for both, so that the set is the same whichever layout it came in.
    """
    digests = [hashlib.sha256(image.numpy().data).digest() for image in images]
    numbers = labels.tolist()
    order = sorted(range(len(numbers)), key=lambda i: (digests[i], numbers[i]))
    return torch.tensor(order), digests


_AS_FOLDER = "give folder:PATH to read them as pictures of your own"


def _content(digests: list[bytes], labels: list[int]) -> str:
    """What tells a set of labelled images from every other, whatever their order."""
    content = hashlib.sha256()
    for digest, label in sorted(zip(digests, labels, strict=True)):
        content.update(digest + struct.pack("<i", label))
    return content.hexdigest()


# Readers ----------------------------------------------------------------------------------------
# torchvision is imported where it is needed: digits and folders do without, and start sooner.


def _digits(root: Path, part: str, download: bool) -> Part:
    data = load_digits()
    rows = slice(None, -500) if part == "train" else slice(-500, None)
    grey = np.round(data.images[rows, None] * (255 / 16)).astype(np.uint8)  # from 0 ... 16
    return torch.from_numpy(grey), torch.from_numpy(data.target[rows]).long(), DIGITS


def _mnist(root: Path, part: str, download: bool, *, kind: str, packed: str) -> Part:
    """MNIST, or a set with the same files; also as .gz files in the folder ``packed``."""
    from torchvision import datasets

    names = DIGITS if kind == "MNIST" else tuple(getattr(datasets, kind).classes)
    prefix = "train" if part == "train" else "t10k"
    if (root / packed / "train-images-idx3-ubyte.gz").is_file() and not (root / kind).is_dir():
        images = _idx(root / packed / f"{prefix}-images-idx3-ubyte.gz", 3)
        labels = _idx(root / packed / f"{prefix}-labels-idx1-ubyte.gz", 1)
    else:
        data = getattr(datasets, kind)(root, train=part == "train", download=download)
        images, labels = data.data, data.targets
    if len(images) != len(labels):
        raise ValueError("as many labels as images are needed")
    return images.unsqueeze(1), labels.long(), names


def _idx(file: Path, dimensions: int) -> torch.Tensor:
    """The bytes of an IDX file."""
    content = gzip.decompress(file.read_bytes())
    magic, *shape = struct.unpack(f">{dimensions + 1}I", content[: 4 * dimensions + 4])
    if magic != 0x800 + dimensions:
        raise ValueError("not such an IDX file")
    values = np.frombuffer(content, np.uint8, offset=4 * dimensions + 4).reshape(shape)
    return torch.from_numpy(values.copy())


def _cifar10(root: Path, part: str, download: bool) -> Part:
    from torchvision.datasets import CIFAR10

    data = CIFAR10(root, train=part == "train", download=download)
    return _channels_first(data.data), torch.tensor(data.targets), tuple(data.classes)


def _cifar100(root: Path, part: str, download: bool) -> Part:
    from torchvision.datasets import CIFAR100

    data = CIFAR100(root, train=part == "train", download=download)
    return _channels_first(data.data), torch.tensor(data.targets), tuple(data.classes)


def _cifar100_20(root: Path, part: str, download: bool) -> Part:
    images, fine, classes = _part(SOURCES["cifar100"], root, part, download)
    coarse = {name: i for i, names in enumerate(SUPERCLASSES.values()) for name in names.split()}
    number = torch.tensor([coarse[name] for name in classes])
    return images, number[fine], tuple(SUPERCLASSES)


def _stl10(root: Path, part: str, download: bool) -> Part:
    from torchvision.datasets import STL10
    from torchvision.datasets.utils import check_integrity

    class OnePart(STL10):
        """Only the files of this part must be there; the unlabelled images are 2.7 GB."""

        def _check_integrity(self) -> bool:
            files = [row for row in (*STL10.train_list, *STL10.test_list) if part in row[0]]
            return all(check_integrity(root / self.base_folder / file, md5) for file, md5 in files)

    data = OnePart(root, split=part, download=download)
    images = torch.from_numpy(np.ascontiguousarray(data.data))
    return images, torch.from_numpy(np.asarray(data.labels)).long(), STL10_CLASSES


def _tiny_imagenet(root: Path, part: str, download: bool) -> Part:
    folder = root / "tiny-imagenet-200"
    if download and not folder.is_dir():
        raise OSError(
            "it has to be fetched by hand: unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip "
            f"into {str(root)!r}"
        )
    ids = (folder / "wnids.txt").read_text(encoding="utf-8").split()
    lines = (folder / "words.txt").read_text(encoding="utf-8").splitlines()
    words = dict(line.split("\t") for line in lines if line)
    number = {name: i for i, name in enumerate(ids)}
    if part == "train":
        files = [
            (file, name)
            for name in ids
            for file in sorted((folder / "train" / name).rglob("*.JPEG"))
        ]
    else:
        listed = (folder / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
        files = [
            (folder / "val" / "images" / (row := line.split("\t"))[0], row[1]) for line in listed
        ]
    if not files or set(ids) - {name for _, name in files}:
        raise FileNotFoundError(folder / part)
    images = np.stack([_picture(file) for file, _ in files])
    labels = torch.tensor([number[name] for _, name in files])
    return torch.from_numpy(images), labels, tuple(words[name] for name in ids)


def _picture(file: Path) -> NDArray[np.uint8]:
    try:
        return decode(file, 64, 3)
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error}; unpack the data set again") from error


def _channels_first(images: NDArray[np.uint8]) -> torch.Tensor:
    """``(N, H, W, C)`` to ``(N, C, H, W)``."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


CIFAR = {"train": 50_000, "test": 10_000}
SOURCES: dict[str, Source] = {
    "digits": Source(_digits, "", 1, 8, 10, {"train": 1_297, "test": 500}),
    "mnist": Source(
        partial(_mnist, kind="MNIST", packed="mnist"),
        "MNIST/raw", 1, 28, 10, {"train": 60_000, "test": 10_000},
    ),
    "fashion-mnist": Source(
        partial(_mnist, kind="FashionMNIST", packed="fashion-mnist"),  # as Debian's package has it
        "FashionMNIST/raw", 1, 28, 10, {"train": 60_000, "test": 10_000},
    ),
    "cifar10": Source(
        _cifar10, "cifar-10-batches-py", 3, 32, 10, CIFAR,
        mirrors=("cifar10", "CIFAR-10-dataset"),
        content={
            "train": "f08ccbf7778b4666bfd11fe3093ed10ef62cc455a7200395b68456dcaeeb7036",
            "test": "b5f2989ff1aebf506ca8a94dcc4c837ea945d53d313f7df6e50b82791a544824",
        },
    ),
    "cifar100": Source(
        _cifar100, "cifar-100-python", 3, 32, 100, CIFAR,
        mirrors=("cifar100", "CIFAR-100-dataset"),
        content={
            "train": "1b886fc34e6aa0530fb65f506ae7c701f6f09acda5e18c6912ad04cd8646379b",
            "test": "74d277935e6a3b83fbe3dd1ac310cabd8b2748d7be538ec6de96fef769e95c9a",
        },
    ),
    "cifar100-20": Source(_cifar100_20, "cifar-100-python", 3, 32, 20, CIFAR),
    "stl10": Source(
        _stl10, "stl10_binary", 3, 96, 10, {"train": 5_000, "test": 8_000, "unlabeled": 100_000},
        splits=(
            "train", "test", "train+test", "unlabeled", "train+unlabeled", "train+unlabeled+test",
        ),
    ),
    "tiny-imagenet": Source(
        _tiny_imagenet, "tiny-imagenet-200", 3, 64, 200, {"train": 100_000, "test": 10_000}
    ),
}  # fmt: skip
