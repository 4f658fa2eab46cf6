"""Sets of images in memory, by name."""

import difflib
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from mixem.data.folder import decode, read_folder
from mixem.errors import InputError

NAMES = (
    "digits", "mnist", "cifar10", "cifar100", "cifar100-20", "stl10", "tiny-imagenet",
    "folder:PATH",
)  # fmt: skip

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
# The names in the published class_names.txt, in its order.
STL10_CLASSES = (
    "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
)  # fmt: skip

Part = tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]  # images, labels, class names

# Images of what can be fetched: channels, side, classes, and how many there are in each split.
SHAPES: dict[str, tuple[int, int, int, dict[str, int]]] = {
    "mnist": (1, 28, 10, {"train": 60_000, "test": 10_000}),
    "cifar10": (3, 32, 10, {"train": 50_000, "test": 10_000}),
    "cifar100": (3, 32, 100, {"train": 50_000, "test": 10_000}),
    "cifar100-20": (3, 32, 20, {"train": 50_000, "test": 10_000}),
    "stl10": (3, 96, 10, {"train": 5_000, "test": 8_000, "unlabeled": 100_000}),
    "tiny-imagenet": (3, 64, 200, {"train": 100_000, "test": 10_000}),
}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, with or without labels.

    >>> digits = load_images("digits", split="train+test")
    >>> digits.images.shape, digits.num_classes
    (torch.Size([1797, 1, 8, 8]), 10)

    Attributes:
        name: What :func:`load_images` calls the set.
        split: The part of it.
        images: uint8 ``(N, C, H, W)``. Large folders are mapped from a file that must not be
            written to.
        labels: int64 ``(N,)``, -1 for an unlabelled image; None if no image has a label.
        class_names: What the labels mean; () without labels.
        files: For folders, the path of each image below the folder; else ().
        skipped: For folders, path and reason of each file that could not be read; else ().

    Raises:
        InputError: If the parts do not fit each other.
    """

    name: str
    split: str
    images: torch.Tensor
    labels: torch.Tensor | None
    class_names: tuple[str, ...]
    files: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Check types and lengths."""
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise InputError(
                f"images are {self.images.dtype} of shape {tuple(self.images.shape)}; "
                "give a uint8 tensor of shape (N, C, H, W)"
            )
        if self.labels is None:
            return
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise InputError(
                f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}; "
                f"give an int64 tensor of shape ({len(self.images)},)"
            )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.images.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape and pixels, in hexadecimal; labels do not count."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for block in self.images.split(1024):
            digest.update(block.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def subset(self, index: torch.Tensor | Sequence[int] | slice) -> "ImageSet":
        """The images at ``index``: numbers, a slice, or a bool tensor ``(N,)``."""
        rows = torch.arange(len(self))[index]
        return replace(
            self,
            images=self.images[rows.to(self.images.device)],
            labels=None if self.labels is None else self.labels[rows.to(self.labels.device)],
            files=tuple(self.files[i] for i in rows.tolist()) if self.files else (),
        )


def load_images(
    name: str,
    *,
    split: str,
    root: str | Path | None = None,
    download: bool = False,
    size: int | None = None,
    channels: int | None = None,
    memory_limit: int = 2 * 2**30,
) -> ImageSet:
    """Load a set of images.

    Args:
        name: "digits" (8 x 8, embedded in scikit-learn), "mnist", "cifar10", "cifar100",
            "cifar100-20" (its 20 superclasses), "stl10", "tiny-imagenet" (to be fetched by hand;
            its labelled validation images are "test"), or "folder:PATH".
        split: "train", "test" or "train+test"; for stl10 also "unlabeled",
            "train+unlabeled" and "train+unlabeled+test". Of digits, the first 1,297 images are
            "train" and the last 500 "test". For folders see
            :func:`mixem.data.folder.read_folder`. "train/20" are the first 20 images of each
            class of "train"; labels are used to draw them.
        root: Where the data sets lie, and the cache of large folders. By default
            ``$MIXEM_DATA``, or else ``~/.cache/mixem``.
        download: Fetch a data set that is not there.
        size: Height and width to resize to; by default 64 for folders, and as it is for others.
        channels: 1 or 3, to convert to; by default 3 for folders, and as it is for others.
        memory_limit: Bytes; larger folders are decoded to a file and mapped from it.

    Raises:
        InputError: If there is no such set or split, if its files are missing or broken, or if
            size or channels make no sense.
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise InputError(f"size is {size!r}; give a whole number from 1 on")
    if channels not in (None, 1, 3):
        raise InputError(f"channels is {channels!r}; give 1 or 3")
    whole, few, count = split.partition("/")
    if few:
        every = load_images(
            name, split=whole, root=root, download=download, size=size, channels=channels,
            memory_limit=memory_limit,
        )  # fmt: skip
        return replace(_few_of_each(every, count), split=split)
    root = Path(root or os.environ.get("MIXEM_DATA") or "~/.cache/mixem").expanduser()
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        folder = read_folder(
            path,
            split=split,
            size=size or 64,
            channels=channels or 3,
            cache=root,
            memory_limit=memory_limit,
        )
        return ImageSet(name, split, **folder._asdict())
    labels: torch.Tensor | None
    if name == "digits":
        images, labels, class_names = _digits(split)
    elif name in NAMES[:-1]:
        images, labels, class_names = _from_torchvision(name, split, root, download)
    else:
        raise InputError(_unknown(name))
    return ImageSet(name, split, _converted(images, size, channels), labels, class_names)


def _few_of_each(images: ImageSet, count: str) -> ImageSet:
    """The first ``count`` images of each class."""
    labels = images.labels
    if not (count.isdecimal() and int(count) >= 1) or labels is None:
        raise InputError(
            f"{count!r} images of each class of {images.name}, {images.split}; give a number from "
            "1 on and images with labels"
        )
    chosen = [(labels == c).nonzero()[: int(count), 0] for c in labels[labels >= 0].unique()]
    short = min(len(rows) for rows in chosen)
    if short < int(count):
        raise InputError(f"{count} images of each class of {images.name}; one has {short} only")
    return images.subset(torch.cat(chosen).sort().values)


def _unknown(name: str) -> str:
    """What to say of a name that means nothing."""
    if Path(name).expanduser().is_dir():
        return f"no images are called {name!r}; for the folder, give 'folder:{name}'"
    close = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"no images are called {name!r}{hint}; give one of {', '.join(NAMES)}"


def _parts(name: str, split: str, known: tuple[str, ...]) -> list[str]:
    """The parts of a split like "train+test"."""
    if split not in known:
        raise InputError(f"{name} has no split {split!r}; give one of {', '.join(known)}")
    return split.split("+")


def _digits(split: str) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Images, labels and class names of scikit-learn's digits."""
    parts = _parts("digits", split, ("train", "test", "train+test"))
    data = load_digits()
    first = 0 if "train" in parts else len(data.target) - 500
    last = len(data.target) if "test" in parts else len(data.target) - 500
    grey = np.round(data.images[first:last, None] * (255 / 16)).astype(np.uint8)  # from 0 ... 16
    labels = torch.from_numpy(data.target[first:last]).long()
    return torch.from_numpy(grey), labels, tuple(str(digit) for digit in range(10))


def _from_torchvision(
    name: str, split: str, root: Path, download: bool
) -> tuple[torch.Tensor, torch.Tensor | None, tuple[str, ...]]:
    """Images, labels and class names of a data set that torchvision reads."""
    known: tuple[str, ...] = ("train", "test", "train+test")
    if name == "stl10":
        known = (*known, "unlabeled", "train+unlabeled", "train+unlabeled+test")
    parts = _parts(name, split, known)
    folder, read = READERS[name]
    try:
        sets = [read(root, part, download) for part in parts]
    except InputError:
        raise
    except (OSError, RuntimeError) as error:
        if download:
            reason = " ".join(str(error).split())
            raise InputError(f"{name} could not be fetched to {str(root)!r}: {reason}") from error
        raise InputError(
            f"{name} is not, or not whole, in {str(root / folder)!r}; give the folder that holds "
            f"{folder} as root (--data), or fetch it with download=True (--download)"
        ) from error
    except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the files of {name} in {str(root / folder)!r} are damaged; delete them and fetch "
            "them again with download=True (--download)"
        ) from error
    images = sets[0][0] if len(sets) == 1 else torch.cat([images for images, _, _ in sets])
    if split == "unlabeled":
        return images, None, ()
    return images, torch.cat([labels for _, labels, _ in sets]), sets[0][2]


# torchvision is imported where it is needed: digits and folders do without, and start sooner.
def _mnist(root: Path, part: str, download: bool) -> Part:
    from torchvision.datasets import MNIST

    data = MNIST(root, train=part == "train", download=download)
    return data.data.unsqueeze(1), data.targets, tuple(str(digit) for digit in range(10))


def _cifar10(root: Path, part: str, download: bool) -> Part:
    from torchvision.datasets import CIFAR10

    data = CIFAR10(root, train=part == "train", download=download)
    return _channels_first(data.data), torch.tensor(data.targets), tuple(data.classes)


def _cifar100(root: Path, part: str, download: bool) -> Part:
    from torchvision.datasets import CIFAR100

    data = CIFAR100(root, train=part == "train", download=download)
    return _channels_first(data.data), torch.tensor(data.targets), tuple(data.classes)


def _cifar100_20(root: Path, part: str, download: bool) -> Part:
    images, fine, classes = _cifar100(root, part, download)
    coarse = {name: i for i, names in enumerate(SUPERCLASSES.values()) for name in names.split()}
    number = torch.tensor([coarse[name] for name in classes])
    return images, number[fine], tuple(SUPERCLASSES)


def _stl10(root: Path, part: str, download: bool) -> Part:
    from torchvision.datasets import STL10

    data = STL10(root, split=part, download=download)
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


# Where torchvision puts the files below the root, and how they are read.
READERS: dict[str, tuple[str, Callable[[Path, str, bool], Part]]] = {
    "mnist": ("MNIST/raw", _mnist),
    "cifar10": ("cifar-10-batches-py", _cifar10),
    "cifar100": ("cifar-100-python", _cifar100),
    "cifar100-20": ("cifar-100-python", _cifar100_20),
    "tiny-imagenet": ("tiny-imagenet-200", _tiny_imagenet),
    "stl10": ("stl10_binary", _stl10),
}


def _channels_first(images: NDArray[np.uint8]) -> torch.Tensor:
    """``(N, H, W, C)`` to ``(N, C, H, W)``."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _converted(images: torch.Tensor, size: int | None, channels: int | None) -> torch.Tensor:
    """uint8 images ``(N, C, H, W)`` of the size and number of channels asked for."""
    if size not in (None, images.shape[2]):
        from torchvision.transforms.v2.functional import resize

        images = resize(images, [size, size], antialias=True)
    if channels not in (None, images.shape[1]):
        from torchvision.transforms.v2.functional import rgb_to_grayscale

        images = rgb_to_grayscale(images, num_output_channels=channels)
    return images
