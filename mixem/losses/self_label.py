"""SCAN's self-labelling: what the network is sure of is what it learns."""

import torch
import torch.nn.functional as F

from mixem.distributed import average, total
from mixem.errors import InputError
from mixem.losses.checks import require_alike
from mixem.losses.precision import full_precision


def self_label(
    logits: torch.Tensor,
    sources: torch.Tensor,
    *,
    threshold: float = 0.99,
    balanced: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of augmented images with the clusters that the plain images surely have.

    An image counts if the largest probability of its source is above the threshold, and its label
    is then that cluster (SCAN, section 2.3; official ``ConfidenceBasedCE``)::

        balanced: the mean over the clusters that occur of their images' mean cross-entropy
        else:     the mean over the images that count

    Here the first image counts, the second does not, and the loss is ln(1 + 1/e)::

        >>> sources = torch.tensor([[9.0, 0.0], [1.0, 0.0]])
        >>> loss, kept = self_label(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), sources)
        >>> round(loss.item(), 4), kept.item()
        (0.3133, 0.5)

    Args:
        logits: Of strongly augmented images, ``(B, k)``, or ``(h, B, k)`` for h heads.
        sources: Logits of the same images without augmentation, same shape; get no gradient.
        threshold: From 0 to below 1.
        balanced: Give every cluster that occurs the same weight; SCAN does on CIFAR and STL-10.

    Returns:
        ``(loss, kept)``, two scalars, or ``(h,)`` each. The loss is from 0 on, in nats; 0, with
        gradient 0, when no image counts. All images surely in one cluster have loss 0 as well:
        nothing here holds clusters apart. ``kept`` is the share of the images that count, in
        [0, 1]; SCAN stops when it no longer grows.

    Raises:
        InputError: If the shapes or the threshold do not fit.

    Differs from the official code: without an image that counts, that raises an error and ends the
    training.
    """
    expected = "(images, clusters) or (heads, images, clusters)"
    require_alike({"logits": logits, "sources": sources}, ndim=(2, 3), expected=expected)
    if not 0 <= threshold < 1:
        raise InputError(f"threshold is {threshold}; give a number from 0 to below 1")
    with torch.autocast(logits.device.type, enabled=False):
        ln_p = full_precision(logits).log_softmax(-1)
        sure, label = full_precision(sources.detach()).softmax(-1).max(-1)  # ([h,] B)
        counts = (sure > threshold).to(ln_p.dtype)
        member = F.one_hot(label, ln_p.shape[-1]) * counts.unsqueeze(-1)  # ([h,] B, k)
        errors = total(-(ln_p * member).sum(-2))  # ([h,] k)
        images = total(member.sum(-2))
        kept = average(counts.mean(-1))
        if balanced:
            occur = (images > 0).sum(-1).clamp_min(1)
            return (errors / images.clamp_min(1)).sum(-1) / occur, kept
        return errors.sum(-1) / images.sum(-1).clamp_min(1), kept
