"""Several processes that train one network, each on its share of every batch.

``torchrun`` starts the processes. Inside :func:`together`, which the training loop enters, losses,
views and batch norm refer to the batch of all of them; everywhere else a process is alone.

What each process computes is its own loss, and the network learns from the mean of these losses.
So a mean over images needs nothing, if all have equally many, and whatever is not a mean over
images goes through :func:`total`, which is differentiable.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from mixem.errors import InputError

PATIENCE = timedelta(hours=12)  # that the others wait while one process evaluates

_together = False


def processes() -> int:
    """How many processes torchrun started, 1 without it."""
    by_torchrun = dist.is_available() and dist.is_torchelastic_launched()
    return int(os.environ["WORLD_SIZE"]) if by_torchrun else 1


def leads() -> bool:
    """Whether this is the process that writes files and speaks to the user."""
    return processes() == 1 or os.environ["RANK"] == "0"


def own_device(device: str) -> str:
    """The device of this process: "auto" and "cuda" become a GPU of its own.

    Raises:
        InputError: If there are more processes on this machine than GPUs, or they would share one.
    """
    if processes() > 1 and device.startswith("cuda:"):
        raise InputError(
            f"{processes()} processes on the one GPU {device}; "
            "give --device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES"
        )
    asked = os.environ.get("MIXEM_DEVICE", device) if device == "auto" else device
    wants_gpu = asked == "cuda" or (asked == "auto" and torch.cuda.is_available())
    if processes() == 1 or not wants_gpu:
        return device
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= gpus:
        raise InputError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes on a machine with {gpus} GPUs; "
            f"give torchrun --nproc-per-node {gpus}, or --device cpu"
        )
    return f"cuda:{local}"


def connect(device: torch.device) -> None:
    """Connect the processes that torchrun started, if they are not yet; nothing without it."""
    if processes() == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    gpu = device.type == "cuda"
    dist.init_process_group(
        "nccl" if gpu else "gloo", timeout=PATIENCE, device_id=device if gpu else None
    )


def disconnect() -> None:
    """End the connection, when all went well: they cannot connect again.

    After an error in one process this would wait for the others, for ever on a GPU.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Inside, the processes that torchrun started share each batch; nothing without it."""
    global _together
    connect(device)
    before, _together = _together, processes() > 1
    try:
        yield
    finally:
        _together = before


def size() -> int:
    """How many processes share a batch: 1 outside of :func:`together`."""
    return dist.get_world_size() if _together else 1


def rank() -> int:
    """Which of them this is, from 0 on."""
    return dist.get_rank() if _together else 0


def wait() -> None:
    """Until all connected processes are here."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def total(x: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, in each of them; gradients go to all."""
    return _Total.apply(x) if size() > 1 else x


def average(x: torch.Tensor) -> torch.Tensor:
    """The mean over all processes, in each of them; gradients go to all."""
    return total(x) / size() if size() > 1 else x


def largest(x: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum over all processes, without gradient."""
    if size() > 1:
        x = x.detach().clone()
        dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


def gather(x: torch.Tensor) -> torch.Tensor:
    """The rows ``(n, ...)`` of all processes one after the other; gradients go to all."""
    if size() == 1:
        return x
    # A sum with zeros has the right gradient as it is, and the matrices are small.
    rows = x.new_zeros(size(), *x.shape)
    rows[rank()] = x
    return total(rows).flatten(0, 1)


def decided(answer: bool, device: torch.device) -> bool:
    """What the first process answers, in all of them: clocks differ."""
    if size() == 1:
        return answer
    vote = torch.tensor(answer, dtype=torch.uint8, device=device)
    dist.broadcast(vote, 0)
    return bool(vote)


class _Total(torch.autograd.Function):
    """Each process has its own loss, so the gradients of the sum are summed as well."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
        return _Total.apply(gradient)
