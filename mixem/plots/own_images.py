"""Pictures for choosing a number of clusters."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from mixem.errors import InputError
from mixem.plots.style import GREY, NARROW, Figure, class_colours, new_figure, styled

MARKERS = "osD^v"
FLAT = 0.2  # of a panel's range: a curve that moves less has no peak worth a ring


@styled
def sweep_panels(
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    xlabel: str,
    mark: float | None = None,
) -> Figure:
    """Values against a setting that was swept, a panel each with its own scale.

    The peak of a curve has a ring, but not that of a curve that is flat beside others.

    Args:
        x: ``(n,)`` values of the setting.
        panels: By title, the curves by name, ``(n,)`` values each. A name has one colour.
        xlabel: What x is.
        mark: A place on x to point out with a dotted line.

    Raises:
        InputError: If there is no panel, or a curve has not one value for each place.
    """
    if not panels:
        raise InputError("there are no panels to draw; give at least one")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    rows = -(-len(panels) // 2)
    figure, axes = new_figure(
        rows, 2, height=0.5 + 1.9 * rows, sharex=True, squeeze=False, width=NARROW
    )
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        span = np.ptp(np.concatenate([np.ravel(values) for values in panel.values()]))
        for name, values in panel.items():
            if len(values) != len(x):
                raise InputError(f"{name}: {len(values)} values for {len(x)} places; give as many")
            number = names.index(name)
            style = {"color": class_colours(len(names))[number], "marker": MARKERS[number % 5]}
            axis.plot(x, values, markersize=3.5, label=name, **style)
            if np.ptp(values) > FLAT * span:
                peak = int(np.argmax(values))
                axis.plot(x[peak], values[peak], "o", markersize=10, fillstyle="none", color=GREY)
        if mark is not None:
            axis.axvline(mark, color=GREY, linestyle=":", linewidth=1)
        axis.set_title(title)
        axis.yaxis.set_major_locator(MaxNLocator(4))
        axis.margins(y=0.15)  # for the rings
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for column in axes.T:
        shown = [axis for axis in column if axis.get_visible()]
        for axis in shown[-1:]:
            axis.set_xlabel(xlabel)
            axis.tick_params(labelbottom=True)
    handles = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(len(names), 3))
    return figure
