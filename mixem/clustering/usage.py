"""How many clusters are used, and how evenly."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import entropy

from mixem.clustering.arrays import as_integers, require_whole
from mixem.errors import InputError

__all__ = ["ClusterUsage", "cluster_usage"]


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
        InputError: If a cluster number is outside 0..k-1, or k is no whole number from 1 on.
    """
    require_whole(k, "k", lowest=1)
    found = as_integers(clusters, "clusters", lowest=0)
    if found.max() >= k:
        raise InputError(
            f"clusters contain {found.max()} but k is {k}: the largest number is k - 1"
        )
    sizes = np.bincount(found, minlength=k)
    return ClusterUsage(used=int((sizes > 0).sum()), entropy=float(entropy(sizes)))
