"""Pictures that put methods side by side: their scores, their costs, their mistakes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from mixem.errors import InputError
from mixem.plots.style import (
    GREY,
    INK,
    NARROW,
    PALETTE,
    Figure,
    class_colours,
    literal,
    new_figure,
    styled,
)
from mixem.records import NOT_RUN

MARKERS = "osD^vP*X<>"
DARK = 60  # percent: from here on a cell's words are white

Points = tuple[Sequence[float], Sequence[float]]  # x and y, one a seed


@styled
def seed_strips(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A row for each method, a panel for each measure: seeds as dots, their mean as a stroke.

    Args:
        scores: By method, from the top, the values of each measure, one a seed. A method without
            values has an empty row that says "not run".

    Raises:
        InputError: If there is no method, or two do not have the same measures.
    """
    measures = {tuple(by_measure) for by_measure in scores.values()}
    if len(measures) != 1:
        raise InputError(f"{len(scores)} methods with {len(measures)} sets of measures; give one")
    (names,) = measures
    figure, axes = new_figure(
        1,
        len(names),
        height=0.75 + 0.34 * len(scores),
        sharey=True,
        squeeze=False,
        width=NARROW,
    )
    for axis, name in zip(axes[0], names, strict=True):
        for place, by_measure in enumerate(scores.values()):
            values = by_measure[name]
            if not len(values):
                axis.annotate(
                    NOT_RUN,
                    (0.5, place),
                    xycoords=("axes fraction", "data"),
                    ha="center",
                    va="center",
                    color=GREY,
                )
                continue
            axis.scatter(values, [place] * len(values), s=24, color=PALETTE[0], alpha=0.7)
            mean = float(np.mean(values))
            axis.plot([mean, mean], [place - 0.3, place + 0.3], color=INK, linewidth=1.6)
        axis.set(title=name, ylim=(len(scores) - 0.5, -0.5))
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.margins(x=0.12)
        axis.grid(axis="y", color=GREY, alpha=0.2)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(scores)), list(scores))
    return figure


@styled
def seed_scatter(runs: Mapping[str, Points], *, xlabel: str, ylabel: str) -> Figure:
    """A dot for each seed, a colour and a shape for each method, whose name is in the legend.

    Args:
        runs: By method x and y, one a seed; a method without any is "not run" in the legend.
        xlabel: What x is.
        ylabel: What y is.
    """
    figure, axis = new_figure(height=3.3, width=NARROW)
    for number, (name, (x, y)) in enumerate(runs.items()):
        axis.scatter(
            x,
            y,
            s=34,
            color=class_colours(10)[number % 10],
            marker=MARKERS[number % 10],
            alpha=0.75,
            label=name if len(x) else f"{name}: {NOT_RUN}",
        )
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.margins(0.1)
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.1)
    return figure


@styled
def score_curves(runs: Mapping[str, Sequence[Points]], *, xlabel: str, ylabel: str) -> Figure:
    """A line with dots for each seed, a colour and a shape for each method.

    Args:
        runs: By method, for each seed x and y along its training; a method without any is
            "not run" in the legend.
        xlabel: What x is.
        ylabel: What y is.
    """
    figure, axis = new_figure(height=3.3, width=NARROW)
    for number, (name, seeds) in enumerate(runs.items()):
        style = {"color": class_colours(10)[number % 10], "marker": MARKERS[number % 10]}
        axis.plot([], [], label=name if seeds else f"{name}: {NOT_RUN}", **style)
        for x, y in seeds:
            axis.plot(x, y, markersize=4.5, linewidth=1.3, **style)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def signal_panels(signals: Mapping[str, tuple[str, Sequence[float], Sequence[float]]]) -> Figure:
    """For each method a panel: what it says of itself without labels, against its accuracy.

    Args:
        signals: By method the name of the signal, its values and the accuracies in percent, one
            a seed. A method without values has a panel that says "not run".
    """
    rows = -(-len(signals) // 2)
    figure, axes = new_figure(
        rows, 2, height=0.3 + 2.2 * rows, sharey=True, squeeze=False, width=NARROW
    )
    for number, (axis, (name, (label, x, y))) in enumerate(
        zip(axes.flat, signals.items(), strict=False)
    ):
        axis.scatter(x, y, s=30, color=class_colours(10)[number % 10], marker=MARKERS[number % 10])
        axis.set(title=name, xlabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.tick_params(labelleft=not number % 2)
        axis.margins(0.15)
        if not len(x):
            axis.annotate(NOT_RUN, (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)
            axis.set_xticks([])
    for axis in axes.flat[len(signals) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    return figure


@styled
def cost_bars(parts: Mapping[str, Mapping[str, float]], *, xlabel: str) -> Figure:
    """A bar for each method, made of parts laid end to end, with the sum in words.

    Args:
        parts: By method, from the top, the values of the parts by their names, at least 0.
        xlabel: What the values are.

    Raises:
        InputError: If a value is negative.
    """
    names = list(dict.fromkeys(name for values in parts.values() for name in values))
    colours = dict(zip(names, class_colours(10), strict=False))
    figure, axis = new_figure(height=1.0 + 0.36 * len(parts), width=NARROW)
    most = max(sum(values.values()) for values in parts.values())
    for place, (method, values) in enumerate(parts.items()):
        end = 0.0
        for name, value in values.items():
            if value < 0:
                raise InputError(f"{method}, {name}: {value}; give no negative cost")
            axis.barh(
                place, value, left=end, height=0.62, color=colours[name], alpha=0.8,
                label=name if name not in axis.get_legend_handles_labels()[1] else None,
            )  # fmt: skip
            end += value
        axis.text(end + 0.02 * most, place, f"{end:.{0 if end >= 100 else 1}f}", va="center")
    axis.set_yticks(range(len(parts)), list(parts))
    axis.set(xlabel=xlabel, xlim=(0, 1.15 * most), ylim=(len(parts) - 0.5, -0.5))
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def found_shares(counts: ArrayLike) -> NDArray[np.float64]:
    """The percentage of each class ``(K,)`` that lies in the cluster it is matched with.

    Args:
        counts: Images by class and cluster ``(K, k)``, as a record's ``counts``. The matching is
            the one of the highest accuracy; a class without a cluster has 0.
    """
    table = np.asarray(counts)
    rows, columns = linear_sum_assignment(table, maximize=True)
    found = np.zeros(len(table))
    found[rows] = table[rows, columns]
    return 100 * found / np.maximum(table.sum(axis=1), 1)


@styled
def class_shares(counts: Mapping[str, Sequence[ArrayLike]], *, classes: Sequence[str]) -> Figure:
    """A panel for each method, a column a seed, a row a class: how much of the class was found.

    Args:
        counts: By method the tables ``(K, k)`` of its seeds; see :func:`found_shares`. A method
            without any has a panel that says "not run".
        classes: Names of the rows.

    Raises:
        InputError: If a table has not as many rows as there are classes.
    """
    for name, tables in counts.items():
        if wrong := [len(np.asarray(t)) for t in tables if len(np.asarray(t)) != len(classes)]:
            raise InputError(f"{name}: a table of {wrong[0]} classes, but {len(classes)} names")
    figure, axes = new_figure(
        1,
        len(counts),
        height=0.9 + 0.3 * len(classes),
        squeeze=False,
        sharey=True,
        width=NARROW,
        width_ratios=[max(len(tables), 2) for tables in counts.values()],
    )
    for axis, (name, tables) in zip(axes[0], counts.items(), strict=True):
        axis.set(title=name, xticks=[])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        if not len(tables):
            axis.annotate(NOT_RUN, (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)
            continue
        shares = np.stack([found_shares(table) for table in tables], axis=1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
        for (row, column), share in np.ndenumerate(shares):
            ink = "white" if share >= DARK else INK
            axis.text(column, row, f"{share:.0f}", ha="center", va="center", color=ink, fontsize=9)
        axis.set_xlabel("seeds")
    axes[0, 0].set_yticks(range(len(classes)), list(map(literal, classes)))
    axes[0, 0].set_ylim(len(classes) - 0.5, -0.5)
    axes[0, 0].set_ylabel("class")
    return figure
