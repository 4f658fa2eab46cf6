"""Scores of a clustering against labels, and how evenly clusters are used."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import entropy
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from mixem.errors import InputError
from mixem.evaluation.arrays import as_integers
from mixem.evaluation.matching import clustering_accuracy, labelled_pairs


def nmi(labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor) -> float:
    """Normalised mutual information, I(Y; C) / ((H(Y) + H(C)) / 2).

    The arithmetic mean is scikit-learn's default since version 0.22; older numbers may use the
    geometric mean.

    Args:
        labels: (N,) class of each image, -1 for an unlabelled image.
        clusters: (N,) cluster of each image.

    Returns:
        A fraction in [0, 1]. It is 0 when one of the two is constant, 1 when both are.

    Raises:
        InputError: See ``labelled_pairs``.
    """
    return float(normalized_mutual_info_score(*labelled_pairs(labels, clusters)))


def ari(labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor) -> float:
    """Adjusted Rand index: agreement over pairs of images, 0 on average for a random clustering.

    Args:
        labels: (N,) class of each image, -1 for an unlabelled image.
        clusters: (N,) cluster of each image.

    Returns:
        A number in [-0.5, 1].

    Raises:
        InputError: See ``labelled_pairs``.
    """
    return float(adjusted_rand_score(*labelled_pairs(labels, clusters)))


def clustering_scores(
    labels: ArrayLike | torch.Tensor, clusters: ArrayLike | torch.Tensor
) -> dict[str, float]:
    """Returns ``accuracy``, ``nmi`` and ``ari`` as fractions.

    Raises:
        InputError: See ``labelled_pairs``.

    Example:
        >>> clustering_scores([0, 0, 1, 1], [1, 1, 0, 0])
        {'accuracy': 1.0, 'nmi': 1.0, 'ari': 1.0}
    """
    return {
        "accuracy": clustering_accuracy(labels, clusters),
        "nmi": nmi(labels, clusters),
        "ari": ari(labels, clusters),
    }


class ClusterUsage(NamedTuple):
    """How many clusters hold an image, and the entropy of their sizes in nats."""

    used: int
    entropy: float


def cluster_usage(clusters: ArrayLike | torch.Tensor, k: int) -> ClusterUsage:
    """Counts the clusters in use and says how even their sizes are.

    Needs no labels. Differs from MIX'EM's official code (cluster_eval.py), which gives the
    entropy in bits and adds 1e-10 to every share.

    Args:
        clusters: (N,) cluster of each image, in 0..k-1.
        k: Number of clusters there are.

    Returns:
        ``used`` in 1..k and ``entropy`` in [0, ln k] nats: 0 when all images share one cluster.

    Raises:
        InputError: If a cluster number is outside 0..k-1.
    """
    found = as_integers(clusters, "clusters", lowest=0)
    if found.max() >= k:
        raise InputError(
            f"clusters contain {found.max()} but k is {k}: the largest number is k - 1"
        )
    sizes = np.bincount(found, minlength=k)
    return ClusterUsage(used=int((sizes > 0).sum()), entropy=float(entropy(sizes)))
