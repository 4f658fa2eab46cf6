"""Sinkhorn's algorithm, which shares the images of a batch out among the prototypes."""

import torch

from mixem.distributed import largest, total
from mixem.errors import InputError
from mixem.losses.checks import require_matrix
from mixem.losses.precision import full_precision

__all__ = ["sinkhorn"]

TINY = 1e-30  # bounds the factors where there is no mass, or no scaling makes the masses equal


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
        epsilon: Weight of the entropy, 1e-30 to 1e30; small values give hard codes.
        iterations: At least 0, which gives the softmax of ``scores / epsilon``. 3 in SwAV, too few
            for equal masses.

    Returns:
        Codes ``(B, K)`` without gradient, float32 or better, in [0, 1]. Rows sum to one. Uniform
        for equal rows. A prototype that is ``-inf`` for all images gets nothing, an image that is
        for all prototypes is shared out evenly. NaN stays NaN.

    Raises:
        InputError: If the shape does not fit, epsilon is out of range or iterations are negative.

    Differs from the official code (``utils.py``), whose exponentials overflow for epsilon below
    about 0.013: the greatest score of each prototype, then of each image, is taken off before.
    The first scaling makes that exact, and what remains has a 1 in each row and column. A score
    that is still 100 epsilon lower counts as ``-inf``, which only hundreds of iterations show.
    """
    require_matrix("scores", scores)
    if not 1e-30 <= epsilon <= 1e30:
        raise InputError(f"epsilon is {epsilon}; give a positive number, 1e-30 to 1e30")
    if iterations < 0:
        raise InputError(f"{iterations} iterations; give at least 0")
    with torch.autocast(scores.device.type, enabled=False):
        scores = full_precision(scores)
        images, prototypes = scores.shape
        lowest = torch.finfo(scores.dtype).min  # instead of -inf, for -inf + inf is NaN
        matrix = (
            scores - largest(scores.amax(0)).clamp_min(lowest) if iterations else scores.clone()
        )
        offset = matrix.amax(1).clamp_min(lowest)
        # Products with reciprocals: dividing a matrix takes three times as long.
        matrix.sub_(offset[:, None]).mul_(1 / epsilon).exp_()
        row = offset.mul(1 / epsilon).exp()  # (B,), undoes the subtraction
        column = scores.new_ones(prototypes)
        tiny = scores.new_full((), TINY)  # new_tensor would wait for a GPU
        for _ in range(iterations):  # 1 a prototype and K/B an image: a common factor cancels
            column = total(torch.addmv(tiny, matrix.T, row)).reciprocal()
            row = torch.addmv(tiny, matrix, column, alpha=images / prototypes).reciprocal()
        codes = matrix.mul_(column)
        mass = codes.sum(1, keepdim=True)
        nowhere = 1 - mass.sign()
        return codes.add_(nowhere / prototypes).mul_(1 / (mass + nowhere))
