"""The meter: means of an epoch, what breaks, what collapses."""

import math

import pytest
import torch

from mixem.methods import Step
from mixem.training.meter import Meter


def test_the_first_term_to_break_is_named_whatever_breaks_after_it():
    meter = Meter()
    for contrast, pull in ((1.0, math.nan), (math.inf, math.nan), (math.nan, math.nan)):
        meter.add(Step({"contrast": torch.tensor(contrast), "pull": torch.tensor(pull)}))
    meter.read(1, 2, 1e-3)
    assert meter.broken() == "pull"


def test_the_meter_by_hand():
    meter = Meter()
    for contrast, p in ((1.0, [[0.8, 0.2], [0.3, 0.7]]), (4.0, [[0.6, 0.4], [0.9, 0.1]])):
        meter.add(Step({"contrast": torch.tensor(contrast)}, torch.tensor(p)))
    row = meter.read(1, 2, 1e-3)
    assert row.loss == 2.5
    assert row.terms == {"contrast": 2.5}
    assert row.usage == [0.75, 0.25]
    assert row.used == 2
    assert row.confidence == pytest.approx((0.8 + 0.7 + 0.6 + 0.9) / 4)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert row.usage_entropy == pytest.approx(entropy)
    assert (row.epoch, row.step, row.learning_rate, row.seconds) == (1, 2, 1e-3, None)
    assert meter.collapsed(row, {"contrast": 3.0}) is None
    assert meter.broken() is None


def test_the_meter_counts_what_was_ever_hit():
    meter = Meter()
    for hits in ([3, 0, 0, 1], [0, 0, 1, 0]):
        terms = {"swapped": torch.tensor(1.0)}
        meter.add(Step(terms, hits={"prototypes": torch.tensor(hits)}))
    assert meter.read(1, 2, 1e-3).details == {"prototypes": 3}


@pytest.mark.parametrize(
    ("share", "warned"), [(1.0, True), (1.03, True), (0.99, False), (1.5, False)]
)
def test_a_swapped_prediction_at_its_bound_is_a_collapse(share, warned):
    meter, bound = Meter(), math.log(1000)
    meter.add(Step({"swapped": torch.tensor(share * bound)}))
    row = meter.read(1, 2, 1e-3)
    found = meter.collapsed(row, {"swapped": bound, "never a term": 0.0})
    assert found == (
        "the swapped term stays at 6.908, its value for a network that gives all images the same "
        "answer"
        if warned
        else None
    )
    assert meter.collapsed(row, {}) is None


def test_details_are_means_over_the_batches_that_have_them():
    meter = Meter()
    for details in ({"losses": torch.tensor([1.0, 2.0])}, {"losses": torch.tensor([3.0, 6.0])}, {}):
        meter.add(Step({"main": torch.tensor(1.0)}, details=details))
    row = meter.read(1, 3, 1e-3)
    assert row.details == {"losses": [2.0, 4.0]}
    assert (row.usage, row.used, row.confidence) == (None, None, None)


def test_clusters_of_which_all_sub_heads_use_one_are_a_collapse():
    meter, p = Meter(), torch.eye(3)[[1, 1]]
    meter.add(Step({"main": torch.tensor(-0.5)}, torch.stack([p, p])))
    row = meter.read(1, 1, 1e-3)
    assert row.used == [1, 1]
    assert meter.collapsed(row, {}) == "all images are in one of 3 clusters"
    meter.add(Step({"main": torch.tensor(-0.5)}, torch.stack([p, torch.eye(3)[[1, 2]]])))
    row = meter.read(1, 2, 1e-3)
    assert row.used == [1, 2]
    assert meter.collapsed(row, {}) is None
