"""The swapped prediction of SwAV: one view's code, foretold from another view."""

import torch
import torch.nn.functional as F

from mixem.errors import InputError
from mixem.losses.precision import full_precision
from mixem.losses.sinkhorn import sinkhorn


def swapped_prediction(
    scores: torch.Tensor,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    targets: int = 2,
) -> torch.Tensor:
    """Cross-entropy between the codes of the first views and what all other views predict.

    For each target view i and each view v other than i, the mean over the images of
    - sum_j q_j^i ln softmax(scores^v / temperature)_j, where q^i is the view's code from
    :func:`mixem.losses.sinkhorn`; then the mean of these terms (SwAV; IMC-SwAV, equation 1)::

        >>> same = torch.zeros(2, 4, 10)  # all images alike: collapse
        >>> round(swapped_prediction(same).item(), 4)  # ln 10
        2.3026

    Args:
        scores: Of V views of B images for K prototypes, ``(V, B, K)``; cosines in IMC-SwAV.
        temperature: Of the softmax, tau.
        epsilon: See :func:`mixem.losses.sinkhorn`.
        iterations: See :func:`mixem.losses.sinkhorn`.
        targets: How many views, from the first on, give codes; IMC-SwAV's two large ones.

    Returns:
        A scalar in nats, from 0 on. ln K when the network has collapsed. With cosines at most
        ln K + 2 / temperature.

    Raises:
        InputError: If the shape or a number does not fit.

    Differs from the official code (``model.py``): no probability is raised to 1e-17, which cosines
    at temperature 0.1 never reach. The codes that a view has to foretell
    are summed first, for the cross-entropy is linear in them: V terms for up to V (V - 1).
    """
    if scores.ndim != 3 or 0 in scores.shape or not scores.is_floating_point():
        raise InputError(
            f"scores have shape {tuple(scores.shape)} and type {scores.dtype}; "
            "expected floating-point numbers, (views, images, prototypes)"
        )
    views = len(scores)
    if not (1 <= targets <= views and views >= 2):
        raise InputError(f"{targets} target views of {views}; give 1 to {views}, of at least two")
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature is {temperature}; give a positive number")
    with torch.autocast(scores.device.type, enabled=False):
        scores = full_precision(scores)
        codes = torch.stack(
            [sinkhorn(view, epsilon=epsilon, iterations=iterations) for view in scores[:targets]]
        )
        total = codes.sum(0)
        asked = [*(total - codes), *[total] * (views - targets)]  # of a view: all codes but its own
        terms = [
            F.cross_entropy(view * (1 / temperature), code)  # a division takes longer
            for view, code in zip(scores.unbind(), asked, strict=True)
        ]
        return torch.stack(terms).sum() / (targets * (views - 1))
