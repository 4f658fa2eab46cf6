"""The map draws each picture at its place, in the right colour, and no more than asked for."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from mixem.errors import InputError
from mixem.plots.style import class_colours
from mixem.sorting import map_places, picture_map

module = importlib.import_module("mixem.sorting.picture_map")  # the function has its name
CORNERS = np.array([[0.0, 0], [1, 1], [0, 1], [1, 0]])


def colours(count: int) -> torch.Tensor:
    """Pictures of one plain colour each, brighter and brighter."""
    levels = torch.arange(1, count + 1, dtype=torch.uint8) * (200 // count)
    return levels[:, None, None, None].expand(count, 3, 6, 6).contiguous()


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_groups_stay_together() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(90) % 3
    x = 5 * np.eye(60)[group] + rng.normal(size=(90, 60)) * 0.3
    places, rows = map_places(x, method="t-SNE")
    assert rows.tolist() == list(range(90))
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert (group[gaps.argmin(1)] == group).all()


def test_at_most_so_many_pictures() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 5))).half()
    places, rows = map_places(x, method="t-SNE", most=20, seed=1)
    assert places.shape == (20, 2)
    assert list(rows) == sorted(set(rows))
    assert list(map_places(x, method="t-SNE", most=20, seed=2)[1]) != list(rows)


def test_umap_is_taken_where_it_is(monkeypatch) -> None:
    class Model:
        def __init__(self, **options):
            self.options = options

        def fit_transform(self, points):
            assert self.options["n_neighbors"] == 3
            return points[:, :2].astype(np.float32)

    class Package:
        UMAP = Model

    monkeypatch.setattr(module, "find_spec", lambda name: name == "umap")
    x = np.eye(4)
    for method in ("auto", "UMAP"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "umap", Package)
            places, _ = map_places(x, method=method)
        np.testing.assert_array_equal(places, x[:, :2])
    assert not np.array_equal(map_places(x, method="t-SNE")[0], x[:, :2])


def test_without_umap_it_is_t_sne_or_a_refusal(monkeypatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    x = np.random.default_rng(0).normal(size=(12, 3))
    np.testing.assert_array_equal(map_places(x)[0], map_places(x, method="t-SNE")[0])
    with pytest.raises(InputError, match="pip install umap-learn"):
        map_places(x, method="UMAP")
    with pytest.raises(InputError, match="'PCA'"):
        map_places(x, method="PCA")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="map of 3 pictures"):
        map_places(x[:3])


def test_pictures_are_at_their_places_in_the_colour_of_their_clusters(tmp_path: Path) -> None:
    images = colours(8)
    picture_map(
        tmp_path / "map.png", CORNERS, [1, 3, 5, 7], images=images, clusters=[0, 1] * 4,
        side=100, thumbnail=10,
    )  # fmt: skip
    drawn = read(tmp_path / "map.png")
    assert drawn.shape == (100, 100, 3)
    level = images[:, 0, 0, 0].tolist()
    for (x, y), i in zip(((7, 92), (92, 7), (7, 7), (92, 92)), (1, 3, 5, 7), strict=True):
        assert drawn[y, x].tolist() == [level[i]] * 3
    for x, y in ((0, 0), (13, 0), (0, 13), (99, 99), (86, 86)):
        assert tuple(drawn[y, x]) == ImageColor.getrgb(class_colours(2)[1])
    assert (drawn[14:86] == 255).all()


def test_pictures_come_from_files_and_grey_ones_too(tmp_path: Path) -> None:
    files = [f"{i}.png" for i in range(4)]
    for i, name in enumerate(files):
        Image.new("RGB", (30, 20), (i * 50, 0, 0)).save(tmp_path / name)
    (tmp_path / "3.png").write_bytes(b"no picture any more")
    options = {"side": 60, "thumbnail": 10}
    picture_map(tmp_path / "a.png", CORNERS, range(4), folder=tmp_path, files=files, **options)
    drawn = read(tmp_path / "a.png")
    assert [drawn[55, 4, 0], drawn[4, 50, 0], drawn[4, 4, 0]] == [0, 50, 100]
    assert (drawn[50:, 40:] == 255).all()
    picture_map(tmp_path / "b.png", CORNERS, range(4), images=colours(4)[:, :1], **options)
    assert read(tmp_path / "b.png")[55, 4].tolist() == [50, 50, 50]


def test_one_place_for_all_is_no_error(tmp_path: Path) -> None:
    picture_map(tmp_path / "m.png", np.ones((3, 2)), [0, 1, 2], images=colours(3), side=100)
    assert (read(tmp_path / "m.png") < 255).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither images nor folder"),
        ({"folder": ".", "files": ["a"]}, "1 pictures do not fit"),
        ({"images": colours(4), "clusters": [0]}, "4 pictures do not fit"),
        ({"images": colours(4), "rows": [0]}, "for 1 pictures"),
        ({"images": colours(4), "side": 40}, "map of 40"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, arguments, message) -> None:
    rows = arguments.pop("rows", range(4))
    with pytest.raises(InputError, match=message):
        picture_map(tmp_path / "m.png", CORNERS, rows, **arguments)
    assert not list(tmp_path.iterdir())
