"""k-means: the protocol's switches, the start from components, new images."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mixem.clustering import (
    KMeansProtocol,
    assign_to_centres,
    component_centres,
    kmeans,
    kmeans_starts,
    normalise_rows,
)
from mixem.errors import InputError
from mixem.evaluation import clustering_accuracy


@pytest.fixture(scope="module")
def blobs():
    """Three groups of 20 points around the corners of a triangle."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    return np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])[labels] + rng.normal(
        0, 0.5, (60, 2)
    ), labels


def test_four_points_by_hand():
    x = [[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 2.0]]
    found = kmeans(x, 2, normalise=False)
    assert sorted(found.centres.tolist()) == [[0.0, 1.0], [10.0, 1.0]]
    assert clustering_accuracy([0, 0, 1, 1], found.clusters) == 1.0
    assert found.inertia == pytest.approx(4.0)
    assert found.variance == pytest.approx(0.5)
    assert (found.used_clusters, found.empty_components) == (2, 0)


def test_normalising_divides_rows_by_their_length():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    assert normalise_rows(x).tolist() == [[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]]
    # Two directions at very different lengths: only normalised k-means finds the directions.
    x = np.array([[1.0, 0.0], [100.0, 0.0], [0.0, 1.0], [0.0, 100.0]] * 3)
    labels = [0, 0, 1, 1] * 3
    assert clustering_accuracy(labels, kmeans(x, 2, normalise=True).clusters) == 1.0
    assert clustering_accuracy(labels, kmeans(x, 2, normalise=False).clusters) < 1.0


def test_a_zero_row_is_clustered(blobs):
    # The official code makes it NaN and fails.
    x = np.vstack([blobs[0], [[0.0, 0.0]]])
    assert np.isfinite(kmeans(x, 3, normalise=True).centres).all()


def test_digits_pixels_baseline():
    x, labels = load_digits(return_X_y=True)
    found = kmeans(x, 10, normalise=False, n_init=10, max_iter=300)
    assert clustering_accuracy(labels, found.clusters) == pytest.approx(0.79, abs=0.03)


def test_same_seed_same_result_and_float32_tensor(blobs):
    x, _ = blobs
    first, again = kmeans(x, 5, seed=3), kmeans(x, 5, seed=3)
    assert np.array_equal(first.clusters, again.clusters)
    found = kmeans(torch.tensor(x, dtype=torch.bfloat16), 3)
    assert found.centres.dtype == np.float64


def test_numbers_may_be_those_of_numpy(blobs):
    x, _ = blobs
    found = kmeans(x, np.int64(3), seed=np.uint32(7), n_init=np.int16(2), max_iter=np.int32(10))
    assert np.array_equal(found.clusters, kmeans(x, 3, seed=7, n_init=2).clusters)


def test_iterations_are_a_limit():
    x, _ = load_digits(return_X_y=True)
    assert kmeans(x, 10, n_init=1, max_iter=2).iterations == 2
    assert 2 < kmeans(x, 10, n_init=1, max_iter=300).iterations < 300


def test_clusters_are_nearest_centres_even_before_convergence():
    x, _ = load_digits(return_X_y=True)
    found = kmeans(x, 10, n_init=1, max_iter=1)
    clusters, _ = assign_to_centres(x, found.centres, normalise=True, variance=found.variance)
    assert np.array_equal(clusters, found.clusters)


def test_fewer_distinct_rows_than_k_is_reported():
    found = kmeans(np.ones((6, 3)), 4)
    assert found.used_clusters == 1
    assert found.inertia == pytest.approx(0.0, abs=1e-12)
    found = kmeans(np.ones((6, 3)), 4, components=[0, 0, 0, 1, 1, 1])
    assert (found.used_clusters, found.empty_components) == (1, 2)


# Components ---------------------------------------------------------------------------------


def test_centres_are_means_of_the_components():
    x = np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 0.0], [8.0, 0.0]])
    centres, missing = component_centres(x, 2, [1, 1, 0, 0])
    assert centres.tolist() == [[6.0, 0.0], [0.0, 2.0]]
    assert missing == 0


def test_centres_are_means_after_normalising_and_not_normalised_again():
    x = np.array([[5.0, 0.0], [0.0, 3.0], [-7.0, 0.0], [-0.5, 0.0]])
    found = kmeans(x, 2, components=[0, 0, 1, 1])
    # (1, 0) and (0, 1) have the mean (1/2, 1/2), of length 0.71.
    assert found.centres == pytest.approx(np.array([[0.5, 0.5], [-1.0, 0.0]]))
    assert found.clusters.tolist() == [0, 0, 1, 1]


def test_cluster_numbers_are_component_numbers(blobs):
    x, labels = blobs
    permuted = np.array([2, 0, 1])[labels]
    assert np.array_equal(kmeans(x, 3, normalise=False, components=permuted).clusters, permuted)


def test_the_start_decides_where_random_starts_do_not():
    # A rectangle has two stable partitions; the components choose the worse one.
    x = np.array([[0.0, 0.0], [0.0, 2.0], [3.0, 0.0], [3.0, 2.0]])
    found = kmeans(x, 2, normalise=False, components=[0, 1, 0, 1])
    assert found.clusters.tolist() == [0, 1, 0, 1]
    assert found.inertia > kmeans(x, 2, normalise=False).inertia


def test_more_components_than_k_the_most_populated_supply_the_centres():
    x = np.arange(9, dtype=float)[:, None]
    components = [7, 7, 7, 4, 4, 9, 2, 2, 2]
    centres, missing = component_centres(x, 3, components)
    assert centres[:, 0].tolist() == [7.0, 3.5, 1.0]  # components 2, 4, 7
    assert missing == 0
    # A tie in size goes to the lower number: 4 and 9 hold two images each.
    centres, _ = component_centres(x, 2, [4, 9, 9, 4, 6, 6, 6, 1, 3])
    assert centres[:, 0].tolist() == [1.5, 5.0]  # components 4, 6


def test_missing_centres_are_the_farthest_images_one_after_the_other():
    x = np.array([[0.0], [1.0], [10.0], [-4.0], [6.0]])
    # Component 1 holds everything around 2.6; farthest is 10, then -4.
    centres, missing = component_centres(x, 3, [1, 1, 1, 1, 1])
    assert centres[:, 0] == pytest.approx([10.0, 2.6, -4.0])
    assert missing == 2
    assert kmeans(x, 3, normalise=False, components=[1] * 5).empty_components == 2


def test_every_missing_centre_heeds_those_before():
    # 9 and 10 are the two farthest images, but 9 is close to the centre placed on 10.
    x = np.array([[0.0], [0.0], [0.0], [-5.0], [9.0], [10.0]])
    assert component_centres(x, 3, [0] * 6)[0][1:, 0].tolist() == [10.0, -5.0]
    x = np.array([[-10.0], [10.0], [5.0], [-4.0]])
    assert component_centres(x, 4, [0] * 4)[0][:, 0].tolist() == [0.25, -10.0, 10.0, 5.0]


def test_ties_of_the_rule_go_to_the_first_image():
    x = np.array([[0.0], [3.0], [-3.0]])
    assert component_centres(x, 2, [0, 0, 0])[0][:, 0].tolist() == [0.0, 3.0]
    assert component_centres(x[::-1], 2, [0, 0, 0])[0][:, 0].tolist() == [0.0, -3.0]


def test_the_rule_uses_no_random_numbers():
    x = np.random.default_rng(0).normal(size=(50, 4))
    np.random.seed(0)  # noqa: NPY002 - the official code draws from this generator
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = kmeans(x, 6, components=[0] * 50, seed=1)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.array_equal(first.clusters, kmeans(x, 6, components=[0] * 50, seed=2).clusters)


def test_empty_components_can_be_refused():
    x = np.arange(6, dtype=float)[:, None]
    message = "needs 3 components that hold an image but only 2 do"
    with pytest.raises(InputError, match=message):
        kmeans(x, 3, components=[0, 0, 0, 5, 5, 5], empty="error")
    full = kmeans(x, 2, components=[0, 0, 0, 5, 5, 5], empty="error")
    assert full.empty_components == 0


# Protocol -----------------------------------------------------------------------------------


def test_protocol_and_keywords_agree(blobs):
    x, labels = blobs
    protocol = KMeansProtocol(normalise=False, n_init=3, init="components")
    by_protocol = kmeans(x, 3, components=labels, protocol=protocol)
    by_keywords = kmeans(x, 3, components=labels, normalise=False)
    assert np.array_equal(by_protocol.centres, by_keywords.centres)
    with pytest.raises(FrozenInstanceError):
        protocol.starts = 4


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("layer", "pixels"),
        ("init", "random"),
        ("empty", "ignore"),
        ("n_init", 0),
        ("max_iter", 0),
        ("n_init", 1.5),
        ("max_iter", True),
        ("max_iter", "10"),
    ],
)
def test_protocol_refuses(field, given):
    with pytest.raises(InputError, match=f"k-means {field} is {given!r}"):
        KMeansProtocol(**{field: given})


def test_unknown_switch_is_refused(blobs):
    with pytest.raises(TypeError, match="starts"):
        kmeans(blobs[0], 3, starts=4)


@pytest.mark.parametrize(
    ("x", "k", "keywords", "message"),
    [
        (np.ones((3, 2)), 4, {}, "k is 4 but there are only 3 images"),
        (np.ones((3, 2)), 0, {}, "k is 0: give a whole number from 1 on"),
        (np.ones((3, 2)), 2.5, {}, "k is 2.5: give a whole number from 1 on"),
        (np.ones((3, 2)), True, {}, "k is True"),
        (np.ones((3, 2)), None, {}, "k is None"),
        (np.ones((3, 2)), 2, {"seed": -1}, "seed is -1: give a whole number from 0 to 4294967295"),
        (np.ones((3, 2)), 2, {"seed": 2**32}, "seed is 4294967296"),
        (np.ones((3, 2)), 2, {"seed": "0"}, "seed is '0'"),
        (np.ones((3, 2)), 2, {"n_init": 1.5}, "k-means n_init is 1.5: give a whole number"),
        ([[1.0, 2.0], [3.0]], 1, {}, "features are no array"),
        (np.ones(3), 1, {}, r"shape \(3,\)"),
        (np.ones((0, 2)), 1, {}, "give at least one image"),
        ([["a"]], 1, {}, "give real numbers"),
        ([[1.0], [math.nan], [math.inf]], 1, {}, "2 of 3 images are not finite, first image 1"),
        (np.ones((3, 2)), 1, {"components": [0, 0]}, "3 images but 2 components"),
        (np.ones((3, 2)), 1, {"components": [0.0, 0.0, 1.0]}, "components are of type float64"),
        (np.ones((3, 2)), 1, {"init": "components"}, "none are given"),
        (np.ones((3, 2)), 1, {"components": [0, 0, 0], "init": "k-means++"}, "drop one"),
    ],
)
def test_kmeans_refuses(x, k, keywords, message):
    with pytest.raises(InputError, match=message) as caught:
        kmeans(x, k, **keywords)
    assert "\n" not in str(caught.value)


# Single starts ------------------------------------------------------------------------------


def test_single_starts_are_seeded_and_differ():
    x, _ = load_digits(return_X_y=True)
    found = kmeans_starts(x, 10, 6, seed=1)
    again = kmeans_starts(x, 10, 4, seed=1)
    assert [f.inertia for f in found][:4] == [f.inertia for f in again]
    assert len({round(f.inertia, 6) for f in found}) > 1
    other = kmeans_starts(x, 10, 2, seed=2)
    assert {round(f.inertia, 6) for f in other}.isdisjoint(round(f.inertia, 6) for f in found)


def test_single_starts_refuse():
    for starts in (0, 2.5, True):
        with pytest.raises(InputError, match=f"starts is {starts}"):
            kmeans_starts(np.ones((3, 2)), 1, starts)
    with pytest.raises(InputError, match="seed is -1"):
        kmeans_starts(np.ones((3, 2)), 1, 2, seed=-1)
    with pytest.raises(InputError, match="none are given"):
        kmeans_starts(np.ones((3, 2)), 1, 2, init="components")


# New images ---------------------------------------------------------------------------------


def test_probability_by_hand():
    # Squared distances 1 and 9 over 2 * 2: 1 / (1 + exp(-2)).
    clusters, probabilities = assign_to_centres(
        [[1.0]], [[4.0], [0.0]], normalise=False, variance=2.0
    )
    assert clusters.tolist() == [1]
    assert probabilities == pytest.approx([1 / (1 + math.exp(-2))])


def test_probability_is_one_over_k_between_centres():
    _, probabilities = assign_to_centres([[0.0]], [[-1.0], [1.0]], normalise=False, variance=0.3)
    assert probabilities == pytest.approx([0.5])


@pytest.mark.parametrize("variance", [0.0, 1e-320, 1e-12, 1.0, 1e300])
def test_probability_is_finite_for_any_variance(variance):
    x = [[0.0], [0.4], [1.0], [1e6]]
    clusters, probabilities = assign_to_centres(
        x, [[0.0], [1.0]], normalise=False, variance=variance
    )
    assert clusters.tolist() == [0, 0, 1, 1]
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0.5).all()
    assert (probabilities <= 1.0).all()


def test_zero_variance_shares_equally_at_a_tie():
    clusters, probabilities = assign_to_centres(
        [[0.0], [1.0]], [[-1.0], [1.0]], normalise=False, variance=0.0
    )
    assert clusters.tolist() == [0, 1]
    assert probabilities.tolist() == [0.5, 1.0]


def test_assigning_normalises_as_asked():
    centres = [[1.0, 0.0], [0.0, 50.0]]
    x = [[30.0, 20.0]]
    assert assign_to_centres(x, centres, normalise=False, variance=1.0)[0].tolist() == [0]
    assert assign_to_centres([[0.1, 40.0]], centres, normalise=False, variance=1.0)[0] == [1]
    assert assign_to_centres([[0.1, 40.0]], centres, normalise=True, variance=1.0)[0] == [0]


@pytest.mark.parametrize(
    ("x", "variance", "message"),
    [
        ([[1.0, 2.0]], 1.0, "features have 2 columns but centres 1"),
        ([[1.0]], -1.0, "variance is -1.0"),
        ([[1.0]], math.nan, "variance is nan"),
        ([[1.0]], "1", "variance is '1'"),
        ([[math.nan]], 1.0, "not finite"),
    ],
)
def test_assigning_refuses(x, variance, message):
    with pytest.raises(InputError, match=message):
        assign_to_centres(x, [[0.0]], normalise=False, variance=variance)
