"""Pictures of MIX'EM: mixing, what each of its losses does, and what its components hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from mixem.clustering import KMeansResult
from mixem.errors import InputError
from mixem.losses import (
    associative_embedding,
    component_diversity,
    instance_confidence,
    instance_entropy,
)
from mixem.models import mix
from mixem.plots.images import pictures_by_group
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

ARROW: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "zorder": 3}
SIMPLEX = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])  # the corners of p


@styled
def mixing(embeddings: torch.Tensor) -> Figure:
    """The mixed embedding of two components in the plane, as the coefficients change.

    Left its place, right its length, against the coefficient of the first component.

    Args:
        embeddings: ``(2, 2)``, a row a component; they are brought to unit length.

    Raises:
        InputError: If there are not two embeddings of two numbers.
    """
    if embeddings.shape != (2, 2):
        raise InputError(f"embeddings have shape {tuple(embeddings.shape)}; give (2, 2)")
    e = F.normalize(embeddings, dim=1)
    first = torch.linspace(0, 1, 21)
    p = torch.stack([first, 1 - first], 1)
    z = mix(e[:, None].expand(2, len(p), 2), p).numpy()
    length = np.linalg.norm(z, axis=1)

    figure, (plane, curve) = new_figure(1, 2, height=2.9, width=NARROW)
    angle = np.linspace(0, 2 * np.pi, 200)
    plane.plot(np.cos(angle), np.sin(angle), color="#cccccc", linewidth=1)
    for number, (corner, colour) in enumerate(zip(e.numpy(), PALETTE, strict=False)):
        plane.quiver(0, 0, *corner, color=colour, width=0.013, scale=1, **ARROW)
        plane.annotate(f"$e_{number + 1}$", 1.15 * corner, ha="center", va="center", color=colour)
    plane.scatter(*z.T, c=first.numpy(), cmap=SEQUENTIAL, s=16, zorder=4)
    plane.set(aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[], yticks=[])
    plane.spines[:].set_visible(False)
    plane.set_title("mixed embedding z")
    curve.plot(first.numpy(), length, color="#cccccc", zorder=1)
    curve.scatter(first.numpy(), length, c=first.numpy(), cmap=SEQUENTIAL, s=16)
    curve.set(xlabel="coefficient $p_1$", title="length of z", ylim=(0, 1.08))
    return figure


@styled
def diversity_curve(shares: Mapping[str, float]) -> Figure:
    """Loss (i) of two components against the mean coefficient of the first, with some batches.

    Args:
        shares: Mean coefficients in [0, 1] to mark, by name.
    """
    mean = torch.linspace(0, 1, 201)
    value = [component_diversity(torch.stack([m, 1 - m])[None]).item() for m in mean]
    figure, axis = new_figure(height=2.7, width=NARROW)
    axis.plot(mean.numpy(), value, color=PALETTE[0])
    axis.axhline(-np.log(2), color=GREY, linestyle="--", linewidth=1)
    axis.annotate(
        "−ln 2", (0.02, -np.log(2)), xytext=(0, 3), textcoords="offset points", color=GREY
    )
    for name, share in shares.items():
        place = share, component_diversity(torch.tensor([[share, 1 - share]])).item()
        axis.scatter(*place, s=36, color=PALETTE[3], zorder=3)
        right = share > 0.8  # no room for the name to the right of the point
        axis.annotate(
            name,
            place,
            xytext=(-7 if right else 7, 5),
            textcoords="offset points",
            ha="right" if right else "left",
        )
    axis.set(xlabel="mean coefficient of component 1", ylabel="loss (i)", xlim=(0, 1))
    axis.margins(y=0.15)
    return figure


@styled
def coefficient_batches(batches: Mapping[str, torch.Tensor]) -> Figure:
    """The coefficients of small batches, their means above, and their losses (i) and (ii) below.

    Args:
        batches: Coefficients ``(B, M)`` by name.
    """
    figure, axes = new_figure(
        2,
        len(batches),
        height=3.6,
        height_ratios=(1, 2.6),
        sharey="row",
        squeeze=False,
        width=NARROW,
    )
    for (bars, heat), (name, p) in zip(axes.T, batches.items(), strict=True):
        m = p.shape[1]
        bars.bar(range(m), p.mean(0).numpy(), color=list(class_colours(m)))
        bars.set(title=name, xticks=[], ylim=(0, 1))
        heat.imshow(p.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        losses = (component_diversity(p), instance_confidence(p), instance_entropy(p))
        # Adding 0 turns -0.00 into 0.00.
        words = (f"{round(loss.item(), 2) + 0:.2f}".replace("-", "−") for loss in losses)
        labels = ("Σ p̄ ln p̄", "1 − max p", "entropy")
        text = "\n".join(f"{label} = {word}" for label, word in zip(labels, words, strict=True))
        heat.set(xlabel=text, xticks=range(m), yticks=[])
        heat.set_xticklabels(range(1, m + 1))
    axes[0, 0].set_ylabel("mean p̄")
    axes[1, 0].set_ylabel("images")
    return figure


@styled
def simplex_losses(resolution: int = 120) -> Figure:
    """Both forms of loss (ii) over the coefficients of three components, with their pull.

    An arrow is the way the coefficients go when their logits go downhill.

    Args:
        resolution: Points along one side of the shaded triangle.
    """
    grid = _simplex(resolution)
    few = _simplex(11)
    few = few[(few > 0.03).all(1)]
    figure, axes = new_figure(1, 2, height=3.6, width=NARROW)
    for axis, (name, loss) in zip(
        axes,
        {
            "1 − max p (the code)": instance_confidence,
            "entropy (the abstract)": instance_entropy,
        }.items(),
        strict=True,
    ):
        value = [loss(p[None]).item() for p in grid]
        shade = axis.tricontourf(*(grid.numpy() @ SIMPLEX).T, value, levels=12, cmap=SEQUENTIAL)
        step = _downhill(loss, few) @ SIMPLEX
        place = few.numpy() @ SIMPLEX
        axis.quiver(*place.T, *step.T, color="white", width=0.008, scale=2.2, **ARROW)
        for corner, words in zip(SIMPLEX, ("$p_1 = 1$", "$p_2 = 1$", "$p_3 = 1$"), strict=True):
            low = corner[1] == 0
            axis.annotate(
                words,
                corner,
                xytext=(0, -4 if low else 4),
                textcoords="offset points",
                ha="center",
                va="top" if low else "bottom",
            )
        axis.set(aspect="equal", xticks=[], yticks=[], xlim=(-0.15, 1.15), ylim=(-0.12, 1.02))
        axis.spines[:].set_visible(False)
        axis.set_title(name, pad=10)
        bar = figure.colorbar(shade, ax=axis, orientation="horizontal", shrink=0.8, aspect=25)
        bar.ax.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def _simplex(count: int) -> torch.Tensor:
    """Evenly spaced coefficients of three components, ``(n, 3)``."""
    steps = [(a, b, count - 1 - a - b) for a in range(count) for b in range(count - a)]
    return torch.tensor(steps, dtype=torch.float64) / (count - 1)


def _downhill(loss: Callable[[torch.Tensor], torch.Tensor], p: torch.Tensor) -> NDArray[np.float64]:
    """How each row of p moves when its logits take a step downhill, ``(n, 3)``."""
    logits = p.log().requires_grad_()
    (loss(logits.softmax(1)) * len(p)).backward()
    assert logits.grad is not None
    move = -logits.grad
    return (p * (move - (p * move).sum(1, keepdim=True))).numpy()  # softmax's derivative


@styled
def pull_and_push(z: torch.Tensor, p: torch.Tensor, *, step: float = 1.5) -> Figure:
    """Embeddings in the plane with the downhill directions of loss (iii), pull and push apart.

    Args:
        z: Mixed embeddings ``(B, 2)``.
        p: Coefficients ``(B, M)``; an image has the colour of its largest.
        step: Length of the arrows, as a multiple of the number of images times the gradient.
    """
    count = p.shape[1]
    colours = np.array(class_colours(count))
    group = p.argmax(1).numpy()
    place = z.detach().numpy()
    means = np.stack([place[group == c].sum(0) / ((group == c).sum() + 1) for c in range(count)])
    figure, axes = new_figure(1, 2, height=3.3, width=NARROW)
    for position, (axis, name) in enumerate(zip(axes, ("pull", "push"), strict=True)):
        free = z.detach().clone().requires_grad_()
        term = associative_embedding(free, p)[position]
        (gradient,) = torch.autograd.grad(term, free)
        move = -step * len(z) * gradient.numpy()
        angle = np.linspace(0, 2 * np.pi, 200)
        axis.plot(np.cos(angle), np.sin(angle), color="#cccccc", linewidth=1)
        axis.scatter(0, 0, marker="+", s=60, color=INK)
        axis.scatter(*place.T, s=18, color=colours[group])
        axis.scatter(*means.T, s=70, marker="X", color=colours, edgecolors="white", zorder=4)
        axis.quiver(*place.T, *move.T, color=colours[group], width=0.008, scale=10, **ARROW)
        axis.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
        axis.spines[:].set_visible(False)
        axis.set_title(f"{name} = {term.item():.2f}".replace("-", "−"))
    return figure


def ranked_images(
    images: torch.Tensor,
    p: torch.Tensor,
    *,
    labels: ArrayLike | torch.Tensor | None = None,
    columns: int = 10,
) -> Figure:
    """The images surest of each component, a row a component, the surest first.

    Args:
        images: uint8 ``(N, C, h, w)``.
        p: Coefficients ``(N, M)``. An image is in the row of its largest one.
        labels: ``(N,)``; if given, an image not of its component's commonest class is framed.
        columns: Images in a row.
    """
    surest, component = p.max(1)
    order = surest.argsort(descending=True, stable=True)
    group = component[order].numpy()
    count = p.shape[1]
    strange = np.zeros(len(group), bool)
    if labels is not None:
        classes = np.asarray(labels)[order.numpy()]
        for c in np.unique(group):
            members = classes[group == c]
            strange[group == c] = members != np.bincount(members).argmax()
    share = np.bincount(group, minlength=count) / len(group)
    names = [f"{c}: {100 * s:.0f} %" for c, s in enumerate(share)]
    return pictures_by_group(images[order], group, names=names, marked=strange, columns=columns)


@styled
def starts_spread(
    starts: Mapping[str, Sequence[KMeansResult]],
    accuracies: Mapping[str, Sequence[float]],
    *,
    started: Mapping[str, float] | None = None,
) -> Figure:
    """Accuracy of single starts of k-means, a line of dots for each kind of features.

    The start that would be kept, the one with the lowest inertia, has a ring.

    Args:
        starts: Results of k-means++ by name.
        accuracies: Of each result.
        started: For some names, the accuracy of k-means started from the components.

    Raises:
        InputError: If there is not one accuracy for each result.
    """
    figure, axis = new_figure(height=0.9 + 0.6 * len(starts), width=NARROW)
    rng = np.random.default_rng(0)  # of the heights within a line alone
    for line, (name, results) in enumerate(starts.items()):
        scores = np.asarray(accuracies.get(name, ()))
        if len(scores) != len(results):
            raise InputError(f"{name}: {len(results)} starts but {len(scores)} accuracies")
        height = line + rng.uniform(-0.22, 0.22, len(scores))
        best = int(np.argmin([result.inertia for result in results]))
        first = line == 0
        axis.scatter(
            scores, height, s=14, color=PALETTE[0], alpha=0.6, label=first * "one k-means++ start"
        )
        axis.scatter(
            scores[best],
            height[best],
            s=90,
            facecolors="none",
            edgecolors=PALETTE[3],
            label=first * "lowest inertia",
        )
        if name in (started or {}):
            axis.scatter(
                (started or {})[name],
                line,
                s=60,
                marker="D",
                color=PALETTE[1],
                edgecolors=INK,
                label="from the components",
            )
    axis.set_yticks(range(len(starts)), list(starts))
    axis.set(xlabel="accuracy", ylim=(len(starts) - 0.5, -0.5))
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.2, columnspacing=1)
    return figure
