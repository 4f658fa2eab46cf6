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
        self.names: list[str] = []
        self.bounds: dict[str, float] = {}

    def add(self, step: Step) -> None:
        """Add a batch, without waiting for the device."""
        terms = torch.stack([value.detach() for value in step.terms.values()]).double()
        sums = {"terms": terms, "broken": terms.isfinite().logical_not().double()}
        if (p := step.assignments) is not None:
            sums["usage"] = torch.bincount(p.argmax(1), minlength=p.shape[1]).double()
            sums["confidence"] = p.max(1).values.mean().double()
        sums["steps"] = torch.ones((), dtype=torch.float64, device=terms.device)
        for name, value in sums.items():
            self.state[name] = self.state[name] + value if name in self.state else value
        self.names, self.bounds = list(step.terms), step.bounds

    def read(self) -> dict[str, Any]:
        """Means so far: loss, terms, and for a mixture the use of its components."""
        sums = {name: value.cpu() for name, value in self.state.items()}
        steps = sums["steps"].item()
        terms = dict(zip(self.names, (sums["terms"] / steps).tolist(), strict=True))
        row: dict[str, Any] = {"loss": sum(terms.values()), "terms": terms}
        if "usage" in sums:
            usage = sums["usage"] / sums["usage"].sum()
            row["usage"] = [round(share, 6) for share in usage.tolist()]
            row["used"] = int((usage > 0).sum())
            row["usage_entropy"] = torch.special.entr(usage).sum().item()
            row["confidence"] = sums["confidence"].item() / steps
        return row

    def broken(self) -> str | None:
        """The term that was the first to be no longer finite, or None."""
        broken = self.state["broken"].tolist()
        return self.names[broken.index(max(broken))] if max(broken) else None

    def collapsed(self, row: dict[str, Any]) -> str | None:
        """What looks like a collapse, in words, or None."""
        if row.get("used", 2) == 1:
            return f"all images are in one of {len(row['usage'])} components"
        bound = self.bounds.get("contrast", math.inf)
        if row["terms"].get("contrast", 0) > 0.995 * bound:
            return f"the contrastive loss stays at its bound {bound:.3f}: all embeddings are alike"
        return None
