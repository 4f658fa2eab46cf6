"""Pictures that are there more than once: the same files, and pictures that are nearly the same."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.functional import adaptive_avg_pool2d, normalize

from mixem.data.picture import of_the_machine
from mixem.errors import InputError

__all__ = ["near_duplicates", "same_files"]

BLOCK = 2048  # rows compared with as many others at a time: 16 MB of cosines
DIRECTIONS = 64  # in which rows are compared first, if there are more than a block of them
FEW = 16  # pairs a row that are then compared whole, one by one; of more, all are
SIDE = 16  # pixels of a side at which pictures are compared
OF_FEATURES, OF_PIXELS = 0.95, 0.99
ROUNDING = 1e-5  # of cosines in float32


def near_duplicates(
    x: ArrayLike | torch.Tensor, *, similarity: float | None = None
) -> tuple[NDArray[np.int64], ...]:
    """Groups of pictures that are nearly the same, by their features or their pixels.

    The first picture of a group stands for it, and every other one is similar to that: groups are
    no chains, in which the ends have nothing in common. All pairs are compared, exactly, in blocks:
    beside one float32 copy of ``x`` the memory hardly grows with N. Most pairs are ruled out by
    their components in a few directions, and by the length of what is left, which bound the cosine
    from above.

    Of features the similarity is the cosine. Of pixels it is the correlation of the pictures,
    16 pixels wide: it sees through another size, compression or brightness, but not through
    another crop. Pictures of one plain colour correlate with nothing; see :func:`same_files`.

    >>> near_duplicates([[1.0, 0.0], [0.0, 1.0], [2.0, 0.01]])
    (array([0, 2]),)

    Args:
        x: ``(N, D)`` features, or uint8 ``(N, C, h, w)`` pixels.
        similarity: In (0, 1]; by default 0.95 of features and 0.99 of pixels. On 3,781 photographs
            of clothes with features of a network trained on ImageNet, that is above all pairs of
            different photographs (the nearest of which have 0.93 and 0.98) and below copies of half
            the size or strong compression (0.95, and 0.999 of pixels). Small grey pictures of like
            things, such as Fashion-MNIST, need more.

    Returns:
        For each group of two or more its rows, ascending; the largest group first.

    Raises:
        InputError: If ``x`` has another shape or is not finite, or the similarity is out of range.
    """
    rows, usual = _rows(x)
    similarity = usual if similarity is None else similarity
    if not 0 < similarity <= 1:
        raise InputError(f"similarity is {similarity}; give a number above 0, at most 1")
    near = _Near(rows, similarity - ROUNDING)
    first = torch.arange(len(rows))  # who stands for each row
    leaders: list[torch.Tensor] = []  # who stands for itself, block by block
    for left in torch.arange(len(rows)).split(BLOCK):
        for others in leaders:
            found = near(left, others)
            if (hit := found.any(1)).any():
                first[left[hit]] = others[found[hit].int().argmax(1)]
                left = left[~hit]
        found = near(left, left).tril(-1)
        stands = torch.ones(len(left), dtype=torch.bool)
        for i in torch.nonzero(found.any(1))[:, 0].tolist():
            if (candidates := found[i] & stands).any():
                first[left[i]] = left[int(candidates.int().argmax())]
                stands[i] = False
        leaders.append(left[stands])
    return _groups(enumerate(first.tolist()))


class _Near:
    """Tells which rows are similar.

    Args:
        rows: float32 ``(N, D)`` of length 1 or 0.
        limit: Least product of similar rows.
    """

    def __init__(self, rows: torch.Tensor, limit: float):
        self.rows, self.limit = rows, limit
        self.short: torch.Tensor | None = None
        if len(rows) > BLOCK and rows.shape[1] > 2 * DIRECTIONS:
            sample = rows[:: -(-len(rows) // BLOCK)]
            _, vectors = torch.linalg.eigh(sample.T @ sample)  # the largest values are the last
            self.short = torch.cat([_short(p, vectors[:, -DIRECTIONS:]) for p in rows.split(BLOCK)])

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Whether each of the rows ``a`` is similar to each of the rows ``b``, bool ``(a, b)``."""
        if self.short is not None:
            found = self.short[a] @ self.short[b].T >= self.limit - ROUNDING
            pairs = found.nonzero()
            if len(pairs) <= FEW * BLOCK:
                for i, j in (part.T for part in pairs.split(BLOCK)):
                    products = (self.rows[a[i]] * self.rows[b[j]]).sum(1)
                    found[i, j] = products >= self.limit
                return found
        return self.rows[a] @ self.rows[b].T >= self.limit


def _short(rows: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Components of rows, and the length of the rest: products of such are not below the rows'."""
    within = rows @ directions
    rest = (rows.square().sum(1) - within.square().sum(1)).clamp_min(0).sqrt()
    return torch.cat([within, rest[:, None]], 1)


def same_files(folder: str | Path, files: Sequence[str]) -> tuple[NDArray[np.int64], ...]:
    """Groups of files with the same content, byte by byte.

    Only files of the same length are read. Files that cannot be read are in no group.

    Args:
        folder: What the files' paths begin at.
        files: N paths below it.

    Returns:
        For each group of two or more the numbers of its files, ascending; the largest group first.
    """
    lengths: dict[int, list[int]] = defaultdict(list)
    for i, name in enumerate(files):
        path = Path(folder) / name
        if path.is_file():
            lengths[path.stat().st_size].append(i)
    digests = []
    for i in (i for same in lengths.values() if len(same) > 1 for i in same):
        try:
            with (Path(folder) / files[i]).open("rb") as file:
                digests.append((i, hashlib.file_digest(file, "sha256").digest()))
        except OSError as error:
            if of_the_machine(error):
                raise
            continue
    return _groups(digests)


def _groups(pairs: Iterable[tuple[int, object]]) -> tuple[NDArray[np.int64], ...]:
    """What has the same key, if it is more than one."""
    found: dict[object, list[int]] = defaultdict(list)
    for i, key in pairs:
        found[key].append(i)
    groups = [np.array(sorted(rows), np.int64) for rows in found.values() if len(rows) > 1]
    return tuple(sorted(groups, key=lambda rows: (-len(rows), rows[0])))


def _rows(x: ArrayLike | torch.Tensor) -> tuple[torch.Tensor, float]:
    """float32 rows of length 1, or 0, whose products are the similarities, and the usual limit."""
    given = x if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x))
    given = given.detach().cpu()
    if given.ndim == 4 and given.dtype == torch.uint8 and len(given):
        if all(bool((part == part[:, :1]).all()) for part in given.split(BLOCK)):
            given = given[:, :1]  # grey pictures in three channels say all in one
        rows, usual = torch.empty(len(given), given.shape[1] * SIDE**2), OF_PIXELS
        for part, pixels in zip(rows.split(BLOCK), given.split(BLOCK), strict=True):
            part[:] = adaptive_avg_pool2d(pixels.float(), SIDE).flatten(1)
            part -= part.mean(1, keepdim=True)
    elif given.ndim == 2 and given.numel() and not given.is_complex():
        rows, usual = given.to(torch.float32, copy=True), OF_FEATURES
    else:
        raise InputError(
            f"{given.dtype} of shape {tuple(given.shape)}; give features (N, D) or uint8 pixels "
            "(N, C, h, w)"
        )
    for part in rows.split(BLOCK):
        if not part.isfinite().all():
            raise InputError("features are not finite; the network has probably diverged")
        part[:] = normalize(part, dim=1, eps=1e-6)
    return rows, usual
