"""What the options of several commands share: paths and numbers that are checked at once."""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["Output", "given", "given_path", "max_pixels_option", "number", "output", "whole_number"]

LONGEST = 10_000_000
LARGEST = 2**53  # of a whole number: more than anybody has of anything


def given(text: str) -> str:
    """Text of an option that must not be empty, as that of a shell's unset variable is."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; give a path or a name")
    return text


def given_path(text: str) -> Path:
    """A path that is not empty, which would be the current folder."""
    return Path(given(text))


class Output(type(Path())):  # type: ignore[misc]
    """A path that remembers whether it was given as that of a folder."""

    folder = False


def output(text: str) -> Path:
    """A path to write to."""
    path = Output(given(text))
    path.folder = text.endswith(("/", os.sep))
    return path


def number(text: str) -> float:
    """A number from 0 on; of minutes at most some twenty years, which a calendar still knows."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LONGEST:
        what = f"to {LONGEST:,}" if value > LONGEST else "on"
        raise argparse.ArgumentTypeError(f"{text[:40]!r}; give a number from 0 {what}")
    return value


def whole_number(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """The type of an option that is a whole number from ``least`` to ``most``."""

    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # also of thousands of digits
            value = least - 1
        if not least <= value <= most:
            what = "on" if value <= most == LARGEST else f"to {most}"
            raise argparse.ArgumentTypeError(
                f"{text[:40]!r}; give a whole number from {least} {what}"
            )
        return value

    return whole


def max_pixels_option(parser: argparse.ArgumentParser) -> None:
    """Give a command that reads folders ``--max-pixels``."""
    parser.add_argument(
        "--max-pixels", type=whole_number(1), metavar="N",
        help="also read pictures of up to N pixels (default: Pillow's limit, about 89 million)",
    )  # fmt: skip
