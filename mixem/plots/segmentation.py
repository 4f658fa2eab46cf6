"""Pictures of segmentations: maps beside what they should be, and what each displacement tells."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from mixem.errors import InputError
from mixem.plots.images import close_up, show_image
from mixem.plots.style import NARROW, SEQUENTIAL, Figure, class_colours, new_figure, styled

NOBODY_SAYS = "#d9d9d9"  # a pixel whose class is not known


@styled
def map_rows(
    images: torch.Tensor,
    rows: Mapping[str, ArrayLike | torch.Tensor],
    *,
    classes: Sequence[str],
) -> Figure:
    """Images side by side, and below each its maps, a row of them for each name.

    Args:
        images: ``(N, C, H, W)``, uint8 or float in [0, 1].
        rows: By name, the class of each pixel, ``(N, H, W)``; what is no class is drawn grey.
        classes: Names of the classes, for the colours and their key.

    Raises:
        InputError: If the maps do not fit the images.
    """
    maps = {name: np.asarray(some) for name, some in rows.items()}
    shape = (len(images), *images.shape[2:])
    for name, some in maps.items():
        if some.shape != shape:
            raise InputError(f"the maps {name!r} have shape {some.shape}; give one of {shape}")
    colours = class_colours(len(classes))
    palette = ListedColormap([*colours, NOBODY_SAYS])
    count = len(images)
    side = NARROW / count
    height = side * (1 + len(maps)) * images.shape[2] / images.shape[3] + 0.5
    figure, axes = new_figure(1 + len(maps), count, height=height, squeeze=False, width=NARROW)
    for axis, image in zip(axes[0], images, strict=True):
        show_image(axis, image)
    for row, (name, some) in zip(axes[1:], maps.items(), strict=True):
        known = np.where((some >= 0) & (some < len(classes)), some, len(classes))
        for axis, one in zip(row, known, strict=True):
            axis.imshow(one, cmap=palette, vmin=0, vmax=len(classes), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(name)
    axes[0, 0].set_ylabel("image")
    handles = [
        Patch(color=colour, label=name) for colour, name in zip(colours, classes, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
    close_up(figure)
    return figure


@styled
def displacement_table(information: ArrayLike | torch.Tensor) -> Figure:
    """How much a pixel's cluster tells of that of a pixel at each displacement.

    Args:
        information: ``(2 T + 1, 2 T + 1)`` in nats, no displacement in the middle.

    Raises:
        InputError: If the table is not square with an odd side.
    """
    table: NDArray[np.float64] = np.asarray(information, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or table.shape[0] % 2 == 0:
        raise InputError(f"a table of shape {table.shape}; give a square one with an odd side")
    most = len(table) // 2
    figure, axis = new_figure(height=3.6, width=NARROW)
    shown = axis.imshow(
        table, cmap=matplotlib.colormaps[SEQUENTIAL], extent=(-most - 0.5, most + 0.5) * 2
    )
    axis.set(xlabel="pixels to the right", ylabel="pixels up")
    axis.locator_params(integer=True, nbins=5)
    figure.colorbar(shown, ax=axis, label="information in nats")
    return figure
