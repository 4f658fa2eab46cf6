"""Made-up records for tests."""

from collections.abc import Sequence
from typing import Any

from mixem.records import Data, Epoch, Record, Row, Usage


def record(rows: Sequence[Row], **changes: Any) -> Record:
    """A record with these rows, of a training of one epoch."""
    values: dict[str, Any] = {
        "experiment": "digits/mixem",
        "overrides": {},
        "seed": 0,
        "data": Data("digits", "all", 9, "0123456789ab", "all", 9, "0123456789ab", (1, 8, 8)),
        "usage": Usage(10, 2.3),
        "protocols": tuple(rows),
        "epoch": 1,
        "minutes": 2.0,
        "images_per_second": 100.0,
        "precision": "float32",
        "hardware": "a CPU",
        "settings": {},
        "history": (Epoch(1, 3, 1e-3, 0.5, {"contrast": 0.5}),),
        "versions": {},
        "source": "",
    }
    return Record(**values | changes)
