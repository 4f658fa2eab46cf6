"""The swapped prediction of SwAV: one view's code, foretold from another view."""

from typing import Any

import torch

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
    at temperature 0.1 never reach. The codes that a view has to foretell are summed first, for
    the cross-entropy is linear in them: V terms for up to V (V - 1). Has no second derivative.
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
        codes = [
            sinkhorn(view, epsilon=epsilon, iterations=iterations) for view in scores[:targets]
        ]
        if not torch.is_grad_enabled():  # which a Function would not see
            scores = scores.detach()
        return _Swapped.apply(scores, codes, temperature)


class _Swapped(torch.autograd.Function):
    """The mean of the terms, given the codes.

    What a view is asked for has rows of the same mass m, so that its terms are
    m ln sum_j exp(x_j) - sum_j asked_j x_j and their gradient m softmax(x) - asked, where
    x = scores / temperature. Both need the same exponentials: finding the gradient on the way
    forward saves autograd's second pass over them.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: torch.Tensor, codes: list[torch.Tensor], temperature: float
    ) -> torch.Tensor:
        """The loss of scores ``(V, B, K)`` with the codes ``(B, K)`` of the first views."""
        views, images, _ = scores.shape
        terms = len(codes) * (views - 1) * images
        total = torch.stack(codes).sum(0)
        loss = scores.new_zeros(())
        downhill = torch.empty_like(scores) if ctx.needs_input_grad[0] else None
        for index, view in enumerate(scores):
            own = index < len(codes)
            asked, mass = (total - codes[index] if own else total), len(codes) - own
            # Below 0, so that no sum cancels. A division takes longer than a product.
            x = (view - view.amax(1, keepdim=True)).mul_(1 / temperature)
            loss.sub_(torch.dot(asked.flatten(), x.flatten()))
            x.exp_()
            whole = x.sum(1, keepdim=True)
            loss.add_(whole.log().sum(), alpha=mass)
            if downhill is not None:
                torch.addcmul(asked, x, whole.reciprocal(), value=-mass, out=downhill[index])
        if downhill is not None:
            ctx.save_for_backward(downhill)
            ctx.scale = -1 / (terms * temperature)
        return loss.div_(terms)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient by the scores, which has none itself."""
        if torch.is_grad_enabled():
            raise InputError("swapped_prediction has no second derivative; leave off create_graph")
        (downhill,) = ctx.saved_tensors
        return downhill * (gradient * ctx.scale), None, None
