"""Runs of the finetuning: the whole experiment on a tiny STL-10, and what stops it early."""

import csv
import dataclasses
import filecmp
import io

import pytest
import torch
from PIL import Image

from mixem.cli import main
from mixem.data import load_images
from mixem.data.sources import SOURCES, STL10_CLASSES
from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS, get
from mixem.experiments.build import start_of
from mixem.methods import IIC, Finetune, extract
from mixem.models import BACKBONES, ClusterNet5g, Sobel
from mixem.records import load_records, save_record, score, summarise
from mixem.runs import load_run, run

CPU = {"device": "cpu", "progress": False}


def tiny_stl10(root, part, download):
    """Eleven images of each part in the format of the real ones; class c is of brightness c."""
    generator = torch.Generator().manual_seed(len(part))
    labels = torch.arange(11) % 10
    noise = torch.randint(25, (11, 3, 96, 96), generator=generator)
    images = (25 * labels[:, None, None, None] + noise).to(torch.uint8)
    return images, torch.full((11,), -1) if part == "unlabeled" else labels, STL10_CLASSES


def narrow(**options):
    trunk = ClusterNet5g(2, width=2, **options)
    net = torch.nn.Sequential(Sobel(), trunk)
    net.out_features = trunk.out_features
    return net


@pytest.fixture(scope="module", autouse=True)
def small_world():
    """The tiny images, trunks of two channels, and a start that is soon trained."""
    start = get("stl10/iic-plus-70").override(
        training__epochs=1, training__batch_size=11, settings__repeats=1, clusters=5
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "stl10", dataclasses.replace(SOURCES["stl10"], read=tiny_stl10))
        patch.setitem(BACKBONES, "clusternet5g", lambda c, size: narrow())
        patch.setitem(
            BACKBONES,
            "clusternet5g-penultimate",
            lambda c, size: narrow(penultimate=True, size=size),
        )
        patch.setitem(EXPERIMENTS, "stl10/iic-plus-70", start)
        yield


SMALL = {"settings__hidden": 8, "training__epochs": 2, "training__batch_size": 5}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    experiment = get("stl10/iic-finetune").override(**SMALL)
    return run(experiment, out=tmp_path_factory.mktemp("finetune"), **CPU)


def test_the_start_is_trained_as_its_own_experiment_has_it(finished):
    start = load_run(finished.folder / "start")
    assert isinstance(start.method, IIC)
    assert start.experiment == start_of(finished.experiment) == get("stl10/iic-plus-70")
    assert start.record.data.train_images == 22  # with the unlabelled ones
    assert finished.record.start.experiment == "stl10/iic-plus-70"
    assert finished.record.start.metrics == start.record.metrics


def test_the_record(finished):
    record = finished.record
    assert isinstance(finished.method, Finetune)
    assert (record.data.train_images, record.data.test_images) == (11, 11)
    assert (record.data.train_split, record.data.test_split) == ("train", "test")
    assert {row.mapping for row in record.protocols} == {"identity"}
    assert [row.kind for row in record.protocols] == ["ten crops", "centre crop"]
    assert record.metrics == score(record, kind="ten crops")
    assert summarise([record], kind="centre crop").n == 1
    assert [list(row.terms) for row in record.history] == [["cross-entropy"]] * 2
    assert [row.step for row in record.history] == [2, 4]
    assert all(0 <= row.details["accuracy"] <= 1 for row in record.history)
    images = load_images("stl10", split="test")
    right = extract(finished.method, images.images, "assign").argmax(1) == images.labels
    assert record.metrics["accuracy"] == pytest.approx(right.sum().item() / 11)


def test_a_start_may_be_given(finished, tmp_path):
    again = run(finished.experiment, out=tmp_path, start=finished.folder / "start", **CPU)
    assert again.record.metrics == finished.record.metrics
    weights = [folder / "model.safetensors" for folder in (tmp_path, finished.folder)]
    assert filecmp.cmp(*weights, shallow=False)


def test_a_stopped_run_goes_on(finished, tmp_path):
    options = {"out": tmp_path, "start": finished.folder / "start", **CPU}
    assert run(finished.experiment, max_minutes=0, **options) is None
    assert run(finished.experiment, **options).record.metrics == finished.record.metrics


def test_from_random_weights(finished, tmp_path):
    scratch = run(finished.experiment.override(start=None), out=tmp_path, **CPU)
    assert scratch.record.start is None
    assert scratch.history != finished.history


def test_the_commands(finished, tmp_path, capsys):
    assert main(["evaluate", str(finished.folder)]) == 0
    printed = capsys.readouterr().out
    assert "stl10, test: 11 images" in printed
    first, second = printed.splitlines()[-2:]
    assert first.startswith("ten crops")
    assert second.startswith("centre crop")
    assert f"{finished.record.metrics['accuracy']:.4f}" in first

    images = load_images("stl10", split="test").images
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(images[:4]):
        place = tmp_path / "pictures" / f"{number}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place)
    assert main(["predict", str(finished.folder), str(tmp_path / "pictures")]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    found = extract(finished.method, images[:4], "assign").argmax(1).tolist()
    assert [int(row["cluster"]) for row in rows] == found

    save_record(finished.record, tmp_path / "results")
    assert load_records(tmp_path / "results") == [finished.record]
    assert main(["tables", f"--results={tmp_path / 'results'}"]) == 0
    assert "stl10/iic-finetune" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_split": "unlabeled"}, "not every image of stl10, unlabeled, has a label"),
        ({"train_split": "train+unlabeled"}, "has a label from 0 to 9; give a labelled split"),
        ({"clusters": 9}, "has a label from 0 to 8; .* as many clusters as classes"),
        ({"backbone": "small"}, r"the backbone of the start has no layer layers.0.weight"),
        ({"start": "stl10/iic-plus-700"}, "did you mean 'stl10/iic-plus-70'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_mistakes_are_found_before_anything_is_written(tmp_path, changes, message):
    experiment = get("stl10/iic-finetune").override(**SMALL, **changes)
    with pytest.raises(InputError, match=message) as error:
        run(experiment, out=tmp_path / "run", **CPU)
    assert str(error.value).isprintable()
    assert not (tmp_path / "run").exists()


def test_digits_without_any_crop(tmp_path):
    """Other images and another trunk, by overrides alone."""
    views = {f"views__{name}": value for name, value in (
        ("size", 8), ("crop_sides", ()), ("plain_side", None), ("flip", 0.0), ("cutout", 0.2),
    )}  # fmt: skip
    digits = {"images": "digits", "backbone": "clusternet6c-16", "start": None}
    experiment = get("stl10/iic-finetune").override(
        settings__hidden=32, settings__trunk_rate=1.0, training__epochs=8,
        training__batch_size=100, **digits, **views,
    )  # fmt: skip
    finished = run(experiment, out=tmp_path, **CPU)
    assert finished.record.metrics["accuracy"] > 0.6
    assert finished.record.usage.used == 10


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """IIC+ on the digits, hardly trained."""
    changes = {"training__epochs": 1, "settings__repeats": 1, "settings__sub_heads": 1}
    out = tmp_path_factory.mktemp("trunk")
    return run(get("digits/iic-plus").override(**changes), out=out, **CPU)


def test_a_few_labels_of_each_class(trunk, tmp_path):
    few = get("digits/iic-finetune").override(train_split="train/2", training__least_steps=3)
    done = run(few, out=tmp_path, start=trunk.folder, **CPU)
    data = done.record.data
    assert (data.train_images, data.test_images) == (20, 500)
    assert (data.train_split, data.test_split) == ("train/2", "test")
    assert done.record.overrides == {"train_split": "train/2", "training.least_steps": 3}
    assert done.history[-1].step == 3
    # No image gives a label and is scored, and the trunk has seen none that is.
    sets = {split: load_images("digits", split=split) for split in ("train/2", "train", "test")}
    assert sets["train/2"].labels.bincount().tolist() == [2] * 10
    assert trunk.record.data.train_fingerprint == sets["train"].fingerprint
    assert len(sets["train"]) + len(sets["test"]) == len(load_images("digits", split="train+test"))


def test_a_frozen_trunk_keeps_its_weights(trunk, tmp_path):
    changes = {"train_split": "train/2", "training__least_steps": 3}
    frozen = get("digits/iic-finetune").override(settings__trunk_rate=0.0, **changes)
    tuned = get("digits/iic-finetune").override(**changes)
    before = dict(trunk.method.backbone.named_parameters())
    for name, experiment in (("frozen", frozen), ("tuned", tuned)):
        done = run(experiment, out=tmp_path / name, start=trunk.folder, **CPU)
        after = done.method.backbone.named_parameters()
        same = [torch.equal(value, before[place]) for place, value in after]
        assert all(same) == (name == "frozen")


def test_a_folder_is_scored_by_the_names_of_its_classes(finished, tmp_path, capsys):
    """Whose classes come in another order, and one of which the run does not know."""
    images = load_images("stl10", split="test")
    names = {"car": "car", "bird": "bird", "zebra": "cat"}
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        for row in (images.labels == images.class_names.index(name)).nonzero().flatten():
            pixels = images.images[row].permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(tmp_path / folder / f"{int(row)}.png")
    known = [i for i, n in enumerate(images.class_names) if n in ("car", "bird")]
    rows = torch.isin(images.labels, torch.tensor(known))
    found = extract(finished.method, images.images[rows], "assign").argmax(1)
    right = (found == images.labels[rows]).float().mean().item()
    assert main(["evaluate", str(finished.folder), "--images", f"folder:{tmp_path}"]) == 0
    printed, complaints = capsys.readouterr()
    (line,) = (line for line in printed.splitlines() if line.startswith("ten crops"))
    assert f" {right:.4f} " in line
    assert "the run has no class zebra; pictures of 1 such folders are not scored" in complaints
