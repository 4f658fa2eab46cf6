"""MIX'EM loss (iii): images of a component close together, components far apart."""

import torch
import torch.nn.functional as F

from mixem.distributed import total
from mixem.errors import InputError
from mixem.losses.checks import require_matrix, require_probabilities
from mixem.losses.precision import full_precision, length

__all__ = ["associative_embedding"]


def associative_embedding(z: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pull the images of each component together and push the components apart.

    An image belongs to its dominant component (hard argmax of ``p``, no gradient). To every
    component one zero vector is added, so that an empty component has mean 0 and a component of
    n images the mean of n + 1 vectors (official code, ``train.py``, ``w_pull`` and ``w_push``)::

        mu_c = sum of z in c / (n_c + 1)
        pull =  mean over c of [(sum over z in c of |z - mu_c|) + |mu_c|] / (n_c + 1)
        push = -mean over c != c' of |mu_c - mu_c'|

    Args:
        z: Mixed embeddings of one view, ``(B, d)``, not normalised (their length is at most 1).
        p: Mixing coefficients of the same view, ``(B, M)``; probabilities, not logits. They
            receive no gradient. A row with NaN belongs to the component of its first NaN.

    Returns:
        ``(pull, push)``, two scalars, unweighted, for one view (MIX'EM adds the two views with
        weights 0.1 and 0.05). For rows of length at most 1: pull from 0 to 2, push from
        -sqrt(2M / (M - 1)) to 0. With M = 1 push is 0.

    Raises:
        InputError: If z and p do not have one row for each of the same images, or p (on a CPU)
            holds no probabilities.

    A difference of length 0 has derivatives 0, the first as the second. Cost is linear in B.
    """
    require_matrix("z", z)
    require_matrix("p", p)
    if len(z) != len(p):
        raise InputError(f"z has {len(z)} rows and p {len(p)}; give one row of each per image")
    require_probabilities("p", p)
    with torch.autocast(z.device.type, enabled=False):
        z = full_precision(z)
        components = p.shape[1]
        dominant = p.detach().argmax(1)
        member = F.one_hot(dominant, components).to(z.dtype)  # (B, M)
        size = total(member.sum(0)) + 1  # the images and the zero vector
        mu = total(member.T @ z) / size[:, None]  # (M, d)

        gaps = mu[:, None] - mu[None]  # (M, M, d)
        lengths = length(torch.cat([z - member @ mu, mu, gaps.flatten(0, 1)]))[:, 0]
        spread, away, gap = lengths.split([len(z), components, components**2])
        pull = ((total(member.T @ spread) + away) / size).mean()
        push = -gap.sum() / max(components * (components - 1), 1)
        return pull, push
