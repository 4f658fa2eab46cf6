"""Records and the tables made of them."""

import dataclasses
import json
import pickle
from pathlib import Path

import made
import pytest

from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS
from mixem.papers import value
from mixem.records import (
    Data,
    Row,
    Start,
    Table,
    comparison,
    load_records,
    paper_value,
    read_record,
    records_of,
    row_of,
    save_record,
    score,
    summarise,
)
from mixem.records.tables import PAPER_VALUES
from mixem.schema import to_json

PROTOCOL = {"layer": "features", "normalise": True, "init": "components"}


def record(accuracy, seed=0, *, experiment="digits/mixem", minutes=2.0, start=1.0, **changes):
    """A record with what the tables read."""
    metrics = {"accuracy": accuracy, "nmi": accuracy - 0.1, "ari": accuracy - 0.2}
    rows = (
        Row("k-means", metrics, switches=PROTOCOL),
        Row("k-means", {"accuracy": 0.5}, switches=PROTOCOL | {"normalise": False}),
        Row("argmax p", {"accuracy": 0.25, "nmi": 0.0, "ari": 0.0}),
    )
    begun = Start("digits/simclr", seed, metrics, start) if start else None
    changes = {"experiment": experiment, "seed": seed, "minutes": minutes, "start": begun} | changes
    return made.record(rows, **changes)


def unlabelled(**changes):
    return record(0.5, protocols=(Row("k-means", None, switches=PROTOCOL),), **changes)


def test_mean_and_spread_by_hand():
    summary = summarise([record(0.90, 0), record(0.94, 1), record(0.98, 2, minutes=5.0)])
    assert summary.mean == pytest.approx(0.94)
    assert summary.std == pytest.approx(0.04)  # with n - 1; with n it would be 0.0327
    assert (summary.n, summary.values) == (3, (0.90, 0.94, 0.98))
    assert summary.minutes == pytest.approx(4.0)  # 2 + 1, 2 + 1 and 5 + 1
    assert summary.hardware == "a CPU"
    assert summary.percent() == "94.0 ± 4.0"
    assert summarise([record(0.9), record(0.94)], "ari").mean == pytest.approx(0.72)


def test_one_seed_has_no_spread():
    summary = summarise([record(0.9412, start=None)])
    assert (summary.std, summary.n, summary.minutes) == (None, 1, 2.0)
    assert summary.percent() == "94.1"


def test_no_records_no_number():
    assert summarise([]) is None
    assert summarise([unlabelled()]) is None
    assert summarise([record(0.9), unlabelled(seed=1)]).n == 1


def test_every_machine_is_named_once():
    machines = [record(0.9, seed, hardware=name) for seed, name in enumerate("baab")]
    assert summarise(machines).hardware == "a; b"


def test_another_protocol():
    records = [record(0.9, 0), record(0.94, 1)]
    assert summarise(records, normalise=False).mean == 0.5
    assert summarise(records, kind="argmax p").mean == 0.25
    assert summarise(records, normalise=True).mean == pytest.approx(0.92)
    with pytest.raises(InputError, match="digits/mixem: no protocol with"):
        summarise(records, layer="pixels")


def test_what_cannot_be_summarised():
    with pytest.raises(InputError, match="no metric 'f1'; give accuracy, nmi, ari"):
        summarise([record(0.9)], "f1")
    with pytest.raises(InputError, match="several experiments"):
        summarise([record(0.9), record(0.9, experiment="digits/simclr")])
    with pytest.raises(InputError, match="several experiments"):
        summarise([record(0.9), record(0.9, overrides={"training.epochs": 2})])


def test_variants_are_named_by_what_was_changed():
    assert record(0.9).variant == ""
    changed = record(0.9, overrides={"training.epochs": 2, "settings.pull_weight": 0.0})
    assert changed.variant == "epochs=2, pull_weight=0.0"


def test_settings_that_end_alike_go_by_their_whole_path(tmp_path):
    paths = ("views.size", "settings.small_views.size", "training.epochs")
    settings = dict.fromkeys(paths, 1)
    changed = [record(0.9, overrides={path: 5}, settings=settings) for path in paths]
    names = ["views.size=5", "settings.small_views.size=5", "epochs=5"]
    assert [one.variant for one in changed] == names
    assert len({save_record(one, tmp_path) for one in changed}) == 3


def test_the_books_records_lie_where_they_would_be_saved(tmp_path):
    folder = Path(__file__).parents[2] / "results"
    for file in folder.rglob("*.json"):
        place = save_record(read_record(file), tmp_path)
        assert place.relative_to(tmp_path) == file.relative_to(folder)


def test_records_are_saved_by_experiment_variant_and_seed(tmp_path):
    plain, again = record(0.9, 3), record(0.8, 3)
    changed = record(0.7, 3, overrides={"training.epochs": 2, "images": "folder:a b/../c"})
    places = [save_record(r, tmp_path) for r in (plain, changed)]
    assert places[0] == tmp_path / "digits-mixem" / "seed-3.json"
    assert (
        places[1] == tmp_path / "digits-mixem" / "epochs=2-images=folder-a-b-..-c" / "seed-3.json"
    )
    assert load_records(tmp_path) == [plain, changed]
    save_record(again, tmp_path)
    assert load_records(tmp_path) == [again, changed]


def test_records_are_loaded_by_experiment_and_seed(tmp_path):
    given = [
        record(0.5, seed, experiment=name)
        for name in ("digits/simclr", "digits/mixem")
        for seed in (10, 9, 1)
    ]
    for item in given:
        save_record(item, tmp_path)
    found = load_records(tmp_path)
    assert [(r.experiment, r.seed) for r in found] == [
        ("digits/mixem", 1),
        ("digits/mixem", 9),
        ("digits/mixem", 10),
        ("digits/simclr", 1),
        ("digits/simclr", 9),
        ("digits/simclr", 10),
    ]
    assert [r.seed for r in load_records(tmp_path, "digits/simclr")] == [1, 9, 10]
    assert load_records(tmp_path, "stl10/mixem") == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, [0, 1]),
        ({"settings__over_clusters": 10}, [4]),
        ({"settings__repeats": 1}, [5]),
        ({"settings__repeats": 1, "training__epochs": 40}, [5]),
        ({"training__epochs": 40}, [3]),
        ({"settings__sub_heads": 1, "settings__repeats": 1}, [6]),
        ({"settings__sub_heads": 1}, []),
        ({"settings__over_clusters": 20}, []),
        ({"settings__passes": ("main", "over")}, [7]),
    ],
)
def test_records_of_a_variant_may_change_the_training(changes, found):
    overrides = [
        {},
        {},
        {},
        {"training.epochs": 3},
        {"settings.over_clusters": 10},
        {"settings.repeats": 1, "training.batch_size": 420, "training.epochs": 18},
        {"settings.repeats": 1, "settings.sub_heads": 1},
        {"settings.passes": ["main", "over"]},  # a tuple, before it was written
    ]
    records = [record(0.9, seed, overrides=changed) for seed, changed in enumerate(overrides)]
    records[2] = dataclasses.replace(records[2], experiment="digits/iic")
    assert records_of(records, "digits/mixem", **changes) == [records[i] for i in found]


def test_records_of_an_experiment_that_was_not_run():
    assert records_of([record(0.9)], "cifar10/iic") == []
    assert records_of([], "digits/mixem", settings__repeats=1) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read"),
        ("[]", "is not a record"),
        ("{}", "is not a record"),
        ('{"format": 2}', r"is not a record \(experiment is missing\); restore it or move it"),
        ('{"format": 1, "experiment": "digits/mixem"}', "is not a record"),
        ('{"format": "2"}', "its format is '2', and 1 to 2 are read here"),
        ('{"format": 3}', "its format is 3, and 1 to 2 are read here"),
        ('{"format": true}', "is not a record"),
    ],
)
def test_a_file_that_is_no_record_is_named(tmp_path, content, message):
    save_record(record(0.9), tmp_path)
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load_records(tmp_path)
    assert "other.json" in str(error.value)
    assert str(error.value).isprintable()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        load_records(tmp_path / "missing")
    assert load_records(tmp_path) == []


def test_the_papers_numbers():
    found = {name: paper_value(name) for name in EXPERIMENTS}
    assert {name: v.mean for name, v in found.items() if v} == {
        "stl10/simclr": 70.0,
        "stl10/mixem": 78.0,
        "cifar10/mixem": 82.0,
        "cifar100-20/mixem": 44.0,
        "mnist/iic": 99.2,
        "mnist/kmeans": 57.2,
        "mnist/spectral": 69.6,
        "mnist/auto-encoder": 81.2,
        "cifar10/iic": 61.7,
        "cifar100-20/iic": 25.7,
        "stl10/iic": 59.6,
        "stl10/iic-no-overclustering": 43.7846,
        "stl10/iic-one-sub-head": 57.6231,
        "stl10/iic-no-repeats": 47.0077,
        "stl10/iic-no-unlabelled": 49.9077,
        "stl10/iic-main-twice": 61.7615,
        "stl10/iic-finetune": 88.8,
        "coco-stuff-3/iic-segmentation": 72.277,
        "coco-stuff/iic-segmentation": 27.672,
        "potsdam-3/iic-segmentation": 65.087,
        "potsdam/iic-segmentation": 45.445,
        "cifar10/imc-swav": 89.1,
        "cifar100-20/imc-swav": 49.0,
        "cifar100/imc-swav": 45.1,
        "stl10/imc-swav": 83.1,
        "tiny-imagenet/imc-swav": 27.9,
    }
    assert all(v.source for v in found.values() if v)
    assert set(PAPER_VALUES) <= set(EXPERIMENTS)
    # The abstract has accuracies only.
    assert paper_value("stl10/mixem", "nmi") is None


def test_the_other_numbers_of_imc_swav():
    assert [paper_value("stl10/imc-swav", metric).mean for metric in ("nmi", "ari")] == [72.9, 68.5]
    assert paper_value("cifar100/imc-swav", "nmi").mean == 60.8
    accuracy = paper_value("cifar100-20/imc-swav")
    assert (accuracy.std, accuracy.n) == (1.8, 15)


def test_papers_numbers_beside_ours():
    records = [
        record(0.761, 0, experiment="stl10/mixem", minutes=30, start=60),
        record(0.781, 1, experiment="stl10/mixem", minutes=32, start=60),
        record(0.1, 2, experiment="stl10/mixem", overrides={"training.epochs": 1}),
        record(0.95, 0),
    ]
    table = comparison(["digits/mixem", "stl10/simclr", "stl10/mixem"], records)
    assert table.columns == ("experiment", "paper", "ours", "n", "minutes a seed", "hardware")
    assert table.rows == (
        ("digits/mixem", "–", "95.0", "1", "3.0", "a CPU"),
        ("stl10/simclr", "70", "not run", "–", "–", "–"),
        ("stl10/mixem", "78", "77.1 ± 1.4", "2", "91.0", "a CPU"),
    )
    assert comparison(["stl10/mixem"], records, "nmi").rows[0][1:3] == ("–", "67.1 ± 1.4")


def test_without_records_nothing_was_run():
    table = comparison(list(EXPERIMENTS), [])
    assert [row[0] for row in table.rows] == list(EXPERIMENTS)
    assert {row[2] for row in table.rows} == {"not run"}
    printed = {row[0]: row[1] for row in table.rows}
    assert printed["stl10/mixem"] == f"{value('mixem', 'mixem', 'stl10/accuracy').mean:g}"


def test_a_table_shows_itself():
    table = Table(("a", "b"), (("1.50", "x"), ("007", "–")))
    assert str(table).splitlines() == ["a     b", "----  ---", "1.50  x", "007   –"]
    lines = table.markdown().splitlines()
    assert [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])
    ] == [
        ["a", "b"],
        ["1.50", "x"],
        ["007", "–"],
    ]
    assert set(lines[1]) <= set("|-: ")
    assert table._repr_markdown_() == table.markdown()
    # A record's overrides may hold anything.
    odd = Table(("a", "b"), (("<img src=x onerror=alert(1)>", "x|y\nz"), ("3 > 2", "*")))
    _, _, *rows = odd.markdown().splitlines()
    assert [" ".join(row.split()) for row in rows] == [
        r"| &lt;img src=x onerror=alert(1)> | x\|y z |",
        "| 3 > 2 | * |",
    ]
    assert "<img" in str(odd)  # which is no page


def test_the_record_of_a_run_is_one(tiny_run, tmp_path):
    file = save_record(tiny_run.record, tmp_path)
    assert json.loads(file.read_text()) == to_json(tiny_run.record)
    (found,) = load_records(tmp_path)
    assert found == tiny_run.record
    summary = summarise([found])
    assert summary.mean == tiny_run.record.metrics["accuracy"]
    for layer in ("features", "embeddings"):
        for normalise in (True, False):
            assert summarise([found], layer=layer, normalise=normalise).n == 1
    # The main protocol is the first of them.
    assert summarise([found], "nmi", normalise=True).mean == tiny_run.record.metrics["nmi"]


def test_a_row_is_found_by_what_it_is():
    one = record(0.9)
    assert row_of(one) is one.protocols[0]
    assert row_of(one, normalise=False) is one.protocols[1]
    assert row_of(one, kind="argmax p") is one.protocols[2]
    assert score(one, kind="argmax p")["accuracy"] == 0.25
    for wanted in ({"mapping": "majority"}, {"kind": "ten crops"}, {"kind": "k-means", "x": None}):
        with pytest.raises(InputError, match="digits/mixem: no protocol with"):
            row_of(one, **wanted)


FOLDER = Data("folder:photos", "all", 9, "0123456789ab", "all", 9, "0123456789ab", (3, 64, 64))


def test_two_folders_of_one_name_are_kept_apart(tmp_path):
    """A folder's place is nobody's business, and so its last name is all that a record has."""
    changes = {"overrides": {"images": "folder:photos"}, "start": None}
    other = dataclasses.replace(FOLDER, train_fingerprint="fedcba987654")
    records = [
        record(accuracy, seed, data=data, **changes)
        for accuracy, seed, data in ((0.5, 0, FOLDER), (0.6, 1, FOLDER), (0.9, 0, other))
    ]
    places = [save_record(one, tmp_path) for one in records]
    assert [place.relative_to(tmp_path).as_posix() for place in places] == [
        "digits-mixem/images=folder-photos/seed-0.json",
        "digits-mixem/images=folder-photos/seed-1.json",
        "digits-mixem/images=folder-photos-fedcba98/seed-0.json",
    ]
    assert load_records(tmp_path) == records
    with pytest.raises(InputError, match="several experiments; give those of one"):
        summarise(records)
    assert summarise(records[:2]).mean == pytest.approx(0.55)
    assert save_record(records[2], tmp_path) == places[2]
    assert len(load_records(tmp_path)) == 3


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("mnist/iic", "99.2"),
        ("cifar100-20/iic", "25.7"),
        ("stl10/iic-no-overclustering", "43.8"),
        ("stl10/iic-finetune", "88.8"),
        ("mnist/iic-small", "–"),
        ("stl10/iic-plus", "–"),
        ("cifar10/imc-swav", "89.1 ± 0.5"),
        ("tiny-imagenet/imc-swav", "27.9 ± 0.3"),
        ("cifar100/imc-swav", "45.1"),
        ("digits/imc-swav", "–"),
        ("cifar10/imc-swav-small", "–"),
    ],
)
def test_the_numbers_of_a_paper_stand_beside_its_own_experiments(name, printed):
    assert comparison([name], []).rows == ((name, printed, "not run", "–", "–", "–"),)


def test_a_number_of_a_table_leads_to_its_records():
    records = [record(0.95, seed, overrides={"training.epochs": 2}) for seed in (3, 4)]
    mean = summarise(records)
    table = Table(("a", "n"), ((mean.percent(), "2"), (mean.linked("x"), "–")))
    first, second, *below = table.markdown().splitlines()[2:]
    place = "https://github.com/mixem-book/mixem/tree/main/results/digits-mixem/epochs=2"
    assert first.split("|")[1].strip() == f"[95.0 ± 0.0]({place})"
    assert second.split("|")[1].strip() == f"[x]({place})"
    command = "python -m mixem train digits/mixem --set training.epochs=2 --seed 3"
    assert below == ["", f"Records made by `{command} --results results` and the like."]
    assert "http" not in str(table)
    assert "Records" not in str(table)


def test_a_number_of_a_paper_leads_to_its_source():
    lines = comparison(["stl10/mixem", "digits/mixem"], []).markdown().splitlines()
    place = "https://github.com/mixem-book/mixem/blob/main/mixem/papers/mixem.json#headline"
    assert lines[2].split("|")[2].strip() == f"[78]({place})"
    assert lines[3].split("|")[2].strip() == "–"
    assert len(lines) == 4  # nothing of ours, no command


def test_commands_below_a_table_are_few():
    names = [f"digits/{method}" for method in ("iic", "mixem", "simclr")]
    records = [record(0.9, experiment=name) for name in names]
    below = comparison(names, records).markdown().splitlines()[-1]
    assert below.count("python -m mixem train") == 2


def test_a_linked_text_is_a_text():
    cell = summarise([record(0.9)]).percent()
    assert cell == "90.0"
    assert f"{cell} %" == "90.0 %"
    again = pickle.loads(pickle.dumps(cell))
    assert (again, again.place, again.command) == (cell, cell.place, cell.command)
