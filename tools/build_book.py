"""Build the HTML of the book from executed chapters. Nothing is executed here.

    python tools/build_book.py --chapters _build/chapters --out .

The book is put together in OUT/_build/source, so that executed chapters reach the HTML without
touching the committed ones. The HTML is in OUT/_build/html. Any warning is an error.

With --partly a chapter that was not run, or failed, is the committed one, and warnings are only
printed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import back_matter
import origins
import reference

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("_config.yml", "_toc.yml", "references.bib")
FOLDERS = ("_static", "third_party", "chapters")


def pages() -> list[str]:
    """Return the names of the pages that stand beside the table of contents and in it."""
    return re.findall(r"\b(?:root|file): ([\w-]+)$", (ROOT / "_toc.yml").read_text("utf8"), re.M)


def stage(chapters: Path, source: Path, *, partly: bool = False) -> None:
    """Lay out the book's source in ``source``, with the notebooks of ``chapters``.

    If ``partly``, a notebook that is not there is the committed one.
    """
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in [*SOURCES, *(f"{page}.md" for page in pages())]:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(".*"))
    for notebook in (source / "chapters").glob("*.ipynb"):
        if partly and not (chapters / notebook.name).exists():
            print(f"chapters/{notebook.name} is the committed one", file=sys.stderr)
        else:
            shutil.copy(chapters / notebook.name, notebook)
    for part in ("methods", "experiments"):  # a page shows code from its source
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "mixem" / part, source / "mixem" / part, ignore=ignore)
    reference.write(source, ROOT / "mixem")
    origins.write(source, ROOT)
    back_matter.write(source, ROOT)


def build(chapters: Path, out: Path, *, partly: bool = False) -> Path:
    """Build the book and return the folder of the HTML. Prints only what goes wrong.

    Args:
        chapters: Folder of the executed notebooks.
        out: The HTML goes to ``out/_build/html``.
        partly: Notebooks that are missing there are the committed ones; warnings are no errors.

    Raises:
        subprocess.CalledProcessError: If a page has a warning or an error.
    """
    source = out / "_build" / "source"
    stage(chapters, source, partly=partly)
    # --all: a page left from an earlier build would not show its warnings again.
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(source)]
    options = ["--path-output", str(out), "--all", "-n", "--keep-going", *["-W"] * (not partly)]
    # The reference shows the library beside this file, whatever else is installed.
    tools = Path(__file__).parent
    path = os.pathsep.join(filter(None, [str(ROOT), str(tools), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL, env=environment)
    return out / "_build" / "html"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--chapters", type=Path, default=ROOT / "chapters")
    parser.add_argument("--out", type=Path, default=ROOT)
    parser.add_argument("--partly", action="store_true", help="take what was run")
    arguments = parser.parse_args()
    try:
        html = build(arguments.chapters, arguments.out, partly=arguments.partly)
    except subprocess.CalledProcessError:
        print("The book was not built: see the warnings above.", file=sys.stderr)
        return 1
    print(f"The book: {html / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
