"""Mutual information between clusters and prototypes, IMC-SwAV's clustering objective."""

import torch

from mixem.distributed import average
from mixem.errors import InputError
from mixem.losses.checks import require_floats, require_temperature
from mixem.losses.precision import entropy, full_precision

__all__ = ["infomax", "logit_penalty"]


def infomax(
    logits: torch.Tensor,
    scores: torch.Tensor,
    *,
    temperature: float = 0.1,
    entropy_weight: float = 4.0,
) -> torch.Tensor:
    """H(Y|U) - b H(Y): clusters Y that follow from the prototypes U, and are all used.

    The joint distribution of cluster and prototype is the mean over the images of the outer
    products of softmax(logits) and softmax(scores / temperature) (IMC-SwAV, equation 6; official
    ``costs.py``). With b = 1 it is minus their mutual information, with more it is
    -(I + (b - 1) H(Y))::

        >>> sure = 100 * torch.eye(10)
        >>> round(infomax(sure, 0.1 * sure).item(), 4)  # - 4 ln 10
        -9.2103

    Args:
        logits: Of B images for k clusters, ``(B, k)``, or of V views, ``(V, B, k)``.
        scores: Of the same images for K prototypes, ``(B, K)`` or ``(V, B, K)``; cosines in
            IMC-SwAV.
        temperature: Of the prototypes' softmax, tau.
        entropy_weight: b, 4 in the official code.

    Returns:
        A scalar in nats, the mean over all V x V pairs of a view of the clusters and one of the
        prototypes. For b >= 1 from -b ln k to 0; 0 when all images are in one cluster, and
        (1 - b) ln k when all clusters are used and the prototypes say nothing of them.

    Raises:
        InputError: If the shapes or a number do not fit; the temperature may be 1e-30 to 1e30.

    Differs from the official code: the pairs are one matrix product instead of V x V, and x ln x
    is 0 at 0, where the official logarithm gives NaN (logits about 100 apart).
    """
    require_floats("logits", logits, ndim=(2, 3), expected="([views,] images, clusters)")
    require_floats("scores", scores, ndim=(2, 3), expected="([views,] images, prototypes)")
    if logits.shape[:-1] != scores.shape[:-1]:
        raise InputError(
            f"logits of shape {tuple(logits.shape)} and scores of {tuple(scores.shape)}; "
            "give both of the same views and images"
        )
    require_temperature(temperature)
    if not 0 <= entropy_weight < float("inf"):
        raise InputError(f"entropy_weight is {entropy_weight}; give a number from 0 on")
    with torch.autocast(logits.device.type, enabled=False):
        y = full_precision(logits).softmax(-1)
        u = (full_precision(scores) / temperature).softmax(-1)
        y, u = (x.unsqueeze(0) if x.ndim == 2 else x for x in (y, u))
        views, images, clusters = y.shape
        flat = (x.transpose(0, 1).flatten(1) for x in (y, u))  # (B, V k) and (B, V K)
        joint = average(next(flat).T @ next(flat) / images)
        joint = joint.unflatten(0, (views, clusters))  # (V, k, V K)
        pairs = entropy(joint).sum() / views**2  # mean of H(Y, U)
        information = pairs - entropy(average(u.mean(1))).sum() / views
        return information - entropy_weight * entropy(average(y.mean(1))).sum() / views


def logit_penalty(logits: torch.Tensor, *, bound: float = 5.0) -> torch.Tensor:
    """How far logits are beyond a bound, summed over the clusters (official ``costs.py``).

        >>> logit_penalty(torch.tensor([[6.5, -5.5, 0.0], [1.0, 2.0, 3.0]])).item()
        1.0

    Args:
        logits: ``(..., k)``.
        bound: At least 0; 5 in the official code, which multiplies the result by 0.01.

    Returns:
        A scalar from 0 on, the mean over the images (and views) of
            sum_k max(0, abs(logit) - bound).

    Raises:
        InputError: If there are no logits or the bound is negative.
    """
    require_floats("logits", logits, expected="(..., clusters)")
    if not 0 <= bound < float("inf"):
        raise InputError(f"bound is {bound}; give a number from 0 on")
    with torch.autocast(logits.device.type, enabled=False):
        return (full_precision(logits).abs() - bound).relu().sum(-1).mean()
