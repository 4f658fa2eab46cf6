"""Pictures of images: grids, and groups such as clusters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from mixem.errors import InputError
from mixem.plots.style import NARROW, PALETTE, PIXELS, Figure, literal, new_figure, picture, styled

CAPTION = 0.17  # inches
FRAME = "#bbbbbb"
MARK = PALETTE[3]


@styled
def picture_grid(
    images: torch.Tensor, captions: Sequence[str] | None = None, *, columns: int = 10
) -> Figure:
    """Images in rows, from left to right.

    Args:
        images: ``(N, C, H, W)``, uint8 or float in [0, 1].
        captions: One line above each image.
        columns: Images in a row.

    Raises:
        InputError: If there is no image, or not one caption an image.
    """
    if len(images) == 0:
        raise InputError("there is no image to draw; give at least one")
    if captions is not None and len(captions) != len(images):
        raise InputError(f"{len(images)} images but {len(captions)} captions; give one an image")
    rows = -(-len(images) // columns)
    side = NARROW / columns + (CAPTION if captions is not None else 0)
    figure, axes = new_figure(rows, columns, height=rows * side, squeeze=False, width=NARROW)
    for axis in axes.flat[len(images) :]:
        axis.set_visible(False)
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        show_image(axis, image)
        if captions is not None:
            axis.set_title(literal(captions[i]), pad=2)
    close_up(figure)
    return figure


@styled
def pictures_by_group(
    images: torch.Tensor,
    groups: ArrayLike | torch.Tensor,
    *,
    names: Sequence[str],
    marked: ArrayLike | torch.Tensor | None = None,
    columns: int = 10,
) -> Figure:
    """A row of images for each group, such as a cluster or a class, the first ones of each.

    Args:
        images: ``(N, C, H, W)``, uint8 or float in [0, 1].
        groups: ``(N,)`` integers, the row of each image; -1 leaves an image out.
        names: Of the rows, from the top. A row without an image stays empty.
        marked: ``(N,)`` booleans: these images get a thick coloured frame.
        columns: Most images in a row.

    Raises:
        InputError: If the lengths differ or a group has no name.
    """
    rows = np.asarray(groups)
    frames = np.zeros(len(images), bool) if marked is None else np.asarray(marked, bool)
    if not len(images) == len(rows) == len(frames):
        raise InputError(f"{len(images)} images, {len(rows)} groups and {len(frames)} marks")
    if len(rows) and rows.max() >= len(names):
        raise InputError(f"groups contain {rows.max()} but there are only {len(names)} names")
    height = len(names) * NARROW / (columns + 1)
    figure, axes = new_figure(len(names), columns, height=height, squeeze=False, width=NARROW)
    for group, (line, name) in enumerate(zip(axes, names, strict=True)):
        members = np.flatnonzero(rows == group)[:columns]
        for axis, i in zip(line, members, strict=False):
            show_image(axis, images[i])
            if frames[i]:
                axis.spines[:].set(linewidth=2.5, color=MARK)
        for axis in line[len(members) :]:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(literal(name), rotation=0, ha="right", va="center")
    close_up(figure)
    return figure


def show_image(axis: Any, image: Any) -> None:
    """Draws one image ``(C, H, W)`` in a thin frame without ticks, one channel as ink on paper."""
    axis.imshow(picture(image), cmap=PIXELS, vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=True, linewidth=0.5, color=FRAME)


def close_up(figure: Figure) -> None:
    """Puts little space between the pictures, the same in both directions."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
