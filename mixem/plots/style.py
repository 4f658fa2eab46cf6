"""The look that every figure of the book shares.

Figures are as wide as the text, so that their words stay readable on a phone. No function here or
in the other modules of ``mixem.plots`` changes matplotlib's global state.
"""

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
import seaborn
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as MatplotlibFigure
from numpy.typing import NDArray

WIDTH = 6.4  # inches: the width of the book's text column
NARROW = 5.6  # words of a narrower figure are larger on a phone
DPI = 120

# Okabe-Ito's colours as seaborn keeps them: told apart by colour-blind readers.
PALETTE = tuple(seaborn.color_palette("colorblind", 10).as_hex())
GREY = "#777777"
INK = "#222222"
SEQUENTIAL = "viridis"
PIXELS = "gray_r"  # one-channel images: ink on paper

STYLE: Any = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.prop_cycle": f"cycler(color={list(PALETTE)})",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.dpi": DPI,
}


class Figure(MatplotlibFigure):
    """A figure that shows itself in a notebook, without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()


P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Runs a figure's function under the shared look and leaves matplotlib's own as it was."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapper


def new_figure(
    rows: int = 1, columns: int = 1, *, height: float = 3.2, width: float = WIDTH, **options: Any
) -> tuple[Figure, Any]:
    """A figure and its axes, as ``matplotlib.figure.Figure.subplots`` gives.

    Args:
        rows: Of axes.
        columns: Of axes.
        height: In inches.
        width: In inches, by default the text's; words of a narrower figure are larger on a phone.
        **options: Of ``Figure.subplots``, such as ``sharex`` or ``squeeze``.
    """
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def literal(name: str) -> str:
    """A name from outside, such as a folder's, to be drawn as it is, without mathematics."""
    return str(name).replace("$", r"\$")


def class_colours(count: int) -> tuple[str, ...]:
    """One colour for each of ``count`` classes: the palette, or evenly spaced hues beyond it."""
    if count <= len(PALETTE):
        return PALETTE[:count]
    return tuple(to_hex(colour) for colour in seaborn.husl_palette(count))


def picture(image: Any) -> NDArray[np.float64]:
    """An image ``(C, H, W)``, uint8 or float in [0, 1], as ``imshow`` wants it."""
    pixels = np.asarray(image)
    pixels = pixels / 255 if pixels.dtype == np.uint8 else np.clip(pixels, 0.0, 1.0)
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def bound_line(axis: Any, words: str, value: float, *, below: bool) -> None:
    """A dashed line at a value, with its name at the right end, above or below it."""
    axis.axhline(value, color=GREY, linestyle="--", linewidth=1)
    axis.annotate(
        words,
        (1, value),
        xycoords=("axes fraction", "data"),
        xytext=(-2, -2 if below else 2),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        color=GREY,
    )
