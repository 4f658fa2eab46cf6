"""What the first page and the pages at the end show of records, chapters and experiments.

:func:`write` puts it there before the build: tables where a page says ``<!-- results -->`` or
``<!-- reading -->``, others at the end of a page, and two pictures of the chapters for the first
page.
"""

import base64
import json
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mixem.experiments import EXPERIMENTS
from mixem.records import Record, Table, load_records, paper_text, records_of, summarise

WORDS_A_MINUTE = 200
# Of the first page: the name of a file, a chapter, and a figure there.
PICTURES = (
    ("before.png", "01-classes-without-labels", "fig-01-1"),
    ("after.png", "06-iic", "fig-06-5"),
)
# A row and a column of the main result is an experiment.
RESULTS = {
    "k-means": {"photographs": "pretrained/kmeans"},
    "SimCLR, k-means": {"digits": "digits/simclr", "MNIST": "mnist/simclr-small"},
    "MIX'EM": {
        "digits": "digits/mixem",
        "MNIST": "mnist/mixem-small",
        "photographs": "pretrained/mixem",
    },
    "IIC": {"digits": "digits/iic", "MNIST": "mnist/iic-small", "photographs": "pretrained/iic"},
    "IMC-SwAV": {
        "digits": "digits/imc-swav",
        "MNIST": "mnist/imc-swav-small",
        "photographs": "pretrained/imc-swav",
    },
    "SCAN": {"digits": "digits/scan", "photographs": "pretrained/scan"},
}
# Features stay as they are there: k-means on them, the main protocol, is no result of MIX'EM's.
PROTOCOLS = {"pretrained/mixem": {"layer": "embeddings"}}


def write(source: Path, root: Path) -> None:
    """Complete the pages in ``source``, the folder of the book's source with its chapters."""
    folder = root / "results"
    records = load_records(folder) if folder.is_dir() else []
    chapters = {
        path.stem: nbformat.read(path, as_version=4)
        for path in sorted((source / "chapters").glob("*.ipynb"))
    }
    for file, chapter, name in PICTURES:
        (source / "_static" / file).write_bytes(picture(chapters[chapter], name))
    index = source / "index.md"
    words = sum(map(words_of, chapters.values()))
    text = index.read_text("utf8").replace("<!-- results -->", results(records).markdown())
    hours = f"{words / WORDS_A_MINUTE / 60:.0f} hours"
    index.write_text(text.replace("<!-- reading -->", hours), "utf8")
    seconds = json.loads((source / "chapters" / "seconds.json").read_text("utf8"))
    for page, rest in (
        ("run-times", times(chapters, seconds).markdown()),
        ("coverage", not_run(records)),
    ):
        with (source / f"{page}.md").open("a", encoding="utf8") as end:
            end.write(f"\n{rest}\n")


def picture(chapter: NotebookNode, name: str) -> bytes:
    """Return the PNG of a figure, by its name in the cell's metadata; empty if it was not drawn."""
    for cell in chapter.cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            for output in cell.outputs:
                if png := output.get("data", {}).get("image/png"):
                    return base64.b64decode(png)
    return b""


def words_of(chapter: NotebookNode) -> int:
    """Return the number of words in the text of a chapter."""
    return sum(len(cell.source.split()) for cell in chapter.cells if cell.cell_type == "markdown")


def results(records: list[Record]) -> Table:
    """Return the main result: accuracies of our runs, in percent."""
    columns = ("digits", "MNIST", "photographs")

    def cell(name: str | None) -> str:
        how = PROTOCOLS.get(name or "", {})
        found = summarise(records_of(records, name), **how) if name else None
        return found.percent() if found else "–"

    rows = [(m, *(cell(names.get(column)) for column in columns)) for m, names in RESULTS.items()]
    return Table(("", *columns), tuple(rows))


def times(chapters: dict[str, NotebookNode], seconds: dict[str, int]) -> Table:
    """Return the minutes to read and to run each chapter."""
    rows = []
    for name, chapter in chapters.items():
        title = chapter.cells[0].source.splitlines()[0].removeprefix("# ")
        read = f"{max(1, round(words_of(chapter) / WORDS_A_MINUTE))}"
        run = f"{seconds[name] / 60:.1f}" if name in seconds else "–"
        rows.append((f"[{title}](chapters/{name}.ipynb)", read, run))
    return Table(("chapter", "minutes to read", "minutes to run"), tuple(rows))


def not_run(records: list[Record]) -> str:
    """Return a section on the experiments that have no record as they stand."""
    left = [name for name in EXPERIMENTS if not records_of(records, name)]
    rows = [(f"`{name}`", paper_text(name)) for name in left]
    if not left:
        return "## What nobody has run\n\nEvery experiment of the library has a record."
    command = "python -m mixem train NAME --download --results results"
    words = (
        f"{len(left)} of the {len(EXPERIMENTS)} experiments of the library have no record as "
        f"they stand. Most want a GPU. `{command}` makes one, and `python -m mixem reproduce` "
        "makes all, in order of value. Beside each stands the paper's accuracy in percent, if "
        "there is one; it leads to where we saw it."
    )
    table = Table(("experiment", "paper"), tuple(rows)).markdown()
    return f"## What nobody has run\n\n{words}\n\n{table}"
