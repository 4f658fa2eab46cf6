"""Speed of the SimCLR recipe beside torchvision's in a DataLoader and beside kornia's.

The recipe is random resized crop, flip, colour jitter and greyscale at 32 x 32, as MIX'EM trains
on CIFAR-10 (its blur is left out on all sides). lightly's transforms are torchvision's PIL ones.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from timing import Row, Run, in_turns, row
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

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
LINEAR = replace(RECIPE, linear_colour=True)
WORKERS = 2


class Views(Dataset[torch.Tensor]):
    """Views of one image at a time by torchvision, as SimCLR codes usually draw them.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        recipe: What to draw.
        pil: From PIL images, else from uint8 tensors.
        views: How many of each image.
    """

    def __init__(
        self, images: torch.Tensor, recipe: Augmentation, *, pil: bool = True, views: int = 1
    ):
        channels_last = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.images = channels_last if pil else images
        self.pil, self.views = pil, views
        tv: Any = transforms if pil else v2  # the older ones are faster on PIL images
        jitter = tv.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
        self.transform = tv.Compose(
            [
                tv.RandomResizedCrop(recipe.size, scale=recipe.crop_scale, ratio=recipe.crop_ratio),
                tv.RandomHorizontalFlip(recipe.flip),
                tv.RandomApply([jitter], recipe.jitter),
                tv.RandomGrayscale(recipe.grey),
                tv.ToTensor() if pil else tv.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Views of one image, float32 ``(views, 3, size, size)``."""
        image = Image.fromarray(self.images[index]) if self.pil else self.images[index]
        return torch.stack([self.transform(image) for _ in range(self.views)])


def loader(dataset: Dataset[torch.Tensor], batch_size: int) -> DataLoader[torch.Tensor]:
    """Shuffled batches by two workers, which stay from one epoch to the next."""
    return DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
    )


def kornia_views(recipe: Augmentation) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same recipe on whole batches of float images by kornia."""
    import kornia.augmentation as K

    draw: Any = K.AugmentationSequential(
        K.RandomResizedCrop(
            (recipe.size, recipe.size), scale=recipe.crop_scale, ratio=recipe.crop_ratio
        ),
        K.RandomHorizontalFlip(p=recipe.flip),
        K.ColorJitter(
            recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue, p=recipe.jitter
        ),
        K.RandomGrayscale(p=recipe.grey),
    )
    return lambda images: draw(images.float().div_(255))


def rows(device: str, *, batch_size: int = 256, batches: int = 8, rounds: int = 7) -> list[Row]:
    """One view of each image of some batches, by all in turns; milliseconds a batch."""
    images = torch.randint(256, (batch_size * batches, 3, 32, 32), dtype=torch.uint8)
    held = images.to(device)
    generator = torch.Generator(device).manual_seed(0)
    kornia = kornia_views(RECIPE)

    def epoch(draw: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for index in torch.randperm(len(held), device=device).split(batch_size):
            draw(held[index])

    def loaded(batches: DataLoader[torch.Tensor]) -> None:
        for batch in batches:
            batch.to(device, non_blocking=True)

    def ours(recipe: Augmentation) -> Callable[[], None]:
        return partial(epoch, partial(recipe, generator=generator))

    pil, tensors = f"torchvision PIL, {WORKERS} workers", f"torchvision v2, {WORKERS} workers"
    runs = {
        "exact": ours(RECIPE),
        "linear": ours(LINEAR),
        "kornia": partial(epoch, kornia),
        pil: partial(loaded, loader(Views(images, RECIPE), batch_size)),
        tensors: partial(loaded, loader(Views(images, RECIPE, pil=False), batch_size)),
    }
    times = in_turns(runs, device=device, rounds=rounds)
    times = {name: [ms / batches for ms in spent] for name, spent in times.items()}
    goals = {"exact": {pil: 10.0, "kornia": 3.5}, "linear": {pil: 20.0, "kornia": 7.0}}
    names = {
        "exact": f"augmentation, torchvision's arithmetic, batch {batch_size}",
        "linear": f"augmentation, `linear_colour`, batch {batch_size}",
    }
    recipes = {"exact": RECIPE, "linear": LINEAR}
    return [
        row(
            names[own],
            times,
            own,
            other,
            goal=goals[own].get(other),
            why=partial(left_out, recipes[own], held[:batch_size], rounds=rounds),
        )
        for own in ("exact", "linear")
        for other in (pil, tensors, "kornia")
    ]


def left_out(recipe: Augmentation, images: torch.Tensor, *, rounds: int) -> str:
    """How much less time a batch takes without each operation."""
    without: dict[str, dict[str, Any]] = {
        "crop and flip": {"crop_scale": None, "flip": 0.0},
        "brightness": {"brightness": 0.0},
        "contrast": {"contrast": 0.0},
        "saturation": {"saturation": 0.0},
        "hue": {"hue": 0.0},
        "greyscale": {"grey": 0.0},
    }
    generator = torch.Generator(images.device).manual_seed(0)
    runs: dict[str, Run] = {
        name: partial(replace(recipe, **values), images, generator)
        for name, values in ({"all": {}} | without).items()
    }
    runs["drawing"] = partial(recipe.draw, len(images), *images.shape[2:], generator)
    times = in_turns(runs, device=str(images.device), rounds=3 * rounds)
    least = {name: min(spent) for name, spent in times.items()}
    whole, drawing = least.pop("all"), least.pop("drawing")
    parts = {name: (whole - ms) / whole for name, ms in least.items()}
    parts["drawing"] = drawing / whole
    most = sorted((name for name in parts if parts[name] > 0), key=lambda name: -parts[name])
    return f"of {whole:.1f} ms " + ", ".join(f"{name} {parts[name]:.0%}" for name in most)
