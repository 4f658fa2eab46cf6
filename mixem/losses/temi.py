"""TEMI's loss: weighted pointwise mutual information between a picture and its neighbour."""

import torch

from mixem.distributed import average
from mixem.errors import InputError
from mixem.losses.checks import require_alike, require_floats, require_temperature
from mixem.losses.precision import full_precision


def temi(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    marginal: torch.Tensor,
    beta: float = 0.6,
    temperature: float = 0.1,
    momentum: float = 0.9,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minus the weighted pointwise mutual information of pairs, and the new running marginal.

    With the softmax s of the student's and t of the teacher's logits / temperature, the running
    marginal pi of the teacher and a pair x, x' (TEMI; official ``multihead_losses.py``)::

        pmi_h(a, b) = ln sum_c (s_hc(a) t_hc(b))^beta / pi_hc
        w = mean over the heads of sum_c t_hc(x) t_hc(x')
        loss_h = - mean over the pairs of w (pmi_h(x, x') + pmi_h(x', x)) / 2

    pi becomes momentum pi + (1 - momentum) (mean of t over this batch) before it is used. Start
    it at 1/k. TEMI minimises the mean over the heads. Ten certain clusters of equal size::

        >>> logits = 10 * torch.eye(10).repeat(2, 1, 1)
        >>> loss, marginal = temi(logits, logits, marginal=torch.full((10,), 0.1))
        >>> round(loss.item(), 4)  # -ln 10
        -2.3026

    Args:
        student: Logits of the two sides of B pairs, ``(2, B, k)``, or ``(2, h, B, k)`` for h
            heads.
        teacher: Of the same pictures by the teacher, same shape; gets no gradient.
        marginal: Running mean of the teacher's probabilities, ``(k,)`` or ``(h, k)``, not below 0;
            rows sum to one.
        beta: From 0.5 to 1. At 1 a cluster that dies out is no longer seen, below it still is; at
            0.5 uniform rows have as much pmi as certain ones.
        temperature: Of both softmaxes, as in the official code; 1e-30 to 1e30.
        momentum: Of the marginal, in [0, 1).

    Returns:
        ``(loss, marginal)``: a scalar or ``(h,)``, in nats, and the new marginal without gradient.
        Certain, equal and balanced clusters reach -ln k. When all are in one cluster the loss
        goes to 0; when all rows are uniform, which is stationary, it is -(2 - 2 beta) (ln k) / k.

    Raises:
        InputError: If the shapes or a number do not fit.

    Differs from the official code: the sum is found from logarithms, so that views that are
    certain of different clusters have a finite loss and gradient (there, in float32, NaN or
    infinity from logits 10 apart on); all heads are one batch, and one head is allowed.
    """
    expected = "logits (2, [heads,] pairs, clusters)"
    require_alike({"student": student, "teacher": teacher}, ndim=(3, 4), expected=expected)
    require_floats("marginal", marginal, ndim=(1, 2), expected="([heads,] clusters)")
    shape = tuple(student.shape)
    if shape[0] != 2 or tuple(marginal.shape) != (*shape[1:-2], shape[-1]):
        raise InputError(
            f"student of shape {shape} and marginal of {tuple(marginal.shape)}; give {expected} "
            "and ([heads,] clusters)"
        )
    if not 0.5 <= beta <= 1:
        raise InputError(f"beta is {beta}; give a number from 0.5 to 1")
    require_temperature(temperature)
    if not 0 <= momentum < 1:
        raise InputError(f"momentum is {momentum}; give a number from 0 to below 1")
    with torch.autocast(student.device.type, enabled=False):
        ln_s = (full_precision(student) / temperature).log_softmax(-1)
        ln_t = (full_precision(teacher.detach()) / temperature).log_softmax(-1)
        t = ln_t.exp()
        batch = average(t.mean((0, -2)))  # ([h,] k)
        marginal = momentum * full_precision(marginal.detach()) + (1 - momentum) * batch
        ln_pi = marginal.clamp_min(torch.finfo(marginal.dtype).tiny).log().unsqueeze(-2)
        # Both directions at once: the student's sides against the teacher's in the other order.
        pmi = (beta * (ln_s + ln_t.flip(0)) - ln_pi).logsumexp(-1)  # (2, [h,] B)
        weight = (t[0] * t[1]).sum(-1)  # ([h,] B)
        weight = weight.mean(0) if weight.ndim == 2 else weight  # one of all heads
        return -(weight * pmi).mean((0, -1)), marginal
