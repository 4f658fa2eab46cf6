"""Probes: how well simple classifiers read the classes from frozen features.

They are fitted with labels, so they judge features; they are no clustering result.
"""

from numbers import Real

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mixem.clustering.arrays import as_features, as_integers, require_whole
from mixem.errors import InputError

__all__ = ["knn_accuracy", "linear_probe"]


def knn_accuracy(
    train_x: ArrayLike | torch.Tensor,
    train_y: ArrayLike | torch.Tensor,
    test_x: ArrayLike | torch.Tensor,
    test_y: ArrayLike | torch.Tensor,
    k: int = 20,
    *,
    temperature: float | None = None,
) -> float:
    """Accuracy of the k nearest training images by cosine similarity.

    Args:
        train_x: ``(N, D)`` features that vote.
        train_y: ``(N,)`` their classes, -1 for an image that does not vote.
        test_x: ``(M, D)`` features to classify.
        test_y: ``(M,)`` their classes, -1 for an image that is not scored.
        k: Number of neighbours.
        temperature: None for one vote per neighbour. A positive number weights the votes with
            exp(cosine / temperature); 0.07 in Wu et al. 2018 (Instance Discrimination),
            section 3.4.

    Returns:
        A fraction in [0, 1]. Ties go to the lower class number.

    Raises:
        InputError: If shapes or types do not fit, if k is not in 1..N, or if the temperature is
            not positive.
    """
    train, test = _labelled(train_x, train_y, "train"), _labelled(test_x, test_y, "test")
    _check_widths(train[0], test[0])
    require_whole(k, "number k of neighbours", lowest=1, highest=len(train[0]))
    if temperature is not None and not (isinstance(temperature, Real) and temperature > 0):
        raise InputError(f"temperature is {temperature!r}: give a positive number or None")

    def weights(distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """exp(cosine / temperature), up to a factor per query that keeps the largest at 1."""
        assert temperature is not None
        return np.exp((distances.min(axis=1, keepdims=True) - distances) / temperature)

    model = KNeighborsClassifier(
        k, metric="cosine", weights="uniform" if temperature is None else weights
    )
    return float(model.fit(*train).score(*test))


def linear_probe(
    train_x: ArrayLike | torch.Tensor,
    train_y: ArrayLike | torch.Tensor,
    test_x: ArrayLike | torch.Tensor,
    test_y: ArrayLike | torch.Tensor,
    *,
    c: float = 1.0,
    iterations: int = 1000,
) -> float:
    """Test accuracy of logistic regression on standardised features.

    Mean and standard deviation come from the training features. Differs from MIX'EM's official
    code (linear.py), which trains with Adam and reports the best accuracy on the test images.

    Args:
        train_x: ``(N, D)`` features to fit on.
        train_y: ``(N,)`` their classes, -1 for an image to leave out.
        test_x: ``(M, D)`` features to score.
        test_y: ``(M,)`` their classes, -1 for an image to leave out.
        c: Inverse strength of the L2 penalty.
        iterations: Most iterations of L-BFGS. scikit-learn warns if they do not suffice.

    Returns:
        A fraction in [0, 1].

    Raises:
        InputError: If shapes or types do not fit, if the training images have one class only, or
            if c is not positive or iterations are no whole number from 1 on.
    """
    if not (isinstance(c, Real) and c > 0):
        raise InputError(f"c is {c!r}: give a positive number")
    require_whole(iterations, "iterations", lowest=1)
    train, test = _labelled(train_x, train_y, "train"), _labelled(test_x, test_y, "test")
    _check_widths(train[0], test[0])
    if len(np.unique(train[1])) < 2:
        raise InputError(f"all training labels are {train[1][0]}: give at least two classes")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=iterations))
    return float(model.fit(*train).score(*test))


def _labelled(
    x: ArrayLike | torch.Tensor, y: ArrayLike | torch.Tensor, split: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    features = as_features(x, f"{split} features")
    labels = as_integers(y, f"{split} labels", lowest=-1)
    if len(features) != len(labels):
        raise InputError(f"{len(features)} {split} features but {len(labels)} {split} labels")
    if not (labels >= 0).any():
        raise InputError(f"none of the {len(labels)} {split} images is labelled")
    return features[labels >= 0], labels[labels >= 0]


def _check_widths(train: NDArray[np.float64], test: NDArray[np.float64]) -> None:
    if train.shape[1] != test.shape[1]:
        raise InputError(
            f"train features have {train.shape[1]} columns but test features {test.shape[1]}: "
            "use the same layer"
        )
