"""The queue of what is missing: its order, its projections, what it does and where it goes on."""

import dataclasses
import filecmp
import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import mixem.reproduce as module
from mixem import profile as module_of_profile
from mixem.cli import main
from mixem.errors import InputError
from mixem.experiments import get
from mixem.profile import seconds_an_epoch
from mixem.records import load_records, read_record, save_record
from mixem.reproduce import Row, fit, fitted, listing, queue, reproduce, rows_named
from mixem.runs import load_run, run
from mixem.training import Sitting, TrainConfig

CPU = Sitting(device="cpu", progress=False)
TINY = {"views.size": 8, "training.batch_size": 599, "protocol.n_init": 2}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """A folder of runs of its own."""
    monkeypatch.setenv("MIXEM_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MIXEM_MOST_MINUTES", raising=False)
    return tmp_path / "runs"


def row(epochs=2, seeds=1, label="tiny", **changes):
    changes = TINY | {"training.epochs": epochs} | changes
    return Row("digits/simclr", seeds, changes, label)


def test_every_row_is_an_experiment_with_settings_that_exist():
    rows = queue()
    assert rows[0].name == "cifar10/imc-swav"
    for one in rows:
        assert one.settings().name == one.experiment
        assert one.why
        assert bool(one.changes) == bool(one.label)
    starts = [one.settings().start for one in rows]
    names = [one.experiment for one in rows]
    for place, start in enumerate(starts):  # a start comes before what begins with it
        assert start is None or start in names[:place]


def test_rows_by_name():
    assert [one.name for one in rows_named(["mnist/iic:even", "digits/iic"])] == [
        "mnist/iic:even",
        "digits/iic",
    ]
    assert rows_named(["cifar10/imc-swav"])[0].seeds == 3
    assert rows_named([]) == queue()
    with pytest.raises(InputError, match=r"no row 'mnist/iic:odd'; those with a label are fashion"):
        rows_named(["mnist/iic:odd"])
    with pytest.raises(InputError, match="did you mean 'mnist/iic'"):
        rows_named(["mnist/icc"])


def test_what_is_missing_is_trained_and_what_is_there_is_not(tmp_path, runs):
    rows, said, results = [row(seeds=2), row(3, label="other")], [], tmp_path / "results"
    first = run(rows[0].settings(), seed=0, sitting=CPU)
    save_record(first.record, results)
    found = reproduce(rows, results=results, sitting=CPU, say=said.append)
    assert found.done == [("digits/simclr:tiny", 1), ("digits/simclr:other", 0)]
    assert not found.failed
    assert not found.stopped
    assert {(r.epoch, r.seed) for r in load_records(results)} == {(2, 0), (2, 1), (3, 0)}
    words = [line.split(",")[0] for line in said]
    names = ("tiny", "tiny", "other", "other")
    assert words == [
        f"{word}: digits/simclr:{name}"
        for word, name in zip(("next", "done") * 2, names, strict=True)
    ]
    assert re.search(r"seed 1, about .* of training, until \d\d:\d\d", said[0])
    assert reproduce(rows, results=results, sitting=CPU, say=said.append).done == []


def test_a_run_that_is_there_without_its_record_is_not_trained_again(tmp_path, monkeypatch):
    there = run(row().settings(), seed=0, sitting=CPU)
    monkeypatch.setattr("mixem.runs.train", None)
    monkeypatch.setattr(module.Speeds, "seconds", lambda self, experiment: 1.0)
    reproduce([row()], results=tmp_path / "results", sitting=CPU, say=lambda line: None)
    assert load_records(tmp_path / "results") == [there.record]


def test_the_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module.Speeds, "seconds", lambda self, experiment: 1.0)
    said, results = [], tmp_path / "results"
    found = reproduce([row(400)], results=results, minutes=0.001, sitting=CPU, say=said.append)
    assert found.stopped
    assert not results.exists()
    assert (
        said[-1] == "the time is up in digits/simclr:tiny, seed 0; the same command goes on with it"
    )
    found = reproduce([row(400)], results=results, minutes=0, sitting=CPU, say=said.append)
    assert said[-1].startswith("the time is up; next comes digits/simclr:tiny, seed 0, about")


def test_what_cannot_be_run_is_named_and_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(module.Speeds, "seconds", lambda self, experiment: 1.0)
    said, rows = [], [Row("cifar10/simclr"), row()]
    how = {"results": tmp_path / "results", "root": tmp_path, "sitting": CPU}
    found = reproduce(rows, say=said.append, **how)
    assert list(found.failed) == [("cifar10/simclr", 0)]
    assert found.done == [("digits/simclr:tiny", 0)]
    assert said[1].startswith("left out: cifar10/simclr, seed 0: cifar10 is not")
    code = main(["reproduce", "cifar10/simclr", "--device=cpu", f"--data={tmp_path}"])
    assert code == 2


def test_a_killed_queue_goes_on(tmp_path, runs):
    """Killed for real in the midst of the training; the second command ends with equal weights."""
    script = (
        "import sys; from mixem.reproduce import *; from mixem.training import Sitting\n"
        "import mixem.reproduce as module\n"
        "module.Speeds.seconds = lambda self, experiment: 1.0\n"
        f"row = Row('digits/simclr', 1, {TINY | {'training.epochs': 6}!r}, 'tiny')\n"
        "sitting = Sitting(device='cpu', progress=False, checkpoint_seconds=0)\n"
        "print(reproduce([row], results=sys.argv[1], sitting=sitting).done)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "results")]
    threads = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "text": True}  # as here
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **threads)
    while process.poll() is None and not list(runs.glob("*/checkpoint.pt")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "results").exists()
    done = subprocess.run(command, capture_output=True, check=True, **threads)
    assert "[('digits/simclr:tiny', 0)]" in done.stdout
    (folder,) = runs.glob("digits*")
    (record,) = load_records(tmp_path / "results")
    undisturbed = run(row(6).settings(), seed=0, out=tmp_path / "peace", sitting=CPU)
    weights = [at / "model.safetensors" for at in (folder, undisturbed.folder)]
    assert filecmp.cmp(*weights, shallow=False)
    assert record.metrics == undisturbed.record.metrics


# Fitting into a time ------------------------------------------------------------------------------


def test_a_schedule_is_scaled():
    whole = TrainConfig(
        epochs=500, schedule="milestones", milestones=(0.4, 0.8), constant_epochs=50,
        warmup_steps=100, snapshots=(0, 1, 2, 5, 10, 100, 500, 600), learning_rate=1.0, decay=0.5,
    )  # fmt: skip
    short = whole.scaled(50)
    assert (short.epochs, short.constant_epochs, short.warmup_steps) == (50, 5, 10)
    assert short.snapshots == (0, 1, 10, 50)
    assert short.scaled_from == short.scaled(10).scaled_from == 500
    rates = [short.rate(epoch) for epoch in (19, 20, 39, 40)]
    assert rates == [whole.rate(10 * epoch) for epoch in (19, 20, 39, 40)] == [1, 0.5, 0.5, 0.25]
    constant = TrainConfig(epochs=463, constant_epochs=463, snapshots=(1, 2, 8, 64)).scaled(8)
    assert (constant.constant_epochs, constant.snapshots) == (8, (1, 2, 8))  # the same beginning
    warming = TrainConfig(epochs=400, constant_epochs=400, warmup_steps=100).scaled(40)
    assert (warming.constant_epochs, warming.warmup_steps) == (40, 10)
    for epochs in (0, 500, 501):
        with pytest.raises(InputError, match="epochs instead of 500; give fewer"):
            whole.scaled(epochs)


def test_as_many_epochs_as_fit():
    experiment = get("cifar10/imc-swav")
    assert fitted(experiment, 6.3, 2.4).training == experiment.training.scaled(150)
    assert fitted(experiment, 1000, 2.4) is experiment
    with pytest.raises(InputError, match=r"takes about 60 s here.*give at least 3 minutes"):
        fitted(experiment, 2, 60)


def test_a_record_of_a_scaled_schedule_says_so_and_is_in_the_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "seconds_an_epoch", lambda *_, **how: 10.0)
    results, said = tmp_path / "results", []
    whole = row(20, label="", **{"training.snapshots": (0, 10, 20)})
    record = fit(whole, 0.7, seed=1, results=results, sitting=CPU, say=said.append)
    assert record.scaled == "4 of 20 epochs, schedule scaled"
    assert record.epoch == len(record.history) == 4
    assert [point.epoch for point in record.curve] == [0, 2, 4]
    assert record.seed == 1
    assert record.variant.startswith("4 of 20 epochs, schedule scaled, size=8, batch_size=599")
    (file,) = results.rglob("*.json")
    assert read_record(file) == record
    assert "4-of-20-epochs-schedule-scaled" in file.parent.name
    assert (
        "next: digits/simclr, seed 1, 4 of 20 epochs, schedule scaled, about 42 seconds" in said[1]
    )
    assert "4 of 20 epochs, schedule scaled, accuracy" in said[-1]

    alone = {p: v for p, v in record.overrides.items() if p.startswith("training.")}
    del alone["training.batch_size"]
    save_record(dataclasses.replace(record, overrides=alone), results / "plain")
    capsys.readouterr()
    assert main(["tables", "--results", str(results / "plain")]) == 0
    (line,) = re.findall(r"digits/simclr .*", capsys.readouterr().out)[:1]
    assert "(4 of 20 epochs, schedule scaled)" in line
    table = listing([Row("digits/simclr")], load_records(results / "plain"), sitting=CPU)
    assert table.rows[0][:3] == ("digits/simclr", "0 of 1", "4 of 20 epochs, schedule scaled")


def test_a_fit_that_was_stopped_goes_on_with_the_same_length(tmp_path, monkeypatch, runs):
    monkeypatch.setattr(module, "seconds_an_epoch", lambda *_, **how: 0.1)
    how = {"results": tmp_path / "results", "sitting": CPU, "say": lambda line: None}
    whole = row(4000)
    assert fit(whole, 1, minutes=0.001, **how) is None
    (folder,) = runs.glob("*-fit-1")
    assert (
        json.loads((folder / "config.json").read_text())["experiment"]["training"]["epochs"] == 571
    )

    def again(*_, **how):
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "seconds_an_epoch", again)
    assert fit(whole, 1, minutes=0.001, **how) is None
    assert [one.name for one in runs.glob("*")] == [folder.name]


def test_what_cannot_be_fitted_is_said(capsys):
    assert main(["reproduce", "digits/iic", "digits/mixem", "--fit-minutes=1"]) == 2
    assert "--fit-minutes is for a single row" in capsys.readouterr().err
    assert main(["reproduce", "digits/iic", "--fit-minutes=0"]) == 2
    assert "0.0 minutes to fit into; give more than 0" in capsys.readouterr().err


# What it takes ------------------------------------------------------------------------------------


def test_the_list(tmp_path, capsys):
    arguments = ["reproduce", "digits/simclr", "--list", "--device=cpu"]
    assert main([*arguments, f"--results={tmp_path / 'results'}"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"\ndigits/simclr +0 of 1 .*(minutes|seconds|hours)", shown.out)
    assert "measuring the speed of digits/simclr" in shown.err
    assert main([*arguments, f"--results={tmp_path / 'results'}"]) == 0
    assert "measuring" not in capsys.readouterr().err


def test_a_record_of_this_machine_says_how_long_it_takes(tiny_run):
    record = dataclasses.replace(tiny_run.record, minutes=3.0, epoch=2)
    speeds = module.Speeds([record], CPU)
    assert speeds.seconds(tiny_run.experiment.override(training__epochs=7)) == 90
    assert speeds.minutes(tiny_run.experiment) == pytest.approx(1.05 * 3)


def test_as_many_epochs_as_the_least_number_of_steps_asks_for(monkeypatch):
    monkeypatch.setattr(module.Speeds, "seconds", lambda self, experiment: 60.0 / 1.05)
    speeds = module.Speeds([], CPU)
    experiment = row(2).settings()  # of 1797 // 599 steps an epoch
    assert speeds.minutes(experiment) == pytest.approx(2)
    assert speeds.minutes(experiment.override(training__least_steps=29)) == pytest.approx(10)


def test_what_takes_as_long_is_measured_once(monkeypatch):
    measured = []
    monkeypatch.setattr(
        module.Speeds, "_measured", lambda self, experiment: measured.append(experiment) or 1.0
    )
    speeds = module.Speeds([], CPU, lambda line: None)
    experiment = row(2).settings()
    for changes in ({}, {"training__epochs": 9}, {"settings__temperature": 0.7}):
        speeds.seconds(experiment.override(**changes))
    assert len(measured) == 1
    for changes in ({"training__batch_size": 300}, {"views__size": 12}, {"images": "mnist"}):
        speeds.seconds(experiment.override(**changes))
    assert len(measured) == 4


def test_seconds_an_epoch_of_features(monkeypatch, tmp_path):
    network = SimpleNamespace(out_features=12)
    monkeypatch.setattr("mixem.profile.pretrained", lambda name: network)
    experiment = get("pretrained/scan").override(images="mnist@timm:made")
    assert seconds_an_epoch(experiment, steps=1, batch=16, device="cpu") > 0
    places, load = [], module_of_profile.loader

    def noted(experiment, *, root):
        places.append(root)
        return load(experiment)

    monkeypatch.setattr(module_of_profile, "loader", noted)
    counted = experiment.override(images="digits@timm:made")
    assert seconds_an_epoch(counted, steps=1, batch=16, root=tmp_path, device="cpu") > 0
    assert places == [tmp_path]


def test_a_row_that_comes_again_counts_once(monkeypatch):
    monkeypatch.setattr(module.Speeds, "seconds", lambda self, experiment: 60.0 / 1.05)
    table = listing([row(2), row(2, seeds=3)], [], sitting=CPU)
    assert [cells[1] for cells in table.rows[:2]] == ["0 of 1", "0 of 3"]
    assert table.rows[-1][4] == "6 minutes"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mnist/iic-small", {}),
        ("cifar10/scan", {"backbone": "small", "views__size": 8}),
        ("stl10/iic-finetune", {"backbone": "small", "views__size": 8}),
        ("stl10/imc-swav", {"backbone": "small-resnet18"}),
    ],
)
def test_seconds_an_epoch_need_no_images(name, changes, monkeypatch):
    monkeypatch.setattr("mixem.profile.load_sets", None)
    experiment = get(name).override(**changes)
    assert 0 < seconds_an_epoch(experiment, steps=1, batch=16, device="cpu") < 100_000


def test_seconds_an_epoch_grow_with_the_images(monkeypatch):
    experiment = get("mnist/simclr-small").override(views__size=8)
    ticks = iter(range(100))
    monkeypatch.setattr("mixem.profile._Clock.now", lambda self: next(ticks))
    of_60000 = seconds_an_epoch(experiment, steps=1, batch=8, device="cpu")
    batch = experiment.training.batch_size
    assert of_60000 == (60_000 // batch) * batch / 8  # a second a step of 8 images
    both = experiment.override(train_split="train+test")
    assert seconds_an_epoch(both, steps=2, batch=8, device="cpu") == (70_000 // batch) * batch / 16


# In the chapters ----------------------------------------------------------------------------------


def test_a_cell_does_not_train_for_hours(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXEM_MOST_MINUTES", "0.001")
    with pytest.raises(InputError, match=r"digits/simclr, seed 0, is not trained yet .* 0.001 min"):
        run(row(400).settings(), seed=0, out=tmp_path / "run", sitting=CPU)
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert run(row(400).settings(), out=tmp_path / "two", sitting=CPU, max_minutes=0.001) is None
    monkeypatch.setenv("MIXEM_MOST_MINUTES", "10")
    finished = run(row(2).settings(), seed=0, out=tmp_path / "short", sitting=CPU)
    monkeypatch.setenv("MIXEM_MOST_MINUTES", "0")  # what is there is loaded
    assert run(row(2).settings(), seed=0, out=tmp_path / "short").record == finished.record
    assert load_run(tmp_path / "short").record == finished.record
    for wrong in ("nan", "-1", "inf"):
        monkeypatch.setenv("MIXEM_MOST_MINUTES", wrong)
        with pytest.raises(InputError, match=f"MIXEM_MOST_MINUTES is '{wrong}'; give a number"):
            run(row(400).settings(), out=tmp_path / "two", sitting=CPU)
    monkeypatch.setenv("MIXEM_MOST_MINUTES", "soon")
    with pytest.raises(InputError, match="MIXEM_MOST_MINUTES is 'soon'; give a number"):
        run(row(2).settings(), seed=0, out=tmp_path / "short")
