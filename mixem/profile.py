"""Where the time of a training step goes, and how long an experiment will take."""

import contextlib
import dataclasses
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mixem.data import SHAPES, ImageSet, folder_path, network_of
from mixem.data.folder import Folder, list_folder
from mixem.devices import resolve_device, resolve_precision
from mixem.errors import InputError
from mixem.experiments import Experiment, get
from mixem.experiments.build import build, load_sets, loader, picture_size, start_of
from mixem.fingerprint import hardware
from mixem.methods import Method
from mixem.models.pretrained import pretrained
from mixem.records import Table
from mixem.training import Sitting, TrainConfig
from mixem.training.loop import compiled
from mixem.training.meter import Meter
from mixem.training.step import Pass, Stepper, make_optimiser, make_passes

__all__ = ["PassProfile", "Profile", "profile", "seconds_an_epoch", "steps_an_epoch"]

PARTS = ("augmentation", "forward", "loss", "backward", "optimiser", "other")
WARM_UP = 1  # steps of each pass, after the one whose operations are counted
STEPS = 20  # that are timed of each pass, if there is time
SECONDS = 8.0  # for them on a CPU; with what comes before and after it are less than twenty
FOUR = 4  # steps of each pass at least: counted, warming up, with borders and without
PROBES = (4, 32)  # images of the batches that show how long a step will take
WARM = 0.3  # seconds of a step from which it need not warm up to be measured


@dataclass(frozen=True)
class PassProfile:
    """A training step of one kind of pass over the images.

    Attributes:
        name: One of ``method.passes``.
        times: How often an epoch makes this pass.
        steps: Of one such pass.
        images: Images a step.
        parts: Milliseconds of each of :data:`PARTS`, medians over the steps.
        milliseconds: A whole step without borders between its parts.
        operations: Floating-point operations of a step's matrix products and convolutions, forward
            and backward.
    """

    name: str
    times: int
    steps: int
    images: int
    parts: dict[str, float]
    milliseconds: float
    operations: int

    @property
    def images_per_second(self) -> float:
        """Images, not views."""
        return 1000 * self.images / self.milliseconds


@dataclass(frozen=True)
class Profile:
    """What :func:`profile` returns; printed, it is a table.

    Attributes:
        experiment: Its settings.
        hardware: What it ran on.
        precision: "float32", "bfloat16" or "float16".
        random_images: Random pixels stood in for images that are not on this machine.
        batch: Images of the batches that were timed; fewer than the recipe's where a step of it
            takes seconds. All times are scaled to the recipe's.
        passes: One for each kind of pass.
        peak: Operations a second of a large square matrix product in the same precision.
        memory: Bytes: the most that was allocated on a GPU; on a CPU the most that the process
            ever held, all it did before included. 0 where the system does not say.
    """

    experiment: Experiment
    hardware: str
    precision: str
    random_images: bool
    passes: tuple[PassProfile, ...]
    peak: float
    memory: int
    batch: int | None = None

    @property
    def epochs(self) -> int:
        """Of the training, with as many as its least number of steps asks for."""
        steps = sum(one.times * one.steps for one in self.passes)
        return self.experiment.training.lasting(steps).epochs

    @property
    def seconds_an_epoch(self) -> float:
        """Time of the training steps of an epoch."""
        return sum(p.times * p.steps * p.milliseconds for p in self.passes) / 1000

    @property
    def minutes(self) -> float:
        """Time of all training steps; no evaluation, no checkpoints, not the run it starts from."""
        return self.epochs * self.seconds_an_epoch / 60

    def share_of_peak(self, one: PassProfile) -> float:
        """Operations of a pass's step over those of a matrix product in the same time.

        On a GPU it can exceed 1 in float32: convolutions may round to TF32, products do not.
        """
        return one.operations / (one.milliseconds / 1000) / self.peak

    def __str__(self) -> str:
        """As plain text."""
        experiment, columns = self.experiment, ["a step of training"]
        names = (*PARTS, "sum", "whole, no borders", "images/s", "GFLOP", "share of peak")
        rows = [[name] for name in names]
        for one in self.passes:
            columns += [f"{one.name}, ms", "%"]
            times = [*one.parts.values(), sum(one.parts.values()), one.milliseconds]
            cells = [(f"{ms:,.2f}", f"{100 * ms / one.milliseconds:.1f}") for ms in times]
            cells += [(f"{one.images_per_second:,.0f}", ""), (f"{one.operations / 1e9:,.1f}", "")]
            cells += [("", f"{100 * self.share_of_peak(one):.1f}")]
            for row, cell in zip(rows, cells, strict=True):
                row += cell
        made = ", ".join(
            f"{one.times} x {one.steps} steps of {one.images} {one.name}" for one in self.passes
        )
        start, timed = "", ""
        if experiment.start:
            before = start_of(experiment)
            start = f", and before them {before.name}, {before.training.epochs} epochs"
            if before.training.least_steps:
                start += f" or {before.training.least_steps} steps"
        if self.batch is not None:
            timed = f"timed with {self.batch} images a batch, and scaled; "
        lines = [
            f"{experiment.name} on {self.hardware}, {self.precision}",
            *[f"{experiment.images} is not on this machine: these are random pixels"]
            * self.random_images,
            str(Table(tuple(columns), tuple(map(tuple, rows)))),
            f"peak: {self.peak / 1e9:,.0f} GFLOP/s, a large matrix product in {self.precision}",
            timed
            + (
                f"memory: {self.memory / 2**30:.2f} GiB at most"
                if self.memory
                else "memory: unknown"
            ),
            f"an epoch: {self.seconds_an_epoch:,.1f} s ({made})",
            f"all {self.epochs} epochs: {self.minutes:,.1f} minutes{start}",
        ]
        return "\n".join(lines)


def profile(
    experiment: Experiment | str,
    *,
    steps: int | None = None,
    root: str | Path | None = None,
    download: bool = False,
    sitting: Sitting | None = None,
    **changes: Any,
) -> Profile:
    """Take the times of some training steps from random weights; nothing is kept.

    The parts are those of a step in :func:`mixem.training.train`: "augmentation" draws the views,
    "forward" is what happens inside the method's networks, "loss" the rest of its step, "other"
    the choice of the images and the meter. At every border between them the device is waited for,
    so whole steps are also timed without borders; where the parts add up to more than these, the
    difference is the waiting.

    Args:
        experiment: A name, or settings from :func:`mixem.experiments.get` and ``override``.
        steps: How many are timed of each kind of pass, with borders and again without; by default
            20, or on a CPU as many as fit into some seconds, of smaller batches if need be.
        root: Folder of the data sets. Random pixels stand in for a known set that is not there.
        download: Fetch the data set if it is not there.
        sitting: Device, precision and whether to compile.
        **changes: Values that replace those of the sitting, such as ``device="cpu"``.

    Of a folder the pictures are counted and not read: random pixels take as long.

    Raises:
        InputError: For impossible settings, an unknown set, a folder that cannot be read.
    """
    experiment = _trained(experiment)
    if steps is not None and steps < 1:
        raise InputError(f"{steps} steps to time; give at least 1")
    sitting = dataclasses.replace(sitting or Sitting(), **changes)
    device = resolve_device(sitting.device)
    precision = resolve_precision(sitting.precision, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    standing_in: list[str] = []
    counts: dict[str, int] = {}
    few = steps is None and device.type == "cpu"
    sets = load_sets(experiment, _loader(experiment, root, download, standing_in, counts, few=few))
    config = whole = experiment.training
    method = build(experiment, channels=sets.train.channels, seed=0)
    method.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = make_optimiser(method, config, device)
    clock = _Clock(device)
    stepper = Stepper(method, optimiser, device=device, precision=precision, border=clock.border)
    until = math.inf
    if few:
        until = clock.now() + SECONDS
        config = _quick(method, sets.of(method), whole, stepper)
    passes = make_passes(method, sets.of(method), config, device)
    stages = {part.name: _Stage(part, stepper, config) for part in passes}
    operations = {name: stage.count() for name, stage in stages.items()}
    with compiled(method, sitting.compile):
        _time_networks(method, clock)
        for stage in stages.values():
            for _ in range(WARM_UP):
                if clock.now() < until:  # else the counted step has to do
                    stage.step()
        memory = _memory(device)  # before there are matrices for the product
        times, peak = _take_turns(stages, clock, steps or STEPS, precision, until)
    lengths = {}
    for name, stage in stages.items():
        images = sets.of(method)[name]
        lengths[name] = _Length(counts.get(images.split, len(images)), whole, stage.images.batch)
    return Profile(
        experiment=experiment,
        hardware=hardware(str(device)),
        precision=precision,
        random_images=bool(standing_in),
        passes=tuple(
            PassProfile(
                name=name,
                times=method.passes.count(name),
                steps=length.steps,
                images=length.batch * whole.accumulate,
                parts={part: length.scaled(times[name, part], part) for part in PARTS},
                milliseconds=length.scaled(
                    times[name, "whole"], optimiser=times[name, "optimiser"]
                ),
                operations=round(length.scaled(operations[name])),
            )
            for name, length in lengths.items()
        ),
        peak=peak,
        memory=0 if config.batch_size < whole.batch_size or (few and standing_in) else memory,
        batch=config.batch_size if config.batch_size < whole.batch_size else None,
    )


def seconds_an_epoch(
    experiment: Experiment | str,
    *,
    steps: int = 2,
    batch: int | None = None,
    root: str | Path | None = None,
    sitting: Sitting | None = None,
    **changes: Any,
) -> float:
    """How long an epoch of training will take, from some steps on a few random pixels.

    Needs neither the images nor memory for them, unlike :func:`profile`.

    Args:
        experiment: A name, or settings. Of a folder only the pictures are counted.
        steps: How many are timed of each kind of pass, after one that warms up.
        batch: Images of the batches that are timed, if fewer than the recipe's; the time is taken
            to grow with them.
        root: Folder of the data sets, for those that have to be counted.
        sitting: Device, precision and whether to compile.
        **changes: Values that replace those of the sitting, such as ``device="cpu"``.

    Raises:
        InputError: For impossible settings or images of unknown number.
    """
    experiment = _trained(experiment)
    sitting = dataclasses.replace(sitting or Sitting(), **changes)
    device = resolve_device(sitting.device)
    precision = resolve_precision(sitting.precision, device)
    config = experiment.training
    few = min(batch or config.batch_size, config.batch_size)
    shape, classes, counts = _shape(experiment, root)
    count = max(few * config.accumulate, 64, 2 * classes, experiment.settings.neighbours + 2)
    pixels = (
        torch.randint(256, (count, *shape), dtype=torch.uint8)
        if len(shape) == 3
        else torch.randn(count, *shape).half()
    )
    own = experiment.settings.splits()
    total = {name: _count(counts, split) for name, split in own.items()}
    whole = _count(counts, experiment.train_split)
    labels = torch.arange(len(pixels)) % classes
    if "unlabeled" in experiment.train_split:  # as many with a label as there will be
        labels[
            torch.arange(len(pixels)) % max(1, whole // (whole - counts.get("unlabeled", 0) or 1))
            > 0
        ] = -1
    names = tuple(map(str, range(classes)))
    images = ImageSet(pixels, labels, names, name=experiment.images, split=experiment.train_split)
    method = build(experiment, channels=shape[0], seed=0)
    method.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    small = dataclasses.replace(config, batch_size=few)
    optimiser = make_optimiser(method, small, device)
    stepper = Stepper(method, optimiser, device=device, precision=precision)
    clock, found = _Clock(device), 0.0
    with compiled(method, sitting.compile):
        for part in make_passes(method, dict.fromkeys(method.passes, images), small, device):
            stage = _Stage(part, stepper, small)
            stage.step()
            began = clock.now()
            for _ in range(steps):
                stage.step()
            seconds = (clock.now() - began) / steps
            n = total.get(part.name, whole)
            full = min(config.batch_size, n)
            found += n // (full * config.accumulate) * seconds * full / part.batch
    return found


def _trained(experiment: Experiment | str) -> Experiment:
    """The experiment, which has steps to time."""
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    if not experiment.training.epochs:
        raise InputError(f"{experiment.name} trains nothing, so there is no step to time")
    return experiment


def steps_an_epoch(experiment: Experiment, *, root: str | Path | None = None) -> int:
    """Steps of all passes of an epoch; the images are counted.

    Args:
        experiment: Its settings.
        root: Folder of the data sets, for those that have to be counted.
    """
    shape, _, counts = _shape(experiment, root)
    config, own = experiment.training, experiment.settings.splits()
    method = build(experiment, channels=shape[0], seed=0)
    total = 0
    for name in method.passes:
        n = _count(counts, own.get(name, experiment.train_split))
        total += n // (min(config.batch_size, n) * config.accumulate)
    return total


def _shape(
    experiment: Experiment, root: str | Path | None
) -> tuple[tuple[int, ...], int, dict[str, int]]:
    """Shape of an image or its features, classes, and how many each part has."""
    name, network = network_of(experiment.images)
    splits = (experiment.train_split, *experiment.settings.splits().values())
    shape: tuple[int, ...]
    if name in SHAPES:
        channels, side, classes, counts = SHAPES[name]
        shape = channels, side, side
    elif path := folder_path(name):
        side, classes = picture_size(experiment) or 0, experiment.clusters
        counts = {split: len(list_folder(path, split=split).files) for split in splits}
        shape = 3, side, side
    else:
        load = loader(dataclasses.replace(experiment, images=name), root=root)
        sets = {split: load(split) for split in splits}
        shape, classes = tuple(sets[splits[0]].images.shape[1:]), experiment.clusters
        counts = {split: len(images) for split, images in sets.items()}
    if network:
        shape = (pretrained(network).out_features,)
    return shape, classes, counts


def _count(counts: dict[str, int], split: str) -> int:
    """Images of a split, such as "train+test" or "train/20"."""
    if split in counts:
        return counts[split]
    known = [counts[part] for part in split.split("+") if part in counts]
    if len(known) != len(split.split("+")):
        raise InputError(f"it is not known how many images {split!r} has; give whole splits")
    return sum(known)


class _Length:
    """A pass of the whole training, by one of smaller batches.

    Args:
        n: Images of the pass.
        whole: Training whose batches are meant.
        timed: Images of the batches that were timed.
    """

    def __init__(self, n: int, whole: TrainConfig, timed: int):
        self.batch = min(whole.batch_size, n)
        self.steps = n // (self.batch * whole.accumulate)
        self.factor = self.batch / timed

    def scaled(self, value: float, part: str = "", *, optimiser: float = 0.0) -> float:
        """A time for the whole batch; what the optimiser takes does not grow with it."""
        return value if part == "optimiser" else (value - optimiser) * self.factor + optimiser


class _Clock:
    """Shares the time between borders out to the parts of a step."""

    def __init__(self, device: torch.device):
        self.device = device
        self.flag = torch.zeros((), device=device)
        self.running = False

    def now(self) -> float:
        """Seconds, when the device has done all it was asked for; a number is read to find out."""
        self.flag.item()
        return time.perf_counter()

    def start(self) -> None:
        """Begin a step."""
        self.spent = dict.fromkeys(PARTS, 0.0)
        self.running, self.last = True, self.now()

    def border(self, part: str) -> None:
        """All since the last border was this part; nothing while no step is timed."""
        if self.running:
            now = self.now()
            self.spent[part] += now - self.last
            self.last = now

    def stop(self) -> dict[str, float]:
        """End the step: seconds by part."""
        self.running = False
        return self.spent


class _Timed(nn.Module):
    """A network between two borders."""

    def __init__(self, network: nn.Module, clock: _Clock):
        super().__init__()
        self.network = network
        self.clock = clock

    def forward(self, *inputs: Any) -> Any:
        self.clock.border("loss")
        outputs = self.network(*inputs)
        self.clock.border("forward")
        return outputs


def _time_networks(method: Method, clock: _Clock) -> None:
    """Put borders around each network that the method calls."""
    groups = [part for part in method.children() if isinstance(part, nn.ModuleDict)]
    for parent in (method, *groups):
        for name, network in list(parent.named_children()):
            if network not in groups:
                setattr(parent, name, _Timed(network, clock))


class _Stage:
    """One kind of pass, in the midst of a training."""

    def __init__(self, images: Pass, stepper: Stepper, config: TrainConfig):
        self.images, self.stepper, self.config = images, stepper, config
        self.halfway = config.epochs * images.steps // 2  # by then all that is trained late is
        self.order, self.meter, self.done = images.order(0, 0), Meter(), 0

    def step(self, counter: contextlib.AbstractContextManager[Any] | None = None) -> None:
        """A step; ``counter`` is entered for each forward and backward pass."""
        self.stepper.step(
            self.images,
            self.order,
            self.meter,
            position=self.done % self.images.steps,
            step=self.halfway + self.done,
            counter=counter,
        )
        self.done += 1

    def count(self) -> int:
        """Floating-point operations of a step."""
        counter = FlopCounterMode(display=False)
        self.step(counter)
        return counter.get_total_flops() * self.config.accumulate


def _quick(
    method: Method, sets: Mapping[str, ImageSet], whole: TrainConfig, stepper: Stepper
) -> TrainConfig:
    """A training with batches of which some steps of each kind of pass take seconds."""
    for few in PROBES:
        config = dataclasses.replace(whole, batch_size=few)
        if few >= whole.batch_size:
            return whole
        passes = dict.fromkeys(make_passes(method, sets, config, torch.device("cpu")))
        seconds, images = 0.0, 0
        for part in passes:
            stage = _Stage(part, stepper, config)
            for _ in range(2):  # the first has to warm up, and counts if it is long
                began = time.perf_counter()
                stage.step()
                last = time.perf_counter() - began
                if last > WARM:
                    break
            seconds, images = seconds + last, part.batch
        if seconds > WARM:
            break
    most = int(SECONDS * images / (FOUR * seconds)) if seconds else whole.batch_size
    return dataclasses.replace(whole, batch_size=min(whole.batch_size, max(PROBES[0], most)))


def _take_turns(
    stages: dict[str, _Stage],
    clock: _Clock,
    steps: int,
    precision: str,
    until: float = math.inf,
) -> tuple[dict[tuple[str, str], float], float]:
    """Median milliseconds by pass and part, that of a "whole" step, and the best product's rate."""
    times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    peak = 0.0
    # A GPU is given several steps at once, as in training; on a CPU other work comes and goes.
    blocks = min(steps, 5 if clock.device.type == "cuda" else steps)
    for block in np.array_split(np.arange(steps), blocks):
        for name, stage in stages.items():
            for _ in block:
                clock.start()
                stage.step()
                for part, seconds in clock.stop().items():
                    times[name, part].append(1000 * seconds)
            if (began := clock.now()) > until:
                if not times[name, "whole"]:  # there is no time to do it without borders
                    times[name, "whole"] = [sum(times[name, part][-1] for part in PARTS)]
                continue
            for _ in block:
                stage.step()
            times[name, "whole"].append(1000 * (clock.now() - began) / len(block))
        peak = max(peak, _product_rate(clock, precision))
        if time.perf_counter() > until:
            break
    return {key: statistics.median(values) for key, values in times.items()}, peak


def _product_rate(clock: _Clock, precision: str) -> float:
    """Operations a second of a large square matrix product, the better of two tries."""
    side, times = (8192, 10) if clock.device.type == "cuda" else (2048, 1)
    matrix = torch.rand(side, side, device=clock.device, dtype=getattr(torch, precision))
    seconds = []
    for _ in range(2):
        began = clock.now()
        for _ in range(times):
            matrix @ matrix
        seconds.append(clock.now() - began)
    return 2 * side**3 * times / min(seconds)


def _loader(
    experiment: Experiment,
    root: str | Path | None,
    download: bool,
    standing_in: list[str],
    counts: dict[str, int],
    *,
    few: bool = False,
) -> Callable[[str], ImageSet]:
    """Loads a split; random pixels stand in for a known set that is not there, and are noted.

    They stand in for a folder, too, whose pictures are counted. ``few`` are as many as a step
    needs; then those of a set are counted, too.
    """
    load = loader(experiment, root=root, download=download)
    path = folder_path(experiment.images) if not network_of(experiment.images)[1] else ""

    def load_or_draw(split: str) -> ImageSet:
        if path:
            listed = list_folder(path, split=split)
            counts[split] = len(listed.files)
            return _of_folder(experiment, listed, split)
        try:
            return load(split)
        except InputError as error:
            # These are of a set that is not there, not of a damaged one, a wrong name or split.
            absent = isinstance(error.__cause__, OSError | RuntimeError)
            if download or experiment.images not in SHAPES or not absent or "/" in split:
                raise
        standing_in.append(split)
        parts = SHAPES[experiment.images][3]
        counts[split] = whole = sum(parts[part] for part in split.split("+"))
        return _random(experiment.images, split, min(1, _wanted(experiment) / whole) if few else 1)

    return load_or_draw


def _random(name: str, split: str, share: float) -> ImageSet:
    """Random pixels of the shape of a set's, a share of their number, of each part alike."""
    channels, side, classes, counts = SHAPES[name]
    random = np.random.default_rng(0)
    parts = {part: math.ceil(share * counts[part]) for part in split.split("+")}
    pixels = random.integers(256, size=(sum(parts.values()), channels, side, side), dtype=np.uint8)
    labels = [
        np.full(count, -1) if part == "unlabeled" else random.integers(classes, size=count)
        for part, count in parts.items()
    ]
    return ImageSet(
        torch.from_numpy(pixels),
        torch.from_numpy(np.concatenate(labels)),
        class_names=tuple(str(number) for number in range(classes)),
        name=name,
        split=split,
    )


def _wanted(experiment: Experiment) -> int:
    """Images that a step needs."""
    config = experiment.training
    wanted = max(config.batch_size * config.accumulate, 2 * experiment.clusters, 64)
    return max(wanted, experiment.settings.neighbours + 2)


def _of_folder(experiment: Experiment, listed: Folder, split: str) -> ImageSet:
    """As many random pixels as a step needs, with labels of a folder's pictures."""
    n = min(len(listed.files), _wanted(experiment))
    side = picture_size(experiment) or 0
    pixels = np.random.default_rng(0).integers(256, size=(n, 3, side, side), dtype=np.uint8)
    labels = listed.labels
    if labels is not None:  # they are in the order of the classes
        labels = labels[torch.linspace(0, len(labels) - 1, n).long()]
    names = listed.class_names
    return ImageSet(torch.from_numpy(pixels), labels, names, experiment.images, split)


def _memory(device: torch.device) -> int:
    """See :attr:`Profile.memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
