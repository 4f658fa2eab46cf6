"""What the benchmarks share: taking turns, a row of the table, and what is said of the machine."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from mixem.fingerprint import hardware

Run = Callable[[], object]


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
    """A row of the table: something of ours beside what is used instead.

    Attributes:
        what: Of ours.
        against: What it is compared with.
        ours: Milliseconds.
        theirs: Milliseconds.
        ratio: Theirs over ours, round by round; or what else the goal is about.
        goal: The least ratio wanted; None where none was set.
        why: Measures where the time of ours goes, if the goal is missed.
    """

    what: str
    against: str
    ours: Speed
    theirs: Speed
    ratio: Speed
    goal: float | None = None
    why: Callable[[], str] | None = None

    @property
    def met(self) -> bool:
        """Whether the median is as good as the goal."""
        return self.goal is None or self.ratio.median >= self.goal


def wait(device: str) -> None:
    """Until the device has done all it was asked for."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(run: Run, device: str, *, repeats: int = 1) -> float:
    """Time of one run, the mean of several in a row."""
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    wait(device)
    return (time.perf_counter() - start) * 1000 / repeats


def in_turns(
    runs: Mapping[str, Run], *, device: str, rounds: int, seconds: float = 0.0
) -> dict[str, list[float]]:
    """Milliseconds of each run in each round, all taking turns, after a round that warms up.

    Whatever else the machine does falls on all of them; trust ratios more than milliseconds.

    Args:
        runs: By name.
        device: Which is waited for.
        rounds: Of each.
        seconds: About how long one takes in a round, all its repetitions together.
    """
    repeats = {}
    for name, run in runs.items():
        run()  # the first has to allocate
        repeats[name] = max(1, round(1000 * seconds / milliseconds(run, device)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(milliseconds(run, device, repeats=repeats[name]))
    return found


def row(
    what: str,
    times: Mapping[str, Sequence[float]],
    ours: str,
    theirs: str,
    *,
    goal: float | None = None,
    why: Callable[[], str] | None = None,
) -> Row:
    """Two of the runs of :func:`in_turns` beside each other."""
    ratio = [slow / fast for slow, fast in zip(times[theirs], times[ours], strict=True)]
    speeds = (Speed.of(values) for values in (times[ours], times[theirs], ratio))
    return Row(what, theirs, *speeds, goal, why)


def shares(run: Run, device: str, *, count: int = 6, repeats: int = 3) -> str:
    """PyTorch's operations that take most of a run's time, by its profiler."""
    run()
    on_gpu = torch.device(device).type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    with profile(activities=activities) as profiled:
        for _ in range(repeats):
            run()
        wait(device)
    times = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiled.key_averages()
    }
    total = sum(times.values())
    most = sorted(times, key=lambda name: -times[name])[:count]
    return ", ".join(f"`{name}` {times[name] / total:.0%}" for name in most)


def machine(device: str) -> str:
    """Processor, threads and versions, in words."""
    names = ("torch", "torchvision", "pillow", "kornia", "lightly")
    versions = [f"python {platform.python_version()}", *(f"{n} {version(n)}" for n in names)]
    return f"{hardware(device)} of {os.cpu_count()}, {', '.join(versions)}"
