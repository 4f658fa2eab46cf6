"""What the papers report, as data, each number with its source.

One JSON file per paper. Nothing is in them that was not seen in a public source: the paper, its
abstract page, the authors' repository, or another paper's table (then the caption says so).

    >>> from mixem.papers import load_paper, value
    >>> value("mixem", "mixem", "stl10/accuracy").mean
    78.0
    >>> load_paper("mixem").year
    2020

A learning curve is a table too: its rows are epochs.

    >>> epochs, accuracy = curve("iic", "curve-mnist", "mnist/best-sub-head")
    >>> epochs[:3], accuracy[:3]
    ((0, 1, 2), (0.2228, 0.8561, 0.8992))
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from itertools import pairwise
from typing import Any

from mixem.errors import InputError
from mixem.linked import Linked

PAPERS = ("iic", "mixem", "imc_swav")
UNITS = ("percent", "fraction", "nats", "epochs")
OPTIONAL_TEXTS = {"source", "note"}


@dataclass(frozen=True)
class Value:
    """One reported number.

    Attributes:
        mean: The number, in the unit of its table. A mean if there were several runs.
        source: Where it was seen.
        std: Standard deviation in the same unit, None if not reported.
        n: How many results the mean and the standard deviation are taken over, None if not
            reported. The note of the row says if these are not independent runs.
        place: Of its table, in the repository.
    """

    mean: float
    source: str
    std: float | None = None
    n: int | None = None
    place: str = field(default="", compare=False)

    def text(self, decimals: int = 1) -> Linked:
        """With its spread, if there is one; in a table it leads to its source."""
        spread = "" if self.std is None else f" ± {self.std:.{decimals}f}"
        return self.linked(f"{self.mean:.{decimals}f}{spread}")

    def linked(self, text: str) -> Linked:
        """A text that leads to the source of the number in a table."""
        return Linked(text, self.place)


@dataclass(frozen=True)
class Row:
    """A method, or a setting of it. ``values`` maps columns to numbers; a gap was not reported."""

    key: str
    label: str
    values: Mapping[str, Value]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of numbers in one unit. Columns are called data set / metric, as ``stl10/accuracy``."""

    key: str
    caption: str
    unit: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""

    def column(self, name: str) -> dict[str, Value]:
        """The numbers of one column by the key of their row, in the table's order, without gaps.

        Raises:
            InputError: If there is no such column.
        """
        if name not in self.columns:
            raise InputError(
                f"table {self.key} has no column {name!r}: choose among {', '.join(self.columns)}"
            )
        return {row.key: row.values[name] for row in self.rows if name in row.values}


@dataclass(frozen=True)
class Paper:
    """A paper and its tables.

    Attributes:
        key: One of ``PAPERS``.
        title: As printed.
        authors: Full names, in order.
        year: The year it is cited by.
        venue: Where it was published.
        arxiv: Number of the preprint.
        code: Address of the authors' repository.
        tables: The numbers.
        notes: How the authors measured, as far as it is known, and what was not available.
        doi: Of the published version, "" if none is known.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    arxiv: str
    code: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    doi: str = ""


def load_paper(key: str) -> Paper:
    """Reads one paper's file.

    Args:
        key: One of ``PAPERS``.

    Raises:
        InputError: If there is no such paper.
    """
    if key not in PAPERS:
        raise InputError(f"there is no paper {key!r}: choose {', '.join(PAPERS)}")
    text = resources.files(__name__).joinpath(f"{key}.json").read_text(encoding="utf-8")
    return parse_paper(key, json.loads(text))


def value(paper: str, row: str, column: str) -> Value:
    """Looks one number up, whatever table it stands in.

    Args:
        paper: One of ``PAPERS``.
        row: Key of a row, such as "mixem".
        column: Data set and metric, such as "stl10/accuracy".

    Raises:
        InputError: If the paper reports no such number.
    """
    rows = [r for table in load_paper(paper).tables for r in table.rows]
    found = [r.values[column] for r in rows if r.key == row and column in r.values]
    if not found:
        columns = [c for r in rows if r.key == row for c in r.values]
        keys = dict.fromkeys(r.key for r in rows if not r.key.isdigit())  # without the epochs
        known = f"columns {', '.join(columns)}" if columns else f"rows {', '.join(keys)}"
        raise InputError(f"paper {paper} has no number {row!r}, {column!r}: choose among {known}")
    return found[0]


def table(paper: str, key: str) -> Table:
    """Looks one table up.

    Args:
        paper: One of ``PAPERS``.
        key: Of the table, such as "table-1".

    Raises:
        InputError: If there is no such paper or table.
    """
    tables = {t.key: t for t in load_paper(paper).tables}
    if key not in tables:
        raise InputError(f"paper {paper} has no table {key!r}: choose among {', '.join(tables)}")
    return tables[key]


def curve(paper: str, key: str, column: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """One column of a table whose rows are epochs.

    Args:
        paper: One of ``PAPERS``.
        key: Of the table, such as "curve-mnist".
        column: Such as "mnist/best-sub-head".

    Returns:
        The epochs in the table's order and a number for each, in the unit of the table.

    Raises:
        InputError: If there is no such paper, table or column, or if the rows are not epochs.
    """
    found = table(paper, key)
    if not all(row.key.isdigit() for row in found.rows):
        raise InputError(f"the rows of table {key} are not epochs: read it with table()")
    numbers = found.column(column)
    return tuple(map(int, numbers)), tuple(number.mean for number in numbers.values())


def parse_paper(key: str, data: Mapping[str, Any]) -> Paper:
    """Turns the content of a file into a ``Paper``, strictly.

    In the file a row inherits the ``source`` of its table, and a value that of its row; a bare
    number is a value with nothing but a mean. Instead of columns and rows a table may have
    ``epochs``, and ``curves`` that give a number for each.

    Raises:
        ValueError: If a field is missing or unknown or of the wrong type, if a number has no
            source or is impossible, if a table, row, column or (row, column) occurs twice, or if
            epochs do not increase or a curve is not as long.
    """
    where = f"paper {key}"
    texts = {"title", "venue", "arxiv", "code"}
    _check(data, where, texts | {"authors", "year", "tables"}, {"notes", "doi"}, texts | {"doi"})
    for name in ("authors", "notes"):
        if not all(isinstance(text, str) and text.strip() for text in data.get(name, ())):
            raise ValueError(f"{where}: {name} holds something else than text")
    if type(data["year"]) is not int:
        raise ValueError(f"{where}: year is {data['year']!r}, not a whole number")
    tables = tuple(_table(table, key) for table in data["tables"])
    _unique([table.key for table in tables], f"{where}: table")
    _unique([(r.key, c) for t in tables for r in t.rows for c in r.values], f"{where}: value")
    lists = {name: tuple(data.get(name, ())) for name in ("authors", "notes")}
    return Paper(**{**data, **lists, "key": key, "tables": tables})


def _table(data: Mapping[str, Any], paper: str) -> Table:
    where = f"paper {paper}, table {data.get('key')}"
    place = f"mixem/papers/{paper}.json#{data.get('key')}"
    if "epochs" in data:
        data = _rows_of_epochs(data, where)
    texts = {"key", "caption", "unit"}
    _check(data, where, texts | {"columns", "rows"}, OPTIONAL_TEXTS, texts | OPTIONAL_TEXTS)
    if data["unit"] not in UNITS:
        raise ValueError(f"{where}: unit {data['unit']!r} is none of {', '.join(UNITS)}")
    columns = tuple(data["columns"])
    _unique(columns, f"{where}: column")
    rows = tuple(
        _row(row, columns, data["unit"], data.get("source"), place, where) for row in data["rows"]
    )
    return Table(data["key"], data["caption"], data["unit"], columns, rows, data.get("note", ""))


def _rows_of_epochs(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Turns curves into rows, which would fill four times the space in the file."""
    rest = dict(data)
    epochs, curves = rest.pop("epochs"), rest.pop("curves", {})
    if unknown := sorted({"columns", "rows"} & set(rest)):
        raise ValueError(f"{where}: unknown {unknown} beside epochs")
    if not all(type(epoch) is int and epoch >= 0 for epoch in epochs):
        raise ValueError(f"{where}: an epoch is no whole number")
    if any(after <= before for before, after in pairwise(epochs)):
        raise ValueError(f"{where}: the epochs do not increase")
    for column, numbers in curves.items():
        if len(numbers) != len(epochs):
            raise ValueError(f"{where}, {column}: {len(numbers)} numbers, {len(epochs)} epochs")
    rows = [
        {"key": f"{epoch}", "label": f"Epoch {epoch}", "values": dict(zip(curves, at, strict=True))}
        for epoch, *at in zip(epochs, *curves.values(), strict=True)
    ]
    return {**rest, "columns": list(curves), "rows": rows}


def _row(
    data: Mapping[str, Any],
    columns: tuple[str, ...],
    unit: str,
    source: str | None,
    place: str,
    where: str,
) -> Row:
    where = f"{where}, row {data.get('key')}"
    texts = {"key", "label"}
    _check(data, where, texts | {"values"}, OPTIONAL_TEXTS, texts | OPTIONAL_TEXTS)
    if not data["values"]:
        raise ValueError(f"{where}: no values")
    if unknown := sorted(set(data["values"]) - set(columns)):
        raise ValueError(f"{where}: the table has no column {', '.join(unknown)}")
    source = data.get("source", source)
    values = {c: _value(v, unit, source, place, f"{where}, {c}") for c, v in data["values"].items()}
    return Row(data["key"], data["label"], values, data.get("note", ""))


def _value(number: Any, unit: str, source: str | None, place: str, where: str) -> Value:
    data = dict(number) if isinstance(number, Mapping) else {"mean": number}
    if source is not None:
        data.setdefault("source", source)
    _check(data, where, {"mean", "source"}, {"std", "n"}, {"source"})
    mean, std, n = data["mean"], data.get("std"), data.get("n")
    ranges = {"percent": (0, 100), "fraction": (0, 1), "epochs": (0, math.inf)}
    low, high = ranges.get(unit, (-math.inf, math.inf))
    if not (_is_number(mean) and low <= mean <= high):
        raise ValueError(f"{where}: {mean!r} is no number in {unit}")
    if std is not None and not (_is_number(std) and std >= 0):
        raise ValueError(f"{where}: {std!r} is no standard deviation")
    if n is not None and not (type(n) is int and n >= 1):
        raise ValueError(f"{where}: {n!r} is no number of results")
    return Value(float(mean), data["source"], None if std is None else float(std), n, place)


def _check(
    data: Mapping[str, Any], where: str, required: set[str], optional: set[str], texts: set[str]
) -> None:
    """Holds the names in ``data``, and the texts among them, to what is expected."""
    missing, unknown = sorted(required - set(data)), sorted(set(data) - required - optional)
    if missing or unknown:
        raise ValueError(f"{where}: missing {missing}, unknown {unknown}")
    for name in sorted(texts & set(data)):
        if not (isinstance(data[name], str) and data[name].strip()):
            raise ValueError(f"{where}: {name} is {data[name]!r}, not a text")


def _is_number(x: Any) -> bool:
    return type(x) in (int, float) and math.isfinite(x)


def _unique(names: Iterable[Any], where: str) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{where} {twice[0]} occurs twice")
