"""Speed of the losses beside plain implementations of the same formulas.

    python benchmarks/losses.py

Values and gradients are compared first. Then all take turns in one run, so that whatever else
the machine does falls on all of them; trust the ratio more than the milliseconds.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from mixem.losses import iic
from mixem.losses.iic import EPS
from mixem.runs import hardware

HEADS, PAIRS = 5, 700  # sub-heads and pairs a batch of IIC's recipes for STL-10 and MNIST
CLUSTERS = (10, 70)  # of STL-10's main and overclustering head

Loss = Callable[[Sequence[torch.Tensor]], torch.Tensor]


class Way(NamedTuple):
    """One implementation of a loss.

    Attributes:
        name: What the table calls it.
        loss: From the leaves to the mean over the sub-heads.
        leaves: What the gradient is taken for, in the layout this implementation likes best.
    """

    name: str
    loss: Loss
    leaves: list[torch.Tensor]


class Speed(NamedTuple):
    """The median over the rounds, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> "Speed":
        """Summary of what each round found."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))


class Row(NamedTuple):
    """What :func:`compare` finds for one way.

    Attributes:
        name: Of the way.
        forward: Milliseconds a forward pass.
        backward: Milliseconds a backward pass.
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


def check(ways: Sequence[Way]) -> None:
    """See that all give the values and gradients of the first, in float64.

    Raises:
        AssertionError: If not.
    """
    found = []
    for way in ways:
        leaves = [leaf.detach().double().requires_grad_() for leaf in way.leaves]
        loss = way.loss(leaves)
        gradients = torch.autograd.grad(loss, leaves)
        found.append((loss, torch.cat([gradient.flatten() for gradient in gradients])))
    for way, results in zip(ways, found, strict=True):
        for a, b in zip(results, found[0], strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-14), f"{way.name} gives something else"


def compare(ways: Sequence[Way], *, rounds: int, seconds: float) -> list[Row]:
    """Time all ways in turns; the first is what the others are compared with.

    Args:
        ways: Checked by :func:`check` first.
        rounds: Rounds of each; one more of each warms up.
        seconds: About how long one way takes in a round, all its repetitions together.
    """
    check(ways)
    times: list[list[tuple[float, float]]] = [[] for _ in ways]
    repeats = [1 for _ in ways]
    for turn in range(rounds + 1):
        for i, way in enumerate(ways):
            spent = [once(way) for _ in range(repeats[i])]
            if turn:
                forward, backward = zip(*spent, strict=True)
                times[i].append(
                    (1000 * statistics.fmean(forward), 1000 * statistics.fmean(backward))
                )
            else:
                once(way)  # the first had to allocate
                repeats[i] = max(1, round(seconds / sum(once(way))))
    rows = []
    for way, spent in zip(ways, times, strict=True):
        slower = [sum(own) / sum(first) for own, first in zip(spent, times[0], strict=True)]
        forward, backward = zip(*spent, strict=True)
        rows.append(Row(way.name, Speed.of(forward), Speed.of(backward), Speed.of(slower)))
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


def main() -> None:
    """Compare all losses and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one way in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for clusters in CLUSTERS:
        rows = compare(iic_ways(clusters, given.device), rounds=given.rounds, seconds=given.seconds)
        print(report(f"IIC, {HEADS} sub-heads, n {PAIRS}, k {clusters}", rows) + "\n")
    print(
        f"median (range) of {given.rounds} rounds; {hardware(given.device)}, "
        f"{os.cpu_count()} cores, python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
