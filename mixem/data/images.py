"""Sets of images, or of their features, in memory, by name or from arrays."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixem.data.checks import check_vectors, shared
from mixem.data.folder import read_folder
from mixem.data.masks import IGNORED, read_pairs
from mixem.data.root import expanded
from mixem.data.scenes import SCENES, read_scenes
from mixem.data.sources import SOURCES, read_source
from mixem.errors import InputError

__all__ = [
    "NAMES",
    "SHAPES",
    "ImageSet",
    "folder_path",
    "load_images",
    "network_of",
    "own_path",
]

NAMES = (*SOURCES, *SCENES, "folder:PATH", "pairs:PATH")
OWN = ("folder", "pairs")  # what may stand before a path

# Images of what can be fetched: channels, side, classes, and how many there are in each split.
SHAPES: dict[str, tuple[int, int, int, dict[str, int]]] = {
    name: (source.channels, source.side, source.classes, dict(source.counts))
    for name, source in SOURCES.items()
    if source.folder
}
SHOWN = 3  # skipped files that are named in one line
MOST_CLASSES = 2**16  # of labels without names, so that a stray number does not make a million


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, with or without labels, or with a mask each.

    >>> digits = load_images("digits", split="train+test")
    >>> digits.images.shape, digits.num_classes
    (torch.Size([1797, 1, 8, 8]), 10)

    Arrays of other shapes and types come in through :meth:`of`. Instead of pixels a set may hold
    vectors, features that another network found; they come in through :meth:`of_vectors`.

    Attributes:
        images: uint8 ``(N, C, H, W)``, or float16 vectors ``(N, D)``. Large folders and features
            are mapped from a file that must not be written to.
        labels: int64 ``(N,)``, -1 for an unlabelled image; None if no image has a label.
        class_names: What the labels or the values of the masks mean; () without both. By default
            the numbers.
        name: What :func:`load_images` calls the set.
        split: The part of it.
        files: For folders, the path of each image below the folder; else ().
        skipped: For folders, path and reason of each file and sub-folder that could not be read;
            else ().
        passed_over: For folders, ending and number of files that are no pictures by their ending,
            such as ``(".svg", 248)``; else ().
        notes: For folders, a line on each thing that is worth knowing, such as what white is in
            pictures of 16 bits; else ().
        masks: uint8 ``(N, H, W)``, the class of each pixel, 255 where nobody says; None if no
            image has a mask.
        origin: For vectors, which network found them in which pictures; else {}.

    Raises:
        InputError: If the parts do not fit each other.
    """

    images: torch.Tensor
    labels: torch.Tensor | None = None
    class_names: tuple[str, ...] = ()
    name: str = "own"
    split: str = "train"
    files: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    passed_over: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    masks: torch.Tensor | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check types and lengths."""
        if not isinstance(self.images, torch.Tensor):
            raise InputError(
                f"images are of type {type(self.images).__name__}; give a uint8 tensor first, "
                "ImageSet(images, labels), or an array to ImageSet.of"
            )
        if (self.images.dtype, self.images.ndim) not in ((torch.uint8, 4), (torch.float16, 2)):
            raise InputError(
                f"images are {self.images.dtype} of shape {tuple(self.images.shape)}; "
                "give a uint8 tensor of shape (N, C, H, W), or use ImageSet.of (of vectors, "
                "ImageSet.of_vectors)"
            )
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if self.masks is not None:
            names = _names_of(self.masks, self.images, self.class_names)
            object.__setattr__(self, "class_names", names)
        if self.labels is None:
            return
        if not isinstance(self.labels, torch.Tensor):
            raise InputError(
                f"labels are of type {type(self.labels).__name__}; give an int64 tensor of shape "
                f"({len(self.images)},), or use ImageSet.of"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise InputError(
                f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}; "
                f"give an int64 tensor of shape ({len(self.images)},)"
            )
        if not self.class_names:
            object.__setattr__(self, "class_names", _numbers(self.labels))

    @classmethod
    def of(
        cls,
        array: Any,
        labels: Any = None,
        *,
        name: str = "own",
        split: str = "train",
        class_names: Sequence[str] | None = None,
        masks: Any = None,
    ) -> "ImageSet":
        """Images of one's own, from NumPy arrays or tensors.

        >>> grey = np.zeros((5, 28, 28))
        >>> own = ImageSet.of(grey, labels=[0, 1, 1, 0, -1], class_names=["cat", "dog"])
        >>> own.images.shape, own.images.dtype, own.num_classes
        (torch.Size([5, 1, 28, 28]), torch.uint8, 2)

        Args:
            array: ``(N, C, H, W)`` or ``(N, H, W, C)`` with C = 1 or 3, or ``(N, H, W)`` of grey
                images; uint8, or floating-point numbers from 0 to 1. Where both of the first two
                fit, it is the first. uint8 pixels are shared with the array, not copied.
            labels: N whole numbers, -1 for an image without a label; None if no image has one.
            name: What the set is called in records.
            split: The part of it.
            class_names: What the labels mean, as many as there are classes; by default the
                numbers.
            masks: ``(N, H, W)``, the class of each pixel: whole numbers, 255 or negative ones
                where nobody says. Instead of labels.

        Raises:
            InputError: If shape, type or values are others.
        """
        images = _pixels(array)
        if masks is not None:
            if labels is not None:
                raise InputError("labels and masks; give one of the two")
            names = () if class_names is None else tuple(map(str, class_names))
            return cls(images, None, names, name=name, split=split, masks=_masks(masks))
        numbers = None if labels is None else _labels(labels, len(images))
        if numbers is None or bool((numbers < 0).all()):
            return cls(images, None, (), name=name, split=split)
        names = _numbers(numbers) if class_names is None else tuple(map(str, class_names))
        if int(numbers.max()) >= len(names):
            raise InputError(
                f"labels go up to {int(numbers.max())} with {len(names)} class_names; give a name "
                "for each class, numbered from 0 on"
            )
        return cls(images, numbers, names, name=name, split=split)

    @classmethod
    def of_vectors(
        cls,
        array: Any,
        labels: Any = None,
        *,
        name: str = "own",
        split: str = "train",
        class_names: Sequence[str] | None = None,
    ) -> "ImageSet":
        """Features of one's own, from a NumPy array or a tensor, kept in float16.

        >>> own = ImageSet.of_vectors(np.eye(4, 6), labels=[0, 0, 1, 1])
        >>> own.images.shape, own.images.dtype
        (torch.Size([4, 6]), torch.float16)

        Args:
            array: ``(N, D)``, floating-point numbers, one row an image.
            labels: See :meth:`of`.
            name: What the set is called in records.
            split: The part of it.
            class_names: See :meth:`of`.

        Raises:
            InputError: If shape, type or values are others, or a row is not finite, too large for
                float16 or all zeros.
        """
        if isinstance(array, np.ndarray):
            array = shared(np.ascontiguousarray(array))
        rows = torch.as_tensor(array)
        if rows.ndim != 2 or 0 in rows.shape or not rows.is_floating_point():
            raise InputError(
                f"vectors are {rows.dtype} of shape {tuple(rows.shape)}; give floating-point "
                "numbers of shape (N, D), one row an image"
            )
        vectors = rows.detach().to(torch.float16)
        numbers = None if labels is None else _labels(labels, len(vectors))
        names = class_names if class_names is not None or numbers is None else _numbers(numbers)
        made = cls(vectors, numbers, tuple(map(str, names or ())), name=name, split=split)
        check_vectors(made.images)
        return made

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour; of vectors their length."""
        return self.images.shape[1]

    @property
    def left_out(self) -> str:
        """One line on what of a folder is not among the images, and on how it was read; or ""."""
        parts = []
        if self.skipped:
            shown = [f"{name!r}: {reason}" for name, reason in self.skipped[:SHOWN]]
            more = ["..."] if self.skipped[SHOWN:] else []
            parts.append(f"{len(self.skipped)} skipped ({'; '.join([*shown, *more])})")
        if self.passed_over:
            counts = [f"{n} {ending or 'without an ending'}" for ending, n in self.passed_over]
            more = [f"{len(counts) - SHOWN} other endings"] if counts[SHOWN:] else []
            parts.append(f"{', '.join([*counts[:SHOWN], *more])} not read")
        return "; ".join([*parts, *self.notes])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape and pixels, or vectors, in hexadecimal; labels do not count."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for block in self.images.split(1024):
            digest.update(block.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def subset(self, index: torch.Tensor | Sequence[int] | slice) -> "ImageSet":
        """The images at ``index``: numbers, a slice, or a bool tensor ``(N,)``."""
        if not isinstance(index, slice):
            kind = torch.as_tensor(index).dtype
            if kind.is_floating_point and len(index):
                raise InputError(f"an index of {kind}; give whole numbers, a slice or bools")
        rows = torch.arange(len(self))[index]
        return replace(
            self,
            images=self.images[rows.to(self.images.device)],
            labels=None if self.labels is None else self.labels[rows.to(self.labels.device)],
            masks=None if self.masks is None else self.masks[rows.to(self.masks.device)],
            files=tuple(self.files[i] for i in rows.tolist()) if self.files else (),
        )

    def with_classes(self, class_names: Sequence[str]) -> "ImageSet":
        """The same images, with the classes of another set, matched by their names.

        A label whose name the other set has not becomes -1, unlabelled.

        Args:
            class_names: Of the other set.

        Raises:
            InputError: If no class has a name that is there.
        """
        names = tuple(class_names)
        if self.labels is None or names == self.class_names:
            return self
        if not set(names) & set(self.class_names):
            raise InputError(
                f"the classes of {self.name} are {_some(self.class_names)}, and those asked for "
                f"{_some(names)}; give folders of the same names"
            )
        place = {name: number for number, name in enumerate(names)}
        numbers = torch.tensor([place.get(name, -1) for name in self.class_names] + [-1])
        labels = numbers[self.labels.cpu()].to(self.labels.device)  # -1 is the last of them
        return replace(self, labels=labels, class_names=names)


def _some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")


def load_images(
    name: str | Path,
    *,
    split: str,
    root: str | Path | None = None,
    download: bool = False,
    size: int | None = None,
    channels: int | None = None,
    memory_limit: int = 2 * 2**30,
    max_pixels: int | None = None,
    pad: bool = False,
) -> ImageSet:
    """Load a set of images.

    Args:
        name: "digits" (8 x 8, embedded in scikit-learn), "mnist", "fashion-mnist", "cifar10",
            "cifar100", "cifar100-20" (its 20 superclasses), "stl10", "tiny-imagenet" (to be
            fetched by hand; its labelled validation images are "test"), or "folder:PATH"; a
            :class:`~pathlib.Path` is a folder. With masks: "textures" (see
            ``mixem.data.textures.textures``), "brain" (see
            ``mixem.data.brain.brain_slices``), "coco-stuff" and "coco-stuff-3" (see
            ``mixem.data.coco_stuff.read_coco_stuff``), "potsdam" and "potsdam-3" (see
            ``mixem.data.potsdam.read_potsdam``), and "pairs:PATH" (see
            ``mixem.data.masks.read_pairs``; its split is "all"). CIFAR is also read from PNG
            files in class folders, ``cifar10/train/CLASS`` or ``CIFAR-10-dataset/train/CLASS``
            below the root, in an order of their own.
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
        max_pixels: Pictures of a folder with more pixels are skipped; by default Pillow's limit,
            about 89 million.
        pad: Of pictures of a folder that are not square, add to the shorter side instead of
            cropping the longer one; see :func:`mixem.data.decode`.

    Raises:
        InputError: If there is no such set or split, if its files are missing or broken, or if
            size, channels or max_pixels make no sense.
    """
    if isinstance(name, Path):
        name = f"folder:{name}"
    _check_arguments(name, split, size, channels, max_pixels)
    whole, few, count = split.partition("/")
    if few:
        every = load_images(
            name, split=whole, root=root, download=download, size=size, channels=channels,
            memory_limit=memory_limit, max_pixels=max_pixels, pad=pad,
        )  # fmt: skip
        return replace(_few_of_each(every, count), split=split)
    if path := folder_path(name):
        folder = read_folder(
            path, split=split, size=size or 64, channels=channels or 3, cache=root,
            memory_limit=memory_limit, max_pixels=max_pixels, pad=pad,
        )  # fmt: skip
        return ImageSet(name=f"folder:{path}", split=split, **folder._asdict())
    if path := own_path(name)[1]:
        if split != "all":
            raise InputError(f"pairs:{path} has no split {split!r}; give 'all'")
        if pad:
            raise InputError("pictures with masks are cropped; leave pad out")
        folder, masks, names = read_pairs(
            path, size=size or 64, channels=channels or 3, cache=root, memory_limit=memory_limit
        )
        found = ImageSet(name=f"pairs:{path}", split=split, **folder._asdict())
        return replace(found, masks=masks, class_names=names)
    if name in SCENES:
        images, masks, names = read_scenes(name, split=split, size=size, root=root)
        return ImageSet(_converted(images, size, channels), None, names, name, split, masks=masks)
    if name not in SOURCES:
        raise InputError(_unknown(name))
    images, labels, class_names = read_source(name, split=split, root=root, download=download)
    return ImageSet(_converted(images, size, channels), labels, class_names, name, split)


def folder_path(name: str) -> str:
    """The path in "folder:PATH", "" for any other name; a doubled "folder:" is forgiven.

    >>> folder_path("folder:photos"), folder_path("folder:folder:photos"), folder_path("digits")
    ('photos', 'photos', '')
    """
    kind, _, path = name.partition(":")
    if kind != "folder":
        return ""
    doubled = path.startswith("folder:") and not Path(path).is_dir()
    return folder_path(path) if doubled else path


def network_of(name: str) -> tuple[str, str]:
    """The images and the pretrained network in "IMAGES@NETWORK"; "" where there is no network.

    >>> network_of("cifar10@efficientnet-lite0"), network_of("folder:me@home")
    (('cifar10', 'efficientnet-lite0'), ('folder:me@home', ''))
    """
    images, _, network = name.rpartition("@")
    known = network.startswith(("efficientnet-lite", "torchvision:", "timm:"))
    return (images, network) if images and known else (name, "")


def own_path(name: str) -> tuple[str, str]:
    """Kind and path of images of one's own: "folder" or "pairs", and where they lie; else ("", "").

    >>> own_path("pairs:maps"), own_path("folder:photos"), own_path("digits")
    (('pairs', 'maps'), ('folder', 'photos'), ('', ''))
    """
    kind, _, path = name.partition(":")
    if kind == "folder":
        path = folder_path(name)
    return (kind, path) if kind in OWN and path else ("", "")


def _check_arguments(name: Any, split: Any, size: Any, channels: Any, max_pixels: Any) -> None:
    if not isinstance(name, str):
        raise InputError(
            f"name is of type {type(name).__name__}; give one of {', '.join(NAMES)} (arrays and "
            "tensors need no loading: ImageSet.of)"
        )
    if not isinstance(split, str):
        raise InputError(f"split is {split!r}; give a text such as 'train'")
    for what, value in (("size", size), ("max_pixels", max_pixels)):
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(f"{what} is {value!r}; give a whole number from 1 on")
    if channels is not None and (type(channels) is not int or channels not in (1, 3)):
        raise InputError(f"channels is {channels!r}; give 1 or 3")


def _pixels(array: Any) -> torch.Tensor:
    """Images ``(N, C, H, W)``, uint8, from what :meth:`ImageSet.of` takes."""
    if isinstance(array, ImageSet):
        raise InputError("images are an ImageSet already; use it as it is")
    if not isinstance(array, np.ndarray | torch.Tensor):
        raise InputError(
            f"images are of type {type(array).__name__}; give a NumPy array or a tensor, such as "
            "numpy.stack(images)"
        )
    images = _in_order(_tensor(array))
    if images.dtype == torch.uint8:
        return images
    least, most = images.min().item(), images.max().item()
    if not (least >= 0 and most <= 1):  # also where there is a NaN
        raise InputError(
            f"images are {images.dtype} from {least:g} to {most:g}; give numbers from 0 to 1, or "
            "uint8 from 0 to 255"
        )
    return (images.float() * 255).round_().to(torch.uint8)


def _tensor(array: "np.ndarray[Any, Any] | torch.Tensor") -> torch.Tensor:
    """A tensor of uint8 or floating-point numbers."""
    if isinstance(array, np.ndarray) and array.dtype in (np.uint8, np.float16, np.float32, float):
        array = shared(np.ascontiguousarray(array))
    if isinstance(array, torch.Tensor) and (
        array.dtype == torch.uint8 or array.dtype.is_floating_point
    ):
        return array.detach()
    raise InputError(
        f"images are {array.dtype}; give uint8 from 0 to 255, or floating-point numbers from 0 to 1"
    )


def _in_order(images: torch.Tensor) -> torch.Tensor:
    """Images ``(N, C, H, W)`` from any of the shapes that are taken."""
    shape = tuple(images.shape)
    if 0 in shape:
        raise InputError(f"images of shape {shape}; give at least one image of one pixel")
    if len(shape) == 3 and shape[2] in (1, 3):
        raise InputError(f"one image of shape {shape}; give several, or array[None] for one")
    if len(shape) == 3:
        return images[:, None]
    if len(shape) == 4 and shape[1] in (1, 3):
        return images.contiguous()
    if len(shape) == 4 and shape[3] in (1, 3):
        return images.permute(0, 3, 1, 2).contiguous()
    raise InputError(
        f"images of shape {shape}; give (N, C, H, W) or (N, H, W, C) with 1 or 3 channels, or "
        "(N, H, W)"
    )


def _labels(labels: Any, n: int) -> torch.Tensor:
    """int64 ``(n,)``."""
    values = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if values.shape != (n,):
        raise InputError(f"labels of shape {values.shape} for {n} images; give {n} whole numbers")
    if values.dtype.kind not in "iu":
        raise InputError(
            f"labels are {values.dtype}; give whole numbers, such as "
            "numpy.unique(labels, return_inverse=True)[1]"
        )
    if values.min() < -1:
        raise InputError(f"a label is {values.min()}; give numbers from 0 on, or -1 for no label")
    return torch.from_numpy(values.astype(np.int64))


def _masks(masks: Any) -> torch.Tensor:
    """uint8 ``(N, H, W)`` from what :meth:`ImageSet.of` takes."""
    if isinstance(masks, torch.Tensor):
        masks = (masks.float() if masks.is_floating_point() else masks).cpu()
    values = np.asarray(masks)  # PyTorch cannot compare unsigned numbers of 16 bits and more
    if values.dtype == np.uint8:
        return shared(np.ascontiguousarray(values))
    if values.dtype.kind not in "biu" or (values.size and values.max() > IGNORED):
        raise InputError(
            f"masks are {values.dtype}; give whole numbers below {IGNORED}, the class of each "
            f"pixel, and {IGNORED} or -1 where nobody says"
        )
    return torch.from_numpy(np.where(values < 0, IGNORED, values.astype(int)).astype(np.uint8))


def _names_of(masks: torch.Tensor, images: torch.Tensor, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the classes of masks, by default their numbers; refuses what does not fit."""
    expected = (len(images), *images.shape[2:])
    if not isinstance(masks, torch.Tensor) or masks.dtype != torch.uint8:
        kind = masks.dtype if isinstance(masks, torch.Tensor) else type(masks).__name__
        raise InputError(f"masks are {kind}; give a uint8 tensor, or an array to ImageSet.of")
    if masks.shape != expected:
        raise InputError(f"masks have shape {tuple(masks.shape)}; give one of {expected}")
    # Block by block, for masks may be large and mapped from a file.
    most = max(
        (int(torch.where(part == IGNORED, 0, part).max()) for part in masks.split(1024)), default=0
    )
    if not names:
        return tuple(str(number) for number in range(most + 1))
    if most >= len(names):
        raise InputError(
            f"a mask has class {most} with {len(names)} class_names; give a name for each class, "
            f"numbered from 0 on, and {IGNORED} to pixels whose class nobody knows"
        )
    return names


def _numbers(labels: torch.Tensor) -> tuple[str, ...]:
    """Names of classes that have none; () if no image has a label."""
    most = int(labels.max()) if len(labels) else -1
    if most >= MOST_CLASSES:
        raise InputError(f"a label is {most}; number the classes from 0 on, without gaps")
    return tuple(str(number) for number in range(most + 1))


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
    if expanded(name).is_dir():
        return f"no images are called {name!r}; for the folder, give 'folder:{name}'"
    close = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"no images are called {name!r}{hint}; give one of {', '.join(NAMES)}"


def _converted(images: torch.Tensor, size: int | None, channels: int | None) -> torch.Tensor:
    """uint8 images ``(N, C, H, W)`` of the size and number of channels asked for."""
    if size not in (None, images.shape[2]):
        from torchvision.transforms.v2.functional import resize

        images = resize(images, [size, size], antialias=True)
    if channels not in (None, images.shape[1]):
        if images.shape[1] not in (1, 3):
            raise InputError(
                f"channels is {channels} for images of {images.shape[1]}; leave it out"
            )
        from torchvision.transforms.v2.functional import rgb_to_grayscale

        images = rgb_to_grayscale(images, num_output_channels=channels)
    return images
