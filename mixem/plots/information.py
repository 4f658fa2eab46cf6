"""Pictures of the mutual information of two views: joint tables, the loss around its extremes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from mixem.errors import InputError
from mixem.plots.diagrams import (
    LEARNS,
    LOSS,
    add_arrow,
    add_bars,
    add_box,
    add_picture,
    add_text,
    new_sheet,
    require_views,
)
from mixem.plots.style import (
    GREY,
    INK,
    NARROW,
    PALETTE,
    SEQUENTIAL,
    Figure,
    class_colours,
    new_figure,
    styled,
)

SHARES = "Blues"
CHOSEN = PALETTE[3]


@styled
def joint_tables(tables: Mapping[str, ArrayLike]) -> Figure:
    """Joint distributions with their margins, and below them what they say in nats.

    Args:
        tables: By title, ``(k, k)`` with sum one: row the cluster z of the first view, column the
            cluster z' of the second.

    Raises:
        InputError: If a table is not square or does not sum to one.
    """
    joints = {title: _joint(title, table) for title, table in tables.items()}
    height = 1.1 + 0.8 * NARROW / len(joints)  # three lines of words below the tables
    figure, axes = new_figure(1, len(joints), height=height, squeeze=False, width=NARROW)
    for axis, (title, joint) in zip(axes[0], joints.items(), strict=True):
        _draw_joint(axis, joint)
        k = len(joint)
        first, second = joint.sum(1), joint.sum(0)
        for place, (row, column) in enumerate(zip(first, second, strict=True)):
            axis.text(k - 0.35, place, _share(row), ha="left", va="center", color=GREY)
            axis.text(place, k - 0.2, _share(column), ha="center", va="center", color=GREY)
        both, h = entr(joint).sum(), entr(first).sum()
        left = both - entr(second).sum()
        words = {"H(z)": h, "H(z | z′)": left, "I": h - left}
        axis.set(title=title, xlim=(-0.5, k + 0.15), ylim=(k + 0.1, -0.5))
        axis.set_xlabel("\n".join(f"{name} = {abs(value):.2f}" for name, value in words.items()))
    return figure


@styled
def outer_products(p: torch.Tensor, q: torch.Tensor) -> Figure:
    """From answers to the joint distribution: a table an image, their mean, and it symmetrised.

    Args:
        p: Cluster probabilities of the first view, ``(n, k)``, n >= 2; beside the tables.
        q: Of the second view, same shape; above the tables.
    """
    products = (p.unsqueeze(2) * q.unsqueeze(1)).double().numpy()
    mean = products.mean(0)
    n, k = p.shape
    figure, axes = new_figure(2, n, height=3.1, squeeze=False, width=NARROW)
    for number, (axis, product) in enumerate(zip(axes[0], products, strict=True)):
        _draw_joint(axis, product)
        axis.set_xticks(range(k), [f"{value:.1f}" for value in q[number].tolist()])
        axis.set_yticks(range(k), [f"{value:.1f}" for value in p[number].tolist()])
        axis.xaxis.tick_top()
        axis.set_xlabel(f"image {number + 1}")
    start = n // 2 - 1  # below the middle
    for place, axis in enumerate(axes[1]):
        axis.set_visible(place in (start, start + 1))
    for axis, words, joint in (
        (axes[1, start], "mean", mean),
        (axes[1, start + 1], "symmetrised", (mean + mean.T) / 2),
    ):
        _draw_joint(axis, joint)
        axis.set_xlabel(words)
    return figure


@styled
def loss_landscape(points: Mapping[str, tuple[float, float]], *, resolution: int = 101) -> Figure:
    """IIC's loss of two clusters, over the share of one of them and the certainty of the answers.

    A share s of the images answers ((1 + c) / 2, (1 - c) / 2), the rest the other way round, and
    both views answer the same; c is the certainty.

    Args:
        points: Share and certainty, both in [0, 1], to mark, by name.
        resolution: Points along either side.
    """
    line = torch.linspace(0, 1, resolution, dtype=torch.float64)
    share, certainty = torch.meshgrid(line, line, indexing="xy")
    loss = two_cluster_loss(share, certainty).numpy()
    figure, axis = new_figure(height=3.7, width=NARROW)
    levels = np.linspace(-np.log(2), 0, 15)
    shade = axis.contourf(line, line, loss.clip(levels[0], 0), levels=levels, cmap=SEQUENTIAL)
    axis.contour(
        line, line, loss, levels=levels[1:-1], colors="white", linewidths=0.4, linestyles="solid"
    )
    for name, (x, y) in points.items():
        axis.scatter(x, y, s=44, color=PALETTE[3], edgecolors="white", zorder=4, clip_on=False)
        axis.annotate(
            name,
            (x, y),
            xytext=(0, -10 if y > 0.5 else 10),
            textcoords="offset points",
            ha="left" if x < 0.1 else "right" if x > 0.9 else "center",
            va="top" if y > 0.5 else "bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        )
    axis.set(xlabel="share s of images in cluster 1", ylabel="certainty c")
    bar = figure.colorbar(shade, ax=axis, ticks=[-np.log(2), -0.6, -0.4, -0.2, 0])
    bar.ax.set_yticklabels(["−ln 2", "−0.6", "−0.4", "−0.2", "0"])
    bar.set_label("loss")
    return figure


def two_cluster_loss(share: torch.Tensor, certainty: torch.Tensor) -> torch.Tensor:
    """IIC's loss of the answers that :func:`loss_landscape` draws.

    Args:
        share: Of the images that lean to cluster 1, in [0, 1].
        certainty: 0 for answers (1/2, 1/2), 1 for (1, 0); same shape.

    Returns:
        The loss in nats, same shape.
    """
    sure, unsure = (1 + certainty) / 2, (1 - certainty) / 2
    leaning = torch.stack([sure, unsure], -1)
    p = torch.stack([leaning, leaning.flip(-1)], -2)  # (..., 2 images, 2 clusters)
    often = torch.stack([share, 1 - share], -1).unsqueeze(-1)  # so often there is such an image
    joint = (often * p).mT @ p  # (..., 2, 2)
    # Of lambda 1: H(P) - 2 H(P_c).
    entropy = torch.special.entr(joint).sum((-2, -1))
    return entropy - 2 * torch.special.entr(joint.sum(-1)).sum(-1)


@styled
def pair_network(image: Any, views: Sequence[Any]) -> Figure:
    """IIC's network: a pair of views, shared weights, a main and an overclustering head.

    Args:
        image: ``(C, H, W)``, uint8 or float in [0, 1].
        views: Two, the plain one first.

    Raises:
        InputError: If there are not two views.
    """
    require_views(views, 2)
    figure, sheet = new_sheet(6.55)
    add_picture(sheet, image, (2.4, 0.45), 0.74, "image", side="right")
    for x, view, name, side in (
        (1.2, views[0], "plain", "left"),
        (3.6, views[1], "changed", "right"),
    ):
        outward = -1 if side == "left" else 1
        inner, outer = x - 0.55 * outward, x + 0.6 * outward
        add_arrow(sheet, (2.4, 0.85), (x, 1.03))
        add_picture(sheet, view, (x, 1.45), 0.74, name, side=side)
        add_arrow(sheet, (x, 1.85), (x, 2.13))
        add_box(sheet, (x, 2.38), 1.3, 0.46, "network", LEARNS)
        for place, words, cells in (
            (inner, "main head\nh × k", 4),
            (outer, "extra head\nh × K", 8),
        ):
            add_arrow(sheet, (x + 0.5 * (place - x), 2.63), (place, 3.0))
            add_box(sheet, (place, 3.3), 1.06, 0.56, words, LEARNS)
            if place == outer:
                sheet.patches[-1].set_linestyle("--")
            add_arrow(sheet, (place, 3.6), (place, 3.82))
            add_bars(sheet, (place, 4.05), cells, peak=1)
        add_arrow(sheet, (inner, 4.3), (2.4 + 0.45 * outward, 4.62))
        add_arrow(sheet, (outer, 4.3), (outer, 5.75), (2.4 + 1.1 * outward, 5.75))
    for y, left, right in ((2.38, 1.87, 2.93), (3.3, 2.2, 2.6)):
        sheet.plot([left, right], [y, y], color=GREY, linestyle=":", linewidth=1.2)
    add_text(sheet, (2.4, 2.38), "same\nweights", colour=GREY, clear=True)
    add_box(sheet, (2.4, 4.93), 2.2, 0.56, "mutual information\nof P, k × k", LOSS)
    add_box(sheet, (2.4, 5.75), 2.2, 0.56, "mutual information\nof P, K × K", LOSS)
    sheet.patches[-1].set_linestyle("--")
    add_text(sheet, (2.4, 6.3), "solid and dashed parts take turns,\na pass over the images each")
    return figure


@styled
def sub_head_choice(
    points: torch.Tensor, p: torch.Tensor, losses: ArrayLike | torch.Tensor
) -> Figure:
    """What several sub-heads make of the same points, with their losses; the lowest is framed.

    Args:
        points: ``(n, 2)``.
        p: Cluster probabilities ``(h, n, k)``; a point has the colour of its largest.
        losses: ``(h,)``, a sub-head each.

    Raises:
        InputError: If there is not one loss for each sub-head.
    """
    values = np.asarray(losses)
    if len(values) != len(p):
        raise InputError(f"{len(values)} losses of {len(p)} sub-heads; give one each")
    columns = min(4, len(p))
    rows = -(-len(p) // columns)
    figure, axes = new_figure(
        rows, columns, height=1.65 * rows, squeeze=False, width=NARROW, sharex=True, sharey=True
    )
    colours = np.array(class_colours(p.shape[2]))
    for axis in axes.flat[len(p) :]:
        axis.set_visible(False)
    for number, (axis, answers) in enumerate(zip(axes.flat, p, strict=False)):
        lowest = number == values.argmin()
        axis.scatter(*points.T.numpy(), s=5, color=colours[answers.argmax(1).numpy()])
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set(
            visible=True, color=CHOSEN if lowest else GREY, linewidth=3 if lowest else 0.6
        )
        words = f"{values[number]:.2f}".replace("-", "−")
        axis.set_title(words + (" lowest" if lowest else ""), pad=4)
    return figure


def _joint(title: str, table: ArrayLike) -> NDArray[np.float64]:
    joint = np.asarray(table, dtype=float)
    if joint.ndim != 2 or len(set(joint.shape)) != 1 or not np.isclose(joint.sum(), 1):
        raise InputError(
            f"{title}: a table of shape {joint.shape} with sum {joint.sum():.3g}; "
            "give a square one with sum 1"
        )
    return joint


def _draw_joint(axis: Axes, joint: NDArray[np.float64]) -> None:
    axis.imshow(joint, cmap=SHARES, vmin=0, vmax=max(0.5, joint.max()))
    axis.set(xticks=[], yticks=[])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(joint):
        colour = "white" if value > 0.6 * max(0.5, joint.max()) else INK if value else "#bbbbbb"
        axis.text(j, i, _share(value), ha="center", va="center", color=colour)


def _share(value: float) -> str:
    """Two or three decimals, without zeros at the end or before the point."""
    return f"{value:.3f}".rstrip("0").rstrip(".").lstrip("0") or "0"
