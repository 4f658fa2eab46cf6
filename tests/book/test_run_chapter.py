"""Running a chapter: a good one is written, anything else is one clear line and no output."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

import notebooks

Writer = Callable[..., Path]


def run(chapter: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = notebooks.ROOT / "tools" / "run_chapter.py"
    return subprocess.run(
        [sys.executable, script, chapter, out, *options],
        capture_output=True,
        text=True,
        cwd=out.parent,
    )


def test_runs_in_its_own_folder_and_is_normalised(tmp_path: Path, write_chapter: Writer) -> None:
    folder = tmp_path / "chapters"
    folder.mkdir()
    source = "import sys\nfrom pathlib import Path\nprint(Path.cwd().name, profile, sys.prefix)"
    chapter = write_chapter(folder / "good.ipynb", source)
    before = chapter.read_bytes()
    out = tmp_path / "out.ipynb"
    done = run(chapter, out)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(out, as_version=4)
    prefix = sys.prefix.replace(f"{notebooks.ROOT}/", "").replace(str(Path.home()), "~")
    assert executed.cells[-1].outputs[0].text == f"chapters quick {prefix}\n"
    assert notebooks.normalise(executed) == executed
    assert chapter.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chapters", "out.ipynb"]


def test_another_profile_reaches_the_chapter(tmp_path: Path, write_chapter: Writer) -> None:
    chapter = write_chapter(tmp_path / "chapter.ipynb", "print(profile)")
    out = tmp_path / "out.ipynb"
    done = run(chapter, out, "--profile", "paper")
    assert done.returncode == 0, done.stderr
    assert nbformat.read(out, as_version=4).cells[-1].outputs[0].text == "paper\n"


@pytest.mark.parametrize(
    ("last", "options", "complaint"),
    [
        ("raise ValueError('lost the digits')", [], "ValueError: lost the digits"),
        ("import os; os._exit(1)", [], "kernel died"),
        (
            "import time; time.sleep(600)",
            ["--still", "1.5"],
            "used no processor time for 1.5 s in [3]",
        ),
        ("import sys; sys.stderr.write('careless')", [], "stderr"),
    ],
)
def test_failure_is_one_line(
    tmp_path: Path, write_chapter: Writer, last: str, options: list[str], complaint: str
) -> None:
    chapter = write_chapter(tmp_path / "chapter.ipynb", last)
    out = tmp_path / "out.ipynb"
    done = run(chapter, out, *options)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(str(chapter))
    assert complaint in line.lower() or complaint in line
    assert "run_chapter.py" not in done.stderr  # no traceback of ours
    assert not out.exists()


def test_missing_parameter_is_named(tmp_path: Path, write_chapter: Writer) -> None:
    chapter = write_chapter(tmp_path / "chapter.ipynb", "1", parameters='profil = "quick"')
    done = run(chapter, tmp_path / "out.ipynb")
    assert done.returncode == 1
    assert "has no parameter 'profile'" in done.stderr


def test_in_the_papers_profile_claims_and_warnings_are_kept(
    tmp_path: Path, write_chapter: Writer
) -> None:
    last = (
        "import os, warnings\nprint(os.environ['MIXEM_MOST_MINUTES'])\n"
        "warnings.warn('a collapse')\nassert profile == 'quick', 'too few epochs'"
    )
    chapter = write_chapter(tmp_path / "chapter.ipynb", last)
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells += [
        nbformat.v4.new_markdown_cell("After the claim."),
        nbformat.v4.new_code_cell("print('still run')"),
    ]
    nbformat.write(notebook, chapter)
    out = tmp_path / "out.ipynb"
    done = run(chapter, out, "--profile", "paper")
    assert done.returncode == 0, done.stderr
    assert "kept: the code cell 'import os, warnings' ended with AssertionError" in done.stderr
    assert "wrote to stderr" in done.stderr
    assert "what is trained shows in" in done.stdout
    executed = nbformat.read(out, as_version=4)
    kinds = [output.output_type for output in executed.cells[-3].outputs]
    assert kinds == ["stream", "stream", "error"]
    assert executed.cells[-3].outputs[0].text == "15\n"
    assert executed.cells[-1].outputs[0].text == "still run\n"
    assert executed.cells[0].source == "# A title"  # without papermill's own cells
    assert run(chapter, out).returncode == 1  # the other profile is as strict as ever


def test_in_the_papers_profile_other_errors_are_failures(
    tmp_path: Path, write_chapter: Writer
) -> None:
    chapter = write_chapter(tmp_path / "chapter.ipynb", "print('one')\nraise ValueError('lost')")
    out = tmp_path / "out.ipynb"
    done = run(chapter, out, "--profile", "paper")
    assert done.returncode == 1
    assert "ValueError: lost" in done.stderr
    assert not out.exists()
