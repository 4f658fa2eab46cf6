"""Checking chapters: outputs are compared, however long a cell takes; what hangs is stopped."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

import notebooks


def write(path: Path, source: str, printed: str) -> Path:
    """Write a chapter of one executed cell."""
    outputs = [v4.new_output("stream", text=printed)] if printed else []
    cell = v4.new_code_cell(source, outputs=outputs, execution_count=1)
    nbformat.write(v4.new_notebook(cells=[cell], metadata=notebooks.METADATA), path)
    return path


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = notebooks.ROOT / "tools" / "check_chapter.py"
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True
    )


def test_the_same_output_passes_and_another_fails(tmp_path: Path) -> None:
    same = write(tmp_path / "same.ipynb", "print(6 * 7)", "42\n")
    other = write(tmp_path / "other.ipynb", "print(6 * 7)", "41\n")
    assert check(same).returncode == 0
    done = check(same, other)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout


def test_a_cell_that_works_is_given_its_time(tmp_path: Path) -> None:
    source = "import time\nend = time.monotonic() + 4\nwhile time.monotonic() < end: pass"
    done = check(write(tmp_path / "slow.ipynb", source, ""), "--still", "1.5")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("import time; time.sleep(600)", "KeyboardInterrupt"),
        ("import os; os._exit(1)", "KeyboardInterrupt"),  # nbval waits for a kernel that is gone
    ],
    ids=["waiting", "dead"],
)
def test_a_standstill_ends(tmp_path: Path, source: str, shown: str) -> None:
    done = check(write(tmp_path / "hangs.ipynb", source, ""), "--still", "1.5")
    assert done.returncode != 0
    assert "Stopped: no processor time was used for 1.5 s." in done.stderr
    assert shown in done.stdout
