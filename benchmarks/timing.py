"""What the benchmarks share: taking turns, and what is said of the times and the machine."""

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch

from mixem.runs import hardware

Found = TypeVar("Found")


class Speed(NamedTuple):
    """The median over the rounds, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> "Speed":
        """Summary of what each round found."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))


def in_turns(runs: Mapping[str, Callable[[], Found]], rounds: int) -> dict[str, list[Found]]:
    """What each run finds in each round, all taking turns, after one round that warms up.

    Whatever else the machine does falls on all of them; trust ratios more than milliseconds.
    """
    found: dict[str, list[Found]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            result = run()
            if turn:
                found[name].append(result)
    return found


def machine(device: str) -> str:
    """Processor, threads and versions, in words."""
    return (
        f"{hardware(device)}, {os.cpu_count()} cores, "
        f"python {platform.python_version()}, torch {torch.__version__}"
    )
