"""The queue of what the book's tables lack: one list, worked through in order of value.

The list is ``experiments/queue.json``. A record is written as soon as its run ends, so that
whatever stops the queue costs nothing that was done.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mixem.checkpoint import read_json, write_json
from mixem.devices import resolve_device
from mixem.errors import InputError, memory_is_full, reason
from mixem.experiments import Experiment, get
from mixem.fingerprint import hardware, source_fingerprint
from mixem.profile import seconds_an_epoch, steps_an_epoch
from mixem.progress import duration
from mixem.records import Record, Table, load_records, longest_scaled, paper_text, save_record
from mixem.records.format import SCALED, shortened
from mixem.runs import changes_of, prepare, run, runs_root
from mixem.schema import from_json
from mixem.training import Sitting

__all__ = ["Progress", "Row", "fit", "fitted", "listing", "queue", "reproduce", "rows_named"]

CPU_BATCH = 8  # images of the batches by which a CPU's speed is projected, at first
CPU_SECONDS = 3  # if that took less, larger ones are tried
SPARE = 1.05  # a training's time over that of its steps: checkpoints, snapshots, the log


@dataclass(frozen=True)
class Row:
    """A row of the queue.

    Attributes:
        experiment: Its name.
        seeds: How many are wanted: 0, 1, and so on.
        changes: Settings by path that differ from the experiment's.
        label: Tells rows of one experiment apart.
        why: What it is for.
    """

    experiment: str
    seeds: int = 1
    changes: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """Of the experiment, and the label behind a colon."""
        return f"{self.experiment}:{self.label}" if self.label else self.experiment

    def settings(self, images: str | None = None) -> Experiment:
        """The experiment, perhaps on other images, such as ``folder:PATH``, with its splits."""
        changes = self.changes | ({"images": images} if images else {})
        return get(self.experiment).override(changes)

    def seeds_in(self, records: Sequence[Record], images: str | None = None) -> set[int]:
        """The seeds of which there is a record, with these changes and no others."""
        wanted = changes_of(self.settings(images))
        found = (r for r in records if r.experiment == self.experiment)
        return {r.seed for r in found if r.overrides == wanted}


def queue() -> list[Row]:
    """All rows, the most valuable first."""
    text = resources.files("mixem.experiments").joinpath("queue.json").read_text(encoding="utf-8")
    return [from_json(Row, row, "queue.json") for row in json.loads(text)]


def rows_named(names: Sequence[str]) -> list[Row]:
    """The rows of these names, in their order; all of them without names.

    An experiment that is not in the queue is a row of one seed.

    Raises:
        InputError: If there is neither such a row nor such an experiment.
    """
    every = queue()
    known = {row.name: row for row in every}  # of several of one name the last has most seeds
    for name in names:
        if name not in known and ":" in name:
            rows = ", ".join(row for row in known if ":" in row)
            raise InputError(f"there is no row {name!r}; those with a label are {rows}")
    return [known.get(name) or Row(get(name).name) for name in names] if names else every


class Speeds:
    """How long an epoch takes on this device: from records, from earlier looks, or measured.

    Args:
        records: Those made on the same hardware are believed.
        sitting: Where and how precisely.
        say: Told what is measured, for that takes a while on a CPU.
        root: Folder of the data sets, for those that have to be counted.
    """

    def __init__(
        self,
        records: Sequence[Record],
        sitting: Sitting,
        say: Callable[[str], object] = print,
        root: str | Path | None = None,
    ):
        self.records, self.sitting, self.say, self.root = records, sitting, say, root
        self.device = resolve_device(sitting.device)
        self.hardware = hardware(str(self.device))
        self.file = runs_root() / "speed.json"
        self.known: dict[str, float] = read_json(self.file) if self.file.exists() else {}

    def seconds(self, experiment: Experiment) -> float:
        """Seconds an epoch."""
        length = {*SCALED, "images"}
        same = {path: v for path, v in changes_of(experiment).items() if path not in length}
        for record in self.records:
            others = {p: v for p, v in record.overrides.items() if p not in length}
            if (record.experiment, record.hardware, others) == (
                experiment.name,
                self.hardware,
                same,
            ):
                return 60 * record.minutes / record.epoch
        what = [self.hardware, self.sitting.precision, self.sitting.compile, source_fingerprint()]
        what += [_timed(experiment)]
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        if key not in self.known:
            self.say(f"measuring the speed of {experiment.name} ...")
            self.known[key] = self._measured(experiment)
            write_json(self.file, self.known)
        return self.known[key]

    def _measured(self, experiment: Experiment) -> float:
        if self.device.type == "cuda":
            return seconds_an_epoch(experiment, steps=10, root=self.root, sitting=self.sitting)
        batch = CPU_BATCH
        while True:  # the smaller the batch, the more is overhead
            began = time.monotonic()
            found = seconds_an_epoch(
                experiment, steps=2, batch=batch, root=self.root, sitting=self.sitting
            )
            if time.monotonic() - began > CPU_SECONDS or batch >= experiment.training.batch_size:
                return found
            batch *= 4

    def minutes(self, experiment: Experiment) -> float:
        """Of a whole training, without the run it starts from and without its scores."""
        training = experiment.training
        if not training.epochs:
            return 0.0
        if training.least_steps:
            training = training.lasting(steps_an_epoch(experiment, root=self.root))
        return SPARE * training.epochs * self.seconds(experiment) / 60


def listing(
    rows: Sequence[Row],
    records: Sequence[Record],
    *,
    sitting: Sitting | None = None,
    images: str | None = None,
    root: str | Path | None = None,
    say: Callable[[str], object] = print,
) -> Table:
    """What is there and what is wanted, row by row, in order of value.

    Args:
        rows: Of :func:`queue`.
        records: As :func:`mixem.records.load_records` gives.
        sitting: Where the trainings would run.
        images: Instead of the experiments' own, such as ``folder:PATH``.
        root: Folder of the data sets, for those that have to be counted.
        say: Told what is measured.
    """
    speeds = Speeds(records, sitting or Sitting(), say, root)
    cells, total = [], 0.0
    missing = [(row.name, seed) for row, seed in _missing(rows, records, images)]
    for row in rows:
        experiment = row.settings(images)
        there = len(row.seeds_in(records, images) & set(range(row.seeds)))
        minutes = speeds.minutes(experiment)
        for seed in range(row.seeds):  # a row may come again, with more seeds
            if (row.name, seed) in missing:
                missing.remove((row.name, seed))
                total += minutes
        short = longest_scaled(records, row.experiment)
        words = short[0].scaled if short and not row.changes else ""
        paper = "–" if row.changes else paper_text(row.experiment)
        have = f"{there} of {row.seeds}"
        cells.append((row.name, have, words, paper, duration(60 * minutes), row.why))
    cells.append(("all that is missing", "", "", "", duration(60 * total), f"on {speeds.hardware}"))
    columns = ("row", "seeds", "shortened", "paper", "a seed takes", "for")
    return Table(columns, tuple(cells))


def _timed(experiment: Experiment) -> dict[str, Any]:
    """The settings that an epoch's time depends on: no weights of losses, rates or lengths."""

    def matters(path: str, value: Any) -> bool:
        group, _, name = path.partition(".")
        if group == "training":
            return name in ("batch_size", "accumulate", "optimiser")
        weight = group == "settings" and isinstance(value, float)
        return not weight and group not in ("name", "test_split", "start", "protocol")

    return {path: v for path, v in experiment.values().items() if matters(path, v)}


@dataclass
class Progress:
    """What :func:`reproduce` has done.

    Attributes:
        done: Names and seeds of the runs whose record was written.
        failed: Of those that could not be run, with the reason.
        stopped: The time was up before all was done.
    """

    done: list[tuple[str, int]] = field(default_factory=list)
    failed: dict[tuple[str, int], str] = field(default_factory=dict)
    stopped: bool = False


def reproduce(
    rows: Sequence[Row],
    *,
    results: str | Path = "results",
    minutes: float | None = None,
    images: str | None = None,
    root: str | Path | None = None,
    download: bool = False,
    sitting: Sitting | None = None,
    say: Callable[[str], object] = print,
) -> Progress:
    """Train what the rows lack, in their order; records go to ``results`` as each run ends.

    A run that was stopped, or killed, goes on where it was, and so does the queue. What cannot be
    run, for want of its images or of memory, is named and left out.

    Args:
        rows: Of :func:`queue`.
        results: Folder of the records.
        minutes: Stop cleanly after so many. Scoring a run that is trained is not cut short.
        images: Instead of the experiments' own, such as ``folder:PATH``.
        root: Folder of the data sets.
        download: Fetch what is not there.
        sitting: Where, how precisely.
        say: Told what happens, a line each.
    """
    began, progress = time.monotonic(), Progress()
    sitting = sitting or Sitting()
    records = _records(results)
    speeds = Speeds(records, sitting, say, root)
    for row, seed in _missing(rows, records, images):
        left = None if minutes is None else minutes - (time.monotonic() - began) / 60
        experiment = row.settings(images)
        words = f"{row.name}, seed {seed}"
        try:
            needs = speeds.minutes(experiment)
            if left is not None and left <= 0:
                say(f"the time is up; next comes {words}, about {duration(60 * needs)}")
                progress.stopped = True
                return progress
            say(f"next: {words}, about {duration(60 * needs)} of training{_until(needs)}")
            finished = run(
                experiment,
                seed=seed,
                root=root,
                download=download,
                sitting=dataclasses.replace(sitting, max_minutes=left),
            )
        except (InputError, FloatingPointError, RuntimeError, MemoryError) as error:
            if isinstance(error, RuntimeError | MemoryError) and not memory_is_full(error):
                raise
            progress.failed[row.name, seed] = reason(error)
            say(f"left out: {words}: {reason(error)}")
            continue
        if finished is None:
            say(f"the time is up in {words}; the same command goes on with it")
            progress.stopped = True
            return progress
        file = save_record(finished.record, results)
        progress.done.append((row.name, seed))
        say(f"done: {words}{scores(finished.record)}, in {file}")
    return progress


def fitted(experiment: Experiment, minutes: float, seconds: float) -> Experiment:
    """The experiment with its schedule scaled to a time, or as it is if that is enough.

    Args:
        experiment: Its settings.
        minutes: Of training.
        seconds: An epoch.

    Raises:
        InputError: If there is no time for two epochs.
    """
    training = experiment.training
    epochs = math.floor(60 * minutes / (SPARE * seconds))
    if epochs >= training.epochs:
        return experiment
    if epochs < 2:
        raise InputError(
            f"an epoch of {experiment.name} takes about {seconds:.0f} s here, so that {minutes:g} "
            f"minutes are not two; give at least {math.ceil(2 * SPARE * seconds / 60)} minutes"
        )
    short = training.scaled(epochs)
    names = (item.name for item in dataclasses.fields(training))
    changed = {
        f"training.{name}": getattr(short, name)
        for name in names
        if getattr(short, name) != getattr(training, name)
    }
    return experiment.override(changed)


def fit(
    row: Row,
    fit_minutes: float,
    *,
    seed: int = 0,
    results: str | Path = "results",
    minutes: float | None = None,
    images: str | None = None,
    start: str | Path | None = None,
    root: str | Path | None = None,
    download: bool = False,
    sitting: Sitting | None = None,
    say: Callable[[str], object] = print,
) -> Record | None:
    """Train a row with its schedule scaled to a time, to its end, and score it.

    How many epochs fit is measured once; called again, the training goes on with that number.

    Args:
        row: Of :func:`queue`.
        fit_minutes: Of training; measuring before it and scoring after it come on top.
        seed: Of the run.
        results: Folder of the records.
        minutes: Stop cleanly after so many, finished or not.
        images: Instead of the experiment's own, such as ``folder:PATH``.
        start: Finished run to start from.
        root: Folder of the data sets.
        download: Fetch what is not there.
        sitting: Where, how precisely.
        say: Told what happens, a line each.

    Returns:
        The record, or None if ``minutes`` ended it early.
    """
    began, sitting = time.monotonic(), sitting or Sitting()
    whole = row.settings(images)
    if not fit_minutes > 0:
        raise InputError(f"{fit_minutes} minutes to fit into; give more than 0")
    plan = prepare(whole, seed=seed, start=start, root=root, download=download)
    folder = plan.folder.with_name(f"{plan.folder.name}-fit-{fit_minutes:g}")
    config = folder / "config.json"
    if config.exists():
        experiment = Experiment.from_dict(read_json(config)["experiment"])
    else:
        on_gpu = resolve_device(sitting.device).type == "cuda"
        seconds = seconds_an_epoch(whole, steps=20 if on_gpu else 2, root=root, sitting=sitting)
        experiment = fitted(whole, fit_minutes, seconds)
        say(f"an epoch of {row.name} takes about {seconds:.1f} s here")
    epochs, of = experiment.training.epochs, whole.training.epochs
    constant = whole.training.constant
    scaled = shortened(epochs, of, constant=constant) if epochs < of else f"all {of} epochs"
    takes = f"about {duration(60 * fit_minutes)}{_until(fit_minutes)}"
    say(f"next: {row.name}, seed {seed}, {scaled}, {takes}")
    left = None if minutes is None else minutes - (time.monotonic() - began) / 60
    finished = run(
        experiment,
        seed=seed,
        out=folder,
        start=start,
        root=root,
        download=download,
        sitting=dataclasses.replace(sitting, max_minutes=left),
    )
    if finished is None:
        say(f"the time is up in {row.name}, seed {seed}; the same command goes on with it")
        return None
    file = save_record(finished.record, results)
    say(f"done: {row.name}, seed {seed}, {scaled}{scores(finished.record)}, in {file}")
    return finished.record


def scores(record: Record) -> str:
    """Accuracy in words, behind a comma; nothing without labels."""
    return f", accuracy {record.metrics['accuracy']:.4f}" if record.metrics else ""


def _missing(
    rows: Sequence[Row], records: Sequence[Record], images: str | None
) -> Iterator[tuple[Row, int]]:
    """Rows and seeds without a record, each once, in the order of the rows."""
    seen = set()
    for row in rows:
        there = row.seeds_in(records, images)
        for seed in range(row.seeds):
            if seed not in there and (row.name, seed) not in seen:
                seen.add((row.name, seed))
                yield row, seed


def _records(folder: str | Path) -> list[Record]:
    return load_records(folder) if Path(folder).is_dir() else []


def _until(minutes: float) -> str:
    """When it will be done."""
    end = time.localtime(time.time() + 60 * minutes)
    return f", until {time.strftime('%H:%M' if minutes < 720 else '%d %B %H:%M', end)}"
