"""NT-Xent, the contrastive loss of SimCLR."""

import torch
import torch.nn.functional as F

from mixem.distributed import gather, rank
from mixem.losses.checks import require_alike, require_temperature
from mixem.losses.precision import full_precision, length

__all__ = ["nt_xent"]


def nt_xent(z1: torch.Tensor, z2: torch.Tensor, *, temperature: float = 0.5) -> torch.Tensor:
    """Normalised temperature-scaled cross-entropy over the 2B views of B images.

    Each view has to pick its partner among the 2B - 1 other views by cosine similarity
    (Chen et al. 2020, SimCLR, equation 1; MIX'EM uses it on its mixed embeddings)::

        >>> z = torch.eye(2)
        >>> round(nt_xent(z, z, temperature=1.0).item(), 4)  # ln(e + 1 + 1) - 1
        0.5514

    Args:
        z1: Embeddings of the first views, ``(B, d)``. Rows need not have unit length.
        z2: Embeddings of the second views, same shape; row b is the same image as row b of z1.
        temperature: Divides the cosines; 0.5 in MIX'EM's ``config.yaml``.

    Returns:
        Mean over the 2B views, a scalar. At least 0; ln(2B - 1) when all rows are equal; at most
        ln(2B - 1) + 2 / temperature. With B = 1 there is nothing to tell apart and it is 0.

    Raises:
        InputError: If the shapes differ or the temperature is not positive, 1e-30 to 1e30.

    Differs from the official code: any batch size, similarities as one matrix product in float32
    (the official code broadcasts to (2B, 2B, d)). A zero row has cosine 0 to everything. The
    gradient of a row grows with 1 / length, up to 1e8: rows in float16 that are shorter than about
    1e-4 may get an infinite one, those in bfloat16 or float32 do not.
    """
    require_alike({"z1": z1, "z2": z2}, ndim=(2,), expected="matrices with one row per image")
    require_temperature(temperature)
    count = len(z1)
    with torch.autocast(z1.device.type, enabled=False):
        z = full_precision(torch.cat([z1, z2]))
        z = z / length(z).clamp_min(1e-8) * temperature**-0.5  # (2B, d)
        first = rank() * 2 * count  # place of this process's views among those of all
        similarity = z @ gather(z).T  # (2B, 2B)
        similarity.diagonal(first).fill_(-torch.inf)  # no view is its own negative
        partner = torch.arange(first, first + 2 * count, device=z.device).roll(count)
        return F.cross_entropy(similarity, partner)
