"""What is said of work that takes time: within two seconds, and how far it is.

Bars and the word that something is under way are for somebody who looks at a terminal; in a file
or a notebook they would be noise. What :func:`say` says is said everywhere.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

__all__ = ["bar", "duration", "say", "working"]

DELAY = 1.0  # seconds that work may take before a bar is shown
PATIENCE = 1.5  # seconds without a word

_waiting: list[threading.Timer] = []


def bar(total: int, what: str, unit: str = "images", *, initial: int = 0, show: bool = True) -> Any:
    """A progress bar that a terminal shows if the work takes more than a second.

    Args:
        total: Of the units to be done.
        what: The work, a word or two.
        unit: What is counted.
        initial: Of them, done before.
        show: False for no bar.
    """
    return tqdm(
        total=total, initial=initial, desc=what, unit=f" {unit}", delay=DELAY, leave=False,
        disable=None if show else True,
    )  # fmt: skip


def say(text: str) -> None:
    """Print a line on stderr, above a bar if there is one."""
    _hush()
    if sys.stderr is not None:
        tqdm.write(f"mixem: {text}", file=sys.stderr)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Inside, say what is under way if nothing else has been said after a second and a half."""
    timer = threading.Timer(PATIENCE, say, [f"{what} ..."])
    timer.daemon = True
    if sys.stderr is not None and sys.stderr.isatty():
        _waiting.append(timer)
        timer.start()
    try:
        yield
    finally:
        _hush()


def _hush() -> None:
    while _waiting:
        _waiting.pop().cancel()


def duration(seconds: float) -> str:
    """A time as people say it: with two digits at most where more would be made up.

    >>> duration(40), duration(90), duration(5400), duration(200_000)
    ('40 seconds', '2 minutes', '1.5 hours', '2.3 days')
    """
    for unit, length, digits in (("days", 86400, 1), ("hours", 3600, 1), ("minutes", 60, 0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{digits}f} {unit}"
    return f"{seconds:.0f} seconds"
