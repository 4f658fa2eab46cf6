"""From a number to what made it: no link of a table leads nowhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

import build_book
import notebooks
import origins
from mixem.linked import REPOSITORY

CHAPTERS = sorted((build_book.ROOT / "chapters").glob("*.ipynb"))
LINK = re.compile(r"\[([^\]]+)\]\((\S+?)\)")
NUMBER = re.compile(r"\d\.\d")
# Columns and rows of what the page itself has trained, or of what no training of ours made.
HERE = re.compile(r"^(this run.*|seconds|weight|where)$|, here$")
COMMAND = "python -m mixem"


def test_the_address_is_the_repositorys() -> None:
    assert notebooks.repository() == REPOSITORY


def names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def cells_from_records(path: Path) -> Iterator[NotebookNode]:
    """The code cells whose last expression was made with records, be it by a long way."""
    made = {"load_records", "comparison"}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        body = ast.parse(cell.source).body
        for _ in range(3):  # a cell may define before it uses, and after
            for node in body:
                if isinstance(node, ast.Import | ast.ImportFrom) or not names_in(node) & made:
                    continue
                if isinstance(node, ast.FunctionDef):
                    made.add(node.name)
                targets = [n for n in ast.walk(node) if isinstance(n, ast.Name | ast.Call)]
                made |= {
                    n.id
                    for n in targets
                    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                }
                made |= {
                    n.func.value.id
                    for n in targets
                    if isinstance(n, ast.Call)
                    and isinstance(n.func, ast.Attribute)
                    and isinstance(n.func.value, ast.Name)
                    and n.func.attr in ("append", "extend", "update", "setdefault")
                }
        if body and isinstance(body[-1], ast.Expr) and names_in(body[-1]) & made:
            yield cell


def tables_of(cell: NotebookNode) -> list[str]:
    data = [output.get("data", {}) for output in cell.outputs]
    return [one["text/markdown"] for one in data if "text/markdown" in one]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_numbers_from_records_are_links(path: Path) -> None:
    """Where one number of a column is a link, all are."""
    for cell in cells_from_records(path):
        for text in tables_of(cell):
            lines = [line for line in text.splitlines() if line.startswith("|")]
            head, _, *rows = ([c.strip() for c in line.split("|")[1:-1]] for line in lines)
            columns = list(zip(*rows, strict=True))
            bare = [
                f"{label}, {head[i]}: {value}"
                for i, column in enumerate(columns)
                if any(LINK.search(value) for value in column) and not HERE.search(head[i])
                for label, value in zip(columns[0], column, strict=True)
                if NUMBER.search(LINK.sub("", value)) and not HERE.search(label)
            ]
            assert bare == [], cell.source
            if f"{REPOSITORY}/tree/main/results/" in text:
                assert COMMAND in text, cell.source


def test_there_are_such_tables_and_figures() -> None:
    cells = [cell for path in CHAPTERS for cell in cells_from_records(path)]
    assert sum(bool(tables_of(cell)) for cell in cells) > 25
    assert sum(len(LINK.findall(text)) for cell in cells for text in tables_of(cell)) > 200


def links_of(page: Path) -> list[str]:
    return re.findall(r'<a [^>]*href="([^"]+)"', page.read_text("utf8"))


def test_every_number_leads_to_its_record_in_two_clicks(html: Path) -> None:
    seen = 0
    for page in [*(html / "chapters").glob("*.html"), html / "index.html", html / "coverage.html"]:
        for link in links_of(page):
            assert not origins.PLACE.fullmatch(link), f"{page}: {link} was not turned around"
            path, _, fragment = link.partition("#")
            if path.endswith((f"{origins.OURS}.html", f"{origins.THEIRS}.html")) and fragment:
                there = (page.parent / path).read_text("utf8")
                block = there.partition(f'<div id="{fragment}">')[2].partition("<div id=")[0]
                files = re.findall(rf'href="{REPOSITORY}/blob/main/([^"]+)"', block)
                assert files, f"{page}: {link}"
                for file in files:
                    file, _, line = file.partition("#L")
                    text = (build_book.ROOT / file).read_text("utf8").splitlines()
                    if line:
                        key = re.search('"key": "(.+?)"', text[int(line) - 1])
                        assert key, link
                        assert fragment.endswith(origins.anchor(key[1])), link
                seen += 1
    assert seen > 200


def test_every_record_has_its_row(html: Path) -> None:
    text = (html / f"{origins.OURS}.html").read_text("utf8")
    files = {p.relative_to(build_book.ROOT) for p in (build_book.ROOT / "results").rglob("*.json")}
    shown = re.findall(rf'href="{REPOSITORY}/blob/main/([^"]+\.json)"', text)
    assert sorted(shown) == sorted(p.as_posix() for p in files)


def test_every_place_has_a_name_of_its_own_that_css_takes(html: Path) -> None:
    for page in (origins.OURS, origins.THEIRS):
        names = re.findall(r'<div id="([^"]+)">', (html / f"{page}.html").read_text("utf8"))
        assert len(names) > 20
        assert len(set(names)) == len(names)
        assert all(re.fullmatch("[A-Za-z][A-Za-z0-9-]*", name) for name in names)


def test_links_lead_to_places_that_are_there(html: Path) -> None:
    """Every link of the book to a page or a part of a page, without a browser."""
    pages = {p: p.read_text("utf8") for p in html.rglob("*.html")}
    names = {p: set(re.findall(r'\bid="([^"]+)"', text)) for p, text in pages.items()}
    wrong = []
    for page in pages:
        if "_modules" in page.parts or "_static" in page.parts:
            continue
        for link in links_of(page):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, fragment = link.partition("#")
            there = (page.parent / path).resolve() if path else page
            known = there in names
            if not there.exists() or (fragment and known and fragment not in names[there]):
                wrong.append(f"{page.relative_to(html)}: {link}")
    assert wrong == []
