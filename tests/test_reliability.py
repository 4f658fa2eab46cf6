"""Kills, damage, faults of the machine and wrong values: what once was a traceback or silence.

Checkpoints, folders and pictures have tests of their own (test_checkpoint.py, test_kill.py,
test_runs.py, data/test_picture.py).
"""

import argparse
import dataclasses
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mixem import distributed
from mixem.checkpoint import load_checkpoint, load_weights, read_json, save_weights
from mixem.cli import LONGEST, _parser, main
from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS, Experiment, get
from mixem.lock import locked
from mixem.records import Epoch, load_records
from mixem.runs import load_run, run
from mixem.training import journal

CPU = {"device": "cpu", "progress": False}


@pytest.fixture
def pictures(tmp_path):
    """Pictures, one of which has a name that cp1252 does not know."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, name in enumerate(("a.png", "b.png", "数字.png")):
        pixels = np.random.default_rng(i).integers(0, 255, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def complaint(capsys, *arguments):
    """What a command complains of: one line, bounded, exit code 2."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    printed, complaints = capsys.readouterr()
    assert (code, printed) == (2, ""), arguments
    assert complaints.startswith("mixem: ")
    assert complaints.count("\n") == 1
    assert len(complaints) < LONGEST + 100
    return complaints


# Two processes (F5) ------------------------------------------------------------------------------


def test_a_second_process_in_the_folder_of_a_run_is_refused(tiny, tmp_path):
    """Both trained, and log.jsonl had each epoch twice."""
    out = tmp_path / "run"
    with locked(out), pytest.raises(InputError, match="another process is at work in"):
        run(tiny, out=out, **CPU)
    assert list(out.iterdir()) == []
    finished = run(tiny, out=out, **CPU)
    with locked(out):  # what is finished is only read
        assert run(tiny, out=out, **CPU).record == finished.record


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_a_killed_process_holds_nothing(tmp_path):
    script = (
        "import sys; from pathlib import Path; from mixem.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match="another process is at work"), locked(tmp_path):
        pass
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_a_drive_without_locks_holds_nobody_up(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOTSUP, "not here")

    monkeypatch.setattr("fcntl.flock", none)
    with locked(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()


# Advice that works (F7, F14, T7) -----------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.safetensors", "log.jsonl", "config.json"])
def test_the_advice_on_a_damaged_file_of_a_run_can_be_followed(tiny_run, tiny, tmp_path, file):
    """The command that trains said: train it again."""
    out = tmp_path / "run"
    shutil.copytree(tiny_run.folder, out)
    (out / file).write_bytes((out / file).read_bytes()[:30])
    for call in (lambda: load_run(out), lambda: run(tiny, seed=1, out=out, **CPU)):
        with pytest.raises(InputError, match="delete the folder and train again"):
            call()
    shutil.rmtree(out)
    assert run(tiny, seed=1, out=out, **CPU).record.metrics == tiny_run.record.metrics


def test_a_lost_snapshot_costs_a_point_and_not_the_run(tiny, tmp_path):
    """It was found out after the whole training, and again each time."""
    plan = tiny.override(training__snapshots=(0, 1))
    assert run(plan, out=tmp_path, max_epochs=1, **CPU) is None
    (tmp_path / "epoch-1.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"epoch-1.safetensors: it is missing; .* lacks epoch 1"):
        found = run(plan, out=tmp_path, **CPU)
    assert [point.epoch for point in found.record.curve] == [0]
    assert load_run(tmp_path).record == found.record


def test_a_snapshot_that_cannot_be_read_now_is_no_lost_one(tiny, tmp_path, monkeypatch):
    """F6: a record that lacks a point is for ever, a fault of the machine is not."""
    plan = tiny.override(training__snapshots=(0, 1))
    real = Path.open

    def fail(self, *arguments, **options):
        if self.name == "epoch-1.safetensors" and "rb" in arguments:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(InputError, match="Too many open files; mend that and try again"):
            run(plan, out=tmp_path, **CPU)
    assert not (tmp_path / "record.json").exists()
    assert [point.epoch for point in run(plan, out=tmp_path, **CPU).record.curve] == [0, 1]


def test_a_folder_deleted_under_a_training_is_whole_in_the_end(tiny, tmp_path, monkeypatch):
    once = journal._append_log

    def deleted(out, row):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        once(out, row)

    monkeypatch.setattr(journal, "_append_log", deleted)
    found = run(tiny, out=tmp_path / "run", **CPU)
    assert [row.epoch for row in found.history] == [1, 2]
    assert run(tiny, out=tmp_path / "run", **CPU).record == found.record


def test_a_file_that_cannot_be_read_now_is_not_to_be_deleted(tmp_path, monkeypatch):
    """config.json without rights: "restore or delete it"; weights: "No such file"."""
    (tmp_path / "j").write_text("{}")
    save_weights(tmp_path / "w", torch.nn.Linear(2, 2))
    torch.save({}, tmp_path / "c")

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("open", "read_text"):
        monkeypatch.setattr(Path, name, denied)
    monkeypatch.setattr("zipfile.ZipFile", denied)
    weights = torch.nn.Linear(2, 2)
    for file, load in (
        ("j", read_json),
        ("c", load_checkpoint),
        ("w", lambda path: load_weights(path, weights)),
    ):
        with pytest.raises(InputError) as error:
            load(tmp_path / file)
        words = f"cannot read {tmp_path / file}: Permission denied; mend that and try again"
        assert str(error.value) == words


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EDQUOT, "; free some space"),
        (errno.ENOENT, "No such file or directory; mend that and give the same command to go on"),
        (errno.EACCES, "Permission denied; mend that and give the same command to go on"),
    ],
)
def test_no_space_is_asked_for_where_none_is_missing(tmp_path, monkeypatch, number, advice):
    """F14: "No such file or directory; free some space"."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(InputError) as error:
        journal._append_log(tmp_path, Epoch(1, 1, 0.1, 0.0, {}))
    assert str(error.value).endswith(advice)
    assert str(error.value).startswith(f"cannot write {tmp_path / 'log.jsonl'}: ")


def test_a_log_that_cannot_be_read_now_is_not_to_be_deleted(tiny_run, monkeypatch):
    real = Path.read_text

    def denied(self, *arguments, **options):
        if self.name == "log.jsonl":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(InputError, match=r"log.jsonl: Permission denied; mend that and try again"):
        load_run(tiny_run.folder)


class Odd:
    """What a checkpoint never holds."""


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (Odd(), "it holds what no checkpoint does, and nothing of it was run; delete it to"),
        ({"identity": [1]}, "is not a checkpoint; delete it to start anew"),
        (None, "is not a checkpoint; delete it to start anew"),
    ],
)
def test_a_strange_checkpoint_is_a_line_of_ours(tiny, tmp_path, state, words):
    """PyTorch's text recommends to run what is in it; a list was a traceback."""
    assert run(tiny, out=tmp_path, max_epochs=1, **CPU) is None
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=words) as error:
        run(tiny, out=tmp_path, **CPU)
    assert "weights_only" not in str(error.value)
    (tmp_path / "checkpoint.pt").unlink()  # as it says
    assert run(tiny, out=tmp_path, **CPU) is not None


# Streams (F9) and no home (F10) ------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that can close a stream")
@pytest.mark.parametrize(("closing", "code"), [(">&-", 0), ("2>&-", 2)])
def test_closed_streams(closing, code, tmp_path):
    """A traceback, or the error in the place of the output."""
    words = "list digits/simclr" if code == 0 else "list nope"
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m mixem {words} {closing}"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_predict_without_stdout(tiny_run, pictures, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", None)
    assert main(["predict", str(tiny_run.folder), str(pictures), "--device=cpu"]) == 0
    sys.stdout.close()  # of the null device


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_table_is_whole_in_every_encoding(tiny_run, pictures, monkeypatch, encoding):
    """Half of a CSV, and no tables, for a dash or a name that the encoding lacks."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    assert main(["predict", str(tiny_run.folder), str(pictures), "--device=cpu"]) == 0
    rows = written.getvalue().decode("utf-8").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ['"a.png"', '"b.png"', '"数字.png"']
    words = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(words, encoding="ascii"))
    assert main(["tables"]) == 0
    assert rb"\u2013" in words.getvalue()


def test_without_a_home_pictures_are_sorted(tiny_run, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MIXEM_DATA", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is none
    assert main(["predict", str(tiny_run.folder), str(pictures), "--device=cpu"]) == 0
    words = complaint(capsys, "evaluate", tiny_run.folder, "--images=mnist", "--device=cpu")
    assert "--data" in words
    assert "MIXEM_DATA" in words


# Several processes (F13) -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "[/gloo/transport/tcp/pair.cc:537] Connection closed by peer [127.0.0.1]:2312",
        "[/gloo/transport/tcp/device.cc:80] Unable to find interface for: nosuch0",
        "Read error [127.0.0.1]:3: Connection reset by peer. Original exception",
    ],
)
def test_who_survives_the_others_says_so_in_a_line(monkeypatch, capsys, words):
    def torn(*_, **__):
        raise RuntimeError(words)

    monkeypatch.setattr("mixem.runs.run", torn)
    with pytest.raises(RuntimeError):  # of a process alone it is a defect
        main(["train", "digits/simclr"])
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    assert "one of them has ended; give the same command" in complaint(
        capsys, "train", "digits/simclr"
    )


# Values (T1, T6, N4 to N11) ----------------------------------------------------------------------

BAD = (
    float("nan"), float("inf"), float("-inf"), -1, 0, 10**20, 1e400, True, "", (True,), (-1,),
    (float("inf"),), [], None,
)  # fmt: skip
ONE_OF_A_METHOD = list({e.method: name for name, e in EXPERIMENTS.items()}.values())


@pytest.mark.parametrize("name", ONE_OF_A_METHOD)
def test_a_bad_value_of_a_setting_is_refused_or_can_be_written_down(name):
    """Infinity passed every "x > 0" and could not be written; True was an epoch."""
    plain = get(name)
    refused = 0
    for path in plain.values():
        if path == "name":
            continue
        for value in BAD:
            try:
                changed = plain.override({path: value})
            except InputError:
                refused += 1
                continue
            text = json.dumps(changed.to_dict(), allow_nan=False)
            assert Experiment.from_dict(json.loads(text)) == changed, (path, value)
            assert value != float("inf"), path
            assert value is not True or isinstance(plain.values()[path], bool), path
            assert value not in (10**20, (True,)), path
    assert refused > 300


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.learning_rate=1e400", "give finite numbers"),
        ("training.snapshots=(True,)", "in which True is no number"),
        ("protocol.n_init=100000000000000000000", "give numbers up to"),
        ("protocol.n_init=1000000", "1000000 starts of k-means; give at most 100000"),
        ("start=digits/mixem", "begins from random weights; leave start out"),
        (f"clusters={'9' * 5000}", " ... "),
    ],
)
def test_bad_settings_on_the_command_line(capsys, tmp_path, setting, message):
    arguments = ("train", "digits/simclr", f"--out={tmp_path / 'o'}", f"--set={setting}")
    assert message in complaint(capsys, *arguments)
    assert not (tmp_path / "o").exists()


def options():
    """Every option and argument of every command: command, action."""
    commands = next(iter(_parser()._subparsers._group_actions)).choices
    for command, parser in commands.items():
        for action in parser._actions:
            if action.nargs != 0:
                yield command, action


FREE = {"device", "precision", "set", "name", "rows", "metric", "records"}  # checked where used


@pytest.mark.parametrize(
    ("command", "action"), list(options()), ids=lambda v: v if isinstance(v, str) else v.dest
)
def test_every_option_refuses_what_is_no_value_of_it(command, action):
    kind = getattr(action.type, "__name__", None)
    if kind is None:
        assert action.dest in FREE
        return
    assert kind != "int"  # which takes 0, -1 and numbers of a thousand digits
    bad = ("", " ")
    if kind in ("whole", "number"):
        bad += ("nan", "inf", "-inf", "1e400", "True", "x")
        bad += (
            ("-1", "9" * 30, "9" * 5000)
            if kind == "number"
            else ("-1", "1.5", "9" * 30, "9" * 5000)
        )
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError) as error:
            action.type(text)
        assert len(str(error.value)) < 150


@pytest.mark.parametrize("number", ["0", "-1", "nan", "1e400", "9" * 5000])
@pytest.mark.parametrize(
    "words",
    [
        ("predict", "RUN", "PICTURES", "--clusters"),
        ("predict", "RUN", "PICTURES", "--max-pixels"),
        ("map", "RUN", "PICTURES", "--out=m.png", "--most"),
        ("predict", "RUN", "PICTURES", "--side"),
        ("sort", "PICTURES", "--out=m.png", "--clusters"),
        ("sort", "PICTURES", "--out=m.png", "--seed"),
        ("choose-k", "RUN", "PICTURES", "--from"),
        ("choose-k", "RUN", "PICTURES", "--to"),
        ("train", "digits/simclr", "--clusters"),
        ("profile", "digits/simclr", "--steps"),
        ("train", "digits/simclr", "--set=training.epochs=1", "--seed"),
        ("reproduce", "digits/simclr", "--fit-minutes"),
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_whole_numbers_that_make_no_sense(tiny_run, pictures, capsys, words, number, tmp_path):
    if words[-1] == "--seed" and number == "0":
        return
    places = {"RUN": str(tiny_run.folder), "PICTURES": str(pictures)}
    arguments = [places.get(word, word) for word in words]
    complaint(capsys, *arguments[:-1], f"{arguments[-1]}={number}")
    assert not Path("m.png").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v["protocols"][0]["scores"].update(accuracy=float("nan")), "cannot read"),
        (lambda v: v["protocols"][0]["scores"].update(accuracy=1e308), "accuracy is 1e.308, no"),
        (lambda v: v.update(seed="a"), "seed is 'a', not int"),
        (lambda v: v.update(experiment=5), "experiment is '5', not str"),
        (lambda v: v.update(overrides=[1]), "not a record"),
        (lambda v: v.update(format=1, overrides=[1], protocol={}), "not a record"),
    ],
)
def test_a_record_with_nonsense_is_named(tiny_run, tmp_path, spoil, message):
    """Cells "nan" and "inf" among the others, or the whole table lost."""
    values = json.loads((tiny_run.folder / "record.json").read_text())
    spoil(values)
    (tmp_path / "one.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=message) as error:
        load_records(tmp_path)
    assert "one.json" in str(error.value)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    "shape", [[], [1, 8], [1, 8, 8, 8], [1, 0, 8], [10**9, 8, 8], [1, 10**6, 10**6]]
)
def test_a_record_of_images_that_cannot_be_is_a_line(
    tiny_run, pictures, tmp_path, capsys, shape, command
):
    """T5: "not enough values to unpack", and index errors."""
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    record["data"]["shape"] = shape
    (tmp_path / "run" / "record.json").write_text(json.dumps(record))
    words = complaint(capsys, command, tmp_path / "run", *[pictures] * (command == "predict"))
    assert f"is not a record (its images are {tuple(shape)}); restore it" in words


def test_a_run_on_features_sorts_no_pictures(tiny_run, pictures, capsys, monkeypatch):
    data = dataclasses.replace(tiny_run.record.data, shape=(1280,))
    given = dataclasses.replace(tiny_run, record=dataclasses.replace(tiny_run.record, data=data))
    monkeypatch.setattr("mixem.runs.load_run", lambda _: given)
    for command in (("predict",), ("embed", "--out=f.npy"), ("choose-k",)):
        words = complaint(capsys, *command, tiny_run.folder, pictures)
        assert "was trained on features, not on pictures; give a run" in words


def test_a_log_without_a_bottom_is_a_line(tiny_run, tmp_path, capsys):
    """T8: a RecursionError."""
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").write_text("[" * 200_000)
    assert "is damaged (RecursionError(" in complaint(capsys, "evaluate", tmp_path / "run")


def test_too_few_pictures_to_try_numbers_of_clusters(tiny_run, pictures, capsys):
    """The advice was to give at least one k."""
    words = complaint(capsys, "choose-k", tiny_run.folder, pictures)
    assert "3 pictures are too few to try numbers of clusters; give at least 8" in words


@pytest.mark.parametrize("change", [{"test_split": 5}, {"images": 7}])
def test_a_wrong_type_in_a_config_is_a_line(tiny_run, tmp_path, capsys, change):
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["experiment"].update(change)
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert f"is '{next(iter(change.values()))}', not str" in complaint(
        capsys, "evaluate", tmp_path / "run"
    )
