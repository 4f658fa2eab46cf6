"""A training killed for real at several moments, or asked to end, and started again each time."""

import filecmp
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


def arguments(out, start, seconds):
    return [
        "train", "digits/mixem", "--seed=1", f"--out={out}", f"--start={start}", "--device=cpu",
        f"--checkpoint-seconds={seconds}", "--quiet", "--set=views.size=8",
        "--set=protocol.n_init=2",
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


class Trained:
    """A run on the command line.

    Args:
        out: Its folder.
        start: Folder of the run that it starts from.
        seconds: Least time between two checkpoints.
    """

    def __init__(self, out, start, seconds=0):
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mixem", *arguments(out, start, seconds)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def send(self, number, has_come):
        """Send a signal when the moment has come; what was printed."""
        began = time.time_ns()
        while self.process.poll() is None:
            log = self.out / "log.jsonl"
            # The first thing a run does is to put its log right.
            if log.exists() and log.stat().st_mtime_ns > began and has_come():
                self.process.send_signal(number)
                break
            time.sleep(0.0005)
        return self.process.communicate()[0]

    def finish(self):
        """Wait for the end."""
        if self.process.stdout.closed:
            return
        output, _ = self.process.communicate()
        assert self.process.returncode == 0, output
        assert output.startswith("digits/mixem, seed 1: complete")


@pytest.fixture(scope="module")
def peace(tiny_run, tmp_path_factory):
    """The run that is left in peace, which goes on beside the others."""
    run = Trained(tmp_path_factory.mktemp("peace") / "run", tiny_run.folder)
    yield run
    if run.process.poll() is None:
        run.process.kill()
        run.process.communicate()


def assert_same(killed, peace):
    """Weights, records but for the time, logs and files are the same."""
    weights = [folder / "model.safetensors" for folder in (killed, peace)]
    assert filecmp.cmp(*weights, shallow=False)
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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_killed_again_and_again_ends_as_one_left_in_peace(peace, tiny_run, tmp_path):
    killed, before = tmp_path / "killed", 0
    for moment, has_come in MOMENTS.items():
        run = Trained(killed, tiny_run.folder)
        output = run.send(signal.SIGKILL, lambda h=has_come, b=before: h(killed, b))
        assert run.process.returncode == -signal.SIGKILL, f"{moment}: {output}"
        assert not (killed / "record.json").exists(), moment
        assert step(killed) >= before, moment
        before = step(killed)
    assert 0 < before <= EPOCHS * STEPS
    Trained(killed, tiny_run.folder).finish()
    peace.finish()
    assert_same(killed, peace.out)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to speak of")
def test_a_run_asked_to_end_keeps_what_it_has_done(peace, tiny_run, tmp_path):
    """As a cluster does with SIGTERM, and the user with Ctrl-C; no other checkpoint is due."""
    asked, before = tmp_path / "asked", 0
    for number in (signal.SIGTERM, signal.SIGINT):
        run = Trained(asked, tiny_run.folder, seconds=1000)
        output = run.send(number, lambda b=before: len(lines(asked)) > b // STEPS)
        assert output == "mixem: stopped; give the same command to go on\n"
        assert run.process.returncode == 130
        assert step(asked) >= before + STEPS - before % STEPS
        before = step(asked)
    assert before < EPOCHS * STEPS
    Trained(asked, tiny_run.folder, seconds=1000).finish()
    peace.finish()
    assert_same(asked, peace.out)
