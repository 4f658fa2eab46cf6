"""The papers' numbers: every one has a source, and the format is strict."""

import copy
import re
from importlib import resources

import pytest

from mixem.errors import InputError
from mixem.papers import PAPERS, Value, curve, load_paper, parse_paper, table, value

# A made-up paper, the smallest file that is valid; its table is a learning curve.
SMALL = {
    "title": "T",
    "authors": ["A"],
    "year": 2020,
    "venue": "V",
    "arxiv": "1",
    "code": "C",
    "tables": [
        {
            "key": "curve",
            "caption": "Accuracy over epochs",
            "unit": "fraction",
            "columns": ["stl10/accuracy", "stl10/mean"],
            "source": "log 1",
            "rows": [
                {"key": "1", "label": "epoch 1", "values": {"stl10/accuracy": 0.25}},
                {
                    "key": "2",
                    "label": "epoch 2",
                    "source": "log 2",
                    "values": {
                        "stl10/accuracy": 0.5,
                        "stl10/mean": {"mean": 0.4, "std": 0.1, "n": 5, "source": "log 3"},
                    },
                },
            ],
        }
    ],
}


@pytest.mark.parametrize("key", PAPERS)
def test_every_value_has_a_public_source(key):
    paper = load_paper(key)
    for t in paper.tables:
        for row in t.rows:
            for column, number in row.values.items():
                where = f"{key} {t.key} {row.key} {column}"
                assert len(number.source) > 10, where
                assert re.search(r"https?://", number.source), where
        assert t.caption
        assert all("/" in column for column in t.columns)
        used = {column for row in t.rows for column in row.values}
        assert used == set(t.columns), f"{key} {t.key}: a column without a number"
    assert paper.notes


@pytest.mark.parametrize("key", PAPERS)
def test_nothing_doubtful_or_private_in_the_files(key):
    text = resources.files("mixem.papers").joinpath(f"{key}.json").read_text(encoding="utf-8")
    for word in ("memory", "unsure", "recollect", "/work", "shared/", "[repo", "[readme", ".md "):
        assert word not in text.lower().replace("readme.md ", ""), word


def test_every_file_is_a_known_paper():
    files = {f.name for f in resources.files("mixem.papers").iterdir() if f.name.endswith(".json")}
    assert files == {f"{key}.json" for key in (*PAPERS, "after")}


@pytest.mark.parametrize(
    ("paper", "row", "column", "mean"),
    [
        ("mixem", "mixem", "stl10/accuracy", 78),
        ("mixem", "mixem", "cifar10/accuracy", 82),
        ("mixem", "mixem", "cifar100-20/accuracy", 44),
        ("mixem", "simclr", "stl10/accuracy", 70),
        ("mixem", "scan-loss", "cifar10/nmi", 71.5),
        ("mixem", "spice", "stl10/ari", 83.6),
        ("iic", "iic", "stl10/accuracy", 59.6),
        ("iic", "iic", "mnist/accuracy", 99.2),
        ("iic", "iic-log-labels", "stl10/accuracy", 61.0308),
        ("imc_swav", "imc-swav-best", "cifar10/accuracy", 89.7),
    ],
)
def test_headlines(paper, row, column, mean):
    assert value(paper, row, column).mean == mean


def test_spread_and_number_of_results():
    found = value("imc_swav", "imc-swav", "cifar10/accuracy")
    assert (found.mean, found.std, found.n) == (89.1, 0.5, 15)
    found = value("iic", "iic-mean", "cifar10/accuracy")
    assert (found.mean, found.std, found.n) == (57.6, 5.01, 5)
    found = value("mixem", "mixem", "stl10/accuracy")
    assert (found.std, found.n) == (None, None)


def test_logged_accuracies_round_to_the_printed_ones():
    for data in ("stl10", "cifar10", "cifar100-20", "mnist"):
        column = f"{data}/accuracy"
        logged, printed = value("iic", "iic-log-loss", column), value("iic", "iic", column)
        assert round(logged.mean, 1) == printed.mean


def test_unknown_names_are_answered_in_one_line():
    with pytest.raises(InputError, match="no paper 'scan': choose iic, mixem, imc_swav"):
        load_paper("scan")
    with pytest.raises(InputError, match="choose among columns stl10/accuracy, cifar10/acc"):
        value("mixem", "mixem", "mnist/accuracy")
    with pytest.raises(InputError, match="choose among rows mixem, simclr, adc") as caught:
        value("mixem", "mixme", "stl10/accuracy")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="choose among rows random-network, ") as caught:
        value("iic", "icc", "stl10/accuracy")
    rows = str(caught.value).split("rows ")[1].split(", ")
    assert len(rows) == len(set(rows))
    assert not any(row.isdigit() for row in rows)  # a list of epochs helps nobody
    with pytest.raises(InputError, match="no table 'table-9': choose among table-1, authors-log"):
        table("iic", "table-9")
    with pytest.raises(InputError, match="no paper 'scan'"):
        table("scan", "table-1")
    with pytest.raises(InputError, match="table-2 has no column 'accuracy': choose among stl10/"):
        table("iic", "table-2").column("accuracy")
    with pytest.raises(
        InputError, match="no column 'stl10/loss': choose among mnist/loss, mnist/o"
    ):
        curve("iic", "curve-mnist-loss", "stl10/loss")
    with pytest.raises(InputError, match="rows of table table-2 are not epochs"):
        curve("iic", "table-2", "stl10/accuracy")


def test_a_column_leaves_gaps_out():
    found = parse_paper("small", SMALL).tables[0].column("stl10/mean")
    assert found == {"2": Value(0.4, "log 3", std=0.1, n=5)}


def test_sources_are_inherited_and_overridden():
    rows = parse_paper("small", SMALL).tables[0].rows
    assert rows[0].values["stl10/accuracy"] == Value(0.25, "log 1")
    assert rows[1].values["stl10/accuracy"] == Value(0.5, "log 2")
    assert rows[1].values["stl10/mean"] == Value(0.4, "log 3", std=0.1, n=5)


CURVES = {
    **SMALL,
    "tables": [
        {
            "key": "curve",
            "caption": "Accuracy over epochs",
            "unit": "fraction",
            "source": "log 1",
            "epochs": [0, 2, 10],
            "curves": {"stl10/accuracy": [0.25, 0.5, 0.4], "stl10/mean": [0.1, 0.2, 0.3]},
        }
    ],
}


def test_curves_are_rows_of_epochs():
    found = parse_paper("small", CURVES).tables[0]
    assert found.columns == ("stl10/accuracy", "stl10/mean")
    assert [(row.key, row.label) for row in found.rows] == [
        ("0", "Epoch 0"),
        ("2", "Epoch 2"),
        ("10", "Epoch 10"),
    ]
    assert found.rows[1].values == {
        "stl10/accuracy": Value(0.5, "log 1"),
        "stl10/mean": Value(0.2, "log 1"),
    }


def change(path, new, data=SMALL):
    """A copy of ``data`` with the entry at ``path`` replaced, or removed if ``new`` is None."""
    data = copy.deepcopy(data)
    parent = data
    for step in path[:-1]:
        parent = parent[step]
    if new is None:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return data


TABLE = ("tables", 0)
ROW = (*TABLE, "rows", 0)
NUMBER = (*ROW, "values", "stl10/accuracy")


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        (("title",), None, r"missing \['title'\]"),
        (("pages",), 10, r"unknown \['pages'\]"),
        (("venue",), 3, "venue is 3, not a text"),
        (("year",), "2020", "year is '2020'"),
        (("authors",), ["A", 1], "authors holds something else"),
        ((*TABLE, "caption"), " ", "caption is ' ', not a text"),
        ((*TABLE, "unit"), "points", "unit 'points'"),
        ((*TABLE, "source"), None, r"missing \['source'\]"),
        ((*TABLE, "source"), "", "source is ''"),
        ((*TABLE, "columns"), ["stl10/accuracy"], "no column stl10/mean"),
        ((*TABLE, "columns"), ["a/b", "a/b"], "column a/b occurs twice"),
        ((*ROW, "key"), "2", "occurs twice"),
        ((*ROW, "values"), {}, "no values"),
        ((*ROW, "unsure"), True, r"unknown \['unsure'\]"),
        (NUMBER, 1.5, "1.5 is no number in fraction"),
        (NUMBER, -0.1, "-0.1 is no number in fraction"),
        (NUMBER, "0.5", "'0.5' is no number"),
        (NUMBER, True, "True is no number"),
        (NUMBER, float("nan"), "nan is no number"),
        (NUMBER, {"mean": 0.5, "std": -1}, "-1 is no standard deviation"),
        (NUMBER, {"mean": 0.5, "n": 2.5}, "2.5 is no number of results"),
        (NUMBER, {"mean": 0.5, "runs": 2}, r"unknown \['runs'\]"),
    ],
)
def test_the_format_is_strict(path, new, message):
    with pytest.raises(ValueError, match=message):
        parse_paper("small", change(path, new))


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        (("epochs",), [0, 2], "3 numbers, 2 epochs"),
        (("epochs",), [0, 2, 2], "do not increase"),
        (("epochs",), [0, 10, 2], "do not increase"),
        (("epochs",), [0, 2, 3.5], "no whole number"),
        (("epochs",), [-1, 2, 3], "no whole number"),
        (("columns",), ["stl10/accuracy"], r"unknown \['columns'\] beside epochs"),
        (("curves",), None, "no values"),
        (("curves", "stl10/mean"), [0.1, 0.2], "2 numbers, 3 epochs"),
        (("curves", "stl10/mean"), [0.1, None, 0.3], "None is no number in fraction"),
        (("source",), None, r"missing \['source'\]"),
    ],
)
def test_curves_are_strict_too(path, new, message):
    with pytest.raises(ValueError, match=message):
        parse_paper("small", change((*TABLE, *path), new, CURVES))


def test_no_epoch_before_the_first():
    data = change((*TABLE, "unit"), "epochs")
    assert parse_paper("small", change(NUMBER, 461, data)).tables[0].unit == "epochs"
    with pytest.raises(ValueError, match="-1 is no number in epochs"):
        parse_paper("small", change(NUMBER, -1, data))


def test_a_number_may_stand_in_one_table_only():
    data = copy.deepcopy(SMALL)
    data["tables"].append({**copy.deepcopy(SMALL["tables"][0]), "key": "again"})
    with pytest.raises(ValueError, match=r"value .*stl10/accuracy.* occurs twice"):
        parse_paper("small", data)
