"""Seconds of training until the digits are sorted well, by the book's recipes made shorter.

    python benchmarks/reach.py

A schedule is scaled to so many epochs, and the accuracy is that of its end. The seconds are those
of the training, with the first step's start-up in them and without the scoring.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from mixem.experiments import get
from mixem.records import Table
from mixem.runs import run

SEEDS = (0, 1, 2)


class Goal(NamedTuple):
    """An accuracy to be reached in a time, and the epochs that we take for it."""

    experiment: str
    epochs: int
    accuracy: float
    seconds: float


GOALS = (
    Goal("digits/simclr", 20, 0.94, 10),
    Goal("digits/imc-swav", 20, 0.97, 15),
    Goal("digits/iic", 10, 0.93, 25),
)


def reached(goal: Goal, seed: int, device: str) -> tuple[float, float]:
    """Accuracy at the end, and seconds of training."""
    experiment = get(goal.experiment)
    short = replace(experiment.training.scaled(goal.epochs), snapshots=())
    experiment = experiment.override(training=short)
    with tempfile.TemporaryDirectory() as out:
        found = run(experiment, seed=seed, device=device, out=out, progress=False)
    return found.record.metrics["accuracy"], found.record.minutes * 60


def rows(device: str) -> Iterator[tuple[str, ...]]:
    """Cells of :func:`table`."""
    for goal in GOALS:
        accuracies, seconds = zip(*(reached(goal, seed, device) for seed in SEEDS), strict=True)
        mean, longest = sum(accuracies) / len(SEEDS), max(seconds)
        whole = get(goal.experiment).training.epochs
        met = mean >= goal.accuracy and longest <= goal.seconds
        yield (
            goal.experiment,
            f"{goal.epochs} of {whole}",
            f"{mean:.3f} ({min(accuracies):.3f} to {max(accuracies):.3f})",
            f"{longest:.1f}",
            f"{goal.accuracy:g} in {goal.seconds:g} s",
            "met" if met else "not met",
        )


def table(device: str = "cpu") -> Table:
    """Accuracy, mean and range over three seeds, and the seconds of the slowest."""
    head = ("experiment", "epochs", "accuracy", "seconds", "goal", "")
    return Table(head, tuple(rows(device)))


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(table())
