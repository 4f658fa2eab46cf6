"""Run one chapter in its own folder and write the executed, normalised copy.

    python tools/run_chapter.py chapters/04-mixem.ipynb _build/chapters/04-mixem.ipynb

A chapter that fails is left beside OUT, as ``NAME.failed.ipynb``, with the error in its cell.

In the profile ``paper``, whose trainings take hours, warnings and claims that do not hold are
printed and kept in the chapter, and are no failure. No training of a cell takes more than some
minutes there: ``python -m mixem reproduce`` trains before, and the chapter loads what it finds.
"""

import argparse
import ast
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from notebooks import ROOT, normalise, problems, repository
from standstill import watch

MOST_MINUTES = 15  # of training in the cells of a chapter, in the profile paper
CLAIM = "AssertionError"  # what a claim that does not hold raises
KEPT = (f"ended with {CLAIM}", "wrote to stderr", "is not normalised")
MARK = "papermill-error-cell-tag"  # of the cells that papermill adds to a notebook that failed
PATIENCE = 600  # seconds for a kernel to start, or to hand over an output: busy machines need them


class ChapterError(Exception):
    """The chapter cannot be run, or its run went wrong: one line."""


def changed_parameters(chapter: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return those of the ``wanted`` parameters that differ from the chapter's own.

    papermill passes a misspelt name in silence and injects a cell even for a default.
    """
    try:
        known = papermill.inspect_notebook(str(chapter))
    except (OSError, ValueError) as error:
        raise ChapterError(f"cannot be read: {error}") from None
    for name in wanted:
        if name not in known:
            raise ChapterError(f"has no parameter {name!r}; it has {', '.join(known) or 'none'}")
    return {
        name: value
        for name, value in wanted.items()
        if ast.literal_eval(known[name]["default"]) != value
    }


def check_kernel() -> None:
    """Make sure that the kernel ``python3`` is this environment's, not one the user installed."""
    command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    if Path(command).name != command and Path(command).parent != Path(sys.executable).parent:
        raise ChapterError(f"would run in another Python ({command}): unset JUPYTER_PATH")


def run(chapter: Path, out: Path, *, profile: str, still: float | None) -> None:
    """Execute ``chapter`` with papermill and write the normalised result to ``out``.

    Args:
        chapter: The notebook. It runs in its own folder, as in Jupyter.
        out: Where the executed copy goes. It appears only if everything went well.
        profile: Value of the chapter's parameter ``profile``.
        still: Seconds without processor time after which a cell is stopped, None for never. How
            long a cell takes has no limit.

    Raises:
        ChapterError: If a cell fails, or the executed chapter is not what a chapter must be. In
            the profile "paper" failing claims and stderr are printed instead.
    """
    lenient = profile == "paper"
    out.parent.mkdir(parents=True, exist_ok=True)
    runs = os.environ.setdefault("MIXEM_RUNS", str(ROOT / "runs"))
    if lenient:
        os.environ.setdefault("MIXEM_MOST_MINUTES", str(MOST_MINUTES))
        print(f"{chapter}: what is trained shows in {runs}/*/log.jsonl", flush=True)
    failed = out.with_suffix(".failed.ipynb")
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars never look the same twice
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    check_kernel()
    with watch(still) as watched:
        try:
            papermill.execute_notebook(
                str(chapter),
                str(failed),
                parameters=changed_parameters(chapter, {"profile": profile}),
                cwd=str(chapter.parent),
                kernel_name="python3",
                progress_bar=False,
                start_timeout=PATIENCE,
                iopub_timeout=PATIENCE,
                extra_arguments=["--log-level=CRITICAL"],  # of the kernel: it chats on our stderr
                allow_error_names=[CLAIM] * lenient,
            )
        except PapermillExecutionError as error:
            line = f"failed in [{error.exec_count}]: {error.ename}: {error.evalue}".splitlines()[0]
            if watched.struck:
                line = f"used no processor time for {still:g} s in [{error.exec_count}]"
            if not lenient or error.ename != CLAIM:  # after a claim all other cells were run
                raise ChapterError(f"{line} (see {failed})") from None
        except (CellTimeoutError, DeadKernelError, RuntimeError) as error:  # the last: at the start
            raise ChapterError(f"stopped: {str(error).splitlines()[0]} (see {failed})") from None
    executed = nbformat.read(failed, as_version=4)
    executed.cells = [c for c in executed.cells if MARK not in c.metadata.get("tags", [])]
    executed = normalise(executed)
    wrong = problems(executed, repository())
    # A run with other parameters has a cell for them, injected without text before it.
    wrong = [problem for problem in wrong if "# Parameters" not in problem]
    kept = [problem for problem in wrong if lenient and any(word in problem for word in KEPT)]
    for problem in kept:
        print(f"{chapter}: kept: {problem}", file=sys.stderr, flush=True)
    if wrong := [problem for problem in wrong if problem not in kept]:
        raise ChapterError("; ".join(wrong))
    nbformat.write(executed, out)
    failed.unlink()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("chapter", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--profile", default="quick", help="quick (default) or paper")
    parser.add_argument("--still", type=float, help="stop after so many seconds at a standstill")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        run(
            arguments.chapter,
            arguments.out,
            profile=arguments.profile,
            still=arguments.still,
        )
    except ChapterError as error:
        print(f"{arguments.chapter} {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{arguments.chapter} was interrupted", file=sys.stderr)
        return 130
    print(f"{arguments.chapter}: run in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
