"""The format of a record: read, written, checked, upgraded."""

import dataclasses
import json
import shlex
from pathlib import Path

import made
import pytest

from mixem import cli
from mixem.checkpoint import read_json
from mixem.errors import InputError
from mixem.experiments import get
from mixem.records import FORMAT, METRICS, PIXEL_METRICS, Epoch, Row, read_record, write_record
from mixem.runs import changes_of
from mixem.schema import to_json

OLD = Path(__file__).with_name("format-1.json")  # of mnist/simclr-small, as it was written
RESULTS = sorted((Path(__file__).parents[2] / "results").rglob("*.json"))


@pytest.fixture(scope="module")
def every():
    """The book's records by file."""
    return {file: read_record(file) for file in RESULTS}


def test_all_records_are_read(every):
    assert len(every) >= 81
    for file, record in every.items():
        assert record.format == FORMAT == 2
        assert record.protocols[0].scores, file
        known = [set(names) <= set(record.metrics) for names in (METRICS, PIXEL_METRICS)]
        assert any(known), file
        assert (record.history[-1].epoch if record.history else 0) == record.epoch, file
        least = record.settings.get("training.least_steps", 0)
        epochs = record.settings["training.epochs"]
        assert record.epoch == epochs or (least and record.epoch > epochs), file
        assert record.data.name == record.settings["images"], file


def test_what_was_read_is_written_and_read_again(every, tmp_path):
    for record in every.values():
        write_record(tmp_path / "r.json", record)
        assert read_record(tmp_path / "r.json") == record


def test_todays_experiments_have_the_settings_of_the_records(every):
    """Settings that came later aside; their defaults leave everything as it was."""
    for file, record in every.items():
        experiment = get(record.experiment).override(record.overrides)
        now = json.loads(json.dumps(experiment.values()))
        other = {p: v for p, v in record.settings.items() if p in now and now[p] != v}
        assert other == {}, file
        # SimCLR's first records have MIX'EM's settings too, which it did not use.
        gone = {path for path in record.settings if path not in now}
        assert not gone or experiment.method == "simclr", file
        assert all(path.startswith("settings.") for path in gone), file
        assert record.overrides.items() <= record.settings.items(), file


def test_an_old_record_says_what_it_said():
    old, new = read_json(OLD), read_record(OLD)
    assert (old["format"], new.format) == (1, 2)
    same = (
        "experiment", "overrides", "seed", "epoch", "minutes", "images_per_second", "precision",
        "hardware", "versions", "source",
    )  # fmt: skip
    assert {name: getattr(new, name) for name in same} == {name: old[name] for name in same}
    assert new.metrics == old["metrics"]
    assert [row.scores for row in new.protocols] == [row["scores"] for row in old["protocols"]]
    main = {"starts": "n_init", "iterations": "max_iter"}
    switches = {main.get(name, name): value for name, value in old["protocol"].items()}
    assert new.protocols[0] == Row("k-means", old["metrics"], "one-to-one", switches)
    assert (new.settings["protocol.n_init"], new.settings["protocol.max_iter"]) == (50, 10)
    assert "protocol.starts" not in new.settings
    assert "mapping" not in new.settings  # of IIC alone
    assert [(row.epoch, row.loss, row.terms) for row in new.history] == [
        (row["epoch"], row["loss"], row["terms"]) for row in old["history"]
    ]
    assert new.start is None
    assert (new.compiled, new.peak_memory, new.processes) == (None, None, 1)


def test_what_belonged_to_one_method_is_among_its_settings(every):
    by_method = {}
    for record in every.values():
        by_method.setdefault(record.settings["method"], set()).update(record.settings)
    assert {"settings.over_split", "settings.mapping"} <= by_method["iic"]
    assert "settings.small_views.size" in by_method["imc-swav"]
    assert any(path.startswith("settings.plain_views") for path in by_method["iic"])
    for method, own in (("iic", "small_views"), ("imc-swav", "over_split"), ("simclr", "mapping")):
        assert not any(own in path for path in by_method[method]), method


def test_rows_of_sub_heads_and_statistics_keep_their_switches(every):
    kinds = {}
    for record in every.values():
        for row in record.protocols:
            kinds.setdefault(row.kind, set()).update(row.switches)
            assert row.mapping in ("one-to-one", "majority", "identity")
    assert kinds["sub-head"] == {"sub_head", "loss"}
    assert "n_init" in kinds["k-means"]
    assert kinds["k-means"].isdisjoint({"starts", "iterations"})
    assert "batch_norm" in kinds["argmax p"]
    rows = [row for record in every.values() for epoch in record.history for row in epoch.details]
    assert {"sub_heads", "prototypes"} <= set(rows)


def test_the_threads_of_a_cpu_are_told(every):
    for record in every.values():
        on_cpu = record.hardware.endswith(" threads")
        assert (record.threads is not None) == on_cpu
        if on_cpu:
            assert f", {record.threads} threads" in record.hardware


def without(values, *path):
    *groups, name = path
    for group in groups:
        values = values[group]
    del values[name]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v.update(colour="blue"), "colour is unknown"),
        (lambda v: v["data"].update(colour="blue"), "data.colour is unknown"),
        (lambda v: v["protocols"][1].update(sure=1), r"protocols\[1\].sure is unknown"),
        (lambda v: without(v, "seed"), "seed is missing"),
        (lambda v: without(v, "data", "shape"), "data.shape is missing"),
        (lambda v: without(v, "history", 0, "terms"), r"history\[0\].terms is missing"),
        (lambda v: v.update(seed="0"), "seed is '0', not int"),
        (lambda v: v.update(seed=True), "seed is 'True', not int"),
        (lambda v: v.update(minutes=None), "minutes is 'None', not float"),
        (lambda v: v["usage"].update(used=[1]), r"usage.used is '\[1\]', not int"),
        (lambda v: v.update(history={}), "history is '{}', not"),
        (lambda v: v.update(format=3), "its format is 3, and 1 to 2 are read here"),
        (lambda v: v.update(format=0), "its format is 0, and 1 to 2 are read here"),
        (lambda v: v["data"].update(shape=[1, 10**6, 10**6]), r"images are \(1, 1000000, 1"),
        (lambda v: without(v, "format"), "its format is None, and 1 to 2 are read here"),
    ],
)
def test_what_is_no_record_of_today_is_one_line(tmp_path, spoil, message):
    values = to_json(read_record(OLD))
    spoil(values)
    file = tmp_path / "r.json"
    file.write_text(json.dumps(values))
    with pytest.raises(InputError, match=message) as error:
        read_record(file)
    assert str(error.value).startswith(f"{file} is not a record (")
    assert str(error.value).endswith("; restore it or move it elsewhere")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: without(v, "settings", "method"),
        lambda v: without(v, "protocols", 0, "kind"),
        lambda v: without(v, "protocol"),
        lambda v: without(v, "hardware"),
        lambda v: v.update(colour="blue"),
        lambda v: v.update(history=[]) or without(v, "history"),
    ],
)
def test_a_damaged_old_record_is_one_line(tmp_path, spoil):
    values = read_json(OLD)
    spoil(values)
    (tmp_path / "r.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="is not a record") as error:
        read_record(tmp_path / "r.json")
    assert str(error.value).isprintable()


def test_records_are_frozen():
    record = read_record(OLD)
    for part in (record, record.data, record.usage, record.protocols[0], record.history[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


@pytest.mark.parametrize(
    ("row", "label"),
    [
        (Row("k-means", None, switches={"layer": "features"}), "k-means"),
        (Row("sub-head", None, switches={"sub_head": 3, "loss": -1.5}), "sub-head 3, loss -1.500"),
        (Row("share of labels", None, "majority", {"share": 0.05}), "share of labels 5%"),
        (Row("argmax p", None, switches={"batch_norm": "x"}), "argmax p, batch norm of x"),
    ],
)
def test_a_row_in_words(row, label):
    assert row.label() == label


def test_nan_is_not_written(tmp_path):
    record = read_record(OLD)
    broken = dataclasses.replace(record, history=(Epoch(1, 1, 1e-3, float("nan"), {}),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path / "r.json", broken)
    assert not list(tmp_path.iterdir())


def test_the_command_of_a_record_asks_for_its_settings(every):
    """Read by the command line's own parser."""
    commands = {}
    for record in every.values():
        commands[record.command] = record
    assert len(commands) == len(every)
    for command, record in commands.items():
        words = shlex.split(command)
        assert words[:4] == ["python", "-m", "mixem", "train"]
        given = cli._parser().parse_args(words[3:])
        assert (given.name, given.seed) == (record.experiment, record.seed)
        changed = cli._changed(get(given.name), given)
        now = json.loads(json.dumps(changes_of(changed)))
        usual = json.loads(json.dumps(get(record.experiment).values()))
        # What a record changed may have become the experiment's own since.
        assert now == {p: v for p, v in record.overrides.items() if usual.get(p, ...) != v}, command


def test_a_text_that_looks_like_a_number_stays_one():
    given = {"train_split": "train/1", "settings.kind": "1", "start": None, "x": [1, "a b"]}
    command = made.record((Row("k-means", None),), overrides=given, seed=2).command
    words = shlex.split(command)
    assert words[words.index("--set") + 1 :: 2] == [
        "train_split=train/1", "settings.kind='1'", "start=None", "x=[1, 'a b']", "2", "results"
    ]  # fmt: skip
