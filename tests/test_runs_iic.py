"""Runs of IIC: trained on two splits, scored by sub-head and by mapping, recorded, loaded again."""

import numpy as np
import pytest
import torch
from PIL import Image

from mixem.cli import main
from mixem.data import load_images
from mixem.errors import InputError
from mixem.evaluation import clustering_scores, majority_mapping
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.methods import IIC, extract
from mixem.records import CurvePoint, load_records, save_record, score, summarise
from mixem.runs import load_run, run

CPU = {"device": "cpu", "progress": False}
SMALL = {
    "backbone": "small",
    "views__size": 8,
    "training__epochs": 2,
    "training__batch_size": 599,
    "training__snapshots": (0, 2, 5),  # the last one never comes
    "settings__repeats": 1,
    "settings__sub_heads": 3,
    "settings__lamb": 1.0,  # with more the loss hardly leaves that of equal answers so soon
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(get("digits/iic").override(**SMALL), out=tmp_path_factory.mktemp("iic"), **CPU)


@pytest.fixture(scope="module")
def plus(tmp_path_factory):
    experiment = get("digits/iic-plus").override(**SMALL)
    return run(experiment, out=tmp_path_factory.mktemp("plus"), **CPU)


def test_the_main_number_is_that_of_the_sub_head_with_the_lowest_loss(finished):
    rows = [row for row in finished.record.protocols if row.kind == "sub-head"]
    losses = [row.switches["loss"] for row in rows]
    assert len(set(losses)) == 3
    chosen = rows[losses.index(min(losses))]
    assert finished.record.metrics == chosen.scores == score(finished.record, kind="argmax p")
    main = finished.record.protocols[0]
    assert (main.kind, main.mapping, main.switches) == ("argmax p", "one-to-one", {})

    images = load_images("digits", split="train+test")
    found = extract(finished.method, images.images, "assign").argmax(1)
    assert clustering_scores(images.labels, found) == pytest.approx(finished.record.metrics)
    counts = np.array(finished.record.counts)
    assert counts.sum(1).tolist() == torch.bincount(images.labels).tolist()
    assert counts.sum(0).tolist() == torch.bincount(found, minlength=10).tolist()
    assert counts[3, 4] == ((images.labels == 3) & (found == 4)).sum()


def test_other_choices_of_a_sub_head_are_rows_too(finished):
    record = finished.record
    heads = [row for row in record.protocols if row.kind == "sub-head"]
    accuracies = [row.scores["accuracy"] for row in heads]
    mean = score(record, kind="mean of sub-heads")["accuracy"]
    assert mean == pytest.approx(np.mean(accuracies))
    best = score(record, kind="sub-head chosen with labels")["accuracy"]
    assert best == max(accuracies) >= record.metrics["accuracy"]
    assert summarise([record], kind="mean of sub-heads").mean == mean


def test_the_method_is_loaded_with_its_choice(finished):
    again = load_run(finished.folder)
    assert again.experiment == finished.experiment
    assert torch.equal(again.method.sub_head_losses, finished.method.sub_head_losses)
    assert again.method.chosen == finished.method.sub_head_losses.argmin()


def test_snapshots_are_the_weights_on_the_way(finished):
    start, end = finished.at(0), finished.at(2)
    images = load_images("digits", split="test").images
    last = extract(finished.method, images, "assign")
    assert torch.equal(extract(end, images, "assign"), last)
    assert not torch.allclose(extract(start, images, "assign"), last, atol=0.01)
    assert start.chosen == finished.method.chosen
    with pytest.raises(InputError, match=r"no weights of epoch 1; there are \(0, 2, 5\) up to 2"):
        finished.at(1)
    with pytest.raises(InputError, match="no weights of epoch 5"):
        finished.at(5)


def test_the_curve_scores_the_snapshots_with_the_sub_head_of_the_end(finished):
    start, end = finished.record.curve
    assert end == CurvePoint(2, finished.record.metrics)
    images = load_images("digits", split="train+test")
    found = extract(finished.at(0), images.images, "assign").argmax(1)
    assert start == CurvePoint(0, clustering_scores(images.labels, found)) != end


def test_a_record_goes_to_its_place_and_comes_back(finished, tmp_path):
    save_record(finished.record, tmp_path)
    assert load_records(tmp_path) == [finished.record]
    row = finished.record.history[-1]
    assert len(row.details["sub_heads"]) == len(row.used) == 3


def test_overclustering_is_scored_by_the_majority_of_training_labels(plus):
    train, test = (load_images("digits", split=split) for split in ("train", "test"))
    ours, theirs = (
        extract(plus.method, images.images, "assign").argmax(1) for images in (train, test)
    )
    mapping = majority_mapping(train.labels, ours, 50)
    accuracy = np.mean(mapping[theirs] == test.labels.numpy())
    assert plus.record.metrics["accuracy"] == pytest.approx(accuracy)
    main = plus.record.protocols[0]
    assert (main.kind, main.mapping, main.switches) == ("argmax p", "majority", {})
    assert plus.record.data.train_images == 1297
    assert plus.record.data.test_images == 500
    assert "over" not in plus.record.history[-1].terms

    shares = {
        row.switches["share"]: row.scores["accuracy"]
        for row in plus.record.protocols
        if row.kind == "share of labels"
    }
    assert list(shares) == [0.01, 0.02, 0.05, 0.1, 0.5, 1.0]
    assert shares[1.0] == pytest.approx(accuracy)
    assert shares[0.01] < shares[1.0]


def test_heads_may_see_different_images(tmp_path):
    experiment = get("digits/iic").override(
        **SMALL, train_split="test", settings__over_split="train"
    )
    assert experiment.settings.passes == ("main", "main", "over")
    history = run(experiment, out=tmp_path, **CPU).history
    assert history[-1].step == 2 * (1 + 1 + 2)  # 500 images twice, 1,297 once, 599 a batch


def test_the_command_line_names_the_sub_heads(finished, plus, capsys):
    assert main(["evaluate", str(finished.folder)]) == 0
    printed = capsys.readouterr().out
    for i, loss in enumerate(finished.method.sub_head_losses.tolist()):
        assert f"sub-head {i}, loss {loss:.3f}" in printed
    assert main(["evaluate", str(plus.folder)]) == 0
    printed = capsys.readouterr().out
    for share in ("1%", "10%", "100%"):
        assert f"share of labels {share}" in printed
    assert main(["list", "stl10/iic"]) == 0
    assert "train+unlabeled+test" in capsys.readouterr().out


def test_pictures_of_ones_own(tmp_path, capsys):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        pixels = rng.integers(0, 255, (10, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    out = tmp_path / "out"
    command = ["train", "digits/iic", "--images", f"folder:{folder}", "--clusters", "2"]
    changes = [f"{path.replace('__', '.')}={value}" for path, value in SMALL.items()]
    sets = [part for change in changes for part in ("--set", change)]
    assert main([*command, *sets, "--out", str(out), "--quiet", "--device", "cpu"]) == 0
    assert "no labels to score" in capsys.readouterr().out
    assert [row.scores for row in load_run(out).record.protocols] == [None] * 5
    assert main(["predict", str(out), str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('"file","cluster",')
    assert len(lines) == 13


def test_few_pictures_for_a_network_that_normalises_with_them_are_a_warning(tmp_path, capsys):
    experiment = get("digits/iic").override(**SMALL | {"backbone": "clusternet6c-16-batch"})
    out, folder = tmp_path / "out", tmp_path / "pictures"
    method = run(experiment, out=out, **CPU).method
    assert isinstance(method, IIC)
    assert method.needs_a_batch
    folder.mkdir()
    for number in range(3):
        if number == 1:
            assert main(["predict", str(out), str(folder)]) == 2
            assert "1 image for a network that normalises" in capsys.readouterr().err
        Image.fromarray(np.full((8, 8), 80 * number, np.uint8)).save(folder / f"{number}.png")
    assert main(["predict", str(out), str(folder)]) == 0
    assert "normalises with the pictures given together" in capsys.readouterr().err


def test_no_batch_is_so_small_that_it_cannot_be_normalised(finished):
    """1,025 images in two batches of 512 and 513, not of 1,024 and 1."""
    experiment = get("digits/iic").override(**SMALL | {"backbone": "clusternet6c-16-batch"})
    method = build(experiment, channels=1, seed=0)
    images = load_images("digits", split="train").images[:1025]
    parts = [extract(method, p, "assign", in_order=True) for p in images.split([513, 512])]
    found = extract(method, images, "assign", in_order=True)
    assert torch.equal(found, torch.cat(parts))
