"""The table orders pictures, also those of which a network is sure, and survives a spreadsheet."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mixem.clustering import kmeans
from mixem.errors import InputError
from mixem.sorting import table, write_table
from mixem.sorting.table import BLOCK

FILES = ["a.png", "b.png", "c.png", "d.png"]


def read(found, tmp_path: Path) -> list[dict[str, str]]:
    path = tmp_path / "clusters.csv"
    write_table(found, path)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_distances_by_hand() -> None:
    found = table(FILES, distances=[[1.0, 5, 3], [2, 2.5, 9], [7, 1, 8], [0.5, 4.5, 2.5]])
    assert found.clusters.tolist() == [0, 0, 1, 0]
    assert found.second.tolist() == [2, 1, 0, 2]
    assert found.margin.tolist() == [2, 0.5, 6, 2]
    assert found.distance.tolist() == [1, 2, 1, 0.5]
    assert found.rank.tolist() == [2, 3, 1, 1]  # of equal margins the nearer goes first
    assert found.sizes.tolist() == [3, 1, 0]
    assert found.members(0).tolist() == [3, 0, 1]
    assert found.members(2).tolist() == []


def test_clusters_that_are_not_the_nearest_have_a_margin_below_zero() -> None:
    found = table(FILES[:2], [1, 1], distances=[[1.0, 3], [3, 1]])
    assert found.margin.tolist() == [-2, 2]
    assert found.second.tolist() == [0, 0]
    assert found.rank.tolist() == [2, 1]


def test_probabilities_that_all_print_as_one_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1000, 10)) + 60 * np.eye(10)[rng.integers(10, size=1000)]
    rounded = torch.from_numpy(logits).float().softmax(1)
    assert (rounded.max(1).values == 1).all()
    files = [f"{i}.png" for i in range(1000)]
    for given in ({"logits": logits}, {"probabilities": rounded}):
        found = table(files, **given)
        assert len(set(found.margin)) == len(set(found.distance)) == 1000
        top = np.sort(logits, axis=1)
        np.testing.assert_allclose(found.margin, top[:, -1] - top[:, -2], rtol=1e-4)
        others = np.log(np.exp(top[:, :-1] - top[:, -1:]).sum(1))
        np.testing.assert_allclose(np.log(found.distance), others, rtol=1e-4)


def test_distance_of_logits_is_minus_the_logarithm_of_the_probability() -> None:
    logits = torch.tensor([[1.0, 2, 4], [0, 0, 0]], dtype=torch.float64)
    found = table(FILES[:2], [0, 1], logits=logits)
    expected = -logits.log_softmax(1)[[0, 1], [0, 1]]
    np.testing.assert_allclose(found.distance, expected)
    assert found.margin.tolist() == [-3, 0]
    shifted = table(FILES[:2], [0, 1], logits=logits + 700)
    np.testing.assert_allclose(shifted.distance, expected, atol=1e-12)


def test_a_probability_of_zero_is_very_small() -> None:
    found = table(FILES[:1], probabilities=[[1.0, 0.0]])
    assert 100 < found.margin[0] < 110
    assert found.distance[0] >= 0


def test_features_are_compared_with_the_means_of_their_clusters() -> None:
    x = np.random.default_rng(1).normal(size=(BLOCK + 50, 5)).astype(np.float16)
    fitted = kmeans(x, 4, n_init=1, max_iter=300)
    found = table([str(i) for i in range(len(x))], fitted.clusters, features=x)
    h = x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    means = np.stack([h[fitted.clusters == c].mean(0) for c in range(4)])
    away = np.linalg.norm(h[:, None] - means, axis=2)
    np.testing.assert_allclose(found.distance, away[np.arange(len(x)), fitted.clusters])
    assert (found.second == np.argsort(away, axis=1)[:, 1])[found.margin > 0].all()
    for c in range(4):
        margins = found.margin[found.members(c)]
        assert (np.diff(margins) <= 0).all()


def test_features_may_be_an_array_a_tensor_or_lists() -> None:
    x = np.random.default_rng(1).normal(size=(4, 3))
    margins = [
        table(FILES, [0, 1, 0, 1], features=given).margin.tolist()
        for given in (x, torch.from_numpy(x), x.tolist())
    ]
    assert margins[0] == margins[1] == margins[2]


def test_an_empty_cluster_is_nobodys_second() -> None:
    found = table(FILES, [0, 0, 2, 2], features=np.eye(4), names=["x", "y", "z", "w"])
    assert found.k == 4
    assert set(found.second) == {0, 2}


def test_one_cluster_has_no_second(tmp_path: Path) -> None:
    for given in ({"distances": [[2.0], [1]]}, {"logits": [[2.0], [1]]}):
        found = table(FILES[:2], **given)
        assert found.second.tolist() == [-1, -1]
        assert np.isnan(found.margin).all()
    found = table(FILES[:2], distances=[[2.0], [1]])
    assert found.rank.tolist() == [2, 1]
    assert read(found, tmp_path)[0] == {
        "file": "a.png", "cluster": "0", "second": "", "margin": "", "rank": "2", "distance": "2.0"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing given; give one of features"),
        ({"logits": [[1.0]] * 4, "distances": [[1.0]] * 4}, "distances, logits given"),
        ({"features": np.eye(4)}, "features without clusters"),
        ({"distances": [[1.0]] * 3}, "4 files but distances of 3"),
        ({"distances": [[1.0]] * 4, "clusters": [0] * 3}, "4 files but clusters of 3"),
        ({"features": np.eye(5), "clusters": [0] * 4}, "5 files but clusters of 4"),
        ({"distances": [[1.0]] * 4, "clusters": [1] * 4}, "cluster 1 but distances of 1 clusters"),
        ({"distances": [[-1.0]] * 4}, "distances contain -1"),
        ({"probabilities": [[1.5]] * 4}, "probabilities from 1.5"),
        ({"distances": [[1.0, 2]] * 4, "names": ["x"]}, "1 names for 2 clusters"),
        ({"distances": [[float("nan")]] * 4}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        table(FILES, **arguments)


def test_the_file_has_a_row_a_picture_in_their_order(tmp_path: Path) -> None:
    found = table(FILES, distances=[[1.0, 5], [2, 2.5], [7, 1], [1 / 3, 1]], names=["cat", "=dog"])
    write_table(found, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == (
        '"file","cluster","second","margin","rank","distance","cluster_name","second_name"\n'
        '"a.png",0,1,4.0,1,1.0,"cat","\'=dog"\n'
        '"b.png",0,1,0.5,3,2.0,"cat","\'=dog"\n'
        '"c.png",1,0,6.0,1,1.0,"\'=dog","cat"\n'
        '"d.png",0,1,0.666667,2,0.333333,"cat","\'=dog"\n'
    )
    stream = io.StringIO()
    write_table(found, stream)
    assert stream.getvalue() == (tmp_path / "t.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_begins_a_formula_and_the_path_stays_one(first, tmp_path: Path) -> None:
    name = f"{first}1+1.png"
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / name).touch()
    (row,) = read(table([name], distances=[[1.0]]), tmp_path)
    assert row["file"] == f"./{name}"
    assert (folder / row["file"]).samefile(folder / name)


def test_odd_names_come_back_byte_for_byte(tmp_path: Path) -> None:
    names = [
        os.fsdecode(b"\xff\xfe.png"),
        'a "b", c.png',
        "x;=1+1.png",
        "two\nlines.png",
        "né🐈.png",
    ]
    found = table(names, distances=[[1.0]] * len(names))
    assert [row["file"] for row in read(found, tmp_path)] == names
    raw = (tmp_path / "clusters.csv").read_bytes()
    assert b'"\xff\xfe.png"' in raw
    assert b'"x;=1+1.png"' in raw  # in quotes, so that no separator splits it


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    found = table(FILES, distances=[[1.0]] * 4)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_table(found, tmp_path / "file" / "t.csv")
    old = tmp_path / "old.csv"
    old.write_text("old")
    broken = table(["\ud800.png"], distances=[[1.0]])  # no name that a file can have
    with pytest.raises(UnicodeEncodeError):
        write_table(broken, old)
    assert old.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "old.csv"]
