"""What stands still is interrupted, then killed; what works is left alone."""

import subprocess
import sys

import pytest

from standstill import watch

SPIN = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass"
WAIT = "import time\ntime.sleep(600)"
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WAIT


def start(source: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", source], stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("source", "limit", "struck", "ends_with"),
    [
        (SPIN, 1, False, ""),
        (WAIT, 1, True, "KeyboardInterrupt\n"),
        (DEAF, 1, True, ""),
        ("import time\ntime.sleep(2)", None, False, ""),
    ],
    ids=["works", "waits", "ignores the interrupt", "no limit"],
)
def test_only_a_standstill_is_stopped(
    source: str,
    limit: float | None,
    struck: bool,
    ends_with: str,
) -> None:
    with watch(limit) as found:
        _, said = start(source).communicate()
    assert found.struck is struck
    assert said.endswith(ends_with) if ends_with else said == ""


@pytest.mark.parametrize(
    "first",
    ["", "child = subprocess.Popen([sys.executable, '-c', ''])"],
    ids=["none below", "a dead one below, for which nobody waits"],
)
def test_with_nothing_alive_below_the_waiting_one_is_interrupted(first: str) -> None:
    process = start(
        "import subprocess, sys, time\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from standstill import watch\n"
        "with watch(1):\n"
        f"    {first or 'pass'}\n"
        "    time.sleep(600)\n"
    )
    _, said = process.communicate()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said
