"""Pictures of prototypes: scores on the circle, codes with their masses, who predicts whom."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from mixem.errors import InputError
from mixem.losses import sinkhorn
from mixem.plots.diagrams import (
    LEARNS,
    LOSS,
    OUTPUT,
    STOP,
    add_arrow,
    add_bars,
    add_box,
    add_picture,
    add_text,
    new_sheet,
    require_views,
)
from mixem.plots.style import GREY, INK, NARROW, PALETTE, Figure, class_colours, new_figure, styled

CODES = "Blues"
OFF = PALETTE[3]  # a mass that is not what it should be
NEAR = 0.005  # closer than what two decimals show
ROOM = 1.35  # of a circle's panel, in radii


@styled
def prototype_circle(
    embedding: torch.Tensor, prototypes: torch.Tensor, *, temperatures: Sequence[float]
) -> Figure:
    """An embedding among prototypes on the unit circle, and the softmax of its cosines.

    Args:
        embedding: ``(2,)``; only its direction counts.
        prototypes: ``(K, 2)``; only their directions count.
        temperatures: Positive numbers, a panel of bars each.

    Raises:
        InputError: If a temperature is not positive.
    """
    if not all(t > 0 for t in temperatures):
        raise InputError(f"temperatures are {list(temperatures)}; give positive numbers")
    z = embedding / embedding.norm()
    c = prototypes / prototypes.norm(dim=1, keepdim=True)
    colours = list(class_colours(len(c)))  # matplotlib 3.8 reads a pair as colour and alpha
    names = [f"$c_{j}$" for j in range(1, len(c) + 1)]
    figure, axes = new_figure(
        1,
        1 + len(temperatures),
        height=2.9,
        width=NARROW,
        width_ratios=(1.9, *[1.0] * len(temperatures)),
        squeeze=False,
    )
    _draw_circle(axes[0, 0], c, colours)
    for name, point in zip(names, 1.2 * c, strict=True):
        axes[0, 0].text(*point.tolist(), name, ha="center", va="center")
    axes[0, 0].scatter(*z.tolist(), s=50, color=INK, zorder=4)
    axes[0, 0].text(*(1.2 * z).tolist(), "z", ha="center", va="center")
    for axis, temperature in zip(axes[0, 1:], temperatures, strict=True):
        p = (c @ z / temperature).softmax(0).tolist()
        axis.bar(names, p, color=colours)
        for place, value in enumerate(p):
            axis.text(place, value + 0.02, f"{value:.2f}", ha="center")
        axis.set(ylim=(0, 1.12), yticks=[], title=f"τ = {temperature:g}")
        axis.spines["left"].set_visible(False)
    return figure


@styled
def plan_tables(plans: Mapping[str, ArrayLike], *, columns: int = 3) -> Figure:
    """How images are shared out among prototypes, with the masses of both in the margins.

    A mass that is not 1 for an image (right), or not B / K for a prototype (below), is coloured.

    Args:
        plans: By title, ``(B, K)`` in units of images, or any other positive numbers.
        columns: Of panels.
    """
    tables = {title: np.asarray(plan, dtype=float) for title, plan in plans.items()}
    rows = -(-len(tables) // columns)
    tallest = max(len(table) for table in tables.values())
    figure, axes = new_figure(
        rows, columns, height=rows * (0.75 + 0.3 * tallest), width=NARROW, squeeze=False
    )
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
    for axis, (title, table) in zip(axes.flat, tables.items(), strict=False):
        images, prototypes = table.shape
        axis.imshow(table, cmap=CODES, vmin=0, vmax=max(1.0, table.max()), aspect="auto")
        for (i, j), value in np.ndenumerate(table):
            dark = value > 0.6 * max(1.0, table.max())
            axis.text(j, i, _two(value), ha="center", va="center", color="white" if dark else INK)
        for i, mass in enumerate(table.sum(1)):
            _margin(axis, prototypes - 0.4, i, mass, 1.0, "left")
        for j, mass in enumerate(table.sum(0)):
            _margin(axis, j, images - 0.05, mass, images / prototypes, "center")
        axis.set(title=title, xticks=[], yticks=[])
        axis.set(xlim=(-0.5, prototypes + 0.55), ylim=(images + 0.4, -0.5))
        axis.spines[:].set_visible(False)
    return figure


@styled
def equipartition_error(
    scores: torch.Tensor,
    *,
    epsilons: Sequence[float],
    iterations: Sequence[int],
    mark: int | None = None,
) -> Figure:
    """How far the prototypes' masses are from B / K, against the iterations of Sinkhorn.

    The error is the largest of all prototypes, relative to B / K.

    Args:
        scores: ``(B, K)``.
        epsilons: A curve each.
        iterations: Where to look, at least 1.
        mark: A number of iterations to point out.
    """
    figure, axis = new_figure(height=3.0, width=NARROW)
    share = len(scores) / scores.shape[1]
    for epsilon, colour in zip(epsilons, PALETTE, strict=False):
        masses = [
            sinkhorn(scores.double(), epsilon=epsilon, iterations=number).sum(0)
            for number in iterations
        ]
        error = [(mass / share - 1).abs().max().item() for mass in masses]
        axis.plot(
            iterations, error, marker="o", markersize=3.5, color=colour, label=f"ε = {epsilon:g}"
        )
    if mark is not None:
        axis.axvline(mark, color=GREY, linestyle=":", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="iterations", ylabel="relative error of a mass")
    axis.set(ylim=(1e-4, 1.5))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def swap_diagram(image: Any, views: Sequence[Any]) -> Figure:
    """The swapped prediction of two views: each must foretell the other's code.

    Args:
        image: ``(C, H, W)``, uint8 or float in [0, 1].
        views: Two.

    Raises:
        InputError: If there are not two views.
    """
    require_views(views, 2)
    figure, sheet = new_sheet(6.5)
    add_picture(sheet, image, (2.4, 0.45), 0.74, "image", side="right")
    for x, view, prime, side in ((1.15, views[0], "", "left"), (3.65, views[1], "′", "right")):
        outward = -1 if side == "left" else 1
        inner, outer = x - 0.55 * outward, x + 0.6 * outward
        add_arrow(sheet, (2.4, 0.85), (x, 1.03))
        add_picture(sheet, view, (x, 1.45), 0.74, f"x{prime}", side=side)
        add_arrow(sheet, (x, 1.85), (x, 2.13))
        add_box(sheet, (x, 2.41), 2.1, 0.5, f"network: z{prime}, length 1", LEARNS)
        add_arrow(sheet, (x, 2.68), (x, 2.94))
        add_box(sheet, (x, 3.22), 2.1, 0.5, f"K prototypes: s{prime}", LEARNS)
        for place, words, stop, cell in (
            (inner, f"softmax\np{prime}", None, 2),
            (outer, f"Sinkhorn\nq{prime}", (outer, 3.62), 2),
        ):
            add_arrow(sheet, (place, 3.49), (place, 3.8), stop=stop)
            add_box(sheet, (place, 4.1), 1.0, 0.56, words, OUTPUT)
            add_bars(sheet, (place, 4.62), 5, peak=cell)
    # Each code goes to the other view's prediction.
    add_arrow(sheet, (0.55, 4.86), (0.55, 5.18), (3.0, 5.62))
    add_arrow(sheet, (4.25, 4.86), (4.25, 5.18), (1.8, 5.62))
    add_arrow(sheet, (1.7, 4.86), (1.7, 5.62))
    add_arrow(sheet, (3.1, 4.86), (3.1, 5.62))
    for x, words in ((1.2, "q′ from p"), (3.6, "q from p′")):
        add_box(sheet, (x, 5.92), 2.1, 0.56, f"cross-entropy:\n{words}", LOSS)
    for shift in (-0.035, 0.035):
        sheet.plot([1.35 + shift] * 2, [6.3, 6.45], color=STOP, linewidth=2)
    add_text(sheet, (2.5, 6.38), "no gradient passes here", colour=GREY)
    return figure


@styled
def swapped_terms(views: Sequence[str], *, targets: int = 2) -> Figure:
    """Which view's code is foretold from which view: the terms of the swapped prediction.

    Args:
        views: Names, those that give codes first.
        targets: How many give codes.

    Raises:
        InputError: If there are not at least as many views as targets.
    """
    if not 1 <= targets <= len(views):
        raise InputError(f"{targets} targets of {len(views)} views; give 1 to {len(views)}")
    figure, axis = new_figure(height=0.95 + 0.5 * targets, width=NARROW)
    terms = 1 - np.eye(targets, len(views))
    axis.imshow(terms, cmap=CODES, vmin=0, vmax=2.2, aspect="auto")
    number = 0
    for (i, v), used in np.ndenumerate(terms):
        number += int(used)
        words = str(number) if used else "–"
        axis.text(v, i, words, ha="center", va="center", color=INK if used else GREY)
    axis.set_xticks(range(len(views)), views)
    axis.set_yticks(range(targets), views[:targets])
    axis.set_xticks(np.arange(len(views) - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(targets - 1) + 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=2)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="predicted from", ylabel="code of")
    return figure


@styled
def circle_snapshots(
    snapshots: Mapping[str, tuple[torch.Tensor, torch.Tensor]], groups: torch.Tensor
) -> Figure:
    """Embeddings and prototypes on the unit circle at several times of a training.

    Points have the colour of their group and lie a little inside the circle so that all are seen.
    A prototype is an arrow; below stands how many points each has as its nearest, in the order of
    the prototypes.

    Args:
        snapshots: By title, embeddings ``(n, 2)`` and prototypes ``(K, 2)``, of unit length.
        groups: ``(n,)`` integers from 0 on.
    """
    figure, axes = new_figure(
        1, len(snapshots), height=0.55 + NARROW / len(snapshots), width=NARROW, squeeze=False
    )
    colours = np.array(class_colours(int(groups.max()) + 1))[groups.numpy()]
    depth = 1 - 0.24 * torch.linspace(0, 1, len(groups)).unsqueeze(1)
    for axis, (title, (z, c)) in zip(axes[0], snapshots.items(), strict=True):
        _draw_circle(axis, c, [INK] * len(c))
        axis.scatter(*(depth * z).T.numpy(), s=4, color=colours, zorder=3)
        nearest = torch.bincount((z @ c.T).argmax(1), minlength=len(c))
        axis.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), title=title)
        axis.set_xlabel(" ".join(str(count) for count in nearest.tolist()))
    return figure


def _draw_circle(axis: Axes, prototypes: torch.Tensor, colours: Sequence[str]) -> None:
    angle = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(angle), np.sin(angle), color="#cccccc", linewidth=1)
    for point, colour in zip(prototypes.tolist(), colours, strict=True):
        axis.annotate(
            "",
            point,
            (0, 0),
            arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0, "lw": 2},
        )
    axis.set(aspect="equal", xticks=[], yticks=[], xlim=(-ROOM, ROOM), ylim=(-ROOM, ROOM))
    axis.spines[:].set_visible(False)


def _margin(axis: Axes, x: float, y: float, mass: float, target: float, side: str) -> None:
    colour = GREY if abs(mass - target) < NEAR else OFF
    axis.text(x, y, _two(mass), ha=side, va="center", color=colour, fontsize=10)


def _two(value: float) -> str:
    """Two decimals below ten, one above, a bare 0 for next to nothing."""
    return "0" if abs(value) < NEAR else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
