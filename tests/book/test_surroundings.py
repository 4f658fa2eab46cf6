"""The files around the book agree with each other, and the Makefile fails as it should."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml


def config(root: Path) -> dict:
    return yaml.safe_load((root / "_config.yml").read_text("utf8"))


def texts(root: Path) -> list[Path]:
    return [
        *root.glob("*.md"),
        *root.glob("chapters/*.ipynb"),
        *root.glob("chapters/*.md"),
        *root.glob("mixem/**/*.py"),
        root / "pyproject.toml",
    ]


def test_one_address_of_the_repository(root: Path) -> None:
    address = config(root)["repository"]["url"]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]
    assert project["urls"]["Repository"] == address
    owner, name = address.split("/")[-2:]
    for path in texts(root):
        for found in re.findall(rf"github\.com/([\w-]+)/{name}(?![\w-])", path.read_text("utf8")):
            assert found == owner, f"{path} names github.com/{found}/{name}"


def test_nothing_installs_the_other_project_called_mixem(root: Path) -> None:
    for path in texts(root):
        wrong = re.findall(r"pip3? install[^\n]*\s\"?mixem(?![\w/-])", path.read_text("utf8"))
        assert not wrong, f"{path}: {wrong}: that name belongs to another project"


def test_launch_buttons_are_not_lost(root: Path) -> None:
    book = config(root)
    assert "html_theme_options" not in book["sphinx"]["config"]
    assert book["launch_buttons"]["colab_url"]


def test_mathjax_is_in_the_repository(root: Path) -> None:
    settings = config(root)["sphinx"]["config"]
    served = (Path("_static") / settings["mathjax_path"]).as_posix()
    (folder,) = settings["html_extra_path"]
    script = root / folder / served.removeprefix("_static/../")
    assert script.is_file()
    assert (script.parent / "LICENSE").is_file()
    assert list((script.parent / "output" / "chtml" / "fonts" / "woff-v2").glob("*.woff"))


def test_contributing_is_short(root: Path) -> None:
    assert len((root / "CONTRIBUTING.md").read_text("utf8").splitlines()) < 75


def test_workflow_tests_the_oldest_and_the_newest_python(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]
    supported = [
        match[1] for name in project["classifiers"] if (match := re.search(r":: (3\.\d+)$", name))
    ]
    workflow = yaml.safe_load((root / ".github/workflows/ci.yml").read_text("utf8"))
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tested == [supported[0], supported[-1]]
    assert project["requires-python"] == f">={supported[0]}"


def test_other_versions_of_the_tools_are_those_of_pyproject(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"][
        "optional-dependencies"
    ]
    pinned = {name for group in extras.values() for name in group}
    ruff, local = yaml.safe_load((root / ".pre-commit-config.yaml").read_text("utf8"))["repos"]
    assert f"ruff=={ruff['rev'].removeprefix('v')}" in pinned
    wanted = local["hooks"][0]["additional_dependencies"]
    assert [name for name in wanted if "==" in name and name not in pinned] == []
    workflow = yaml.safe_load((root / ".github/workflows/ci.yml").read_text("utf8"))
    steps = "\n".join(step.get("run", "") for step in workflow["jobs"]["oldest"]["steps"])
    assert next(name for name in pinned if name.startswith("pytest==")) in steps


def test_citation_names_the_book_and_its_address(root: Path) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf8"))
    assert citation["title"] == config(root)["title"]
    assert citation["repository-code"] == config(root)["repository"]["url"]
    assert citation["authors"] == [{"name": config(root)["author"]}]
    assert {"cff-version", "message", "type", "license"} <= set(citation)


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=root, capture_output=True, text=True)


def test_help_lists_every_target(root: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (root / "Makefile").read_text("utf8"), re.M)
    assert phony
    listed = re.findall(r"^make ([\w-]+)", make(root, "help").stdout, re.M)
    assert sorted(listed) == sorted(phony[1].split())


@pytest.mark.parametrize("python", ["", "false"], ids=["none", "too old"])
def test_without_a_new_python_there_is_one_clear_line(
    root: Path, tmp_path: Path, python: str
) -> None:
    done = make(root, f"{tmp_path}/.installed", f"VENV={tmp_path}", f"PYTHON={python}")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert said[0].startswith("Python 3.11 or newer is needed")
    assert not list(tmp_path.iterdir())


def test_failed_install_leaves_no_stamp(root: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;\n'
        '"-m pip install "*) echo "no network" >&2; exit 1 ;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    venv = tmp_path / "venv"
    done = make(root, f"{venv}/.installed", f"VENV={venv}", f"PYTHON={python}")
    assert done.returncode != 0
    assert "no network" in done.stderr
    assert (venv / "bin" / "python").exists()
    assert not (venv / ".installed").exists()
