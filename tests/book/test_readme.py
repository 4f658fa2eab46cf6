"""The snippets of the README and of the landing page do what they say.

The Python blocks of a page are run as one script, from top to bottom. In console and bash
blocks the lines ``python -m mixem ...`` are run one after the other in one folder, in which
``photos/`` holds a few pictures; a line that stood on an earlier page is not run again, a
training that does not say how long takes two epochs, a profile one step of a few images, and
``reproduce`` is of the digits and stops at once.
Lines ``make ...`` must name a target. Other commands must be known here.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from mixem.experiments import EXPERIMENTS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "index.md"]


def blocks(page: str) -> list[tuple[str, str]]:
    """Return language and content of the fenced blocks of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / page).read_text("utf8"), re.M | re.S)


def commands(page: str) -> list[str]:
    """Return the commands of the shell blocks, without prompts, comments and shown output."""
    found: list[str] = []
    for language, block in blocks(page):
        if language in ("console", "bash", "sh", "shell"):
            lines = block.replace("\\\n", " ").splitlines()
            if any(line.startswith("$ ") for line in lines):
                lines = [line[2:] for line in lines if line.startswith("$ ")]
            parts = [shlex.split(line, comments=True) for line in lines]
            found += [shlex.join(part) for part in parts if part]
    return found


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )


def test_names_the_two_commands() -> None:
    assert {"make book", "make test"} <= set(commands("README.md"))


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: str, tmp_path: Path) -> None:
    script = tmp_path / "snippets.py"
    script.write_text("\n".join(block for language, block in blocks(page) if language == "python"))
    done = run(["-W", "error", script.name], tmp_path)
    assert done.returncode == 0, done.stderr


def test_mixem_commands_run(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, pixels in enumerate(load_digits().images[:12]):
        Image.fromarray((pixels * 15.9).astype("uint8")).resize((40, 32)).save(
            photos / f"{number}.png"
        )
    every = [command for page in PAGES for command in commands(page)]
    for command in dict.fromkeys(every):
        words = shlex.split(command)
        if words[:3] == ["python", "-m", "mixem"]:
            if words[3] == "train" and "training.epochs" not in command:
                words += ["--set", "training.epochs=2", "--set", "training.least_steps=0"]
            if words[3] == "profile":
                words += ["--set", "training.batch_size=8", "--steps", "1"]
            good = {0}
            if words[3] == "reproduce":  # of the digits, and not for long
                words = [word for word in words if word not in EXPERIMENTS]
                words.insert(4, "digits/simclr")
                if "--list" not in words:
                    words += ["--minutes", "0.01", "--quiet"]
                    good = {0, 3}  # 3 is a run that is not finished
            done = run(words[1:], tmp_path)
            assert done.returncode in good, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("command", sorted({c for page in PAGES for c in commands(page)}))
def test_other_commands_are_right(command: str) -> None:
    words = shlex.split(command)
    address = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["repository"]["url"]
    match words:
        case ["python", "-m", "mixem", *_]:
            pass  # run above
        case ["torchrun", "--standalone", "--nproc-per-node", _, "-m", "mixem", "train", name, *_]:
            assert name in EXPERIMENTS  # tests/test_distributed.py runs one
        case ["PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu", "make", "book"]:
            pass  # PyTorch's own index
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text("utf8")
            for target in targets:
                assert "=" in target or re.search(rf"^{re.escape(target)}:", makefile, re.M)
        case ["git", "clone", url, *_]:
            assert url == address
        case ["cd", folder]:
            assert folder == address.rsplit("/", 1)[1]
        case ["pip", "install", *packages]:
            assert [name for name in packages if not name.startswith("-")] == [f"git+{address}"]
        case ["conda", *_]:
            assert words[1:] in (
                ["env", "create", "-f", "environment.yml"],
                ["activate", "mixem"],
            )
        case _:
            pytest.fail(f"{command!r} is a command that no test knows")
