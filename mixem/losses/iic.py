"""The mutual information of paired cluster assignments, the objective of IIC."""

import sys

import torch

from mixem.distributed import total
from mixem.errors import InputError
from mixem.losses.checks import require_alike, require_probabilities
from mixem.losses.precision import full_precision

__all__ = ["iic", "information", "joint_distribution"]

EPS = sys.float_info.epsilon  # 2.2e-16, as in the official code; too small for float16


def iic(p: torch.Tensor, q: torch.Tensor, *, lamb: float = 1.0) -> torch.Tensor:
    """Minus the mutual information between the clusters of two views, as IIC has it.

    With the joint distribution P of :func:`joint_distribution` and its marginal P_c::

        loss = - sum_cd P_cd (ln P_cd - lamb ln P_c - lamb ln P_d)

    which is H(P) - 2 lamb H(P_c). Ten clusters of equal size, certain and the same in both
    views, give the least value::

        >>> p = torch.eye(10)
        >>> round(iic(p, p).item(), 4)  # -ln 10
        -2.3026

    Args:
        p: Cluster probabilities of the first view, ``(n, k)``, or ``(h, n, k)`` for h sub-heads.
            Probabilities, not logits: rows sum to one.
        q: Of the second view, same shape; row i is the same image as row i of p.
        lamb: Weight of the marginal entropies; 1 is the mutual information (official ``lamb``).

    Returns:
        A scalar, or ``(h,)``, in nats. With lamb = 1 in [-ln k, 0] up to rounding: 0 when P is
        the product of its marginals, as with all images in one cluster or all rows uniform,
        which are both stationary. The least value is (1 - 2 lamb) ln k for lamb >= 1/2.

    Raises:
        InputError: If the shapes do not fit, p or q (on a CPU) hold no probabilities, or lamb is
            negative or not finite.

    Differs from the official code (``IID_losses.py``): all sub-heads in one batched product, in
    float32 at least, and PyTorch can differentiate it (the official assignment to expanded
    tensors raises today). Probabilities below 2.2e-16 are raised to it, as there, and get no
    gradient.
    """
    if not 0 <= lamb < float("inf"):
        raise InputError(f"lamb is {lamb}; give a number from 0 on")
    joint = joint_distribution(p, q)
    with torch.autocast(p.device.type, enabled=False):
        return -information(joint, lamb)


def information(joint: torch.Tensor, lamb: float) -> torch.Tensor:
    """The sum in :func:`iic` of symmetric distributions ``(..., k, k)``, ``(...)`` in nats."""
    marginal = joint.sum(-1).clamp_min(EPS).log()
    joint = joint.clamp_min(EPS)
    outer = marginal.unsqueeze(-1) + marginal.unsqueeze(-2)
    return (joint * (joint.log() - lamb * outer)).sum((-2, -1))


def joint_distribution(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """How often a pair of views falls into each pair of clusters.

    The mean of the outer products p_i q_i^T over the n images, symmetrised because the two views
    could change places (IIC; official ``compute_joint``).

    Args:
        p: See :func:`iic`.
        q: See :func:`iic`.

    Returns:
        ``(k, k)``, or ``(h, k, k)`` for h sub-heads; symmetric, sums to one.

    Raises:
        InputError: If the shapes do not fit, or p or q (on a CPU) hold no probabilities.
    """
    expected = "(images, clusters) or (sub-heads, images, clusters)"
    require_alike({"p": p, "q": q}, ndim=(2, 3), expected=expected)
    require_probabilities("p", p)
    require_probabilities("q", q)
    with torch.autocast(p.device.type, enabled=False):
        joint = total(full_precision(p).mT @ full_precision(q))
        joint = (joint + joint.mT) / 2
        return joint / joint.sum((-2, -1), keepdim=True)
