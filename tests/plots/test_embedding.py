"""Pictures of features: the right neighbours, the right cosines, maps that tell groups apart."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from mixem.errors import InputError
from mixem.plots import cosine_histograms, embedding_map, nearest, neighbours, project
from mixem.plots.images import MARK

# Three directions, two rows each, of different lengths.
X = torch.tensor([[1.0, 0], [5, 0.1], [0, 1], [0.2, 3], [-1, 0], [-4, -0.1]])


def test_nearest_goes_by_direction_and_leaves_the_query_out() -> None:
    assert nearest(X, [0, 3, 5], count=1).tolist() == [[1], [2], [4]]
    found = nearest(X, [0], count=5)
    assert sorted(found[0]) == [1, 2, 3, 4, 5]


def test_nearest_with_equal_rows_leaves_the_query_out() -> None:
    found = nearest(np.ones((4, 2)), [0, 1, 2, 3], count=3)
    assert [sorted(row) for row in found.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


@pytest.mark.parametrize("method", ["t-SNE", "PCA"])
def test_project_keeps_groups_together(method) -> None:
    rng = np.random.default_rng(0)
    group = np.arange(60) % 3
    x = np.eye(5)[group] + 0.05 * rng.normal(size=(60, 5))
    points, shown = project(x, method=method)
    assert shown.tolist() == list(range(60))
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert (group[gaps.argmin(1)] == group).all()


def test_project_takes_at_most_so_many_points() -> None:
    x = np.random.default_rng(0).normal(size=(50, 4))
    points, shown = project(x, method="PCA", most=20, seed=1)
    assert points.shape == (20, 2)
    assert len(set(shown)) == 20
    assert list(shown) == sorted(shown)
    assert list(project(x, method="PCA", most=20, seed=2)[1]) != list(shown)


def test_project_refuses_another_method() -> None:
    with pytest.raises(InputError, match="UMAP"):
        project(X, method="UMAP")  # type: ignore[arg-type]


def test_embedding_map_writes_each_group_at_its_middle() -> None:
    points = np.array([[0.0, 0], [0, 2], [4, 4], [6, 4]])
    figure = embedding_map(
        points, {"class": [0, 0, 1, 1], "component": [7, 7, 7, 2]}, names=["cat", "dog"]
    )
    left, right = figure.axes
    assert [(text.get_text(), tuple(text.xy)) for text in left.texts] == [
        ("cat", (0.0, 1.0)),
        ("dog", (5.0, 4.0)),
    ]
    assert [text.get_text() for text in right.texts] == ["2", "7"]
    colours = {to_hex(colour) for colour in left.collections[0].get_facecolor()}
    assert len(colours) == 2
    assert (right.get_title(), right.collections[0].get_offsets().shape) == ("component", (4, 2))


def test_embedding_map_refuses_other_lengths() -> None:
    with pytest.raises(InputError, match="'class' has shape"):
        embedding_map(np.zeros((4, 2)), {"class": [0, 1]})


def test_neighbours_frames_another_class() -> None:
    images = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    found = {"by pixels": np.array([[1, 2]]), "by features": np.array([[1, 1]])}
    figure = neighbours(images, [0], found, labels=[0, 0, 1, 1, 2, 2])
    frames = [to_hex(axis.spines["left"].get_edgecolor()) == MARK for axis in figure.axes]
    assert frames == [False, False, True, False, False, False]
    words = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert words == ["by pixels", "by features"]


def test_cosine_histograms_count_each_kind_of_pair() -> None:
    first = torch.tensor([[1.0, 0], [2, 0], [0, 3]])
    figure = cosine_histograms(first, first, [0, 0, 1])
    partner, same, other = figure.axes
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "its partner",
        "another image, same class",
        "an image of another class",
    ]
    counts = [sum(bar.get_height() for bar in axis.patches) for axis in figure.axes]
    assert counts == [3, 2, 4]
    means = [axis.lines[0].get_xdata()[0] for axis in (partner, same, other)]
    assert means == pytest.approx([1, 1, 0])
