"""Speed of the losses beside plain implementations of the same formulas, and beside lightly's.

    python benchmarks/losses.py

Values and gradients are compared first. Then all take turns in one run, so that whatever else
the machine does falls on all of them; trust the ratio more than the milliseconds.

Where the others are lightly's, nothing had to be changed for them to be equal: its `SwaVLoss`
divides by views and targets as ours does, and with two targets counts the same ten terms. Only
the layout differs: ours takes all views in one tensor, lightly's a list.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timing import Speed, in_turns, machine

from mixem.losses import iic, infomax, nt_xent, sinkhorn, swapped_prediction
from mixem.losses.iic import EPS

HEADS, PAIRS = 5, 700  # sub-heads and pairs a batch of IIC's recipes for STL-10 and MNIST
CLUSTERS = (10, 70)  # of STL-10's main and overclustering head
VIEWS, TARGETS, IMAGES, PROTOTYPES = 6, 2, 256, 1000  # of IMC-SwAV's recipe for CIFAR-10

Loss = Callable[[Sequence[torch.Tensor]], torch.Tensor]


class Way(NamedTuple):
    """One implementation of a loss.

    Attributes:
        name: What the table calls it.
        loss: From the leaves to a loss, or to codes, which have no gradient.
        leaves: What the gradient is taken for, in the layout this implementation likes best.
    """

    name: str
    loss: Loss
    leaves: list[torch.Tensor]


class Row(NamedTuple):
    """What :func:`compare` finds for one way.

    Attributes:
        name: Of the way.
        forward: Milliseconds a forward pass.
        backward: Milliseconds a backward pass, 0 where there is none.
        slower: How many times as long as the first way forward and backward together take.
    """

    name: str
    forward: Speed
    backward: Speed
    slower: Speed


def iic_by_matrix_product(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """IIC's loss of one sub-head, ``(n, k)``, from the formula."""
    joint = p.T @ q
    joint = (joint + joint.T) / 2
    return minus_information(joint / joint.sum())


def iic_by_outer_products(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The same with the joint distribution as the official ``IID_losses.py`` sums it."""
    joint = (p.unsqueeze(2) * q.unsqueeze(1)).sum(0)
    joint = (joint + joint.T) / 2
    return minus_information(joint / joint.sum())


def minus_information(joint: torch.Tensor) -> torch.Tensor:
    """Minus the mutual information of a joint distribution, clamped as in the official code.

    The official code overwrites by Boolean indices, which PyTorch refuses to differentiate today,
    and computes a second loss for its log; without either this is the faster.
    """
    row = joint.sum(1, keepdim=True).clamp(min=EPS)
    column = joint.sum(0, keepdim=True).clamp(min=EPS)
    joint = joint.clamp(min=EPS)
    return -(joint * (joint.log() - row.log() - column.log())).sum()


def iic_ways(clusters: int, device: str) -> list[Way]:
    """Ours, and the two plain ones in a loop over the sub-heads, on the same probabilities."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, HEADS, PAIRS, clusters, generator=generator)
    views = logits.softmax(3).to(device)

    def looped(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Loss:
        def mean(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
            pairs = zip(leaves[:HEADS], leaves[HEADS:], strict=True)
            return torch.stack([loss(p, q) for p, q in pairs]).mean()

        return mean

    def separate() -> list[torch.Tensor]:  # a tensor for each view and sub-head
        return [p.clone().requires_grad_() for p in views.flatten(0, 1)]

    return [
        Way(
            "mixem.losses.iic, one batched product",
            lambda leaves: iic(*leaves).mean(),
            [view.clone().requires_grad_() for view in views],
        ),
        Way("a loop, matrix products", looped(iic_by_matrix_product), separate()),
        Way("a loop, sums of outer products", looped(iic_by_outer_products), separate()),
    ]


def infomax_ways(device: str, *, images: int = IMAGES, prototypes: int = PROTOTYPES) -> list[Way]:
    """Ours, and a loop over all pairs of views; as in the method, the scores are given."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(VIEWS, images, 10, generator=generator).to(device)
    scores = cosines(VIEWS * images, prototypes, device).unflatten(0, (VIEWS, images))

    def ours(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        return infomax(leaves[0], scores.to(leaves[0].dtype))

    def loop(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        us = (scores.to(leaves[0].dtype) / 0.1).softmax(2)
        pairs = [infomax_of_a_pair(y, u) for y in leaves[0].softmax(2) for u in us]
        return torch.stack(pairs).mean()

    return [
        Way("mixem.losses.infomax, one product", ours, [logits.clone().requires_grad_()]),
        Way("a loop over the pairs of views", loop, [logits.clone().requires_grad_()]),
    ]


def infomax_of_a_pair(y: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """H(Y|U) - 4 H(Y) of one view's clusters and one view's prototypes, from the formula."""
    joint = y.T @ u / len(y)
    cluster, prototype = joint.sum(1), joint.sum(0)
    given = -(joint * (joint.log() - prototype.log())).sum()
    return given + 4 * (cluster * cluster.log()).sum()


def sinkhorn_ways(images: int, prototypes: int, device: str) -> list[Way]:
    """Codes of random unit vectors, ours and lightly's."""
    from lightly.loss.swav_loss import sinkhorn as theirs

    scores = cosines(images, prototypes, device)
    return [
        Way("mixem.losses.sinkhorn", lambda leaves: sinkhorn(leaves[0]), [scores.clone()]),
        Way("lightly's sinkhorn", lambda leaves: theirs(leaves[0]), [scores.clone()]),
    ]


def swapped_ways(device: str, *, images: int = IMAGES, prototypes: int = PROTOTYPES) -> list[Way]:
    """The swapped prediction of two large and four small views, ours and lightly's."""
    from lightly.loss import SwaVLoss

    theirs = SwaVLoss()
    scores = cosines(VIEWS * images, prototypes, device).unflatten(0, (VIEWS, images))
    return [
        Way(
            "mixem.losses.swapped_prediction",
            lambda leaves: swapped_prediction(leaves[0]),
            [scores.clone().requires_grad_()],
        ),
        Way(
            "lightly's SwaVLoss",
            lambda leaves: theirs(leaves[:TARGETS], leaves[TARGETS:]).squeeze(),
            [view.clone().requires_grad_() for view in scores],
        ),
    ]


def nt_xent_ways(images: int, size: int, device: str) -> list[Way]:
    """NT-Xent on random embeddings, ours and lightly's."""
    from lightly.loss import NTXentLoss

    theirs = NTXentLoss(temperature=0.5)
    views = torch.randn(2, images, size, generator=torch.Generator().manual_seed(0)).to(device)

    def leaves() -> list[torch.Tensor]:
        return [view.clone().requires_grad_() for view in views]

    return [
        Way("mixem.losses.nt_xent", lambda leaves: nt_xent(*leaves), leaves()),
        Way("lightly's NTXentLoss", lambda leaves: theirs(*leaves), leaves()),
    ]


def cosines(images: int, prototypes: int, device: str) -> torch.Tensor:
    """Of random unit vectors of length 128, as an untrained network gives them."""
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(images + prototypes, 128, generator=generator), dim=1)
    return (x[:images] @ x[images:].T).to(device)


def check(ways: Sequence[Way]) -> None:
    """See that all give the values and gradients of the first, in float64.

    Raises:
        AssertionError: If not.
    """
    found = []
    for way in ways:
        leaves = [leaf.detach().double().requires_grad_(leaf.requires_grad) for leaf in way.leaves]
        result = way.loss(leaves)
        gradients = torch.autograd.grad(result, leaves) if result.requires_grad else ()
        found.append(torch.cat([x.flatten() for x in (result, *gradients)]))
    for way, values in zip(ways, found, strict=True):
        assert torch.allclose(values, found[0], rtol=1e-9, atol=1e-14), (
            f"{way.name} gives something else"
        )


def compare(ways: Sequence[Way], *, rounds: int, seconds: float) -> list[Row]:
    """Time all ways in turns; the first is what the others are compared with.

    Args:
        ways: Checked by :func:`check` first.
        rounds: Rounds of each; one more of each warms up.
        seconds: About how long one way takes in a round, all its repetitions together.
    """
    check(ways)

    def repeated(way: Way) -> Callable[[], tuple[float, float]]:
        once(way)  # the first has to allocate
        repeats = max(1, round(seconds / sum(once(way))))

        def milliseconds() -> tuple[float, float]:
            forward, backward = zip(*(once(way) for _ in range(repeats)), strict=True)
            return 1000 * statistics.fmean(forward), 1000 * statistics.fmean(backward)

        return milliseconds

    times = in_turns({way.name: repeated(way) for way in ways}, rounds)
    first = [sum(spent) for spent in times[ways[0].name]]
    rows = []
    for name, spent in times.items():
        forward, backward = zip(*spent, strict=True)
        slower = [sum(own) / least for own, least in zip(spent, first, strict=True)]
        rows.append(Row(name, Speed.of(forward), Speed.of(backward), Speed.of(slower)))
    return rows


def once(way: Way) -> tuple[float, float]:
    """Seconds of one forward and one backward pass."""

    def now() -> float:
        if way.leaves[0].is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    start = now()
    loss = way.loss(way.leaves)
    middle = now()
    if not loss.requires_grad:
        return middle - start, 0.0
    torch.autograd.grad(loss, way.leaves)
    return middle - start, now() - middle


def report(title: str, rows: Sequence[Row]) -> str:
    """The comparison as lines of text."""

    def cell(speed: Speed, digits: int) -> str:
        spread = f"({speed.least:.{digits}f} to {speed.greatest:.{digits}f})"
        return f"{speed.median:8.{digits}f} {spread:18}"

    lines = [f"{title:41}{'forward, ms':27}{'backward, ms':27}times the first"]
    lines += [
        f"{row.name:38}{cell(row.forward, 2)}{cell(row.backward, 2)}{cell(row.slower, 1)}".rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def comparisons(device: str) -> Iterator[tuple[str, list[Way]]]:
    """Title and ways of all comparisons that need nothing but the library."""
    for clusters in CLUSTERS:
        yield f"IIC, {HEADS} sub-heads, n {PAIRS}, k {clusters}", iic_ways(clusters, device)
    title = f"Infomax, {VIEWS} views, B {IMAGES}, k 10, K {PROTOTYPES}"
    yield title, infomax_ways(device)


def comparisons_with_lightly(device: str) -> Iterator[tuple[str, list[Way]]]:
    """Title and ways of those with lightly."""
    for images, size in ((256, 32), (256, 128), (1024, 32), (1024, 128)):
        yield f"NT-Xent, B {images}, d {size}", nt_xent_ways(images, size, device)
    for images, prototypes in ((IMAGES, PROTOTYPES), (1024, 3000)):
        title = f"Sinkhorn, B {images}, K {prototypes}"
        yield title, sinkhorn_ways(images, prototypes, device)
    small = VIEWS - TARGETS
    title = f"Swapped, {TARGETS} + {small} views, B {IMAGES}, K {PROTOTYPES}"
    yield title, swapped_ways(device)


def main() -> None:
    """Compare all losses and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one way in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    try:
        lightly = f", lightly {version('lightly')}"
    except PackageNotFoundError:
        lightly = ""
    theirs = comparisons_with_lightly(given.device) if lightly else ()
    for title, ways in chain(comparisons(given.device), theirs):
        rows = compare(ways, rounds=given.rounds, seconds=given.seconds)
        print(report(title, rows) + "\n", flush=True)
    if not lightly:
        print("NT-Xent, Sinkhorn, swapped: lightly is not installed; pip install -e '.[bench]'\n")
    print(f"median (range) of {given.rounds} rounds; {machine(given.device)}{lightly}")


if __name__ == "__main__":
    main()
