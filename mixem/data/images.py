"""Image sets in memory, by name."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from sklearn.datasets import load_digits

from mixem.errors import InputError

NAMES = ("digits", "mnist", "cifar10", "cifar100-20", "stl10", "folder:PATH")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with or without labels."""

    name: str
    split: str
    images: torch.Tensor
    labels: torch.Tensor | None
    class_names: tuple[str, ...]
    files: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        for chunk in self.images.split(4096):
            digest.update(chunk.contiguous().cpu().numpy().data)
        return digest.hexdigest()

    def subset(self, index: torch.Tensor) -> "ImageSet":
        return replace(
            self,
            images=self.images[index],
            labels=None if self.labels is None else self.labels[index],
            files=tuple(self.files[i] for i in index.tolist()) if self.files else (),
        )


def load_images(
    name: str,
    *,
    split: str,
    root: str | Path | None = None,
    download: bool = False,
    size: int | None = None,
    channels: int | None = None,
) -> ImageSet:
    """The images called ``name``."""
    if name != "digits":
        raise InputError(f"no images called {name!r}; give one of {', '.join(NAMES)}")
    data = load_digits()
    images = torch.from_numpy(data.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    parts = {"train": slice(0, -500), "test": slice(-500, None), "train+test": slice(None)}
    if split not in parts:
        raise InputError(f"digits has no split {split!r}; give one of {', '.join(parts)}")
    part = parts[split]
    return ImageSet(
        name,
        split,
        images[part].contiguous(),
        torch.from_numpy(data.target)[part].long(),
        tuple(str(c) for c in range(10)),
    )
