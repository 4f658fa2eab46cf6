"""The mutual information of the clusters of neighbouring pixels, IIC's loss for segmentation."""

import math

import torch
from scipy.fft import next_fast_len

from mixem.distributed import total
from mixem.errors import InputError
from mixem.losses.checks import require_alike
from mixem.losses.iic import information
from mixem.losses.precision import full_precision


def iic_segmentation(
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    max_displacement: int,
    mask: torch.Tensor | None = None,
    lamb: float = 1.0,
    collapsed: bool = False,
) -> torch.Tensor:
    """Minus the information that a pixel's cluster has on that of a pixel a few steps away.

    The joint distribution of a displacement u counts which clusters meet at that distance, over
    all images i and all pixels v of which v and v + u are both inside::

        P_u = symmetrised, normalised  sum_iv x_i(v + u) y_i(v)^T
        loss = - mean over |u1|, |u2| <= max_displacement of  I(P_u)

    where I is that of :func:`mixem.losses.iic`, with lamb. Collapsed, there is one distribution P,
    the sum over all u before the normalisation, and loss = - I(P). A pixel without a displacement
    is an image of one pixel, so with 0 both are :func:`mixem.losses.iic` of all pixels.

    Three stripes that both views agree on are certain at distance 0, and less the further one
    looks::

        >>> stripes = torch.eye(3).repeat_interleave(4, 0)[None].mT  # (1, 3, 12)
        >>> x = stripes[..., None].expand(1, 3, 12, 12)
        >>> [round(iic_segmentation(x, x, max_displacement=t).item(), 4) for t in (0, 1, 2)]
        [-1.0986, -0.7449, -0.5634]

    Args:
        x: Cluster probabilities of the first view's pixels, ``(n, k, H, W)``, or
            ``(h, n, k, H, W)`` for h sub-heads; those of a pixel sum to one.
        y: Of the second view, same shape, mapped back into the first view's frame.
        max_displacement: T, the greatest distance along each axis, in pixels, from 0 on
            (official ``half_T_side_dense``); (2T + 1)^2 displacements.
        mask: ``(n, 1, H, W)``, 1 or True where a pixel counts, 0 or False where not.
        lamb: Weight of the marginal entropies; 1 is the mutual information.
        collapsed: One distribution for all displacements. The published models have one for each.

    Returns:
        A scalar, or ``(h,)``, in nats. With lamb = 1 in [-ln k, 0] up to rounding.

    Raises:
        InputError: If the shapes do not fit, the displacement is no whole number from 0 on, or
            lamb is negative or not finite.

    Time and memory, with A = H W and A' = (H + T) (W + T): collapsed n k A (H + W) + n k^2 A and
    n k A; else n k A' ln A' + n k^2 A' and (n k + k^2) A'. The published convolution takes
    n k^2 A T^2.

    Differs from the official code (``IID_losses.py`` of segmentation): a displacement without
    overlap under the mask, where that is 0/0, has information 0, and so has an empty mask; the
    normaliser of the collapsed form has a gradient, which a softmax takes away again; no value is
    waited for on the host.
    """
    _check(x, y, mask, max_displacement, lamb)
    with torch.autocast(x.device.type, enabled=False):
        x, y = full_precision(x), full_precision(y)
        if mask is not None:
            x, y = x * mask, y * mask
        joint = total((_met_within if collapsed else _met_at_each)(x, y, max_displacement))
        found = _information(joint, lamb)
        return -(found if collapsed else found.mean((-2, -1)))


def _met_within(x: torch.Tensor, y: torch.Tensor, most: int) -> torch.Tensor:
    """How often clusters meet within a distance, ``(..., k, k)``.

    The sum of x over a square about each pixel first, by two products with a matrix of ones near
    the diagonal, then one product over all pixels.
    """
    height, width = (torch.arange(side, device=x.device) for side in x.shape[-2:])
    rows, columns = (((i[:, None] - i).abs() <= most).to(x.dtype) for i in (height, width))
    return torch.einsum("...nahw,...nbhw->...ab", rows @ x @ columns, y)


def _met_at_each(x: torch.Tensor, y: torch.Tensor, most: int) -> torch.Tensor:
    """How often clusters meet at each displacement, ``(..., 2 T + 1, 2 T + 1, k, k)``.

    A correlation is a product at each frequency. The images are padded with zeros so that what
    leaves at one edge does not come in at the other. At displacements without overlap it is 0 but
    for the rounding of all others. All in real numbers: many small products of complex matrices
    are slow, and of the transform back only the displacements that are asked for are worked out.
    """
    height, width = (next_fast_len(side + most, real=True) for side in x.shape[-2:])
    x, y = (torch.fft.rfft2(z, (height, width)).movedim((-4, -3), (-2, -1)) for z in (x, y))
    left = torch.cat([x.real, x.imag], -2).mT  # (..., height, width / 2 + 1, k, 2 n)
    real = left @ torch.cat([y.real, y.imag], -2)  # of x times the conjugate of y
    imaginary = left @ torch.cat([-y.imag, y.real], -2)

    rows = _waves(most, height, height, like=real)
    cosines, sines = (rows @ real.flatten(-3)).chunk(2, -2)
    others, minus = (rows @ imaginary.flatten(-3)).chunk(2, -2)
    shape = (-1, x.shape[-1] ** 2)
    real = (cosines - minus).unflatten(-1, shape)
    imaginary = (sines + others).unflatten(-1, shape)

    kept = x.shape[-3]  # the other frequencies along the width are the conjugates of these
    once = torch.arange(kept, device=x.device) * 2 % width == 0
    columns = _waves(most, width, kept, like=real) * (2 - once.to(real)) / (height * width)
    cosine, sine = columns.chunk(2)
    return (cosine @ real - sine @ imaginary).unflatten(-1, (x.shape[-1],) * 2)


def _waves(most: int, length: int, count: int, *, like: torch.Tensor) -> torch.Tensor:
    """Cosines, below them sines, of the displacements at the first ``count`` frequencies."""
    steps = torch.arange(-most, most + 1, device=like.device)
    turns = steps[:, None] * torch.arange(count, device=like.device) % length
    angles = turns.to(like) * (2 * math.pi / length)
    return torch.cat([angles.cos(), angles.sin()])


def _information(joint: torch.Tensor, lamb: float) -> torch.Tensor:
    """Mutual information of counts ``(..., k, k)``; 0 where fewer than half a pixel was counted."""
    count = joint.sum((-2, -1), keepdim=True)
    joint = (joint + joint.mT) / 2 / count.clamp_min(0.5)
    return information(joint, lamb) * (count >= 0.5)[..., 0, 0]


def _check(
    x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None, most: int, lamb: float
) -> None:
    shapes = "([sub-heads,] images, clusters, height, width)"
    require_alike({"x": x, "y": y}, ndim=(4, 5), expected=shapes)
    expected = (x.shape[-4], 1, *x.shape[-2:])
    if mask is not None and tuple(mask.shape) != expected:
        raise InputError(f"the mask has shape {tuple(mask.shape)}; give one of {expected}")
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise InputError(f"max_displacement is {most!r}; give a whole number from 0 on")
    if not 0 <= lamb < float("inf"):
        raise InputError(f"lamb is {lamb}; give a number from 0 on")
