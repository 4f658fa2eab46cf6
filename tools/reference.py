"""Write the pages of the library's reference, one a public module. Sphinx fills them.

    python tools/reference.py

says what is wrong with the docstrings, much sooner than the whole book. The list of modules is read
from the package, so that a new module has its page. A module with ``__all__`` shows what stands
there, one without shows all that it defines.
"""

import ast
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("cli",)  # told by --help


def modules(package: Path) -> dict[str, str]:
    """Return the public modules right below ``package`` and the first line of their docstrings."""
    found = {}
    for path in [*package.glob("*.py"), *package.glob("*/__init__.py")]:
        name = path.parent.name if path.name == "__init__.py" else path.stem
        if path.parent != package or path.name != "__init__.py":
            if name.startswith("_") or name in COMMANDS:
                continue
            words = ast.get_docstring(ast.parse(path.read_text("utf8"))) or ""
            found[name] = words.split("\n\n")[0].replace("\n", " ")
    return dict(sorted(found.items()))


def write(source: Path, package: Path) -> None:
    """Write ``api/MODULE.rst`` for every module and list them at the end of ``api.md``.

    Args:
        source: Folder of the book's source, with ``api.md``.
        package: The package's folder.
    """
    folder = source / "api"
    folder.mkdir()
    lines = []
    for name, words in modules(package).items():
        title = f"{package.name}.{name}"
        page = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {title}\n   :members:\n"
        (folder / f"{name}.rst").write_text(page, "utf8")
        lines.append(f"[`{title}`](api/{name}.rst)\n: {words}\n")
    with (source / "api.md").open("a", encoding="utf8") as index:
        index.write("\n" + "\n".join(lines))


def main() -> int:
    """Build the reference alone, with the book's settings, and print its warnings."""
    book = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["sphinx"]["config"]
    used = ("autodoc_", "napoleon_", "nitpick_")
    settings = {name: value for name, value in book.items() if name.startswith(used)}
    settings["extensions"] = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
    settings["myst_enable_extensions"] = ["deflist"]
    settings["root_doc"] = "api"
    with TemporaryDirectory() as folder:
        source = Path(folder)
        lines = [f"{name} = {value!r}" for name, value in settings.items()]
        lines.append(f"import sys; sys.path.insert(0, {str(ROOT)!r})")
        (source / "conf.py").write_text("\n".join(lines), "utf8")
        (source / "api.md").write_text(
            "# Reference\n\n```{toctree}\n:glob:\napi/*\n```\n", encoding="utf8"
        )
        write(source, ROOT / "mixem")
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "dummy"]
        return subprocess.run([*command, source, source / "out"]).returncode


if __name__ == "__main__":
    sys.exit(main())
