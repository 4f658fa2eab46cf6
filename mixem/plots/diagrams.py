"""One picture for each of the three papers, drawn by us: views, network, heads, losses.

Narrower than the other figures, so that the words are readable on a phone. What a gradient does
not pass is crossed by a double bar.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from mixem.errors import InputError
from mixem.plots.style import GREY, INK, PALETTE, PIXELS, Figure, new_figure, picture, styled

WIDTH = 4.8  # inches; the sheets' coordinates are inches too, y from the top
LEARNS = "#dbe9f6"
OUTPUT = "#f4f4f4"
LOSS = "#fbe3d0"
STOP = PALETTE[3]
Point = tuple[float, float]


@styled
def iic_diagram(image: Any, views: Sequence[Any]) -> Figure:
    """IIC: two answers about one image, and the mutual information between them.

    Args:
        image: ``(C, H, W)``, uint8 or float in [0, 1].
        views: Two, a plain crop and a changed copy.

    Raises:
        InputError: If there are not two views.
    """
    require_views(views, 2)
    figure, sheet = new_sheet(6.75)
    add_picture(sheet, image, (2.4, 0.45), 0.8, "an image", side="right")
    for x, view, name, side in (
        (1.25, views[0], "plain\ncrop", "left"),
        (3.55, views[1], "changed\ncopy", "right"),
    ):
        add_picture(sheet, view, (x, 1.55), 0.8, name, side=side)
        add_arrow(sheet, (2.4, 0.88), (x, 1.1))
        add_arrow(sheet, (x, 2.0), (x, 2.3))
    add_box(sheet, (2.4, 2.55), 4.4, 0.46, "one network for both", LEARNS)
    for x, head, size, cells in (
        (1.25, "main head", "k clusters", 4),
        (3.55, "extra head", "more clusters", 8),
    ):
        add_arrow(sheet, (x, 2.8), (x, 3.06))
        add_box(sheet, (x, 3.37), 2.1, 0.6, f"{head}, 5 copies\nsoftmax over {size}", LEARNS)
        for shift, name in ((-0.55, "p"), (0.55, "p′")):
            add_arrow(sheet, (x + shift, 3.69), (x + shift, 3.92))
            add_bars(sheet, (x + shift, 4.15), cells, peak=1)
            add_text(sheet, (x + 0.2 * shift, 4.14), name)
            add_arrow(sheet, (x + shift, 4.4), (x + 0.5 * shift, 4.62))
        _table(sheet, (x, 5.05), 0.8, cells)
        add_arrow(sheet, (x, 5.47), (x, 5.7))
    add_text(sheet, (2.4, 4.93), "joint\ntable\nof p, p′")
    add_box(sheet, (2.4, 6.0), 4.4, 0.56, "maximise the mutual information\nof the table", LOSS)
    add_text(sheet, (2.4, 6.52), "the two heads take turns, a pass each", colour=GREY)
    return figure


@styled
def mixem_diagram(image: Any, views: Sequence[Any]) -> Figure:
    """MIX'EM: SimCLR's embedding becomes a mixture, with three losses on it.

    Args:
        image: ``(C, H, W)``, uint8 or float in [0, 1].
        views: Two.

    Raises:
        InputError: If there are not two views.
    """
    require_views(views, 2)
    figure, sheet = new_sheet(7.55)
    add_picture(sheet, image, (2.4, 0.45), 0.8, "an image", side="right")
    for x, view, name, side in (
        (1.25, views[0], "view 1", "left"),
        (3.55, views[1], "view 2", "right"),
    ):
        add_picture(sheet, view, (x, 1.55), 0.8, name, side=side)
        add_arrow(sheet, (2.4, 0.88), (x, 1.1))
        add_arrow(sheet, (x, 2.0), (x, 2.3))
    add_box(sheet, (2.4, 2.55), 4.4, 0.46, "one network, first trained with SimCLR", LEARNS)
    add_arrow(sheet, (3.75, 2.8), (3.75, 3.12))
    add_text(sheet, (2.95, 2.97), "features h")
    for x, name in ((0.5, "$e_1$"), (1.05, "$e_2$"), (2.2, "$e_M$")):
        add_arrow(sheet, (x, 2.8), (x, 3.12))
        add_box(sheet, (x, 3.37), 0.46, 0.46, name, LEARNS)
        add_arrow(sheet, (x, 3.62), (x, 4.13))
    add_text(sheet, (1.62, 3.37), "…")
    add_box(sheet, (3.75, 3.37), 1.7, 0.46, "gate, softmax", LEARNS)
    add_arrow(sheet, (3.75, 3.64), (3.75, 3.86))
    add_bars(sheet, (3.75, 4.1), 8, peak=2)
    add_text(sheet, (4.2, 3.95), "p")
    add_arrow(sheet, (3.35, 4.18), (2.68, 4.3))
    add_box(sheet, (1.35, 4.4), 2.6, 0.5, r"mix: $z = \sum_m p_m e_m$", OUTPUT)
    add_arrow(sheet, (0.7, 4.68), (0.7, 5.2))
    add_arrow(sheet, (2.0, 4.68), (2.0, 5.78), (2.0, 6.1))
    add_arrow(sheet, (3.75, 4.35), (3.75, 5.2))
    add_arrow(sheet, (3.1, 4.27), (3.1, 4.93), (2.3, 4.93), (2.3, 6.1), stop=(2.3, 5.85))
    add_text(sheet, (2.72, 5.06), "arg max p", size=9)
    add_box(sheet, (0.92, 5.5), 1.6, 0.56, "contrast\nthe two z alike", LOSS)
    add_box(sheet, (3.62, 5.5), 1.9, 0.56, "diversity\nall components used", LOSS)
    add_arrow(sheet, (4.1, 4.22), (4.66, 4.22), (4.66, 6.1))
    add_box(sheet, (3.78, 6.4), 1.94, 0.56, "confidence\none for an image", LOSS)
    add_box(sheet, (1.48, 6.4), 2.5, 0.56, "pull and push\ncomponents compact, apart", LOSS)
    add_text(
        sheet, (2.4, 7.0), "afterwards: k-means on h,\nstarted from the components", colour=GREY
    )
    _key(sheet, (0.9, 7.4))
    return figure


@styled
def imc_swav_diagram(image: Any, views: Sequence[Any]) -> Figure:
    """IMC-SwAV: crops predict each other's prototypes; a classifier learns from the prototypes.

    Args:
        image: ``(C, H, W)``, uint8 or float in [0, 1].
        views: Six, two large crops and four small ones.

    Raises:
        InputError: If there are not six views.
    """
    require_views(views, 6)
    figure, sheet = new_sheet(7.35)
    add_picture(sheet, image, (2.4, 0.45), 0.8, "an image", side="right")
    places = ((0.55, 0.7), (1.4, 0.7), (2.25, 0.5), (2.95, 0.5), (3.65, 0.5), (4.35, 0.5))
    for view, (x, size) in zip(views, places, strict=True):
        add_picture(sheet, view, (x, 1.6), size)
        add_arrow(sheet, (2.4, 0.88), (x, 1.56 - size / 2))
        add_arrow(sheet, (x, 1.64 + size / 2), (x, 2.4))
    add_text(sheet, (0.97, 2.17), "2 large", clear=True)
    add_text(sheet, (3.3, 2.17), "4 small crops", clear=True)
    add_box(sheet, (2.4, 2.65), 4.4, 0.46, "one network for all crops", LEARNS)
    add_arrow(sheet, (1.35, 2.9), (1.35, 3.42))
    add_arrow(sheet, (3.85, 2.9), (3.85, 3.42), stop=(3.85, 3.16))
    add_text(sheet, (2.55, 3.15), "features z")
    add_box(sheet, (1.35, 3.72), 2.3, 0.56, "projection, then\n1000 prototypes", LEARNS)
    add_box(sheet, (3.85, 3.72), 1.6, 0.56, "classifier\nk clusters", LEARNS)
    add_arrow(sheet, (0.65, 4.02), (0.65, 4.5), stop=(0.65, 4.26))
    add_arrow(sheet, (1.85, 4.02), (1.85, 4.5))
    add_box(sheet, (0.65, 4.8), 1.0, 0.56, "codes q\nSinkhorn", OUTPUT)
    add_box(sheet, (1.85, 4.8), 1.0, 0.56, "u\nsoftmax", OUTPUT)
    add_arrow(sheet, (3.85, 4.02), (3.85, 4.5))
    add_box(sheet, (3.85, 4.8), 1.0, 0.56, "y\nsoftmax", OUTPUT)
    add_arrow(sheet, (0.65, 5.1), (0.65, 5.55))
    add_arrow(sheet, (1.85, 5.1), (1.85, 5.55))
    add_arrow(sheet, (3.85, 5.1), (3.85, 5.55))
    add_arrow(sheet, (2.37, 4.8), (3.1, 4.8), (3.1, 5.55), stop=(2.72, 4.8))
    add_box(
        sheet,
        (1.25, 6.0),
        2.3,
        0.84,
        "swapped prediction\nq of a large crop from\nu of another crop",
        LOSS,
    )
    add_box(sheet, (3.65, 6.0), 2.1, 0.84, "information\ny tells of u,\nclusters are even", LOSS)
    add_text(sheet, (2.4, 6.72), "both learn at the same time", colour=GREY)
    _key(sheet, (0.9, 7.12))
    return figure


def require_views(views: Sequence[Any], count: int) -> None:
    """Raise InputError unless there are ``count`` views."""
    if len(views) != count:
        raise InputError(f"{len(views)} views; give {count}")


def new_sheet(height: float) -> tuple[Figure, Axes]:
    """A figure of :data:`WIDTH`, and its one sheet without axes.

    Coordinates are inches, y from the top.

    Args:
        height: In inches.
    """
    figure, sheet = new_figure(height=height, width=WIDTH)
    figure.set_layout_engine("none")
    sheet.set_position((0, 0, 1, 1))
    sheet.set(xlim=(0, WIDTH), ylim=(height, 0))
    sheet.set_axis_off()
    return figure, sheet


def add_text(
    sheet: Axes,
    at: Point,
    words: str,
    *,
    size: float = 10,
    colour: str = INK,
    clear: bool = False,
) -> None:
    """Centred words; ``clear`` hides the lines behind them."""
    sheet.text(
        *at,
        words,
        ha="center",
        va="center",
        fontsize=size,
        color=colour,
        zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1} if clear else None,
    )


def add_box(sheet: Axes, at: Point, width: float, height: float, words: str, colour: str) -> None:
    """A rounded box with its centre at ``at``, filled with ``colour``, and words in it."""
    x, y = at
    sheet.add_patch(
        FancyBboxPatch(
            (x - width / 2 + 0.05, y - height / 2 + 0.05),
            width - 0.1,
            height - 0.1,
            boxstyle="round,pad=0.05",
            facecolor=colour,
            edgecolor=INK,
            linewidth=0.8,
            zorder=2,
        )
    )
    add_text(sheet, at, words)


def add_picture(
    sheet: Axes, image: Any, at: Point, size: float, name: str = "", *, side: str = "right"
) -> None:
    """A square image ``(C, H, W)`` centred at ``at``, with its name at the left or right side."""
    x, y = at
    half = size / 2
    sheet.imshow(
        picture(image),
        cmap=PIXELS,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(x - half, x + half, y + half, y - half),
        zorder=2,
    )
    sheet.add_patch(
        Rectangle((x - half, y - half), size, size, fill=False, edgecolor=GREY, lw=0.8, zorder=3)
    )
    right = side == "right"
    sheet.text(
        x + (half + 0.08) * (1 if right else -1),
        y,
        name,
        ha="left" if right else "right",
        va="center",
        fontsize=10,
    )
    sheet.set(xlim=(0, WIDTH), ylim=(sheet.get_ylim()), aspect="equal")


def add_arrow(sheet: Axes, start: Point, *path: Point, stop: Point | None = None) -> None:
    """A line through ``path`` with a head at its end; ``stop`` is where no gradient passes."""
    points = [start, *path]
    colour = INK if stop is None else STOP
    sheet.plot(*np.transpose(points), color=colour, linewidth=1.1, zorder=1)
    sheet.annotate(
        "",
        points[-1],
        points[-2],
        arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0, "lw": 1.1},
    )
    if stop is not None:
        _bar(sheet, stop, upright=points[-1][0] != points[-2][0])


def _bar(sheet: Axes, at: Point, *, upright: bool) -> None:
    for shift in (-0.035, 0.035):
        x, y = (at[0] + shift, at[1]) if upright else (at[0], at[1] + shift)
        ends = ([x, x], [y - 0.1, y + 0.1]) if upright else ([x - 0.1, x + 0.1], [y, y])
        sheet.plot(*ends, color=STOP, linewidth=2, zorder=4)


def add_bars(sheet: Axes, at: Point, count: int, *, peak: int) -> None:
    """A small bar chart of a distribution over ``count`` values."""
    heights = 0.06 + 0.34 * np.exp(-0.9 * np.abs(np.arange(count) - peak))
    width = 0.6 / count
    for i, height in enumerate(heights):
        left = at[0] - 0.3 + i * width
        sheet.add_patch(
            Rectangle((left, at[1] + 0.2 - height), 0.8 * width, height, color=PALETTE[0], zorder=2)
        )


def _table(sheet: Axes, at: Point, size: float, cells: int) -> None:
    """A small table of counts that is heavy on its diagonal."""
    shares = np.eye(cells) + 0.25 * np.abs(np.sin(1 + np.arange(cells**2))).reshape(cells, cells)
    half = size / 2
    sheet.imshow(
        shares,
        cmap="Blues",
        vmin=0,
        vmax=1.3,
        extent=(at[0] - half, at[0] + half, at[1] + half, at[1] - half),
        zorder=2,
    )
    sheet.set(xlim=(0, WIDTH), ylim=sheet.get_ylim(), aspect="equal")


def _key(sheet: Axes, at: Point) -> None:
    sheet.plot([at[0] - 0.5, at[0]], [at[1], at[1]], color=STOP, linewidth=1.1)
    _bar(sheet, (at[0] - 0.25, at[1]), upright=True)
    sheet.text(at[0] + 0.1, at[1], "no gradient passes here", va="center", fontsize=10, color=STOP)
