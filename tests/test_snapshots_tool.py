"""The file behind Figure 3 of IIC."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import snapshots
from mixem.experiments import get
from mixem.methods import extract
from mixem.runs import run


def test_it_holds_what_the_networks_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = get("digits/iic").override(training__epochs=1, training__snapshots=(0, 5))
    done = run(short, out=tmp_path / "run", progress=False)
    out = tmp_path / "dots.npz"
    monkeypatch.setattr(sys, "argv", ["snapshots.py", str(done.folder), str(out), "--images", "90"])
    snapshots.main()
    found = dict(np.load(out))
    assert found["epochs"].tolist() == [0, 1]
    assert found["images"].shape[0] == len(found["labels"]) == 90
    start, end = (torch.from_numpy(p).float() for p in found["probabilities"])
    assert (
        extract(done.method, torch.from_numpy(found["images"]), "assign").sub(end).abs().max()
        < 1e-3
    )
    assert start.std(0).max() < end.std(0).max()
