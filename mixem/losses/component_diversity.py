"""MIX'EM loss (i): the batch as a whole uses all components."""

import torch

from mixem.distributed import average
from mixem.losses.checks import require_matrix, require_probabilities
from mixem.losses.precision import entropy, full_precision

__all__ = ["component_diversity"]


def component_diversity(p: torch.Tensor) -> torch.Tensor:
    """Negative entropy of the batch's mean mixing coefficients, sum of p̄ ln p̄ (nats).

    MIX'EM, loss (i), "entropy of components"; the official code weighs it with 2 and sums it
    over the two views (``train.py``, ``w_entropy``).

        >>> round(component_diversity(torch.eye(4)).item(), 4)  # every component used: -ln 4
        -1.3863

    Args:
        p: Mixing coefficients of one view, ``(B, M)``; probabilities, not logits: each row sums
            to one.

    Returns:
        A scalar from -ln M (all components used equally) to 0 (one component takes the batch).

    Raises:
        InputError: If p is no matrix or (on a CPU) holds no probabilities.

    Differs from the official code: a component whose mean has underflowed to 0 contributes 0;
    there it gives NaN (logits 104 apart in float32).
    """
    require_matrix("p", p)
    require_probabilities("p", p)
    with torch.autocast(p.device.type, enabled=False):
        return -entropy(average(full_precision(p).mean(0))).sum()
