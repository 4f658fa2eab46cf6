"""Matching of clusters and classes, and the accuracies that rest on it."""

from itertools import permutations

import numpy as np
import pytest
import torch

from mixem.errors import InputError
from mixem.evaluation import (
    accuracy_by_labels,
    clustering_accuracy,
    confusion_matrix,
    majority_accuracy,
    majority_mapping,
    match_clusters,
)

BAD_PAIRS = [
    ([0, 1], [0, 1, 1], "2 labels but 3 clusters"),
    ([], [], "labels are empty"),
    ([-1, -1], [0, 1], "none of the 2 images is labelled"),
    ([0.0, 1.0], [0, 1], "labels are of type float64"),
    ([0, 1], [0.5, 1.0], "clusters are of type float64"),
    (["cat", "dog"], [0, 1], "labels are of type"),
    ([0, -2], [0, 1], "labels contain -2"),
    ([0, 1], [0, -1], "clusters contain -1"),
    ([[0], [1]], [0, 1], r"labels have shape \(2, 1\)"),
]


def brute_force(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Tries every injective map of the smaller side into the larger one."""
    classes, found = np.unique(labels), np.unique(clusters)
    small, large = sorted((classes, found), key=len)
    from_clusters = small is found
    best = 0
    for image in permutations(large, len(small)):
        pairs = dict(zip(small, image, strict=True))
        if from_clusters:
            right = sum(pairs[c] == y for c, y in zip(clusters, labels, strict=True))
        else:
            right = sum(pairs[y] == c for c, y in zip(clusters, labels, strict=True))
        best = max(best, right)
    return best / len(labels)


def test_four_points_by_hand():
    labels, clusters = [0, 0, 1, 1], [1, 1, 0, 1]
    assert match_clusters(labels, clusters) == {1: 0, 0: 1}
    assert clustering_accuracy(labels, clusters) == 0.75
    matrix, order = confusion_matrix(labels, clusters)
    assert matrix.tolist() == [[2, 0], [1, 1]]
    assert order.tolist() == [1, 0]


def test_official_cases():
    # Values of the official functions of MIX'EM and IMC-SwAV on these inputs.
    labels = [0] * 4 + [1] * 3 + [2] * 3
    assert clustering_accuracy(labels, [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]) == 0.6
    assert clustering_accuracy(labels, [0] * 10) == 0.4
    assert clustering_accuracy([0, 0, 1, 1, 2, 2], [1, 1, 0, 0, 0, 2]) == pytest.approx(5 / 6)
    assert clustering_accuracy([0, 1, 2, 3], [0, 0, 0, 0]) == 0.25
    assert clustering_accuracy([0, 0, 1, 1], [0, 5, 1, 7]) == 0.5


def test_greedy_matching_would_be_worse():
    # Cluster 0 is mostly class 0, but giving it class 1 saves cluster 1.
    labels = [0] * 5 + [1] * 4 + [0] * 4
    clusters = [0] * 5 + [0] * 4 + [1] * 4
    assert match_clusters(labels, clusters) == {0: 1, 1: 0}
    assert clustering_accuracy(labels, clusters) == pytest.approx(8 / 13)


@pytest.mark.parametrize("seed", range(40))
def test_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    classes, found = rng.integers(1, 6, size=2)
    n = int(rng.integers(1, 30))
    # Numbers with gaps, so that a number is never an index.
    labels = rng.choice(50, classes, replace=False)[rng.integers(classes, size=n)]
    clusters = rng.choice(50, found, replace=False)[rng.integers(found, size=n)]
    accuracy = clustering_accuracy(labels, clusters)
    assert accuracy == pytest.approx(brute_force(labels, clusters))
    pairs = match_clusters(labels, clusters)
    assert len(set(pairs.values())) == len(pairs)
    right = [pairs.get(int(c)) == y for c, y in zip(clusters, labels, strict=True)]
    assert np.mean(right) == pytest.approx(accuracy)


@pytest.mark.parametrize("seed", range(5))
def test_names_of_clusters_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    labels, clusters = rng.integers(4, size=50), rng.integers(6, size=50)
    renamed = rng.permutation(6)[clusters] * 7 + 3
    order = rng.permutation(50)
    assert clustering_accuracy(labels, renamed) == clustering_accuracy(labels, clusters)
    assert majority_accuracy(labels, renamed) == majority_accuracy(labels, clusters)
    assert clustering_accuracy(labels[order], clusters[order]) == clustering_accuracy(
        labels, clusters
    )


def test_unlabelled_images_are_left_out():
    labels, clusters = [0, 0, 1, 1, -1, -1], [1, 1, 0, 1, 9, 0]
    assert clustering_accuracy(labels, clusters) == 0.75
    assert majority_accuracy(labels, clusters) == 0.75
    assert match_clusters(labels, clusters) == {1: 0, 0: 1}
    assert confusion_matrix(labels, clusters)[0].sum() == 4


def test_more_clusters_than_classes_are_errors_one_to_one():
    labels, clusters = [0, 0, 0, 1, 1, 1], [0, 0, 1, 2, 2, 3]
    assert clustering_accuracy(labels, clusters) == pytest.approx(4 / 6)
    assert match_clusters(labels, clusters) == {0: 0, 2: 1}
    assert majority_accuracy(labels, clusters) == 1.0


def test_majority_accuracy_by_hand():
    labels, clusters = [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]
    assert majority_accuracy(labels, clusters) == pytest.approx(4 / 6)
    # Two clusters of the same class both count.
    assert majority_accuracy([0, 0, 1, 1, 0], [0, 1, 0, 0, 0]) == pytest.approx(3 / 5)
    assert majority_accuracy([0, 1, 2], [5, 6, 7]) == 1.0


def test_confusion_matrix_orders_clusters():
    # Class 3 <-> cluster 8, class 6 <-> cluster 2; 5 and 4 stay over, the larger first.
    labels = [3] * 6 + [6] * 7
    clusters = [8, 8, 8, 4, 5, 5, 2, 2, 2, 2, 5, 8, 2]
    matrix, order = confusion_matrix(labels, clusters)
    assert order.tolist() == [8, 2, 5, 4]
    assert matrix.tolist() == [[3, 0, 2, 1], [1, 5, 1, 0]]
    assert np.trace(matrix) / matrix.sum() == pytest.approx(clustering_accuracy(labels, clusters))


def test_confusion_matrix_with_fewer_clusters():
    matrix, order = confusion_matrix([0, 1, 1, 2], [4, 4, 4, 6])
    assert order.tolist() == [4, 6]
    assert matrix.tolist() == [[1, 0], [2, 0], [0, 1]]


def test_takes_lists_arrays_and_tensors():
    labels, clusters = [0, 0, 1, 1], [1, 1, 0, 1]
    for convert in (np.array, torch.tensor, lambda x: np.array(x, dtype=np.uint8)):
        assert clustering_accuracy(convert(labels), convert(clusters)) == 0.75


@pytest.mark.parametrize(("labels", "clusters", "message"), BAD_PAIRS)
@pytest.mark.parametrize(
    "function", [clustering_accuracy, majority_accuracy, match_clusters, confusion_matrix]
)
def test_refuses(function, labels, clusters, message):
    with pytest.raises(InputError, match=message) as caught:
        function(labels, clusters)
    assert "\n" not in str(caught.value)


def test_majority_mapping_by_hand():
    labels = [2, 2, 0, 1, 1, 0, -1, -1]
    clusters = [3, 3, 3, 0, 0, 1, 2, 1]
    # Cluster 2 has no labelled image and becomes class 0.
    assert majority_mapping(labels, clusters, 5).tolist() == [1, 0, 0, 2, 0]


def test_of_equally_common_classes_the_lowest_wins():
    assert majority_mapping([3, 1, 1, 3], [0, 0, 0, 0], 1).tolist() == [1]


def test_a_cluster_beyond_the_count_is_refused():
    with pytest.raises(InputError, match="cluster 4 among 4 clusters; count from 0"):
        majority_mapping([0, 1], [4, 0], 4)


def test_the_mapping_agrees_with_majority_accuracy_on_its_own_images():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 4, 200), rng.integers(0, 9, 200)
    ours = accuracy_by_labels(labels, clusters, labels, clusters, count=9, share=1.0)
    assert ours == (pytest.approx(majority_accuracy(labels, clusters)), 0.0)


def test_accuracy_by_a_share_of_the_labels():
    """Ten pure clusters of ten: a cluster is right if one of its labels is drawn, or is class 0."""
    labels = clusters = np.repeat(np.arange(10), 10)
    options = {"count": 10, "draws": 400}
    for share, drawn in ((0.01, 1), (0.1, 10), (0.5, 50)):
        mean, std = accuracy_by_labels(labels, clusters, labels, clusters, share=share, **options)
        # Nine clusters are found with the chance that not all their labels are left out.
        missed = np.prod([(90 - i) / (100 - i) for i in range(drawn)])
        assert mean == pytest.approx(0.1 + 0.9 * (1 - missed), abs=0.02)
        assert std > 0
    one, same = (
        accuracy_by_labels(labels, clusters, labels, clusters, share=0.1, seed=seed, **options)
        for seed in (0, 0)
    )
    assert one == same


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("share", 0.0),
        ("share", 1.1),
        ("share", "1"),
        ("draws", 0),
        ("draws", 1.5),
        ("seed", -1),
        ("seed", 0.5),
        ("count", 2.5),
        ("count", 0),
    ],
)
def test_impossible_numbers_are_refused(name, value):
    numbers = {"count": 2, "share": 0.5, name: value}
    with pytest.raises(InputError, match=f"{name} is {value!r}: give a") as caught:
        accuracy_by_labels([0, 1], [0, 1], [0, 1], [0, 1], **numbers)
    assert "\n" not in str(caught.value)
