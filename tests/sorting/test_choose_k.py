"""Numbers of clusters: found where there are some, refused where there are none."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, silhouette_score

from mixem.errors import InputError
from mixem.sorting import Choice, KSignals, choose_k, k_panels
from mixem.sorting.choose_k import _proposal, _sample

KS = range(2, 9)


def blobs(centers: int, *, std: float = 1.0, n: int = 400, d: int = 10) -> np.ndarray:
    x, _ = make_blobs(n, d, centers=centers, cluster_std=std, random_state=0)
    return x


def row(k: int, gain: float, agreement: float = 0.9) -> KSignals:
    return KSignals(k, 0.1 + gain, 0.1, agreement, 0.0, 0.5)


@pytest.mark.parametrize("count", [3, 5, 7])
def test_clear_clusters_are_counted(count) -> None:
    found = choose_k(blobs(count), KS, progress=False)
    assert found.k == count
    assert found.alike == (count,)
    assert "No other number tried is as good" in found.reason
    (best,) = (r for r in found.rows if r.k == count)
    assert best.agreement == pytest.approx(1)
    assert best.spread == pytest.approx(0)
    assert best.silhouette > best.chance + 0.2


@pytest.mark.parametrize("d", [20, 600])
def test_one_cloud_has_no_number(d) -> None:
    x = np.random.default_rng(0).normal(size=(600, d)) + 3 * np.eye(d)[0]
    found = choose_k(x, KS, progress=False)
    assert found.k is None
    assert found.alike == ()
    assert "No number stands out" in found.reason
    assert len(found.rows) == len(KS)


def test_pictures_all_the_same_have_no_number() -> None:
    found = choose_k(np.ones((80, 4)), KS, progress=False)
    assert found.k is None
    assert {r.silhouette for r in found.rows} == {0.0}


def test_the_signals_are_what_they_are_called() -> None:
    x = blobs(4, n=90).astype(np.float32)
    found = choose_k(torch.from_numpy(x), [4], seeds=1, progress=False)
    (r,) = found.rows
    points, shuffled = _sample(x, 0, 3000)
    assert points.shape == (90, 10)
    assert shuffled.shape == (45, 10)
    np.testing.assert_allclose(np.sort(shuffled, axis=0), np.sort(points[:45], axis=0))
    truth = np.argmin(
        np.linalg.norm(points[:, None] - [points[i] for i in _one_of_each(points)], axis=2), axis=1
    )
    assert r.silhouette == pytest.approx(silhouette_score(points[:45], truth[:45]))
    assert r.agreement == pytest.approx(adjusted_rand_score(truth, truth))
    assert r.smallest == pytest.approx(4 * np.bincount(truth[:45]).min() / 45)
    assert r.spread == 0


def _one_of_each(points: np.ndarray) -> list[int]:
    """Four rows far from each other."""
    chosen = [0]
    while len(chosen) < 4:
        gaps = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1)
        chosen.append(int(gaps.argmax()))
    return chosen


def test_the_same_seeds_give_the_same_and_a_sample_is_enough() -> None:
    x = blobs(4, n=3000)
    found = choose_k(x, [3, 4, 5], sample=300, progress=False)
    assert found == choose_k(x, [5, 4, 3, 4], sample=300, progress=False)
    assert found.k == 4


def test_the_proposal_by_hand() -> None:
    k, alike, reason = _proposal([row(2, 0.1), row(3, 0.2, 0.7), row(4, 0.198, 0.8), row(5, 0.17)])
    assert (k, alike) == (4, (3, 4))
    assert reason.startswith("4: silhouette 0.30, by chance 0.10")
    assert "2 numbers from 3 to 4 separate the pictures about as well" in reason
    assert _proposal([row(2, 0.01), row(3, 0.019)])[:2] == (None, ())
    assert "try more" in _proposal([row(2, 0.1), row(3, 0.2)])[2]
    assert "try more" not in _proposal([row(2, 0.2), row(3, 0.1)])[2]
    assert "decided by chance" in _proposal([row(2, 0.1, 0.4)])[2]
    assert "decided by chance" not in reason


@pytest.mark.parametrize(
    ("ks", "n", "message"),
    [
        ([], 40, "no k to try"),
        ([1, 2], 40, "k from 1 to 2 with 40 pictures; give numbers from 2 to 10"),
        ([2, 11], 40, "give numbers from 2 to 10"),
    ],
)
def test_numbers_out_of_range_are_refused(ks, n, message) -> None:
    with pytest.raises(InputError, match=message):
        choose_k(blobs(2, n=n), ks, progress=False)


def test_features_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        choose_k(np.full((40, 2), np.nan), [2], progress=False)
    with pytest.raises(InputError, match="seeds"):
        choose_k(blobs(2), [2], seeds=0, progress=False)


def test_the_panels_draw_the_rows() -> None:
    rows = (row(2, 0.1, 0.5), row(3, 0.3, 0.9), row(4, 0.2, 0.6))
    figure = k_panels(Choice(rows, 3, (3,), ""))
    assert isinstance(figure, Figure)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["silhouette", "gain over chance", "halves agree", "smallest cluster"]
    lines = [list(axis.lines[0].get_ydata()) for axis in figure.axes]
    assert lines[2] == [0.5, 0.9, 0.6]
    np.testing.assert_allclose(lines[1], [0.1, 0.3, 0.2])
    assert all(list(axis.lines[-1].get_xdata()) == [3, 3] for axis in figure.axes)
    k_panels(Choice(rows, None, (), ""))
