"""What came after the three papers: published numbers of other methods, each with its source.

The numbers stand in ``after.json``. They are no numbers of this book and were not made again.
Two things part them. Some networks *learned* from the data set alone, others stayed *frozen* and
had seen other pictures before. And some numbers are of images that the training had seen (without
their labels), others of a test split. Never rank numbers of two such groups together.

    >>> row = published("learned", splits="train, test")[0]
    >>> row.label, row.accuracy("cifar10"), row.reference
    ('SCAN, mean', '87.6', 'vangansbeke2020scan')
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

from mixem.errors import InputError
from mixem.linked import Linked

__all__ = ["FEATURES", "KINDS", "SPLITS", "Published", "parse_published", "published"]

FEATURES = ("learned", "frozen")
SPLITS = ("train, test", "train+test", "not known")
KINDS = ("own", "second-hand")
SETS = (
    *("cifar10", "cifar100-20", "cifar100", "stl10", "imagenet-10", "tiny-imagenet", "imagenet"),
    *("cifar10-uneven", "cifar100-uneven"),
)
SCORES = re.compile(r"(\d{1,2}(?:\.\d+)?|-)/(\d{1,2}(?:\.\d+)?|-)/(\d{1,2}(?:\.\d+)?|-)")


@dataclass(frozen=True)
class Published:
    """One method, or one setting of it, as somebody printed it.

    Attributes:
        key: Of the row.
        label: Name of the method, and which of its numbers these are.
        year: Of the publication.
        features: One of ``FEATURES``: learned from the data set alone, or frozen.
        network: The backbone, "" if it was not seen.
        trained_on: What the features were trained on.
        text: Whether text had a part in it, and where; "" if none.
        splits: One of ``SPLITS``: trained on and scored on.
        kind: One of ``KINDS``: from the method's own table or repository, or from another's.
        reference: Key in ``references.bib``.
        sources: Where the numbers were seen.
        values: Data set to accuracy, NMI and ARI in percent, as printed: ``"87.6/78.7/-"``.
        note: What else one has to know.
    """

    key: str
    label: str
    year: int
    features: str
    network: str
    trained_on: str
    text: str
    splits: str
    kind: str
    reference: str
    sources: tuple[str, ...]
    values: Mapping[str, str]
    note: str = ""

    def accuracy(self, data: str) -> str:
        """Accuracy in percent with the digits of its source, "–" if there is none.

        In a table a number leads to its source.
        """
        number = self.values.get(data, "-").split("/")[0]
        return "–" if number == "-" else Linked(number, f"mixem/papers/after.json#{self.key}")


def published(features: str, *, splits: str | None = None) -> tuple[Published, ...]:
    """The rows of one kind, in the order of the file, which is that of the years.

    Args:
        features: One of ``FEATURES``.
        splits: One of ``SPLITS``, None for all of them.

    Raises:
        InputError: If there is no such kind.
    """
    for given, known in ((features, FEATURES), (splits, (*SPLITS, None))):
        if given not in known:
            raise InputError(f"{given!r} is none of {', '.join(filter(None, known))}")
    rows = [row for row in _rows() if row.features == features]
    return tuple(row for row in rows if splits in (None, row.splits))


@cache
def _rows() -> tuple[Published, ...]:
    text = resources.files("mixem.papers").joinpath("after.json").read_text(encoding="utf-8")
    return parse_published(json.loads(text))


def parse_published(data: Mapping[str, Any]) -> tuple[Published, ...]:
    """Turns the content of the file into rows, strictly.

    In the file a row names its sources by letters, which stand at the top.

    Raises:
        ValueError: If a field is missing, unknown or impossible, if a source is not named or not
            used, if a key occurs twice, or if the years go back within a kind of features.
    """
    letters = data["sources"]
    known = {field.name for field in fields(Published)}
    rows, used = [], set()
    for entry in data["rows"]:
        where = f"row {entry.get('key')}"
        row = {"text": "", "note": ""} | entry
        if set(row) != known:
            raise ValueError(f"{where}: missing or unknown {sorted(set(row) ^ known)}")
        for name, among in (("features", FEATURES), ("splits", SPLITS), ("kind", KINDS)):
            if row[name] not in among:
                raise ValueError(f"{where}: {name} is {row[name]!r}")
        if type(row["year"]) is not int or not row["reference"]:
            raise ValueError(f"{where}: no year or no reference")
        if not row["sources"] or not set(row["sources"]) <= set(letters):
            raise ValueError(f"{where}: sources {row['sources']} are not named")
        if not row["values"] or not set(row["values"]) <= set(SETS):
            raise ValueError(f"{where}: no values, or of an unknown set")
        if wrong := [v for v in row["values"].values() if not SCORES.fullmatch(v)]:
            raise ValueError(f"{where}: {wrong[0]!r} is not accuracy/NMI/ARI")
        used |= set(row["sources"])
        rows.append(Published(**row | {"sources": tuple(letters[s] for s in row["sources"])}))
    if len({row.key for row in rows}) < len(rows) or used != set(letters):
        raise ValueError("a key occurs twice, or a source is not used")
    for kind in FEATURES:
        years = [row.year for row in rows if row.features == kind]
        if years != sorted(years):
            raise ValueError(f"the years of {kind} rows go back")
    return tuple(rows)
