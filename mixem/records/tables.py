"""Tables that put the records of our runs beside the papers' numbers."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mixem.errors import InputError
from mixem.linked import Linked, made_by
from mixem.papers import Value, value
from mixem.records.format import METRICS, PIXEL_METRICS, Record, Row, Scores, read_record

__all__ = [
    "NOT_RUN",
    "Summary",
    "Table",
    "comparison",
    "load_records",
    "longest_scaled",
    "paper_text",
    "paper_value",
    "records_of",
    "row_of",
    "score",
    "summarise",
]

NOT_RUN = "not run"


def load_records(folder: str | Path = "results", experiment: str | None = None) -> list[Record]:
    """All records below a folder, or those of one experiment, by experiment and seed.

    Raises:
        InputError: If the folder is missing or a file is not a record.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give one that holds records")
    records = [read_record(file) for file in sorted(folder.rglob("*.json"))]
    records.sort(key=lambda record: (*record.kind, record.seed))
    return [record for record in records if experiment in (None, record.experiment)]


def records_of(records: Sequence[Record], experiment: str, **changes: Any) -> list[Record]:
    """The records of an experiment as it is, or of one variant of it.

    A variant may need other batches or more epochs, so what it changes in ``training`` does not
    count. The experiment as it is has no change at all. A schedule that was shortened to fit a
    time is another thing: its records are not among them.

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

    own = (r for r in records if r.experiment == experiment and not r.scaled)
    return [r for r in own if fits(r.overrides)]


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
        place: Of the records, in the repository.
        command: That makes the first of them.
    """

    mean: float
    std: float | None
    n: int
    hardware: str
    minutes: float
    values: tuple[float, ...]
    place: str
    command: str

    def percent(self) -> Linked:
        """``94.1 ± 0.5``, or ``94.1`` for one seed; in a table it leads to the records."""
        spread = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return self.linked(f"{100 * self.mean:.1f}{spread}")

    def linked(self, text: str) -> Linked:
        """A text that leads to the records in a table."""
        return Linked(text, self.place, self.command)


def summarise(
    records: Sequence[Record], metric: str = "accuracy", **protocol: Any
) -> Summary | None:
    """Mean and spread of a metric over records of one experiment; None without records.

    Args:
        records: Of one experiment and one variant.
        metric: One of ``METRICS``, or of ``PIXEL_METRICS``.
        **protocol: Switches that name a row of ``protocols``, such as ``normalise=False``; the
            rest is as in the main protocol. ``kind="argmax p"`` is MIX'EM's components as such, or
            IIC's chosen sub-head; ``kind="mean of sub-heads"`` and the like are IIC's. IMC-SwAV
            has an "argmax p" for each of ``BATCH_NORM`` in ``mixem.methods.imc_swav``, by
            ``batch_norm``.

    Raises:
        InputError: If the records are of several experiments or have no such metric or protocol.
    """
    if metric not in (*METRICS, *PIXEL_METRICS):
        known = dict.fromkeys((*METRICS, *PIXEL_METRICS))
        raise InputError(f"no metric {metric!r}; give {', '.join(known)}")
    if len({record.kind for record in records}) > 1:
        raise InputError("the records are of several experiments; give those of one")
    scores = [score(record, **protocol) for record in records]
    values = tuple(row[metric] for row in scores if row is not None and metric in row)
    if not values:
        return None
    minutes = [r.minutes + (r.start.minutes if r.start else 0) for r in records]
    return Summary(
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        hardware="; ".join(sorted({record.hardware for record in records})),
        minutes=statistics.fmean(minutes),
        values=values,
        place=f"results/{records[0].place}",
        command=records[0].command,
    )


def score(record: Record, **protocol: Any) -> Scores | None:
    """The scores of a record under a protocol; see :func:`summarise`."""
    return row_of(record, **protocol).scores


def row_of(record: Record, **protocol: Any) -> Row:
    """The row of a record under a protocol; see :func:`summarise`."""
    if not protocol:
        return record.protocols[0]
    usual = {"kind": "k-means", **record.protocols[0].switches}
    wanted = protocol if "kind" in protocol else {**usual, **protocol}
    for row in record.protocols:
        if row.fits(**wanted):
            return row
    raise InputError(f"{record.experiment}: no protocol with {protocol}")


@dataclass(frozen=True)
class Table:
    """Rows of text that show themselves in a terminal, in Markdown and in a notebook.

    In the latter two a :class:`mixem.linked.Linked` cell is a link, and below the rows stand the
    commands that made what the links lead to.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """As plain text."""
        return tabulate(self.rows, self.columns, tablefmt="simple", disable_numparse=True)

    def markdown(self) -> str:
        """As a Markdown table; what cells hold is shown as it is, and no HTML."""
        cells = [
            [c.markdown() if isinstance(c, Linked) else _as_text(c) for c in row]
            for row in self.rows
        ]
        text = tabulate(cells, self.columns, tablefmt="github", disable_numparse=True)
        commands = made_by(cell for row in self.rows for cell in row)
        return f"{text}\n\n{commands}" if commands else text

    def _repr_markdown_(self) -> str:
        return self.markdown()


def _as_text(cell: str) -> str:
    """A cell without HTML, a second cell, or a second row in it."""
    return " ".join(cell.split("\n")).replace("<", "&lt;").replace("|", "\\|")


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
    **{  # how these were made is not said
        f"mnist/{baseline}": ("iic", key)
        for baseline, key in (
            ("kmeans", "k-means"),
            ("spectral", "spectral-clustering"),
            ("auto-encoder", "ae"),
        )
    },
    "stl10/iic-main-twice": ("iic", "iic-log-loss"),  # the author's other run, 570
    "stl10/iic-finetune": ("iic", "iic-finetune"),
    **{  # table 4 has the best epoch, chosen with labels
        f"{images}/iic-segmentation": ("iic", "best-epoch")
        for images in ("coco-stuff-3", "coco-stuff", "potsdam-3", "potsdam")
    },
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
    elif experiment.endswith("/iic-segmentation"):
        column = column.replace("/", "/pixel-")
    elif experiment == "stl10/iic-main-twice":
        column = column.replace("/", "-570/")
    try:
        return value(*PAPER_VALUES[experiment], column)
    except InputError:
        return None


def comparison(
    experiments: Sequence[str], records: Sequence[Record], metric: str = "accuracy"
) -> Table:
    """The papers' numbers beside ours, in percent, a row an experiment.

    Only runs without changed settings count; an experiment without a record is "not run". Where
    there are none but of a schedule that was shortened, the longest stand there and say so.
    """
    rows = []
    for name in experiments:
        whole = [r for r in records if r.experiment == name and not r.overrides]
        ours, words = summarise(whole, metric), ""
        if ours is None and (longest := longest_scaled(records, name)):
            ours, words = summarise(longest, metric), f" ({longest[0].scaled})"
        rows.append(
            (
                name,
                paper_text(name, metric),
                *(
                    (NOT_RUN, "–", "–", "–")
                    if ours is None
                    else (
                        ours.linked(ours.percent() + words),
                        str(ours.n),
                        ours.linked(f"{ours.minutes:.1f}"),
                        ours.hardware,
                    )
                ),
            )
        )
    columns = ("experiment", "paper", "ours", "n", "minutes a seed", "hardware")
    return Table(columns, tuple(rows))


def longest_scaled(records: Sequence[Record], experiment: str) -> list[Record]:
    """Of an experiment with nothing but its schedule shortened, the records of the longest one."""
    short = [r for r in records if r.experiment == experiment and r.scaled == r.variant != ""]
    return [r for r in short if r.epoch == max(r.epoch for r in short)]


def paper_text(experiment: str, metric: str = "accuracy") -> str:
    """What the paper reports for an experiment, in percent; "–" if it reports nothing.

    With the decimals of the source: MIX'EM's abstract has none, the tables of the others one.
    """
    paper = paper_value(experiment, metric)
    if paper is None:
        return "–"
    return paper.text(0 if PAPER_VALUES[experiment][0] == "mixem" else 1)
