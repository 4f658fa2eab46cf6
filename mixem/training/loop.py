"""The one training loop.

It takes the steps of :mod:`mixem.training.step`, sets their learning rate, and tells the journal
what came out. A run stopped at any step goes on exactly as if it had not been.
"""

import dataclasses
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mixem.data import ImageSet, check_channels, check_set
from mixem.devices import DEVICE_ERRORS, resolve_device, resolve_precision
from mixem.distributed import decided, leads, own_device, processes, together, wait
from mixem.errors import reason
from mixem.methods import Method
from mixem.progress import duration, say
from mixem.records import Epoch
from mixem.training.config import Sitting, TrainConfig
from mixem.training.journal import Journal
from mixem.training.meter import Meter
from mixem.training.step import (
    Schedule,
    Stepper,
    make_optimiser,
    make_passes,
    make_scaler,
    require_seed,
    seeded,
)

__all__ = ["Training", "train"]

READ_EVERY = 50  # steps between two looks at the device's numbers; each look waits for the device
READ_AFTER = 5.0  # seconds after which a CPU, which need not be waited for, is looked at anyway
TOLD_AFTER = 5.0  # seconds of steps from which the length of a training is foretold
LONG = 3600.0  # seconds of a training that is worth a word before
JUDGED_AFTER = 50  # steps: before, a network that has not begun to learn looks like a collapse


@dataclass(frozen=True)
class Training:
    """What :func:`train` returns.

    Attributes:
        complete: False if ``max_minutes`` ended it early.
        history: One entry an epoch: mean terms, learning rate, use of the components, seconds
            of training so far.
        seconds: Time spent training, over all sittings.
        images_per_second: Over all sittings.
        device: What it ran on.
        precision: "float32", "bfloat16" or "float16".
        processes: How many shared the work at the end.
        compiled: The backbone's forward pass was compiled in this sitting.
        peak_memory: Bytes, the most that was allocated on a GPU in this sitting; None on a CPU.
        threads: Of a CPU; None on a GPU.
    """

    complete: bool
    history: list[Epoch]
    seconds: float
    images_per_second: float
    device: str
    precision: str
    processes: int = 1
    compiled: bool = False
    peak_memory: int | None = None
    threads: int | None = None


def train(
    method: Method,
    images: ImageSet | Mapping[str, ImageSet],
    config: TrainConfig,
    *,
    seed: int = 0,
    out: Path | None = None,
    sitting: Sitting | None = None,
    sooner: str = "",
    **changes: Any,
) -> Training:
    """Train a method on images; labels are not looked at, but by a method that has targets.

    Args:
        method: Trained in place and moved to the device.
        images: At least two; or the images of each pass, by its name in ``method.passes``.
        config: How long and how fast.
        seed: Of the order of the images and of their views, at least 0; the weights are the
            caller's.
        out: Folder for ``checkpoint.pt``, ``log.jsonl`` and the snapshots, ``epoch-N.safetensors``.
            If it holds a checkpoint of the same
            training, that one goes on: on the CPU, with the same number of threads, the result
            is bit for bit that of a run never stopped. Nothing is written if None.
        sitting: Where it runs, how precisely, for how long.
        sooner: What is told, beside the time, of a training that will take hours.
        **changes: Values that replace those of the sitting, such as ``device="cpu"``.

    Raises:
        InputError: For fewer than two images, missing labels, a negative seed, an impossible
            device or precision, a checkpoint of another training, a folder that cannot be written
            to.
        FloatingPointError: If a loss term is no longer finite. The last checkpoint stays.
        KeyboardInterrupt: If the user or the system ended it; the checkpoint is written first.
    """
    require_seed(seed)
    sitting = dataclasses.replace(sitting or Sitting(), **changes)
    sets = images if isinstance(images, Mapping) else dict.fromkeys(method.passes, images)
    for part in sets.values():
        check_set(part)
        if method.channels and part.images.ndim == 4:
            check_channels(part, method.channels)
    device = resolve_device(own_device(sitting.device))
    journal = Journal(out)
    precision = sitting.precision
    if journal.state and precision == "auto":  # it goes on as it began, on another device as well
        precision = journal.state.get("identity", {}).get("precision", precision)
    precision = resolve_precision(precision, device)
    method.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    passes = make_passes(method, sets, config, device)
    schedule = Schedule(passes, config)
    optimiser = make_optimiser(method, config, device)
    identity = {
        "method": type(method).__name__,
        "config": dataclasses.asdict(config),
        "seed": seed,
        "images": [sets[name].fingerprint for name in method.passes],
        "precision": precision,
    }
    meter = Meter()
    scaler = make_scaler(precision, device)
    if journal.state is None and not method.goes_on:
        method.begin(passes[0].pixels, seeded(seed, "begin", 0, device))
    step = journal.begin(identity, method, optimiser, config, meter, scaler)

    first, name = step, sets[method.passes[0]].name
    bar = tqdm(
        total=schedule.total, initial=step, unit=" steps",
        disable=not (sitting.progress and leads()),
    )  # fmt: skip
    with (
        together(device),
        torch.cuda.device(device if device.type == "cuda" else -1),
        compiled(method, sitting.compile) as faster,
        bar,
        interruptions(enabled=processes() == 1) as asked_to_stop,
    ):
        stepper = Stepper(
            method, optimiser, device=device, precision=precision, seed=seed, scaler=scaler
        )
        stop, looked = False, time.monotonic()
        long = _Length(schedule.total, sooner, aloud=sitting.progress and leads())
        while step < schedule.total and not stop:
            now = schedule.at(step)
            for group, (_, share) in zip(optimiser.param_groups, method.rates(), strict=True):
                group["lr"] = share * now.rate
            if step == first or now.position == 0:
                order = now.images.order(seed, now.number)
            stepper.step(now.images, order, meter, position=now.position, step=step)
            step += 1

            stop = bool(asked_to_stop)
            at_leisure = device.type == "cpu" and processes() == 1
            due = stop or (at_leisure and time.monotonic() - looked > READ_AFTER)
            if step % schedule.steps and step % READ_EVERY and not due:
                continue
            looked = time.monotonic()
            long.tell(step, looked)
            row = meter.read(now.epoch + 1, step, now.rate)
            _require_finite(meter, row)
            bar.update(step - bar.n)
            bar.set_postfix({k: f"{v:.3f}" for k, v in row.terms.items()}, refresh=False)
            if step % schedule.steps == 0:
                if now.epoch + 1 == schedule.judged_epoch(JUDGED_AFTER) and leads():
                    _warn_of_collapse(name, meter, row, method.bounds(passes[0].batch))
                meter = Meter()
                journal.end_epoch(row)
                stop = stop or row.epoch == sitting.max_epochs
            late = sitting.max_minutes is not None and (
                looked - journal.began >= 60 * sitting.max_minutes
            )
            stop = decided(late or stop, device)
            if stop or step == schedule.total or (
                looked - journal.saved >= sitting.checkpoint_seconds
            ):  # fmt: skip
                journal.save(step, meter)
        if asked_to_stop:
            raise KeyboardInterrupt
    wait()  # torchrun would end the process that still writes if another one stopped early
    method.eval()
    seconds = journal.seconds
    return Training(
        complete=step == schedule.total,
        history=journal.history,
        seconds=seconds,
        images_per_second=step * config.accumulate * passes[0].batch / max(seconds, 1e-9),
        device=str(device),
        precision=precision,
        processes=processes(),
        compiled=bool(faster and faster.works),
        peak_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        threads=torch.get_num_threads() if device.type == "cpu" else None,
    )


class _Length:
    """Tells once, after some seconds, if a training will take hours."""

    def __init__(self, total: int, sooner: str, *, aloud: bool):
        self.total, self.sooner, self.aloud = total, sooner, aloud
        self.first: tuple[int, float] | None = None  # after the first look: it had to warm up

    def tell(self, step: int, now: float) -> None:
        if not self.aloud or self.first is None:
            self.first = self.first or (step, now)
            return
        done, began = step - self.first[0], now - self.first[1]
        if done < 1 or began < TOLD_AFTER:
            return
        self.aloud = False
        left = (self.total - step) * began / done
        if left > LONG:
            say(f"this will take about {duration(left)} more; {self.sooner}".removesuffix("; "))


def _require_finite(meter: Meter, row: Epoch) -> None:
    if name := meter.broken():
        raise FloatingPointError(
            f"the {name} term became {row.terms[name]} in epoch {row.epoch}, by step "
            f"{row.step}; the last checkpoint is intact: try a lower learning rate or "
            "--precision float32"
        )


def _warn_of_collapse(images: str, meter: Meter, row: Epoch, bounds: dict[str, float]) -> None:
    if collapse := meter.collapsed(row, bounds):
        with tqdm.external_write_mode():  # on a line of its own
            warnings.warn(f"{images}, epoch {row.epoch}: {collapse}", stacklevel=4)


@contextmanager
def interruptions(*, enabled: bool) -> Iterator[list[int]]:
    """Inside, Ctrl-C and the system's request to end are noted instead of ending the process.

    Yields:
        The signals that came. A second one ends the process at once.
    """
    came: list[int] = []
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def compiled(method: Method, wanted: bool) -> Iterator["Compiled | None"]:
    """Inside, the backbone's forward pass is compiled if wanted.

    Yields:
        What compiles it, or None.
    """
    if not wanted:
        yield None
        return
    backbone = method.backbone
    backbone.forward = forward = Compiled(backbone.forward)  # type: ignore[method-assign]
    try:
        yield forward
    finally:
        backbone.__dict__.pop("forward", None)


class Compiled:
    """A function as ``torch.compile`` makes it; as it is, after a warning, if that fails.

    Attributes:
        works: No call has failed.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function, self.works = function, True
        self.faster: Callable[..., Any] | None = None

    def __call__(self, *inputs: Any) -> Any:
        """The function's answer."""
        if self.works:
            try:
                if self.faster is None:  # not every Python has a compiler to ask
                    self.faster = torch.compile(self.function, dynamic=False)
                return self.faster(*inputs)
            except DEVICE_ERRORS:
                raise
            except Exception as error:  # whatever the compiler, or the lack of one, leads to
                self.works = False
                words = f"torch.compile failed, going on without it: {reason(error)[:200]}"
                warnings.warn(words, stacklevel=2)
        return self.function(*inputs)
