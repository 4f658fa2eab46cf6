"""What the papers report, as data, each number with its source.

One JSON file per paper. Nothing is in them that was not seen in a public source: the paper, its
abstract page, the authors' repository, or another paper's table (then the caption says so).

    >>> from mixem.papers import load_paper, value
    >>> value("mixem", "mixem", "stl10/accuracy").mean
    78.0
    >>> load_paper("mixem").year
    2020

A learning curve is a table too: its rows are epochs.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mixem.errors import InputError

PAPERS = ("iic", "mixem", "imc_swav")
UNITS = ("percent", "fraction", "nats")
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
    """

    mean: float
    source: str
    std: float | None = None
    n: int | None = None


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
        known = (
            f"columns {', '.join(columns)}" if columns else f"rows {', '.join(r.key for r in rows)}"
        )
        raise InputError(f"paper {paper} has no number {row!r}, {column!r}: choose among {known}")
    return found[0]


def parse_paper(key: str, data: Mapping[str, Any]) -> Paper:
    """Turns the content of a file into a ``Paper``, strictly.

    In the file a row inherits the ``source`` of its table, and a value that of its row; a bare
    number is a value with nothing but a mean.

    Raises:
        ValueError: If a field is missing or unknown or of the wrong type, if a number has no
            source or is impossible, or if a table, row, column or (row, column) occurs twice.
    """
    where = f"paper {key}"
    texts = {"title", "venue", "arxiv", "code"}
    _check(data, where, texts | {"authors", "year", "tables"}, {"notes", "doi"}, texts | {"doi"})
    for name in ("authors", "notes"):
        if not all(isinstance(text, str) and text.strip() for text in data.get(name, ())):
            raise ValueError(f"{where}: {name} holds something else than text")
    if type(data["year"]) is not int:
        raise ValueError(f"{where}: year is {data['year']!r}, not a whole number")
    tables = tuple(_table(table, where) for table in data["tables"])
    _unique([table.key for table in tables], f"{where}: table")
    _unique([(r.key, c) for t in tables for r in t.rows for c in r.values], f"{where}: value")
    lists = {name: tuple(data.get(name, ())) for name in ("authors", "notes")}
    return Paper(**{**data, **lists, "key": key, "tables": tables})


def _table(data: Mapping[str, Any], where: str) -> Table:
    where = f"{where}, table {data.get('key')}"
    texts = {"key", "caption", "unit"}
    _check(data, where, texts | {"columns", "rows"}, OPTIONAL_TEXTS, texts | OPTIONAL_TEXTS)
    if data["unit"] not in UNITS:
        raise ValueError(f"{where}: unit {data['unit']!r} is none of {', '.join(UNITS)}")
    columns = tuple(data["columns"])
    _unique(columns, f"{where}: column")
    rows = tuple(
        _row(row, columns, data["unit"], data.get("source"), where) for row in data["rows"]
    )
    return Table(data["key"], data["caption"], data["unit"], columns, rows, data.get("note", ""))


def _row(
    data: Mapping[str, Any], columns: tuple[str, ...], unit: str, source: str | None, where: str
) -> Row:
    where = f"{where}, row {data.get('key')}"
    texts = {"key", "label"}
    _check(data, where, texts | {"values"}, OPTIONAL_TEXTS, texts | OPTIONAL_TEXTS)
    if not data["values"]:
        raise ValueError(f"{where}: no values")
    if unknown := sorted(set(data["values"]) - set(columns)):
        raise ValueError(f"{where}: the table has no column {', '.join(unknown)}")
    source = data.get("source", source)
    values = {c: _value(v, unit, source, f"{where}, {c}") for c, v in data["values"].items()}
    return Row(data["key"], data["label"], values, data.get("note", ""))


def _value(number: Any, unit: str, source: str | None, where: str) -> Value:
    data = dict(number) if isinstance(number, Mapping) else {"mean": number}
    if source is not None:
        data.setdefault("source", source)
    _check(data, where, {"mean", "source"}, {"std", "n"}, {"source"})
    mean, std, n = data["mean"], data.get("std"), data.get("n")
    low, high = {"percent": (0, 100), "fraction": (0, 1)}.get(unit, (-math.inf, math.inf))
    if not (_is_number(mean) and low <= mean <= high):
        raise ValueError(f"{where}: {mean!r} is no number in {unit}")
    if std is not None and not (_is_number(std) and std >= 0):
        raise ValueError(f"{where}: {std!r} is no standard deviation")
    if n is not None and not (type(n) is int and n >= 1):
        raise ValueError(f"{where}: {n!r} is no number of results")
    return Value(float(mean), data["source"], None if std is None else float(std), n)


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
