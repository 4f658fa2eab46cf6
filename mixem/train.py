"""The one training loop.

It takes the steps of :mod:`mixem.step`, sets their learning rate, logs and keeps checkpoints. A run
stopped at any step goes on exactly as if it had not been.
"""

import bisect
import contextlib
import copy
import dataclasses
import itertools
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mixem.checkpoint import (
    UNFINISHED,
    load_checkpoint,
    save_checkpoint,
    save_weights,
    write_atomically,
)
from mixem.data import ImageSet
from mixem.devices import resolve_device, resolve_precision
from mixem.distributed import decided, leads, own_device, processes, together, wait
from mixem.errors import InputError
from mixem.meter import Meter
from mixem.methods import Method
from mixem.step import Pass, Stepper, make_optimiser, move, require_seed
from mixem.train_config import TrainConfig

READ_EVERY = 50  # steps between two looks at the device's numbers; each look waits for the device
READ_AFTER = 5.0  # seconds after which a CPU, which need not be waited for, is looked at anyway


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
        precision: "float32" or "bfloat16".
        processes: How many shared the work at the end.
    """

    complete: bool
    history: list[dict[str, Any]]
    seconds: float
    images_per_second: float
    device: str
    precision: str
    processes: int = 1


def train(
    method: Method,
    images: ImageSet | Mapping[str, ImageSet],
    config: TrainConfig,
    *,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    max_minutes: float | None = None,
    checkpoint_seconds: float = 30,
    progress: bool = True,
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
        device: "auto", "cpu", "cuda" or another name PyTorch knows.
        precision: "float32", "bfloat16" (autocast) or "auto", see :func:`resolve_precision`.
        compile: Let ``torch.compile`` make the backbone faster, where it can.
        max_minutes: Stop cleanly after this time; call again to go on.
        checkpoint_seconds: Least time between two checkpoints; 0 is one after every epoch and
            every 50 steps.
        progress: Show a progress bar.

    Raises:
        InputError: For fewer than two images, missing labels, a negative seed, an impossible
            device or precision, a checkpoint of another training, a folder that cannot be written
            to.
        FloatingPointError: If a loss term is no longer finite. The last checkpoint stays.
    """
    sets = images if isinstance(images, Mapping) else dict.fromkeys(method.passes, images)
    plan = [sets[name] for name in method.passes]
    for part in plan:
        if len(part) < 2:
            raise InputError(f"{part.name} has {len(part)} image; training needs at least two")
    require_seed(seed)
    place = resolve_device(own_device(device))
    checkpoint = out / "checkpoint.pt" if out else None
    state = load_checkpoint(checkpoint) if checkpoint and checkpoint.exists() else None
    if state and precision == "auto":  # the run goes on as it began, on another device as well
        precision = state.get("identity", {}).get("precision", precision)
    precision = resolve_precision(precision, place)
    method.to(place, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    pixels = {part.fingerprint: part.images for part in plan}
    pixels = {name: move(tensor, place) for name, tensor in pixels.items()}
    passes = [
        Pass(method, name, part, config, pixels[part.fingerprint])
        for name, part in zip(method.passes, plan, strict=True)
    ]
    for one in passes:
        if one.batch % processes():
            raise InputError(
                f"a batch of {one.batch} images for {processes()} processes; "
                "give a batch_size that is a multiple of their number"
            )
    # Where in an epoch each pass begins, in steps; the last number is the length of an epoch.
    begins = list(itertools.accumulate((one.steps for one in passes), initial=0))
    steps = begins[-1]
    total = config.epochs * steps
    rates = method.rates()
    optimiser = make_optimiser(method, config, place)

    identity = {
        "method": type(method).__name__,
        "config": dataclasses.asdict(config),
        "seed": seed,
        "images": [part.fingerprint for part in plan],
        "precision": precision,
    }
    first, earlier, history, meter = 0, 0.0, list[dict[str, Any]](), Meter()
    if checkpoint and state:
        first, earlier, history = _resume(
            checkpoint, state, identity, method, optimiser, meter, place
        )

    began = saved = looked = time.monotonic()
    at_leisure = place.type == "cpu" and processes() == 1
    out = out if leads() else None
    if out:
        _write_log(out, history)
        for leftover in out.glob(f".*{UNFINISHED}"):  # of a process killed while it wrote
            with contextlib.suppress(FileNotFoundError):  # not of one that writes just now
                if time.time() - leftover.stat().st_mtime > 3600:
                    leftover.unlink()
        if not first:
            _keep(method, out, 0, config)
    bar = tqdm(total=total, initial=first, unit=" steps", disable=not (progress and leads()))
    step, order, stop = first, None, False
    with together(place), compiled(method, plan[0], place, compile), bar:
        stepper = Stepper(method, optimiser, device=place, precision=precision, seed=seed)
        while step < total and not stop:
            epoch, position = divmod(step, steps)
            rate = config.rate(epoch, position / steps)
            rate *= min(1.0, (step + 1) / max(1, config.warmup_steps))
            for group, (_, share) in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = share * rate
            turn = bisect.bisect_right(begins, position) - 1
            one, position = passes[turn], position - begins[turn]
            if order is None or position == 0:
                order = one.order(seed, epoch * len(passes) + turn)
            stepper.step(one, order, meter, position=position, step=step)
            step += 1

            due = at_leisure and time.monotonic() - looked > READ_AFTER
            if step % steps and step % READ_EVERY and not due:
                continue
            row: dict[str, Any] = {
                "epoch": epoch + 1,
                "step": step,
                "learning_rate": rate,
            }
            row |= meter.read()
            if name := meter.broken():
                raise FloatingPointError(
                    f"the {name} term became {row['terms'][name]} in epoch {epoch + 1}, by step "
                    f"{step}; the last checkpoint is intact: try a lower learning rate or "
                    "--precision float32"
                )
            bar.update(step - bar.n)
            bar.set_postfix({k: f"{v:.3f}" for k, v in row["terms"].items()}, refresh=False)
            now = looked = time.monotonic()
            if step % steps == 0:
                collapse = meter.collapsed(row) if epoch + 1 == max(2, config.epochs // 10) else ""
                if collapse and leads():
                    warnings.warn(f"{plan[0].name}, epoch {epoch + 1}: {collapse}", stacklevel=2)
                meter = Meter()
                history.append(row | {"seconds": round(earlier + now - began, 3)})
                if out:
                    _append_log(out, history[-1])
                    _keep(method, out, epoch + 1, config)
            late = max_minutes is not None and now - began >= 60 * max_minutes
            stop = decided(late, place)
            if out and (stop or step == total or now - saved >= checkpoint_seconds):
                state = {
                    "identity": identity,
                    "method": method.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "meter": meter.sums,
                    "step": step,
                    "seconds": earlier + now - began,
                    "history": json.dumps(history),
                    "threads": torch.get_num_threads(),
                }
                save_checkpoint(out / "checkpoint.pt", state)
                saved = now
    wait()  # torchrun would end the process that still writes if another one stopped early
    method.eval()
    seconds = earlier + time.monotonic() - began
    return Training(
        complete=step == total,
        history=history,
        seconds=seconds,
        images_per_second=step * config.accumulate * passes[0].batch / max(seconds, 1e-9),
        device=str(place),
        precision=precision,
        processes=processes(),
    )


@contextmanager
def compiled(
    method: Method, images: ImageSet, device: torch.device, wanted: bool
) -> Iterator[None]:
    """Inside, the backbone's forward pass is compiled if wanted; with a warning if it cannot be."""
    backbone = method.backbone
    if not wanted:
        yield
        return
    before = copy.deepcopy(backbone.state_dict())  # a trial moves the running statistics
    try:
        backbone.forward = torch.compile(backbone.forward, dynamic=False)
        size = method.views.size
        backbone(torch.zeros(2, images.channels, size, size, device=device)).sum().backward()
    except Exception as error:  # whatever the compiler, or the lack of one, leads to
        backbone.__dict__.pop("forward", None)
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"torch.compile failed, going on without it: {reason}", stacklevel=4)
    backbone.load_state_dict(before)
    backbone.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        backbone.__dict__.pop("forward", None)


def _keep(method: Method, out: Path, epoch: int, config: TrainConfig) -> None:
    if epoch in config.snapshots:
        save_weights(out / f"epoch-{epoch}.safetensors", method)


def _resume(
    checkpoint: Path,
    state: dict[str, Any],
    identity: dict[str, Any],
    method: Method,
    optimiser: torch.optim.Optimizer,
    meter: Meter,
    place: torch.device,
) -> tuple[int, float, list[dict[str, Any]]]:
    """Put everything back as it was: steps done, seconds of training, history."""
    try:
        _require_same(checkpoint, state["identity"], identity)
        method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
        sums = {name: value.to(place) for name, value in state["meter"].items()}
        # They are those of all processes, and will be added up again.
        meter.state = sums if leads() else {n: torch.zeros_like(v) for n, v in sums.items()}
        found = state["step"], state["seconds"], json.loads(state["history"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{checkpoint} is of another network or version of mixem; "
            "choose another --out or delete the folder"
        ) from error
    other = state["threads"] != torch.get_num_threads()
    if place.type == "cpu" and other and leads():
        warnings.warn(
            f"the run began with {state['threads']} threads and goes on with "
            f"{torch.get_num_threads()}; the result will differ in the last digits",
            stacklevel=3,
        )
    return found


def _require_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found[key] != value:
            raise InputError(
                f"{path} belongs to another training: {key} there is {found[key]}, here {value}; "
                + ("leave --precision out, or " if key == "precision" else "")
                + "choose another --out or delete the folder"
            )


def _write_log(out: Path, history: list[dict[str, Any]]) -> None:
    """Start ``log.jsonl`` with the epochs that the checkpoint holds."""
    text = "".join(json.dumps(row) + "\n" for row in history)
    write_atomically(out / "log.jsonl", lambda file: file.write_text(text, encoding="utf-8"))


def _append_log(out: Path, row: dict[str, Any]) -> None:
    try:
        with (out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {out / 'log.jsonl'}: {error}; free some space") from error
