"""Features as a kind of input: sets, views, runs, resuming, evaluation, prediction, bad input."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mixem.cli import main
from mixem.data import Augmentation, ImageSet, network_of
from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS, get
from mixem.features import load_vectors
from mixem.models.pretrained import Preprocessing, Pretrained
from mixem.records import read_record
from mixem.runs import load_run, run
from mixem.training import TrainConfig

NAMES = [name for name in EXPERIMENTS if name.startswith("pretrained/")]


class Pixels(nn.Module):
    """The mean colour of each quarter."""

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def network(digest="d" * 64):
    half = Preprocessing(32, (0.5,) * 3, (0.25,) * 3)
    return Pretrained("timm:made", Pixels(), 12, half, "here", "nothing", "MIT", digest)


@pytest.fixture
def pretrained(monkeypatch):
    """The made network instead of any that is asked for."""
    made = {"digest": "d" * 64}

    def give(name, weights=None):
        return network(made["digest"])

    monkeypatch.setattr("mixem.features.pretrained", give)
    monkeypatch.setattr("mixem.models.pretrained.pretrained", give)
    return made


@pytest.fixture
def folder(tmp_path):
    """Pictures of three colours in class folders, two splits."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        for c, name in enumerate(("red", "green", "blue")):
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)
                pixels[..., c] += 150
                Image.fromarray(pixels).save(place / f"{i}.png")
    return tmp_path / "photos"


def blobs(n=90, d=12, k=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    x = 4 * np.eye(d)[labels] + 1 + 0.3 * rng.standard_normal((n, d))
    return ImageSet.of_vectors(x, labels)


def test_a_set_of_vectors():
    own = blobs()
    assert (own.images.dtype, tuple(own.images.shape)) == (torch.float16, (90, 12))
    assert (own.channels, own.num_classes) == (12, 3)
    assert own.fingerprint == blobs().fingerprint != blobs(seed=1).fingerprint
    part = own.subset([4, 2])
    assert torch.equal(part.images, own.images[[4, 2]])
    assert part.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (np.nan, "row 2 of the features is not finite"),
        (1e6, "row 2 of the features is not finite, or too large"),
        (0.0, r"row 2 of the features is all zeros \(1 of 5 rows are\)"),
    ],
)
def test_vectors_without_a_direction_are_refused(row, message):
    x = np.ones((5, 4))
    x[2] = row
    with pytest.raises(InputError, match=message):
        ImageSet.of_vectors(x)


@pytest.mark.parametrize("x", [np.ones(4), np.ones((2, 3, 4)), np.ones((2, 3), int)])
def test_other_arrays_are_refused(x):
    with pytest.raises(InputError, match=r"give floating-point numbers of shape \(N, D\)"):
        ImageSet.of_vectors(x)


def test_a_view_of_a_vector_is_itself():
    x = blobs().images
    views = Augmentation(size=1, flip=0.5)
    assert torch.equal(views(x, torch.Generator()), x.float())
    assert torch.equal(views.plain(x), x.float())


def test_names():
    assert network_of("stl10@torchvision:resnet18") == ("stl10", "torchvision:resnet18")
    assert network_of("folder:a@b/c") == ("folder:a@b/c", "")
    other = get("pretrained/iic").on("folder:photos")
    assert (other.images, other.train_split) == ("folder:photos@efficientnet-lite0", "all")
    assert get("pretrained/iic").on("stl10@timm:x").images == "stl10@timm:x"


@pytest.mark.parametrize("name", NAMES)
def test_every_method_runs_on_vectors(name, tmp_path):
    own = blobs()
    changes = {"clusters": 3, "training__least_steps": 60}
    experiment = get(name).on(own).override(**changes_of(get(name), changes))
    finished = run(experiment, images=own, out=tmp_path / "run", device="cpu", progress=False)
    record = read_record(tmp_path / "run" / "record.json")
    assert record.data.shape == (12,)
    best = max(row.scores["accuracy"] for row in record.protocols)
    assert best > 0.9
    again = load_run(tmp_path / "run")
    found = again.method.cluster(own.images).argmax(1)
    assert torch.equal(found, finished.method.cluster(own.images).argmax(1))


def changes_of(experiment, changes):
    """Smaller settings, where the experiment has them."""
    wanted = changes | {"settings__neighbours": 5, "settings__prototypes": 12}
    wanted |= {
        "settings__agreeing": 2,
        "settings__heads": 3,
        "settings__sub_heads": 3,
        "settings__hidden": 16,
    }
    if experiment.method == "temi":
        wanted |= {"settings__hidden": (16, 8), "settings__teacher_momentum": 0.9}
    if not experiment.training.epochs:
        del wanted["training__least_steps"]
    if experiment.start:
        del wanted["training__least_steps"]
    known = experiment.values()
    return {path: v for path, v in wanted.items() if path.replace("__", ".") in known}


@pytest.mark.parametrize("name", ["pretrained/iic", "pretrained/temi"])
def test_stopped_and_gone_on_is_the_same(name, tmp_path):
    own = blobs(200)
    changes = changes_of(get(name), {"clusters": 3, "training__epochs": 4})
    changes |= {"training__batch_size": 50, "training__least_steps": 0}
    experiment = get(name).on(own).override(**changes)

    def trained(out, **more):
        return run(experiment, images=own, out=tmp_path / out, device="cpu", progress=False, **more)

    whole = trained("whole")
    assert trained("parts", max_epochs=2, checkpoint_seconds=0) is None
    parts = trained("parts")
    for key, value in whole.method.state_dict().items():
        assert torch.equal(value, parts.method.state_dict()[key]), key


@pytest.mark.parametrize("name", ["pretrained/iic", "pretrained/scan"])
def test_a_warm_start_keeps_heads_that_would_begin_at_k_means(name, tmp_path):
    own, other = blobs(), blobs(120, seed=1)
    short = {"training__epochs": 1, "training__learning_rate": 1e-12, "training__least_steps": 0}
    changes = changes_of(get(name), {"clusters": 3, "training__least_steps": 60})
    options = {"device": "cpu", "progress": False}
    first = run(get(name).on(own).override(**changes), images=own, out=tmp_path / "a", **options)
    still = get(name).on(other).override(**changes | short)
    warm = run(still, images=other, out=tmp_path / "b", start=first.folder, **options)
    for key, value in first.method.named_parameters():
        torch.testing.assert_close(warm.method.get_parameter(key), value, msg=key)
    cold = run(still, images=other, out=tmp_path / "c", **options)
    assert any(
        not torch.allclose(cold.method.get_parameter(key), value, atol=0.01)
        for key, value in first.method.named_parameters()
    )
    four = still.override(clusters=4)
    warm = run(four, images=other, out=tmp_path / "d", start=first.folder, **options)
    cold = run(four, images=other, out=tmp_path / "e", **options)
    for key, value in cold.method.named_parameters():  # other heads begin as without a start
        torch.testing.assert_close(warm.method.get_parameter(key), value, msg=key)


def test_least_steps_make_more_epochs():
    config = TrainConfig(epochs=3, least_steps=10)
    assert [config.lasting(steps).epochs for steps in (1, 3, 4, 100)] == [10, 4, 3, 3]


def test_a_folder_by_a_network(folder, tmp_path, pretrained):
    name = f"folder:{folder}@timm:made"
    found = load_vectors(name, split="test", root=tmp_path, progress=False)
    assert len(found) == 15
    assert found.class_names == ("blue", "green", "red")
    assert found.files[0] == "test/blue/0.png"
    both = load_vectors(name, split="all", root=tmp_path, progress=False)
    row = both.files.index("test/red/4.png")
    assert torch.equal(both.images[row], found.images[found.files.index("test/red/4.png")])
    assert both.origin["network"] == "timm:made"
    assert both.origin["seen"] == "nothing"
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_sort_predict_and_evaluate(folder, tmp_path, pretrained, capsys):
    out = tmp_path / "out"
    options = ["--data", str(tmp_path), "--network", "timm:made"]
    arguments = ["sort", str(folder), "--out", str(out), "--clusters", "3", *options]
    assert main(arguments) == 0
    with (out / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    of = {row["file"]: row["cluster"] for row in rows}
    assert len(of) == 51
    kinds = {colour: {of[f] for f in of if f"/{colour}/" in f} for colour in ("red", "green")}
    assert all(len(clusters) == 1 for clusters in kinds.values())
    record = read_record(out / "run-3-seed0" / "record.json")
    assert record.data.origin["licence"] == "MIT"
    assert record.metrics["accuracy"] == 1.0
    assert str(tmp_path) not in json.dumps(record.settings)
    capsys.readouterr()
    again = [str(out / "run-3-seed0"), "--data", str(tmp_path)]
    assert main(["evaluate", *again]) == 0
    assert "1.0000" in capsys.readouterr().out
    assert main(["predict", again[0], str(folder / "test"), *again[1:]]) == 0
    assert "15 pictures sorted" in capsys.readouterr().err
    pretrained["digest"] = "e" * 64
    assert main(["predict", again[0], str(folder / "test"), *again[1:]]) == 2
    assert "other weights of timm:made" in capsys.readouterr().err


def test_pictures_that_are_all_the_same(tmp_path, pretrained):
    place = tmp_path / "same"
    place.mkdir()
    for i in range(9):
        Image.new("RGB", (40, 40), (200, 30, 30)).save(place / f"{i}.png")
    with pytest.raises(InputError, match=r"all 9 pictures of .* have the same features"):
        load_vectors(f"folder:{place}@timm:made", split="all", root=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("n", "k", "message"),
    [(1, 3, "1 pictures are too few"), (20, 6, "give 2 to 5 clusters")],
)
def test_fewer_pictures_than_are_needed(n, k, message, tmp_path, pretrained, capsys):
    place = tmp_path / "few"
    place.mkdir()
    for i in range(n):
        Image.new("RGB", (40, 40), (10 * i, 30, 30)).save(place / f"{i}.png")
    options = ["--data", str(tmp_path), "--network", "timm:made"]
    out = tmp_path / "out"
    assert main(["sort", str(place), "--out", str(out), "--clusters", str(k), *options]) == 2
    assert message in capsys.readouterr().err


def test_more_clusters_than_images():
    own = blobs(9)
    with pytest.raises(InputError, match="10 clusters for 9 images"):
        run("pretrained/kmeans", images=own, device="cpu")


def test_pixels_and_vectors_are_not_mixed_up(tmp_path):
    own = blobs()
    with pytest.raises(InputError, match="features go with the backbone vectors"):
        run(get("digits/simclr").on(own), images=own, out=tmp_path / "a", device="cpu")
    finished = run(
        get("pretrained/kmeans").on(own).override(clusters=3),
        images=own, out=tmp_path / "b", device="cpu", progress=False,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"give float16 features of shape \(N, D\)"):
        finished.method.features(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="features of 7 numbers for a run on features of 12"):
        finished.method.features(torch.ones(2, 7).half())
