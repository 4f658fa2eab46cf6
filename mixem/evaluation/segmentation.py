"""Scoring the clusters of pixels against masks.

A mask says the class of each pixel, 255 where nobody says. Pixels are counted, and everything
else follows from one small table::

    >>> masks = torch.tensor([[[0, 0, 1], [1, 1, 255]]], dtype=torch.uint8)
    >>> clusters = torch.tensor([[[2, 2, 0], [0, 2, 1]]])
    >>> counts = PixelCounts(classes=2, clusters=3)
    >>> counts.add(masks, clusters)
    >>> counts.table().tolist()
    [[0, 0, 2], [2, 0, 1]]
    >>> segmentation_scores(counts.table())["accuracy"]
    0.8
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from mixem.errors import InputError

IGNORED = 255  # in a mask: a pixel whose class nobody says
VALUES = 256  # of a uint8 mask


class PixelCounts:
    """Which cluster was found at the pixels of which class, summed batch by batch.

    The sums stay on the device and nothing is waited for until :meth:`table` or :meth:`shares`
    is asked for.

    Args:
        classes: Number of classes in the masks, 1 to 255.
        clusters: Number k of clusters.
    """

    def __init__(self, *, classes: int, clusters: int):
        if not 1 <= classes <= IGNORED or clusters < 1:
            raise InputError(
                f"{classes} classes, {clusters} clusters; give 1 to {IGNORED} and at least 1"
            )
        self.classes, self.clusters = classes, clusters
        self._counts: torch.Tensor | None = None

    def add(self, masks: torch.Tensor | None, clusters: torch.Tensor) -> None:
        """Count the pixels of some images.

        Args:
            masks: uint8 ``(n, H, W)``, ``IGNORED`` where the class is not known; None for
                images without masks.
            clusters: int64 ``(n, H, W)``, below k.

        Raises:
            InputError: If shapes or types do not fit.
        """
        if clusters.dtype != torch.int64 or (
            masks is not None and (masks.dtype != torch.uint8 or masks.shape != clusters.shape)
        ):
            given = "none" if masks is None else f"{masks.dtype} of shape {tuple(masks.shape)}"
            raise InputError(
                f"clusters are {clusters.dtype} of shape {tuple(clusters.shape)}, masks {given}; "
                "give int64 clusters and uint8 masks of one shape"
            )
        if self._counts is None:
            # A row for each value a mask can have and a column for wrong clusters: what is wrong
            # is seen in the end, and no batch has to be waited for.
            self._counts = clusters.new_zeros(VALUES * (self.clusters + 1))
        rows = torch.full_like(clusters, IGNORED) if masks is None else masks.long()
        columns = torch.where((clusters >= 0) & (clusters < self.clusters), clusters, self.clusters)
        places = (rows * (self.clusters + 1) + columns).flatten()
        self._counts.scatter_add_(0, places, torch.ones_like(places))

    def table(self) -> NDArray[np.int64]:
        """Pixels by class and cluster, ``(classes, clusters)``, without the ignored ones.

        Raises:
            InputError: If a pixel had a class or a cluster that there is not.
        """
        counts = self._checked()
        wrong = np.flatnonzero(counts[self.classes : IGNORED].sum(1))
        if len(wrong):
            raise InputError(
                f"a mask has class {self.classes + wrong[0]}; there are {self.classes}, "
                f"counted from 0, and {IGNORED} for pixels to ignore"
            )
        return counts[: self.classes]

    def shares(self) -> NDArray[np.float64]:
        """Share of all pixels in each cluster, ``(clusters,)``; needs no masks."""
        sizes = self._checked().sum(0)
        return sizes / max(1, sizes.sum())

    def _checked(self) -> NDArray[np.int64]:
        if self._counts is None:
            return np.zeros((VALUES, self.clusters), dtype=np.int64)
        counts = self._counts.cpu().numpy().reshape(VALUES, self.clusters + 1)
        if wrong := counts[:, -1].sum():
            raise InputError(
                f"{wrong} pixels have a cluster that is not in 0 to {self.clusters - 1}"
            )
        return counts[:, :-1]


class SegmentationScores(NamedTuple):
    """Scores of maps whose clusters have become classes.

    Attributes:
        accuracy: Share of the pixels that are right.
        mean_iou: Mean of ``iou`` over the classes that have a pixel.
        iou: Intersection over union of each class, NaN for one without a pixel.
    """

    accuracy: float
    mean_iou: float
    iou: tuple[float, ...]


def segmentation_scores(table: ArrayLike) -> dict[str, float]:
    """The numbers of a report, as fractions.

    Args:
        table: ``(classes, clusters)`` pixels, of :meth:`PixelCounts.table`.

    Returns:
        ``accuracy`` and ``mean_iou`` by the best one-to-one pairing, and ``majority_accuracy``,
        which gives each cluster its commonest class (IIC's mode ``orig``) and grows with k.

    Raises:
        InputError: If there is no pixel to score.
    """
    scores = scores_by(table, match_pixels(table))
    majority = scores_by(table, majority_pixels(table))
    return {
        "accuracy": scores.accuracy,
        "mean_iou": scores.mean_iou,
        "majority_accuracy": majority.accuracy,
    }


def match_pixels(table: ArrayLike) -> NDArray[np.int64]:
    """Class of each cluster, ``(clusters,)``, one to one so that most pixels are right; else -1.

    Args:
        table: See :func:`segmentation_scores`.
    """
    counts = _counts(table)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    mapping = np.full(counts.shape[1], -1)
    mapping[columns] = rows
    return mapping


def majority_pixels(table: ArrayLike) -> NDArray[np.int64]:
    """Commonest class of each cluster, ``(clusters,)``; class 0 for one without a pixel.

    Args:
        table: See :func:`segmentation_scores`. For IIC+ that of the training images.
    """
    return _counts(table).argmax(0)


def scores_by(table: ArrayLike, mapping: ArrayLike) -> SegmentationScores:
    """Scores when clusters stand for classes as the mapping says.

    Args:
        table: See :func:`segmentation_scores`.
        mapping: ``(clusters,)`` class of each cluster, -1 for none: all its pixels are wrong.

    Raises:
        InputError: If there is no pixel to score, or the mapping does not fit.
    """
    counts, classes_of = _counts(table), np.asarray(mapping)
    classes, clusters = counts.shape
    if classes_of.shape != (clusters,) or classes_of.min() < -1 or classes_of.max() >= classes:
        raise InputError(
            f"a mapping {classes_of.tolist()} for {clusters} clusters and {classes} classes; "
            "give a class from 0 on or -1 for each cluster"
        )
    confusion = counts @ (classes_of[:, None] == np.arange(classes))  # true by found class
    right = confusion.diagonal()
    union = counts.sum(1) + confusion.sum(0) - right
    there = counts.sum(1) > 0
    iou = np.where(there, right / np.maximum(union, 1), np.nan)
    return SegmentationScores(
        float(right.sum() / counts.sum()), float(iou[there].mean()), tuple(iou.tolist())
    )


def _counts(table: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(table)
    if counts.ndim != 2 or 0 in counts.shape or counts.dtype.kind not in "iu" or not counts.sum():
        raise InputError(
            f"a table of {counts.dtype} and shape {counts.shape} that sums to {counts.sum()}; "
            "give pixels by class and cluster, with at least one labelled pixel"
        )
    return counts.astype(np.int64)
