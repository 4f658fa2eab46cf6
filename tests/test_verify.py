"""Does today's code still give what the records say? And would it be seen if it did not?"""

import dataclasses
import re
from pathlib import Path

import pytest

from mixem.cli import main
from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS, get
from mixem.records import read_record, write_record
from mixem.runs import run
from mixem.verify import verify, verify_record

RESULTS = Path(__file__).parents[1] / "results"
CPU = {"device": "cpu", "progress": False}


@pytest.mark.parametrize("name", ["digits-simclr", "digits-iic"])
def test_the_books_records_are_still_right(name):
    """On other machines and with other numbers of threads sums differ in their last digits."""
    record = read_record(RESULTS / name / "seed-0.json")
    found = verify_record(record, device="cpu")
    assert found.holds, str(found)
    assert 0 <= found.difference < 0.02
    assert str(found).startswith(f"holds  {record.experiment}, seed 0: ")


def test_a_run_of_today_has_the_same_bits(tiny_run):
    found = verify_record(tiny_run.record, device="cpu")
    assert (found.holds, found.exact, found.difference) == (True, True, 0.0)
    assert str(found) == (
        "holds  digits/simclr (size=8, epochs=2, batch_size=599, n_init=2), seed 1: the same bits"
    )


def test_the_same_machine_is_known_whatever_its_device_is_called(tiny_run):
    assert verify_record(tiny_run.record, device="cpu:0").words == "the same bits"


def test_a_run_with_a_start_has_the_same_bits(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "digits/simclr", dataclasses.replace(tiny))
    experiment = get("digits/mixem").override(
        views__size=8, training__epochs=2, training__batch_size=599, protocol__n_init=2
    )
    record = run(experiment, out=tmp_path, **CPU).record
    assert record.start.experiment == "digits/simclr"
    assert verify_record(record, device="cpu").exact


def with_first(record, **changes):
    first = dataclasses.replace(record.history[0], **changes)
    return dataclasses.replace(record, history=(first, *record.history[1:]))


@pytest.mark.parametrize(
    ("change", "holds", "words"),
    [
        (lambda t: {"contrast": t["contrast"] + 0.5}, False, r"contrast is \d.* in the record"),
        (lambda t: {"contrast": t["contrast"] + 0.01}, True, r"contrast is \d.* by epoch 1"),
        (lambda t: t | {"gone": 1.0}, False, "gone is nan by epoch 1, 1.000000 in the record"),
        (lambda t: {}, False, r"contrast is \d.* by epoch 1, nan in the record"),
    ],
    ids=["another value", "within the tolerance", "a term too many", "a term too few"],
)
def test_another_loss_is_seen(tiny_run, change, holds, words):
    terms = change(tiny_run.record.history[0].terms)
    found = verify_record(with_first(tiny_run.record, terms=terms), device="cpu")
    assert (found.holds, found.exact) == (holds, False)
    assert re.search(words, found.words), found.words


def test_another_seed_or_rate_is_seen(tiny_run):
    record = tiny_run.record
    assert not verify_record(dataclasses.replace(record, seed=2), device="cpu").exact
    path = "training.batch_size"
    changed = dataclasses.replace(
        record, overrides=record.overrides | {path: 50}, settings=record.settings | {path: 50}
    )
    assert not verify_record(changed, device="cpu").holds


def test_another_setting_is_named_and_nothing_is_trained(tiny_run, monkeypatch):
    monkeypatch.setattr("mixem.verify.train", None)
    settings = tiny_run.record.settings | {"views.flip": 0.25, "training.betas": [0.5, 0.9]}
    found = verify_record(dataclasses.replace(tiny_run.record, settings=settings), device="cpu")
    assert (found.holds, found.exact, found.difference) == (False, False, None)
    assert found.words == (
        "other settings today: views.flip was 0.25 and is 0.0, "
        "training.betas was [0.5, 0.9] and is [0.9, 0.999]"
    )


def test_the_command(tiny_run, tmp_path, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "more" / "bad.json"
    write_record(good, tiny_run.record)
    assert main(["verify", str(good), "--device=cpu"]) == 0
    assert capsys.readouterr().out.startswith("holds  digits/simclr (size=8")
    write_record(bad, with_first(tiny_run.record, terms={"contrast": 9.0}))
    assert main(["verify", str(tmp_path), "--device=cpu"]) == 1
    printed, complaints = capsys.readouterr()
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines] == ["holds", "FAILS"]
    assert "9.000000 in the record" in lines[1]
    assert complaints == ""
    assert main(["verify", str(bad), "--device=cpu", "--tolerance=100"]) == 0


def test_what_cannot_be_trained_is_a_line_and_the_others_are_verified(tiny_run, tmp_path):
    for name, changes in (
        ("a", {"experiment": "digits/gone"}),
        ("b", {"overrides": {"training.gone": 1}}),
        ("c", {}),
    ):
        write_record(tmp_path / f"{name}.json", dataclasses.replace(tiny_run.record, **changes))
    found = list(verify([tmp_path], device="cpu"))
    assert [one.holds for one in found] == [False, False, True]
    assert "not trained: there is no experiment 'digits/gone'" in str(found[0])
    assert "not trained: digits/simclr has no setting 'training.gone'" in str(found[1])


def test_a_file_that_is_no_record_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*missing; give records, or a folder"):
        list(verify([tmp_path / "missing"]))
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match=r"x\.json is not a record"):
        list(verify([tmp_path]))
