"""Runs: one experiment, one seed, one folder.

A finished folder holds ``config.json``, ``log.jsonl``, ``model.safetensors`` and ``record.json``.
"""

import contextlib
import copy
import dataclasses
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixem.checkpoint import (
    ANEW,
    UNFINISHED,
    load_weights,
    not_now,
    read_json,
    save_weights,
    write_json,
)
from mixem.data import ImageSet, network_of, own_path
from mixem.devices import resolve_device
from mixem.distributed import connect, leads, own_device, processes, wait
from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS, Experiment, get
from mixem.experiments.build import Sets, build, load_sets, loader, start_of
from mixem.fingerprint import hardware, source_fingerprint, versions
from mixem.lock import locked
from mixem.methods import Method
from mixem.progress import bar, say
from mixem.records import (
    CurvePoint,
    Data,
    Epoch,
    Record,
    Start,
    read_record,
    write_record,
)
from mixem.schema import from_json
from mixem.scoring import Evaluation, evaluate
from mixem.training import Sitting, Training, train
from mixem.training.journal import write_log
from mixem.training.step import require_seed, seeded

__all__ = [
    "Plan",
    "Run",
    "changes_of",
    "default_folder",
    "load_run",
    "prepare",
    "run",
    "runs_root",
]

HISTORY_POINTS = 60  # kept in a record; log.jsonl has every epoch


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it lies.
        method: The trained network, in evaluation mode on the CPU.
        experiment: Its settings, changes included.
        record: What ``record.json`` holds.
        history: One entry an epoch, from ``log.jsonl``.
    """

    folder: Path
    method: Method
    experiment: Experiment
    record: Record
    history: list[Epoch]

    def pictures(self) -> tuple[int, int]:
        """Channels, and height and width, of the pictures that it takes.

        Raises:
            InputError: If it takes features.
        """
        if len(self.record.data.shape) != 3:
            raise InputError(
                f"the run in {self.folder} was trained on features, not on pictures; give a run "
                "on pictures, or the pretrained network itself"
            )
        return self.record.data.shape[0], self.record.data.shape[1]

    def at(self, epoch: int) -> Method:
        """The method as it was after an epoch of ``training.snapshots``, 0 for the start.

        What is chosen at the end, such as a sub-head, is chosen here too.

        Raises:
            InputError: If no weights were kept after that epoch.
        """
        training = self.experiment.training
        if epoch not in training.snapshots or epoch > training.epochs:
            raise InputError(
                f"no weights of epoch {epoch}; there are {training.snapshots} up to "
                f"{training.epochs}, set training.snapshots for others"
            )
        return _earlier(self.method, self.folder, epoch)


@dataclass(frozen=True)
class Plan:
    """A run before it is trained: everything that is to be known of it, looked up once.

    Attributes:
        experiment: Its settings.
        seed: Of the weights, the order of the images and the views.
        sets: Its images.
        method: Untrained.
        folder: Where it will lie, or lies.
        start: Finished run to start from, given by the user.
        origin: The experiment it starts from, unless it begins from random weights.
    """

    experiment: Experiment
    seed: int
    sets: Sets
    method: Method
    folder: Path
    start: Path | None = None
    origin: Experiment | None = None

    @property
    def finished(self) -> bool:
        """It has been trained and scored before."""
        return (self.folder / "record.json").exists()

    def identity(self) -> dict[str, Any]:
        """What ``config.json`` says of the run."""
        identity = {
            "experiment": self.experiment.to_dict(),
            "seed": self.seed,
            "data": self.sets.train.fingerprint,
        }
        return identity | ({"start": str(self.start.resolve())} if self.start else {})


def prepare(
    experiment: Experiment | str,
    *,
    seed: int = 0,
    images: ImageSet | Mapping[str, ImageSet] | None = None,
    out: str | Path | None = None,
    start: str | Path | None = None,
    root: str | Path | None = None,
    download: bool = False,
) -> Plan:
    """Find out what can be wrong before a folder is taken and hours are spent.

    Args and errors are those of :func:`run`.
    """
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    require_seed(seed)
    if isinstance(images, ImageSet) and experiment.images != images.name:
        experiment = experiment.on(images)
    sets = load_sets(experiment, loader(experiment, images=images, root=root, download=download))
    method = build(experiment, channels=sets.train.channels, seed=seed)
    method.targets(sets.train)
    origin = start_of(experiment) if experiment.start else None
    if origin and not start:  # an untrained start shows whether the trained one will fit
        trial = build(origin, channels=sets.train.channels, seed=seed)
        copy.deepcopy(method).start_from(trial)
    begun = Path(start) if start else None
    folder = Path(out) if out else default_folder(experiment, seed, sets.train, begun)
    return Plan(experiment, seed, sets, method, folder, begun, origin)


def run(
    experiment: Experiment | str,
    *,
    seed: int = 0,
    images: ImageSet | Mapping[str, ImageSet] | None = None,
    out: str | Path | None = None,
    start: str | Path | None = None,
    root: str | Path | None = None,
    download: bool = False,
    sitting: Sitting | None = None,
    **changes: Any,
) -> Run | None:
    """Train and evaluate an experiment, or go on with it, or load it if it is finished.

    Args:
        experiment: A name, or settings from :func:`mixem.experiments.get` and ``override``.
        seed: Of the weights, the order of the images and the views.
        images: In memory, instead of those that the experiment names: all of them for training
            and scores, see :meth:`mixem.data.ImageSet.of`, or a mapping from each split of the
            experiment to its images.
        out: Folder of the run. By default one under ``runs/`` (or ``$MIXEM_RUNS``) whose name is
            made of experiment, seed, data, settings and source code, so that a changed library
            never shows a stale number.
        start: Finished run to start from: of the same method, to go on with all of its weights,
            on other images or for more epochs; or of the method that the experiment starts from.
            By default the run of the same seed that the experiment names, trained first if need be
            (in ``out/start`` if ``out`` is given).
        root: Folder of the data sets; see :func:`mixem.data.load_images`.
        download: Fetch the data set if it is not there.
        sitting: Where it runs, how precisely, for how long (the start's training included).
        **changes: Values that replace those of the sitting, such as ``device="cpu"``.

    Returns:
        The finished run, or None if ``max_minutes`` ended it early; call again to go on.

    Raises:
        InputError: For impossible settings, missing data, a folder of another run. Also for a
            training that is not finished after ``$MIXEM_MOST_MINUTES``, where that is set and
            ``max_minutes`` is not: the cells of a notebook shall not take hours. What was trained
            is kept.
    """
    began = time.monotonic()
    sitting = dataclasses.replace(sitting or Sitting(), **changes)
    if sitting.max_minutes is None and (most := os.environ.get("MIXEM_MOST_MINUTES")):
        given = dataclasses.replace(sitting, max_minutes=_minutes(most))
        options = {"images": images, "out": out, "start": start, "root": root, "download": download}
        if found := run(experiment, seed=seed, sitting=given, **options):  # type: ignore[arg-type]
            return found
        name = experiment if isinstance(experiment, str) else experiment.name
        raise InputError(
            f"{name}, seed {seed}, is not trained yet and takes more than the {most} minutes of "
            f"MIXEM_MOST_MINUTES; train it before, as python -m mixem reproduce {name} does"
        )
    if processes() > 1:
        connect(resolve_device(own_device(sitting.device)))
    plan = prepare(
        experiment, seed=seed, images=images, out=out, start=start, root=root, download=download
    )
    begun = load_run(plan.start) if plan.start and not plan.finished else None
    if begun and type(begun.method) is type(plan.method):
        plan.method.go_on_from(begun.method)
    elif begun:
        plan.method.start_from(begun.method)
    with _claimed(plan.folder, plan.identity()):
        if plan.finished:
            return load_run(plan.folder)
        aloud = sitting.progress and leads()
        if plan.origin and not begun:
            if aloud:
                say(
                    f"{plan.experiment.name} goes on from {plan.origin.name}, which is trained "
                    "first if it is not there"
                )
            begun = run(
                plan.origin,
                seed=seed,
                images=images,
                out=plan.folder / "start" if out else None,
                root=root,
                download=download,
                sitting=sitting,
            )
            if begun is None:
                return None
            plan.method.start_from(begun.method)
        if sitting.max_minutes is not None:
            left = sitting.max_minutes - (time.monotonic() - began) / 60
            sitting = dataclasses.replace(sitting, max_minutes=left)
        if aloud:
            say(_length(plan))
        training = train(
            plan.method,
            plan.sets.of(plan.method),
            plan.experiment.training,
            seed=seed,
            out=plan.folder,
            sitting=sitting,
            sooner=_sooner(plan.experiment),
        )
        if not training.complete:
            return None
        if leads():
            _conclude(plan, training, begun, progress=sitting.progress)
    wait()
    return load_run(plan.folder)


def _length(plan: Plan) -> str:
    """What is trained, on how many images, how long."""
    config, sets = plan.experiment.training, plan.sets.of(plan.method)
    parts = [sets[name] for name in plan.method.passes]
    steps = sum(len(part) // (config.batch_for(part) * config.accumulate) for part in parts)
    epochs = config.lasting(steps).epochs
    return (
        f"{plan.experiment.name} on {len(plan.sets.train):,} images of {plan.experiment.images}: "
        f"{epochs} epochs, {epochs * steps:,} steps"
    )


def _sooner(experiment: Experiment) -> str:
    """What to do instead of a training of hours."""
    small = f"photos/{experiment.method}"
    folder = own_path(experiment.images)[0] == "folder" and not network_of(experiment.images)[1]
    ways = ["mixem sort, by a pretrained network, is sooner and mostly better"] if folder else []
    if small in EXPERIMENTS and experiment.name != small:
        ways.append(f"{small} is a small recipe for such a device")
    other = "; ".join(ways) or "fewer epochs or a smaller network take less"
    return f"{other}; python -m mixem profile says where the time goes"


def _minutes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (minutes := float(text)) < math.inf:
            return minutes
    raise InputError(f"MIXEM_MOST_MINUTES is {text!r}; give a number of minutes from 0 on")


def _conclude(plan: Plan, training: Training, origin: Run | None, *, progress: bool) -> None:
    """Score the trained method and write down what came out."""
    method, sets, folder = plan.method, plan.sets, plan.folder
    method.finish(sets.train.images, seeded(plan.seed, "finish", 0, training.device))

    def scored(method: Method, *, main_only: bool = False) -> Evaluation:
        return evaluate(
            method,
            sets.test,
            protocol=plan.experiment.protocol,
            fit_images=sets.fit_apart,
            main_only=main_only,
        )

    epochs = sorted(e for e in plan.experiment.training.snapshots if e <= len(training.history))
    curve = []
    with bar(1 + len(epochs), "scoring", "states", show=progress) as shown:
        found = scored(method)
        shown.update()
        for epoch in epochs if found.metrics else ():
            try:
                earlier = _earlier(method, folder, epoch)
            except InputError as error:  # all else of the run is whole
                cause = error.__cause__
                if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                    raise  # it may be read the next time, and a record is for ever
                warnings.warn(f"{error}; the curve lacks epoch {epoch}", stacklevel=2)
            else:
                scores = scored(earlier, main_only=True).metrics
                curve.append(CurvePoint(epoch, scores or {}))
            shown.update()
    save_weights(folder / "model.safetensors", method.to("cpu"))
    record = _record(plan, training, origin, found, tuple(curve))
    record = dataclasses.replace(record, weights=_digest(folder / "model.safetensors"))
    # Once more and whole: another process may have trained here and logged the same epochs.
    write_log(folder, training.history)
    for leftover in folder.glob(f".*{UNFINISHED}"):  # of a process killed while it wrote
        leftover.unlink(missing_ok=True)
    if not (folder / "config.json").exists():  # somebody deleted the folder under the training
        write_json(folder / "config.json", plan.identity())
    write_record(folder / "record.json", record)
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def _digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _earlier(method: Method, folder: Path, epoch: int) -> Method:
    """A copy of a trained method with the weights of a snapshot and the choices of the end."""
    earlier = copy.deepcopy(method)
    load_weights(folder / f"epoch-{epoch}.safetensors", earlier)
    earlier.settle(method)
    return earlier


def load_run(folder: str | Path) -> Run:
    """A finished run from its folder.

    Raises:
        InputError: If the folder is missing, unfinished or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give the --out of a finished run")
    config = read_json(folder / "config.json", ANEW)
    if not (folder / "record.json").exists():
        raise InputError(f"the run in {folder} is not finished; give its training command again")
    record = read_record(folder / "record.json")
    try:
        experiment = Experiment.from_dict(config["experiment"])
        method = build(experiment, channels=record.data.shape[0], seed=0)
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        history = [from_json(Epoch, json.loads(line)) for line in lines]
    except InputError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"the run in {folder} has no log.jsonl; {ANEW}") from error
        raise not_now(folder / "log.jsonl", error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = repr(error)[:200]
        raise InputError(f"the run in {folder} is damaged ({why}); {ANEW}") from error
    load_weights(weights := folder / "model.safetensors", method)
    if record.weights and _digest(weights) != record.weights:
        raise InputError(f"{weights} has changed since it was trained; {ANEW}")
    return Run(folder, method, experiment, record, history)


def default_folder(
    experiment: Experiment, seed: int, images: ImageSet, start: Path | None = None
) -> Path:
    """``runs/NAME-seedN-KEY``; the key is made of everything the result depends on."""
    parts = [experiment.to_dict(), images.fingerprint, source_fingerprint()]
    if start:
        parts.append(str(start.resolve()))
    elif experiment.start:
        parts.append(start_of(experiment).to_dict())
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]
    name = experiment.name.replace("/", "-")
    return runs_root() / f"{name}-seed{seed}-{key}"


def runs_root() -> Path:
    """The folder of runs that are given none: ``$MIXEM_RUNS`` or ``runs``."""
    return Path(os.environ.get("MIXEM_RUNS") or "runs")


@contextmanager
def _claimed(folder: Path, identity: dict[str, Any]) -> Iterator[None]:
    """The folder is this run's own, and this process's if it is to be trained.

    It is given back if the run ends by an error before its first checkpoint.
    """
    file = folder / "config.json"
    finished = (folder / "record.json").exists() and file.exists()
    with locked(folder) if leads() and not finished else contextlib.nullcontext():
        new = leads() and not file.exists()
        for name in ("record.json", "checkpoint.pt", "model.safetensors"):
            if new and (folder / name).exists():  # of whichever run
                raise InputError(
                    f"{folder} holds {name} and no config.json, so that nobody knows of which run "
                    "it is; choose another --out or delete the folder"
                )
        if new:
            write_json(file, identity)
        wait()
        _require_same(folder, read_json(file, ANEW), identity)
        try:
            yield
        except Exception:  # refused, or ended before there was anything to keep
            if new and not (folder / "checkpoint.pt").exists() and not (folder / "start").exists():
                for name in ("config.json", "log.jsonl"):
                    (folder / name).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # something of the user's is in it
                    folder.rmdir()
            raise


def _require_same(folder: Path, found: Any, identity: dict[str, Any]) -> None:
    with contextlib.suppress(InputError, KeyError, TypeError, AttributeError):
        # Settings that an earlier version did not know had their defaults.
        found = found | {"experiment": Experiment.from_dict(found["experiment"]).to_dict()}
    if found != identity:
        ours, theirs = _flat(identity), _flat(found if isinstance(found, dict) else {})
        name = next(k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k))
        raise InputError(
            f"{folder} holds another run: {name.removeprefix('experiment.')} is "
            f"{theirs.get(name)!r} there and {ours.get(name)!r} here; choose another --out or "
            "delete the folder"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by path."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {
            prefix + name: value
        }  # fmt: skip
    return found


def changes_of(experiment: Experiment) -> dict[str, Any]:
    """What a record of an experiment says was changed, by path, as JSON has it."""
    values = _public(experiment)
    plain = _public(EXPERIMENTS.get(experiment.name, experiment))
    changed = {path: v for path, v in values.items() if v != plain.get(path, values)}
    return json.loads(json.dumps(changed))


def _public(experiment: Experiment) -> dict[str, Any]:
    """Settings by path; a folder's place is nobody else's business."""
    values = experiment.values()
    name, network = network_of(values["images"])
    kind, path = own_path(name)
    if kind:
        at = f"@{network}" if network else ""
        values["images"] = f"{kind}:{Path(path).name}{at}"
    return values


def _record(
    plan: Plan,
    training: Training,
    origin: Run | None,
    found: Evaluation,
    curve: tuple[CurvePoint, ...],
) -> Record:
    experiment, sets = plan.experiment, plan.sets
    values = _public(experiment)
    stride = max(1, -(-len(training.history) // HISTORY_POINTS))
    thinned = training.history[::-1][::stride][::-1]  # the last epoch is always there
    warm = origin and (not experiment.start or type(origin.method) is type(plan.method))
    begun_from = {"start": origin.record.experiment} if origin and warm else {}
    return Record(
        experiment=experiment.name,
        overrides=changes_of(experiment) | begun_from,
        seed=plan.seed,
        data=Data(
            name=values["images"],
            train_split=sets.train.split,
            train_images=len(sets.train),
            train_fingerprint=sets.train.fingerprint,
            test_split=sets.test.split,
            test_images=len(sets.test),
            test_fingerprint=sets.test.fingerprint,
            shape=tuple(sets.train.images.shape[1:]),
            skipped_files=len(sets.train.skipped),
            class_names=sets.train.class_names if plan.method.mapping == "identity" else (),
            origin=dict(sets.train.origin),
        ),
        usage=found.usage,
        protocols=found.rows,
        counts=found.counts,
        curve=curve,
        epoch=training.history[-1].epoch if training.history else 0,
        minutes=round(training.seconds / 60, 3),
        images_per_second=round(training.images_per_second, 1),
        precision=training.precision,
        hardware=hardware(training.device, training.processes),
        threads=training.threads,
        processes=training.processes,
        compiled=training.compiled,
        peak_memory=training.peak_memory,
        start=_start(origin.record) if origin else None,
        settings=json.loads(json.dumps(values)),
        history=tuple(dataclasses.replace(row, seconds=None) for row in thinned),
        versions=versions(),
        source=source_fingerprint(),
    )


def _start(record: Record) -> Start:
    earlier = record.start.minutes if record.start else 0.0
    return Start(record.experiment, record.seed, record.metrics, record.minutes + earlier)
