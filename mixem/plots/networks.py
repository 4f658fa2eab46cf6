"""Diagrams of the networks: which part reads what, and where the losses act."""

from typing import Any

import torch
from matplotlib.colors import Normalize
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import FancyBboxPatch

from mixem.errors import InputError
from mixem.plots.style import GREY, INK, PALETTE, PIXELS, Figure, new_figure, picture, styled

NETWORK, VALUE, LOSS = "#dbe9f6", "#f3f3f3", "#fde3cf"  # backgrounds of the boxes


@styled
def simclr_network(image: torch.Tensor, views: torch.Tensor) -> Figure:
    """SimCLR: one image, two views, one network for both, and the loss that compares.

    Args:
        image: ``(C, H, W)``, uint8 or float in [0, 1].
        views: Two views of it, ``(2, C, H, W)``, in [0, 1].

    Raises:
        InputError: If there are not two views.
    """
    if len(views) != 2:
        raise InputError(f"there are {len(views)} views; give two")
    figure, axis = _canvas(height=2.7, top=4.6)
    _picture(axis, 0.7, 2.3, image)
    _box(axis, 9.55, 2.3, "NT-Xent", LOSS, width=1.0)
    for y, view, mark in ((3.6, views[0], ""), (1.0, views[1], "'")):
        _arrow(axis, (1.3, 2.3), (2.0, y))
        _picture(axis, 2.6, y, view)
        _arrow(axis, (3.2, y), (3.6, y))
        _box(axis, 4.4, y, "backbone", NETWORK, width=1.5)
        _arrow(axis, (5.15, y), (5.5, y))
        _box(axis, 5.8, y, f"h{mark}", VALUE, width=0.5)
        _arrow(axis, (6.05, y), (6.4, y))
        _box(axis, 6.95, y, "head", NETWORK, width=1.0)
        _arrow(axis, (7.45, y), (7.8, y))
        _box(axis, 8.1, y, f"z{mark}", VALUE, width=0.5)
        _arrow(axis, (8.35, y), (9.1, 2.3 + 0.35 * (y - 2.3)))
    for x in (4.4, 6.95):
        axis.plot([x, x], [1.5, 3.1], color=GREY, linestyle=":", linewidth=1.2)
        axis.text(
            x, 2.3, "same\nweights", ha="center", va="center", color=GREY, backgroundcolor="w"
        )
    axis.text(5.8, 0.2, "kept for clustering", ha="center", va="center", color=PALETTE[0])
    axis.text(8.1, 0.2, "for the loss", ha="center", va="center", color=PALETTE[3])
    return figure


@styled
def mixem_network(components: int) -> Figure:
    """MIX'EM on the features of one view: heads, gate, mixture, and which loss sees what.

    Args:
        components: Number M, at least 2.
    """
    if components < 2:
        raise InputError(f"components is {components}; give at least 2")
    figure, axis = _canvas(height=4.0, top=6.9)
    _box(axis, 0.7, 3.9, "view", VALUE, width=0.9)
    _arrow(axis, (1.15, 3.9), (1.4, 3.9))
    _box(axis, 2.1, 3.9, "backbone", NETWORK, width=1.4)
    _arrow(axis, (2.8, 3.9), (3.05, 3.9))
    _box(axis, 3.3, 3.9, "h", VALUE, width=0.5)
    for y, index in ((6.2, "1"), (5.1, "2"), (3.3, str(components))):
        _arrow(axis, (3.55, 3.9), (3.95, y))
        _box(axis, 4.5, y, f"head {index}", NETWORK, width=1.1)
        _arrow(axis, (5.05, y), (5.35, y))
        _box(axis, 5.75, y, f"$e_{{{index}}}$", VALUE, width=0.7)
        _arrow(axis, (6.1, y), (6.75, 4.6 + 0.25 * (y - 4.6)))
    axis.text(4.5, 4.2, "⋮", ha="center", va="center")
    axis.text(5.75, 4.2, "⋮", ha="center", va="center")
    axis.text(5.75, 6.75, "length 1", ha="center", va="center", color=GREY)
    _arrow(axis, (3.55, 3.9), (3.95, 1.6))
    _box(axis, 4.5, 1.6, "gate", NETWORK, width=1.1)
    _arrow(axis, (5.05, 1.6), (5.35, 1.6))
    _box(axis, 5.75, 1.6, "p", VALUE, width=0.7)
    axis.text(4.5, 0.85, "softmax", ha="center", va="center", color=GREY)
    _arrow(axis, (6.0, 1.95), (6.95, 4.2))
    _box(axis, 7.15, 4.6, "$\\Sigma\\,p_m e_m$", NETWORK, width=1.2)
    _arrow(axis, (7.75, 4.6), (7.98, 4.6))
    _box(axis, 8.23, 4.6, "z", VALUE, width=0.5)
    _box(axis, 9.35, 5.9, "NT-Xent", LOSS, width=1.25)
    _box(axis, 9.35, 3.5, "(iii)\npull, push", LOSS, width=1.25, height=1.0)
    _box(axis, 9.35, 2.05, "(ii)\nsure", LOSS, width=1.25, height=1.0)
    _box(axis, 9.35, 0.7, "(i)\neven use", LOSS, width=1.25, height=1.0)
    _arrow(axis, (8.48, 4.75), (8.73, 5.6))
    _arrow(axis, (8.48, 4.45), (8.73, 3.8))
    for y in (3.3, 1.95, 0.85):
        _arrow(axis, (6.1, 1.6), (8.7, y))
    return figure


def _canvas(*, height: float, top: float) -> tuple[Figure, Any]:
    figure, axis = new_figure(height=height)
    axis.set(xlim=(0, 10.1), ylim=(0, top), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return figure, axis


def _box(
    axis: Any, x: float, y: float, words: str, colour: str, *, width: float, height: float = 0.75
) -> None:
    """A box around ``(x, y)`` with words in it."""
    corner = x - width / 2, y - height / 2
    style = "round,pad=0,rounding_size=0.12"
    axis.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, edgecolor=GREY)
    )
    axis.text(x, y, words, ha="center", va="center")


def _arrow(axis: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": INK, "shrinkA": 0})


def _picture(axis: Any, x: float, y: float, image: torch.Tensor) -> None:
    pixels = picture(image)
    box = OffsetImage(
        pixels, zoom=44 / len(pixels), cmap=PIXELS, norm=Normalize(0, 1), interpolation="nearest"
    )
    axis.add_artist(AnnotationBbox(box, (x, y), pad=0.1, bboxprops={"edgecolor": GREY}))
