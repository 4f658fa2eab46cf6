"""Sums over an epoch, read without stopping the device at every step."""

import math
from typing import Any

import torch
import torch.nn.functional as F

from mixem.distributed import size, total
from mixem.methods import Step


class Meter:
    """Sums of an epoch on the device: loss terms, details, and how the components fill.

    Attributes:
        state: Tensors by name, saved with a checkpoint: for each term its sum over the steps,
            how many steps had it, and in how many it was not finite.
        sums: The same of all processes, on the CPU, when it was last read.
    """

    def __init__(self) -> None:
        self.state: dict[str, torch.Tensor] = {}
        self.sums: dict[str, torch.Tensor] = {}
        self.bounds: dict[str, float] = {}

    def add(self, step: Step) -> None:
        """Add a batch, without waiting for the device."""
        for name, value in step.terms.items():
            value = value.detach().double()
            one = torch.ones_like(value)
            broken = value.isfinite().logical_not().double()
            self._mean(f"term {name}", [value, one, broken])
        for name, value in (step.details or {}).items():
            value = value.double()
            self._mean(f"detail {name}", [value, torch.ones_like(value)])
        for name, value in (step.hits or {}).items():
            self._sum(f"hits {name}", value.double())
        if (p := step.assignments) is not None:
            chosen = F.one_hot(p.argmax(-1), p.shape[-1])
            self._sum("usage", chosen.sum(-2).double())
            confidence = p.max(-1).values.mean(-1).double()
            self._mean("confidence", [confidence, torch.ones_like(confidence)])
        self.bounds |= step.bounds

    def read(self) -> dict[str, Any]:
        """Means so far: loss, terms, details, and the use of the components or clusters.

        Of a method with sub-heads the last ones are lists, with an entry a sub-head.
        """
        self.sums = {name: total(value).cpu() for name, value in self.state.items()}
        sums = self.sums
        terms = {
            name.removeprefix("term "): (value[0] / value[1]).item()
            for name, value in sums.items()
            if name.startswith("term ")
        }
        row: dict[str, Any] = {"loss": sum(terms.values()), "terms": terms}
        for name, value in sums.items():
            if name.startswith("detail "):
                row[name.removeprefix("detail ")] = (value[0] / value[1]).tolist()
            elif name.startswith("hits "):
                row[name.removeprefix("hits ")] = int((value > 0).sum())
        if "usage" in sums:
            usage = sums["usage"] / sums["usage"].sum(-1, keepdim=True)
            row["usage"] = usage.double().mul(1e6).round().div(1e6).tolist()
            row["used"] = (usage > 0).sum(-1).tolist()
            row["usage_entropy"] = torch.special.entr(usage).sum(-1).tolist()
            row["confidence"] = (sums["confidence"][0] / sums["confidence"][1]).tolist()
        return row

    def broken(self) -> str | None:
        """The term that was the first to be no longer finite, when last read, or None."""
        times = {n: v[2].item() for n, v in self.sums.items() if n.startswith("term ")}
        worst = max(times, key=times.__getitem__)
        return worst.removeprefix("term ") if times[worst] else None

    def collapsed(self, row: dict[str, Any]) -> str | None:
        """What looks like a collapse, in words, or None."""
        used = row.get("used", 2)
        if (max(used) if isinstance(used, list) else used) == 1:
            return f"all images are in one of {self.state['usage'].shape[-1]} components"
        for name, words in (("contrast", "contrastive loss"), ("swapped", "swapped prediction")):
            bound = self.bounds.get(name, math.inf)
            # Far above it are wrong guesses, as of a network that has only begun to learn.
            if 0.995 < row["terms"].get(name, 0) / bound < 1.05:
                return f"the {words} stays at its bound {bound:.3f}: all embeddings are alike"
        stuck = self.bounds.get("main", math.inf)
        if row["terms"].get("main", -math.inf) > stuck - 1e-3:
            return (
                f"the loss of the main head stays at {stuck:.3g}: "
                "its clusters say nothing of the image"
            )
        return None

    def _mean(self, name: str, values: list[torch.Tensor]) -> None:
        self._sum(name, torch.stack(values) / size())  # a step counts once, however many share it

    def _sum(self, name: str, value: torch.Tensor) -> None:
        self.state[name] = self.state[name] + value if name in self.state else value
