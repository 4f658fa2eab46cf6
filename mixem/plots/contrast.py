"""Pictures of the contrastive loss: who is drawn to whom, and how hard."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle

from mixem.errors import InputError
from mixem.losses import nt_xent
from mixem.plots.style import GREY, INK, NARROW, PALETTE, Figure, new_figure, styled

ARROW: Any = {"angles": "xy", "scale_units": "xy", "scale": 1, "zorder": 3}


def partner_probabilities(
    z1: torch.Tensor, z2: torch.Tensor, *, temperature: float = 0.5
) -> torch.Tensor:
    """The probability with which each view picks each other view as its partner.

    Args:
        z1: Embeddings ``(B, d)`` of the first views.
        z2: Embeddings ``(B, d)`` of the second views.
        temperature: Of NT-Xent.

    Returns:
        ``(2B, 2B)``, the first views before the second, 0 on the diagonal. The mean of
        -ln(probability of the partner) is ``nt_xent``.
    """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    similarity = z @ z.T / temperature
    return similarity.fill_diagonal_(-torch.inf).softmax(1)


@styled
def partner_picture(
    z1: torch.Tensor, z2: torch.Tensor, *, names: Sequence[str], temperature: float = 0.5
) -> Figure:
    """Views on the unit circle with the forces of NT-Xent, and the probabilities of a partner.

    Left, each arrow is the downhill direction of the loss, the negative gradient. Right, each row
    is a view that picks; its partner is outlined.

    Args:
        z1: First views ``(B, 2)``.
        z2: Second views ``(B, 2)``.
        names: Of the 2B views, the first before the second.
        temperature: Of NT-Xent.
    """
    count = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1).requires_grad_()
    nt_xent(*z.chunk(2), temperature=temperature).backward()
    assert z.grad is not None
    force, place = -z.grad.numpy(), z.detach().numpy()
    colours = [PALETTE[image % len(PALETTE)] for image in range(count)] * 2
    p = partner_probabilities(z1, z2, temperature=temperature).numpy()

    figure, (circle, matrix) = new_figure(1, 2, height=3.3, width=NARROW)
    angle = np.linspace(0, 2 * np.pi, 200)
    circle.plot(np.cos(angle), np.sin(angle), color="#cccccc", linewidth=1)
    circle.scatter(*place.T, s=36, color=colours, zorder=4)
    circle.quiver(*place.T, *force.T, color=colours, width=0.013, **ARROW)
    for name, point in zip(names, place, strict=True):
        circle.annotate(name, 0.8 * point, ha="center", va="center")
    circle.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
    circle.spines[:].set_visible(False)
    circle.set_title("downhill directions")

    matrix.imshow(p, cmap="Greys", vmin=0, vmax=1)
    for row in range(2 * count):
        for column in range(2 * count):
            if row != column:
                value = p[row, column]
                colour = "white" if value > 0.5 else INK
                matrix.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
        partner = (row + count) % (2 * count)
        outline = {"fill": False, "edgecolor": colours[row], "linewidth": 2.5}
        matrix.add_patch(Rectangle((partner - 0.46, row - 0.46), 0.92, 0.92, **outline))
    ticks = range(2 * count)
    matrix.set(xticks=ticks, yticks=ticks, xticklabels=names, yticklabels=names)
    matrix.set(title="probability of a partner", ylabel="view that picks", xlabel="view picked")
    return figure


@styled
def temperature_weights(temperatures: Sequence[float], *, chosen: float | None = None) -> Figure:
    """How hard a negative is pushed away, by its cosine to the anchor, for several temperatures.

    The push on a negative is proportional to its probability, exp(cosine / temperature); it is
    shown relative to that of a negative equal to the anchor.

    Args:
        temperatures: Positive numbers.
        chosen: One of them, to draw heavier.

    Raises:
        InputError: If a temperature is not positive.
    """
    if not all(t > 0 for t in temperatures):
        raise InputError(f"temperatures are {list(temperatures)}; give positive numbers")
    figure, axis = new_figure(height=2.7, width=NARROW)
    cosine = np.linspace(-1, 1, 201)
    for temperature, colour in zip(temperatures, PALETTE, strict=False):
        axis.plot(
            cosine,
            np.exp((cosine - 1) / temperature),
            color=colour,
            linewidth=3 if temperature == chosen else 1.6,
            label=f"{temperature:g}",
        )
    axis.set(xlabel="cosine of a negative and the anchor", ylabel="relative push", xlim=(-1, 1))
    axis.set_ylim(0, 1.02)
    axis.legend(title="temperature")
    axis.axvline(0, color=GREY, linewidth=0.6)
    return figure
