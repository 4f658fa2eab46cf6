"""The build takes the chapters it is given and stops at a warning."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

import build_book
import notebooks
import reference


def test_given_chapters_reach_the_pages(html: Path, added: str) -> None:
    assert html.parts[-2:] == ("_build", "html")
    first = min((html / "chapters").glob("*.html"))
    assert added in first.read_text("utf8")


def test_warnings_stop_the_build(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chapters = tmp_path / "run"
    chapters.mkdir()
    for path in (build_book.ROOT / "chapters").glob("*.ipynb"):  # short ones: this is quicker
        cells = [v4.new_markdown_cell("# Title\n\n{cite}`nobody1900`, [a link](nowhere.md)")]
        notebook = v4.new_notebook(cells=cells, metadata=notebooks.METADATA)
        nbformat.write(notebook, chapters / path.name)
    with pytest.raises(subprocess.CalledProcessError):
        build_book.build(chapters, tmp_path)
    said = capfd.readouterr().err
    assert "WARNING" in said
    assert "nobody1900" in said
    assert "nowhere.md" in said


def test_a_chapter_that_was_not_run_can_be_the_committed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chapters = tmp_path / "run"
    chapters.mkdir()
    committed = sorted((build_book.ROOT / "chapters").glob("*.ipynb"))
    run = committed[0].read_text("utf8") + "\n"
    (chapters / committed[0].name).write_text(run, "utf8")
    with pytest.raises(FileNotFoundError):
        build_book.stage(chapters, tmp_path / "source")
    build_book.stage(chapters, tmp_path / "source", partly=True)
    staged = tmp_path / "source" / "chapters"
    assert (staged / committed[0].name).read_text("utf8") == run
    assert (staged / committed[1].name).read_bytes() == committed[1].read_bytes()
    said = capsys.readouterr().err
    assert f"chapters/{committed[1].name} is the committed one" in said
    assert committed[0].name not in said


def test_every_public_module_has_a_page_in_the_reference(html: Path) -> None:
    names = reference.modules(build_book.ROOT / "mixem")
    assert {"losses", "data"} <= set(names)
    assert not {"__init__", "__main__", "cli"} & set(names)
    index = (html / "api.html").read_text("utf8")
    for name, words in names.items():
        assert words, f"mixem.{name} has no docstring"
        assert f'href="api/{name}.html"' in index
    losses = (html / "api" / "losses.html").read_text("utf8")
    assert 'id="mixem.losses.nt_xent"' in losses
    assert "_modules/mixem/losses/nt_xent.html#nt_xent" in losses  # [source]


def test_the_reference_follows_the_package(tmp_path: Path) -> None:
    package = tmp_path / "own"
    (package / "sub").mkdir(parents=True)
    for name, text in {
        "__init__": "The package.",
        "__main__": "Runs.",
        "_inner": "Hidden.",
        "cli": "Commands.",
        "tool": "First line,\nand second.\n\nMore.",
        "sub/__init__": "Below.",
        "sub/part": "Further below.",
    }.items():
        (package / f"{name}.py").write_text(f'"""{text}"""\n')
    (tmp_path / "api.md").write_text("# Reference\n")
    reference.write(tmp_path, package)
    assert reference.modules(package) == {"sub": "Below.", "tool": "First line, and second."}
    assert sorted(path.name for path in (tmp_path / "api").iterdir()) == ["sub.rst", "tool.rst"]
    assert ".. automodule:: own.tool\n" in (tmp_path / "api" / "tool.rst").read_text()
    assert "[`own.sub`](api/sub.rst)\n: Below." in (tmp_path / "api.md").read_text()


@pytest.mark.parametrize(
    ("words", "code"), [("See :func:`near`.", 0), ("See :func:`nowhere`.", 1)], ids=["good", "bad"]
)
def test_the_reference_can_be_checked_alone(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: str,
    code: int,
) -> None:
    package = tmp_path / "mixem"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tool.py").write_text(f'"""{words}"""\n\n\ndef near():\n    """Here."""\n')
    (tmp_path / "_config.yml").write_bytes((root / "_config.yml").read_bytes())
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    assert reference.main() == code
    assert ("nowhere" in capfd.readouterr().err) == bool(code)
