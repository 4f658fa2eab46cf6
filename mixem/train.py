"""The one training loop.

A step draws views on the images' device, asks the method for its loss terms and updates the
weights. Every random number comes from (seed, stream, index), so that a run stopped at any step
goes on exactly as if it had not been. With several processes (``torchrun``) each takes its share of
every batch; order, views and losses are those of one process.
"""

import bisect
import copy
import dataclasses
import itertools
import json
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
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
from mixem.distributed import (
    decided,
    leads,
    own_device,
    processes,
    rank,
    size,
    synchronise_batch_norm,
    together,
    wait,
)
from mixem.errors import InputError
from mixem.meter import Meter
from mixem.methods import Method, Step

READ_EVERY = 50  # steps between two looks at the device's numbers; each look waits for the device


@dataclass(frozen=True)
class TrainConfig:
    """How a method is optimised; the defaults are MIX'EM's ``config.yaml`` and ``train.py``.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images a batch. What does not fill a step is left out; a set smaller than one
            batch is a batch. Of several processes each takes its part of it.
        accumulate: Batches whose gradients are added up before the weights change. The losses
            see one batch at a time.
        learning_rate: Of Adam; a method may train a part of itself at a share of it.
        weight_decay: Of Adam, on all parameters.
        constant_epochs: Epochs before the cosine sets in; as many as ``epochs`` for a constant
            rate.
        schedule: "epochs" for MIX'EM's cosine, one rate an epoch; "steps" for one that falls with
            every step and ends at 0; "milestones" for IMC-SwAV's stairs.
        milestones: Shares of the run after which the rate is multiplied by ``decay``.
        decay: See ``milestones``.
        warmup_steps: Steps over which the rate rises linearly, the last of them with the full one.
        betas: Of Adam: how much of the mean gradient and of its square is kept at a step.
        snapshots: Epochs after which the weights are kept as well, 0 for the start; scored when
            the run is, for the learning curve of its record. Later ones than the last are ignored.
    """

    epochs: int = 200
    batch_size: int = 512
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    constant_epochs: int = 10
    schedule: str = "epochs"
    milestones: tuple[float, ...] = ()
    decay: float = 0.4
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    snapshots: tuple[int, ...] = ()
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1), ("batch_size", 2), ("constant_epochs", 0), ("warmup_steps", 0),
            ("accumulate", 1),
        ):  # fmt: skip
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}; give at least {least}")
        if self.schedule not in ("epochs", "steps", "milestones"):
            raise InputError(
                f"schedule is {self.schedule!r}; give 'epochs', 'steps' or 'milestones'"
            )
        if not (all(0 < share < 1 for share in self.milestones) and 0 < self.decay <= 1):
            raise InputError(
                f"milestones {self.milestones}, decay {self.decay}; give shares of the run between "
                "0 and 1, and a decay above 0, at most 1"
            )
        if not all(isinstance(epoch, int) and epoch >= 0 for epoch in self.snapshots):
            raise InputError(f"snapshots are {self.snapshots}; give epochs, such as (0, 1, 10)")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas are {self.betas}; give two numbers from 0 on, below 1")
        if not (self.learning_rate > 0 and self.weight_decay >= 0):
            raise InputError(
                f"learning rate {self.learning_rate}, weight decay {self.weight_decay}; "
                "give a positive rate and a decay of at least 0"
            )

    def batch_for(self, images: ImageSet) -> int:
        """Images a batch of these.

        Raises:
            InputError: If ``accumulate`` asks for more images than there are.
        """
        batch = min(self.batch_size, len(images))
        if batch * self.accumulate > len(images):
            raise InputError(
                f"accumulate asks for {self.accumulate} batches of {batch} a step, "
                f"{images.name} has {len(images)} images; give fewer"
            )
        return batch

    def rate(self, epoch: int, part: float = 0.0) -> float:
        """Learning rate in an epoch, counted from 0, of which a part in [0, 1) is over.

        Without the warm-up. Constant, then a cosine, or stairs. MIX'EM's cosine has period
        ``epochs``, starts late and so never ends at 0.
        """
        if self.schedule == "milestones":
            passed = sum(epoch >= share * self.epochs for share in self.milestones)
            return self.learning_rate * self.decay**passed
        late = epoch - self.constant_epochs
        if self.schedule == "epochs":
            progress = (late + 1) / self.epochs
        else:
            progress = (late + part) / max(1, self.epochs - self.constant_epochs)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * max(0.0, progress)))


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


def require_seed(seed: int) -> None:
    """Raise :class:`InputError` unless the seed is one."""
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; give a whole number from 0 on, below 2^63")


def seeded(
    seed: int, stream: str, index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator of its own for each (seed, stream, index)."""
    mixed = np.random.SeedSequence([seed, *stream.encode(), index]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(mixed[0] >> np.uint64(1)))


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
    precision = resolve_precision(precision, place)
    method.to(place, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    pixels = {part.fingerprint: part.images for part in plan}
    pixels = {name: move(tensor, place) for name, tensor in pixels.items()}
    targets = [
        None if (labels := method.targets(part)) is None
        else labels.to(pixels[part.fingerprint].device)
        for part in plan
    ]  # fmt: skip
    sizes = [config.batch_for(part) for part in plan]
    for batch_size in sizes:
        if batch_size % processes():
            raise InputError(
                f"a batch of {batch_size} images for {processes()} processes; "
                "give a batch_size that is a multiple of their number"
            )
    # Where in an epoch each pass begins, in steps; the last number is the length of an epoch.
    begins = list(
        itertools.accumulate(
            (len(p) // (n * config.accumulate) for p, n in zip(plan, sizes, strict=True)),
            initial=0,
        )
    )
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
    checkpoint = out / "checkpoint.pt" if out else None
    if checkpoint and checkpoint.exists():
        state = load_checkpoint(checkpoint)
        try:
            _require_same(checkpoint, state["identity"], identity)
            method.load_state_dict(state["method"])
            optimiser.load_state_dict(state["optimiser"])
            if leads():  # the sums of all processes
                meter.state = {name: value.to(place) for name, value in state["meter"].items()}
            else:
                meter.state = {
                    n: torch.zeros_like(v, device=place) for n, v in state["meter"].items()
                }
            first, earlier, history = state["step"], state["seconds"], json.loads(state["history"])
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
                stacklevel=2,
            )

    began = saved = time.monotonic()
    out = out if leads() else None
    if out:
        _write_log(out, history)
        for leftover in out.glob(f".*{UNFINISHED}"):  # of a process killed while it wrote
            leftover.unlink(missing_ok=True)
        if not first:
            _keep(method, out, 0, config)
    bar = tqdm(total=total, initial=first, unit=" steps", disable=not (progress and leads()))
    step, order, stop = first, None, False
    with together(place), compiled(method, plan[0], place, compile), bar:
        network = parallel(method)
        while step < total and not stop:
            epoch, position = divmod(step, steps)
            rate = config.rate(epoch, position / steps)
            rate *= min(1.0, (step + 1) / max(1, config.warmup_steps))
            turn = bisect.bisect_right(begins, position) - 1
            position, batch = position - begins[turn], sizes[turn]
            source = pixels[plan[turn].fingerprint]
            if order is None or position == 0:
                generator = seeded(seed, "order", epoch * len(plan) + turn)
                order = torch.randperm(len(source), generator=generator).to(source.device)
            for group, (_, share) in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = share * rate

            method.before_step(step)
            optimiser.zero_grad(set_to_none=True)
            for micro in range(config.accumulate):
                begin = (position * config.accumulate + micro) * batch
                chosen = order[begin : begin + batch][rank() :: size()]
                drawn = seeded(seed, "views", step * config.accumulate + micro, place)
                views = method.draw_views(source[chosen].to(place), drawn)
                labels = targets[turn]
                known = None if labels is None else labels[chosen].to(place)
                with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    result = network(views, method.passes[turn], known)
                loss = torch.stack(list(result.terms.values())).sum() / config.accumulate
                loss.backward()
                meter.add(result)
            optimiser.step()
            step += 1

            if step % steps and step % READ_EVERY:
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
            now = time.monotonic()
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
        images_per_second=step * config.accumulate * sizes[0] / max(seconds, 1e-9),
        device=str(place),
        precision=precision,
        processes=processes(),
    )


def make_optimiser(method: Method, config: TrainConfig, device: torch.device) -> torch.optim.Adam:
    """Adam for the modules that a method trains, a group each."""
    return torch.optim.Adam(
        [{"params": list(module.parameters())} for module, _ in method.rates()],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )


class _Step(nn.Module):
    """A method's step as a forward pass, which is what DistributedDataParallel looks at."""

    def __init__(self, method: Method):
        super().__init__()
        self.method = method

    def forward(self, views: Any, name: str, labels: torch.Tensor | None) -> Step:
        if labels is None:
            return self.method.step(views, name)
        return self.method.supervised_step(views, labels)


def parallel(method: Method) -> nn.Module:
    """The method's step, whose gradients are the mean over all processes."""
    if size() == 1:
        return _Step(method)
    synchronise_batch_norm(method, next(method.parameters()).device)
    return DistributedDataParallel(_Step(method), find_unused_parameters=method.rests_parts)


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
    backbone.forward = torch.compile(backbone.forward, dynamic=False)
    try:
        size = method.views.size
        backbone(torch.zeros(2, images.channels, size, size, device=device)).sum().backward()
    except Exception as error:  # whatever the compiler, or the lack of one, leads to
        del backbone.forward
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"torch.compile failed, going on without it: {reason}", stacklevel=4)
    backbone.load_state_dict(before)
    backbone.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        backbone.__dict__.pop("forward", None)


def move(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The pixels on a GPU if they take less than half of its free memory."""
    if device.type == "cuda" and pixels.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        return pixels.to(device)
    return pixels


def _keep(method: Method, out: Path, epoch: int, config: TrainConfig) -> None:
    if epoch in config.snapshots:
        save_weights(out / f"epoch-{epoch}.safetensors", method)


def _require_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found[key] != value:
            raise InputError(
                f"{path} belongs to another training: {key} there is {found[key]}, here {value}; "
                "choose another --out or delete the folder"
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
