"""What is said of work that takes time."""

import io
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixem import progress
from mixem.cli import main
from mixem.data import load_images
from mixem.experiments import EXPERIMENTS, get
from mixem.methods import extract
from mixem.runs import run
from mixem.training import loop, train

SMALL = ["--set=training.batch_size=599", "--set=protocol.n_init=1", "--device=cpu"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes stderr one; bars do not wait."""

    def make():  # in the test, for pytest sets stderr at its beginning
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setattr(progress, "DELAY", 0.0)
        return sys.stderr

    return make


@pytest.fixture
def photos(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return place


def test_who_is_silent_for_long_says_what_he_does(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with progress.working("predict: reading what it needs"):
        until = time.monotonic() + 20
        while not sys.stderr.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    assert sys.stderr.getvalue().strip() == "mixem: predict: reading what it needs ..."
    assert progress.PATIENCE <= 1.5


def test_who_has_said_something_is_not_silent(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "PATIENCE", 0.2)
    with progress.working("train"):
        progress.say("1,000 images")
        time.sleep(0.4)
    assert sys.stderr.getvalue().strip() == "mixem: 1,000 images"


@pytest.mark.parametrize("quick", [False, True])
def test_quick_work_and_files_have_neither_word_nor_bar(monkeypatch, quick):
    stream = Terminal() if quick else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    if not quick:
        monkeypatch.setattr(progress, "DELAY", 0.0)
        monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.working("predict"), progress.bar(3, "decoding") as shown:
        for _ in range(3):
            shown.update()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (59, "59 seconds"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (600, "10 minutes"),
        (5399, "90 minutes"),
        (5400, "1.5 hours"),
        (200_000, "2.3 days"),
    ],
)
def test_times_as_people_say_them(seconds, words):
    assert progress.duration(seconds) == words


def test_decoding_and_the_network_have_a_bar(terminal, photos, tiny_run):
    screen = terminal()
    images = load_images(photos, split="all", size=8, channels=1)
    assert "/30 [" in screen.getvalue().partition("decoding: ")[2]
    extract(tiny_run.method, images.images)
    assert "/30 [" in screen.getvalue().partition("features: ")[2]


def test_a_training_says_how_long_it_is_and_that_a_start_comes_first(capsys, tmp_path):
    code = main([
        "train", "digits/mixem", "--out", str(tmp_path / "run"), "--set=views.size=8",
        "--set=training.epochs=1", *SMALL, "--max-minutes=0",
    ])  # fmt: skip
    said = [line for line in capsys.readouterr().err.split("\n") if line.startswith("mixem: ")]
    assert code == 3
    assert said == [
        "mixem: digits/mixem goes on from digits/simclr, which is trained first if it is not there",
        "mixem: digits/simclr on 1,797 images of digits: 40 epochs, 280 steps",
    ]


def test_scoring_snapshots_has_a_bar(terminal, tiny, tmp_path):
    plan = tiny.override(training__epochs=2, training__snapshots=(0, 1))
    screen = terminal()
    run(plan, out=tmp_path / "run", device="cpu", progress=True)
    assert "/3 [" in screen.getvalue().partition("scoring: ")[2]


def test_a_training_of_hours_is_announced_with_what_is_shorter(capsys, tiny, monkeypatch):
    """After some steps; of one that takes minutes nothing is said."""
    monkeypatch.setattr(loop, "READ_AFTER", 0.0)
    monkeypatch.setattr(loop, "TOLD_AFTER", 0.0)
    digits = load_images("digits", split="train+test")

    def said(hours):
        monkeypatch.setattr(loop, "LONG", 1e-6 if hours else 3600)
        from mixem.experiments.build import build

        method = build(tiny, channels=1, seed=0)
        train(method, digits, tiny.training, device="cpu", sooner="take photos/simclr")
        return [line for line in capsys.readouterr().err.split("\n") if "mixem: " in line]

    (line,) = said(hours=True)
    assert "this will take about " in line
    assert line.rstrip().endswith("more; take photos/simclr")
    assert said(hours=False) == []


def test_the_shorter_one_is_the_small_recipe_of_the_method():
    from mixem.runs import _sooner

    for method in ("simclr", "mixem", "iic", "imc-swav"):
        assert f"photos/{method} is a small recipe" in _sooner(get(f"stl10/{method}"))
        assert f"photos/{method}" in EXPERIMENTS
        assert "fewer epochs" in _sooner(get(f"photos/{method}"))
    assert "fewer epochs" in _sooner(get("textures/iic-segmentation"))


def test_of_a_folder_it_is_to_sort_by_a_pretrained_network():
    from mixem.runs import _sooner

    long = _sooner(get("stl10/simclr").on("folder:photos"))
    assert long.index("mixem sort") < long.index("photos/simclr")
    assert "mixem sort" in _sooner(get("photos/simclr").on("folder:photos"))
    assert "mixem sort" not in _sooner(get("pretrained/iic").on("folder:photos"))
    assert "mixem sort" not in _sooner(get("stl10/simclr"))


def test_a_profile_of_a_folder_counts_its_pictures_and_reads_none(photos, capsys):
    (photos / "broken.jpg").write_bytes(b"no picture")
    code = main([
        "profile", "photos/mixem", f"--images=folder:{photos}", "--clusters=3", "--device=cpu",
        "--set=training.batch_size=8", "--steps=1",
    ])  # fmt: skip
    printed, complaints = capsys.readouterr()
    assert (code, complaints) == (0, "")
    assert "(1 x 3 steps of 8 images)" in printed
    epochs = -(-get("photos/mixem").training.least_steps // 3)
    steps = get("photos/simclr").training.least_steps
    assert f"all {epochs} epochs: " in printed
    assert f"and before them photos/simclr, 10 epochs or {steps} steps" in printed
    missing = Path(photos, "missing")
    assert main(["profile", "photos/mixem", f"--images=folder:{missing}"]) == 2
