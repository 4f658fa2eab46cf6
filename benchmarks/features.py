"""Speed of what comes before and after a pretrained network's features, and of the features.

Needs ``pip install -e '.[pretrained]'``; without it there are no rows of features.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timing import Row, in_turns, row

from mixem.clustering import nearest_neighbours
from mixem.data import Augmentation, ImageSet
from mixem.features import features
from mixem.methods import SCAN, SCANSettings
from mixem.models import Prepared
from mixem.models.pretrained import pretrained

PICTURES, BATCH = 128, 32
VECTORS, LENGTH, NEAREST = 10_000, 1_280, 20
HEADS, CLUSTERS, STEP = 50, 10, 512


def rows(device: str) -> Iterator[Row]:
    """Features beside a plain loop, neighbours beside torch, heads beside a loop over them."""
    if importlib.util.find_spec("timm"):
        yield of_features(device)
    yield of_neighbours(device)
    yield of_heads(device)


def of_features(device: str) -> Row:
    """EfficientNet-Lite0: ours as it is by default, and timm's network at the same size."""
    pixels = torch.randint(0, 256, (PICTURES, 3, 96, 96), dtype=torch.uint8)
    images, network = ImageSet(pixels, name="noise"), pretrained()
    size = network.preprocessing.size
    mean, std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (network.preprocessing.mean, network.preprocessing.std)
    )

    def ours() -> None:
        with tempfile.TemporaryDirectory() as cache:
            features(images, network, cache=Path(cache), device=device, progress=False)

    @torch.inference_mode()
    def plain() -> None:
        net = network.network.to(device)
        for part in pixels.split(BATCH):
            squares = [
                np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), 3))
                for image in part
            ]
            x = torch.from_numpy(np.stack(squares)).to(device).permute(0, 3, 1, 2)
            net((x / 255 - mean) / std).cpu()

    times = in_turns(
        {"features, bfloat16, batches of 8": ours, "a plain loop, float32, batches of 32": plain},
        device=device,
        rounds=3,
    )
    return row(
        f"features of {PICTURES} pictures, EfficientNet-Lite0",
        times,
        "features, bfloat16, batches of 8",
        "a plain loop, float32, batches of 32",
        goal=2,
    )


def of_neighbours(device: str) -> Row:
    """Exact neighbours, and all cosines at once with the largest of each row."""
    x = torch.randn(VECTORS, LENGTH, device=device)
    unit = F.normalize(x)
    times = in_turns(
        {
            "in blocks": lambda: nearest_neighbours(x, NEAREST),
            "one product, then topk": lambda: (unit @ unit.T).topk(NEAREST + 1),
        },
        device=device,
        rounds=3,
    )
    return row(
        f"{NEAREST} neighbours of {VECTORS:,} x {LENGTH:,}",
        times,
        "in blocks",
        "one product, then topk",
    )


def of_heads(device: str) -> Row:
    """A step of many heads, and of as many methods with a head each."""

    def made(heads: int) -> SCAN:
        settings = SCANSettings(heads=heads)
        net = SCAN(Prepared(LENGTH), Augmentation(size=1), settings, clusters=CLUSTERS)
        return net.to(device).train()

    together, apart = made(HEADS), [made(1) for _ in range(HEADS)]
    views = torch.randn(2, STEP, LENGTH, device=device)

    def step(method: SCAN) -> None:
        torch.stack(list(method.step(views).terms.values())).sum().backward()

    times = in_turns(
        {
            "one product": lambda: step(together),
            "a loop over heads": lambda: [step(one) for one in apart],
        },
        device=device,
        rounds=5,
    )
    return row(
        f"SCAN's step, {HEADS} heads, batch {STEP}",
        times,
        "one product",
        "a loop over heads",
    )
