"""The build takes the chapters it is given and stops at a warning."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

import build_book


def chapters_with(text: str, folder: Path) -> Path:
    """Copy the chapters to ``folder``, with ``text`` at the end of the first one."""
    folder.mkdir()
    paths = sorted((build_book.ROOT / "chapters").glob("*.ipynb"))
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        if path == paths[0]:
            notebook.cells.append(v4.new_markdown_cell(text))
        nbformat.write(notebook, folder / path.name)
    return folder


def test_given_chapters_reach_the_pages(tmp_path: Path) -> None:
    html = build_book.build(chapters_with("Only in this copy.", tmp_path / "run"), tmp_path)
    assert html == tmp_path / "_build" / "html"
    first = sorted((html / "chapters").glob("*.html"))[0]
    assert "Only in this copy." in first.read_text("utf8")


@pytest.mark.parametrize("text", ["{cite}`nobody1900`", "[a link](nowhere.md)"])
def test_a_warning_stops_the_build(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        build_book.build(chapters_with(text, tmp_path / "run"), tmp_path)
    assert "WARNING" in capfd.readouterr().err
