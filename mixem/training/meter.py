"""Sums over an epoch, read without stopping the device at every step."""

import math
from typing import Any

import torch

from mixem.distributed import size, total
from mixem.methods import Step
from mixem.records import Epoch

__all__ = ["Meter"]


def wide(value: torch.Tensor) -> torch.Tensor:
    """The numbers in float64, or in float32 on Apple's GPUs, which have no more."""
    return value.to(torch.float32 if value.device.type == "mps" else torch.float64)


class Meter:
    """Sums of an epoch on the device: loss terms, details, and how the components fill.

    Attributes:
        state: Tensors by name, saved with a checkpoint: for the terms of each kind of step their
            sums over the steps, how many steps had them, and in how many each was not finite.
        sums: The same of all processes, on the CPU, when it was last read.
    """

    def __init__(self) -> None:
        self.state: dict[str, torch.Tensor] = {}
        self.sums: dict[str, torch.Tensor] = {}

    def add(self, step: Step) -> None:
        """Add a batch, without waiting for the device."""
        terms = wide(torch.stack([value.detach() for value in step.terms.values()]))
        broken = terms.isfinite().logical_not().to(terms.dtype)
        self._mean(f"terms {' '.join(step.terms)}", [terms, torch.ones_like(terms), broken])
        for name, value in (step.details or {}).items():
            value = wide(value)
            self._mean(f"detail {name}", [value, torch.ones_like(value)])
        for name, value in (step.hits or {}).items():
            self._sum(f"hits {name}", wide(value))
        if (p := step.assignments) is not None:
            chosen, k = p.argmax(-1), p.shape[-1]
            if chosen.ndim > 2:  # maps, always with sub-heads: counted without a copy of them
                chosen = chosen.flatten(1)
            counts = wide(p.new_zeros(*chosen.shape[:-1], k))
            one = torch.ones((), dtype=counts.dtype, device=counts.device)
            self._sum("usage", counts.scatter_add_(-1, chosen, one.expand_as(chosen)))
            surest = p.amax(-1)
            confidence = wide(surest.flatten(1).mean(1) if p.ndim > 2 else surest.mean())
            self._mean("confidence", [confidence, torch.ones_like(confidence)])

    def read(self, epoch: int, step: int, learning_rate: float) -> Epoch:
        """Means so far: terms, details, and the use of the components or clusters.

        Of a method with sub-heads the last ones are lists, with an entry a sub-head.

        Args:
            epoch: From 1, of the row.
            step: Steps done.
            learning_rate: Of the last step.
        """
        self.sums = sums = {name: total(value).cpu() for name, value in self.state.items()}
        terms: dict[str, float] = {}
        details: dict[str, Any] = {}
        for key, value in sums.items():
            kind, _, name = key.partition(" ")
            if kind == "terms":
                terms |= dict(zip(name.split(" "), (value[0] / value[1]).tolist(), strict=True))
            elif kind == "detail":
                details[name] = (value[0] / value[1]).tolist()
            elif kind == "hits":
                details[name] = int((value > 0).sum())
        use: dict[str, Any] = {}
        if "usage" in sums:
            usage = sums["usage"] / sums["usage"].sum(-1, keepdim=True)
            use["usage"] = usage.double().mul(1e6).round().div(1e6).tolist()
            use["used"] = (usage > 0).sum(-1).tolist()
            use["usage_entropy"] = torch.special.entr(usage).sum(-1).tolist()
            use["confidence"] = (sums["confidence"][0] / sums["confidence"][1]).tolist()
        loss = sum(terms.values())
        return Epoch(epoch, step, learning_rate, loss, terms, details=details, **use)

    def broken(self) -> str | None:
        """The term that was the first to be no longer finite, when last read, or None."""
        times: dict[str, float] = {}
        for key, value in self.sums.items():
            if key.startswith("terms "):
                times |= zip(key.split(" ")[1:], value[2].tolist(), strict=True)
        worst = max(times, key=times.__getitem__)
        return worst if times[worst] else None

    def collapsed(self, row: Epoch, bounds: dict[str, float]) -> str | None:
        """What looks like a collapse, in words, or None.

        Args:
            row: What :meth:`read` gave.
            bounds: Of the method, see :meth:`mixem.methods.Method.bounds`.
        """
        used = row.used if isinstance(row.used, list) else [row.used]
        if used == [1] * len(used):
            return f"all images are in one of {self.state['usage'].shape[-1]} clusters"
        for name, bound in bounds.items():
            value = row.terms.get(name, math.inf)
            near = max(1e-3, 0.005 * abs(bound))
            # Far above it are wrong guesses, as of a network that has only begun to learn.
            if bound - near < value < bound + 10 * near:
                return (
                    f"the {name} term stays at {bound:.3f}, its value for a network that gives all "
                    "images the same answer"
                )
        return None

    def _mean(self, name: str, values: list[torch.Tensor]) -> None:
        self._sum(name, torch.stack(values) / size())  # a step counts once, however many share it

    def _sum(self, name: str, value: torch.Tensor) -> None:
        self.state[name] = self.state[name] + value if name in self.state else value
