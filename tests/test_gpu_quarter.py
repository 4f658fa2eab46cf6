"""The script for fifteen minutes of a GPU, from end to end on the CPU with tiny settings."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mixem.records import load_records


def quarter(root, out, *options):
    script = root / "tools" / "gpu_quarter.py"
    done = subprocess.run(
        [sys.executable, script, "--device=cpu", f"--out={out}", *options],
        env=os.environ | {"MIXEM_RUNS": str(out / "runs"), "PYTHONPATH": str(root)},
        capture_output=True, text=True, cwd=out.parent,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_first_call_looks(pytestconfig, tmp_path):
    out = tmp_path / "out"
    small = ["--recipes", "mnist/simclr-small", "--batch=4", "--side=64"]
    code, printed, errors = quarter(
        pytestconfig.rootpath, out, "look", *small, "--no-tests", "--no-compile"
    )
    assert code == 0, errors
    rows = json.loads((out / "look.json").read_text())
    assert [json.loads(line) for line in printed.splitlines()] == rows
    assert not any("error" in row for row in rows), rows
    assert [row["what"] for row in rows] == [
        "machine",
        "peak",
        "launches mnist/simclr-small",
        "epoch of mnist/simclr-small, eager",
        "the end",
    ]
    machine, peak, step, epoch, end = rows
    assert machine["torch"]
    assert peak["rate"] > 0
    assert step["step"] == "mnist/simclr-small, images"
    assert step["batch"] == 4
    assert step["share_of_peak"] > 0
    assert step["operations"] > 0
    assert epoch["hours"] * 3600 == pytest.approx(epoch["seconds_an_epoch"] * 5)  # epochs
    assert end["in_time"]


def test_what_goes_wrong_is_a_row(pytestconfig, tmp_path):
    out = tmp_path / "out"
    root, options = pytestconfig.rootpath, ["--no-tests", "--no-compile", "--side=64"]
    quarter(root, out, "look", "--recipes", "digits/simclr", "--batch=4", *options)  # no SHAPES
    rows = json.loads((out / "look.json").read_text())
    assert rows[2]["error"] == "KeyError: 'digits'"
    assert rows[3]["seconds_an_epoch"] > 0


def test_the_second_call_trains_on_a_folder_of_pictures(pytestconfig, tmp_path):
    """And its record says how much of the schedule it had."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in range(10):
            folder = tmp_path / "pictures" / split / str(name)
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = random.integers(256, size=(28, 28), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    out = tmp_path / "out"
    images = f"--images=folder:{tmp_path / 'pictures'}"
    call = ("train", "mnist/simclr-small", images)
    code, printed, errors = quarter(pytestconfig.rootpath, out, *call, "--fit-minutes=60")
    assert code == 0, errors
    assert "all 5 epochs" in printed
    assert printed == (out / "train.txt").read_text()
    (record,) = load_records(out / "results")
    assert record.data.name == "folder:pictures"
    assert record.data.train_images == record.data.test_images == 40
    assert record.metrics
