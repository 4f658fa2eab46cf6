"""What a record is: its types, and the one place that reads, writes, checks and upgrades it.

A finished run leaves its record in ``record.json``; the book's lie in ``results/``.
"""

import ast
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixem.checkpoint import read_json, write_json
from mixem.errors import InputError
from mixem.schema import from_json, to_json

__all__ = [
    "FORMAT",
    "METRICS",
    "PIXEL_METRICS",
    "CurvePoint",
    "Data",
    "Epoch",
    "Record",
    "Row",
    "Start",
    "Usage",
    "read_record",
    "save_record",
    "shortened",
    "write_record",
]

ROUNDING = 1e-6  # of a score above 1
# Of images: whoever believed in more would fill his memory.
LARGEST_SIDE, MOST_CHANNELS, LONGEST = 16_384, 4, 10**6
FORMAT = 2
METRICS = ("accuracy", "nmi", "ari")
PIXEL_METRICS = ("accuracy", "mean_iou", "majority_accuracy")  # of a method that sorts pixels
Scores = dict[str, float]
# What a shortened schedule changes together.
SCALED = {
    f"training.{name}"
    for name in ("scaled_from", "epochs", "constant_epochs", "warmup_steps", "snapshots")
}


@dataclass(frozen=True)
class Row:
    """Scores of one way of sorting the images or their pixels.

    Attributes:
        kind: How the clusters were found, such as "argmax p" or "k-means"; see the method.
        scores: accuracy, nmi and ari as fractions; of pixels accuracy, mean_iou, with one-to-one
            mapping majority_accuracy, and "iou NAME" of each class. None without labels.
        mapping: How clusters got a class: "one-to-one", "majority" or "identity".
        switches: What tells the row from others of its kind, such as ``{"normalise": True}``.
    """

    kind: str
    scores: Scores | None
    mapping: str = "one-to-one"
    switches: dict[str, Any] = field(default_factory=dict)

    def fits(self, **wanted: Any) -> bool:
        """Whether kind, mapping and switches are those."""
        own = {"kind": self.kind, "mapping": self.mapping, **self.switches}
        return all(name in own and own[name] == value for name, value in wanted.items())

    def label(self) -> str:
        """Kind and switches in words, but for those of k-means."""
        s = self.switches
        number = s.get(self.kind.replace("-", "_"))  # of a sub-head among others
        text = self.kind + ("" if number is None else f" {number}, loss {s['loss']:.3f}")
        text += f" {s['share']:.0%}" if "share" in s else ""
        return text + (f", batch norm of {s['batch_norm']}" if "batch_norm" in s else "")


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training gave: means over its steps.

    Attributes:
        epoch: From 1.
        step: Steps done by its end.
        learning_rate: Of its last step.
        loss: Sum of the terms.
        terms: The weighted loss terms.
        usage: Share of the images in each cluster or component; of sub-heads, a list each.
        used: How many clusters hold an image.
        usage_entropy: Entropy of the shares in nats.
        confidence: Mean largest probability.
        details: Further numbers of the method, such as the losses of its sub-heads.
        seconds: Of training so far; left out in a record.
    """

    epoch: int
    step: int
    learning_rate: float
    loss: float
    terms: dict[str, float]
    usage: list[Any] | None = None
    used: int | list[int] | None = None
    usage_entropy: float | list[float] | None = None
    confidence: float | list[float] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Data:
    """The images of a run, or their features.

    Attributes:
        name: What :func:`mixem.data.load_images` calls them; of a folder, its last name alone.
        train_split: Trained on.
        train_images: How many.
        train_fingerprint: SHA-256 of their shape and pixels.
        test_split: Scored.
        test_images: How many.
        test_fingerprint: SHA-256 of their shape and pixels.
        shape: Channels, height, width; of features their length.
        skipped_files: Files of a folder that could not be read.
        class_names: Of a classifier's classes, in their order; () for methods without labels.
        origin: Of features: the network, the digest of its weights, where they are from, what they
            have seen, their licence, the fingerprint of the pictures, how these were prepared, and
            the minutes that it took.
    """

    name: str
    train_split: str
    train_images: int
    train_fingerprint: str
    test_split: str
    test_images: int
    test_fingerprint: str
    shape: tuple[int, ...]
    skipped_files: int = 0
    class_names: tuple[str, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """How evenly the scored images, or their pixels, lie in the clusters.

    Attributes:
        used: Clusters that hold one.
        entropy: Of their sizes, in nats.
    """

    used: int
    entropy: float


@dataclass(frozen=True)
class CurvePoint:
    """Scores after an epoch of ``training.snapshots``, by the main protocol.

    Attributes:
        epoch: 0 for the start.
        scores: As those of a :class:`Row`.
    """

    epoch: int
    scores: Scores


@dataclass(frozen=True)
class Start:
    """The run that a run began from.

    Attributes:
        experiment: Its name.
        seed: Its seed.
        metrics: Its scores.
        minutes: Its training time, and that of the run it began from itself.
    """

    experiment: str
    seed: int
    metrics: Scores | None
    minutes: float


@dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        experiment: Name of the experiment.
        overrides: Settings that were changed for this run, by path.
        seed: Of the weights, the order of the images and the views.
        data: What it was trained and scored on.
        usage: How the scored images fill the clusters.
        protocols: Scores under every protocol; the first row is the main one.
        epoch: The last one, which is the one scored.
        minutes: Of training, over all sittings; without the start's.
        images_per_second: Of training.
        precision: "float32", "bfloat16" or "float16".
        hardware: What it ran on.
        settings: Every setting, by path.
        history: At most 60 epochs, the last one among them.
        versions: Of Python, PyTorch and others, and of mixem.
        source: SHA-256 of the code that the result depends on.
        counts: Scored images by class and cluster, for one-to-one mapping; or their pixels.
        curve: Scores after some epochs.
        start: The run it began from.
        threads: Of a CPU.
        processes: That shared the training.
        compiled: Whether the backbone was compiled; None if not known.
        peak_memory: Bytes, the most that was allocated on a GPU; None on a CPU, or not known.
        weights: SHA-256 of ``model.safetensors``; "" if not known.
        format: Of the file; older ones are upgraded when they are read.
    """

    experiment: str
    overrides: dict[str, Any]
    seed: int
    data: Data
    usage: Usage
    protocols: tuple[Row, ...]
    epoch: int
    minutes: float
    images_per_second: float
    precision: str
    hardware: str
    settings: dict[str, Any]
    history: tuple[Epoch, ...]
    versions: dict[str, str]
    source: str
    counts: list[list[int]] | None = None
    curve: tuple[CurvePoint, ...] = ()
    start: Start | None = None
    threads: int | None = None
    processes: int = 1
    compiled: bool | None = None
    peak_memory: int | None = None
    weights: str = ""
    format: int = FORMAT

    @property
    def metrics(self) -> Scores | None:
        """Scores under the main protocol."""
        return self.protocols[0].scores

    @property
    def scaled(self) -> str:
        """Of a shortened training its length in words, "" of a whole one."""
        whole = self.overrides.get("training.scaled_from")
        if not whole:
            return ""
        constant = self.overrides.get("training.constant_epochs") == self.epoch
        return shortened(self.epoch, whole, constant=constant)

    @property
    def variant(self) -> str:
        """The changed settings in words, "" if there are none.

        A setting goes by the last part of its path, or by all of it where others end alike. A
        shortened schedule is one change: :attr:`scaled`.
        """
        ends = Counter(path.split(".")[-1] for path in self.settings)

        def named(path: str) -> str:
            end = path.split(".")[-1]
            return path if ends[end] > 1 else end

        left = {p: v for p, v in self.overrides.items() if not (self.scaled and p in SCALED)}
        settings = (f"{named(path)}={value}" for path, value in left.items())
        return ", ".join([*[self.scaled] * bool(self.scaled), *settings])

    @property
    def place(self) -> str:
        """Its folder below that of all records, NAME or NAME/VARIANT."""
        return "/".join(filter(None, (self.experiment.replace("/", "-"), _slug(self.variant))))

    @property
    def command(self) -> str:
        """The command that makes it, in the repository and with its images at hand."""
        changes = (f"{path}={_typed(value)}" for path, value in self.overrides.items())
        words = ["python", "-m", "mixem", "train", self.experiment]
        words += [word for change in changes for word in ("--set", change)]
        return shlex.join([*words, "--seed", str(self.seed), "--results", "results"])

    @property
    def kind(self) -> tuple[str, str, str]:
        """What runs that differ in nothing but their seed have in common."""
        own = self.data.name.startswith(("folder:", "pairs:"))  # two folders may have one name
        return self.experiment, self.variant, self.data.train_fingerprint if own else ""


def shortened(epochs: int, whole: int, *, constant: bool) -> str:
    """The length of a shortened training in words.

    >>> shortened(20, 200, constant=False), shortened(6, 463, constant=True)
    ('20 of 200 epochs, schedule scaled', '6 of 463 epochs at a constant rate')
    """
    return f"{epochs} of {whole} epochs{' at a constant rate' if constant else ', schedule scaled'}"


def read_record(path: Path) -> Record:
    """The record in a file, upgraded if it is of an older format.

    Raises:
        InputError: If the file is not a record, or of a newer format.
    """
    values = read_json(path)
    try:
        number = values.get("format") if isinstance(values, dict) else None
        if not isinstance(number, int) or not 1 <= number <= FORMAT:
            raise TypeError(f"its format is {number!r}, and 1 to {FORMAT} are read here")
        if number == 1:
            values = _from_format_1(values)
        record = from_json(Record, values)
        _require_possible(record.data.shape)
        for row in record.protocols:
            for name, score in (row.scores or {}).items():
                if not -1 - ROUNDING <= score <= 1 + ROUNDING:
                    raise TypeError(f"{name} is {score:g}, no score")
        return record
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a record ({error}); restore it or move it elsewhere"
        ) from error


def _require_possible(shape: tuple[int, ...]) -> None:
    """Raise TypeError if no images have this shape."""
    most = {1: (LONGEST,), 3: (MOST_CHANNELS, LARGEST_SIDE, LARGEST_SIDE)}.get(len(shape), ())
    if not most or not all(1 <= n <= top for n, top in zip(shape, most, strict=True)):
        raise TypeError(f"its images are {shape}")


def write_record(path: Path, record: Record) -> None:
    """Write a record to a file, atomically."""
    write_json(path, to_json(record))


def save_record(record: Record, folder: str | Path = "results") -> Path:
    """Write a record to its place, ``NAME/seed-N.json``, and return the place.

    A run with changed settings goes to ``NAME/VARIANT/seed-N.json``; if there is a run on other
    images of the same name, to a variant that names their fingerprint.
    """
    file = Path(folder, record.place, f"seed-{record.seed}.json")
    if file.exists():
        there = read_record(file).data.train_fingerprint
        if there != record.data.train_fingerprint:
            mark = f"-{record.data.train_fingerprint[:8]}"
            file = file.parent.with_name(file.parent.name + mark) / file.name
    write_record(file, record)
    return file


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "=._-" else "-" for c in text.replace(", ", "-"))


def _typed(value: Any) -> str:
    """A setting as it is typed behind ``--set``."""
    if not isinstance(value, str):
        return repr(value)
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return repr(value)  # a text that would be read as something else


# --- older formats --------------------------------------------------------------------------

_METHOD_OF = {
    "plain_views": "iic",
    "over_split": "iic",
    "mapping": "iic",
    "small_views": "imc-swav",
}
_RENAMED = {"protocol.starts": "protocol.n_init", "protocol.iterations": "protocol.max_iter"}
_EPOCH = (
    "epoch", "step", "learning_rate", "loss", "terms", "usage", "used", "usage_entropy",
    "confidence", "seconds",
)  # fmt: skip


def _from_format_1(old: Mapping[str, Any]) -> dict[str, Any]:
    """Format 1 had views and splits of single methods beside their settings, and flat rows."""
    method = old["settings"]["method"]

    def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for path, value in settings.items():
            group = path.split(".")[0]
            if group not in _METHOD_OF:
                found[_RENAMED.get(path, path)] = value
            elif _METHOD_OF[group] == method:
                found[f"settings.{path}"] = value
        return found

    mapping = "identity" if method == "finetune" else old["protocol"].get("mapping", "one-to-one")

    def row(values: Mapping[str, Any]) -> dict[str, Any]:
        switches = {k: v for k, v in values.items() if k not in ("kind", "mapping", "scores")}
        for name in ("starts", "iterations"):
            if name in switches:
                switches[{"starts": "n_init", "iterations": "max_iter"}[name]] = switches.pop(name)
        return {
            "kind": values["kind"],
            "scores": values["scores"],
            "mapping": values.get("mapping", mapping),
            "switches": switches,
        }

    def epoch(values: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: values[name] for name in _EPOCH if name in values}
        return known | {"details": {k: v for k, v in values.items() if k not in _EPOCH}}

    def point(values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "epoch": values["epoch"],
            "scores": {k: v for k, v in values.items() if k != "epoch"},
        }

    threads = re.search(r", (\d+) threads$", old["hardware"])
    processes = re.match(r"(\d+) processes: ", old["hardware"])
    new = {k: v for k, v in old.items() if k not in ("metrics", "protocol")}
    return new | {
        "format": FORMAT,
        "overrides": renamed(old["overrides"]),
        "settings": renamed(old["settings"]),
        "protocols": [row(values) for values in old["protocols"]],
        "history": [epoch(values) for values in old["history"]],
        "curve": [point(values) for values in old.get("curve", ())],
        "threads": int(threads[1]) if threads else None,
        "processes": int(processes[1]) if processes else 1,
    }
