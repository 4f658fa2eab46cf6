"""Operations a training step sends to its device: what a GPU is asked for, one launch or more each.

    python benchmarks/launches.py [EXPERIMENT ...]

Counted on the CPU, by what PyTorch dispatches. What only makes a view of a tensor or asks for its
memory is left out, and images are transformed in one piece, as on a GPU. The size of the batch does
not matter, so it is a small one. The fused optimiser is one operation.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mixem.data.augment
from mixem.data import ImageSet
from mixem.data.images import SHAPES
from mixem.experiments import Experiment, get
from mixem.experiments.build import build
from mixem.records import Table
from mixem.training.meter import Meter
from mixem.training.step import Pass, Stepper, make_optimiser

__all__ = ["GOALS", "PARTS", "count", "table"]

PARTS = ("augmentation", "loss", "backward", "optimiser", "other")
GOALS = {
    "mnist/iic": 450,
    "cifar10/iic": 1000,
    "cifar10/simclr": 480,
    "cifar10/mixem": 750,
    "cifar10/imc-swav": 1350,
}
BATCH, IMAGES = 16, 64
# They start nothing on a device: they make a view, ask for memory, or read what the host knows.
FREE = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "diagonal", "empty",
    "empty_like", "empty_strided", "expand", "is_pinned", "is_same_size", "lift_fresh", "narrow",
    "new_empty", "new_empty_strided", "permute", "record_stream", "resize_", "result_type",
    "select", "set_", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind",
    "unfold", "unsqueeze", "view", "view_as_complex", "view_as_real",
}  # fmt: skip


class Dispatched(TorchDispatchMode):
    """Counts what is dispatched while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in FREE:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count(experiment: Experiment | str, *, step: int = 10**6) -> dict[str, dict[str, Counter[str]]]:
    """Operations of one step of each kind of pass, by part of the step and name.

    Args:
        experiment: Its name or settings. No start is needed: its weights do not matter.
        step: Which step of the training; a late one, when all that is trained late is.

    Returns:
        For each kind of pass, and each of :data:`PARTS`, how often each operation was dispatched.
    """
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    experiment = experiment.override(training__batch_size=BATCH)
    channels, side, classes, _ = SHAPES.get(experiment.images, (1, 8, 10, {}))
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, channels, side, side), dtype=torch.uint8, generator=random)
    names = tuple(map(str, range(classes)))
    images = ImageSet(
        pixels, torch.arange(IMAGES) % classes, names, name=experiment.images, split="train"
    )
    method = build(experiment, channels=channels, seed=0).train()
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = torch.device("cpu")
    counter = Dispatched()
    parts: dict[str, Counter[str]] = {}

    def border(part: str) -> None:
        parts.setdefault(part, Counter()).update(counter.counts)
        counter.counts.clear()

    stepper = Stepper(
        method,
        make_optimiser(method, experiment.training, device),
        device=device,
        precision="bfloat16",
        border=border,
    )
    meter, found = Meter(), {}
    # A CPU takes many images in pieces that fit its cache.
    with mock.patch.object(mixem.data.augment, "CACHE_BYTES", 1 << 40):
        for name in dict.fromkeys(method.passes):
            one = Pass(method, name, images, experiment.training, pixels)
            order = torch.arange(IMAGES)
            stepper.step(one, order, meter, position=0, step=step)  # the first one fills tables
            counter.counts.clear()
            parts.clear()
            with counter:
                stepper.step(one, order, meter, position=1, step=step + 1)
            border("other")
            found[name] = {part: parts.get(part, Counter()) for part in PARTS}
    return found


def rows(experiments: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Cells of :func:`table`."""
    for name in experiments:
        for kind, parts in count(name).items():
            each = [parts[part].total() for part in PARTS]
            goal = GOALS.get(name)
            met = "" if goal is None else "met" if sum(each) <= goal else "not met"
            yield name, kind, *map(str, each), str(sum(each)), str(goal or ""), met


def table(experiments: Sequence[str] = tuple(GOALS)) -> Table:
    """Operations a step of experiments, by part of the step, beside the goals."""
    head = ("experiment", "pass", *PARTS, "in all", "goal", "")
    return Table(head, tuple(rows(experiments)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table(sys.argv[1:] or tuple(GOALS)))
