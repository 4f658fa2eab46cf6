"""Two processes compute what one does, and go on where one stopped."""

import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import share_of_a_step
from mixem import distributed
from mixem.checkpoint import load_checkpoint
from mixem.errors import InputError
from mixem.models.norm import synchronise_batch_norm

SCRIPT = Path(share_of_a_step.__file__)


def torchrun(processes, *command, fails=False):
    """What processes started by torchrun print."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, f"--nproc-per-node={processes}", *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout if not fails else done.stderr


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """What two processes find in every case."""
    file = tmp_path_factory.mktemp("two") / "found.pt"
    torchrun(2, SCRIPT, file)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("case", share_of_a_step.CASES, ids=lambda case: case[0])
def test_two_processes_have_loss_and_gradients_of_one(of_two, case):
    title, *case = case
    two, one = of_two[title], share_of_a_step.step(*case)
    assert one["gradients"]
    for part in ("loss", "gradients", "buffers"):
        assert two[part].keys() == one[part].keys(), part
        for name, value in one[part].items():
            # The bank's classifier sees the same features in both processes, and so counts more.
            rough = {"rtol": 0.01} if title.endswith("bank") and "running" in name else {}
            assert torch.allclose(
                two[part][name], value, **{"rtol": 1e-9, "atol": 1e-12} | rough
            ), f"{part} {name}"


def test_the_cases_use_all_their_terms(of_two):
    terms = {name.split(",")[0]: set(found["loss"]) for name, found in of_two.items()}
    assert terms["mixem"] == {"contrast", "diversity", "confidence", "pull", "push"}
    assert set(of_two["imc-swav, bank"]["loss"]) == {"swapped", "information", "penalty"}
    assert "method.prototypes" not in of_two["imc-swav, frozen"]["gradients"]
    assert any("prototypes" in name for name in of_two["imc-swav"]["gradients"])
    assert not any("heads.main" in name for name in of_two["iic, over"]["gradients"])


def train(out, *more):
    return [
        "-m", "mixem", "train", "digits/iic", f"--out={out}", "--device=cpu", "--quiet",
        "--set=training.epochs=2", "--set=training.batch_size=32", "--set=settings.repeats=1",
        "--set=settings.sub_heads=2", "--set=training.snapshots=()", "--set=backbone=small",
        "--set=views.size=8", "--set=training.learning_rate=1e-4", *more,
    ]  # fmt: skip


def test_a_run_begun_by_one_process_is_finished_by_two(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for out, more, code in ((shared, ["--max-minutes=0"], 3), (alone, [], 0)):
        done = subprocess.run(
            [sys.executable, *train(out, *more)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr

    def step():
        return load_checkpoint(shared / "checkpoint.pt")["step"]

    # In the midst of an epoch, whose sums the two have to go on with; a slow machine stops sooner.
    first = step()
    assert 0 < first <= 50
    torchrun(2, *train(shared, "--max-minutes=0"), fails=True)  # that is, 3 and not 0
    assert step() == 50 * (first // 50 + 1)
    output = torchrun(2, *train(shared))
    assert output.count("digits/iic, seed 0: complete") == 1  # one of the two speaks
    files = [sorted(file.name for file in folder.iterdir()) for folder in (alone, shared)]
    assert files[0] == files[1]
    logs, records = [], []
    for folder in (alone, shared):
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        logs.append([json.loads(line) for line in lines])
        records.append(json.loads((folder / "record.json").read_text(encoding="utf-8")))
    # The order of a sum differs, and float32 with it, a little more at every step.
    for one, two in zip(*logs, strict=True):
        assert two["step"] == one["step"]
        assert two["terms"] == pytest.approx(one["terms"], abs=2e-3)
        for used in zip(two["usage"], one["usage"], strict=True):
            assert used[0] == pytest.approx(used[1], abs=0.02)
    assert records[1]["hardware"] == "2 processes: " + records[0]["hardware"]


def test_two_processes_train_the_start_and_score_the_snapshots(tmp_path, tiny, tiny_run):
    tiny_settings = [f"--set={path}={tiny.values()[path]}" for path in tiny_run.record.overrides]
    command = [
        "-m", "mixem", "train", "digits/mixem", "--seed=1", "--device=cpu", "--quiet",
        *tiny_settings, "--set=training.batch_size=64", "--set=training.epochs=1",
        "--set=training.snapshots=0,1",
    ]  # fmt: skip
    torchrun(2, *command, f"--out={tmp_path / 'run'}", f"--start-from={tiny_run.folder}")
    record = json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8"))
    assert record["start"]["metrics"] == tiny_run.record.metrics
    start, end = record["curve"]
    assert end == {"epoch": 1, "scores": record["protocols"][0]["scores"]}
    assert start["epoch"] == 0


def test_two_processes_refuse_the_folder_of_another_run(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text('{"seed": 3}', encoding="utf-8")
    error = torchrun(2, *train(out), fails=True)
    assert "holds another run: " in error
    assert "; choose another --out or delete the folder" in error


def test_a_batch_that_cannot_be_shared_is_an_error(tmp_path):
    error = torchrun(2, *train(tmp_path / "run", "--set=training.batch_size=599"), fails=True)
    assert "a batch of 599 images for 2 processes; give a batch_size that is a multiple" in error
    assert "Traceback" not in error.split("torch/distributed")[0]


def processes_of(launcher):
    """Process number by rank, of those that a torchrun has started."""
    found = {}
    for place in Path("/proc").iterdir():
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            environment = dict(
                entry.partition(b"=")[::2]
                for entry in (place / "environ").read_bytes().split(b"\0")
            )
        except (OSError, ValueError, IndexError):  # no process, or one that has ended
            continue
        if parent == launcher and b"RANK" in environment:
            found[int(environment[b"RANK"])] = int(place.name)
    return found


@pytest.mark.skipif(
    not (Path("/proc/self/environ").exists() and torch.distributed.is_gloo_available()),
    reason="processes are told apart by /proc, and connected by gloo",
)
def test_when_one_process_is_killed_the_other_ends_and_the_run_goes_on(tmp_path):
    """F13: the survivor printed sixty lines. First the one that leads is killed, then the other."""
    out, peace, before = tmp_path / "run", tmp_path / "peace", 0
    checkpoint = out / "checkpoint.pt"
    command = train(out, "--checkpoint-seconds=0")
    for rank in (0, 1):
        began = time.time_ns()
        launcher = subprocess.Popen(
            [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node=2", *map(str, command),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            while launcher.poll() is None and not (
                checkpoint.exists() and checkpoint.stat().st_mtime_ns > began
            ):
                time.sleep(0.01)
            numbers = processes_of(launcher.pid)
            assert sorted(numbers) == [0, 1]
            os.kill(numbers[rank], signal.SIGKILL)
            printed, _ = launcher.communicate(timeout=120)
        finally:
            launcher.kill()
        assert launcher.returncode != 0
        assert not [n for n in numbers.values() if (Path("/proc") / str(n)).exists()]
        ours = printed.partition("torch/distributed")[0]  # below it is a table of torchrun's own
        assert "Traceback" not in ours
        lines = [line for line in ours.splitlines() if line.startswith("mixem: ")]
        assert len(lines) <= 1  # of the survivor, which hears of it by the connection or torchrun
        assert all("give the same command to go on" in line for line in lines)
        assert not (out / "record.json").exists()
        step = load_checkpoint(checkpoint)["step"]
        assert before < step < 2 * (1797 // 32)
        before = step
    for folder in (out, peace):
        torchrun(2, *train(folder, "--checkpoint-seconds=0"))
    weights = [folder / "model.safetensors" for folder in (out, peace)]
    assert filecmp.cmp(*weights, shallow=False)


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")  # as Slurm's or another launcher's tools may set it
    assert distributed.processes() == 1
    assert distributed.leads()
    x = torch.ones(2, 3, requires_grad=True)
    with distributed.together(torch.device("cpu")):
        assert (distributed.size(), distributed.rank()) == (1, 0)
        for function in (distributed.total, distributed.average, distributed.gather):
            assert function(x) is x
        assert distributed.largest(x) is x
        assert distributed.decided(True, torch.device("cpu"))


def test_more_processes_than_gpus_are_an_error(monkeypatch):
    for name, value in (
        ("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "3"), ("RANK", "2"), ("LOCAL_RANK", "2"),
        ("LOCAL_WORLD_SIZE", "3"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MIXEM_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert not distributed.leads()
    assert distributed.own_device("cpu") == "cpu"
    with pytest.raises(InputError, match="3 processes on a machine with 2 GPUs; give torchrun"):
        distributed.own_device("auto")
    with pytest.raises(InputError, match="3 processes on the one GPU cuda:1; give --device cuda"):
        distributed.own_device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.own_device("cuda") == "cuda:1"


def test_the_batch_norm_for_gpus_is_a_plain_one_for_a_process_alone():
    torch.manual_seed(0)
    plain, synchronised = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    synchronise_batch_norm(synchronised, torch.device("cuda"))
    assert isinstance(synchronised, torch.nn.SyncBatchNorm)  # as DistributedDataParallel asks
    x = torch.randn(4, 3, 2, 2)
    for _ in range(2):
        assert torch.equal(plain(x), synchronised(x))
        assert torch.equal(plain.running_var, synchronised.running_var)
        plain.eval(), synchronised.eval()
