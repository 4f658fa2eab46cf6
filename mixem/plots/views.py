"""Pictures of views: what an augmentation does to an image."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.plots.images import show_image
from mixem.plots.style import NARROW, Figure, new_figure, styled

# The settings of a recipe that belong to one operation, by the operation's name.
OPERATIONS: dict[str, tuple[str, ...]] = {
    "crop": ("crop_scale", "crop_ratio"),
    "flip": ("flip",),
    "rotate": ("degrees",),
    "shift": ("translate",),
    "scale": ("scale",),
    "shear": ("shear",),
    "brightness": ("brightness",),
    "contrast": ("contrast",),
    "saturation": ("saturation",),
    "hue": ("hue",),
    "grey": ("grey",),
    "blur": ("blur_sigma", "blur_kernel"),
}
ALWAYS = {"grey": 1.0, "blur": 1.0}  # shown on every draw, whatever their probability


def operations_apart(views: Augmentation) -> dict[str, Augmentation]:
    """One recipe for each operation that ``views`` uses, as strong as there, always applied.

    Mirroring keeps its probability, so that both sides are seen.

    Args:
        views: A recipe.

    Returns:
        By operation, in the order of application, with "all" last: ``views`` itself, not
        normalised so that it can be shown.
    """
    plain = Augmentation(size=views.size)
    apart = {}
    for name, settings in OPERATIONS.items():
        first = name if name in ALWAYS else settings[0]
        if getattr(views, first) != getattr(plain, first):
            changes: dict[str, Any] = {key: getattr(views, key) for key in settings}
            changes |= {name: ALWAYS[name]} if name in ALWAYS else {}
            apart[name] = replace(plain, jitter=1.0, **changes)
    return {**apart, "all": replace(views, mean=(), std=())}


@styled
def view_draws(
    image: torch.Tensor,
    recipes: Mapping[str, Augmentation],
    *,
    generator: torch.Generator,
    draws: int = 6,
) -> Figure:
    """An image and several views of it under each recipe, a row a recipe.

    Args:
        image: uint8 ``(C, h, w)``.
        recipes: By name, such as :func:`operations_apart` gives.
        generator: Draws the views.
        draws: Views in a row.

    Raises:
        InputError: If there is no recipe.
    """
    if not recipes:
        raise InputError("there is no recipe to draw views with; give at least one")
    figure, axes = new_figure(
        len(recipes), draws + 1, height=0.2 + 0.64 * len(recipes), squeeze=False, width=NARROW
    )
    for row, (name, recipe) in zip(axes, recipes.items(), strict=True):
        shown = [recipe.plain(image[None])[0]]
        shown += list(recipe(image.expand(draws, *image.shape), generator))
        for axis, view in zip(row, shown, strict=True):
            show_image(axis, view)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    axes[0, 0].set_title("image")
    axes[0, 1].set_title("views", loc="left")
    return figure


@styled
def view_pairs(images: torch.Tensor, views: Augmentation, *, generator: torch.Generator) -> Figure:
    """Images and two views of each, one column an image: what a batch holds.

    Args:
        images: uint8 ``(N, C, h, w)``.
        views: A recipe; it is shown without its normalisation.
        generator: Draws the views.
    """
    shown = replace(views, mean=(), std=())
    rows = {"image": shown.plain(images)}
    rows |= {f"view {i}": shown(images, generator) for i in (1, 2)}
    figure, axes = new_figure(
        3, len(images), height=15.5 / (len(images) + 0.8), squeeze=False, width=NARROW
    )
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, row, strict=True):
            show_image(axis, image)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure
