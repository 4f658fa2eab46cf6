"""SCAN's clustering loss: an image and its neighbour agree, and all clusters are used."""

import torch

from mixem.distributed import average
from mixem.losses.checks import require_alike
from mixem.losses.precision import entropy, full_precision


def neighbour_consistency(
    anchors: torch.Tensor, neighbours: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far images and their neighbours disagree, and the negative entropy of the batch's mean.

    With the softmax p_b of image b and q_b of one of its nearest neighbours (SCAN, equation 2;
    official ``SCANLoss``)::

        consistency = - 1/B sum_b ln <p_b, q_b>
        diversity   =   sum_c m_c ln m_c,   m = 1/B sum_b p_b

    SCAN minimises consistency + 5 diversity, of several heads the sum. Ten clusters of equal size,
    certain and the same in both::

        >>> logits = 100 * torch.eye(10)
        >>> consistency, diversity = neighbour_consistency(logits, logits)
        >>> round((consistency + 5 * diversity).item(), 4)  # - 5 ln 10
        -11.5129

    Args:
        anchors: Logits of the images, ``(B, k)``, or ``(h, B, k)`` for h heads.
        neighbours: Of their neighbours, same shape; row b belongs to row b of the anchors.

    Returns:
        ``(consistency, diversity)``, two scalars, or ``(h,)`` each, in nats. Consistency is from 0
        on, diversity from -ln k to 0. When all images are in one cluster both are 0; when all rows
        are uniform, which is stationary, they are ln k and -ln k.

    Raises:
        InputError: If the shapes do not fit.

    Differs from the official code: ln <p, q> is found from logarithms and has its true value and
    gradient where the product underflows; there it is cut off at -100, without gradient. The
    logarithm of a mean below 1e-8 is not cut off either, so that the loss of one cluster is 0 and
    not -1.7e-6 or so. The entropy is the anchors' only, as there.
    """
    expected = "logits (images, clusters) or (heads, images, clusters)"
    require_alike({"anchors": anchors, "neighbours": neighbours}, ndim=(2, 3), expected=expected)
    with torch.autocast(anchors.device.type, enabled=False):
        ln_p, ln_q = (full_precision(x).log_softmax(-1) for x in (anchors, neighbours))
        consistency = -(ln_p + ln_q).logsumexp(-1).mean(-1)
        return consistency, -entropy(average(ln_p.exp().mean(-2))).sum(-1)
