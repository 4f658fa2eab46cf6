"""Nearest neighbours by cosine: exact, block by block, in bounded memory."""

import time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from mixem.errors import InputError

__all__ = ["Neighbours", "nearest_neighbours"]

BYTES = 2**27  # of one block's products; a few of them are in memory at once
CHUNK = 64  # columns of which first only the largest product is looked at
GRID = 2.0**30  # similarities are rounded to 1/GRID, far above the error of float64


class Neighbours(NamedTuple):
    """What :func:`nearest_neighbours` found, the nearest first.

    Attributes:
        indices: int64 ``(n, k)``, rows of the first set.
        similarities: float32 ``(n, k)``, their cosines, in [-1, 1], falling.
    """

    indices: torch.Tensor
    similarities: torch.Tensor


def nearest_neighbours(
    x: ArrayLike | torch.Tensor, k: int, *, queries: ArrayLike | torch.Tensor | None = None
) -> Neighbours:
    """The k rows of ``x`` with the largest cosine to each row of ``x``, or of other vectors.

        >>> x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> nearest_neighbours(x, 1).indices.flatten().tolist()
        [1, 0, 1]
        >>> nearest_neighbours(x, 1, queries=[[0.1, 2.0]]).indices.item()
        2

    The result is that of float64, whatever finds the candidates: products in bfloat16 or float32,
    whichever is faster here, with a bound of their error. A row where the bound does not settle
    all neighbours is done again in float64, so many near-duplicates take longer.

    Args:
        x: ``(N, D)``, any real type. A mapped array is read once; in memory there are a float32
            and, where that is faster, a bfloat16 copy, and blocks of 128 MiB.
        k: From 1 to N - 1, or to N with ``queries``.
        queries: ``(n, D)``. Without it a row of ``x`` is not its own neighbour (by its place: an
            equal row is).

    Returns:
        Neighbours on the device of ``x``. Cosines that differ by less than 1e-9 or so count as
        equal, and of equal ones the lower index comes first.

    Raises:
        InputError: If the shapes or k do not fit, or a row is zero or not finite.
    """
    rows = _unit(x, "x")
    asked = rows if queries is None else _unit(queries, "queries").to(rows.device)
    if asked.shape[1] != rows.shape[1]:
        raise InputError(
            f"x has {rows.shape[1]} columns and queries {asked.shape[1]}; give features of the "
            "same network"
        )
    most = len(rows) - (queries is None)
    if not 1 <= k <= most:
        raise InputError(f"{k} neighbours of {len(rows)} rows; give a number from 1 to {most}")
    m = -(-(2 * k + 20) // CHUNK) * CHUNK  # candidates of a row
    if len(rows) <= m * CHUNK:
        # So few that candidates save nothing.
        return _exact(rows, asked, torch.arange(len(asked), device=rows.device), k, queries is None)

    dtype = _faster(rows, asked)
    narrow, narrow_asked = rows.to(dtype), asked.to(dtype)
    error, own = (
        torch.linalg.vector_norm(wide - short, dim=1) if dtype != torch.float32 else wide.sum(1) * 0
        for wide, short in ((rows, narrow), (asked, narrow_asked))
    )
    parts, unsettled = [], []
    step = max(BYTES // max(narrow.element_size() * len(rows), 8 * m * rows.shape[1]), 1)
    for start in range(0, len(asked), step):
        products = narrow_asked[start : start + step] @ narrow.T
        here = torch.arange(start, start + len(products), device=rows.device)
        if queries is None:
            products[here - start, here] = -torch.inf
        last, candidates = _largest(products, m)
        candidates = candidates.sort(1).values
        wide = rows[candidates.flatten()].double().view(*candidates.shape, -1)
        cosines = (wide @ asked[here].double().unsqueeze(2)).squeeze(2)
        part = _first(cosines, candidates, k)
        parts.append(part)
        # |<x, y> - product| is at most |x - x'| |y| + |x'| |y - y'|, the rounding of the product,
        # and that of its sum. What is no candidate has a product of at most ``last``.
        bound = own[here] + error.max() * 1.01 + last.abs() * torch.finfo(dtype).eps + 1e-5
        unsettled.append(here[part.similarities[:, -1] <= last + bound])
    found = Neighbours(*map(torch.cat, zip(*parts, strict=True)))
    again = torch.cat(unsettled)
    if len(again):
        for whole, exact in zip(found, _exact(rows, asked, again, k, queries is None), strict=True):
            whole[again] = exact
    return found


def _unit(x: ArrayLike | torch.Tensor, name: str) -> torch.Tensor:
    """Rows of length 1 in float32."""
    if isinstance(x, torch.Tensor):
        rows = x.detach().to(torch.float32)
    else:
        rows = torch.from_numpy(np.array(x, dtype=np.float32))
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"{name} has shape {tuple(rows.shape)}; give one row of numbers a picture")
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    for bad, what in ((~length.isfinite(), "not finite"), (length == 0, "all zeros")):
        if bad.any():
            row = int(bad.flatten().nonzero()[0])
            raise InputError(
                f"row {row} of {name} is {what} ({int(bad.sum())} of {len(rows)} rows are), so it "
                "has no direction; leave such rows out"
            )
    return rows / length


def _faster(rows: torch.Tensor, asked: torch.Tensor) -> torch.dtype:
    """Of bfloat16 and float32, what multiplies faster on this machine."""
    seconds = {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = asked[:128].to(dtype), rows[:4096].to(dtype)
        for _ in range(2):  # the first time kernels are made
            started = time.perf_counter()
            (a @ b.T).sum().item()
            seconds[dtype] = time.perf_counter() - started
    return min(seconds, key=lambda dtype: seconds[dtype])


def _largest(products: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns of the m largest products of each row, in any order, and the m-th product.

    They lie in the m chunks of columns whose largest products are largest.
    """
    columns = products.shape[1]
    padding = -columns % CHUNK
    if padding:
        products = torch.nn.functional.pad(products, (0, padding), value=-torch.inf)
    chunks = products.unflatten(1, (-1, CHUNK))
    best = chunks.amax(2).topk(m, sorted=False).indices  # (b, m)
    within = chunks.gather(1, best.unsqueeze(2).expand(-1, -1, CHUNK)).flatten(1)
    values, places = within.topk(m)
    return values[:, -1].float(), best.gather(1, places // CHUNK) * CHUNK + places % CHUNK


def _first(cosines: torch.Tensor, indices: torch.Tensor, k: int) -> Neighbours:
    """The k largest cosines; ``indices`` rise along each row."""
    cosines = (cosines * GRID).round() / GRID
    order = cosines.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return Neighbours(
        indices.gather(1, order), cosines.gather(1, order).clamp(-1, 1).to(torch.float32)
    )


def _exact(
    rows: torch.Tensor, asked: torch.Tensor, which: torch.Tensor, k: int, not_itself: bool
) -> Neighbours:
    """Neighbours of some of the rows, by all their cosines in float64."""
    parts = []
    step = max(BYTES // (8 * len(rows)), 1)
    columns = torch.arange(len(rows), device=rows.device)
    for here in which.split(step):
        vectors = asked[here].double()
        cosines = torch.cat([vectors @ block.double().T for block in rows.split(4096)], 1)
        if not_itself:
            cosines[torch.arange(len(here), device=rows.device), here] = -torch.inf
        parts.append(_first(cosines, columns.expand(len(here), -1), k))
    return Neighbours(*map(torch.cat, zip(*parts, strict=True)))
