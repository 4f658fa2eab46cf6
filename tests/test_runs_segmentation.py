"""A run of IIC for segmentation, from its training to the maps of pictures."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.cli import main
from mixem.data import ImageSet, load_images
from mixem.experiments import get
from mixem.records import load_records, read_record, save_record, summarise
from mixem.runs import load_run, run

SMALL = {
    "views.size": 16,
    "training.epochs": 1,
    "training.batch_size": 10,
    "training.snapshots": (0, 1),
    "training.constant_epochs": 1,
    "settings.max_displacement": 1,
}


def small(**changes):
    return get("textures/iic-segmentation").override(SMALL | changes)


@pytest.fixture(scope="module")
def scenes():
    found = {split: load_images("textures", split=split, size=16) for split in ("train", "test")}
    return {split: images.subset(slice(0, 40)) for split, images in found.items()}


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "textures"
    return run(small(), images=scenes, out=out, progress=False, device="cpu")


def test_the_record(finished, scenes, tmp_path):
    record = finished.record
    assert record.metrics.keys() >= {"accuracy", "mean_iou", "majority_accuracy", "iou grain"}
    kinds = [row.kind for row in record.protocols]
    assert kinds == [
        "argmax p", *["sub-head"] * 3, "k-means on pixels", "k-means on an untrained network",
        "mean of sub-heads", "sub-head chosen with labels",
    ]  # fmt: skip
    known = scenes["test"].masks.numel()
    assert sum(map(sum, record.counts)) == known
    assert [point.epoch for point in record.curve] == [0, 1]
    assert record.curve[-1].scores == record.metrics
    assert len(record.history[0].usage) == 3
    assert record.data.shape == (1, 16, 16)
    assert record.data.class_names == ()
    saved = save_record(record, tmp_path)
    assert read_record(saved) == record
    for metric in ("accuracy", "mean_iou"):
        summary = summarise(load_records(tmp_path), metric)
        assert summary.values == (record.metrics[metric],)
    assert summarise(load_records(tmp_path), "nmi") is None
    assert load_run(finished.folder).record == record


def test_a_stopped_run_goes_on_with_the_same_bits(scenes, tmp_path, finished):
    experiment = small(**{"training.epochs": 2, "settings.passes": ("over", "main")})
    whole = run(experiment, images=scenes, out=tmp_path / "whole", progress=False, device="cpu")
    options = {"images": scenes, "out": tmp_path / "parts", "progress": False, "device": "cpu"}
    assert run(experiment, **options, max_epochs=1) is None
    parts = run(experiment, **options)
    assert parts.history[-1].terms == whole.history[-1].terms
    assert set(parts.history[0].terms) == {"over", "main"}
    for name, value in whole.method.state_dict().items():
        assert torch.equal(parts.method.state_dict()[name], value), name


def test_training_on_labelled_pixels_is_another_training(scenes, tmp_path):
    masked = {
        split: dataclasses.replace(images, masks=images.masks.where(images.masks != 1, 255))
        for split, images in scenes.items()
    }
    records = [
        run(
            small(**{"settings.labelled_only": only}), images=masked, out=tmp_path / str(only),
            progress=False, device="cpu",
        ).record
        for only in (True, False)
    ]  # fmt: skip
    assert records[0].history[0].terms != records[1].history[0].terms
    assert records[0].protocols[0].scores.keys() == records[1].protocols[0].scores.keys()
    assert "iou across" not in records[0].metrics


def test_pictures_without_masks_are_enough(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):  # fewer than clusters
        pixels = random.integers(256, size=(30 + number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    out = tmp_path / "run"
    changes = [f"--set={path}={value!r}" for path, value in SMALL.items()]
    code = main([
        "train", "textures/iic-segmentation", f"--images=folder:{folder}", f"--out={out}",
        "--quiet", "--device=cpu", *changes,
    ])  # fmt: skip
    printed, complaints = capsys.readouterr()
    assert (code, complaints) == (0, "")
    assert "clusters used; no labels to score" in printed
    assert json.loads((out / "record.json").read_text())["data"]["name"] == "folder:photos"
    assert main(["evaluate", str(out), "--device=cpu"]) == 2
    assert "has no labels to score; mixem predict needs none" in capsys.readouterr().err

    (folder / "broken.png").write_bytes(b"no picture")
    code = main([
        "predict", str(out), str(folder), f"--out={tmp_path / 'maps'}", "--overlay", "--device=cpu",
    ])  # fmt: skip
    _, complaints = capsys.readouterr()
    assert code == 0
    assert complaints.splitlines() == [
        "mixem: skipped broken.png: not a picture that Pillow can read",
        "mixem: 3 pictures mapped, 1 skipped",
    ]
    with (tmp_path / "maps" / "shares.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("file") for row in rows] == ["0.png", "1.png", "2.png"]
    for number, row in enumerate(rows):
        with Image.open(tmp_path / "maps" / f"{number}.png.png") as written:
            assert written.size == (40, 30 + number)
            counts = np.bincount(np.asarray(written).ravel(), minlength=4)
        assert [float(share) for share in row.values()] == pytest.approx(
            counts / counts.sum(), abs=1e-6
        )
        assert (tmp_path / "maps" / f"{number}.png.overlay.jpg").exists()


def test_evaluate_prints_pixels_and_classes(finished, capsys):
    assert main(["evaluate", str(finished.folder), "--images=textures", "--split=test"]) == 0
    printed = capsys.readouterr().out
    assert "mean_iou" in printed
    assert "k-means on pixels" in printed
    assert "nmi" not in printed
    assert "iou blobs" in printed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--gallery=page.html"], "this run sorts pixels, not pictures; leave --gallery"),
        (["--overlay"], "--overlay was given without --out; give a folder"),
    ],
)
def test_what_maps_do_not_have(finished, tmp_path, capsys, arguments, complaint):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    assert main(["predict", str(finished.folder), str(tmp_path / "a.png"), *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_shares_go_to_the_terminal_without_out(finished, tmp_path, capsys):
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")
    assert main(["predict", str(finished.folder), str(tmp_path / "a.png"), "--side=32"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == '"file","cluster_0","cluster_1","cluster_2","cluster_3"'
    assert printed[1].startswith('"a.png",')
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(finished.folder), str(tmp_path / "empty")]) == 2
    assert "no picture in" in capsys.readouterr().err


def test_images_in_memory_with_masks(tmp_path):
    images = ImageSet.of(
        np.random.default_rng(0).random((12, 16, 16)), masks=np.zeros((12, 16, 16), int)
    )
    found = run(small(), images=images, out=tmp_path / "own", progress=False, device="cpu")
    assert found.record.metrics["majority_accuracy"] == 1
