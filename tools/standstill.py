"""Stop what stands still, and let everything else take its time.

A limit in seconds cannot tell a slow machine from a cell that waits for ever. But what waits uses
no processor time, and what is only slow uses all that it gets.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

SHARE = 0.005  # of one core; an idle kernel uses a tenth of it
TICKS = 0.03  # seconds: how coarse some systems count
GRACE = 30.0  # seconds from the interrupt, which leaves a traceback, to the end by force

__all__ = ["Watch", "watch"]


class Watch:
    """A thread that interrupts the processes below this one when all of them stand still.

    Without any below, it interrupts this one. What was interrupted and still stands is killed.
    Looks are counted, not time: after a night of sleep, or Ctrl-Z, nothing is found too late.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.struck = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        own = psutil.Process()
        between = min(10.0, self.limit / 10)
        little = SHARE * self.limit + TICKS
        quiet, mark, asked = 0.0, 0.0, set()
        while not self._over.wait(between):
            watched = [p for p in own.children(recursive=True) if _lives(p)] or [own]
            now = _used(watched) - (time.thread_time() if watched == [own] else 0.0)  # of this look
            if abs(now - mark) > little:  # less, when a process has ended
                quiet, mark = 0.0, now
            quiet += between
            if quiet < self.limit:
                continue
            self.struck = True
            for process in watched:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL if process in asked else signal.SIGINT)
            asked.update(watched)
            quiet = max(0.0, self.limit - GRACE)


def _lives(process: psutil.Process) -> bool:
    """Whether a process has not ended; a dead kernel is kept as a zombie by who waits for it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _used(processes: list[psutil.Process]) -> float:
    """Processor seconds of ``processes`` and of those below them that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # user and system, own and of ended children
    return total


@contextmanager
def watch(limit: float | None) -> Iterator[Watch]:
    """Watch the processes started inside the block.

    Args:
        limit: Seconds without processor time after which they are stopped, None for never.

    Yields:
        The watch; its ``struck`` says whether something was stopped. To say so is the caller's.
    """
    found = Watch(limit or 0)
    if limit:
        found._thread.start()
    try:
        yield found
    finally:
        found._over.set()
        if limit:
            found._thread.join()
