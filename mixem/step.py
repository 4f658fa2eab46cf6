"""One step of a training: views, loss terms, gradients, an update of the weights.

Every random number comes from (seed, stream, index). With several processes each takes its share
of the batch; order, views and losses are those of one process.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mixem.data import ImageSet
from mixem.distributed import rank, size, synchronise_batch_norm
from mixem.errors import InputError
from mixem.meter import Meter
from mixem.methods import Method, Step
from mixem.train_config import TrainConfig


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


class Pass:
    """One kind of pass over images, batch by batch.

    Args:
        method: Names the targets, if it has any.
        name: One of ``method.passes``.
        images: All of them.
        config: Says how many are a batch, and how many batches a step.
        pixels: Of the images, on the device that holds them.

    Attributes:
        batch: Images a batch.
        steps: Updates of the weights in one such pass.

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
        self.name, self.pixels, self.accumulate = name, pixels, config.accumulate
        self.batch = config.batch_for(images)
        self.steps = len(images) // (self.batch * config.accumulate)
        labels = method.targets(images)
        self.labels = None if labels is None else labels.to(pixels.device)

    def order(self, seed: int, index: int) -> torch.Tensor:
        """The images in random order, another one for each ``index``."""
        order = torch.randperm(len(self.pixels), generator=seeded(seed, "order", index))
        return order.to(self.pixels.device)


class Stepper:
    """Takes the steps of a training.

    Args:
        method: Trained in place, in training mode on the device.
        optimiser: Of :func:`make_optimiser`.
        device: Where views are drawn.
        precision: "float32" or "bfloat16".
        seed: Of the views.
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
        border: Callable[[str], None] = lambda part: None,
    ):
        self.method, self.optimiser, self.device = method, optimiser, device
        self.bfloat16, self.seed, self.border = precision == "bfloat16", seed, border
        self.network = parallel(method)

    def step(
        self,
        one: Pass,
        order: torch.Tensor,
        meter: Meter,
        *,
        position: int,
        step: int,
        counter: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        """Update the weights once.

        Args:
            one: The pass that it belongs to.
            order: Of its images.
            meter: Gets what the batches give.
            position: Of the step in its pass, from 0.
            step: Of the whole training, from 0.
            counter: Entered for each forward and backward pass.
        """
        self.method.before_step(step)
        self.optimiser.zero_grad(set_to_none=True)
        for index in range(one.accumulate):
            begin = (position * one.accumulate + index) * one.batch
            chosen = order[begin : begin + one.batch][rank() :: size()]
            pixels = _to(one.pixels[chosen], self.device)
            labels = None if one.labels is None else _to(one.labels[chosen], self.device)
            drawn = seeded(self.seed, "views", step * one.accumulate + index, self.device)
            self.border("other")
            views = self.method.draw_views(pixels, drawn)
            self.border("augmentation")
            with counter or contextlib.nullcontext():
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                    result = self.network(views, one.name, labels)
                loss = torch.stack(list(result.terms.values())).sum() / one.accumulate
                self.border("loss")
                loss.backward()
                self.border("backward")
            meter.add(result)
            self.border("other")
        self.optimiser.step()
        self.border("optimiser")


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
