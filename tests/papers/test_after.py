"""What came after: every row has a source and a reference, and the format is strict."""

import copy
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from mixem.errors import InputError
from mixem.papers import value
from mixem.papers.after import FEATURES, SPLITS, parse_published, published

BOOK = Path(__file__).resolve().parents[2]
DATA = json.loads(resources.files("mixem.papers").joinpath("after.json").read_text("utf-8"))
ROWS = [row for features in FEATURES for row in published(features)]
ENTRIES = set(re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text("utf-8"), re.M))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_row_has_a_public_source_and_a_reference(row):
    assert row.reference in ENTRIES
    for source in row.sources:
        assert re.search(r"https://\S+\.\S+/\S+", source), source


def test_every_row_of_the_file_is_found():
    assert {row.key for row in ROWS} == {row["key"] for row in DATA["rows"]}
    for features in FEATURES:
        parts = [published(features, splits=splits) for splits in SPLITS]
        assert sorted(r.key for part in parts for r in part) == sorted(
            r.key for r in published(features)
        )


def test_nothing_doubtful_or_private_in_the_file():
    text = json.dumps(DATA).lower()
    for word in ("memory", "unsure", "recollect", "/work", "shared/", '?"', "blog", "aggregator"):
        assert word not in text, word


@pytest.mark.parametrize(
    ("key", "data", "scores"),
    [
        ("scan-best", "stl10", "80.9/69.8/64.6"),
        ("ruc", "cifar100-20", "54.3/-/-"),
        ("spice-34", "cifar100-20", "58.4/58.3/42.2"),
        ("propos", "cifar10", "94.3/88.6/88.4"),
        ("temi-dino", "imagenet", "58.0/81.4/45.9"),
        ("icce", "cifar100", "89/-/-"),
    ],
)
def test_known_numbers(key, data, scores):
    (row,) = [row for row in ROWS if row.key == key]
    assert row.values[data] == scores
    assert row.accuracy(data) == scores.split("/")[0]
    assert row.accuracy("mnist") == "–"


@pytest.mark.parametrize(
    ("key", "other"),
    [("scan-best", "scan"), ("nnm", "nnm"), ("spice-18", "spice"), ("spice-34", "spice-resnet34")],
)
def test_agrees_with_the_numbers_beside_mixem(key, other):
    (row,) = [row for row in ROWS if row.key == key]
    for data in ("stl10", "cifar10", "cifar100-20"):
        assert float(row.accuracy(data)) == value("mixem", other, f"{data}/accuracy").mean


def test_accuracy_is_not_below_ari():
    for row in ROWS:
        for scores in row.values.values():
            accuracy, _, ari = scores.split("/")
            assert ari == "-" or float(accuracy) > float(ari), row.key


def test_an_unknown_kind_is_answered_in_one_line():
    with pytest.raises(InputError, match="'labels' is none of learned, frozen"):
        published("labels")
    with pytest.raises(InputError, match="'test' is none of train, test"):
        published("learned", splits="test")


def spoilt(**change):
    data = {"sources": {"A": "https://a.org/b"}, "rows": [copy.deepcopy(DATA["rows"][0])]}
    data["rows"][0] |= {"sources": ["A"]} | change
    return data


def test_the_smallest_file():
    (row,) = parse_published(spoilt())
    assert row.sources == ("https://a.org/b",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": []}, "not named"),
        ({"sources": ["B"]}, "not named"),
        ({"reference": ""}, "no reference"),
        ({"year": "2020"}, "no year"),
        ({"values": {}}, "no values"),
        ({"values": {"digits": "1/2/3"}}, "unknown set"),
        ({"values": {"cifar10": "64.5"}}, "not accuracy/NMI/ARI"),
        ({"values": {"cifar10": "0.645/0.5/?"}}, "not accuracy/NMI/ARI"),
        ({"splits": "test"}, "splits is 'test'"),
        ({"kind": "hearsay"}, "kind is 'hearsay'"),
        ({"more": 1}, "unknown"),
    ],
)
def test_the_format_is_strict(change, message):
    with pytest.raises(ValueError, match=message):
        parse_published(spoilt(**change))


def test_keys_sources_and_years_are_strict():
    twice = spoilt()
    twice["rows"] *= 2
    with pytest.raises(ValueError, match="twice"):
        parse_published(twice)
    unused = spoilt()
    unused["sources"]["B"] = "https://b.org/c"
    with pytest.raises(ValueError, match="not used"):
        parse_published(unused)
    back = spoilt()
    back["rows"].append(back["rows"][0] | {"key": "other", "year": 1999})
    with pytest.raises(ValueError, match="go back"):
        parse_published(back)
