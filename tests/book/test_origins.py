"""From a number to what made it: no link of a table leads nowhere."""

import ast
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

import build_book
import notebooks
import origins
from mixem.linked import REPOSITORY
from mixem.records import load_records

CHAPTERS = sorted((build_book.ROOT / "chapters").glob("*.ipynb"))
LINK = re.compile(r"\[([^\]]+)\]\((\S+?)\)")
NUMBER = re.compile(r"\d\.\d|\d ?%")
# The numbers that need no link in a table made from records, by the name of their column or row.
NO_LINK = {
    r"^this run": "the page itself has trained it, a cell or two above",
    r", here$": "the page itself has computed it",
    r"^weight$": "names a variant by a setting, as λ = 1.5",
}
BARE = re.compile("|".join(NO_LINK))
COMMAND = "python -m mixem"
SOURCES = {"load_records", "comparison"}  # all that gives a chapter its records
GROWN_BY = {"append", "extend", "update", "setdefault", "add"}


def test_the_address_is_the_repositorys() -> None:
    assert notebooks.repository() == REPOSITORY


def read_by(node: ast.AST) -> set[str]:
    """The names that a piece of code takes from outside of itself."""
    own = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    if isinstance(node, ast.expr | ast.FunctionDef):
        own |= stored_by(node)  # of its comprehensions, or local
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - own


def stored_by(node: ast.AST) -> set[str]:
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return {n.id for n in names if isinstance(n.ctx, ast.Store)}


def root_of(node: ast.AST) -> set[str]:
    """``{"a"}`` of ``a.b[0].c()``."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def follow(body: list[ast.stmt], made: set[str]) -> None:
    """Puts the names that hold something made from records into ``made``, and takes others out.

    Statement by statement: a name that is given another value is another thing from there on.
    """

    def give(names: set[str], value: ast.AST) -> None:
        if read_by(value) & made:
            made.update(names)
        else:
            made.difference_update(names)

    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            made -= {name.asname or name.name for name in node.names} - SOURCES
        elif isinstance(node, ast.FunctionDef):
            give({node.name}, node)
        elif isinstance(node, ast.For):
            for _ in range(2):  # what the end of a body makes, its beginning may take
                give(stored_by(node.target), node.iter)
                follow(node.body, made)
        elif isinstance(node, ast.If):
            without = set(made)
            follow(node.body, made)
            follow(node.orelse, without)
            made |= without
        elif isinstance(node, ast.With):
            follow(node.body, made)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Attribute | ast.Subscript):
                    if read_by(node.value) & made:
                        made |= root_of(target)
                else:
                    give(stored_by(target), node.value)
        elif isinstance(node, ast.AugAssign) and read_by(node.value) & made:
            made |= root_of(node.target)
        for call in ast.walk(node) if isinstance(node, ast.Expr) else ():
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                given = set().union(*map(read_by, call.args))
                if call.func.attr in GROWN_BY and given & made:
                    made |= root_of(call.func)


@cache
def code_cells(path: Path) -> tuple[NotebookNode, ...]:
    cells = nbformat.read(path, as_version=4).cells
    return tuple(cell for cell in cells if cell.cell_type == "code")


@cache
def cells_from_records(path: Path) -> tuple[NotebookNode, ...]:
    """The code cells whose last expression was made with records, be it by a long way."""
    made, found = set(SOURCES), []
    for cell in code_cells(path):
        body = ast.parse(cell.source).body
        follow(body, made)
        if body and isinstance(body[-1], ast.Expr) and read_by(body[-1]) & made:
            found.append(cell)
    return tuple(found)


def tables_of(cell: NotebookNode) -> list[str]:
    data = [output.get("data", {}) for output in cell.outputs]
    return [one["text/markdown"] for one in data if "text/markdown" in one]


def caption_of(cell: NotebookNode) -> str:
    return cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")


def is_figure(cell: NotebookNode) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


def bare_numbers(text: str) -> list[str]:
    """What of a Markdown table is a number, leads nowhere and is no exception."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = ([c.strip() for c in line.split("|")[1:-1]] for line in lines)
    return [
        f"{row[0]}, {title}: {value}"
        for row in rows
        for title, value in zip(head, row, strict=True)
        if NUMBER.search(LINK.sub("", value))
        if not BARE.search(title) and not BARE.search(row[0])
    ]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_numbers_from_records_are_links(path: Path) -> None:
    """All of them, whole columns too."""
    for cell in cells_from_records(path):
        for text in tables_of(cell):
            assert bare_numbers(text) == [], cell.source


def test_a_column_of_bare_numbers_is_noticed() -> None:
    table = "| method | this run | ours | n |\n|---|---|---|---|\n| IIC | 9.1 | 98.2 | 3 |\n"
    assert bare_numbers(table) == ["IIC, ours: 98.2"]
    assert bare_numbers(table.replace("98.2", "[98.2 ± 0.1](there)")) == []
    assert bare_numbers(table.replace("98.2", "half, 43%")) == ["IIC, ours: half, 43%"]
    assert bare_numbers(table.replace("IIC", "k-means, here")) == []


@cache
def commands() -> set[str]:
    return {record.command for record in load_records(build_book.ROOT / "results")}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_what_is_made_from_records_says_the_command(path: Path) -> None:
    """A figure in its caption, a table below its rows."""
    known = commands()
    for cell in cells_from_records(path):
        texts = [caption_of(cell)] if is_figure(cell) else []
        texts += [text for text in tables_of(cell) if f"{REPOSITORY}/tree/main/results/" in text]
        for text in texts:
            said = re.findall(f"`({COMMAND} [^`]+)`", text)
            assert said, cell.source
            assert set(said) <= known, cell.source


def test_no_other_cell_shows_a_record() -> None:
    """Else the search for cells made from records would be blind."""
    for path in CHAPTERS:
        found = [cell.source for cell in cells_from_records(path)]
        for cell in code_cells(path):
            shown = "".join(tables_of(cell))
            if f"{REPOSITORY}/tree/main/results/" in shown or "Records made by" in caption_of(cell):
                assert cell.source in found, cell.source


@pytest.mark.parametrize(
    ("code", "made"),
    [
        ("a = load_records('results')\na", True),
        ("a = load_records('results')\na = 1\na", False),
        ("a = load_records('results')\nb = [x for x in a]\n[a for a in b]", True),
        ("a = load_records('results')\nb = {}\nfor x in a:\n    b[x] = x\nb", True),
        ("a = load_records('results')\nb = {}\nb.setdefault(1, []).append(a)\nb", True),
        ("a = load_records('results')\n\ndef f(x):\n    return a, x\n\nf(1)", True),
        ("a = load_records('results')\n\ndef f(a):\n    return a\n\nf(1)", False),
        ("a = load_records('results')\nfrom b import a\na", False),
        ("a = load_records('results') if folder else []\nif a:\n    b = 1\nb", False),
        ("rows = []\nfor a in load_records('r'):\n    rows.append(a)\nTable(rows)", True),
    ],
)
def test_names_are_followed(tmp_path: Path, code: str, made: bool) -> None:
    file = tmp_path / "chapter.ipynb"
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    assert bool(cells_from_records(file)) is made


def test_there_are_such_tables_and_figures() -> None:
    cells = [cell for path in CHAPTERS for cell in cells_from_records(path)]
    assert sum(bool(tables_of(cell)) for cell in cells) > 25
    assert sum(is_figure(cell) for cell in cells) >= 16
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
