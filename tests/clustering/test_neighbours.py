"""Nearest neighbours: by hand, slow reference, golden values, ties, bad rows, memory."""

import numpy as np
import pytest
import torch

from mixem.clustering import neighbours
from mixem.clustering.neighbours import nearest_neighbours
from mixem.errors import InputError


def slow(x, k, queries=None):
    """Row by row in NumPy; equal cosines by index."""
    found = []
    for row, a in enumerate(x if queries is None else queries):
        cosines = [round(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), 9) for b in x]
        order = sorted(range(len(x)), key=lambda i: (-cosines[i], i))
        found.append([i for i in order if queries is not None or i != row][:k])
    return found


def points(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) * [[1 + i % 3] for i in range(n)]


@pytest.fixture
def candidates(monkeypatch):
    """Makes small sets go through candidates, as large ones do, in several blocks.

    Returns a list that gets the number of rows of each call of the exact search.
    """
    calls = []
    exact = neighbours._exact

    def counted(rows, asked, which, *rest):
        calls.append(len(which))
        return exact(rows, asked, which, *rest)

    monkeypatch.setattr(neighbours, "CHUNK", 2)
    monkeypatch.setattr(neighbours, "BYTES", 100_000)
    monkeypatch.setattr(neighbours, "_exact", counted)
    return calls


@pytest.fixture(params=[torch.bfloat16, torch.float32])
def dtype(request, monkeypatch):
    """The type that candidates are found in."""
    monkeypatch.setattr(neighbours, "_faster", lambda rows, asked: request.param)
    return request.param


def test_by_hand():
    x = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 5.0], [-1.0, 0.0]])
    found = nearest_neighbours(x, 2)
    # Row 2 is at 90 degrees from 0 and from 3; the lower index wins. So do 0 and 2 for row 1.
    assert found.indices.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    half = 0.5**0.5
    assert found.similarities[:2].tolist() == [
        pytest.approx([half, 0], abs=1e-7),
        pytest.approx([half, half], abs=1e-7),
    ]
    assert found.indices.dtype == torch.int64


def test_golden_values():
    n, d = np.arange(7)[:, None], np.arange(4)[None]
    x = np.sin(1.7 * n + 0.9 * d) + 0.3 * np.cos(0.6 * n * d)
    assert nearest_neighbours(x, 3).indices.tolist() == [
        [4, 3, 1], [5, 4, 2], [6, 5, 1], [6, 0, 4], [0, 1, 5], [1, 2, 4], [2, 3, 5],
    ]  # fmt: skip


@pytest.mark.parametrize(("n", "d", "k"), [(2, 1, 1), (9, 3, 8), (60, 4, 5), (40, 30, 3)])
def test_equals_the_slow_reference(n, d, k):
    x = points(n, d)
    assert nearest_neighbours(x, k).indices.tolist() == slow(x, k)
    queries = points(7, d, seed=1)
    found = nearest_neighbours(x, k, queries=queries)
    assert found.indices.tolist() == slow(x, k, queries)


@pytest.mark.parametrize("seed", range(3))
def test_candidates_find_the_same(candidates, dtype, seed):
    x = points(301, 5, seed)
    found = nearest_neighbours(x, 4)
    assert found.indices.tolist() == slow(x, 4)
    assert candidates == []  # all are settled
    queries = points(50, 5, seed + 10)
    assert nearest_neighbours(x, 4, queries=queries).indices.tolist() == slow(x, 4, queries)


def test_rows_whose_candidates_settle_nothing_are_done_again(candidates, dtype):
    x = points(300, 3)
    x[50:250] = x[50]  # more equal rows than there are candidates
    found = nearest_neighbours(x, 4)
    assert sum(candidates) >= 200
    assert found.indices.tolist() == slow(x, 4)
    assert found.indices[100].tolist() == [50, 51, 52, 53]
    assert found.indices[51].tolist() == [50, 52, 53, 54]
    assert found.similarities[50:250].min() == 1


def test_a_crowd_that_bfloat16_cannot_tell_apart_is_done_again(candidates, dtype):
    x = points(300, 2)
    assert nearest_neighbours(x, 4).indices.tolist() == slow(x, 4)
    assert (sum(candidates) > 100) == (dtype == torch.bfloat16)


def test_wide_vectors_are_settled_by_their_candidates(candidates, dtype):
    x = points(400, 64)
    nearest_neighbours(x, 3)
    assert candidates == []


def test_length_does_not_matter_and_order_follows():
    x = points(50, 4)
    found = nearest_neighbours(x, 3).indices
    assert torch.equal(nearest_neighbours(x * np.arange(1, 51)[:, None], 3).indices, found)
    turned = nearest_neighbours(x[::-1].copy(), 3).indices
    assert torch.equal(49 - turned.flip(0), found)


@pytest.mark.parametrize("kind", [np.float16, np.float64, torch.float16, torch.bfloat16])
def test_types(kind):
    x = torch.from_numpy(points(20, 3))
    x = x.to(kind) if isinstance(kind, torch.dtype) else x.numpy().astype(kind)
    found = nearest_neighbours(x, 2)
    wide = np.asarray(torch.as_tensor(x).double())
    assert found.indices.tolist() == slow(wide, 2)
    assert found.similarities.dtype == torch.float32
    assert found.similarities.abs().max() <= 1


def test_a_mapped_array_is_not_changed(tmp_path):
    np.save(tmp_path / "x.npy", points(20, 3).astype(np.float16))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert nearest_neighbours(x, 2).indices.tolist() == slow(np.asarray(x, float), 2)


@pytest.mark.parametrize(
    ("x", "k", "queries", "message"),
    [
        (np.ones((4, 2)), 4, None, "4 neighbours of 4 rows; give a number from 1 to 3"),
        (np.ones((4, 2)), 0, None, "0 neighbours"),
        (np.ones((4, 2)), 5, np.ones((1, 2)), "from 1 to 4"),
        (np.ones((1, 2)), 1, None, "from 1 to 0"),
        (np.ones(4), 1, None, r"x has shape \(4,\)"),
        (np.ones((0, 4)), 1, None, "x has shape"),
        (np.ones((4, 2)), 1, np.ones((1, 3)), "2 columns and queries 3"),
        ([[1, 2], [0, 0], [0, 0], [1, 1]], 1, None, r"row 1 of x is all zeros \(2 of 4"),
        ([[1, 2], [3, 4], [1, np.nan]], 1, None, "row 2 of x is not finite"),
        ([[1, 2], [3, 4], [1, np.inf]], 1, None, "row 2 of x is not finite"),
        (np.ones((4, 2)), 1, [[0, 0]], "row 0 of queries is all zeros"),
    ],
)
def test_bad_input_is_one_line(x, k, queries, message):
    with pytest.raises(InputError, match=message) as caught:
        nearest_neighbours(x, k, queries=queries)
    assert "\n" not in str(caught.value)
