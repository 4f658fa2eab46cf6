"""One step of a training: views, loss terms, gradients, an update of the weights.

Every random number comes from (seed, stream, index). With several processes each takes its share
of the batch; order, views and losses are those of one process.
"""

import bisect
import contextlib
import itertools
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mixem.data import ImageSet
from mixem.distributed import processes, rank, size
from mixem.errors import InputError
from mixem.methods import Method, Step
from mixem.models.norm import synchronise_batch_norm
from mixem.training.config import TrainConfig
from mixem.training.meter import Meter

__all__ = [
    "Now",
    "Pass",
    "Schedule",
    "Stepper",
    "make_optimiser",
    "make_passes",
    "make_scaler",
    "move",
    "parallel",
    "require_seed",
    "seeded",
]


def require_seed(seed: int) -> None:
    """Raise :class:`InputError` unless the seed is one."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed!r}; give a whole number from 0 on, below 2^63")


def seeded(
    seed: int, stream: str, index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator of its own for each (seed, stream, index)."""
    mixed = np.random.SeedSequence([seed, *stream.encode(), index]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(mixed[0] >> np.uint64(1)))


class Pass:
    """One kind of pass over images, batch by batch.

    Args:
        method: Names the targets and companions, if it has any.
        name: One of ``method.passes``.
        images: All of them.
        config: Says how many are a batch, and how many batches a step.
        pixels: Of the images, on the device that holds them.

    Attributes:
        batch: Images a batch.
        steps: Updates of the weights in one such pass.
        companions: See :meth:`mixem.methods.Method.companions`; found when they are first asked
            for, so that a training that goes on has its weights back.

    Raises:
        InputError: For too few images, or labels that the method needs and the images lack.
    """

    def __init__(
        self,
        method: Method,
        name: str,
        images: ImageSet,
        config: TrainConfig,
        pixels: torch.Tensor,
    ):
        if len(images) < 2:
            raise InputError(f"{images.name} has {len(images)} image; training needs at least two")
        self.name, self.pixels, self.accumulate = name, pixels, config.accumulate
        self.batch = config.batch_for(images)
        if self.batch % processes():
            most = len(images) - len(images) % processes()
            raise InputError(
                f"a batch of {self.batch} images for {processes()} processes; "
                + (
                    f"give a batch_size that is a multiple of their number, at most {most}"
                    if most
                    else "start no more processes than there are images"
                )
            )
        self.steps = len(images) // (self.batch * config.accumulate)
        labels = method.targets(images)
        self.on_host = method.labels_on_host
        keep = labels is None or self.on_host
        self.labels = labels if keep else labels.to(pixels.device)  # type: ignore[union-attr]
        self.method = method

    @cached_property
    def companions(self) -> torch.Tensor | None:
        """Rows ``(N, m)``, or None."""
        return self.method.companions(self.pixels)

    def order(self, seed: int, index: int) -> torch.Tensor:
        """The images in random order, another one for each ``index``; where the labels are."""
        order = torch.randperm(len(self.pixels), generator=seeded(seed, "order", index))
        return order if self.on_host else order.to(self.pixels.device)


def make_passes(
    method: Method, sets: Mapping[str, ImageSet], config: TrainConfig, device: torch.device
) -> list[Pass]:
    """The passes of an epoch, in order; the same kind of pass is the same object.

    Args:
        method: On the device.
        sets: The images of each pass, by its name.
        config: How many are a batch.
        device: Images that fit go there.
    """
    pixels = {images.fingerprint: move(images.images, device) for images in sets.values()}
    made = {
        name: Pass(method, name, sets[name], config, pixels[sets[name].fingerprint])
        for name in dict.fromkeys(method.passes)
    }
    return [made[name] for name in method.passes]


class Now(NamedTuple):
    """Where in a training a step is.

    Attributes:
        epoch: From 0.
        number: Of the pass, counted through the training from 0.
        images: The pass.
        position: Of the step in its pass, from 0.
        rate: Learning rate.
    """

    epoch: int
    number: int
    images: Pass
    position: int
    rate: float


class Schedule:
    """Which step belongs to which epoch and pass, and its learning rate.

    Args:
        passes: Of an epoch, in order.
        config: How many epochs, and how fast.

    Attributes:
        steps: Of an epoch.
        total: Of the training.
    """

    def __init__(self, passes: list[Pass], config: TrainConfig):
        self.passes = passes
        self.ends = list(itertools.accumulate(part.steps for part in passes))
        self.steps = self.ends[-1]
        self.config = config.lasting(self.steps)
        self.total = self.config.epochs * self.steps

    def at(self, step: int) -> Now:
        """Where a step is, counted from 0."""
        epoch, position = divmod(step, self.steps)
        rate = self.config.rate(epoch, position / self.steps)
        rate *= min(1.0, (step + 1) / max(1, self.config.warmup_steps))
        turn = bisect.bisect_right(self.ends, position)
        begin = self.ends[turn - 1] if turn else 0
        number = epoch * len(self.passes) + turn
        return Now(epoch, number, self.passes[turn], position - begin, rate)

    def judged_epoch(self, after: int) -> int:
        """The epoch, from 1, at whose end a collapse shows; no sooner than after some steps."""
        return max(2, self.config.epochs // 10, -(-after // self.steps))


class Stepper:
    """Takes the steps of a training.

    Args:
        method: Trained in place, in training mode on the device.
        optimiser: Of :func:`make_optimiser`.
        device: Where views are drawn.
        precision: "float32", "bfloat16" or "float16".
        seed: Of the views.
        scaler: Of ``make_scaler``, perhaps with what it has learned; by default a new one.
        border: Called with the name of each part of a step when it is done, for a profile.
    """

    def __init__(
        self,
        method: Method,
        optimiser: torch.optim.Optimizer,
        *,
        device: torch.device,
        precision: str,
        seed: int = 0,
        scaler: torch.amp.GradScaler | None = None,
        border: Callable[[str], None] = lambda part: None,
    ):
        self.method, self.optimiser, self.device = method, optimiser, device
        self.half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
        self.scaler = scaler or make_scaler(precision, device)
        self.seed, self.border = seed, border
        self.network = parallel(method)

    def step(
        self,
        images: Pass,
        order: torch.Tensor,
        meter: Meter,
        *,
        position: int,
        step: int,
        counter: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        """Update the weights once.

        Args:
            images: The pass that it belongs to.
            order: Of its images.
            meter: Gets what the batches give.
            position: Of the step in its pass, from 0.
            step: Of the whole training, from 0.
            counter: Entered for each forward and backward pass.
        """
        self.method.before_step(step)
        self.optimiser.zero_grad(set_to_none=True)
        for index in range(images.accumulate):
            begin = (position * images.accumulate + index) * images.batch
            whole = order[begin : begin + images.batch]
            drawn = seeded(self.seed, "views", step * images.accumulate + index, self.device)
            views, labels = self._draw(images, whole, drawn)
            self.border("augmentation")
            with counter or contextlib.nullcontext(), self._apart(index + 1 < images.accumulate):
                with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                    result = self.network(views, images.name, labels)
                loss = torch.stack(list(result.terms.values())).sum() / images.accumulate
                self.border("loss")
                self.scaler.scale(loss).backward()
                self.border("backward")
            meter.add(result)
            self.border("other")
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.border("optimiser")

    def _apart(self, more: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients of several processes meet with the last batch of a step."""
        if more and isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return contextlib.nullcontext()

    def _draw(
        self, images: Pass, whole: torch.Tensor, drawn: torch.Generator
    ) -> tuple[Any, torch.Tensor | None]:
        """Views and labels of this process's part of a batch."""
        mine = slice(rank(), None, size())
        rows = _to(whole[mine], images.pixels.device)
        pixels = _to(images.pixels[rows], self.device)
        labels = None if images.labels is None else images.labels[whole[mine]]
        if labels is not None and not images.on_host:
            labels = _to(labels, self.device)
        if images.companions is None:
            self.border("other")
            return self.method.draw_views(pixels, drawn), labels
        table = images.companions[whole.to(images.companions.device)]
        column = torch.randint(table.shape[1], (len(table), 1), generator=drawn, device=self.device)
        others = table.gather(1, column.to(table.device))[mine, 0].to(images.pixels.device)
        companions = _to(images.pixels[others], self.device)
        self.border("other")
        return self.method.draw_pairs(pixels, companions, drawn), labels


def make_optimiser(
    method: Method, config: TrainConfig, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser of the modules that a method trains, a group each."""
    groups = [{"params": list(module.parameters())} for module, _ in method.rates()]
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": partial(torch.optim.Adam, betas=config.betas),
        "adamw": partial(torch.optim.AdamW, betas=config.betas),
        "sgd": partial(torch.optim.SGD, momentum=config.momentum),
    }
    return kinds[config.optimiser](
        groups,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """What keeps gradients in the range of float16; for other precisions it does nothing.

    The loss is multiplied by a large number before the backward pass, and the optimiser divides
    the gradients by it. Where that was too large, and a gradient is not finite, the step is left
    out and the number halved; after 2,000 good steps it is doubled. No step waits for the device.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")


class _Step(nn.Module):
    """A method's step as a forward pass, which is what DistributedDataParallel looks at."""

    def __init__(self, method: Method):
        super().__init__()
        self.method = method

    def forward(self, views: Any, name: str, labels: torch.Tensor | None) -> Step:
        if labels is None:
            return self.method.step(views, name)
        return self.method.supervised_step(views, labels, name)


def parallel(method: Method) -> nn.Module:
    """The method's step, whose gradients are the mean over all processes."""
    if size() == 1:
        return _Step(method)
    synchronise_batch_norm(method, method.device)
    with warnings.catch_warnings():
        # PyTorch 2.13 has another word for it, which earlier versions do not know.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers")
        return DistributedDataParallel(
            _Step(method),
            find_unused_parameters=method.rests_parts,
            broadcast_buffers=False,  # batch norm of all processes has the same buffers in each
            gradient_as_bucket_view=True,
        )


def _to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device; a GPU is not waited for."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def move(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The pixels on a GPU if they take less than half of its free memory."""
    if device.type == "cuda" and pixels.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        return pixels.to(device)
    return pixels
