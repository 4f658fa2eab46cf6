"""Speed of the SimCLR recipe beside torchvision's PIL pipeline in a two-worker DataLoader.

    python benchmarks/augment.py

The two take turns in one run, so that whatever else the machine does falls on both; trust the
ratio more than the milliseconds. The recipe is random resized crop, flip, colour jitter and
greyscale at 32 x 32, as MIX'EM trains on CIFAR-10 (its blur is left out on both sides).
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import PIL
import torch
import torchvision
from PIL import Image
from timing import Speed, in_turns, machine
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mixem.data import Augmentation

RECIPE = Augmentation(
    size=32,
    crop_scale=(0.08, 1.0),
    flip=0.5,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    jitter=0.8,
    grey=0.2,
)


class PilViews(Dataset[torch.Tensor]):
    """One view an image by torchvision's PIL transforms, as SimCLR codes usually draw it."""

    def __init__(self, images: torch.Tensor, recipe: Augmentation):
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        assert recipe.crop_scale is not None
        jitter = transforms.ColorJitter(
            recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue
        )
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(
                    recipe.size, scale=recipe.crop_scale, ratio=recipe.crop_ratio
                ),
                transforms.RandomHorizontalFlip(recipe.flip),
                transforms.RandomApply([jitter], recipe.jitter),
                transforms.RandomGrayscale(recipe.grey),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        """A view of one image, float32 ``(3, size, size)``."""
        return self.transform(Image.fromarray(self.images[index]))


class Comparison(NamedTuple):
    """What :func:`measure` finds, in milliseconds a batch.

    Attributes:
        ours: Our views, the four jitter operations in one order for the whole batch.
        ours_by_16: The same with an order for every 16 images, nearer to torchvision's own order
            for each image.
        pil: torchvision's PIL pipeline in a DataLoader.
        ratio: Median over the rounds of pil / ours, and the least and greatest.
        hardware: Processor, threads and versions.
    """

    ours: Speed
    ours_by_16: Speed
    pil: Speed
    ratio: Speed
    hardware: str


def measure(
    *,
    batch_size: int = 256,
    batches: int = 10,
    rounds: int = 7,
    workers: int = 2,
    threads: int = 2,
    device: str = "cpu",
) -> Comparison:
    """Time one view of each image by either way, taking turns.

    Args:
        batch_size: Images a batch.
        batches: Batches a round; a round's time is their mean.
        rounds: Rounds of each; one more of each warms up.
        workers: Worker processes of the DataLoader.
        threads: Threads of torch in this process.
        device: Where our views are computed.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    images = torch.randint(256, (batch_size * batches, 3, 32, 32), dtype=torch.uint8)
    held = images.to(device)
    generator = torch.Generator(device).manual_seed(0)
    loader = DataLoader(
        PilViews(images, RECIPE),
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
    )

    def ours(step: int) -> None:
        for index in torch.randperm(len(held), device=device).split(batch_size):
            for part in held[index].split(step):
                RECIPE(part, generator)
        if device != "cpu":
            torch.cuda.synchronize()

    def pil() -> None:
        for _ in loader:
            pass

    def timed(run: Callable[[], None]) -> Callable[[], float]:
        def milliseconds() -> float:
            start = time.perf_counter()
            run()
            return (time.perf_counter() - start) * 1000 / batches

        return milliseconds

    runs = {
        "ours": timed(lambda: ours(batch_size)),
        "ours_by_16": timed(lambda: ours(16)),
        "pil": timed(pil),
    }
    try:
        times = in_turns(runs, rounds)
        hardware = (
            f"{machine(device)}, {workers} workers, "
            f"torchvision {torchvision.__version__}, pillow {PIL.__version__}"
        )
    finally:
        torch.set_num_threads(threads_before)
    ratios = [pil / ours for pil, ours in zip(times["pil"], times["ours"], strict=True)]
    speeds = {name: Speed.of(values) for name, values in times.items()}
    return Comparison(**speeds, ratio=Speed.of(ratios), hardware=hardware)


def report(found: Comparison) -> str:
    """The comparison as lines of text."""
    lines = [f"{'ms a batch':34} median   range"]
    for label, speed in (
        ("mixem, one order a batch", found.ours),
        ("mixem, an order for 16 images", found.ours_by_16),
        ("torchvision PIL in a DataLoader", found.pil),
    ):
        lines.append(f"{label:34}{speed.median:7.1f}   {speed.least:.1f} to {speed.greatest:.1f}")
    low, high = found.ratio.least, found.ratio.greatest
    lines.append(f"{'mixem is faster by':34}{found.ratio.median:7.1f}   {low:.1f} to {high:.1f}")
    return "\n".join([*lines, found.hardware])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    print(report(measure(**vars(parser.parse_args()))))
