"""What the tests of the book share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

import build_book
import notebooks

ADDED = "Only in this copy."


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def write_chapter() -> Callable[..., Path]:
    """Writes a chapter with nothing missing whose last cell is ``last``."""

    def write(path: Path, last: str, *, parameters: str = 'profile = "quick"') -> Path:
        cells = [
            v4.new_markdown_cell("# A title"),
            v4.new_code_cell(f"# google.colab\n# {notebooks.repository()}"),
            v4.new_markdown_cell("Parameters."),
            v4.new_code_cell(
                f'{parameters}\nseed = 0\ndevice = "auto"', metadata={"tags": ["parameters"]}
            ),
            v4.new_markdown_cell("The run."),
            v4.new_code_cell(last),
        ]
        nbformat.write(v4.new_notebook(cells=cells, metadata=notebooks.METADATA), path)
        return path

    return write


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML of the book, from a copy of the chapters with ``ADDED`` at the end of the first."""
    folder = tmp_path_factory.mktemp("book")
    chapters = Path(shutil.copytree(build_book.ROOT / "chapters", folder / "run"))
    first = min(chapters.glob("*.ipynb"))
    notebook = nbformat.read(first, as_version=4)
    notebook.cells.append(v4.new_markdown_cell(ADDED))
    nbformat.write(notebook, first)
    return build_book.build(chapters, folder)


@pytest.fixture(scope="session")
def added() -> str:
    """What stands at the end of the first chapter of ``html`` alone."""
    return ADDED
