"""NMI and ARI."""

import numpy as np
import pytest

from mixem.errors import InputError
from mixem.evaluation import ari, clustering_accuracy, clustering_scores, nmi

LABELS = [0] * 4 + [1] * 3 + [2] * 3
CLUSTERS = [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


def test_golden_values():
    # The official cluster_metrics of MIX'EM on this input.
    scores = clustering_scores(LABELS, CLUSTERS)
    assert list(scores) == ["accuracy", "nmi", "ari"]
    assert scores["nmi"] == pytest.approx(0.4667534267629658, abs=1e-12)
    assert scores["ari"] == pytest.approx(0.25, abs=1e-12)
    assert scores["accuracy"] == 0.6


def test_one_cluster():
    assert clustering_scores(LABELS, [0] * 10) == {
        "accuracy": 0.4,
        "nmi": pytest.approx(0.0, abs=1e-12),
        "ari": pytest.approx(0.0, abs=1e-12),
    }


def test_nmi_is_arithmetic():
    # H(Y) = ln 2, H(C) = ln 4, I = ln 2: arithmetic mean gives 2/3, geometric 1/sqrt(2).
    assert nmi([0, 0, 1, 1], [0, 1, 2, 3]) == pytest.approx(2 / 3)


def test_ari_by_hand():
    # Pairs together in both: 1; in classes: 2; in clusters: 3; of 6. (1 - 1) / (2.5 - 1) = 0.
    assert ari([0, 0, 1, 1], [0, 0, 0, 1]) == pytest.approx(0.0, abs=1e-12)
    # The worst value: every pair that is together in one is apart in the other.
    assert ari([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(-0.5)


def test_relabelling_changes_nothing():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(5, size=200), rng.integers(7, size=200)
    renamed = rng.permutation(7)[clusters] * 3 + 1
    expected = clustering_scores(labels, clusters)
    assert clustering_scores(labels, renamed) == pytest.approx(expected)


def test_unlabelled_images_are_left_out():
    labels, clusters = [*LABELS, -1, -1], [*CLUSTERS, 5, 0]
    assert clustering_scores(labels, clusters) == clustering_scores(LABELS, CLUSTERS)


def test_as_many_clusters_as_images_gives_no_warning():
    assert clustering_accuracy(range(50), range(50)) == 1.0
    assert nmi(np.arange(50), np.arange(50)) == pytest.approx(1.0)


@pytest.mark.parametrize("function", [nmi, ari, clustering_scores])
def test_refuses_unequal_lengths(function):
    with pytest.raises(InputError, match="2 labels but 3 clusters"):
        function([0, 1], [0, 1, 1])


def test_numbers_that_int64_does_not_hold_are_refused():
    large = np.array([2**63, 2**63 + 1] * 5, dtype="uint64")
    for labels, clusters in ((large, [0, 1] * 5), ([0, 1] * 5, large)):
        with pytest.raises(
            InputError, match="type uint64 and contain 9223372036854775809"
        ) as caught:
            clustering_scores(labels, clusters)
        assert "\n" not in str(caught.value)
    # The largest that it holds.
    assert clustering_scores([2**63 - 1, 0], [0, 1])["accuracy"] == 1
