"""Run all benchmarks and write their results to README.md beside this file.

    python benchmarks/readme.py

Needs ``pip install -e '.[bench]'``. What is printed with ``--only`` is not written.
"""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

import augment
import features
import growth
import launches
import losses
import methods
import reach
import segmentation
import steps
import torch
from timing import Row, Speed, machine

from mixem.records import Table

PREFACE = """# Benchmarks

`make bench` measures this and writes this file; `make bench BENCH="--device cuda"` on a GPU, with
two goals more. What is compared takes turns in one run: other work on the machine falls on all of
it, so trust the ratios more than the milliseconds. A time is the median over the rounds, a ratio
the median of the rounds' ratios, with the least and the greatest. A loss is timed forward and
backward, after its values and gradients were found equal to the other's in float64. A ratio above
1 means that ours is faster; beside a matrix product it is the share of its speed. The goals are
our own.
"""
GROWTH = f"""## Cost of growth

Exponents of the curves that fit time and memory best, forward and backward, while one size doubles
and all others stay; in brackets what is expected at most, and "steeper" where it is exceeded by
more than {growth.TOLERANCE}. Fixed costs make an exponent smaller, outgrown caches make it larger.
Times are the least of the rounds; the memory is what a loss holds at most beyond its arguments.
Only NT-Xent grows with the square of the batch, by its 2B x 2B similarities. Its memory does not
grow with the embedding: it never holds a vector for each pair.
"""
LAUNCHES = """## Operations a step

What a training step asks of its device, by part of the step: on a GPU each is a launch or more, and
small networks wait for them. Counted on the CPU; what only makes a view of a tensor is left out.
"""
REACH = """## Seconds to an accuracy

The digits by the book's recipes with shorter schedules. The accuracy is that of the last epoch,
mean and range over three seeds; the seconds are the training of the slowest seed.
"""
PARTS = {
    "augment": augment.rows,
    "features": features.rows,
    "losses": losses.rows,
    "segmentation": segmentation.rows,
    "steps": steps.rows,
    "methods": methods.rows,
}
OTHERS = ("launches", "reach", "growth")
HELD = """## Memory of IIC's segmentation loss

The most that is held at once beyond the maps, forward and backward, beside the published
convolution.
"""


def spread(speed: Speed) -> str:
    """Median, least and greatest of a ratio."""
    return f"{speed.median:.2f} ({speed.least:.2f} to {speed.greatest:.2f})"


def rows_table(rows: Iterable[Row]) -> Table:
    """Ours beside theirs."""
    cells = [
        (
            row.what,
            f"{row.ours.median:.3g}",
            row.against,
            f"{row.theirs.median:.3g}",
            spread(row.ratio),
            "" if row.goal is None else f"{row.goal:g}",
            "" if row.goal is None else "met" if row.met else "not met",
        )
        for row in rows
    ]
    return Table(("what", "ours, ms", "against", "theirs, ms", "ratio", "goal", ""), tuple(cells))


def missed(rows: Iterable[Row]) -> list[str]:
    """For what misses a goal, where its time goes."""
    why = {}
    for row in rows:
        if not row.met and row.why and row.what not in why:
            why[row.what] = row.why()
    return [f"- {what}: {text}." for what, text in why.items()]


def held_table(found: Iterable[segmentation.Held]) -> Table:
    """Bytes of ours beside theirs."""
    cells = [(one.what, *(growth.size_of(number) for number in one[1:])) for one in found]
    return Table(("what", "ours", "theirs"), tuple(cells))


def growth_table(found: Iterable[growth.Found]) -> Table:
    """Exponents beside what is expected."""
    cells = [
        (
            one.growth.loss,
            f"{one.growth.size}, {one.growth.sizes[0]} to {one.growth.sizes[-1]}",
            f"{one.times[-1]:.3g} ms",
            f"{one.time:.2f} ({one.growth.time})",
            growth.size_of(one.bytes[-1]),
            f"{one.memory:.2f} ({one.growth.memory})",
            "as expected" if one.expected else "steeper",
        )
        for one in found
    ]
    columns = ("loss", "against", "largest takes", "time", "and holds", "memory", "")
    return Table(columns, tuple(cells))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", choices=[*PARTS, *OTHERS], metavar="PART")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("README.md"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    load = os.getloadavg()[0]  # before we add to it
    text = [PREFACE, f"On {machine(given.device)}; load {load:.1f} before the run.\n"]
    chosen = given.only or [*PARTS, *OTHERS]
    rows = []
    for part in PARTS:
        if part in chosen:
            new = list(PARTS[part](given.device))
            print(rows_table(new), end="\n\n", flush=True)
            rows += new
    if rows:
        text += ["## Beside what is used instead\n", rows_table(rows).markdown() + "\n"]
    if why := missed(rows):
        text += ["Where the time goes where a goal is not met:\n", "\n".join(why) + "\n"]
    if "segmentation" in chosen:
        text += [HELD, held_table(segmentation.held(given.device)).markdown() + "\n"]
    if "launches" in chosen:
        text += [LAUNCHES, launches.table().markdown() + "\n"]
    if "reach" in chosen:
        text += [REACH, reach.table(given.device).markdown() + "\n"]
    if "growth" in chosen:
        found = growth.found(given.device, [*growth.growths(), *segmentation.growths()])
        text += [GROWTH, growth_table(found).markdown() + "\n"]
    print("\n".join(text))
    if not given.only:
        given.out.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
