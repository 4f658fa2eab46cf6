"""Does today's code still give what a record says? The first epoch is trained again."""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mixem.errors import InputError
from mixem.experiments import Experiment, get
from mixem.experiments.build import Sets, build, load_sets, loader, start_of
from mixem.fingerprint import hardware
from mixem.methods import Method
from mixem.records import Record, read_record
from mixem.training import Sitting, train
from mixem.training.step import seeded

__all__ = ["Verification", "verify", "verify_record"]


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` says of a record; printed, it is a line.

    Attributes:
        name: Of the record.
        holds: The loss terms of the first epoch are the same within the tolerance.
        difference: The largest difference of a term, relative to 1 + its size; None if it could
            not be found out.
        exact: The same bits.
        words: What was found.
    """

    name: str
    holds: bool
    difference: float | None
    exact: bool
    words: str

    def __str__(self) -> str:
        """A line."""
        return f"{'holds' if self.holds else 'FAILS'}  {self.name}: {self.words}"


def verify(
    places: Iterable[Path],
    *,
    tolerance: float = 0.02,
    root: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
) -> Iterator[Verification]:
    """Train the first epoch of records' experiments again, and compare the loss terms.

    Args:
        places: Files of records, or folders of them.
        tolerance: Largest difference of a term, relative to 1 + its size, that counts as the same.
            On the same kind of machine, with as many threads, the bits are the same.
        root: Folder of the data sets.
        download: Fetch a data set that is not there.
        device: Where to train.

    Yields:
        One verification a record, in the order of the files.

    Raises:
        InputError: If there is no such file, or it is not a record.
    """
    files: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise InputError(f"there is no {place}; give records, or a folder of them")
        files += sorted(place.rglob("*.json")) if place.is_dir() else [place]
    for file in files:
        record = read_record(file)
        try:
            yield verify_record(
                record, tolerance=tolerance, root=root, download=download, device=device
            )
        except (InputError, FloatingPointError) as error:
            yield Verification(_named(record), False, None, False, f"not trained: {error}")


def verify_record(
    record: Record,
    *,
    tolerance: float = 0.02,
    root: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
) -> Verification:
    """See :func:`verify`."""
    name = _named(record)
    if not record.history:
        return Verification(name, True, None, False, "nothing is trained in it")
    first = record.history[0]
    experiment = get(record.experiment).override(record.overrides)
    if changed := _changed(experiment, record):
        return Verification(name, False, None, False, f"other settings today: {changed}")
    sitting = Sitting(device=device, precision=record.precision, progress=False)
    until = dataclasses.replace(sitting, max_epochs=first.epoch)
    method, sets = _begun(experiment, record.seed, sitting, root, download)
    training = train(method, sets.of(method), experiment.training, seed=record.seed, sitting=until)
    found = training.history[-1]
    differences = {  # a term that one of them has not is infinitely far
        term: abs(found.terms.get(term, math.inf) - first.terms.get(term, -math.inf))
        / (1 + abs(first.terms.get(term, 0.0)))
        for term in {**first.terms, **found.terms}
    }
    term, difference = max(differences.items(), key=lambda item: item[1])
    exact = found.terms == first.terms
    here = hardware(training.device, training.processes)
    words = "the same bits"
    if not exact:
        now, then = (terms.get(term, math.nan) for terms in (found.terms, first.terms))
        words = f"{term} is {now:.6f} by epoch {first.epoch}, {then:.6f} in the record"
    words += "" if here == record.hardware else f", which is of {record.hardware}"
    return Verification(name, difference <= tolerance, difference, exact, words)


def _named(record: Record) -> str:
    variant = f" ({record.variant})" if record.variant else ""
    return f"{record.experiment}{variant}, seed {record.seed}"


def _changed(experiment: Experiment, record: Record) -> str:
    """Settings that today's experiment of that name has otherwise, in words."""
    now = json.loads(json.dumps(experiment.values()))
    return ", ".join(
        f"{path} was {value!r} and is {now[path]!r}"
        for path, value in record.settings.items()
        if path in now and now[path] != value
    )


def _begun(
    experiment: Experiment, seed: int, sitting: Sitting, root: str | Path | None, download: bool
) -> tuple[Method, Sets]:
    """A method before its first step, and its images."""
    sets = load_sets(experiment, loader(experiment, root=root, download=download))
    method = build(experiment, channels=sets.train.channels, seed=seed)
    if experiment.start:
        method.start_from(_trained(start_of(experiment), seed, sitting, root, download))
    return method, sets


@lru_cache(maxsize=1)  # the variants of an experiment begin from one run
def _trained(
    experiment: Experiment, seed: int, sitting: Sitting, root: str | Path | None, download: bool
) -> Method:
    """A run that another begins from, kept in memory."""
    method, sets = _begun(experiment, seed, sitting, root, download)
    training = train(method, sets.of(method), experiment.training, seed=seed, sitting=sitting)
    method.finish(sets.train.images, seeded(seed, "finish", 0, training.device))
    return method
