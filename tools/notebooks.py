"""Normalise the chapters' notebooks, and check what every chapter must have.

    python tools/notebooks.py check chapters/*.ipynb
    python tools/notebooks.py normalise chapters/*.ipynb

A normalised notebook holds nothing of the run but its results: no times, no paths of the machine,
no random identifiers, no widgets. Two runs with the same results give the same bytes.
"""

import argparse
import ast
import copy
import hashlib
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = {"profile": "quick", "seed": 0, "device": "auto"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
CELL_METADATA = ("tags", "mystnb", "cellView")  # what the book, nbval and Colab read
WIDGET = "application/vnd.jupyter.widget-view+json"
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
FEWEST_WORDS = 5  # an alt text shorter than this describes nothing


def repository() -> str:
    """Return the address of the repository, which stands in ``_config.yml`` alone."""
    return yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["repository"]["url"]


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of ``notebook`` without the traces of the run."""
    clean = copy.deepcopy(notebook)
    clean.metadata = nbformat.from_dict(METADATA)
    clean.nbformat, clean.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    count = 0
    for cell in clean.cells:
        cell.metadata = NotebookNode(
            {key: cell.metadata[key] for key in CELL_METADATA if cell.metadata.get(key)}
        )
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[name] += 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        if cell.cell_type == "code":
            if cell.execution_count is not None:
                count += 1
                cell.execution_count = count
            cell.outputs = _normalise_outputs(cell.outputs, cell.execution_count, cell.id)
    return clean


def _normalise_outputs(
    outputs: list[NotebookNode], count: int | None, cell: str
) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    streams: dict[str, NotebookNode] = {}
    for output in outputs:
        if output.output_type == "stream":
            output.text = _normalise_text(output.text, cell)
            # How a stream is cut into pieces depends on timing.
            if output.name in streams:
                streams[output.name].text += output.text
                continue
            streams[output.name] = output
        elif output.output_type in ("display_data", "execute_result"):
            if WIDGET in output.data:
                continue
            for kind, content in output.data.items():
                if isinstance(content, str) and kind.startswith("text/"):
                    output.data[kind] = _normalise_text(content, cell)
            output.metadata = NotebookNode(
                {kind: size for kind, size in output.metadata.items() if kind in IMAGES}
            )
            if output.output_type == "execute_result":
                output.execution_count = count
        kept.append(output)
    return kept


def _normalise_text(text: str, cell: str) -> str:
    text = text.replace(f"{ROOT}/", "").replace(str(Path.home()), "~")
    text = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x…", text)
    return re.sub(r"\bT_[0-9a-f]{5,}(?=\b|_)", f"T_{cell}", text)  # pandas' table styles


def problems(notebook: NotebookNode, address: str) -> list[str]:
    """Return what ``notebook`` lacks as a chapter, one line each.

    Args:
        notebook: The chapter.
        address: The repository's address, from which the Colab cell installs.
    """
    found: list[str] = []
    cells = notebook.cells
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    if not cells or not cells[0].source.startswith("# "):
        found.append("does not begin with a title ('# ...')")
    found += _parameter_problems(code)
    if not any("google.colab" in cell.source and address in cell.source for cell in code):
        found.append(f"has no cell that installs {address} on Colab (see CONTRIBUTING.md)")
    for before, cell in zip([None, *cells], cells, strict=False):
        if cell in code and (before is None or before.cell_type != "markdown"):
            found.append(f"has no text before {_name(cell)}")
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"was not run from top to bottom: execution counts {counts}")
    for cell in code:
        found += [f"{_name(cell)} {problem}" for problem in _output_problems(cell)]
    if not found and normalise(notebook) != notebook:
        found.append("is not normalised: run 'python tools/notebooks.py normalise' on it")
    return found


def _parameter_problems(code: list[NotebookNode]) -> list[str]:
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        return [f"has {len(tagged)} cells tagged 'parameters', not one"]
    given: dict[str, Any] = {}
    for statement in ast.parse(tagged[0].source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            given[statement.targets[0].id] = ast.literal_eval(statement.value)
    return [
        f"must set {name} = {value!r} in its parameters, not {given.get(name)!r}"
        for name, value in PARAMETERS.items()
        if given.get(name) != value
    ]


def _output_problems(cell: NotebookNode) -> list[str]:
    found = []
    pictures = 0
    for output in cell.outputs:
        data = output.get("data", {})
        pictures += any(kind in data for kind in IMAGES)
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get(
            "tags", []
        ):
            found.append(f"ended with {output.ename}: {output.evalue}")
        if output.output_type == "stream" and output.name == "stderr":
            found.append(f"wrote to stderr: {output.text.strip()[:80]!r}")
        if re.search(r"<img(?![^>]*\salt=.[^>])", str(data.get("text/html", ""))):
            found.append("shows an <img> without alt text")
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    if pictures > 1:
        found.append(f"shows {pictures} figures; one alt text describes one figure")
    if pictures and len(alt.split()) < FEWEST_WORDS:
        found.append("shows a figure without alt text (metadata mystnb.image.alt)")
    return found


def _name(cell: NotebookNode) -> str:
    lines = [line for line in cell.source.splitlines() if line.strip()]
    return f"the code cell {lines[0][:60]!r}"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("command", choices=["check", "normalise"])
    parser.add_argument("notebooks", nargs="+", type=Path)
    arguments = parser.parse_args()
    failed = False
    for path in arguments.notebooks:
        notebook = nbformat.read(path, as_version=4)
        if arguments.command == "normalise":
            nbformat.write(normalise(notebook), path)
        else:
            for problem in problems(notebook, repository()):
                print(f"{path}: {problem}", file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
