"""Scores of a clustering against labels."""

import torch
from numpy.typing import ArrayLike
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from mixem.evaluation.matching import clustering_accuracy, labelled_pairs

__all__ = ["ari", "clustering_scores", "nmi"]


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
