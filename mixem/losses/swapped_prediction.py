"""The swapped prediction of SwAV: one view's code, foretold from another view."""

import torch
import torch.nn.functional as F

from mixem.errors import InputError
from mixem.losses.checks import require_cosines, require_floats, require_temperature
from mixem.losses.precision import full_precision
from mixem.losses.sinkhorn import sinkhorn

__all__ = ["swapped_prediction"]


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
        scores: Cosines of V views of B images with K prototypes, ``(V, B, K)``, not divided by the
            temperature.
        temperature: Of the softmax, tau, 1e-30 to 1e30.
        epsilon: See :func:`mixem.losses.sinkhorn`.
        iterations: See :func:`mixem.losses.sinkhorn`.
        targets: How many views, from the first on, give codes; IMC-SwAV's two large ones.

    Returns:
        A scalar in nats, from 0 on. ln K when the network has collapsed. With cosines at most
        ln K + 2 / temperature.

    Raises:
        InputError: If the shape or a number does not fit, or scores (on a CPU, of the first view)
            are beyond 2 and thus no cosines.

    Differs from the official code (``model.py``): no probability is raised to 1e-17, which cosines
    at temperature 0.1 never reach. The codes that a view has to foretell are summed first, for
    the cross-entropy is linear in them: V terms for up to V (V - 1).
    """
    require_floats("scores", scores, ndim=(3,), expected="(views, images, prototypes)")
    require_cosines("scores", scores[0])  # a mistake is made for all views
    require_temperature(temperature)
    views = len(scores)
    if not (1 <= targets <= views and views >= 2):
        raise InputError(f"{targets} target views of {views}; give 1 to {views}, of at least two")
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
