"""Records of finished runs, and tables that put them beside the papers' numbers.

A record is the ``record.json`` of a run. The book's are in ``results/NAME/seed-N.json``.
"""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mixem.checkpoint import read_json, write_json
from mixem.errors import InputError
from mixem.papers import Value, value

NOT_RUN = "not run"
METRICS = ("accuracy", "nmi", "ari")
NEEDED = {  # what is read here
    "experiment", "overrides", "seed", "metrics", "protocols", "protocol", "minutes", "hardware",
    "start",
}  # fmt: skip


def load_records(
    folder: str | Path = "results", experiment: str | None = None
) -> list[dict[str, Any]]:
    """All records below a folder, or those of one experiment, by experiment and seed.

    Raises:
        InputError: If the folder is missing or a file is not a record.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give one that holds records")
    records = []
    for file in sorted(folder.rglob("*.json")):
        record = read_json(file)
        if not isinstance(record, dict) or record.get("format") != 1 or NEEDED - set(record):
            raise InputError(f"{file} is not a record; move it out of {folder}")
        records.append(record)
    records.sort(key=lambda record: (record["experiment"], variant(record), record["seed"]))
    return [record for record in records if experiment in (None, record["experiment"])]


def records_of(
    records: Sequence[dict[str, Any]], experiment: str, **changes: Any
) -> list[dict[str, Any]]:
    """The records of an experiment as it is, or of one variant of it.

    A variant may need other batches or more epochs, so what it changes in ``training`` does not
    count. The experiment as it is has no change at all.

    Args:
        records: As :func:`load_records` gives.
        experiment: Its name.
        **changes: The settings that differ, by path with a double underscore for the dot, such as
            ``settings__repeats=1``.
    """

    def counted(values: dict[str, Any]) -> dict[str, Any]:
        return {path: v for path, v in values.items() if not path.startswith("training.")}

    # Through JSON, as a tuple is a list in a record.
    wanted = json.loads(json.dumps({k.replace("__", "."): v for k, v in changes.items()}))

    def fits(overrides: dict[str, Any]) -> bool:
        return bool(overrides) == bool(wanted) and counted(overrides) == counted(wanted)

    return [r for r in records if r["experiment"] == experiment and fits(r["overrides"])]


def save_record(record: dict[str, Any], folder: str | Path = "results") -> Path:
    """Write a record to its place, ``NAME/seed-N.json``, and return the place.

    A run with changed settings goes to ``NAME/VARIANT/seed-N.json``.
    """
    name = record["experiment"].replace("/", "-")
    file = Path(folder, name, _slug(variant(record)), f"seed-{record['seed']}.json")
    write_json(file, record)
    return file


def variant(record: dict[str, Any]) -> str:
    """The changed settings of a run in words, "" if there are none.

    A setting goes by the last part of its path, or by all of it where others end alike.
    """
    ends = Counter(path.split(".")[-1] for path in record.get("settings", ()))

    def named(path: str) -> str:
        end = path.split(".")[-1]
        return path if ends[end] > 1 else end

    return ", ".join(f"{named(path)}={value}" for path, value in record["overrides"].items())


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "=._-" else "-" for c in text.replace(", ", "-"))


@dataclass(frozen=True)
class Summary:
    """What several seeds of one experiment gave.

    Attributes:
        mean: A fraction.
        std: Standard deviation over the seeds with n - 1, None for one seed.
        n: Number of seeds.
        hardware: Of all of them.
        minutes: Mean training time of one seed, its start's included.
        values: One a seed.
    """

    mean: float
    std: float | None
    n: int
    hardware: str
    minutes: float
    values: tuple[float, ...]

    def percent(self) -> str:
        """``94.1 ± 0.5``, or ``94.1`` for one seed."""
        return f"{100 * self.mean:.1f}" + ("" if self.std is None else f" ± {100 * self.std:.1f}")


def summarise(
    records: Sequence[dict[str, Any]], metric: str = "accuracy", **protocol: Any
) -> Summary | None:
    """Mean and spread of a metric over records of one experiment; None without records.

    Args:
        records: Of one experiment and one variant.
        metric: "accuracy", "nmi" or "ari".
        **protocol: Switches that name a row of ``protocols``, such as ``normalise=False``; the
            rest is as in the main protocol. ``kind="argmax p"`` is MIX'EM's components as such, or
            IIC's chosen sub-head; ``kind="mean of sub-heads"`` and the like are IIC's. IMC-SwAV
            has an "argmax p" for each of :data:`mixem.evaluate.BATCH_NORM`, by ``batch_norm``.

    Raises:
        InputError: If the records are of several experiments or have no such metric or protocol.
    """
    if metric not in METRICS:
        raise InputError(f"no metric {metric!r}; give {', '.join(METRICS)}")
    if len({(record["experiment"], variant(record)) for record in records}) > 1:
        raise InputError("the records are of several experiments; give those of one")
    scores = [score(record, **protocol) for record in records]
    values = tuple(row[metric] for row in scores if row is not None)
    if not values:
        return None
    minutes = [r["minutes"] + (r["start"]["minutes"] if r["start"] else 0) for r in records]
    return Summary(
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        hardware="; ".join(sorted({record["hardware"] for record in records})),
        minutes=statistics.fmean(minutes),
        values=values,
    )


def score(record: dict[str, Any], **protocol: Any) -> dict[str, float] | None:
    """The scores of a record under a protocol; see :func:`summarise`."""
    if not protocol:
        return record["metrics"]
    wanted = (
        protocol if "kind" in protocol else {"kind": "k-means", **record["protocol"], **protocol}
    )
    for row in record["protocols"]:
        if all(row.get(name) == value for name, value in wanted.items()):
            return row["scores"]
    raise InputError(f"{record['experiment']}: no protocol with {protocol}")


@dataclass(frozen=True)
class Table:
    """Rows of text that show themselves in a terminal, in Markdown and in a notebook."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """As plain text."""
        return tabulate(self.rows, self.columns, tablefmt="simple", disable_numparse=True)

    def markdown(self) -> str:
        """As a Markdown table."""
        return tabulate(self.rows, self.columns, tablefmt="github", disable_numparse=True)

    def _repr_markdown_(self) -> str:
        return self.markdown()


# Which number of which paper an experiment reproduces.
PAPER_VALUES = {
    "stl10/simclr": ("mixem", "simclr"),
    "stl10/mixem": ("mixem", "mixem"),
    "cifar10/mixem": ("mixem", "mixem"),
    "cifar100-20/mixem": ("mixem", "mixem"),
    **{f"{images}/iic": ("iic", "iic") for images in ("mnist", "cifar10", "cifar100-20", "stl10")},
    **{
        f"stl10/iic-{ablation}": ("iic", ablation)
        for ablation in ("no-overclustering", "one-sub-head", "no-repeats", "no-unlabelled")
    },
    "stl10/iic-finetune": ("iic", "iic-finetune"),
    **{
        f"{images}/imc-swav": ("imc_swav", "imc-swav")
        for images in ("cifar10", "cifar100-20", "cifar100", "stl10", "tiny-imagenet")
    },
}


def paper_value(experiment: str, metric: str = "accuracy") -> Value | None:
    """What the paper reports for an experiment, in percent; None if it reports nothing."""
    if experiment not in PAPER_VALUES:
        return None
    column = f"{experiment.split('/')[0]}/{metric}"
    if experiment == "stl10/iic-finetune":
        column = column.replace("/", "/classification-")
    try:
        return value(*PAPER_VALUES[experiment], column)
    except InputError:
        return None


def comparison(
    experiments: Sequence[str], records: Sequence[dict[str, Any]], metric: str = "accuracy"
) -> Table:
    """The papers' numbers beside ours, in percent, a row an experiment.

    Only runs without changed settings count; an experiment without a record is "not run".
    """
    rows = []
    for name in experiments:
        paper = paper_value(name, metric)
        ours = summarise(
            [r for r in records if r["experiment"] == name and not r["overrides"]], metric
        )
        rows.append(
            (
                name,
                "–" if paper is None else _paper_text(paper),
                *(
                    (NOT_RUN, "–", "–", "–")
                    if ours is None
                    else (ours.percent(), str(ours.n), f"{ours.minutes:.1f}", ours.hardware)
                ),
            )
        )
    columns = ("experiment", "paper", "ours", "n", "minutes a seed", "hardware")
    return Table(columns, tuple(rows))


def _paper_text(paper: Value) -> str:
    return f"{paper.mean:.3g}" + ("" if paper.std is None else f" ± {paper.std:.3g}")
