"""Pictures of a training: its loss terms between their bounds, and how its components fill."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from mixem.errors import InputError
from mixem.plots.style import (
    GREY,
    NARROW,
    PALETTE,
    Figure,
    bound_line,
    class_colours,
    new_figure,
    styled,
)
from mixem.records import Epoch

if TYPE_CHECKING:  # figures need not load what trains
    from mixem.experiments import Experiment

NAMED_SHARE = 0.03  # of the images: narrower bands get no number


def contrast_bounds(batch_size: int, temperature: float) -> dict[str, float]:
    """Two values of NT-Xent to read a curve against.

    "best possible" is a lower bound of the loss for B images, whatever the embeddings, from
    Jensen's inequality and |sum of all unit embeddings| >= 0; chapter 3 derives it::

        ln(1 + (2B - 2) exp(-B / ((B - 1) temperature)))

    "all alike" is the loss when all embeddings are equal, ln(2B - 1).

    Args:
        batch_size: Number B of images, at least 2.
        temperature: Of the loss.

    Raises:
        InputError: For fewer than two images or a temperature that is not positive.
    """
    if batch_size < 2 or not temperature > 0:
        raise InputError(
            f"batch size {batch_size}, temperature {temperature}; give at least 2 images and a "
            "positive temperature"
        )
    gap = batch_size / ((batch_size - 1) * temperature)
    best = math.log1p((2 * batch_size - 2) * math.exp(-gap))
    return {"best possible": best, "all alike": math.log(2 * batch_size - 1)}


def term_bounds(experiment: "Experiment", images: int) -> dict[str, dict[str, float]]:
    """The bounds of an experiment's weighted loss terms, by term and in words.

    Args:
        experiment: SimCLR or MIX'EM.
        images: Number of training images; a small set makes a smaller batch.
    """
    settings = experiment.settings
    batch_size = min(experiment.training.batch_size, images)
    bounds = {"contrast": contrast_bounds(batch_size, settings.temperature)}
    if experiment.method == "simclr":
        return bounds
    m = settings.components
    undecided = 1 - 1 / m if settings.confidence == "confidence" else math.log(m)
    farthest = math.sqrt(2 * m / (m - 1)) if m > 1 else 0.0
    # The factor 2: every term but contrast is a sum over the two views.
    return bounds | {
        "diversity": {
            "even use": -2 * settings.diversity_weight * math.log(m),
            "one component": 0.0,
        },
        "confidence": {"sure": 0.0, "undecided": 2 * settings.confidence_weight * undecided},
        "pull": {"one point": 0.0},
        "push": {"farthest apart": -2 * settings.push_weight * farthest, "one point": 0.0},
    }


@styled
def terms_over_epochs(
    history: Sequence[Epoch], bounds: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Each loss term and the learning rate against the epoch, a panel each.

    Args:
        history: A run's, one entry an epoch.
        bounds: Of the terms, as :func:`term_bounds` gives; drawn as dashed lines with their names.

    Raises:
        InputError: If the history is empty.
    """
    _require(history)
    epochs = [row.epoch for row in history]
    curves = {name: [row.terms[name] for row in history] for name in history[-1].terms}
    curves["learning rate"] = [row.learning_rate for row in history]
    rows = -(-len(curves) // 2)
    figure, axes = new_figure(
        rows, 2, height=0.3 + 1.8 * rows, sharex=True, squeeze=False, width=NARROW
    )
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        axis.set_title(name)
        lines = bounds.get(name, {})
        for words, value in lines.items():
            below = value == min(lines.values())  # where no curve can be
            bound_line(axis, words, value, below=below)
        colour = PALETTE[2] if name == "learning rate" else PALETTE[0]
        axis.plot(epochs, curve, color=colour, label=name)
        axis.margins(y=0.2)
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    return figure


@styled
def usage_over_epochs(history: Sequence[Epoch]) -> Figure:
    """How the components fill, and how sure the images are of theirs, against the epoch.

    Args:
        history: Of a mixture's run: entries with ``usage``, the share of images whose largest
            coefficient is each component's, and ``confidence``, the mean largest coefficient.

    Raises:
        InputError: If the history is empty or not a mixture's.
    """
    _require(history)
    if history[-1].usage is None:
        raise InputError("the history has no usage of components; give that of a mixture's run")
    epochs = np.array([row.epoch for row in history])
    usage = np.array([row.usage for row in history])  # (epochs, M)
    count = usage.shape[1]
    figure, (areas, line) = new_figure(
        2, 1, height=4.4, sharex=True, height_ratios=(3, 1.2), width=NARROW
    )
    areas.stackplot(epochs, usage.T, colors=class_colours(count), edgecolor="white", linewidth=0.5)
    top = usage[-1].cumsum()
    for component, share in enumerate(usage[-1]):
        if share >= NAMED_SHARE:
            areas.annotate(
                str(component),
                (epochs[-1], top[component] - share / 2),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
            )
    areas.set(ylabel="share of the images", ylim=(0, 1), title="images by their largest component")
    line.plot(epochs, [row.confidence for row in history], color=PALETTE[0])
    line.axhline(1 / count, color=GREY, linestyle="--", linewidth=1)
    line.annotate(
        "undecided",
        (1, 1 / count),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        color=GREY,
    )
    line.set(ylabel="mean max p", ylim=(0, 1.05), xlabel="epoch")
    line.margins(x=0)
    line.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _require(history: Sequence[Epoch]) -> None:
    if not history:
        raise InputError("the history is empty; give that of a run with at least one epoch")
