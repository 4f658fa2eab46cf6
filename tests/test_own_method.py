"""A method from outside the package: one class and one line of the registry are enough."""

import csv
import dataclasses
import filecmp
import io

import pytest
import torch
from PIL import Image
from torch import nn

from mixem.cli import main
from mixem.data import load_images
from mixem.evaluation import clustering_scores
from mixem.experiments import get
from mixem.losses import iic
from mixem.methods import METHODS, Method, MethodSettings, Step, extract
from mixem.records import score
from mixem.runs import load_run, run

CPU = {"device": "cpu", "progress": False}


class Toy(Method):
    """A linear classifier whose answers to two views shall agree."""

    clusters_itself = True

    def __init__(self, backbone, views, settings=None, *, clusters=10):
        super().__init__(backbone, views, settings, clusters=clusters)
        self.head = nn.Linear(self.feature_size, clusters)

    def step(self, views, name="images"):
        p, q = (self.head(self.backbone(view)).softmax(1) for view in views)
        return Step({"agreement": iic(p, q)}, p.detach())

    def assign(self, images):
        return self.head(self.features(images)).softmax(1)


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", Toy)
        yield


@pytest.fixture(scope="module")
def experiment(tiny, registered):
    toy = dataclasses.replace(
        get("digits/simclr"), name="digits/toy", method="toy", settings=MethodSettings()
    )
    return toy.override(
        views__size=8, training__epochs=2, training__batch_size=599, protocol__n_init=2
    )


@pytest.fixture(scope="module")
def finished(experiment, tmp_path_factory):
    return run(experiment, out=tmp_path_factory.mktemp("toy"), **CPU)


def test_its_main_number_is_that_of_its_own_clusters(finished):
    digits = load_images("digits", split="train+test")
    assigned = extract(finished.method, digits.images, "assign").argmax(1)
    record = finished.record
    assert [row.kind for row in record.protocols] == ["argmax p", "k-means", "k-means"]
    assert record.metrics == clustering_scores(digits.labels, assigned)
    assert record.metrics == score(record, kind="argmax p")
    # As in the fault that this test is of: k-means on the features is something else.
    assert record.metrics != record.protocols[1].scores
    sizes = torch.bincount(assigned, minlength=10)
    assert torch.tensor(record.counts).sum(0).tolist() == sizes.tolist()
    assert record.usage.used == (sizes > 0).sum()
    assert [list(row.terms) for row in record.history] == [["agreement"]] * 2


def test_predict_agrees_with_assign_on_every_image(finished, tmp_path, capsys):
    digits = load_images("digits", split="train+test")
    assigned = extract(finished.method, digits.images, "assign").argmax(1)
    assert torch.equal(extract(finished.method, digits.images, "cluster").argmax(1), assigned)
    for number, image in enumerate(digits.images[-500:]):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number:03}.png")
    assert main(["predict", str(finished.folder), str(tmp_path), "--device=cpu"]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [int(row["cluster"]) for row in rows] == assigned[-500:].tolist()


def test_a_stopped_run_ends_as_one_in_one(experiment, finished, tmp_path):
    sittings, again = 0, None
    while again is None:
        again = run(experiment, out=tmp_path, max_minutes=0, **CPU)
        sittings += 1
    assert sittings == 2
    weights = [folder / "model.safetensors" for folder in (finished.folder, tmp_path)]
    assert filecmp.cmp(*weights, shallow=False)
    for name in ("protocols", "history", "counts"):
        assert getattr(again.record, name) == getattr(finished.record, name), name


def test_it_is_loaded(finished, experiment):
    again = load_run(finished.folder)
    assert isinstance(again.method, Toy)
    assert again.experiment == experiment
    assert again.record == finished.record
