"""Which cluster stands for which class.

Cluster numbers mean nothing: cluster 3 may hold the images of class 7. The Hungarian method
finds the one-to-one pairing of clusters and classes under which most images are right. It sees
the labels, so it belongs to the evaluation and never to the training.

Labels -1 mean "unlabelled"; those images are left out.
"""

from numbers import Real

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from mixem.clustering.arrays import as_integers, require_whole
from mixem.errors import InputError

__all__ = [
    "accuracy_by_labels",
    "clustering_accuracy",
    "confusion_matrix",
    "labelled_pairs",
    "majority_accuracy",
    "majority_mapping",
    "match_clusters",
]


def labelled_pairs(
    labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns labels and clusters of the labelled images, checked.

    Args:
        labels: (N,) class of each image, any integers from 0 on, -1 for an unlabelled image.
        clusters: (N,) cluster of each image, any integers from 0 on.

    Returns:
        Two int64 arrays of the same length, one entry per labelled image.

    Raises:
        InputError: If the lengths differ, if either is empty or not integer, if a number is out
            of range, or if no image is labelled.
    """
    classes = as_integers(labels, "labels", lowest=-1)
    found = as_integers(clusters, "clusters", lowest=0)
    if len(classes) != len(found):
        raise InputError(
            f"{len(classes)} labels but {len(found)} clusters: give one of each per image"
        )
    labelled = classes >= 0
    if not labelled.any():
        raise InputError(f"none of the {len(classes)} images is labelled: labels are all -1")
    return classes[labelled], found[labelled]


def match_clusters(
    labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor
) -> dict[int, int]:
    """Pairs clusters and classes one to one so that most images are right.

    With more clusters than classes some clusters stay without a class, with fewer some classes
    without a cluster. The pairing is computed by scipy's ``linear_sum_assignment``.

    Args:
        labels: (N,) class of each image, -1 for an unlabelled image.
        clusters: (N,) cluster of each image.

    Returns:
        The class of each matched cluster, by cluster number.

    Raises:
        InputError: See ``labelled_pairs``.

    Example:
        >>> match_clusters([0, 0, 1, 1], [7, 7, 2, 7])
        {2: 1, 7: 0}
    """
    counts, class_ids, cluster_ids = _contingency(*labelled_pairs(labels, clusters))
    rows, columns = linear_sum_assignment(counts, maximize=True)
    pairs = sorted(
        (int(cluster_ids[j]), int(class_ids[i])) for i, j in zip(rows, columns, strict=True)
    )
    return dict(pairs)


def clustering_accuracy(
    labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor
) -> float:
    """Share of images that are right under the best one-to-one pairing ("ACC").

    All three papers report it. Images of clusters without a class count as errors. Differs from
    MIX'EM's official code (cluster_eval.py): that fails when the cluster numbers are not
    among the labels.

    Args:
        labels: (N,) class of each image, -1 for an unlabelled image.
        clusters: (N,) cluster of each image.

    Returns:
        A fraction in [0, 1]. It is at least 1 / max(clusters used, classes).

    Raises:
        InputError: See ``labelled_pairs``.

    Example:
        >>> clustering_accuracy([0, 0, 1, 1], [1, 1, 0, 1])
        0.75
    """
    counts, _, _ = _contingency(*labelled_pairs(labels, clusters))
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / counts.sum())


def majority_mapping(
    labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor, count: int
) -> NDArray[np.int64]:
    """The commonest class of each cluster: a many-to-one map from clusters to classes.

    IIC's way of scoring more clusters than classes (``cluster_eval.py``, mode ``orig``). As there,
    a cluster without a labelled image becomes class 0, and of equally common classes the lowest
    wins.

    Args:
        labels: (N,) class of each image, -1 for an unlabelled image.
        clusters: (N,) cluster of each image, below ``count``.
        count: Number of clusters.

    Returns:
        (count,) class of each cluster; index it with clusters to get classes.

    Raises:
        InputError: See ``labelled_pairs``; or if a cluster is not below ``count``, or this is no
            whole number.

    Example:
        >>> majority_mapping([0, 0, 1, 1, 1], [2, 2, 2, 0, 0], 4).tolist()
        [1, 0, 0, 0]
    """
    classes, found = labelled_pairs(labels, clusters)
    require_whole(count, "count", lowest=1)
    if found.max() >= count:
        raise InputError(f"cluster {found.max()} among {count} clusters; count from 0")
    counts = np.zeros((count, classes.max() + 1), dtype=np.int64)
    np.add.at(counts, (found, classes), 1)
    return counts.argmax(axis=1)


def accuracy_by_labels(
    labels: ArrayLike | torch.Tensor,
    clusters: ArrayLike | torch.Tensor,
    test_labels: ArrayLike | torch.Tensor,
    test_clusters: ArrayLike | torch.Tensor,
    *,
    count: int,
    share: float,
    draws: int = 10,
    seed: int = 0,
) -> tuple[float, float]:
    """Accuracy on test images when only a share of the other labels maps clusters to classes.

    Args:
        labels: (N,) class of each image that may be used for the mapping.
        clusters: (N,) cluster of each of them.
        test_labels: (M,) class of each image that is scored.
        test_clusters: (M,) cluster of each of them.
        count: Number of clusters.
        share: Of the labels, above 0 and at most 1; int(N * share) of them are drawn without
            replacement, at least one (IIC, ``truncated_dataset.py``).
        draws: Random subsets of the labels; one is enough for all of them.
        seed: Of the subsets.

    Returns:
        Mean and standard deviation over the draws, as fractions.

    Raises:
        InputError: See ``labelled_pairs``; or if the share, the number of draws or the seed is
            impossible.
    """
    if not (isinstance(share, Real) and 0 < share <= 1):
        raise InputError(f"share is {share!r}: give a number above 0, at most 1")
    require_whole(draws, "draws", lowest=1)
    require_whole(seed, "seed", lowest=0)
    classes, found = labelled_pairs(labels, clusters)
    test_classes, test_found = labelled_pairs(test_labels, test_clusters)
    rng = np.random.default_rng(seed)
    drawn = max(1, int(len(classes) * share))
    accuracies = []
    for _ in range(draws if drawn < len(classes) else 1):
        chosen = rng.choice(len(classes), drawn, replace=False)
        mapping = majority_mapping(classes[chosen], found[chosen], count)
        accuracies.append(np.mean(mapping[test_found] == test_classes))
    return float(np.mean(accuracies)), float(np.std(accuracies))


def majority_accuracy(
    labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor
) -> float:
    """Share of images that belong to the commonest class of their cluster (many to one).

    For overclustering: several clusters may stand for one class. It grows with the number of
    clusters and is 1 when every image is its own cluster, so it is no substitute for
    ``clustering_accuracy``. Also called purity.

    Args:
        labels: (N,) class of each image, -1 for an unlabelled image.
        clusters: (N,) cluster of each image.

    Returns:
        A fraction in (0, 1], never below ``clustering_accuracy``.

    Raises:
        InputError: See ``labelled_pairs``.
    """
    counts, _, _ = _contingency(*labelled_pairs(labels, clusters))
    return float(counts.max(axis=0).sum() / counts.sum())


def confusion_matrix(
    labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts images per class and cluster, the clusters in the order of their classes.

    With as many clusters as classes the diagonal holds the images that are right.

    Args:
        labels: (N,) class of each image, -1 for an unlabelled image.
        clusters: (N,) cluster of each image.

    Returns:
        The counts, (classes, clusters), and the cluster number of each column. Rows are the
        classes that occur, ascending. Columns are the clusters that occur: first the matched
        ones in the order of their classes, then the others, largest first.

    Raises:
        InputError: See ``labelled_pairs``.
    """
    counts, _, cluster_ids = _contingency(*labelled_pairs(labels, clusters))
    _, matched = linear_sum_assignment(counts, maximize=True)
    by_size = np.argsort(-counts.sum(axis=0), kind="stable")
    order = np.concatenate([matched, by_size[~np.isin(by_size, matched)]])
    return counts[:, order], cluster_ids[order]


def _contingency(
    labels: NDArray[np.int64], clusters: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns counts (classes, clusters), the classes and the clusters that occur, ascending."""
    class_ids, rows = np.unique(labels, return_inverse=True)
    cluster_ids, columns = np.unique(clusters, return_inverse=True)
    counts = np.zeros((len(class_ids), len(cluster_ids)), dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts, class_ids, cluster_ids
