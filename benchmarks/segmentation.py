"""Speed and memory of the segmentation loss beside the published convolution.

    python benchmarks/segmentation.py [--device cuda]

The official code correlates the maps of the two views by one convolution whose kernel is as large
as the image (``IID_losses.py`` of segmentation). Values and gradients are compared first, in
float64 and on small maps, for that convolution takes minutes there.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from growth import Growth, peak_bytes, size_of
from losses import Way, check, compare, minus_information, once
from timing import Row

from mixem.losses import iic_segmentation

IMAGES, SIDE, DISPLACEMENT = 8, 128, 10  # the last two of the recipes for COCO-Stuff
CLUSTERS = (3, 15, 36)  # of COCO-Stuff-3, COCO-Stuff and the overclustering head of Potsdam
CHECKED = 24  # side of the maps that are compared in float64
GOALS = {True: 100.0, False: 10.0}  # collapsed, and not


def published(x: torch.Tensor, y: torch.Tensor, *, collapsed: bool) -> torch.Tensor:
    """The loss by a convolution, as published, clamped as in :func:`losses.minus_information`."""
    joint = F.conv2d(x.transpose(0, 1), y.transpose(0, 1), padding=DISPLACEMENT)
    if collapsed:
        joint = joint.sum((2, 3))
        joint = joint / joint.sum()
        return minus_information((joint + joint.T) / 2)
    joint = joint.permute(2, 3, 0, 1).flatten(0, 1)
    joint = joint / joint.sum((1, 2), keepdim=True)
    # All displacements at once, as there: a loop would take far longer.
    return torch.vmap(minus_information)((joint + joint.mT) / 2).mean()


def ways(
    clusters: int, device: str, *, collapsed: bool, side: int = SIDE, images: int = IMAGES
) -> list[Way]:
    """Ours and the published form, on the logits of the same maps."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, images, clusters, side, side, generator=generator).to(device)

    def ours(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        x, y = leaves[0].softmax(2)
        return iic_segmentation(x, y, max_displacement=DISPLACEMENT, collapsed=collapsed)

    def theirs(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        return published(*leaves[0].softmax(2), collapsed=collapsed)

    name = "box filter, one product" if collapsed else "Fourier transform"
    return [
        Way(f"mixem.losses.iic_segmentation, {name}", ours, [logits.clone().requires_grad_()]),
        Way("the published convolution", theirs, [logits.clone().requires_grad_()]),
    ]


def comparisons() -> Iterator[tuple[str, int, bool]]:
    """Title, clusters, and whether it is the collapsed form."""
    for collapsed in (True, False):
        form = "collapsed" if collapsed else "a distribution for each displacement"
        for clusters in CLUSTERS:
            yield f"IIC segmentation, {form}, k {clusters}", clusters, collapsed


def rows(device: str, *, rounds: int = 3, side: int = SIDE) -> Iterator[Row]:
    """Both forms beside the published one, in turns."""
    for title, clusters, collapsed in comparisons():
        check(ways(clusters, device, collapsed=collapsed, side=CHECKED, images=2))
        both = ways(clusters, device, collapsed=collapsed, side=side)
        goal = GOALS[collapsed]
        yield from compare(title, both, goal, device=device, rounds=rounds, seconds=0.0)


class Held(NamedTuple):
    """Bytes that both hold at most beyond their arguments, forward and backward."""

    what: str
    ours: int
    theirs: int


def held(device: str, *, side: int = SIDE) -> Iterator[Held]:
    """The memory of what :func:`rows` times."""
    for title, clusters, collapsed in comparisons():
        both = ways(clusters, device, collapsed=collapsed, side=side)
        yield Held(title, *(peak_bytes(partial(once, way), device) for way in both))


def growths() -> list[Growth]:
    """What both forms grow with; for :mod:`growth`."""

    def loss(collapsed: bool, most: int = DISPLACEMENT):
        def evaluate(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return iic_segmentation(
                x.softmax(1), y.softmax(1), max_displacement=most, collapsed=collapsed
            )

        return evaluate

    found = []
    for collapsed in (True, False):
        name = "IIC segmentation" + ", collapsed" * collapsed
        found += [
            Growth(
                name, "side", (32, 64, 128, 256), lambda n: [(2, 8, n, n)] * 2,
                loss(collapsed), 3 if collapsed else 2, 2,
            ),
            Growth(
                name, "clusters", (8, 16, 32, 64), lambda n: [(2, n, 64, 64)] * 2,
                loss(collapsed), 2, 1 if collapsed else 2,
            ),
        ]  # fmt: skip
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for row in rows(given.device, rounds=given.rounds):
        print(
            f"{row.what}: ours {row.ours.median:.3g} ms, {row.against} {row.theirs.median:.3g} ms, "
            f"ratio {row.ratio.median:.0f} ({row.ratio.least:.0f} to {row.ratio.greatest:.0f})",
            flush=True,
        )
    for memory in held(given.device):
        print(f"{memory.what}: ours {size_of(memory.ours)}, theirs {size_of(memory.theirs)}")


if __name__ == "__main__":
    main()
