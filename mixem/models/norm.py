"""Batch norm whose statistics are of parts of a batch, or of the batches of several processes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mixem.distributed import average, size

__all__ = ["BatchNormInParts", "in_parts", "synchronise_batch_norm"]


class BatchNormInParts(_BatchNorm):
    """Batch norm that can treat equal parts of a batch, one after the other, as batches.

    Then one call of a network does what a call for each part did, statistics and gradients
    included, and all its other layers see one large batch, which is faster.

    Attributes:
        parts: How many, in training; see :func:`in_parts`.
    """

    parts: int = 1

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of places, as of the classes this takes the place of."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``(N, C, ...)`` to the same."""
        if not self.training:
            return _BatchNorm.forward(self, input)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(self.parts)
        if self.parts == 1:
            return self.part(input)
        return torch.cat([self.part(part) for part in input.chunk(self.parts)])

    def part(self, input: torch.Tensor) -> torch.Tensor:
        """A batch in training."""
        assert self.momentum is not None
        buffers = self.running_mean, self.running_var
        return F.batch_norm(input, *buffers, self.weight, self.bias, True, self.momentum, self.eps)


@contextmanager
def in_parts(network: nn.Module, parts: int) -> Iterator[None]:
    """Inside, the batch norms of a network see so many equal parts of a batch one by one."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, BatchNormInParts):
            module.__class__ = BatchNormInParts
    norms = [module for module in network.modules() if isinstance(module, BatchNormInParts)]
    for norm in norms:
        norm.parts = parts
    try:
        yield
    finally:
        for norm in norms:
            norm.parts = 1


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Let the batch norms of a module see the batch of all processes while these are together."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.__class__ = BatchNormOnGPU if device.type == "cuda" else BatchNormOnCPU


class BatchNormOnGPU(BatchNormInParts, nn.SyncBatchNorm):
    """PyTorch's, but for a process that evaluates alone: it would wait for the others."""

    process_group = None  # PyTorch's class reads it: that of all processes

    def part(self, input: torch.Tensor) -> torch.Tensor:
        """A share of the batch."""
        if size() == 1:
            return super().part(input)
        counted, self.num_batches_tracked = self.num_batches_tracked, None  # counted already
        try:
            return nn.SyncBatchNorm.forward(self, input)
        finally:
            self.num_batches_tracked = counted


class BatchNormOnCPU(BatchNormInParts):
    """The same for a CPU, where PyTorch has none."""

    def part(self, input: torch.Tensor) -> torch.Tensor:
        """A share of the batch."""
        if size() == 1:
            return super().part(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        places = [place for place in range(x.ndim) if place != 1]
        shape = [-1 if place == 1 else 1 for place in range(x.ndim)]
        mean = average(x.mean(places))
        x = x - mean.view(shape)
        variance = average(x.square().mean(places))
        if self.running_mean is not None and self.running_var is not None:
            assert self.momentum is not None
            count = size() * x.numel() / x.shape[1]
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(variance.detach() * (count / (count - 1)), self.momentum)
        x = x * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(input.dtype)
