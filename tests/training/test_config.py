"""How long and how fast: schedules, and what is refused."""

import dataclasses
import math

import pytest

from mixem.data import load_images
from mixem.errors import InputError
from mixem.training import Sitting, TrainConfig

SHORT = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-3, constant_epochs=1)


@pytest.mark.parametrize(("epochs", "last"), [(100, 0.0245), (200, 0.0062), (600, 0.0007)])
def test_the_rate_is_constant_and_then_a_cosine_that_never_ends(epochs, last):
    config = TrainConfig(epochs=epochs, learning_rate=1.0)
    rates = [config.rate(epoch) for epoch in range(epochs)]
    assert rates[:10] == [1.0] * 10
    # Official schedule: epoch 10 + k, counted from 1, has the factor (1 + cos(pi k / epochs)) / 2.
    for k in range(1, epochs - 9):
        assert rates[10 + k - 1] == pytest.approx(0.5 * (1 + math.cos(math.pi * k / epochs)))
    assert rates[-1] == pytest.approx(last, abs=5e-5)
    assert TrainConfig(epochs=epochs).rate(0) == 1e-4


def test_the_rate_may_fall_with_every_step_to_0():
    config = TrainConfig(epochs=5, learning_rate=2.0, constant_epochs=1, schedule="steps")
    assert config.rate(0, 0.99) == config.rate(1) == 2.0
    assert config.rate(3) == pytest.approx(1.0)
    assert config.rate(2, 0.5) == pytest.approx(1 + math.cos(math.pi * 1.5 / 4))
    assert 0 < config.rate(4, 0.99) < 1e-3
    with pytest.raises(InputError, match="'linear'; give 'epochs', 'steps' or 'milestones'"):
        TrainConfig(schedule="linear")


def test_the_rate_may_fall_in_stairs():
    config = TrainConfig(
        epochs=500, learning_rate=5e-4, schedule="milestones", milestones=(0.3, 0.6, 0.8)
    )
    for epochs, rate in (
        ((0, 149), 5e-4), ((150, 299), 2e-4), ((300, 399), 8e-5), ((400, 499), 3.2e-5)
    ):  # fmt: skip
        assert [config.rate(epoch, 0.5) for epoch in epochs] == pytest.approx([rate] * 2)
    halved = dataclasses.replace(config, decay=0.5, milestones=(0.1,))
    assert [halved.rate(epoch) for epoch in (49, 50)] == [5e-4, 2.5e-4]
    assert dataclasses.replace(config, milestones=()).rate(499) == 5e-4


def test_a_run_shorter_than_the_constant_epochs():
    assert TrainConfig(epochs=3, learning_rate=2.0).rate(2) == 2.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", 2.5),
        ("batch_size", math.inf),
        ("learning_rate", math.inf),
        ("weight_decay", math.inf),
        ("weight_decay", math.nan),
        ("snapshots", (True,)),
        ("batch_size", 1),
        ("constant_epochs", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("weight_decay", -0.1),
        ("warmup_steps", -1),
        ("milestones", (0.0, 0.5)),
        ("milestones", (0.5, 1.0)),
        ("decay", 0.0),
        ("decay", 1.5),
        ("snapshots", (1.5,)),
        ("milestones", ("a",)),
        ("betas", (0.9, "x")),
        ("snapshots", (0, -1)),
        ("betas", (0.9,)),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("betas", (0.9, math.nan)),
        ("accumulate", 0),
        ("optimiser", "rmsprop"),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("momentum", math.nan),
    ],
)
def test_impossible_settings(field, value):
    with pytest.raises(InputError, match=field.split("_")[-1]):
        TrainConfig(**{field: value})


@pytest.mark.parametrize("field", ["max_minutes", "checkpoint_seconds"])
def test_no_time_is_nan(field):
    """Nothing is later than NaN: the training would not stop, or would not be saved."""
    with pytest.raises(InputError, match=f"{field} is nan; give a number"):
        Sitting(**{field: math.nan})


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SHORT.epochs = 5  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sitting().device = "cpu"  # type: ignore[misc]


def test_a_batch_is_no_larger_than_the_set():
    digits = load_images("digits", split="test")  # 500
    assert TrainConfig(batch_size=512).batch_for(digits) == 500
    assert TrainConfig(batch_size=100, accumulate=5).batch_for(digits) == 100
    with pytest.raises(InputError, match="6 batches of 100 a step, digits has 500 images; give"):
        TrainConfig(batch_size=100, accumulate=6).batch_for(digits)
