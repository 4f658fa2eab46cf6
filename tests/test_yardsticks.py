"""Scores to measure a number by, and folders whose classes have other names than the run's."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.cli import main
from mixem.data import ImageSet, load_images
from mixem.errors import InputError
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.runs import run
from mixem.yardsticks import yardsticks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 dark pictures and 10 light ones, each in the folder of its class."""
    place = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for kind, count, least in (("dark", 30, 0), ("light", 10, 180)):
        (place / kind).mkdir()
        for number in range(count):
            pixels = (least + rng.integers(0, 60, (10, 10))).astype(np.uint8)
            Image.fromarray(pixels).save(place / kind / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    experiment = get("digits/simclr").override(
        views__size=8, clusters=2, training__epochs=1, training__batch_size=20, protocol__n_init=2
    )
    experiment = experiment.on(f"folder:{folder}")
    return run(experiment, out=tmp_path_factory.mktemp("run"), device="cpu", progress=False)


def test_the_yardsticks_of_dark_and_light_pictures(folder, finished):
    images = load_images(f"folder:{folder}", split="all", size=8)
    untrained = build(finished.experiment, channels=3, seed=0)
    found = {row.kind: row.scores for row in yardsticks(untrained, images)}
    assert list(found) == ["largest class", "k-means on pixels", "k-means, untrained network"]
    assert found["largest class"] == pytest.approx({"accuracy": 0.75, "nmi": 0, "ari": 0})
    assert found["k-means on pixels"] == pytest.approx({"accuracy": 1, "nmi": 1, "ari": 1})
    without = ImageSet(images.images)
    assert yardsticks(untrained, without) == []
    one = images.subset([0])
    assert [row.kind for row in yardsticks(untrained, one)] == ["largest class"]


def test_unlabelled_pictures_are_left_out(folder, finished):
    images = load_images(f"folder:{folder}", split="all", size=8)
    labels = images.labels.clone()
    labels[labels == 0] = torch.where(torch.arange(30) < 20, -1, 0)
    untrained = build(finished.experiment, channels=3, seed=0)
    (row, *_) = yardsticks(untrained, ImageSet(images.images, labels, images.class_names))
    assert row.scores["accuracy"] == 0.5


def test_evaluate_on_a_folder_shows_yardsticks_and_the_table(folder, finished, capsys):
    assert main(["evaluate", str(finished.folder)]) == 0
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("largest class"))
    assert line.split()[-3:] == ["0.7500", "0.0000", "0.0000"]
    *_, dark, light = printed.splitlines()
    assert (dark.split()[0], light.split()[0]) == ("dark", "light")
    assert sum(map(int, dark.split()[1:])) == 30
    assert sum(map(int, light.split()[1:])) == 10
    assert main(["evaluate", str(finished.folder), "--no-yardsticks"]) == 0
    assert "k-means on pixels" not in capsys.readouterr().out


def test_another_number_of_clusters(folder, finished, capsys):
    assert main(["predict", str(finished.folder), str(folder), "--clusters", "5"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 40
    assert {row["cluster"] for row in rows} == set("01234")
    assert main(["predict", str(finished.folder), str(folder), "--clusters", "41"]) == 2
    assert "41" in capsys.readouterr().err


def test_classes_are_matched_by_their_names():
    images = ImageSet(
        torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2, -1]), ("a", "b", "c")
    )
    found = images.with_classes(("c", "a", "d"))
    assert found.labels.tolist() == [1, -1, 0, -1]
    assert found.class_names == ("c", "a", "d")
    assert images.with_classes(("a", "b", "c")) is images
    with pytest.raises(InputError, match="classes of own are a, b, c, and those asked for x; give"):
        images.with_classes(("x",))
