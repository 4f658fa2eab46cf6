"""Pictures of one's own: what a new user once stumbled over, and what comes now.

Folders have tests of their own (tests/data), as have stopping, records, tables and pages.
"""

import base64
import csv
import io
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from mixem.cli import main
from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation, load_images
from mixem.errors import InputError
from mixem.experiments import get
from mixem.methods import SimCLR, extract
from mixem.runs import run
from mixem.scoring import evaluate
from mixem.training import TrainConfig, train
from mixem.training.meter import wide

SMALL = [
    "--set=training.epochs=1", "--set=protocol.n_init=1", "--set=views.size=8", "--device=cpu",
    "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve pictures in three class folders."""
    place = tmp_path_factory.mktemp("own") / "photos"
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = place / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return place


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory) -> Path:
    """A run on them."""
    out = tmp_path_factory.mktemp("run") / "run"
    arguments = ["--images", f"folder:{photos}", "--clusters", "3", "--out", str(out)]
    assert main(["train", "digits/simclr", *arguments, *SMALL]) == 0
    return out


@pytest.mark.parametrize("swapped", [False, True])
def test_settings_that_belong_together_are_changed_together(photos, tmp_path, swapped, capsys):
    """Fault 1: mean and std of another length were refused in either order."""
    changes = ["--set", "views.mean=(0.5,0.5,0.5)", "--set", "views.std=(0.2,0.2,0.2)"]
    changes = changes[2:] + changes[:2] if swapped else changes
    arguments = ["--images", f"folder:{photos}", "--clusters", "3", "--out", str(tmp_path / "r")]
    assert main(["train", "digits/simclr", *arguments, *changes, *SMALL]) == 0
    plain = get("cifar10/simclr").override(views__mean=(), views__std=())
    assert (plain.views.mean, plain.views.std) == ((), ())


def test_grey_runs_refuse_colours_in_a_line(photos, tiny_run):
    """Fault 8: PyTorch's error about groups and weights came out."""
    images, message = load_images(photos, split="all", size=8), "takes 1; load them with"
    method = tiny_run.method
    for call in (
        lambda: extract(method, images.images, "cluster"),
        lambda: method.features(images.images),
        lambda: evaluate(method, images, protocol=KMeansProtocol()),
        lambda: train(method, images, TrainConfig(epochs=1), device="cpu", progress=False),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(InputError, match="has no out_features; set it"):
        SimCLR(torchvision.models.resnet18(), Augmentation(size=8))


def test_sums_are_no_float64_on_an_apple_gpu():
    """Fault 11: it has none. The device that holds no numbers stands in for it."""

    class Apple:
        device = torch.device("mps")

        def to(self, kind):
            return kind

    assert wide(Apple()) == torch.float32
    assert wide(torch.ones(2)).dtype == torch.float64


def test_fewer_pictures_than_clusters(photos, finished, tmp_path, capsys):
    """Fault 17: "lower k", which evaluate cannot, and clusters of one's own need no k-means."""
    for name in "ab":
        place = tmp_path / "few" / name
        place.mkdir(parents=True)
        Image.new("RGB", (12, 12), {"a": "red", "b": "blue"}[name]).save(place / "x.png")
    few = ["--images", f"folder:{tmp_path / 'few'}"]
    capsys.readouterr()
    assert main(["evaluate", str(finished), *few]) == 2
    assert "2 pictures for a run of 3 clusters" in capsys.readouterr().err
    assert main(["predict", str(finished), str(tmp_path / "few")]) == 0  # as the line advises
    plan = get("digits/imc-swav").on(f"folder:{photos}").override(clusters=3, training__epochs=1)
    own = run(plan, out=tmp_path / "swav", device="cpu", progress=False)
    found = evaluate(
        own.method,
        load_images(tmp_path / "few", split="all", size=16),
        protocol=plan.protocol,
    )
    assert found.rows[0].kind == "argmax p"
    assert "k-means" not in {row.kind for row in found.rows}
    assert found.metrics is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["training.accumulate=100"], "accumulate asks for 100 batches"),
        (["views.crop_sides=(60,)"], "crop"),
        (["training.learning_rate=1e30", "training.epochs=20"], "became nan"),
    ],
)
def test_what_was_refused_leaves_its_folder_free(photos, tmp_path, capsys, wrong, message):
    """Fault 16: the right command was then told that the folder holds another run."""
    arguments = ["--images", f"folder:{photos}", "--clusters", "3", "--out", str(tmp_path / "r")]
    changes = [f"--set={setting}" for setting in wrong]
    capsys.readouterr()
    with warnings.catch_warnings(action="ignore"):  # of a collapse on the way
        assert main(["train", "digits/simclr", *arguments, *SMALL, *changes]) == 2
    complaints = capsys.readouterr().err
    assert message in complaints
    assert complaints.startswith("mixem: ")
    assert main(["train", "digits/simclr", *arguments, *SMALL]) == 0


def test_the_recipes_for_folders_leave_no_snapshots(finished):
    """Fault 21: five of them, which nobody had asked for."""
    for name in ("photos/simclr", "photos/mixem", "photos/iic", "photos/imc-swav"):
        assert get(name).training.snapshots == ()
    names = sorted(file.name for file in finished.iterdir())
    assert names == ["config.json", "log.jsonl", "model.safetensors", "record.json"]


def test_the_record_names_the_folder_once(finished):
    """Fault 18: "folder:folder:photos"."""
    record = json.loads((finished / "record.json").read_text())
    assert record["data"]["name"] == record["overrides"]["images"] == "folder:photos"


def test_predict_takes_a_folder_in_both_spellings_and_single_pictures(photos, finished, tmp_path):
    """Fault 19."""
    tables = []
    for number, places in enumerate(([f"folder:{photos}"], [photos])):
        out = tmp_path / f"{number}.csv"
        assert main(["predict", str(finished), *map(str, places), "--out", str(out)]) == 0
        tables.append(out.read_text())
    assert tables[0] == tables[1]
    two = [str(photos / "a" / "0.png"), str(photos / "b" / "1.png")]
    assert main(["predict", str(finished), *two, "--out", str(tmp_path / "two.csv")]) == 0
    assert len((tmp_path / "two.csv").read_text().splitlines()) == 3


def test_names_that_a_terminal_would_obey_are_shown(photos, finished, tmp_path, capsys):
    """Fault 23: a newline or an escape in the name of a skipped file was printed as it is."""
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    (tmp_path / "a\x1b]0;evil\x07\nb.png").write_text("no picture")
    capsys.readouterr()
    assert main(["predict", str(finished), str(tmp_path), "--out", str(tmp_path / "x.csv")]) == 0
    complaints = capsys.readouterr().err
    assert r"skipped a\x1b]0;evil\x07\nb.png: not a picture" in complaints
    assert "\x1b" not in complaints


def test_a_folder_as_out_is_no_file(photos, finished, tmp_path, capsys):
    """Fault 23: ``--out sorted/`` wrote a file of that name."""
    assert main(["predict", str(finished), str(photos), "--out", f"{tmp_path}/sorted/"]) == 2
    assert "sorted; give a file, as" in capsys.readouterr().err
    assert not (tmp_path / "sorted").exists()


def test_a_run_on_padded_pictures_pads_wherever_it_is_used(tmp_path, capsys):
    """Wide pictures that differ at their ends alone: cropped, they are all the same."""
    for i in range(8):
        wide = Image.new("RGB", (48, 16), "white")
        wide.paste((255, 0, 0) if i % 2 else (0, 0, 255), (0, 0, 12, 16))
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        wide.save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png")
    place = f"folder:{tmp_path / 'photos'}"
    arguments = ["--images", place, "--clusters", "2", "--out", str(tmp_path / "run"), *SMALL]
    turns = ["--set=views.vertical_flip=0.5", "--set=views.quarter_turns=0.75"]
    assert main(["train", "digits/simclr", "--pad", *turns, *arguments]) == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["overrides"]["views.pad"] is True
    assert record["overrides"]["views.quarter_turns"] == 0.75
    capsys.readouterr()
    for pictures in ([place], [str(p) for p in sorted((tmp_path / "photos").rglob("*.png"))]):
        assert main(["predict", str(tmp_path / "run"), *pictures, "--device=cpu"]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        colours = [int(Path(row["file"]).stem) % 2 for row in rows]
        clusters = {colour: row["cluster"] for colour, row in zip(colours, rows, strict=True)}
        assert clusters[0] != clusters[1]
        assert [row["cluster"] for row in rows] == [clusters[colour] for colour in colours]
    assert main(["embed", str(tmp_path / "run"), place, "--out", str(tmp_path / "f.npy")]) == 0
    assert len(np.unique(np.load(tmp_path / "f.npy").round(4), axis=0)) == 2
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--no-yardsticks", "--device=cpu"]) == 0
    assert "1.0000" in capsys.readouterr().out


def test_a_pretrained_network_needs_no_padding(photos, capsys):
    arguments = ["--images", f"folder:{photos}", "--clusters", "3", "--pad"]
    assert main(["train", "pretrained/kmeans", *arguments]) == 2
    assert "leave --pad out" in capsys.readouterr().err


def test_the_page_shows_the_files_and_not_what_the_network_saw(photos, finished, tmp_path):
    page = tmp_path / "page.html"
    arguments = [str(finished), str(photos), "--gallery", str(page), "--device=cpu"]
    assert main(["predict", *arguments]) == 0
    data = re.findall(r"base64,([^\"]+)", page.read_text(encoding="utf-8"))
    assert len(data) == 12
    sizes = {Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in data}
    assert sizes == {(96, 96)}


def test_a_home_that_is_not_there_is_one_line(tmp_path, capsys):
    out = f"--out={tmp_path / 'a.npy'}"
    assert main(["embed", "efficientnet-lite0", "~nobody-of-that-name/pictures", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "home directory that cannot be found" in line
