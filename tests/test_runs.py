"""Runs: trained, evaluated, recorded, loaded again."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mixem import runs
from mixem.data import load_images
from mixem.errors import InputError
from mixem.evaluation import clustering_scores
from mixem.experiments import EXPERIMENTS, get
from mixem.methods import MixEM, SimCLR, extract
from mixem.runs import build, default_folder, from_dict, load_run, run, start_of, to_dict

CPU = {"device": "cpu", "progress": False}

# What every record holds.
FIELDS = {
    "format",
    "experiment",
    "overrides",
    "seed",
    "data",
    "metrics",
    "usage",
    "curve",
    "protocols",
    "protocol",
    "epoch",
    "minutes",
    "images_per_second",
    "precision",
    "hardware",
    "start",
    "settings",
    "history",
    "versions",
    "source",
}


@pytest.fixture(scope="module")
def tiny_mixem(tiny):
    """digits/mixem as small as the tiny SimCLR, from random weights."""
    return get("digits/mixem").override(
        views__size=8,
        training__epochs=2,
        training__batch_size=599,
        training__snapshots=(0, 2),
        protocol__starts=2,
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
    record = json.loads((tiny_run.folder / "record.json").read_text())
    assert record == tiny_run.record
    assert set(record) == FIELDS
    assert (record["format"], record["experiment"], record["seed"]) == (1, "digits/simclr", 1)
    assert record["overrides"] == {
        "views.size": 8,
        "training.epochs": 2,
        "training.batch_size": 599,
        "protocol.starts": 2,
    }
    assert set(record["metrics"]) == {"accuracy", "nmi", "ari"}
    assert all(-1 <= value <= 1 for value in record["metrics"].values())
    assert record["metrics"]["accuracy"] > 0.3
    assert record["usage"]["used"] <= 10
    digits = load_images("digits", split="train+test")
    assert record["data"] == {
        "name": "digits",
        "train_split": "train+test",
        "train_images": 1797,
        "train_fingerprint": digits.fingerprint,
        "skipped_files": 0,
        "test_split": "train+test",
        "test_images": 1797,
        "test_fingerprint": digits.fingerprint,
        "shape": [1, 8, 8],
    }
    assert record["epoch"] == 2
    assert record["minutes"] >= 0
    assert record["images_per_second"] > 0
    assert record["precision"] == "float32"
    assert f"{torch.get_num_threads()} threads" in record["hardware"]
    assert record["start"] is None
    assert record["settings"] == json.loads(json.dumps(tiny.values()))
    assert [row["epoch"] for row in record["history"]] == [1, 2]
    assert set(record["versions"]) == {"python", "torch", "torchvision", "scikit-learn"}
    assert record["source"] == runs.source_fingerprint()


def test_the_metrics_are_those_of_the_network_in_the_folder(tiny_run):
    loaded = load_run(tiny_run.folder)
    digits = load_images("digits", split="train+test")
    clusters = extract(loaded.method, digits.images, "cluster").argmax(1)
    scores = clustering_scores(digits.labels, clusters)
    # k-means may have stopped before its last assignment settled: a few images may differ.
    assert scores["accuracy"] == pytest.approx(loaded.record["metrics"]["accuracy"], abs=0.01)


def test_a_loaded_run_is_ready_for_use(tiny_run, tiny):
    loaded = load_run(str(tiny_run.folder))
    assert isinstance(loaded.method, SimCLR)
    assert not loaded.method.training
    assert loaded.experiment == tiny
    assert loaded.record == tiny_run.record
    assert [row["epoch"] for row in loaded.history] == [1, 2]
    assert all("seconds" in row for row in loaded.history)


def test_given_again_a_run_is_loaded_and_not_trained(tiny_run, tiny):
    before = {file.name: file.stat().st_mtime_ns for file in tiny_run.folder.iterdir()}
    # An impossible device would stop any training.
    again = run(tiny, seed=1, out=tiny_run.folder, device="abacus")
    assert again.record == tiny_run.record
    assert {file.name: file.stat().st_mtime_ns for file in tiny_run.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "seed", "what"),
    [
        ({}, 2, "seed"),
        ({"training__epochs": 3}, 1, "experiment"),
        ({"clusters": 9}, 2, "experiment and seed"),
    ],
)
def test_the_folder_of_another_run_is_refused(tiny_run, tiny, changes, seed, what):
    with pytest.raises(InputError, match=rf"holds another run \(other {what}\)") as error:
        run(tiny.override(**changes), seed=seed, out=tiny_run.folder, **CPU)
    assert str(error.value).isprintable()


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
    weights = [(f / "model.safetensors").read_bytes() for f in (out, tiny_run.folder)]
    assert weights[0] == weights[1]
    for key in FIELDS - {"minutes", "images_per_second"}:
        assert finished.record[key] == tiny_run.record[key], key


def test_mixem_starts_from_the_run_of_its_start(tmp_path, tiny, tiny_run, monkeypatch):
    experiment = get("digits/mixem").override(
        views__size=8, training__epochs=1, training__batch_size=599, protocol__starts=2
    )
    finished = run(experiment, seed=1, out=tmp_path / "a", start=tiny_run.folder, **CPU)
    assert isinstance(finished.method, MixEM)
    record = finished.record
    assert record["start"] == {
        key: tiny_run.record[key] for key in ("experiment", "seed", "metrics", "minutes")
    }
    kinds = [(row["kind"], row.get("init")) for row in record["protocols"]]
    assert kinds[0] == ("k-means", "components")
    assert kinds.count(("k-means", "components")) == kinds.count(("k-means", "k-means++")) == 4
    assert kinds[-1] == ("argmax p", None)
    assert record["metrics"] == record["protocols"][0]["scores"]
    assert record["history"][-1]["used"] >= 1
    # With a start that is not given, it is trained inside the folder, with the settings of its own
    # experiment but the images and the network of this one.
    small = dataclasses.replace(tiny, name="digits/simclr")
    monkeypatch.setitem(EXPERIMENTS, "digits/simclr", small)
    nested = run(experiment, seed=1, out=tmp_path / "b", **CPU)
    assert nested.record["metrics"] == record["metrics"]
    start = load_run(tmp_path / "b" / "start")
    assert start.record["history"] == tiny_run.record["history"]
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == (
        tmp_path / "a" / "model.safetensors"
    ).read_bytes()
    # Another start in the same folder is another run.
    with pytest.raises(InputError, match=r"holds another run \(other start\)"):
        run(experiment, seed=1, out=tmp_path / "a", **CPU)
    # Finished, it no longer needs its start.
    shutil.copytree(tiny_run.folder, tmp_path / "start")
    run(experiment, seed=1, out=tmp_path / "c", start=tmp_path / "start", **CPU)
    shutil.rmtree(tmp_path / "start")
    run(experiment, seed=1, out=tmp_path / "c", start=tmp_path / "start", **CPU)


def test_mixem_from_scratch(tmp_path, tiny_mixem):
    finished = run(tiny_mixem, seed=0, out=tmp_path / "run", **CPU)
    assert finished.record["start"] is None
    assert finished.record["overrides"]["start"] is None
    start, end = finished.record["curve"]
    assert (start["epoch"], start.keys()) == (0, end.keys())
    assert end == {"epoch": 2, **finished.record["metrics"]}
    assert names(tmp_path) == ["run"]


def test_a_start_with_another_network_is_refused_before_anything_is_written(tmp_path, tiny_run):
    experiment = get("digits/mixem").override(training__epochs=1)  # 16 x 16, the start has 8 x 8
    with pytest.raises(InputError, match="another backbone"):
        run(experiment, out=tmp_path / "run", start=tiny_run.folder, **CPU)
    with pytest.raises(InputError, match="there is no folder"):
        run(experiment, out=tmp_path / "run", start=tmp_path / "missing", **CPU)
    assert not (tmp_path / "run").exists()


def test_a_start_for_an_experiment_without_one_is_refused(tmp_path, tiny, tiny_mixem, tiny_run):
    for experiment in (tiny, tiny_mixem):
        with pytest.raises(InputError, match="starts from random weights"):
            run(experiment, out=tmp_path / "run", start=tiny_run.folder, **CPU)


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
    assert (record["data"]["train_images"], record["data"]["test_images"]) == (1297, 500)
    assert record["protocol"]["fit_split"] == "train"
    transductive = run(split.override(protocol__fit_split="test"), out=tmp_path / "other", **CPU)
    assert transductive.record["metrics"] != record["metrics"]
    assert transductive.record["history"] == record["history"]


@pytest.mark.parametrize("kind", ["labelled", "flat"])
def test_a_folder_of_pictures(tmp_path, tiny, tiny_mixem, pictures, kind):
    for experiment in (tiny, tiny_mixem):
        changed = of_folder(experiment, pictures / kind)
        record = run(changed, out=tmp_path / experiment.method, **CPU).record
        assert record["data"]["shape"] == [3, 8, 8]
        assert record["data"]["train_images"] == 12
        assert record["overrides"]["images"] == f"folder:{kind}"
        assert str(pictures) not in json.dumps(record)
        assert "secret-place" not in json.dumps(record)
        assert 1 <= record["usage"]["used"] <= 2
        if kind == "flat":
            assert record["metrics"] is None
            assert all(row["scores"] is None for row in record["protocols"])
            assert record["curve"] == []  # without labels there is nothing to score
        else:
            assert 0.5 <= record["metrics"]["accuracy"] <= 1


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("stl10/iic", 96),  # crops of 64 pixels
        ("mnist/iic", 28),
        ("digits/iic", 16),
        ("stl10/imc-swav", 96),  # plain_size
        ("cifar10/imc-swav", 32),
        ("cifar10/simclr", 32),
    ],
)
def test_pictures_of_a_folder_are_as_large_as_the_recipe_wants(name, side):
    assert runs.side_of(get(name)) is None
    assert runs.side_of(get(name).on("folder:photos")) == side


def test_more_clusters_than_pictures(tmp_path, tiny, pictures):
    with pytest.raises(InputError, match="13 clusters for 12 images; give fewer clusters"):
        run(of_folder(tiny, pictures / "flat", clusters=13), out=tmp_path / "run", **CPU)


def test_the_start_uses_the_pictures_too():
    # stl10/simclr fits on "test", a split that a flat folder does not have.
    experiment = of_folder(get("stl10/mixem"), "photos", "all", 3)
    start = start_of(experiment)
    assert (start.name, start.method, start.start) == ("stl10/simclr", "simclr", None)
    splits = (start.images, start.train_split, start.test_split, start.protocol.fit_split)
    assert splits == ("folder:photos", "all", "all", "all")
    assert (start.clusters, start.views) == (3, experiment.views)
    assert start.protocol.init == "k-means++"


@pytest.mark.parametrize("name", [name for name, e in EXPERIMENTS.items() if e.start])
def test_an_unchanged_start_is_the_experiment_it_names(name):
    assert start_of(get(name)) == get(get(name).start)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_settings_survive_json(name):
    experiment = get(name).override(views__size=24)
    assert from_dict(json.loads(json.dumps(to_dict(experiment)))) == experiment
    assert "sources" not in to_dict(experiment)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.pop("views"),
        lambda values: values["training"].update(momentum=0.9),
        lambda values: values.update(colour="blue"),
        lambda values: values.pop("clusters"),
    ],
)
def test_settings_of_another_version(spoil):
    values = to_dict(get("digits/simclr"))
    spoil(values)
    with pytest.raises(InputError, match="another version of mixem"):
        from_dict(values)


def test_weights_are_drawn_from_the_seed_alone(tiny_mixem):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(tiny_mixem, channels=1, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = build(tiny_mixem, channels=1, seed=3), build(tiny_mixem, channels=1, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(first.head.weight, other.head.weight)


def test_settings_reach_the_method():
    experiment = get("digits/mixem").override(
        clusters=7,
        settings__components=4,
        settings__embedding_size=6,
        settings__temperature=0.3,
        settings__diversity_weight=1.5,
        settings__confidence="entropy",
        settings__extra_projection=True,
    )
    method = build(experiment, channels=3, seed=0)
    assert method.centres.shape == (7, 128)
    assert method.head.weight.shape == (4, 128, 6)
    assert (method.temperature, method.diversity_weight) == (0.3, 1.5)
    assert method.confidence.__name__ == "instance_entropy"
    assert len(method.projection) == 3
    assert method.backbone.layers[0].in_channels == 3
    simclr = build(start_of(experiment), channels=3, seed=0)
    assert simclr.temperature == get("digits/simclr").settings.temperature


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


def test_the_source_fingerprint_sees_every_file_a_run_depends_on(tmp_path, monkeypatch):
    package = tmp_path / "mixem"
    source = Path(runs.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(runs, "__file__", str(package / "runs.py"))
    fingerprint = runs.source_fingerprint.__wrapped__
    plain = fingerprint()
    assert plain == runs.source_fingerprint()
    seen = {plain}
    for part in ("losses/nt_xent.py", "train.py", "data/augment.py", "models/heads.py"):
        with (package / part).open("a") as file:
            file.write("# changed\n")
        seen.add(fingerprint())
    assert len(seen) == 5
    with (package / "cli.py").open("a") as file:
        file.write("# of no consequence for a run\n")
    assert fingerprint() in seen


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
    values["experiment"] = to_dict(tiny_mixem)
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="holds another network"):
        load_run(folder)


def test_an_experiment_of_ones_own(tmp_path, tiny):
    own = dataclasses.replace(tiny, name="mine/simclr")
    record = run(own, out=tmp_path / "run", **CPU).record
    assert (record["experiment"], record["overrides"]) == ("mine/simclr", {})


def test_the_time_limit_holds_for_start_and_run_together(tmp_path, tiny, monkeypatch):
    # The start takes some time; what is left for the run is less.
    monkeypatch.setitem(EXPERIMENTS, "digits/simclr", tiny)
    limits = []
    train = runs.train

    def watch(*args, **options):
        limits.append(options["max_minutes"])
        return train(*args, **options)

    monkeypatch.setattr(runs, "train", watch)
    experiment = get("digits/mixem").override(
        views__size=8, training__epochs=1, training__batch_size=599, protocol__starts=2
    )
    assert run(experiment, out=tmp_path / "run", max_minutes=10, **CPU) is not None
    of_start, of_run = limits
    minutes = load_run(tmp_path / "run" / "start").record["minutes"]
    assert of_run <= of_start - minutes + 1e-3 < 10


def test_long_histories_are_thinned_and_keep_the_last_epoch(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(runs, "HISTORY_POINTS", 3)
    finished = run(tiny.override(training__epochs=8), out=tmp_path / "run", **CPU)
    assert [row["epoch"] for row in finished.record["history"]] == [2, 5, 8]
    assert [row["epoch"] for row in finished.history] == [1, 2, 3, 4, 5, 6, 7, 8]
