"""Pictures of what features know: neighbours, cosines, maps in two dimensions."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from mixem.clustering import normalise_rows
from mixem.errors import InputError
from mixem.plots.images import MARK, show_image
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

MOST = 2000  # points of a map


def project(
    x: ArrayLike | torch.Tensor,
    *,
    method: Literal["t-SNE", "PCA"] = "t-SNE",
    seed: int = 0,
    most: int = MOST,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Normalised features in two dimensions.

    t-SNE keeps neighbours together; sizes of groups and distances between them mean nothing. It
    gives the same map for the same seed, machine and number of threads only.

    Args:
        x: ``(N, D)`` features.
        method: "t-SNE" or "PCA".
        seed: Of the choice of the points and of t-SNE.
        most: Points on the map; of more, a random choice.

    Returns:
        The map ``(n, 2)``, and which rows of ``x`` are on it, ``(n,)`` in ascending order.
    """
    points = normalise_rows(np.asarray(x, dtype=np.float64))
    chosen = np.arange(len(points))
    if len(points) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(points), most, replace=False))
    if method == "PCA":
        return PCA(2, random_state=seed).fit_transform(points[chosen]), chosen
    if method != "t-SNE":
        raise InputError(f"method is {method!r}; give 't-SNE' or 'PCA'")
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(
        points[chosen]
    )
    return found.astype(np.float64), chosen


@styled
def embedding_map(
    points: ArrayLike,
    groupings: Mapping[str, ArrayLike | torch.Tensor],
    *,
    names: Sequence[str] = (),
) -> Figure:
    """A map of images, once for each way of colouring it.

    Every group carries its number or name at its middle, so that colour is not the only sign.

    Args:
        points: ``(n, 2)``, such as :func:`project` gives.
        groupings: By title, a group number for each point, ``(n,)``.
        names: Of the groups of the first grouping; by default their numbers.

    Raises:
        InputError: If a grouping has not one number for each point.
    """
    place = np.asarray(points)
    count = len(groupings)
    figure, axes = new_figure(
        1, count, height=3.1 if count > 1 else 4.2, squeeze=False, width=NARROW
    )
    for position, (axis, (title, grouping)) in enumerate(
        zip(axes[0], groupings.items(), strict=True)
    ):
        group = np.asarray(grouping)
        if group.shape != (len(place),):
            raise InputError(
                f"{title!r} has shape {group.shape} for {len(place)} points; give one number each"
            )
        colours = np.array(class_colours(int(group.max()) + 1))
        axis.scatter(*place.T, s=5, c=colours[group], linewidths=0)
        for number in np.unique(group):
            text = literal(names[number]) if names and position == 0 else str(number)
            axis.annotate(
                text,
                np.median(place[group == number], axis=0),
                ha="center",
                va="center",
                weight="bold",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )
        axis.set(title=title, xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure


def nearest(
    x: ArrayLike | torch.Tensor, queries: ArrayLike, *, count: int = 8
) -> NDArray[np.int64]:
    """The ``count`` rows of ``x`` with the largest cosine to each query, itself left out.

    Args:
        x: ``(N, D)`` features.
        queries: ``(Q,)`` rows to look up.
        count: Less than N.

    Returns:
        ``(Q, count)`` rows, the nearest first.
    """
    points = np.asarray(x, dtype=np.float64)
    asked = np.asarray(queries)
    model = NearestNeighbors(n_neighbors=count + 1, metric="cosine").fit(points)
    found = model.kneighbors(points[asked], return_distance=False)
    # Of equal rows another one may stand first.
    return np.stack([row[row != query][:count] for row, query in zip(found, asked, strict=True)])


@styled
def neighbours(
    images: torch.Tensor,
    queries: ArrayLike,
    found: Mapping[str, NDArray[np.int64]],
    *,
    labels: ArrayLike | torch.Tensor,
) -> Figure:
    """Queries and their neighbours, in blocks; neighbours of another class are framed.

    Args:
        images: uint8 ``(N, C, h, w)``.
        queries: ``(Q,)`` rows of ``images``.
        found: By title of the block, ``(Q, count)`` rows of ``images``, as :func:`nearest` gives.
        labels: ``(N,)``.
    """
    asked, classes = np.asarray(queries), np.asarray(labels)
    count = next(iter(found.values())).shape[1]
    lines = len(found) * len(asked)
    height = 0.25 * len(found) + lines * NARROW / (count + 1)
    figure, axes = new_figure(lines, count + 1, height=height, squeeze=False, width=NARROW)
    line = iter(axes)
    for title, rows in found.items():
        for position, (query, row) in enumerate(zip(asked, rows, strict=True)):
            shown = next(line)
            for axis, index in zip(shown, [query, *row], strict=True):
                show_image(axis, images[index])
                if classes[index] != classes[query]:
                    axis.spines[:].set(linewidth=2.5, color=MARK)
            if position == 0:
                shown[0].set_title("query", loc="left")
                words = shown[1].text(0, 1.12, title, transform=shown[1].transAxes)
                words.set_in_layout(False)  # or it would widen its column
    return figure


@styled
def cosine_histograms(
    first: ArrayLike | torch.Tensor,
    second: ArrayLike | torch.Tensor,
    labels: ArrayLike | torch.Tensor,
) -> Figure:
    """Cosines of partners, of other images of the same class, and of images of other classes.

    Args:
        first: Embeddings ``(B, d)`` of one view of each image.
        second: Embeddings ``(B, d)`` of another view of the same images.
        labels: ``(B,)``.
    """
    a, b = (normalise_rows(np.asarray(z, dtype=np.float64)) for z in (first, second))
    classes = np.asarray(labels)
    cosines = a @ b.T
    same = classes[:, None] == classes[None]
    own = np.eye(len(classes), dtype=bool)
    groups = {
        "its partner": cosines[own],
        "another image, same class": cosines[same & ~own],
        "an image of another class": cosines[~same],
    }
    figure, axes = new_figure(3, 1, height=3.7, sharex=True, width=NARROW)
    bins = np.linspace(-1, 1, 61)
    colours = (PALETTE[2], PALETTE[1], GREY)
    for axis, (name, values), colour in zip(axes, groups.items(), colours, strict=True):
        axis.hist(values, bins, color=colour)
        axis.axvline(values.mean(), color=INK, linestyle="--", linewidth=1)
        axis.set_title(name, loc="left")
        axis.set(xlim=(-1, 1), yticks=[])
        axis.spines["left"].set_visible(False)
    axes[-1].set_xlabel("cosine to a view (dashed: the mean)")
    return figure
