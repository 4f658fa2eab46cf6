"""Pictures of views: which recipes are taken apart, and what is drawn where."""

import numpy as np
import pytest
import torch

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.plots import Figure, operations_apart, view_draws, view_pairs

IMAGES = (torch.arange(3 * 64) % 251).to(torch.uint8).view(3, 1, 8, 8)
RECIPE = Augmentation(
    size=8, degrees=20, brightness=0.3, jitter=0.1, blur=0.2, flip=0.5, mean=(0.5,), std=(0.2,)
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def shown(axis) -> np.ndarray:
    return axis.images[0].get_array().data


def test_operations_apart_has_one_recipe_for_each_operation_in_use() -> None:
    apart = operations_apart(RECIPE)
    assert list(apart) == ["flip", "rotate", "brightness", "blur", "all"]
    assert apart["rotate"] == Augmentation(size=8, degrees=20, jitter=1.0)
    assert apart["brightness"] == Augmentation(size=8, brightness=0.3, jitter=1.0)
    assert apart["blur"].blur == 1.0  # always shown
    assert apart["flip"].flip == 0.5  # both sides are seen
    assert apart["all"].mean == ()  # not normalised, hence to be shown
    assert apart["all"].degrees == 20


def test_operations_apart_of_the_papers_recipe() -> None:
    from mixem.experiments import get

    names = ["crop", "flip", "brightness", "contrast", "saturation", "hue", "grey", "blur", "all"]
    assert list(operations_apart(get("stl10/mixem").views)) == names


def test_view_draws_shows_the_image_and_then_views() -> None:
    recipes = {"nothing": Augmentation(size=8), "turned": Augmentation(size=8, degrees=90)}
    figure = view_draws(IMAGES[0], recipes, generator=generator(), draws=2)
    assert isinstance(figure, Figure)
    axes = np.reshape(figure.axes, (2, 3))
    assert [row[0].get_ylabel() for row in axes] == ["nothing", "turned"]
    plain = IMAGES[0, 0].numpy() / 255
    assert np.allclose(shown(axes[0, 0]), plain, atol=1e-6)
    assert np.allclose(shown(axes[0, 2]), plain, atol=1e-6)
    assert not np.allclose(shown(axes[1, 1]), plain, atol=0.1)
    assert not np.allclose(shown(axes[1, 1]), shown(axes[1, 2]), atol=0.01)


def test_view_draws_are_the_generators() -> None:
    first, second = (
        view_draws(IMAGES[0], {"all": RECIPE}, generator=generator(), draws=1) for _ in range(2)
    )
    assert np.array_equal(shown(first.axes[1]), shown(second.axes[1]))


def test_view_draws_needs_a_recipe() -> None:
    with pytest.raises(InputError, match="no recipe"):
        view_draws(IMAGES[0], {}, generator=generator())


def test_view_pairs_has_a_column_for_each_image() -> None:
    figure = view_pairs(IMAGES, RECIPE, generator=generator())
    axes = np.reshape(figure.axes, (3, 3))
    assert [row[0].get_ylabel() for row in axes] == ["image", "view 1", "view 2"]
    assert np.allclose(shown(axes[0, 2]), IMAGES[2, 0].numpy() / 255, atol=1e-6)
    assert not np.allclose(shown(axes[1, 0]), shown(axes[2, 0]), atol=0.01)
