"""Runs of IMC-SwAV: stopped and resumed, scored, recorded, loaded again, from the command line."""

import dataclasses
import filecmp

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.cli import main
from mixem.data import load_images
from mixem.errors import InputError
from mixem.evaluation import clustering_scores
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.methods import extract
from mixem.methods.imc_swav import BATCH_NORM
from mixem.records import CurvePoint, load_records, save_record, score, summarise
from mixem.runs import load_run, run

CPU = {"device": "cpu", "progress": False}
SMALL = {
    "views__size": 8,
    "settings__small_views__size": 8,
    "settings__small": 1,
    "settings__prototypes": 20,
    "settings__hidden": 16,
    "settings__frozen_steps": 4,  # in the middle of the second epoch
    "training__warmup_steps": 4,
    "training__epochs": 3,
    "training__batch_size": 599,
    "training__snapshots": (1, 3),
    "protocol__n_init": 2,
}


def small():
    return get("digits/imc-swav").override(**SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(small(), out=tmp_path_factory.mktemp("imc"), **CPU)


def test_a_stopped_run_ends_as_one_in_one(finished, tmp_path):
    sittings, found = 0, None
    while found is None:
        found = run(small(), out=tmp_path, max_minutes=0, **CPU)
        sittings += 1
    assert sittings == 3
    weights = [folder / "model.safetensors" for folder in (finished.folder, tmp_path)]
    assert filecmp.cmp(*weights, shallow=False)
    for name in ("metrics", "protocols", "history", "counts", "curve"):
        assert getattr(found.record, name) == getattr(finished.record, name)
    assert found.history[-1].details["prototypes"] <= 20


def test_the_curve_has_the_main_number_of_each_snapshot(finished):
    first, last = finished.record.curve
    assert last == CurvePoint(3, finished.record.metrics)
    images = load_images("digits", split="train+test")
    clusters = extract(finished.at(1), images.images, "assign").argmax(1)
    assert first == CurvePoint(1, clustering_scores(images.labels, clusters))


def test_the_main_number_is_that_of_the_network_in_the_folder(finished):
    record = finished.record
    main = record.protocols[0]
    assert (main.kind, main.switches) == ("argmax p", {"batch_norm": "training views"})
    images = load_images("digits", split="train+test")
    clusters = extract(finished.method, images.images, "assign").argmax(1)
    assert record.metrics == pytest.approx(clustering_scores(images.labels, clusters))
    assert score(record) == score(record, kind=main.kind, **main.switches)
    adapted = score(record, kind="argmax p", batch_norm="scored images")
    assert adapted == record.protocols[2].scores != record.metrics
    assert score(record, kind="k-means") == record.protocols[3].scores
    assert summarise([record]).mean == record.metrics["accuracy"]
    row = record.history[-1]
    assert set(row.terms) == {"swapped", "information", "penalty"}
    assert 1 <= row.details["prototypes"] <= 20


def test_it_is_loaded_and_recorded(finished, tmp_path):
    again = load_run(finished.folder)
    assert again.experiment == dataclasses.replace(small(), sources={})
    images = load_images("digits", split="test").images
    both = (extract(r.method, images, "scores") for r in (again, finished))
    assert torch.equal(*both)
    save_record(finished.record, tmp_path)
    assert load_records(tmp_path) == [finished.record]


def test_settings_reach_the_method():
    changes = {
        "large": 3, "small": 1, "embedding_size": 9, "hidden": 8, "prototypes": 11,
        "temperature": 0.3, "epsilon": 0.2, "iterations": 5, "entropy_weight": 2.0,
        "penalty_weight": 0.5, "frozen_steps": 7, "one_pass": True, "bank": True,
    }  # fmt: skip
    experiment = small().override(**{f"settings__{k}": v for k, v in changes.items()})
    method = build(experiment, channels=1, seed=0)
    own = ("temperature", "epsilon", "iterations", "entropy_weight", "penalty_weight",
           "frozen_steps", "one_pass", "bank")  # fmt: skip
    settings = method.settings
    assert {name: getattr(settings, name) for name in own} == {name: changes[name] for name in own}
    assert method.groups == [(experiment.views, 3), (settings.small_views, 1)]
    assert method.prototypes.shape == (11, 9)
    assert method.head[0].out_features == 8
    names = {field.name for field in dataclasses.fields(experiment.settings)}
    assert names == {*changes, "small_views", "neighbours"}


@pytest.mark.parametrize(
    ("changes", "size"),
    [({"settings__small_views__size": 12}, 12), ({"views__plain_size": 32}, 32)],
)
def test_views_that_the_backbone_does_not_take(tmp_path, changes, size):
    experiment = get("digits/imc-swav").override(training__epochs=1, **changes)
    message = f"small for images of size 16 does not take {size}; give all views one size"
    with pytest.raises(InputError, match=message) as error:
        run(experiment, out=tmp_path / "out", **CPU)
    assert str(error.value).isprintable()
    assert not (tmp_path / "out").exists()
    resnet = experiment.override(backbone="small-resnet")
    assert build(resnet, channels=1, seed=0).feature_size > 0


def test_k_means_from_components_is_refused():
    with pytest.raises(InputError, match="IMCSwAV has no components; give 'k-means"):
        small().override(protocol__init="components")


def test_a_bank_needs_labels(tmp_path):
    pictures(tmp_path / "pictures")
    experiment = small().override(
        images=f"folder:{tmp_path / 'pictures'}", train_split="all", test_split="all",
        protocol__fit_split="all", clusters=2, settings__bank=True,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"has a label.*set settings.bank=False"):
        run(experiment, out=tmp_path / "out", **CPU)
    assert not (tmp_path / "out").exists()


def pictures(folder):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(12):
        pixels = rng.integers(0, 255, (10, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_pictures_of_ones_own(tmp_path, capsys):
    pictures(tmp_path / "pictures")
    out, folder = tmp_path / "out", tmp_path / "pictures"
    command = ["train", "digits/imc-swav", "--images", f"folder:{folder}", "--clusters", "2"]
    changes = SMALL | {
        "backbone": "small-resnet", "settings__small_views__size": 6, "views__plain_size": 12,
        "training__epochs": 2,
    }  # fmt: skip
    sets = [
        part for path, v in changes.items() for part in ("--set", f"{path.replace('__', '.')}={v}")
    ]
    assert main([*command, *sets, "--out", str(out), "--quiet", "--device", "cpu"]) == 0
    assert "no labels to score" in capsys.readouterr().out
    finished = load_run(out)
    assert finished.experiment.settings.small_views.size == 6
    assert finished.record.data.shape == (3, 12, 12)  # as large as evaluation sees them
    assert [row.scores for row in finished.record.protocols] == [None] * 4
    assert main(["predict", str(out), str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('"file","cluster",')
    assert len(lines) == 13


def test_evaluate_tells_the_kinds_of_statistics_apart(finished, capsys):
    assert main(["evaluate", str(finished.folder)]) == 0
    printed = capsys.readouterr().out
    for kind in BATCH_NORM:
        assert printed.count(f"argmax p, batch norm of {kind}") == 1
