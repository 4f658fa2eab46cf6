"""What every chapter must have, and that the checks of it can fail."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode, v4

import notebooks

CHAPTERS = sorted((notebooks.ROOT / "chapters").glob("*.ipynb"))
ADDRESS = "https://example.org/owner/name"
COLAB = f'import sys\nif "google.colab" in sys.modules:\n    %pip install {ADDRESS}'
ALT = "Two curves that fall and then stay level."


def code(source: str, *outputs: NotebookNode, count: int = 1, **metadata: object) -> NotebookNode:
    return v4.new_code_cell(source, outputs=list(outputs), execution_count=count, metadata=metadata)


def picture() -> NotebookNode:
    return v4.new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"})


def good_chapter() -> NotebookNode:
    parameters = 'profile = "quick"\nseed = 0\ndevice = "auto"'
    cells = [
        v4.new_markdown_cell("# A title"),
        code(COLAB, count=1),
        v4.new_markdown_cell("The parameters."),
        code(parameters, count=2, tags=["parameters"]),
        v4.new_markdown_cell("A figure."),
        code("draw()", picture(), count=3, mystnb={"image": {"alt": ALT}}),
    ]
    return notebooks.normalise(v4.new_notebook(cells=cells))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_is_complete(chapter: Path) -> None:
    notebook = nbformat.read(chapter, as_version=4)
    nbformat.validate(notebook)
    assert notebooks.problems(notebook, notebooks.repository()) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_code_that_only_makes_a_table_is_folded(chapter: Path) -> None:
    """But what trains stays in sight, and so do the exercises."""
    shown = []
    for cell in nbformat.read(chapter, as_version=4).cells:
        if cell.source.startswith("## Exercises"):
            break
        if cell.cell_type != "code" or re.search(r"\b(run|train)\(", cell.source):
            continue
        lines = [x for x in cell.source.splitlines() if x and not re.match("from |import ", x)]
        table = any("text/markdown" in output.get("data", {}) for output in cell.outputs)
        if table and len(lines) >= 5 and "hide-input" not in cell.metadata.get("tags", []):
            shown.append(cell.source)
    assert shown == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_exercises_are_graded_and_solved(chapter: Path) -> None:
    cells = nbformat.read(chapter, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    exercises = text.partition("\n## Exercises\n")[2]
    _, *parts = re.split(r"^\*\*(\d+)\.\*\* ", exercises, flags=re.MULTILINE)
    numbers, solved = parts[::2], parts[1::2]
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    assert 5 <= len(numbers) <= 8
    assert all(":class: dropdown" in one for one in solved)
    grades = re.findall(r"^\*([A-Z][a-z ]+)\.\*$", exercises, flags=re.MULTILINE)
    assert grades == ["By hand", "In code", "Open"]


def test_there_are_chapters() -> None:
    assert CHAPTERS


def test_a_good_chapter_has_no_problem() -> None:
    assert notebooks.problems(good_chapter(), ADDRESS) == []


def no_title(cells: list[NotebookNode]) -> None:
    cells[0].source = "no title"


def other_repository(cells: list[NotebookNode]) -> None:
    cells[1].source = cells[1].source.replace("owner", "other")


def untagged_parameters(cells: list[NotebookNode]) -> None:
    cells[3].metadata.pop("tags")


def other_profile(cells: list[NotebookNode]) -> None:
    cells[3].source = cells[3].source.replace("quick", "paper")


def no_text(cells: list[NotebookNode]) -> None:
    del cells[4]


def not_run(cells: list[NotebookNode]) -> None:
    cells[5].execution_count = None


def run_out_of_order(cells: list[NotebookNode]) -> None:
    cells[5].execution_count = 5


def no_alt_text(cells: list[NotebookNode]) -> None:
    cells[5].metadata.pop("mystnb")


def short_alt_text(cells: list[NotebookNode]) -> None:
    cells[5].metadata.mystnb.image.alt = "A figure"


def two_figures(cells: list[NotebookNode]) -> None:
    cells[5].outputs.append(picture())


def html_picture(cells: list[NotebookNode]) -> None:
    cells[5].outputs = [v4.new_output("display_data", {"text/html": '<img src="x.png">'})]


def warning(cells: list[NotebookNode]) -> None:
    cells[5].outputs.append(v4.new_output("stream", name="stderr", text="UserWarning"))


def error(cells: list[NotebookNode]) -> None:
    cells[5].outputs.append(v4.new_output("error", ename="ValueError", evalue="no"))


def traces_of_the_run(cells: list[NotebookNode]) -> None:
    cells[5].metadata["papermill"] = {"duration": 1.5}


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (no_title, "title"),
        (other_repository, "Colab"),
        (untagged_parameters, "0 cells tagged 'parameters'"),
        (other_profile, "profile = 'quick'"),
        (no_text, "no text before the code cell 'draw()'"),
        (not_run, "execution counts"),
        (run_out_of_order, "execution counts"),
        (no_alt_text, "without alt text"),
        (short_alt_text, "without alt text"),
        (two_figures, "2 figures"),
        (html_picture, "<img>"),
        (warning, "stderr"),
        (error, "ValueError"),
        (traces_of_the_run, "not normalised"),
    ],
)
def test_problem_is_found(spoil, complaint: str) -> None:
    chapter = good_chapter()
    spoil(chapter.cells)
    (problem,) = notebooks.problems(chapter, ADDRESS)
    assert complaint in problem


def test_normalise_removes_the_traces_of_a_run() -> None:
    home = str(Path.home())
    chapter = v4.new_notebook(
        cells=[
            code(
                "run()",
                v4.new_output("stream", text=f"{notebooks.ROOT}/runs/1 {home}/x <A at 0x7f12ab34>"),
                v4.new_output("stream", text=" and more"),
                v4.new_output("display_data", {notebooks.WIDGET: {"model_id": "1"}}),
                v4.new_output(
                    "execute_result",
                    {"text/html": '<table id="T_ab12f"><td id="T_ab12f_row0">'},
                    execution_count=7,
                    metadata={"elapsed": 3},
                ),
                count=7,
                tags=["hide-input"],
                execution={"iopub.execute_input": "2026-01-01T00:00:00Z"},
            )
        ],
        metadata={"papermill": {"duration": 3}, "widgets": {}},
    )
    clean = notebooks.normalise(chapter)
    assert clean.metadata == notebooks.METADATA
    (cell,) = clean.cells
    assert cell.metadata == {"tags": ["hide-input"]}
    assert cell.execution_count == 1
    stream, table = cell.outputs
    assert stream.text == "runs/1 ~/x <A at 0x…> and more"
    assert table.data["text/html"] == f'<table id="T_{cell.id}"><td id="T_{cell.id}_row0">'
    assert table.metadata == {}
    assert table.execution_count == 1


def test_normalise_is_idempotent_and_leaves_its_argument() -> None:
    chapter = good_chapter()
    chapter.cells[5].id = "random"
    before = copy.deepcopy(chapter)
    clean = notebooks.normalise(chapter)
    assert chapter == before
    assert clean != chapter
    assert notebooks.normalise(clean) == clean


def test_equal_cells_get_different_ids() -> None:
    chapter = v4.new_notebook(cells=[v4.new_markdown_cell("same"), v4.new_markdown_cell("same")])
    first, second = notebooks.normalise(chapter).cells
    assert first.id != second.id


# The cell for Colab -------------------------------------------------------------------------------


def colab_cells() -> set[str]:
    """What the chapters have for it, each once."""
    notebooks_ = (nbformat.read(path, as_version=4) for path in CHAPTERS)
    return {c.source for n in notebooks_ for c in n.cells if "google.colab" in c.source}


def test_all_chapters_have_the_same_cell_for_colab() -> None:
    assert len(colab_cells()) == 1


@pytest.mark.parametrize("there", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("fails", ["git", "pip", ""])
@pytest.mark.parametrize("drive", [False, True], ids=["no Drive", "Drive"])
def test_the_cell_on_colab(
    monkeypatch: pytest.MonkeyPatch, there: bool, fails: str, drive: bool
) -> None:
    (source,) = colab_cells()
    called, moved = [], []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        called.append(next(word for word in command if word in ("git", "pip")))
        return subprocess.CompletedProcess(command, int(called[-1] == fails))

    folders = {"/content/book": there, "/content/drive/MyDrive": drive}
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(Path, "is_dir", lambda self: folders[str(self)])
    monkeypatch.setattr(os, "chdir", moved.append)
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    monkeypatch.delenv("MIXEM_RUNS", raising=False)
    wanted = ["pip"] if there else ["git", "pip"]
    if fails in wanted:
        with pytest.raises(RuntimeError, match=rf"this failed, is there a network\? .*{fails} "):
            exec(source, {})
        assert called == wanted[: wanted.index(fails) + 1]
        assert not moved
        return
    exec(source, {})
    assert called == wanted
    assert moved == [Path("/content/book/chapters")]
    runs = os.environ.pop("MIXEM_RUNS", None)
    assert runs == ("/content/drive/MyDrive/mixem-runs" if drive else None)
