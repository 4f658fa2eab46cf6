"""k-NN and linear probes."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mixem.errors import InputError
from mixem.evaluation import knn_accuracy, linear_probe


def test_neighbours_are_found_by_angle():
    # By Euclidean distance the query would be class 1.
    train_x, train_y = [[10.0, 0.0], [0.0, 1.0]], [0, 1]
    assert knn_accuracy(train_x, train_y, [[1.0, 0.2]], [0], 1) == 1.0
    assert knn_accuracy(train_x, train_y, [[1.0, 0.2]], [1], 1) == 0.0


def test_majority_and_weighted_votes():
    # One neighbour in the query's direction against two at 60 degrees.
    angle = np.pi / 3
    far = [np.cos(angle), np.sin(angle)]
    train_x, train_y = [[1.0, 0.0], far, far], [0, 1, 1]
    query = [[2.0, 0.0]]
    assert knn_accuracy(train_x, train_y, query, [1], 3) == 1.0
    # exp(1 / t) against 2 exp(0.5 / t): equal at t = 0.5 / ln 2 = 0.72.
    assert knn_accuracy(train_x, train_y, query, [0], 3, temperature=0.7) == 1.0
    assert knn_accuracy(train_x, train_y, query, [1], 3, temperature=0.75) == 1.0
    assert knn_accuracy(train_x, train_y, query, [0], 3, temperature=1e-6) == 1.0


def test_linear_probe_by_hand():
    train_x = [[0.0, 5.0], [1.0, 5.0], [10.0, 5.0], [11.0, 5.0]]
    labels = [0, 0, 1, 1]
    assert linear_probe(train_x, labels, [[2.0, 5.0], [9.0, 5.0], [0.0, 5.0]], [0, 1, 1]) == (
        pytest.approx(2 / 3)
    )


def test_scale_of_a_column_does_not_matter_to_the_linear_probe():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), np.repeat([0, 1], 40)
    x[:, 0] += y
    expected = linear_probe(x[::2], y[::2], x[1::2], y[1::2])
    scaled = x * [1e6, 1.0, 1e-6] + 3
    assert linear_probe(scaled[::2], y[::2], scaled[1::2], y[1::2]) == expected


def test_digits():
    x, y = load_digits(return_X_y=True)
    assert knn_accuracy(x[:1297], y[:1297], x[1297:], y[1297:], 5) > 0.93
    assert linear_probe(x[:1297], y[:1297], x[1297:], y[1297:]) > 0.88


@pytest.mark.parametrize(
    "probe", [linear_probe, lambda *a: knn_accuracy(*a, 1)], ids=["linear", "knn"]
)
def test_unlabelled_images_are_left_out(probe):
    train_x, train_y = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0, 1, -1]
    test_x, test_y = [[1.0, 0.1], [0.1, 1.0], [0.0, 1.0]], [0, 1, -1]
    assert probe(train_x, train_y, test_x, test_y) == 1.0


@pytest.mark.parametrize(
    "probe", [linear_probe, lambda *a: knn_accuracy(*a, 1)], ids=["linear", "knn"]
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [0, 1], [[1.0]], [0]), "1 train features but 2 train labels"),
        (([[1.0], [2.0]], [0, 1], [[1.0, 2.0]], [0]), "1 columns but test features 2"),
        (([[1.0], [2.0]], [0, 1], [[1.0]], [-1]), "none of the 1 test images is labelled"),
        (([[1.0], [2.0]], [0.0, 1.0], [[1.0]], [0]), "train labels are of type float64"),
        (([[1.0], [np.inf]], [0, 1], [[1.0]], [0]), "train features of 1 of 2 images"),
    ],
)
def test_refuses(probe, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        probe(*arguments)
    assert "\n" not in str(caught.value)


def test_each_probe_refuses_its_own():
    x, y = [[1.0], [2.0]], [0, 1]
    for k in (3, 0, 1.5, True):
        message = f"neighbours is {k}: give a whole number from 1 to 2"
        with pytest.raises(InputError, match=message):
            knn_accuracy(x, y, x, y, k)
    for temperature in (0, np.nan, "0.1"):
        with pytest.raises(InputError, match=f"temperature is {temperature!r}"):
            knn_accuracy(x, y, x, y, 1, temperature=temperature)
    for c in (0, -1, np.nan, "1", None):
        with pytest.raises(InputError, match=f"c is {c!r}: give a positive number"):
            linear_probe(x, y, x, y, c=c)
    for iterations in (0, 1.5):
        with pytest.raises(InputError, match=f"iterations is {iterations}"):
            linear_probe(x, y, x, y, iterations=iterations)
    with pytest.raises(InputError, match="all training labels are 4"):
        linear_probe(x, [4, 4], x, y)
