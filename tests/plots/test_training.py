"""Pictures of a training: bounds that are right, and curves between them."""

import math

import pytest
import torch

from mixem.errors import InputError
from mixem.experiments import get
from mixem.losses import (
    component_diversity,
    instance_confidence,
    instance_entropy,
    nt_xent,
)
from mixem.plots import contrast_bounds, term_bounds, terms_over_epochs, usage_over_epochs
from mixem.records import Epoch


def history(epochs: int, **terms: float) -> list[Epoch]:
    return [
        Epoch(
            epoch,
            10 * epoch,
            0.1,
            5.0,
            terms or {"contrast": 5.0 / epoch, "pull": 0.1 * epoch},
            usage=[0.5, 0.48, 0.02],
            confidence=0.7,
        )
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize(("batch", "temperature"), [(2, 0.5), (4, 1.0), (8, 0.2)])
def test_contrast_bounds_are_those_of_the_loss(batch: int, temperature: float) -> None:
    bounds = contrast_bounds(batch, temperature)
    alike = nt_xent(torch.ones(batch, 3), torch.ones(batch, 3), temperature=temperature)
    assert bounds["all alike"] == pytest.approx(alike.item(), rel=1e-5)
    # The best: partners equal, and the pairs at the corners of a regular simplex.
    corners = torch.eye(batch) - 1 / batch
    best = nt_xent(corners, corners, temperature=temperature)
    assert bounds["best possible"] == pytest.approx(best.item(), rel=1e-4)
    for seed in range(5):
        z = torch.randn(2, batch, 3, generator=torch.Generator().manual_seed(seed))
        assert nt_xent(*z, temperature=temperature) > bounds["best possible"]


@pytest.mark.parametrize(("batch", "temperature"), [(1, 0.5), (4, 0.0)])
def test_contrast_bounds_refuse(batch: int, temperature: float) -> None:
    with pytest.raises(InputError, match="give at least 2"):
        contrast_bounds(batch, temperature)


def test_term_bounds_are_those_of_the_losses() -> None:
    experiment = get("stl10/mixem")
    bounds = term_bounds(experiment, images=13_000)
    even, one = torch.full((4, 10), 0.1), torch.eye(10)[[3] * 4]
    # Two views, times the weights 2, 0.1, 0.05 of the paper.
    assert bounds["diversity"]["even use"] == pytest.approx(4 * component_diversity(even).item())
    assert bounds["diversity"]["one component"] == 4 * component_diversity(one).item()
    undecided = 0.2 * instance_confidence(even).item()
    assert bounds["confidence"]["undecided"] == pytest.approx(undecided)
    assert bounds["push"]["farthest apart"] == pytest.approx(-0.1491, abs=1e-4)
    assert bounds["contrast"]["all alike"] == pytest.approx(math.log(1023))


def test_term_bounds_of_the_entropy_form() -> None:
    experiment = get("stl10/mixem").override(settings__confidence="entropy")
    even = torch.full((4, 10), 0.1)
    undecided = term_bounds(experiment, images=13_000)["confidence"]["undecided"]
    assert undecided == pytest.approx(0.2 * instance_entropy(even).item())


def test_term_bounds_of_few_images_and_of_simclr() -> None:
    bounds = term_bounds(get("stl10/simclr"), images=100)
    assert list(bounds) == ["contrast"]
    assert bounds["contrast"]["all alike"] == pytest.approx(math.log(199))


def test_terms_over_epochs_draws_curves_and_named_bounds() -> None:
    bounds = {"contrast": {"low": 1.0, "high": 6.0}}
    figure = terms_over_epochs(history(3), bounds)
    contrast, pull, rate, empty = figure.axes
    assert [axis.get_title() for axis in (contrast, pull, rate)] == [
        "contrast",
        "pull",
        "learning rate",
    ]
    assert not empty.get_visible()
    curve = next(line for line in contrast.lines if line.get_label() == "contrast")
    assert list(curve.get_xdata()) == [1, 2, 3]
    assert list(curve.get_ydata()) == [5.0, 2.5, 5 / 3]
    assert [text.get_text() for text in contrast.texts] == ["low", "high"]
    assert list(pull.texts) == []


def test_usage_over_epochs_names_the_wide_bands() -> None:
    areas, line = usage_over_epochs(history(4)).axes
    assert len(areas.collections) == 3
    assert [text.get_text() for text in areas.texts] == ["0", "1"]  # the third is too narrow
    assert list(line.lines[0].get_ydata()) == [0.7] * 4


def test_usage_over_epochs_of_a_single_epoch() -> None:
    assert len(usage_over_epochs(history(1)).axes) == 2


def test_histories_without_what_is_drawn_are_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        terms_over_epochs([], {})
    with pytest.raises(InputError, match="empty"):
        usage_over_epochs([])
    with pytest.raises(InputError, match="no usage"):
        usage_over_epochs([Epoch(1, 1, 0.1, 0.0, {})])
