"""MIX'EM loss (ii): each image belongs to one component."""

import torch

from mixem.losses.checks import require_matrix, require_probabilities
from mixem.losses.precision import entropy, full_precision

__all__ = ["instance_confidence", "instance_entropy"]


def instance_confidence(p: torch.Tensor) -> torch.Tensor:
    """Mean distance of the largest mixing coefficient from one, mean(1 - max p).

    This is what MIX'EM's official code minimises (``train.py``, ``pimax_loss_w``, weight 0.1 and
    sum over the two views); the abstract speaks of the entropy given the image, which is
    :func:`instance_entropy`.

        >>> round(instance_confidence(torch.tensor([[0.5, 0.5], [0.9, 0.1]])).item(), 4)
        0.3

    Args:
        p: Mixing coefficients of one view, ``(B, M)``; probabilities, not logits: each row sums
            to one.

    Returns:
        A scalar from 0 (every image wholly in one component) to 1 - 1/M (uniform rows). Only the
        largest coefficient of a row receives gradient; of equal ones, the first.

    Raises:
        InputError: If p is no matrix or (on a CPU) holds no probabilities.
    """
    require_matrix("p", p)
    require_probabilities("p", p)
    with torch.autocast(p.device.type, enabled=False):
        return (1 - full_precision(p).max(dim=1).values).mean()


def instance_entropy(p: torch.Tensor) -> torch.Tensor:
    """Mean entropy of the mixing coefficients given the image, mean(-sum p ln p) (nats).

    What MIX'EM's abstract describes as loss (ii). The official code uses
    :func:`instance_confidence` instead.

        >>> round(instance_entropy(torch.full((3, 4), 0.25)).item(), 4)  # ln 4
        1.3863

    Args:
        p: Mixing coefficients of one view, ``(B, M)``; probabilities, not logits: each row sums
            to one.

    Returns:
        A scalar from 0 (every image wholly in one component) to ln M (uniform rows).

    Raises:
        InputError: If p is no matrix or (on a CPU) holds no probabilities.
    """
    require_matrix("p", p)
    require_probabilities("p", p)
    with torch.autocast(p.device.type, enabled=False):
        return entropy(full_precision(p)).sum(1).mean()
