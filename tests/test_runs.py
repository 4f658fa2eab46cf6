"""Runs: trained, evaluated, recorded, loaded again."""

import dataclasses
import filecmp
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mixem
from mixem import runs
from mixem.data import load_images
from mixem.errors import InputError
from mixem.evaluation import clustering_scores
from mixem.experiments import EXPERIMENTS, get
from mixem.experiments.build import build
from mixem.fingerprint import source_fingerprint
from mixem.methods import MixEM, SimCLR, extract
from mixem.records import CurvePoint, Data, Start, read_record, save_record
from mixem.runs import default_folder, load_run, run
from mixem.schema import to_json
from mixem.training import journal

CPU = {"device": "cpu", "progress": False}

# What no two runs have in common.
OWN = {"minutes": 0.0, "images_per_second": 0.0}


@pytest.fixture(scope="module")
def tiny_mixem(tiny):
    """digits/mixem as small as the tiny SimCLR, from random weights."""
    return get("digits/mixem").override(
        views__size=8,
        training__epochs=2,
        training__batch_size=599,
        training__snapshots=(0, 2),
        protocol__n_init=2,
        start=None,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 12 pictures in two classes, and the same pictures without classes."""
    folder = tmp_path_factory.mktemp("secret-place")
    rng = np.random.default_rng(0)
    for number in range(12):
        kind = ("dark", "light")[number % 2]
        pixels = rng.integers(0, 120, (10, 12, 3)) + 120 * (number % 2)
        for place in (folder / "labelled" / kind, folder / "flat"):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder


def of_folder(experiment, path, split="all", clusters=2):
    return experiment.override(
        images=f"folder:{path}",
        train_split=split,
        test_split=split,
        protocol__fit_split=split,
        clusters=clusters,
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_leaves_these_files(tiny_run):
    assert names(tiny_run.folder) == [
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "record.json",
    ]


def test_a_record_says_all(tiny_run, tiny):
    record = tiny_run.record
    assert json.loads((tiny_run.folder / "record.json").read_text()) == to_json(record)
    assert read_record(tiny_run.folder / "record.json") == record
    assert (record.format, record.experiment, record.seed) == (2, "digits/simclr", 1)
    assert record.overrides == {
        "views.size": 8,
        "training.epochs": 2,
        "training.batch_size": 599,
        "protocol.n_init": 2,
    }
    assert set(record.metrics) == {"accuracy", "nmi", "ari"}
    assert all(-1 <= value <= 1 for value in record.metrics.values())
    assert record.metrics["accuracy"] > 0.3
    assert record.usage.used <= 10
    digits = load_images("digits", split="train+test")
    assert record.data == Data(
        name="digits",
        train_split="train+test",
        train_images=1797,
        train_fingerprint=digits.fingerprint,
        skipped_files=0,
        test_split="train+test",
        test_images=1797,
        test_fingerprint=digits.fingerprint,
        shape=(1, 8, 8),
    )
    assert record.epoch == 2
    assert record.minutes >= 0
    assert record.images_per_second > 0
    assert record.precision == "float32"
    assert f"{torch.get_num_threads()} threads" in record.hardware
    assert (record.threads, record.processes) == (torch.get_num_threads(), 1)
    assert (record.compiled, record.peak_memory) == (False, None)
    assert (record.start, record.curve) == (None, ())
    assert record.settings == json.loads(json.dumps(tiny.values()))
    assert [(row.epoch, row.seconds) for row in record.history] == [(1, None), (2, None)]
    names = {"mixem", "python", "torch", "torchvision", "scikit-learn"}
    assert set(record.versions) - {"cuda", "cudnn"} == names
    assert record.versions["mixem"] == mixem.__version__
    assert record.source == source_fingerprint()
    counts = torch.tensor(record.counts)
    assert counts.sum(1).tolist() == torch.bincount(digits.labels).tolist()
    assert (counts.sum(0) > 0).sum() == record.usage.used


def test_the_metrics_are_those_of_the_network_in_the_folder(tiny_run):
    loaded = load_run(tiny_run.folder)
    digits = load_images("digits", split="train+test")
    clusters = extract(loaded.method, digits.images, "cluster").argmax(1)
    scores = clustering_scores(digits.labels, clusters)
    # k-means may have stopped before its last assignment settled: a few images may differ.
    assert scores["accuracy"] == pytest.approx(loaded.record.metrics["accuracy"], abs=0.01)


def test_a_loaded_run_is_ready_for_use(tiny_run, tiny):
    loaded = load_run(str(tiny_run.folder))
    assert isinstance(loaded.method, SimCLR)
    assert not loaded.method.training
    assert loaded.experiment == tiny
    assert loaded.record == tiny_run.record
    assert [row.epoch for row in loaded.history] == [1, 2]
    assert all(row.seconds > 0 for row in loaded.history)


def test_given_again_a_run_is_loaded_and_not_trained(tiny_run, tiny):
    before = {file.name: file.stat().st_mtime_ns for file in tiny_run.folder.iterdir()}
    # An impossible device would stop any training.
    again = run(tiny, seed=1, out=tiny_run.folder, device="abacus")
    assert again.record == tiny_run.record
    assert {file.name: file.stat().st_mtime_ns for file in tiny_run.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "seed", "what"),
    [
        ({}, 2, "seed is 1 there and 2 here"),
        ({"training__epochs": 3}, 1, "training.epochs is 2 there and 3 here"),
        ({"clusters": 9}, 2, "clusters is 10 there and 9 here"),
        ({"views__flip": 0.5}, 1, "views.flip is 0.0 there and 0.5 here"),
        ({"test_split": "test", "training__epochs": 3}, 1, "test_split is 'train.test' there and"),
        ({"train_split": "test", "protocol__fit_split": "test"}, 1, "train_split is 'train.test'"),
    ],
    ids=str,
)
def test_the_folder_of_another_run_is_refused(tiny_run, tiny, changes, seed, what):
    before = {file.name: file.stat().st_mtime_ns for file in tiny_run.folder.iterdir()}
    with pytest.raises(InputError, match=f"holds another run: {what}") as error:
        run(tiny.override(**changes), seed=seed, out=tiny_run.folder, **CPU)
    assert str(error.value).isprintable()
    assert str(error.value).endswith("; choose another --out or delete the folder")
    assert {file.name: file.stat().st_mtime_ns for file in tiny_run.folder.iterdir()} == before


def test_the_folder_of_a_run_on_other_images_is_refused(tiny_run, tiny):
    digits = load_images("digits", split="train+test")
    other = dataclasses.replace(digits, images=255 - digits.images)
    with pytest.raises(InputError, match=r"another run: data is '[0-9a-f]+' there and '[0-9a-f]"):
        run(tiny, seed=1, images={"train+test": other}, out=tiny_run.folder, **CPU)


@pytest.mark.parametrize("moment", ["while training", "while evaluating", "while cleaning up"])
def test_a_run_stopped_at_any_moment_ends_as_one_in_one(tmp_path, tiny_run, tiny, moment):
    out = tmp_path / "run"
    assert run(tiny, seed=1, out=out, max_minutes=0, **CPU) is None
    with pytest.raises(InputError, match="not finished; give its training command again"):
        load_run(out)
    if moment != "while training":
        # What a run killed after its last step leaves: a checkpoint, perhaps weights.
        checkpoint = None
        while not (out / "record.json").exists():
            checkpoint = (out / "checkpoint.pt").read_bytes()
            run(tiny, seed=1, out=out, max_minutes=0, **CPU)
        (out / "checkpoint.pt").write_bytes(checkpoint)
        if moment == "while evaluating":
            (out / "record.json").unlink()
            (out / "model.safetensors").unlink()
    finished = run(tiny, seed=1, out=out, **CPU)
    weights = [folder / "model.safetensors" for folder in (out, tiny_run.folder)]
    assert filecmp.cmp(*weights, shallow=False)
    records = [dataclasses.replace(r.record, **OWN) for r in (finished, tiny_run)]
    assert records[0] == records[1]


def test_mixem_starts_from_the_run_of_its_start(tmp_path, tiny, tiny_run, monkeypatch):
    experiment = get("digits/mixem").override(
        views__size=8, training__epochs=1, training__batch_size=599, protocol__n_init=2
    )
    finished = run(experiment, seed=1, out=tmp_path / "a", start=tiny_run.folder, **CPU)
    assert isinstance(finished.method, MixEM)
    record = finished.record
    start = tiny_run.record
    assert record.start == Start(start.experiment, start.seed, start.metrics, start.minutes)
    kinds = [(row.kind, row.switches.get("init")) for row in record.protocols]
    assert kinds[0] == ("k-means", "components")
    assert kinds.count(("k-means", "components")) == kinds.count(("k-means", "k-means++")) == 4
    assert kinds[-1] == ("argmax p", None)
    assert record.metrics == record.protocols[0].scores
    assert record.history[-1].used >= 1
    # With a start that is not given, it is trained inside the folder, with the settings of its own
    # experiment but the images and the network of this one.
    small = dataclasses.replace(tiny, name="digits/simclr")
    monkeypatch.setitem(EXPERIMENTS, "digits/simclr", small)
    nested = run(experiment, seed=1, out=tmp_path / "b", **CPU)
    assert nested.record.metrics == record.metrics
    start = load_run(tmp_path / "b" / "start")
    assert start.record.history == tiny_run.record.history
    weights = [tmp_path / folder / "model.safetensors" for folder in "ab"]
    assert filecmp.cmp(*weights, shallow=False)
    # Another start in the same folder is another run.
    with pytest.raises(InputError, match=r"holds another run: start is .* there and None here"):
        run(experiment, seed=1, out=tmp_path / "a", **CPU)
    # Finished, it no longer needs its start.
    shutil.copytree(tiny_run.folder, tmp_path / "start")
    run(experiment, seed=1, out=tmp_path / "c", start=tmp_path / "start", **CPU)
    shutil.rmtree(tmp_path / "start")
    run(experiment, seed=1, out=tmp_path / "c", start=tmp_path / "start", **CPU)


def test_mixem_from_scratch(tmp_path, tiny_mixem):
    finished = run(tiny_mixem, seed=0, out=tmp_path / "run", **CPU)
    assert finished.record.start is None
    assert finished.record.overrides["start"] is None
    start, end = finished.record.curve
    assert (start.epoch, start.scores.keys()) == (0, end.scores.keys())
    assert end == CurvePoint(2, finished.record.metrics)
    assert names(tmp_path) == ["run"]


def test_a_start_with_another_network_is_refused_before_anything_is_written(tmp_path, tiny_run):
    experiment = get("digits/mixem").override(training__epochs=1)  # 16 x 16, the start has 8 x 8
    with pytest.raises(InputError, match="another backbone"):
        run(experiment, out=tmp_path / "run", start=tiny_run.folder, **CPU)
    with pytest.raises(InputError, match="there is no folder"):
        run(experiment, out=tmp_path / "run", start=tmp_path / "missing", **CPU)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_from_one_of_its_kind(tmp_path, tiny, tiny_run):
    longer = tiny.override(training__epochs=1, training__learning_rate=1e-12)
    warm = run(longer, out=tmp_path / "run", start=tiny_run.folder, **CPU)
    for name, value in tiny_run.method.backbone.named_parameters():
        torch.testing.assert_close(value, warm.method.backbone.get_parameter(name), msg=name)
    assert warm.record.overrides["start"] == warm.record.start.experiment == "digits/simclr"
    digits = load_images("digits", split="train+test")
    cold = run(longer, out=tmp_path / "cold", **CPU)
    assert warm.history[-1].loss < cold.history[-1].loss - 0.1
    assert default_folder(longer, 0, digits) != default_folder(longer, 0, digits, Path("other"))


def test_with_another_number_of_clusters_a_run_goes_on_from_the_backbone(tiny, tiny_run):
    more = build(tiny.override(clusters=7), channels=1, seed=1)
    head = more.head.state_dict()
    more.go_on_from(tiny_run.method)
    for name, value in tiny_run.method.backbone.state_dict().items():
        assert torch.equal(value, more.backbone.state_dict()[name])
    assert all(torch.equal(head[name], value) for name, value in more.head.state_dict().items())


def test_a_start_of_another_kind_is_refused(tmp_path, tiny_run):
    other = get("digits/iic").override(training__epochs=1)
    with pytest.raises(InputError, match="IIC begins from random weights, or goes on from a run"):
        run(other, out=tmp_path / "run", start=tiny_run.folder, **CPU)
    wider = get("digits/simclr").override(training__epochs=1)  # 16 x 16, the start has 8 x 8
    with pytest.raises(InputError, match="another backbone"):
        run(wider, out=tmp_path / "run", start=tiny_run.folder, **CPU)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": 1798}, "1798 clusters for 1797 images"),
        ({"test_split": "test", "clusters": 501}, "501 clusters for 500 images"),
        ({"train_split": "val"}, "digits has no split 'val'"),
        ({"test_split": "val"}, "digits has no split 'val'"),
        ({"protocol__fit_split": "val"}, "digits has no split 'val'"),
        ({"images": "digit"}, "no images are called 'digit'"),
        ({"images": "folder:/no/such/place"}, "'/no/such/place' does not exist"),
        ({"backbone": "resnet50"}, "no backbone 'resnet50'"),
        ({"views__size": 4}, "images of 4 x 4 pixels; the small net needs 8 x 8"),
        ({"protocol__init": "components"}, "SimCLR has no components"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_mistakes_are_found_before_anything_is_written(tmp_path, tiny, changes, message):
    with pytest.raises(InputError, match=message) as error:
        run(tiny.override(**changes), out=tmp_path / "run", **CPU)
    assert str(error.value).isprintable()
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_refused(tmp_path, tiny):
    for content in ("[1, 2]", '{"model_type": "bert"}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match="holds another run") as error:
            run(tiny, out=tmp_path, **CPU)
        assert str(error.value).isprintable()
        assert names(tmp_path) == ["config.json"]


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_impossible_seeds(tmp_path, tiny, seed):
    with pytest.raises(InputError, match=f"seed is {seed}"):
        run(tiny, seed=seed, out=tmp_path / "run", **CPU)
    assert not (tmp_path / "run").exists()


def test_an_unknown_experiment():
    with pytest.raises(InputError, match="did you mean 'digits/mixem'"):
        run("digits/mixen")


def test_k_means_fitted_on_another_split(tmp_path, tiny):
    split = tiny.override(train_split="train", test_split="test", protocol__fit_split="train")
    record = run(split, out=tmp_path / "run", **CPU).record
    assert (record.data.train_images, record.data.test_images) == (1297, 500)
    assert record.protocols[0].switches["fit_split"] == "train"
    transductive = run(split.override(protocol__fit_split="test"), out=tmp_path / "other", **CPU)
    assert transductive.record.metrics != record.metrics
    assert transductive.record.history == record.history


@pytest.mark.parametrize("kind", ["labelled", "flat"])
def test_a_folder_of_pictures(tmp_path, tiny, tiny_mixem, pictures, kind):
    for experiment in (tiny, tiny_mixem):
        changed = of_folder(experiment, pictures / kind)
        record = run(changed, out=tmp_path / experiment.method, **CPU).record
        assert record.data.shape == (3, 8, 8)
        assert record.data.train_images == 12
        assert record.overrides["images"] == f"folder:{kind}"
        assert str(pictures) not in json.dumps(to_json(record))
        assert "secret-place" not in json.dumps(to_json(record))
        assert 1 <= record.usage.used <= 2
        if kind == "flat":
            assert record.metrics is None
            assert all(row.scores is None for row in record.protocols)
            assert record.curve == ()  # without labels there is nothing to score
        else:
            assert 0.5 <= record.metrics["accuracy"] <= 1


def test_more_clusters_than_pictures(tmp_path, tiny, pictures):
    with pytest.raises(InputError, match="13 clusters for 12 images; give fewer clusters"):
        run(of_folder(tiny, pictures / "flat", clusters=13), out=tmp_path / "run", **CPU)


def test_the_default_folder_changes_with_all_that_a_run_depends_on(tiny, monkeypatch):
    monkeypatch.setenv("MIXEM_RUNS", "/some/where")
    digits = load_images("digits", split="train+test")
    folder = default_folder(tiny, 0, digits)
    assert folder == default_folder(tiny, 0, digits)
    assert str(folder.parent) == "/some/where"
    assert folder.name.startswith("digits-simclr-seed0-")
    mixem = get("digits/mixem")
    others = {
        folder,
        default_folder(tiny, 1, digits),
        default_folder(tiny.override(training__epochs=3), 0, digits),
        default_folder(tiny, 0, digits.subset(slice(100))),
        default_folder(mixem, 0, digits),
        default_folder(mixem.override(start=None), 0, digits),
    }
    # A start with other settings makes another MIX'EM.
    monkeypatch.setitem(EXPERIMENTS, "digits/simclr", tiny)
    others.add(default_folder(mixem, 0, digits))
    monkeypatch.setattr(runs, "source_fingerprint", lambda: "changed")
    others.add(default_folder(tiny, 0, digits))
    assert len(others) == 8


def test_folders_that_are_no_finished_run(tmp_path, tiny_run):
    with pytest.raises(InputError, match=r"there is no folder .*missing"):
        load_run(tmp_path / "missing")
    with pytest.raises(InputError, match=r"there is no .*config.json"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{", "cannot read .*config.json"),
        ("config.json", b"[]", "damaged"),
        ("config.json", b"{}", "damaged"),
        ("config.json", b'{"experiment": {"views": 3}}', "damaged|another version"),
        ("record.json", b"{", "cannot read .*record.json"),
        ("record.json", b"{}", "damaged"),
        ("model.safetensors", b"", "cannot read .*model.safetensors"),
        ("model.safetensors", None, "cannot read .*model.safetensors"),
        ("log.jsonl", b'{"epoch": 1}\n{"epo', "damaged"),
        ("log.jsonl", None, "damaged"),
    ],
)
def test_damaged_runs_are_errors_of_one_line(tmp_path, tiny_run, file, content, message):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load_run(folder)
    assert str(error.value).isprintable()


def test_weights_of_another_run_are_refused(tmp_path, tiny_run, tiny_mixem):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    values = json.loads((folder / "config.json").read_text())
    values["experiment"] = tiny_mixem.to_dict()
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="holds another network"):
        load_run(folder)


def test_an_experiment_of_ones_own(tmp_path, tiny):
    own = dataclasses.replace(tiny, name="mine/simclr")
    record = run(own, out=tmp_path / "run", **CPU).record
    assert (record.experiment, record.overrides) == ("mine/simclr", {})


def test_the_time_limit_holds_for_start_and_run_together(tmp_path, tiny, monkeypatch):
    # The start takes some time; what is left for the run is less.
    monkeypatch.setitem(EXPERIMENTS, "digits/simclr", tiny)
    limits = []
    train = runs.train

    def watch(*args, **options):
        limits.append(options["sitting"].max_minutes)
        return train(*args, **options)

    monkeypatch.setattr(runs, "train", watch)
    experiment = get("digits/mixem").override(
        views__size=8, training__epochs=1, training__batch_size=599, protocol__n_init=2
    )
    assert run(experiment, out=tmp_path / "run", max_minutes=10, **CPU) is not None
    of_start, of_run = limits
    minutes = load_run(tmp_path / "run" / "start").record.minutes
    assert of_run <= of_start - minutes + 1e-3 < 10


def test_long_histories_are_thinned_and_keep_the_last_epoch(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(runs, "HISTORY_POINTS", 3)
    finished = run(tiny.override(training__epochs=8), out=tmp_path / "run", **CPU)
    assert [row.epoch for row in finished.record.history] == [2, 5, 8]
    assert [row.epoch for row in finished.history] == [1, 2, 3, 4, 5, 6, 7, 8]


def mine(count=300, split="all"):
    """Images of one's own in memory."""
    digits = load_images("digits", split="train+test").subset(slice(count))
    return dataclasses.replace(digits, name="mine", split=split)


def test_images_in_memory_get_a_folder_a_record_and_go_on(tmp_path, tiny):
    small = tiny.override(training__batch_size=100)
    whole = run(small, images=mine(), out=tmp_path / "whole", **CPU)
    data = whole.record.data
    assert (data.name, data.train_split, data.test_split) == ("mine", "all", "all")
    assert (data.train_images, data.train_fingerprint) == (300, mine().fingerprint)
    assert whole.record.overrides["images"] == "mine"
    assert whole.record.settings["protocol.fit_split"] == "all"
    found, sittings = None, 0
    while found is None:
        found = run(small, images=mine(), out=tmp_path / "parts", max_minutes=0, **CPU)
        sittings += 1
    assert sittings == 2
    weights = [one.folder / "model.safetensors" for one in (found, whole)]
    assert filecmp.cmp(*weights, shallow=False)
    assert dataclasses.replace(found.record, **OWN) == dataclasses.replace(whole.record, **OWN)
    assert read_record(save_record(found.record, tmp_path / "results")) == found.record
    assert load_run(tmp_path / "whole").record == whole.record
    again = run(small, images=mine(), out=tmp_path / "whole", device="abacus")
    assert again.record == whole.record
    other = mine()
    other.images[0, 0, 0, 0] += 1
    with pytest.raises(InputError, match="holds another run: data is"):
        run(small, images=other, out=tmp_path / "whole", **CPU)
    plans = [runs.prepare(small, images=images) for images in (mine(), other)]
    assert len({plan.folder for plan in plans}) == 2
    assert not any(plan.finished for plan in plans)


def test_images_in_memory_by_split(tmp_path, tiny):
    splits = tiny.override(
        training__batch_size=100, train_split="train", test_split="test",
        protocol__fit_split="train",
    )  # fmt: skip
    parts = {"train": mine(200, "train"), "test": mine(100, "test")}
    record = run(splits, images=parts, out=tmp_path / "run", **CPU).record
    assert (record.data.train_images, record.data.test_images) == (200, 100)
    with pytest.raises(InputError, match="images has no 'test'; digits/simclr wants it") as error:
        run(splits, images={"train": parts["train"]}, out=tmp_path / "other", **CPU)
    assert str(error.value).isprintable()
    assert not (tmp_path / "other").exists()


def test_images_in_memory_without_labels(tmp_path, tiny):
    bare = dataclasses.replace(mine(60), labels=None, class_names=())
    record = run(tiny, images=bare, out=tmp_path, **CPU).record
    assert record.metrics is None
    assert record.usage.used >= 1


def test_a_plan_touches_nothing(tmp_path, tiny):
    plan = runs.prepare(tiny, seed=4, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert (plan.seed, plan.folder, plan.finished) == (4, tmp_path / "run", False)
    assert (plan.start, plan.origin) == (None, None)
    assert (len(plan.sets.train), plan.sets.fit_apart) == (1797, None)
    values = json.loads(json.dumps(plan.identity()))
    assert values == {
        "experiment": json.loads(json.dumps(tiny.to_dict())),
        "seed": 4,
        "data": plan.sets.train.fingerprint,
    }
    assert runs.prepare(get("digits/mixem")).origin == get("digits/simclr")


@pytest.mark.parametrize("there", [(), ("notes.txt",)])
def test_a_refused_run_gives_its_folder_back(tmp_path, tiny, there):
    out = tmp_path / "run"
    for name in there:
        out.mkdir()
        (out / name).write_text("the user's")
    with pytest.raises(InputError, match="no device 'abacus' here"):
        run(tiny, out=out, device="abacus", progress=False)
    assert out.exists() == bool(there)
    assert [path.name for path in tmp_path.rglob("*.*")] == list(there)
    assert run(tiny.override(training__epochs=1), out=out, **CPU) is not None


def test_settings_that_an_earlier_version_did_not_know_had_their_defaults(tiny, tmp_path):
    out = tmp_path / "run"
    first = run(tiny, out=out, device="cpu", progress=False)
    config = json.loads((out / "config.json").read_text())
    del config["experiment"]["views"]["quarter_turns"], config["experiment"]["views"]["pad"]
    (out / "config.json").write_text(json.dumps(config))
    again = run(tiny, out=out, device="cpu", progress=False)
    assert again.record == first.record
    with pytest.raises(InputError, match=r"views\.pad is False there and True here"):
        run(tiny.override(views__pad=True), out=out, device="cpu", progress=False)


@pytest.mark.parametrize("left", ["record.json", "model.safetensors", "checkpoint.pt"])
def test_what_is_left_of_another_run_is_not_adopted(tiny_run, tiny, tmp_path, left):
    """The result of seed 1 was given for that of seed 5."""
    out = tmp_path / "run"
    out.mkdir()
    source = tiny_run.folder / left
    (out / left).write_bytes(source.read_bytes() if source.exists() else b"")
    with pytest.raises(InputError, match=f"holds {left} and no config.json"):
        run(tiny, seed=5, out=out, **CPU)
    assert [file.name for file in out.iterdir()] == [left]


def test_one_changed_bit_of_the_weights_is_noticed(tiny_run, tmp_path):
    """The scores changed, and nobody was told."""
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-1000] ^= 64
    weights.write_bytes(whole)
    with pytest.raises(InputError, match="has changed since it was trained"):
        load_run(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    del record["weights"]  # as in records of earlier versions
    (tmp_path / "run" / "record.json").write_text(json.dumps(record))
    load_run(tmp_path / "run")


def test_epochs_that_two_processes_logged_are_in_the_log_once(tiny, tmp_path, monkeypatch):
    once = journal._append_log

    def twice(out, row):
        once(out, row)
        once(out, row)

    monkeypatch.setattr(journal, "_append_log", twice)
    found = run(tiny, out=tmp_path / "run", **CPU)
    assert [row.epoch for row in found.history] == [1, 2]
