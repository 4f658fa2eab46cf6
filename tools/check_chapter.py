"""Run chapters again and compare their text outputs with the committed ones.

    python tools/check_chapter.py chapters/04-mixem.ipynb

nbval does it, without its limits on time.
"""

import argparse
import os
import sys
from pathlib import Path

import pytest

from standstill import watch

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 600  # seconds for a kernel to start, or to hand over an output: busy machines need them
ANY_TIME = 10**6  # seconds; nbval wants a number
OPTIONS = [
    "--nbval",
    "--nbval-current-env",
    f"--nbval-cell-timeout={ANY_TIME}",
    f"--nbval-kernel-startup-timeout={PATIENCE}",
    f"--nbval-sanitize-with={ROOT / 'tests' / 'book' / 'sanitize.cfg'}",
]


class Patient:
    """Gives every cell time to hand over its outputs; nbval has no option for it."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Called by pytest."""
        for item in items:
            item.output_timeout = PATIENCE  # type: ignore[attr-defined]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("chapters", nargs="+", type=Path)
    parser.add_argument("--still", type=float, help="stop after so many seconds at a standstill")
    arguments = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars never look the same twice
    with watch(arguments.still) as watched:
        code = pytest.main([*OPTIONS, *map(str, arguments.chapters)], plugins=[Patient()])
    if watched.struck:
        print(f"Stopped: no processor time was used for {arguments.still:g} s.", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
