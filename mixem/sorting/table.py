"""A table of a sorting: which picture is in which cluster, how surely, and what it is nearest to.

A probability does not order pictures: networks are so sure that most of them print as 1.000000.
Distances do, and so do logarithms of probabilities, computed without rounding to 1 first.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from mixem.checkpoint import write_atomically
from mixem.clustering import normalise_rows
from mixem.clustering.arrays import as_features, as_integers
from mixem.errors import InputError

__all__ = ["ClusterTable", "table", "write_table"]

BLOCK = 4096  # rows of features that are float64 at a time
# What a spreadsheet takes for the start of a formula, or strips before it looks for one.
RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True, eq=False)
class ClusterTable:
    """Pictures and their clusters, in the order of the files.

    Attributes:
        files: Path of each picture below its folder, with "/".
        clusters: int64 ``(N,)``.
        second: int64 ``(N,)``, the nearest of the other clusters; -1 if there is none.
        margin: ``(N,)`` distance to the second cluster minus that to the own: 0 on the border,
            below 0 if the picture was put into a cluster that is not its nearest. NaN without a
            second one.
        rank: int64 ``(N,)``, 1 for the surest picture of its cluster, that with the largest
            margin. Of equal margins the smaller distance goes first.
        distance: ``(N,)``, at least 0, to the own cluster.
        k: Number of clusters, of which some may be empty.
        names: ``(k,)`` names of the clusters, or ().
    """

    files: tuple[str, ...]
    clusters: NDArray[np.int64]
    second: NDArray[np.int64]
    margin: NDArray[np.float64]
    rank: NDArray[np.int64]
    distance: NDArray[np.float64]
    k: int
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.files)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Pictures of each cluster, ``(k,)``."""
        return np.bincount(self.clusters, minlength=self.k)

    def members(self, cluster: int) -> NDArray[np.int64]:
        """Rows of a cluster, the surest first."""
        rows = np.flatnonzero(self.clusters == cluster)
        return rows[np.argsort(self.rank[rows])]


def table(
    files: Sequence[str],
    clusters: ArrayLike | torch.Tensor | None = None,
    *,
    features: ArrayLike | torch.Tensor | None = None,
    distances: ArrayLike | torch.Tensor | None = None,
    logits: ArrayLike | torch.Tensor | None = None,
    probabilities: ArrayLike | torch.Tensor | None = None,
    names: Sequence[str] = (),
) -> ClusterTable:
    """Rank pictures within their clusters by one of four things that are known of them.

    Of features, the distance is that of the normalised row to the mean of the normalised rows of
    a cluster. Of logits or probabilities it is -log p, and the margin is the logarithm of the odds
    against the second cluster; both keep apart what a probability rounds to 1.

    >>> found = table(["a.png", "b.png", "c.png"], distances=[[1.0, 5.0], [2.0, 2.5], [4.0, 1.0]])
    >>> found.clusters.tolist(), found.second.tolist(), found.margin.tolist()
    ([0, 0, 1], [1, 1, 0], [4.0, 0.5, 3.0])
    >>> found.rank.tolist()
    [1, 2, 1]

    Args:
        files: N names.
        clusters: ``(N,)``; by default the nearest or most probable one. Needed with features.
        features: ``(N, D)``, not normalised; read in blocks, so that a mapped file may be given.
        distances: ``(N, k)``, at least 0.
        logits: ``(N, k)``, such as logarithms of probabilities.
        probabilities: ``(N, k)``. A 0 counts as the smallest positive float32.
        names: k names of the clusters.

    Raises:
        InputError: If not exactly one of the four is given, or lengths do not fit.
    """
    given = {
        "features": features,
        "distances": distances,
        "logits": logits,
        "probabilities": probabilities,
    }
    known = {what: values for what, values in given.items() if values is not None}
    if len(known) != 1:
        raise InputError(f"{', '.join(known) or 'nothing'} given; give one of {', '.join(given)}")
    ((what, values),) = known.items()
    assigned = None if clusters is None else as_integers(clusters, "clusters", lowest=0)
    if what == "features":
        if assigned is None:
            raise InputError("features without clusters; give the cluster of each picture")
        _check_lengths(files, clusters=assigned)
        away = _to_means(values, assigned, max(int(assigned.max()) + 1, len(names)))
    else:
        away = as_features(values, what)
        if what == "probabilities" and (away.min() < 0 or away.max() > 1.001):
            raise InputError(f"probabilities from {away.min():g} to {away.max():g}; give 0 to 1")
        if what == "distances" and away.min() < 0:
            raise InputError(f"distances contain {away.min():g}; the smallest allowed is 0")
        if what == "probabilities":
            away = np.log(np.maximum(away, np.finfo(np.float32).smallest_subnormal))
        if assigned is None:
            assigned = (away.argmin(1) if what == "distances" else away.argmax(1)).astype(np.int64)
    n, k = away.shape
    _check_lengths(files, **{what: away, "clusters": assigned})
    if assigned.max() >= k:
        raise InputError(f"cluster {assigned.max()} but {what} of {k} clusters; count from 0")
    if names and len(names) != k:
        raise InputError(f"{len(names)} names for {k} clusters; give one each")
    own, others = away[np.arange(n), assigned], away.copy()
    others[np.arange(n), assigned] = -np.inf if what in ("logits", "probabilities") else np.inf
    if what in ("logits", "probabilities"):
        second = others.argmax(1)
        margin = own - others.max(1)
        # -log p = log(1 + odds of all others), which is exact where p itself would round to 1.
        distance = np.logaddexp(0.0, np.logaddexp.reduce(others, axis=1) - own)
    else:
        second = others.argmin(1)
        margin = others.min(1) - own
        distance = own
    lonely = ~np.isfinite(margin)
    order = np.lexsort((distance, np.where(lonely, 0.0, -margin), assigned))
    rank = np.empty(n, np.int64)
    sizes = np.bincount(assigned)
    rank[order] = np.concatenate([np.arange(1, size + 1) for size in sizes])
    return ClusterTable(
        files=tuple(files),
        clusters=assigned,
        second=np.where(lonely, -1, second).astype(np.int64),
        margin=np.where(lonely, np.nan, margin),
        rank=rank,
        distance=distance,
        k=k,
        names=tuple(names),
    )


def write_table(found: ClusterTable, where: Path | TextIO) -> None:
    """Write a table as CSV: file, cluster, second, margin, rank, distance; names, if there are any.

    Text is in quotes, numbers are not. No cell begins with what a spreadsheet would run: a file
    such as ``=1.png`` is written as ``./=1.png``, which is still its path, and a name of a cluster
    gets an apostrophe before it. A name of a file that is not UTF-8 keeps its bytes.

    Args:
        found: The table.
        where: A file, which is replaced in one step, or an open text stream.

    Raises:
        InputError: If the file cannot be written; an old one stays.
    """
    names = [guarded(name, "'") for name in found.names]
    columns = ["file", "cluster", "second", "margin", "rank", "distance"]

    def row(i: int) -> list[Any]:
        cluster, second = int(found.clusters[i]), int(found.second[i])
        alone = second < 0
        cells: list[Any] = [
            guarded(found.files[i], "./"),
            cluster,
            "" if alone else second,
            "" if alone else _short(found.margin[i]),
            int(found.rank[i]),
            _short(found.distance[i]),
        ]
        return [*cells, names[cluster], "" if alone else names[second]] if names else cells

    head = columns + ["cluster_name", "second_name"] * bool(names)
    write_csv(chain([head], map(row, range(len(found)))), where)


def write_csv(rows: Iterable[Sequence[Any]], where: Path | TextIO) -> None:
    """Write rows as CSV, text in quotes and numbers not, into a file in one step or a stream."""
    if isinstance(where, Path):

        def write(path: Path) -> None:
            with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                write_csv(rows, file)

        write_atomically(where, write)
        return
    csv.writer(where, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)


def guarded(text: str, guard: str) -> str:
    """The text, behind a guard if a spreadsheet would run it."""
    return guard + text if text.startswith(RUN_BY_SPREADSHEETS) else text


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _check_lengths(files: Sequence[str], **arrays: NDArray[Any]) -> None:
    for what, array in arrays.items():
        if len(array) != len(files):
            raise InputError(f"{len(files)} files but {what} of {len(array)}; give one a file")


def _to_means(values: Any, clusters: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Distances ``(N, k)`` of normalised rows to their clusters' means; infinite to empty ones."""
    values = values if hasattr(values, "shape") else np.asarray(values)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(values), BLOCK)]
    _check_lengths(range(len(values)), clusters=clusters)  # type: ignore[arg-type]

    def rows(block: slice) -> NDArray[np.float64]:
        return normalise_rows(as_features(values[block]))

    sizes = np.bincount(clusters, minlength=k)
    means = sum(np.eye(k)[clusters[block]].T @ rows(block) for block in blocks)
    means = means / np.maximum(sizes, 1)[:, None]
    away = np.concatenate([cdist(rows(block), means) for block in blocks])
    away[:, sizes == 0] = np.inf
    return away
