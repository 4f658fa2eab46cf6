"""Pictures of IMC-SwAV: its meters, its joint table, distances of answers, where it looks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist
from scipy.special import entr
from torch import nn

from mixem.errors import InputError
from mixem.plots.images import show_image
from mixem.plots.style import (
    GREY,
    INK,
    NARROW,
    PALETTE,
    SEQUENTIAL,
    Figure,
    bound_line,
    new_figure,
    picture,
    styled,
)
from mixem.records import Epoch

if TYPE_CHECKING:  # figures need not load what trains
    from mixem.methods import IMCSwAV

FARTHEST = np.sqrt(np.log(2))  # the largest Jensen-Shannon distance
PAIRS = {  # what two views have in common: colour, opacity and size of the dot
    "other class": (GREY, 0.25, 3),
    "same class": (PALETTE[1], 0.6, 5),
    "same image": (PALETTE[2], 0.9, 7),
}
POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@styled
def meters(
    history: Sequence[Epoch],
    bounds: Mapping[str, Mapping[str, float]],
    *,
    columns: int = 2,
) -> Figure:
    """What a run says of itself against the epoch, a panel each: its loss terms and counts.

    Args:
        history: Of a run, one entry an epoch.
        bounds: The panels by the name of a loss term or of another number of an entry, and in each
            the values to read it against, in words; drawn as dashed lines.
        columns: Panels in a row.

    Raises:
        InputError: If the history is empty or has no such number.
    """
    if not history:
        raise InputError("the history is empty; give that of a run with at least one epoch")
    rows = [{**vars(row), **row.details, **row.terms} for row in history]
    if unknown := [name for name in bounds if not isinstance(rows[-1].get(name), int | float)]:
        raise InputError(f"the history has no number {', '.join(unknown)}; give that of IMC-SwAV")
    lines = -(-len(bounds) // columns)
    figure, axes = new_figure(
        lines, columns, height=0.3 + 1.75 * lines, sharex=True, squeeze=False, width=NARROW
    )
    epochs = [row["epoch"] for row in rows]
    for axis, (name, marks) in zip(axes.flat, bounds.items(), strict=False):
        axis.plot(epochs, [row.get(name, np.nan) for row in rows], color=PALETTE[0])
        for words, value in marks.items():
            below = len(marks) > 1 and value == min(marks.values())
            bound_line(axis, words, value, below=below)
        axis.set_title(name)
        axis.margins(y=0.25)
        if isinstance(rows[-1][name], int):
            axis.set_ylim(0, 1.3 * max([row[name] for row in rows] + list(marks.values())))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes.flat[len(bounds) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    return figure


@styled
def prototype_tables(tables: Mapping[str, ArrayLike | torch.Tensor]) -> Figure:
    """Joint distributions of clusters and prototypes, one below the other.

    The columns are sorted by the cluster that they say most of. Each table has its own scale.

    Args:
        tables: By title, ``(k, K)`` with sum one.

    Raises:
        InputError: If a table does not sum to one.
    """
    height = 0.2 + 1.75 * len(tables)
    figure, axes = new_figure(len(tables), 1, height=height, squeeze=False, width=NARROW)
    for axis, (title, given) in zip(axes[:, 0], tables.items(), strict=True):
        table = np.asarray(given, dtype=float)
        if table.ndim != 2 or not np.isclose(table.sum(), 1, atol=1e-4):
            raise InputError(
                f"{title}: a table of shape {table.shape} with sum {table.sum():.3g}; "
                "give one of clusters and prototypes, with sum 1"
            )
        order = np.lexsort((-table.max(0), table.argmax(0)))
        axis.imshow(table[:, order], cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
        h = {"H(Y)": entr(table.sum(1)).sum()}
        h["H(Y | U)"] = entr(table).sum() - entr(table.sum(0)).sum()
        h["I"] = h["H(Y)"] - h["H(Y | U)"]
        words = ", ".join(f"{name} = {abs(value):.2f}" for name, value in h.items())
        axis.set_title(f"{title}: {words}", loc="left")
        axis.set(xticks=[], yticks=[], ylabel="cluster")
        axis.spines[:].set(visible=True, linewidth=0.5, color=GREY)
    axes[-1, 0].set_xlabel("prototypes, sorted by cluster")
    return figure


class Pairs(NamedTuple):
    """Distances of the answers to every two views of some images.

    Attributes:
        prototypes: Jensen-Shannon distances ``(n,)`` of the distributions over the prototypes.
        clusters: The same of those over the clusters.
        kinds: ``(n,)``: 0 views of images of different classes, 1 of different images of a class,
            2 of the same image.
    """

    prototypes: NDArray[np.float64]
    clusters: NDArray[np.float64]
    kinds: NDArray[np.int64]


def distances(u: torch.Tensor, y: torch.Tensor, labels: ArrayLike | torch.Tensor) -> Pairs:
    """Jensen-Shannon distances of every two of V views of N images.

    The distance is the root of the Jensen-Shannon divergence in nats, at most the root of ln 2.

    Args:
        u: Distributions over the prototypes, ``(V, N, K)``; rows sum to one.
        y: Distributions over the clusters, ``(V, N, k)``.
        labels: Classes of the images, ``(N,)``.

    Raises:
        InputError: If the shapes do not fit.
    """
    classes = np.asarray(labels)
    if u.ndim != 3 or u.shape[:2] != y.shape[:2] or u.shape[1] != len(classes):
        raise InputError(
            f"distributions of shapes {tuple(u.shape)} and {tuple(y.shape)} with {len(classes)} "
            "labels; give (views, images, ...) for both and one label an image"
        )
    found = [pdist(p.double().flatten(0, 1).numpy(), "jensenshannon") for p in (u, y)]
    image = np.tile(np.arange(len(classes)), len(u))
    first, second = np.triu_indices(len(image), 1)  # pdist's order
    kinds = 1 * (classes[image[first]] == classes[image[second]]) + (image[first] == image[second])
    return Pairs(np.nan_to_num(found[0]), np.nan_to_num(found[1]), kinds)


@styled
def distance_scatter(panels: Mapping[str, Pairs]) -> Figure:
    """Whether clusters follow prototypes: distances by both, a dot a pair.

    Args:
        panels: By title, what :func:`distances` gives.
    """
    figure, axes = new_figure(
        1, len(panels), height=3.4, sharex=True, sharey=True, squeeze=False, width=NARROW
    )
    for axis, (title, pairs) in zip(axes[0], panels.items(), strict=True):
        for number, (name, (colour, alpha, size)) in enumerate(PAIRS.items()):
            of = pairs.kinds == number
            axis.scatter(
                pairs.prototypes[of],
                pairs.clusters[of],
                s=size,
                color=colour,
                alpha=alpha,
                linewidths=0,
                label=name,
                rasterized=True,
            )
        limits = -0.02, FARTHEST + 0.02
        axis.set(title=title, xlabel="by prototypes u", xlim=limits, ylim=limits, aspect="equal")
    axes[0, 0].set_ylabel("by clusters y")
    legend = figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(PAIRS),
        markerscale=2.5,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure


def grad_cam(method: "IMCSwAV", images: torch.Tensor) -> torch.Tensor:
    """Which places of an image raise its largest logit (Grad-CAM).

    The channels of the last map with places, the one before pooling, are added up, each weighted
    by the mean derivative of the logit by it; what is negative becomes 0.

    Args:
        method: In evaluation mode, with a backbone of convolutions.
        images: uint8 ``(N, C, H, W)``.

    Returns:
        ``(N, H, W)``, enlarged to the images' size, at least 0, the largest of each image 1 (or
        all 0).

    Raises:
        InputError: If the backbone has no map with more than one place.
    """
    maps: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if output.ndim == 4 and output[0, 0].numel() > 1 and not isinstance(module, POOLING):
            maps[:] = [output]

    hooks = [module.register_forward_hook(keep) for module in method.backbone.modules()]
    try:
        logits = method.logits(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        raise InputError("the backbone has no map with places; give one of convolutions")
    (slopes,) = torch.autograd.grad(logits.max(1).values.sum(), maps[0])
    heat = (slopes.mean((2, 3), keepdim=True) * maps[0]).sum(1, keepdim=True).relu().detach()
    heat = F.interpolate(heat, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)


@styled
def heat_maps(
    rows: Mapping[str, tuple[torch.Tensor, torch.Tensor, Sequence[str]]],
    *,
    columns: int = 6,
) -> Figure:
    """Figure 4 of IMC-SwAV: images, and below each where the network looks.

    Args:
        rows: By name, images ``(N, C, H, W)``, their maps ``(N, H, W)`` in [0, 1] and a title
            each; at most ``columns`` of them are drawn.
        columns: Images in a row.

    Raises:
        InputError: If lengths differ.
    """
    figure, axes = new_figure(
        2 * len(rows), columns, height=2.15 * len(rows), squeeze=False, width=NARROW
    )
    for number, (name, (images, maps, titles)) in enumerate(rows.items()):
        if not len(images) == len(maps) == len(titles):
            raise InputError(
                f"{name}: {len(images)} images, {len(maps)} maps and {len(titles)} titles; "
                "give as many of each"
            )
        above, below = axes[2 * number : 2 * number + 2]
        for column in range(columns):
            if column >= len(images):
                above[column].set_visible(False)
                below[column].set_visible(False)
                continue
            show_image(above[column], images[column])
            above[column].set_title(titles[column], pad=3)
            show_image(below[column], images[column])
            below[column].imshow(
                np.asarray(maps[column]),
                cmap=SEQUENTIAL,
                vmin=0,
                vmax=1,
                alpha=0.7,
                interpolation="bilinear",
                extent=_extent(images[column]),
            )
        above[0].set_ylabel(name, color=INK)
    return figure


def _extent(image: Any) -> tuple[float, float, float, float]:
    height, width = picture(image).shape[:2]
    return -0.5, width - 0.5, height - 0.5, -0.5
