"""What fifteen minutes of a GPU are for, in calls of at most ten minutes.

    python tools/gpu_quarter.py --out OUT look                            # about four minutes
    python tools/gpu_quarter.py --out OUT train cifar10/imc-swav --fit-minutes 6 --data FOLDER

``look`` tells the versions, runs the tests of a GPU, counts the launches of every recipe's step,
and takes the seconds an epoch, as it is and compiled, and the share of the matrix product's peak.
``train`` is ``python -m mixem reproduce ROW --fit-minutes``, on images of a folder in any layout
that ``load_images`` knows: --data for published files (cifar-10-batches-py, MNIST/raw, ...),
--images folder:PATH for pictures in class folders, PATH/train and PATH/test. Both stop by
themselves: --minutes. Whatever is found is in OUT at once, in JSON files, so that a call that is
killed leaves what it found. On a machine without pytest the tests are left out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mixem.checkpoint import write_json
from mixem.data import SHAPES, ImageSet
from mixem.devices import resolve_device, resolve_precision
from mixem.errors import InputError
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.fingerprint import hardware, versions
from mixem.profile import seconds_an_epoch
from mixem.reproduce import fit, rows_named
from mixem.training import Sitting
from mixem.training.meter import Meter
from mixem.training.step import Pass, Stepper, make_optimiser

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("cifar10/imc-swav", "cifar10/simclr", "cifar10/mixem", "mnist/iic", "cifar10/iic")
WARM_UP = 3  # steps
LATE = 10**6  # a step when all that is trained late is
BIG = 8192  # side of the matrices whose product gives the peak
Found = dict[str, Any]


class Sheet:
    """Findings, in a JSON file that is written anew after each.

    Args:
        file: Of the findings.
    """

    def __init__(self, file: Path):
        self.file, self.rows = file, []  # type: tuple[Path, list[Found]]

    def add(self, what: str, find: Callable[[], Found]) -> None:
        """A row, or what went wrong; the next one is worth as much."""
        began = time.monotonic()
        try:
            row = find()
        except Exception as error:
            row = {"error": f"{type(error).__name__}: {error}"[:400]}
        row = {"what": what, **row, "took": round(time.monotonic() - began, 2)}
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        write_json(self.file, self.rows)


def machine(device: torch.device) -> Found:
    """What this is."""
    found: Found = {"hardware": hardware(str(device)), **versions(), "cores": os.cpu_count()}
    if device.type == "cuda":
        found["memory"] = torch.cuda.mem_get_info(device)[1]
        found["capability"] = list(torch.cuda.get_device_capability(device))
    return found


def tests(device: torch.device, seconds: float) -> Found:
    """The tests of a GPU, in several processes where pytest-xdist is there."""
    if find_spec("pytest") is None:
        return {"left out": "no pytest here"}
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_cuda.py"]
    if find_spec("xdist"):
        command += ["-n", str(min(6, os.cpu_count() or 1))]
    environment = os.environ | {"MIXEM_TEST_DEVICE": device.type, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        return {"error": "the time was up", "last": str(error.stdout)[-1500:]}
    lines = done.stdout.splitlines()
    failed = [line[:400] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"code": done.returncode, "summary": lines[-1:], "failed": failed}


def peak(device: torch.device, precision: str, side: int) -> Found:
    """Operations a second of a large matrix product."""
    matrix = torch.rand(side, side, device=device, dtype=getattr(torch, precision))
    rates = []
    for _ in range(3):
        wait(device)
        began = time.perf_counter()
        for _ in range(10):
            matrix @ matrix
        wait(device)
        rates.append(20 * side**3 / (time.perf_counter() - began))
    return {"precision": precision, "rate": max(rates)}


def wait(device: torch.device) -> None:
    """Until the device has done all it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def launches(name: str, device: torch.device, batch: int | None) -> Iterator[tuple[str, Found]]:
    """Kernels of a step of each pass, time on device and host, and floating-point operations."""
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    experiment = get(name)
    config = experiment.override(
        training__batch_size=min(batch or experiment.training.batch_size, 1024)
    ).training
    channels, side, classes, _ = SHAPES[experiment.images]
    shape = (2 * config.batch_size * config.accumulate, channels, side, side)
    labels = torch.arange(shape[0]) % classes
    pixels = torch.randint(256, shape, dtype=torch.uint8)
    images = ImageSet(pixels, labels, tuple(map(str, range(classes))), name=experiment.images)
    method = build(experiment, channels=channels, seed=0)
    method.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    precision = resolve_precision("auto", device)
    optimiser = make_optimiser(method, config, device)
    stepper, meter = Stepper(method, optimiser, device=device, precision=precision), Meter()
    on_gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    for part in dict.fromkeys(method.passes):
        one = Pass(method, part, images, config, pixels.to(device))
        order = one.order(0, 0)

        def step(counter: Any = None, one: Pass = one, order: Any = order) -> None:
            stepper.step(one, order, meter, position=0, step=LATE, counter=counter)

        operations = FlopCounterMode(display=False)
        step(operations)
        for _ in range(WARM_UP - 1):
            step()
        wait(device)
        began = time.perf_counter()
        for _ in range(5):
            step()
        host = (time.perf_counter() - began) / 5  # until all was asked for
        wait(device)
        whole = (time.perf_counter() - began) / 5
        with profile(activities=kinds) as seen:
            step()
            wait(device)
        kernels = [e for e in seen.events() or () if e.device_type.name == "CUDA"]
        yield (
            f"{name}, {part}",
            {
                "batch": one.batch,
                "precision": precision,
                "kernels": len(kernels),
                "device_ms": sum(e.device_time_total for e in kernels) / 1000,
                "host_ms": 1000 * host,
                "step_ms": 1000 * whole,
                "operations": operations.get_total_flops() * config.accumulate,
            },
        )


def look(options: argparse.Namespace, device: torch.device) -> int:
    """Versions, tests, launches, speed."""
    began = time.monotonic()
    sheet = Sheet(options.out / "look.json")
    sheet.add("machine", lambda: machine(device))
    if not options.no_tests:
        sheet.add("tests", lambda: tests(device, min(150.0, 30 * options.minutes)))
    precision = resolve_precision("auto", device)
    sheet.add("peak", lambda: peak(device, precision, options.side))
    rate = sheet.rows[-1].get("rate")

    def spent() -> bool:
        return time.monotonic() - began > 60 * options.minutes

    for name in options.recipes:
        if spent():
            break
        every = launches(name, device, options.batch)
        for _ in dict.fromkeys(build(get(name), channels=1, seed=0).passes):

            def found(every: Iterator[tuple[str, Found]] = every) -> Found:
                title, row = next(every)
                share = row["operations"] / (row["step_ms"] / 1000) / rate if rate else None
                return {"step": title, **row, "share_of_peak": share}

            sheet.add(f"launches {name}", found)
    for compile in (False, True):  # compiling takes long: last, and may be cut off
        for name in options.recipes:
            if spent() or (compile and options.no_compile):
                break

            def speed(name: str = name, compile: bool = compile) -> Found:
                sitting = Sitting(device=str(device), compile=compile, progress=False)
                steps = 10 if device.type == "cuda" else 1
                seconds = seconds_an_epoch(
                    get(name), steps=steps, batch=options.batch, sitting=sitting
                )
                epochs = get(name).training.epochs
                return {"seconds_an_epoch": seconds, "hours": epochs * seconds / 3600}

            sheet.add(f"epoch of {name}, {'compiled' if compile else 'eager'}", speed)
    sheet.add("the end", lambda: {"in_time": not spent()})
    return 0


def train(options: argparse.Namespace, device: torch.device) -> int:
    """One row, fitted into the time; its record, or else its log, is in OUT."""
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)
        (options.out / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    (row,) = rows_named([options.row])
    sitting = Sitting(device=str(device), progress=False, checkpoint_seconds=60)
    record = fit(
        row,
        options.fit_minutes,
        seed=options.seed,
        results=options.out / "results",
        minutes=options.minutes,
        images=options.images,
        root=options.data,
        sitting=sitting,
        say=say,
    )
    if record:
        return 0
    for log in Path(os.environ.get("MIXEM_RUNS", "runs")).glob("*-fit-*/log.jsonl"):
        (options.out / f"{log.parent.name}.jsonl").write_bytes(log.read_bytes())
    return 3


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is found")
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("look", help="versions, tests, launches, seconds an epoch")
    part.add_argument("--minutes", type=float, default=4.0, help="nothing new is begun after it")
    part.add_argument("--recipes", nargs="+", default=RECIPES)
    part.add_argument("--batch", type=int, help="smaller batches, to try this on a CPU")
    part.add_argument("--side", type=int, default=BIG, help="of the matrices")
    part.add_argument("--no-tests", action="store_true")
    part.add_argument("--no-compile", action="store_true")
    part = parts.add_parser("train", help="train a row as far as the time allows")
    part.add_argument("row")
    part.add_argument("--fit-minutes", type=float, required=True)
    part.add_argument("--minutes", type=float, help="stop cleanly after it, finished or not")
    part.add_argument("--data", type=Path, help="folder of the published files")
    part.add_argument("--images", help="folder:PATH of pictures, in PATH/train and PATH/test")
    part.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        device = resolve_device(options.device)
        return {"look": look, "train": train}[options.part](options, device)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
