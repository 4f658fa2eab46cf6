"""The first page and the pages at the end are made of records, chapters and experiments."""

import base64
from pathlib import Path

import made
import nbformat
from nbformat import v4

import back_matter
import build_book
from mixem.experiments import EXPERIMENTS
from mixem.records import Row, load_records, records_of


def record(accuracy: float, seed: int = 0, **changes: object):
    rows = (Row("k-means", {"accuracy": accuracy, "nmi": 0.5, "ari": 0.5}),)
    return made.record(rows, seed=seed, **changes)


def test_the_main_result_is_made_of_records() -> None:
    records = [record(0.9), record(0.92, 1), record(0.1, 2, overrides={"training.epochs": 1})]
    rows = {row[0]: row[1:] for row in back_matter.results(records).rows}
    assert rows["MIX'EM"] == ("91.0 ± 1.4", "–", "–")
    assert set(rows["IIC"]) == {"–"}
    names = {name for row in back_matter.RESULTS.values() for name in row.values()}
    assert names <= set(EXPERIMENTS)


def test_mixem_on_vectors_is_judged_by_what_it_trains() -> None:
    rows = tuple(
        Row("k-means", {"accuracy": a, "nmi": 0.5, "ari": 0.5}, switches={"layer": layer})
        for layer, a in {"features": 0.7, "embeddings": 0.8}.items()
    )
    table = back_matter.results([made.record(rows, experiment="pretrained/mixem")])
    assert {row[0]: row[3] for row in table.rows}["MIX'EM"] == "80.0"


def test_what_nobody_has_run_is_listed() -> None:
    some = [record(0.9), record(0.9, experiment="stl10/simclr", overrides={"training.epochs": 1})]
    text = back_matter.not_run(some)
    rows = [line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| `")]
    assert rows == [name for name in EXPERIMENTS if name != "digits/mixem"]
    assert f"{len(rows)} of the {len(EXPERIMENTS)} experiments" in text
    every = [record(0.9, experiment=name) for name in EXPERIMENTS]
    assert "|" not in back_matter.not_run(every)


def test_times_are_of_the_text_and_of_a_run() -> None:
    chapter = v4.new_notebook(cells=[v4.new_markdown_cell("# A title\n\n" + "word " * 597)])
    chapter.cells.append(v4.new_code_cell("x = 1  # no words to read"))
    table = back_matter.times({"01-a": chapter, "02-b": chapter}, {"01-a": 90})
    assert table.rows == (
        ("[A title](chapters/01-a.ipynb)", "3", "1.5"),
        ("[A title](chapters/02-b.ipynb)", "3", "–"),
    )


def test_a_picture_is_found_by_its_name() -> None:
    cells = [v4.new_code_cell("a"), v4.new_code_cell("b")]
    for cell, name in zip(cells, ("fig-1", "fig-2"), strict=True):
        cell.metadata["mystnb"] = {"figure": {"name": name}}
        data = {"image/png": base64.b64encode(name.encode()).decode()}
        cell.outputs = [v4.new_output("display_data", data)]
    chapter = v4.new_notebook(cells=cells)
    assert back_matter.picture(chapter, "fig-2") == b"fig-2"
    assert back_matter.picture(chapter, "fig-3") == b""


def test_the_committed_chapters_have_what_the_pages_show() -> None:
    chapters = build_book.ROOT / "chapters"
    for _, chapter, name in back_matter.PICTURES:
        notebook = nbformat.read(chapters / f"{chapter}.ipynb", as_version=4)
        assert back_matter.picture(notebook, name).startswith(b"\x89PNG")
    seconds = back_matter.json.loads((chapters / "seconds.json").read_text("utf8"))
    assert seconds.keys() <= {path.stem for path in chapters.glob("*.ipynb")}


def test_the_pages_of_the_book_are_complete(html: Path) -> None:
    index = (html / "index.html").read_text("utf8")
    assert "<!--" not in index.partition("<article")[2].partition("</article")[0]
    assert "records.html#results-digits-mixem" in index
    left = [n for n in EXPERIMENTS if not records_of(load_records(build_book.ROOT / "results"), n)]
    coverage = (html / "coverage.html").read_text("utf8")
    assert all(f">{name}<" in coverage for name in left)
