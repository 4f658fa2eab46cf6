"""The pages behind the numbers, and the links that lead there.

In a notebook a number links to its place in the repository. In the book the link goes to a page
here first: ``records.md`` shows the records of our runs, ``published-numbers.md`` where a paper's
number was seen. :func:`write` fills the two pages before the build, from the records and the
papers' data; as a Sphinx extension this module turns the links around.
"""

import re
import subprocess
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from mixem.linked import REPOSITORY
from mixem.papers import PAPERS, Paper, load_paper
from mixem.papers.after import FEATURES, published
from mixem.records import Record, load_records

OURS, THEIRS = "records", "published-numbers"
PLACE = re.compile(
    re.escape(REPOSITORY) + r"/(?:tree/main/(results/.+)|blob/main/(mixem/papers/.+#(?!L\d).+))"
)
logger = logging.getLogger(__name__)


def anchor(place: str) -> str:
    """Return the name of a place in the repository on the pages, which is a CSS name as well."""
    return re.sub("[^A-Za-z0-9]+", "-", place).strip("-")


def write(source: Path, root: Path) -> None:
    """Append to ``records.md`` and ``published-numbers.md`` what they are about.

    Args:
        source: Folder of the book's source, with the two pages.
        root: The repository.
    """
    for page, text in ((OURS, our_numbers(root)), (THEIRS, their_numbers(root))):
        with (source / f"{page}.md").open("a", encoding="utf8") as file:
            file.write("\n" + text)


def our_numbers(root: Path) -> str:
    """Return the records as Markdown: a chapter an experiment, a table a variant."""
    lines: list[str] = []
    added = commits(root)
    folder = root / "results"
    records = load_records(folder) if folder.is_dir() else []
    records.sort(key=lambda r: (r.experiment, r.place, r.seed))
    for experiment, some in groupby(records, lambda r: r.experiment):
        lines += [f"## {experiment}", ""]
        for place, group in groupby(some, lambda r: r.place):
            lines += _variant(place, list(group), added)
    return "\n".join(lines) if lines else "There are no records here.\n"


def _variant(place: str, records: list[Record], added: dict[str, str]) -> list[str]:
    first = records[0]
    lines = [f'<div id="{anchor(f"results/{place}")}"></div>', ""]
    if first.variant:
        lines += [f"### `{first.variant}`", ""]
    lines += ["```console", f"$ {first.command}", "```", ""]
    name = "pixel accuracy" if "mean_iou" in (first.metrics or {}) else "accuracy"
    lines += [f"| seed | {name} | minutes | commit | record |", "| --- " * 5 + "|"]
    for r in records:
        file = f"results/{place}/seed-{r.seed}.json"
        accuracy = f"{100 * r.metrics['accuracy']:.1f}" if r.metrics else "–"
        minutes = r.minutes + (r.start.minutes if r.start else 0)
        link = f"[JSON]({REPOSITORY}/blob/main/{file})"
        cells = (str(r.seed), accuracy, f"{minutes:.1f}", added.get(file, "–"), link)
        lines.append(f"| {' | '.join(cells)} |")
    versions = {f"PyTorch {r.versions.get('torch', 'unknown')}" for r in records}
    codes = {f"code {r.source[:8]}" for r in records}
    made = [{r.hardware for r in records}, {r.precision for r in records}, versions, codes]
    return [*lines, "", "; ".join(", ".join(sorted(words)) for words in made) + ".", ""]


def commits(root: Path) -> dict[str, str]:
    """Return the last commit that touched each record, by its file; {} where there is no git."""
    command = ["git", "log", "--format=commit %h", "--name-only", "--", "results"]
    try:
        done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    found: dict[str, str] = {}
    commit = ""
    for line in done.stdout.splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
        elif line:
            found.setdefault(line, commit)
    return found


def their_numbers(root: Path) -> str:
    """Return where the papers' numbers were seen, as Markdown: a section a table."""
    lines: list[str] = []
    for paper in map(load_paper, PAPERS):
        lines += _paper(paper, root)
    file = "mixem/papers/after.json"
    at = _lines_of_keys(root / file)
    lines += ["## What came after", ""]
    for features in FEATURES:
        for row in published(features):
            lines += [
                f'<div id="{anchor(f"{file}#{row.key}")}"></div>',
                "",
                f"**{row.label}**, {row.year}: {_linked_words('; '.join(row.sources))} "
                f"([data]({REPOSITORY}/blob/main/{file}#L{at[row.key]}))",
                "",
            ]
    return "\n".join(lines)


def _paper(paper: Paper, root: Path) -> list[str]:
    file = f"mixem/papers/{paper.key}.json"
    at = _lines_of_keys(root / file)
    lines = [f"## {paper.title}", "", f"{', '.join(paper.authors)}, {paper.year}.", ""]
    for table in paper.tables:
        sources: dict[str, list[str]] = {}
        for row in table.rows:
            for value in row.values.values():
                sources.setdefault(value.source, []).append(row.label)
        lines += [f'<div id="{anchor(f"{file}#{table.key}")}"></div>', "", f"### {table.caption}"]
        for source, labels in sources.items():
            rows = dict.fromkeys(labels)
            whose = "All" if len(sources) == 1 else ", ".join(rows)
            lines += ["", f"{whose}: {_linked_words(source)}"]
        lines += ["", f"[The numbers as data]({REPOSITORY}/blob/main/{file}#L{at[table.key]})", ""]
    return lines


def _lines_of_keys(file: Path) -> dict[str, int]:
    """The line on which the object with a key stands; of tables, whose keys come with a caption."""
    lines = file.read_text("utf8").splitlines()
    found: dict[str, int] = {}
    for number, (line, after) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
        key = re.match(r'\s*"key": "(.+?)"', line)
        of_table = re.match(r'\s*"caption"', after)
        if key and (of_table or key[1] not in found):
            found[key[1]] = number
    return found


def _linked_words(text: str) -> str:
    """Bare addresses as links, and nothing else as Markdown."""
    text = re.sub(r"([_*\[\]`<|])", r"\\\1", text)
    return re.sub(r"https?://[^\s,;)]+", lambda m: f"<{m[0].replace(chr(92), '')}>", text)


def turn(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Called by Sphinx for each page."""
    for node in doctree.findall(nodes.reference):
        found = PLACE.fullmatch(node.get("refuri", ""))
        if not found:
            continue
        name = anchor(found[1] or found[2])
        if name not in app.env.origins:  # type: ignore[attr-defined]
            logger.warning("%s leads nowhere", node["refuri"], location=node)
            continue
        there = app.builder.get_relative_uri(page, app.env.origins[name])  # type: ignore[attr-defined]
        node["refuri"] = f"{there}#{name}"
        node["internal"] = True


def read(app: Sphinx) -> None:
    """Called by Sphinx before it reads the pages."""
    app.env.origins = {  # type: ignore[attr-defined]
        name: page
        for page in (OURS, THEIRS)
        for name in re.findall(
            r'<div id="(.+?)">', Path(app.srcdir, f"{page}.md").read_text("utf8")
        )
    }


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", read)
    app.connect("doctree-resolved", turn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
