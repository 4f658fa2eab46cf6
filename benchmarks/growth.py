"""How time and memory of each loss grow with the batch, the clusters and the views."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from timing import in_turns
from torch.profiler import ProfilerActivity, profile

from mixem.losses import (
    associative_embedding,
    component_diversity,
    iic,
    infomax,
    instance_confidence,
    nt_xent,
    sinkhorn,
    swapped_prediction,
)

# By which a measured exponent may exceed the expected one: what outgrows a cache takes longer.
TOLERANCE = 0.35


class Growth(NamedTuple):
    """A loss and a quantity that it grows with.

    Attributes:
        loss: Its name.
        size: What grows.
        sizes: Increasing; each is twice the one before.
        shapes: From a size to the shapes of the loss's arguments.
        evaluate: From these arguments to the loss.
        time: Expected exponent of the time, at most.
        memory: Expected exponent of the memory, at most.
    """

    loss: str
    size: str
    sizes: Sequence[int]
    shapes: Callable[[int], Sequence[tuple[int, ...]]]
    evaluate: Callable[..., torch.Tensor]
    time: int
    memory: int


class Found(NamedTuple):
    """What :func:`measure` finds: milliseconds and bytes at each size, and their exponents."""

    growth: Growth
    times: list[float]
    bytes: list[int]
    time: float
    memory: float

    @property
    def expected(self) -> bool:
        """Whether neither exponent is greater than expected."""
        return (
            self.time <= self.growth.time + TOLERANCE
            and self.memory <= self.growth.memory + TOLERANCE
        )


def growths() -> list[Growth]:
    """Every loss against everything that it grows with; sizes near those of the papers."""
    batch, small = (1024, 2048, 4096, 8192), (256, 512, 1024, 2048)
    clusters, prototypes, views = (20, 40, 80, 160), (1000, 2000, 4000, 8000), (2, 4, 8, 16)

    def of_iic(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return iic(p.softmax(-1), q.softmax(-1)).mean()

    def of_embedding(z: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return torch.stack(associative_embedding(z, p.softmax(1))).sum()

    def of_diversity(p: torch.Tensor) -> torch.Tensor:
        return component_diversity(p.softmax(1))

    def of_confidence(p: torch.Tensor) -> torch.Tensor:
        return instance_confidence(p.softmax(1))

    return [
        Growth("NT-Xent", "batch", small, lambda n: [(n, 32)] * 2, nt_xent, 2, 2),
        Growth("NT-Xent", "embedding", (32, 64, 128, 256), lambda n: [(512, n)] * 2, nt_xent, 1, 0),
        Growth("IIC", "batch", batch, lambda n: [(5, n, 70)] * 2, of_iic, 1, 1),
        Growth("IIC", "clusters", clusters, lambda n: [(5, 700, n)] * 2, of_iic, 2, 2),
        Growth("Sinkhorn", "batch", batch, lambda n: [(n, 1000)], sinkhorn, 1, 1),
        Growth("Sinkhorn", "prototypes", prototypes, lambda n: [(1024, n)], sinkhorn, 1, 1),
        Growth(
            "swapped prediction", "batch", small, lambda n: [(6, n, 1000)], swapped_prediction, 1, 1
        ),
        Growth(
            "swapped prediction", "prototypes", prototypes, lambda n: [(6, 256, n)],
            swapped_prediction, 1, 1,
        ),
        Growth(
            "swapped prediction", "views", views, lambda n: [(n, 256, 1000)],
            swapped_prediction, 1, 1,
        ),
        Growth("infomax", "batch", small, lambda n: [(6, n, 10), (6, n, 1000)], infomax, 1, 1),
        Growth(
            "infomax", "clusters", clusters, lambda n: [(6, 256, n), (6, 256, 1000)], infomax, 1, 1
        ),
        Growth(
            "infomax", "prototypes", prototypes, lambda n: [(6, 256, 10), (6, 256, n)],
            infomax, 1, 1,
        ),
        Growth(
            "infomax", "views", views, lambda n: [(n, 256, 10), (n, 256, 1000)], infomax, 2, 2
        ),
        Growth(
            "associative embedding", "batch", batch, lambda n: [(n, 32), (n, 10)],
            of_embedding, 1, 1,
        ),
        Growth(
            "associative embedding", "components", clusters, lambda n: [(512, 32), (512, n)],
            of_embedding, 2, 2,
        ),
        Growth("component diversity", "batch", batch, lambda n: [(n, 10)], of_diversity, 1, 1),
        Growth("instance confidence", "batch", batch, lambda n: [(n, 10)], of_confidence, 1, 1),
    ]  # fmt: skip


def measure(growth: Growth, device: str, *, rounds: int = 5) -> Found:
    """Time and memory of a forward and a backward pass at each size, in turns."""
    generator = torch.Generator().manual_seed(0)

    def run_of(size: int) -> Callable[[], None]:
        leaves = [
            (0.1 * torch.randn(shape, generator=generator)).to(device).requires_grad_()
            for shape in growth.shapes(size)
        ]

        def run() -> None:
            loss = growth.evaluate(*leaves)
            if loss.requires_grad:
                torch.autograd.grad(loss, leaves, allow_unused=True)

        return run

    runs = {str(size): run_of(size) for size in growth.sizes}
    memory = [peak_bytes(run, device) for run in runs.values()]
    spent = in_turns(runs, device=device, rounds=rounds, seconds=0.02)
    times = [min(column) for column in spent.values()]  # the least disturbed
    return Found(
        growth, times, memory, exponent(growth.sizes, times), exponent(growth.sizes, memory)
    )


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """B of the curve a size^b that fits best on logarithmic scales."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def peak_bytes(run: Callable[[], None], device: str) -> int:
    """The most memory that a run holds at once, beyond what is held before."""
    run()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    assert profiled.profiler is not None
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate(change for _, change in changes))


def found(
    device: str, every: Sequence[Growth] | None = None, *, rounds: int = 5
) -> Iterator[Found]:
    """All of them, by default :func:`growths`."""
    for growth in growths() if every is None else every:
        yield measure(growth, device, rounds=rounds)


def size_of(number: float) -> str:
    """Bytes in words."""
    power = int(math.log(number, 1024)) if number >= 1 else 0
    return f"{number / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
