"""The package as a whole: lazy modules, one version, types for the users' checkers."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mixem

ROOT = Path(__file__).resolve().parents[1]


def fresh(script: str) -> str:
    """Run ``script`` in a new interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def test_a_module_is_loaded_when_it_is_used() -> None:
    printed = fresh(
        "import sys, mixem\n"
        "print('losses' in dir(mixem), 'torch' in sys.modules)\n"
        "print(mixem.losses.nt_xent.__name__, 'torch' in sys.modules)\n"
    )
    assert printed == "True False\nnt_xent True\n"


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(mixem, "loses")
    with pytest.raises(AttributeError, match="module 'mixem' has no attribute 'loses'"):
        mixem.loses  # noqa: B018


def test_dir_has_public_modules_only() -> None:
    names = dir(mixem)
    assert {"losses", "data", "__version__"} <= set(names)
    assert "__main__" not in names


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mixem.__version__"}
    assert mixem.__version__.count(".") == 2
    changelog = (ROOT / "CHANGELOG.md").read_text("utf8")
    assert f"\n## {mixem.__version__}" in changelog


def test_types_are_shipped() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]
    assert "py.typed" in data["package-data"]["mixem"]
    assert (ROOT / "mixem" / "py.typed").read_bytes() == b""
