"""Sinkhorn's algorithm, which shares the images of a batch out among the prototypes."""

import torch

from mixem.errors import InputError
from mixem.losses.precision import full_precision, require_matrix


@torch.no_grad()
def sinkhorn(scores: torch.Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> torch.Tensor:
    """Soft codes of a batch that use all prototypes about equally.

    The codes approach the plan that moves mass 1/B from each image to prototypes which take 1/K
    each, for the greatest sum of scores plus epsilon times entropy (SwAV; IMC-SwAV, equations 3
    and 4). An iteration scales the columns of exp(scores / epsilon) to 1/K, then its rows to 1/B::

        >>> q = sinkhorn(torch.tensor([[0.9, 0.1], [0.5, 0.4], [-0.2, 0.3]]))
        >>> [round(mass, 2) for mass in q.sum(0).tolist()]  # 1.5 each after more iterations
        [1.0, 2.0]

    Args:
        scores: Of B images for K prototypes, ``(B, K)``; cosines in IMC-SwAV. ``-inf`` is allowed:
            this prototype is not for this image.
        epsilon: Weight of the entropy, above 0; small values give hard codes.
        iterations: At least 0, which gives the softmax of ``scores / epsilon``. 3 in SwAV, too few
            for equal masses.

    Returns:
        Codes ``(B, K)`` without gradient, float32 or better, in [0, 1]. Rows sum to one. Uniform
        for equal rows. A prototype that is ``-inf`` for all images gets nothing, an image that is
        for all prototypes is shared out evenly.

    Raises:
        InputError: If the shape does not fit, epsilon is not positive or iterations are negative.

    Differs from the official code (``utils.py``), whose exponentials overflow for epsilon below
    about 0.013: the greatest score of each prototype, then of each image, is taken off before.
    The first scaling makes that exact, and what remains has a 1 in each row and column.
    """
    require_matrix("scores", scores)
    if not 0 < epsilon < float("inf"):
        raise InputError(f"epsilon is {epsilon}; give a positive number")
    if iterations < 0:
        raise InputError(f"{iterations} iterations; give at least 0")
    with torch.autocast(scores.device.type, enabled=False):
        scores = full_precision(scores)
        if iterations == 0:
            return scores.div(epsilon).softmax(1).nan_to_num(1 / scores.shape[1])
        matrix = scores - _finite(scores.amax(0, keepdim=True))
        largest = _finite(matrix.amax(1, keepdim=True))
        matrix = matrix.sub_(largest).div_(epsilon).exp_()
        row = largest.div(epsilon).exp_().squeeze(1)  # (B,), undoes the subtraction
        for _ in range(iterations):
            column = _inverse(row @ matrix)
            row = _inverse(matrix @ column).mul_(scores.shape[1] / len(scores))
        codes = matrix.mul_(column)
        mass = codes.sum(1, keepdim=True)
        return torch.where(mass > 0, codes / mass, 1 / scores.shape[1])


def _finite(x: torch.Tensor) -> torch.Tensor:
    return x.masked_fill_(x == -torch.inf, 0)


def _inverse(mass: torch.Tensor) -> torch.Tensor:
    """1 / mass, and 0 where there is none.

    Where no scaling can make the masses equal, the factors would grow without end.
    """
    return torch.where(mass > 0, mass.reciprocal().clamp(1e-30, 1e30), 0)
