"""Sums over an epoch, read without stopping the device at every step."""

import math
from typing import Any

import torch

from mixem.methods import Step


class Meter:
    """Sums of an epoch on the device: loss terms, and how the components fill.

    Attributes:
        state: Tensors by name, saved with a checkpoint.
    """

    def __init__(self) -> None:
        self.state: dict[str, torch.Tensor] = {}
        self.bounds: dict[str, float] = {}

    def add(self, step: Step) -> None:
        """Add a batch, without waiting for the device."""
        sums = {f"term/{name}": value.detach().double() for name, value in step.terms.items()}
        if (p := step.assignments) is not None:
            sums["usage"] = torch.bincount(p.argmax(1), minlength=p.shape[1]).double()
            sums["confidence"] = p.max(1).values.mean().double()
        sums["steps"] = torch.ones((), dtype=torch.float64, device=next(iter(sums.values())).device)
        for name, value in sums.items():
            self.state[name] = self.state[name] + value if name in self.state else value
        self.bounds = step.bounds

    def read(self) -> dict[str, Any]:
        """Means so far: loss, terms, and for a mixture the use of its components."""
        sums = {name: value.cpu() for name, value in self.state.items()}
        steps = sums["steps"].item()
        terms = {k[5:]: v.item() / steps for k, v in sums.items() if k.startswith("term/")}
        row: dict[str, Any] = {"loss": sum(terms.values()), "terms": terms}
        if "usage" in sums:
            usage = sums["usage"] / sums["usage"].sum()
            row["usage"] = [round(share, 6) for share in usage.tolist()]
            row["used"] = int((usage > 0).sum())
            row["usage_entropy"] = torch.special.entr(usage).sum().item()
            row["confidence"] = sums["confidence"].item() / steps
        return row

    def collapsed(self, row: dict[str, Any]) -> str | None:
        """What looks like a collapse, in words, or None."""
        if row.get("used", 2) == 1:
            return f"all images are in one of {len(row['usage'])} components"
        bound = self.bounds.get("contrast", math.inf)
        if row["terms"].get("contrast", 0) > 0.995 * bound:
            return f"the contrastive loss stays at its bound {bound:.3f}: all embeddings are alike"
        return None
