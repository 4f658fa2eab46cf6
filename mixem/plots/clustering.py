"""Pictures of a clustering: which cluster holds which class, and what the measures say of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from mixem.clustering import KMeansResult
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

COUNTS = "Blues"
MATCH = PALETTE[1]


@styled
def contingency_tables(
    tables: Mapping[str, ArrayLike],
    *,
    classes: Sequence[str],
    clusters: Sequence[Sequence[str]],
    matches: Mapping[int, int] | None = None,
) -> Figure:
    """Small tables of counts side by side, such as before and after matching.

    Args:
        tables: Counts ``(classes, clusters)`` by title.
        classes: Names of the rows, the same for all tables.
        clusters: Names of the columns, a sequence for each table.
        matches: Column of each row in the last table; these cells get a frame.

    Raises:
        InputError: If names and shapes do not fit.
    """
    figure, axes = new_figure(1, len(tables), height=2.7, squeeze=False, width=NARROW)
    for axis, (title, table), names in zip(axes[0], tables.items(), clusters, strict=True):
        _draw_counts(axis, _counts(table, classes, names), classes, names)
        axis.set(title=title, xlabel="cluster")
    axes[0, 0].set_ylabel("class")
    for row, column in (matches or {}).items():
        _frame(axes[0, -1], row, column)
    return figure


@styled
def confusion_table(
    matrix: ArrayLike, *, classes: Sequence[str], clusters: Sequence[Any]
) -> Figure:
    """The counts per class and cluster in matched order, the matched cells framed.

    Args:
        matrix: Counts ``(classes, clusters)`` as ``mixem.evaluation.confusion_matrix`` gives.
        classes: Names of the rows.
        clusters: The cluster of each column.

    Raises:
        InputError: If names and shapes do not fit.
    """
    names = [str(cluster) for cluster in clusters]
    counts = _counts(matrix, classes, names)
    figure, axis = new_figure(height=min(0.8 + 0.48 * len(classes), 10.0))
    _draw_counts(axis, counts, classes, names)
    axis.set(xlabel="cluster, in the order of the matched classes", ylabel="class")
    for i in range(min(counts.shape)):
        _frame(axis, i, i)
    return figure


@styled
def solutions(tables: Mapping[str, ArrayLike], scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """What several clusterings of the same images look like, and what each measure says of them.

    Args:
        tables: Counts ``(classes, clusters)`` of each clustering by its name. Every column is
            shaded by its own largest count, so that small clusters are seen too.
        scores: For each clustering its scores by measure, in [0, 1].

    Raises:
        InputError: If the two do not name the same clusterings.
    """
    if list(tables) != list(scores):
        raise InputError(f"tables of {', '.join(tables)} but scores of {', '.join(scores)}")
    figure, axes = new_figure(
        len(tables),
        2,
        height=0.2 + 1.35 * len(tables),
        width_ratios=(1.2, 1),
        squeeze=False,
        width=NARROW,
    )
    for (left, right), (name, table) in zip(axes, tables.items(), strict=True):
        counts = np.asarray(table)
        shares = counts / np.maximum(counts.max(axis=0, keepdims=True), 1)
        left.imshow(shares, cmap=COUNTS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        many = f"{counts.shape[1]} cluster" + ("s" if counts.shape[1] > 1 else "")
        left.set(xticks=[], yticks=[], ylabel="class")
        left.set_title(name if name == many else f"{name}: {many}", loc="left")
        left.spines[:].set(visible=True, linewidth=0.5, color=GREY)
        values = list(scores[name].values())
        places = np.arange(len(values))
        right.barh(places, values, color=list(class_colours(len(values))), height=0.7)
        right.set_yticks(places, list(scores[name]))
        right.set(xlim=(0, 1.25), xticks=[])
        right.invert_yaxis()
        right.spines[:].set_visible(False)
        right.axvline(0, color=INK, linewidth=0.8)
        right.tick_params(length=0)
        for place, value in zip(places, values, strict=True):
            right.text(max(value, 0) + 0.03, place, _short(value), va="center")
    return figure


@styled
def score_bars(
    scores: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    colours: Sequence[str] | None = None,
    reported: Mapping[str, float] | None = None,
    chance: float | None = None,
) -> Figure:
    """A bar for each name: the mean in words too, single values as dots, their spread as a line.

    The spread is one standard deviation (n - 1) to either side.

    Args:
        scores: One or more values by name, from the top; none draws an empty line "not run".
        xlabel: What the values are.
        colours: One a bar; by default all the same.
        reported: The paper's number for some of the names, drawn as diamonds.
        chance: Drawn as a dashed line with its name.

    Raises:
        InputError: If there is no name, or a reported number of a name that is not there.
    """
    if not scores:
        raise InputError("there are no scores to draw; give at least one")
    others = reported or {}
    if unknown := sorted(set(others) - set(scores)):
        raise InputError(f"reported numbers of {', '.join(unknown)}, which are no names of bars")
    figure, axis = new_figure(height=0.65 + 0.36 * len(scores) + 0.25 * bool(others), width=NARROW)
    everything = [value for values in scores.values() for value in values]
    most = max([*everything, *others.values()], default=1.0)
    room = 1.3 if any(len(values) > 1 for values in scores.values()) else 1.12  # for the words
    for place, (name, given) in enumerate(scores.items()):
        values = np.asarray(given, dtype=float)
        if not len(values):
            axis.text(0.01 * most, place, "not run", va="center", color=GREY)
            continue
        mean, n = float(values.mean()), len(values)
        std = float(values.std(ddof=1)) if n > 1 else 0.0
        colour = colours[place] if colours is not None else PALETTE[0]
        axis.barh(place, mean, height=0.62, color=colour, alpha=0.75)
        if n > 1:
            axis.errorbar(mean, place, xerr=std, color=INK, capsize=3, linewidth=1)
            axis.scatter(values, place + np.linspace(-0.2, 0.2, n), s=6, color=INK, alpha=0.4)
        end = max(float(values.max()), mean + std, others.get(name, 0.0))
        digits = 2 if mean <= 1 else 1
        words = f"{mean:.{digits}f} ± {std:.{digits}f}" if n > 1 else _short(mean)
        axis.text(end + 0.02 * most, place, words, va="center")
    if others:
        places = [list(scores).index(name) for name in others]
        axis.scatter(
            list(others.values()),
            places,
            marker="D",
            s=30,
            color=PALETTE[3],
            zorder=3,
            label="in the paper",
        )
        figure.legend(loc="outside lower right")
    axis.set_yticks(range(len(scores)), list(scores))
    axis.set(xlabel=xlabel, xlim=(0, room * most), ylim=(len(scores) - 0.5, -0.5))
    # The room beyond the bars is for their words, and no score lies there.
    axis.set_xticks([tick for tick in axis.get_xticks() if tick <= 1.05 * most])
    axis.tick_params(axis="y", length=0)
    if chance is not None:
        axis.axvline(chance, color=GREY, linestyle="--", linewidth=1)
        axis.annotate(
            "chance",
            (chance, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            color=GREY,
        )
    return figure


@styled
def curves(
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    mark: float | None = None,
) -> Figure:
    """Curves with their spread, in one panel or several side by side on the same scale.

    Args:
        x: ``(n,)`` places.
        panels: By title, the curves by name: ``(n,)`` values, or ``(n, r)`` repeats, of which the
            mean is drawn with a band of one standard deviation to either side.
        xlabel: What x is.
        ylabel: What the values are.
        log: Whether x is drawn on a logarithmic scale.
        mark: A place on x to point out with a dotted line.

    Raises:
        InputError: If a curve has not one value, or row of values, for each place.
    """
    figure, axes = new_figure(1, len(panels), height=3.0, sharey=True, squeeze=False, width=NARROW)
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    colours = dict(zip(names, class_colours(len(names)), strict=True))
    for axis, (title, panel) in zip(axes[0], panels.items(), strict=True):
        for name, given in panel.items():
            values = np.asarray(given, dtype=float)
            if len(values) != len(x):
                raise InputError(f"{name}: {len(values)} values for {len(x)} places; give as many")
            mean = values if values.ndim == 1 else values.mean(axis=1)
            axis.plot(x, mean, color=colours[name], marker="o", markersize=3.5, label=name)
            if values.ndim == 2 and values.shape[1] > 1:
                std = values.std(axis=1, ddof=1)
                axis.fill_between(x, mean - std, mean + std, color=colours[name], alpha=0.25, lw=0)
        if log:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
        if mark is not None:
            axis.axvline(mark, color=GREY, linestyle=":", linewidth=1)
        axis.set(xlabel=xlabel, title=title)
    axes[0, 0].set_ylabel(ylabel)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(names), 4),
    )
    return figure


@styled
def starts_scatter(
    starts: Mapping[str, Sequence[KMeansResult]],
    accuracies: Mapping[str, Sequence[float]],
) -> Figure:
    """Accuracy against inertia of single starts of k-means; the lowest inertia has a ring.

    Inertia is drawn relative to the lowest one of its panel.

    Args:
        starts: Results by title of the panel.
        accuracies: Of each result.

    Raises:
        InputError: If there is not one accuracy for each result.
    """
    figure, axes = new_figure(1, len(starts), height=3.0, sharey=True, squeeze=False, width=NARROW)
    for axis, (title, results) in zip(axes[0], starts.items(), strict=True):
        scores = accuracies.get(title, ())
        if len(scores) != len(results):
            raise InputError(f"{title}: {len(results)} starts but {len(scores)} accuracies")
        inertia = np.array([result.inertia for result in results])
        excess = 100 * (inertia / inertia.min() - 1)
        best = int(inertia.argmin())
        axis.scatter(excess, scores, s=14, color=PALETTE[0], alpha=0.6)
        axis.scatter(excess[best], scores[best], s=90, facecolors="none", edgecolors=PALETTE[3])
        axis.annotate(
            "kept",
            (excess[best], scores[best]),
            xytext=(8, 12),
            textcoords="offset points",
            color=PALETTE[3],
        )
        axis.set(title=title, xlabel="inertia above the lowest, in %")
    axes[0, 0].set_ylabel("accuracy")
    return figure


@styled
def information_bars(
    examples: Mapping[str, tuple[float, float, float]],
) -> Figure:
    """Entropies of classes and clusters as bars that overlap by their mutual information.

    Args:
        examples: By title H(Y), H(C) and I(Y; C), in nats.

    Raises:
        InputError: If an information exceeds an entropy.
    """
    figure, axes = new_figure(
        len(examples), 1, height=1.25 * len(examples), squeeze=False, width=NARROW
    )
    widest = max(h_y + h_c - shared for h_y, h_c, shared in examples.values())
    for axis, (title, (h_y, h_c, shared)) in zip(axes.flat, examples.items(), strict=True):
        if shared > min(h_y, h_c) + 1e-9:
            raise InputError(f"{title}: I = {shared:.3f} exceeds H = {min(h_y, h_c):.3f}")
        left = h_y - shared  # where the bar of C begins
        axis.barh(1, h_y, color=PALETTE[0], height=0.8)
        axis.barh(0, h_c, left=left, color=PALETTE[1], height=0.8)
        axis.add_patch(
            Rectangle((left, -0.4), shared, 1.8, facecolor="none", edgecolor=INK, hatch="///", lw=1)
        )
        for place, start, width, words in (
            (1, 0, h_y, f"H(Y) = {h_y:.2f}"),
            (0, left, h_c, f"H(C) = {h_c:.2f}"),
        ):
            axis.text(
                start + width / 2,
                place,
                words,
                ha="center",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )
        axis.set_title(f"{title}: I(Y; C) = {shared:.2f}", loc="left")
        axis.set(xlim=(0, widest * 1.02), ylim=(-0.5, 1.5), yticks=[])
        axis.spines["left"].set_visible(False)
    for axis in axes.flat[:-1]:
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
    axes[-1, 0].set_xlabel("nats")
    return figure


@styled
def histograms(values: Mapping[str, ArrayLike], *, xlabel: str, bins: int = 40) -> Figure:
    """Overlapping histograms on one axis, each of unit area, with its mean as a line.

    Args:
        values: Numbers by name.
        xlabel: What they are.
        bins: Of all histograms together.

    Raises:
        InputError: If a name has no values.
    """
    arrays = {name: np.asarray(given, dtype=float).ravel() for name, given in values.items()}
    for name, array in arrays.items():
        if not array.size:
            raise InputError(f"{name}: there are no values to draw; give at least one")
    everything = np.concatenate(list(arrays.values()))
    edges = np.linspace(everything.min(), everything.max(), bins + 1)
    figure, axis = new_figure(height=2.8, width=NARROW)
    for colour, (name, array) in zip(PALETTE, arrays.items(), strict=False):
        axis.hist(array, edges, density=True, color=colour, alpha=0.45, label=name)
        axis.axvline(array.mean(), color=colour, linewidth=1.6)
    axis.set(xlabel=xlabel, yticks=[])
    axis.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=min(3, len(arrays)))
    return figure


def _short(value: float) -> str:
    """A fraction with two decimals, a percentage with one, which is left out if it is zero."""
    short = f"{value:.2f}" if abs(value) <= 1 else f"{round(value, 1):g}"
    return "0.00" if short == "-0.00" else short


def _counts(table: ArrayLike, rows: Sequence[str], columns: Sequence[str]) -> NDArray[Any]:
    counts = np.asarray(table)
    if counts.shape != (len(rows), len(columns)):
        raise InputError(
            f"a table of shape {counts.shape} with {len(rows)} names of rows and "
            f"{len(columns)} of columns; give a name for each"
        )
    return counts


def _draw_counts(
    axis: Any, counts: NDArray[Any], rows: Sequence[str], columns: Sequence[str]
) -> None:
    axis.imshow(counts, cmap=COUNTS, vmin=0, aspect="auto")
    axis.set_xticks(range(len(columns)), list(map(literal, columns)))
    axis.set_yticks(range(len(rows)), list(map(literal, rows)))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    size = 12 if len(columns) <= 5 else 10 if len(columns) <= 12 else 7
    for (i, j), count in np.ndenumerate(counts):
        colour = "white" if count > 0.6 * counts.max() else INK if count else "#bbbbbb"
        axis.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=size)


def _frame(axis: Any, row: int, column: int) -> None:
    axis.add_patch(
        Rectangle(
            (column - 0.48, row - 0.48), 0.96, 0.96, facecolor="none", edgecolor=MATCH, linewidth=2
        )
    )
