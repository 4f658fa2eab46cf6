"""Pictures of IIC: its heads and sub-heads, its clusters as corners, its accuracies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import leaves_list, linkage

from mixem.errors import InputError
from mixem.plots.images import show_image
from mixem.plots.style import (
    GREY,
    INK,
    NARROW,
    PALETTE,
    PIXELS,
    Figure,
    class_colours,
    literal,
    new_figure,
    picture,
    styled,
)
from mixem.records import NOT_RUN, Epoch, Record

RIGHT, WRONG, REST = PALETTE[2], PALETTE[3], PALETTE[0]
MOST = 2000  # dots of a panel
FAR = 1.28  # where a corner's picture is, in radii of the circle
JITTER = 0.03  # standard deviation of a dot's little move

Curve = tuple[ArrayLike, ArrayLike]  # epochs and values


def sub_heads_of(record: Record) -> tuple[list[float], list[float]]:
    """Losses and accuracies, in percent, of the sub-heads of an IIC record."""
    rows = [row for row in record.protocols if row.kind == "sub-head" and row.scores]
    losses = [row.switches["loss"] for row in rows]
    return losses, [100 * row.scores["accuracy"] for row in rows if row.scores]


@styled
def head_losses(
    history: Sequence[Epoch], bounds: Mapping[str, float], *, chosen: int | None = None
) -> Figure:
    """The loss of each head against the epoch, a panel each, from 0 to its bound.

    The main head is drawn a line a sub-head, the overclustering head by the mean of its own.

    Args:
        history: Of an IIC run, one entry an epoch.
        bounds: The lowest possible loss, -ln k, by head: "main" and perhaps "over".
        chosen: The sub-head of the main head that is drawn thick.

    Raises:
        InputError: If the history is empty or not IIC's.
    """
    if not history or "sub_heads" not in history[-1].details:
        raise InputError("the history has no losses of sub-heads; give that of an IIC run")
    epochs = [row.epoch for row in history]
    figure, axes = new_figure(1, len(bounds), height=3.1, squeeze=False, width=NARROW)
    titles = {"main": "main head, a line a sub-head", "over": "overclustering head"}
    for axis, (name, bound) in zip(axes[0], bounds.items(), strict=True):
        main = name == "main"
        values = [row.details["sub_heads"] if main else [row.terms[name]] for row in history]
        for number, curve in enumerate(np.array(values).T):
            thick = main and number == chosen
            colour = PALETTE[number % 10 if main else 7]
            width, level = (2.6, 1.5) if thick else (1.1, 2)  # the thick line hides no other
            axis.plot(epochs, curve, color=colour, linewidth=width, zorder=level)
        axis.axhline(bound, color=GREY, linestyle="--", linewidth=1)
        k = round(np.exp(-bound))
        axis.annotate(
            f"−ln {k}",
            (0, bound),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            color=GREY,
        )
        axis.set(title=titles[name], xlabel="epoch", ylim=(1.06 * bound, 0.05))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0, 0].set_ylabel("loss in nats")
    return figure


@styled
def loss_against_accuracy(runs: Mapping[str, Curve]) -> Figure:
    """A dot for each sub-head; the one with the lowest loss of its run has a ring.

    Args:
        runs: By name, the losses of a run's sub-heads and their accuracies in percent.
    """
    figure, axis = new_figure(height=3.2, width=NARROW)
    for number, (name, (losses, accuracies)) in enumerate(runs.items()):
        x, y = np.asarray(losses), np.asarray(accuracies)
        colour, marker = PALETTE[number % 10], "osD^vP*X<>"[number % 10]
        axis.scatter(x, y, s=22, color=colour, marker=marker, alpha=0.8, label=name)
        best = x.argmin()
        axis.scatter(x[best], y[best], s=110, facecolors="none", edgecolors=INK)
    axis.set(xlabel="loss of the sub-head, in nats", ylabel="accuracy, %")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.margins(0.1)
    figure.legend(loc="outside right upper", handletextpad=0.1)
    return figure


def corners(count: int) -> NDArray[np.float64]:
    """The ``(count, 2)`` vertices of a regular polygon, clockwise from the top (IIC, figure 3)."""
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def circle_order(p: ArrayLike | torch.Tensor) -> NDArray[np.int64]:
    """The clusters in an order in which those that share images are neighbours.

    That of the leaves of a hierarchical clustering of the columns. IIC's own order was chosen by
    hand.

    Args:
        p: Cluster probabilities ``(N, k)``, best of a network still in doubt; k at least 2.
    """
    columns = np.asarray(p, dtype=np.float64).T
    return leaves_list(linkage(columns, "average", optimal_ordering=True)).astype(np.int64)


@styled
def simplex_snapshots(
    snapshots: Mapping[str, ArrayLike | torch.Tensor],
    labels: ArrayLike | torch.Tensor,
    images: torch.Tensor,
    *,
    order: Sequence[int] | NDArray[np.int64],
    names: Sequence[str],
    seed: int = 0,
) -> Figure:
    """Figure 3 of IIC: images as mixtures of their clusters, at several times of a training.

    A cluster is a corner, an image the mean of the corners weighted by its probabilities, moved
    a little at random so that dots in the same place are all seen. At a corner hangs the mean of
    all images weighted by their probability of its cluster.

    Args:
        snapshots: Cluster probabilities ``(N, k)`` by title.
        labels: ``(N,)`` true classes, which colour the dots.
        images: ``(N, C, h, w)``.
        order: The clusters clockwise from the top.
        names: Of the clusters, from number 0 on, such as the classes they are matched with.
        seed: Of the little moves, and of the choice of 2000 dots, if there are more images.

    Raises:
        InputError: If numbers of images or clusters do not fit.
    """
    tables = {title: np.asarray(p, dtype=np.float64) for title, p in snapshots.items()}
    clusters, classes = np.asarray(order), np.asarray(labels)
    for title, p in tables.items():
        if p.shape != (len(classes), len(clusters)) or len(names) != len(clusters):
            raise InputError(
                f"{title}: probabilities {p.shape} for {len(classes)} labels, {len(clusters)} "
                f"clusters in order and {len(names)} names; give (labels, clusters)"
            )
    rng = np.random.default_rng(seed)
    shown = rng.permutation(len(classes))[:MOST]
    moves = rng.normal(0, JITTER, (len(shown), 2))
    colours = np.array(class_colours(int(classes.max()) + 1))
    pixels = np.stack([picture(image) for image in images])
    place = corners(len(clusters))
    rows = -(-len(tables) // 2)
    figure, axes = new_figure(rows, 2, height=2.95 * rows, squeeze=False, width=NARROW)
    for axis, (title, table) in zip(axes.flat, tables.items(), strict=False):
        p = table[:, clusters]
        outline = np.vstack([place, place[:1]])
        axis.plot(*outline.T, color="#cccccc", linewidth=1, zorder=0)
        points = p[shown] @ place + moves
        axis.scatter(*points.T, s=4, c=colours[classes[shown]], alpha=0.7, linewidths=0)
        weights = p / p.sum(axis=0, keepdims=True).clip(1e-12)
        means = np.tensordot(weights.T, pixels, axes=1)
        for corner, mean, cluster in zip(place, means, clusters, strict=True):
            _thumbnail(axis, FAR * corner, mean / max(means.max(), 1e-12))
            axis.text(*((FAR + 0.39) * corner), literal(names[cluster]), ha="center", va="center")
        reach = FAR + 0.49
        axis.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_title(title)
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
    return figure


def _thumbnail(axis: Any, place: NDArray[np.float64], pixels: NDArray[np.float64]) -> None:
    zoom = 24 / len(pixels)
    image = OffsetImage(
        pixels, zoom=zoom, cmap=PIXELS, norm=Normalize(0, 1), interpolation="nearest"
    )
    frame = {"edgecolor": "#bbbbbb", "linewidth": 0.5, "boxstyle": "square,pad=0"}
    axis.add_artist(AnnotationBbox(image, (place[0], place[1]), pad=0, bboxprops=frame))


@styled
def probability_bars(
    images: torch.Tensor,
    p: ArrayLike | torch.Tensor,
    labels: ArrayLike | torch.Tensor,
    *,
    names: Sequence[str],
    columns: int = 6,
) -> Figure:
    """Figure 5 of IIC: images with bars of their probabilities.

    The bar of the true class is green, that of a wrong prediction red and hatched, others blue.
    Above an image stands the predicted class, for a wrong one with the true class.

    Args:
        images: ``(N, C, h, w)``.
        p: ``(N, k)`` probabilities, the columns in the order of the classes.
        labels: ``(N,)`` true classes.
        names: Of the classes.
        columns: Images in a row.

    Raises:
        InputError: If there is no image, or lengths differ.
    """
    chances, classes = np.asarray(p, dtype=np.float64), np.asarray(labels)
    if not 0 < len(images) == len(chances) == len(classes):
        raise InputError(
            f"{len(images)} images, {len(chances)} rows of probabilities and {len(classes)} "
            "labels; give one of each an image, and one image at least"
        )
    rows = -(-len(images) // columns)
    figure, axes = new_figure(
        2 * rows,
        columns,
        height=rows * 1.75 * NARROW / columns,
        height_ratios=(1, 0.55) * rows,
        squeeze=False,
        width=NARROW,
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for i, (chance, true) in enumerate(zip(chances, classes, strict=True)):
        row, column = 2 * (i // columns), i % columns
        image, bars = axes[row, column], axes[row + 1, column]
        image.set_visible(True)
        bars.set_visible(True)
        show_image(image, images[i])
        found = int(chance.argmax())
        right = found == true
        title = names[found] if right else f"{names[found]}, not {names[true]}"
        image.set_title(literal(title), pad=3)
        colours = [REST] * len(chance)
        colours[true] = RIGHT
        if not right:
            colours[found] = WRONG
        drawn = bars.bar(range(len(chance)), chance, color=colours, width=0.85)
        if not right:
            drawn[found].set(hatch="////", edgecolor="white", linewidth=0)
        bars.set(ylim=(0, 1), xticks=[], yticks=[])
        bars.spines[["left"]].set_visible(False)
    return figure


@styled
def accuracy_along(
    series: Mapping[str, Mapping[float, tuple[float, float | None]]],
    *,
    xlabel: str,
    log: bool = False,
) -> Figure:
    """Accuracies, each with its standard deviation, against a share or a number.

    Args:
        series: By name, mean and standard deviation or None by place, as fractions. Without any
            value the figure says "not run".
        xlabel: What the places are.
        log: Whether the places are drawn on a logarithmic scale.
    """
    figure, axis = new_figure(height=3.0, width=NARROW)
    drawn = {name: points for name, points in series.items() if points}
    for number, (name, points) in enumerate(drawn.items()):
        x = sorted(points)
        mean = 100 * np.array([points[place][0] for place in x])
        std = 100 * np.array([points[place][1] or 0.0 for place in x])
        style = {"color": PALETTE[number], "marker": "os^D"[number % 4], "capsize": 3}
        axis.errorbar(x, mean, std, markersize=5, label=name, **style)
    axis.set(xlabel=xlabel, ylabel="accuracy, %")
    if not drawn:
        _say_not_run(axis)
        return figure
    if log:
        axis.set_xscale("log")
    places = sorted({place for points in drawn.values() for place in points})
    axis.set_xticks(places, _apart(axis, places))
    axis.minorticks_off()
    figure.legend(loc="outside lower center", ncols=len(drawn))
    return figure


def _apart(axis: Axes, places: Sequence[float]) -> list[str]:
    """Labels of the places, left out where the next one is too near."""
    x = axis.transAxes.inverted().transform(axis.transData.transform([(p, 0) for p in places]))
    gaps = [*np.diff(x[:, 0]), np.inf]
    return [f"{p:g}" if gap > 0.05 else "" for p, gap in zip(places, gaps, strict=True)]


@styled
def learning_curves(
    panels: Mapping[str, tuple[Mapping[str, Curve], Mapping[str, Sequence[Curve]]]],
    *,
    ylabel: str,
    columns: int = 2,
) -> Figure:
    """Curves of a paper's authors with ours laid over them, the epochs on a logarithmic scale.

    Theirs are lines, ours dots joined by dashes, a single dot where only the end is known. A
    colour is the same quantity in both. Epoch 0, the start, is at the left end.

    Args:
        panels: By title, their curves by name, and for names among them ours, one a seed. Without
            any of ours a panel says "ours: not run".
        ylabel: What the values are.
        columns: Panels in a row.

    Raises:
        InputError: If ours has a name that theirs has not.
    """
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(
        rows, columns, height=0.6 + 2.2 * rows, squeeze=False, width=NARROW, sharex=True
    )
    for axis, (title, (theirs, ours)) in zip(axes.flat, panels.items(), strict=False):
        if unknown := sorted(set(ours) - set(theirs)):
            raise InputError(f"{title}: ours has {', '.join(unknown)}, which theirs has not")
        colours = dict(zip(theirs, PALETTE, strict=False))
        for name, (x, y) in theirs.items():
            axis.plot(x, y, color=colours[name], linewidth=1.4, label=name)
        for name, seeds in ours.items():
            for x, y in seeds:
                axis.plot(x, y, "--o", color=colours[name], markersize=4, linewidth=1, mec=INK)
        if not any(ours.values()):
            first = np.asarray(next(iter(theirs.values()))[1])
            free = 0.04 if first[-1] > first[0] else 0.9  # the corner without a curve
            axis.text(0.97, free, f"ours: {NOT_RUN}", transform=axis.transAxes, ha="right", c=GREY)
        axis.set_xscale("symlog", linthresh=1, linscale=0.4)
        axis.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
        axis.minorticks_off()
        axis.set(title=title, xlim=(0, None))
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel(ylabel)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    dots = axes[0, 0].plot([], [], "--o", color=GREY, markersize=4, linewidth=1, mec=INK)
    figure.legend(
        [*handles, *dots], [*labels, "ours"], loc="outside lower center", ncols=len(labels) + 1
    )
    return figure


@styled
def sub_head_strips(
    runs: Mapping[str, ArrayLike], chosen: Mapping[str, int], *, xlabel: str = "accuracy, %"
) -> Figure:
    """The sub-heads of several runs, a line of dots a run, with their mean and spread.

    The bar is one population standard deviation to either side, as in IIC's Table 1. The
    sub-head with the lowest loss has a ring.

    Args:
        runs: Accuracies of the sub-heads by run; none says "not run".
        chosen: For some of the runs, the sub-head with the lowest loss.
        xlabel: What the values are.
    """
    figure, axis = new_figure(height=0.9 + 0.42 * len(runs), width=NARROW)
    for line, (name, given) in enumerate(runs.items()):
        values = np.asarray(given, dtype=float)
        if not len(values):
            axis.text(0.01, line, NOT_RUN, transform=axis.get_yaxis_transform(), va="center")
            continue
        axis.errorbar(
            values.mean(), line + 0.24, xerr=values.std(), color=GREY, marker="|", capsize=3
        )
        axis.scatter(values, [line] * len(values), s=24, color=PALETTE[0], alpha=0.6)
        if name in chosen:
            axis.scatter(values[chosen[name]], line, s=110, facecolors="none", edgecolors=INK)
    axis.set_yticks(range(len(runs)), list(runs))
    axis.set(xlabel=xlabel, ylim=(len(runs) - 0.5, -0.5))
    axis.tick_params(axis="y", length=0)
    return figure


def _say_not_run(axis: Any) -> None:
    axis.text(0.5, 0.5, NOT_RUN, transform=axis.transAxes, ha="center", va="center", color=GREY)
    axis.set(xticks=[], yticks=[])
