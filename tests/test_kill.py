"""A training killed for real, by SIGKILL, at several moments, and started again each time."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mixem.checkpoint import UNFINISHED, load_checkpoint

EPOCHS, BATCH = 3, 32
STEPS = 1797 // BATCH  # an epoch; more than 50, so that there are checkpoints within epochs


def arguments(out, start):
    return [
        "train", "digits/mixem", "--seed=1", f"--out={out}", f"--start={start}", "--device=cpu",
        "--checkpoint-seconds=0", "--quiet", "--set=views.size=8", "--set=protocol.n_init=2",
        f"--set=training.batch_size={BATCH}", f"--set=training.epochs={EPOCHS}",
    ]  # fmt: skip


def lines(folder):
    file = folder / "log.jsonl"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def step(folder):
    """Steps of the checkpoint; it is whole at any moment, or not there."""
    file = folder / "checkpoint.pt"
    return load_checkpoint(file)["step"] if file.exists() else 0


def is_writing(folder):
    return any(file.name.startswith(".checkpoint") for file in folder.glob(f".*{UNFINISHED}"))


# When to kill: whether the moment has come, from the folder and the steps done before the start.
MOMENTS = {
    "while a checkpoint within an epoch is written": lambda folder, before: is_writing(folder),
    "after an epoch was logged": lambda folder, before: len(lines(folder)) > before // STEPS,
    "after the last epoch": lambda folder, before: len(lines(folder)) == EPOCHS,
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_killed_again_and_again_ends_as_one_left_in_peace(tiny_run, tmp_path):
    peace, killed = tmp_path / "peace", tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(out):
        return subprocess.Popen(
            [sys.executable, "-m", "mixem", *arguments(out, tiny_run.folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    undisturbed = start(peace)
    before = 0
    for moment, has_come in MOMENTS.items():
        process = start(killed)
        # The first thing a run does is to put its log right.
        began = time.time_ns()
        while process.poll() is None:
            log = killed / "log.jsonl"
            if log.exists() and log.stat().st_mtime_ns > began and has_come(killed, before):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.0005)
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"{moment}: {output}"
        assert not (killed / "record.json").exists(), moment
        assert step(killed) >= before, moment
        before = step(killed)
    assert 0 < before <= EPOCHS * STEPS

    for process in (start(killed), undisturbed):
        output, _ = process.communicate()
        assert process.returncode == 0, output
        assert output.startswith("digits/mixem, seed 1: complete")

    weights = [(folder / "model.safetensors").read_bytes() for folder in (killed, peace)]
    assert weights[0] == weights[1]
    records = [json.loads((folder / "record.json").read_text()) for folder in (killed, peace)]
    for record in records:
        del record["minutes"], record["images_per_second"]
    assert records[0] == records[1]
    logs = [[json.loads(line) for line in lines(folder)] for folder in (killed, peace)]
    for row in (*logs[0], *logs[1]):
        assert row.pop("seconds") > 0
    assert logs[0] == logs[1]
    files = [sorted(file.name for file in folder.iterdir()) for folder in (killed, peace)]
    assert files[0] == files[1] == ["config.json", "log.jsonl", "model.safetensors", "record.json"]
