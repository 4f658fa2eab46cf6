"""A command that failed goes on where it stopped, and says so."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

GOES_ON = "What is done is kept: the same command goes on where it stopped."
FOUND = "from pathlib import Path\nfound = Path('found.txt').exists()\n"


@pytest.fixture
def copy(root: Path, tmp_path: Path, write_chapter: Callable[..., Path]) -> Path:
    """A repository of three tiny chapters, the second of which wants a file that is missing."""
    for name in ("chapters", "mixem", "tests/book", "venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("Makefile", "_config.yml", "pyproject.toml", "tests/book/sanitize.cfg"):
        shutil.copy(root / name, tmp_path / name)
    shutil.copytree(root / "tools", tmp_path / "tools")
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()
    unit = "def test():\n    with open('unit.txt', 'a') as file:\n        file.write('run ')\n"
    (tmp_path / "tests" / "test_unit.py").write_text(unit)
    write_chapter(tmp_path / "chapters" / "1.ipynb", "print('first')")
    write_chapter(tmp_path / "chapters" / "2.ipynb", FOUND + "assert found, 'not there'")
    write_chapter(tmp_path / "chapters" / "3.ipynb", "print('third')")
    return tmp_path


def make(copy: Path, target: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run make as in a fresh shell; the tests themselves may run under a make."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", target, "VENV=venv", *options], cwd=copy, env=clean, capture_output=True, text=True
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line on stderr but for make's own."""
    return [line for line in done.stderr.splitlines() if not line.startswith("make")][-1]


def test_the_book_goes_on_where_it_stopped(copy: Path) -> None:
    failed = make(copy, "chapters")
    assert failed.returncode != 0
    assert "chapters/1.ipynb: run in" in failed.stdout
    assert "chapters/2.ipynb failed in [3]: AssertionError: not there" in failed.stderr
    assert last_line(failed) == GOES_ON
    (copy / "chapters" / "found.txt").touch()
    done = make(copy, "chapters")
    assert done.returncode == 0, done.stderr
    assert "chapters/1.ipynb" not in done.stdout
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "chapters/2.ipynb",
        "chapters/3.ipynb",
    ]


def test_the_test_goes_on_with_what_has_not_passed(copy: Path) -> None:
    for path in sorted((copy / "chapters").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for count, cell in enumerate(code, 1):
            cell.execution_count = count
        if path.stem != "2":
            word = {"1": "first", "3": "third"}[path.stem]
            code[-1].outputs = [nbformat.v4.new_output("stream", text=f"{word}\n")]
        nbformat.write(notebook, path)
    failed = make(copy, "test")
    assert failed.returncode != 0
    # Unit tests and three chapters: the third too, to see all that fails.
    assert failed.stdout.count("test session starts") == 4
    assert last_line(failed) == GOES_ON
    (copy / "chapters" / "found.txt").touch()
    done = make(copy, "test")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("test session starts") == 1
    assert "2.ipynb" in done.stdout
    assert (copy / "unit.txt").read_text() == "run "
    again = make(copy, "test")  # all passed: it begins anew
    assert again.stdout.count("test session starts") == 4


def test_the_papers_book_is_built_with_what_there_is(copy: Path) -> None:
    """The queue may have stopped, and a chapter may fail: the others and the book still come."""
    (copy / "mixem" / "__init__.py").touch()
    (copy / "mixem" / "__main__.py").write_text(
        "import sys\nprint('queue', sys.argv[1:])\nsys.exit(3)\n"
    )
    script = "import sys\nprint('book', sys.argv[1:])\n"
    (copy / "tools" / "build_book.py").write_text(script)
    done = make(copy, "reproduce", "REPRODUCE=--minutes 5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "queue ['reproduce', '--results', 'results', '--download', '--minutes', '5']"
    assert lines[-1].startswith("book ['--partly', '--chapters', '_build/paper/chapters'")
    run = copy / "_build" / "paper" / "chapters"
    assert sorted(path.name for path in run.glob("?.ipynb")) == ["1.ipynb", "2.ipynb", "3.ipynb"]
    assert "chapters/2.ipynb: kept: " in done.stderr  # a claim
    (copy / "chapters" / "2.ipynb").write_text("broken")
    done = make(copy, "reproduce")
    assert done.returncode == 0, done.stderr
    assert "chapters/2.ipynb cannot be read" in done.stderr
    assert "book" in done.stdout
