"""What several tests share."""

import math
import os
import signal
from typing import NamedTuple

# More threads than two add up the sums of k-means in an order of chance.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# On a machine with a GPU the tests stay on the CPU, but for those that ask for "cuda".
os.environ["MIXEM_DEVICE"] = "cpu"
# A shell starts what goes to the background deaf to Ctrl-C, and the tests' children would be, too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch

from mixem.experiments import Experiment, get
from mixem.runs import Run, run

# The tests' networks are so small that more threads would mostly wait for each other.
torch.set_num_threads(1)


class Golden(NamedTuple):
    """Raw embeddings ``(M, B, d)`` and gate logits ``(B, M)`` of the two views, float64."""

    e_i: torch.Tensor
    e_j: torch.Tensor
    l_i: torch.Tensor
    l_j: torch.Tensor


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are looked at after so many steps, however slow the machine is."""
    monkeypatch.setattr("mixem.training.loop.READ_AFTER", math.inf)


@pytest.fixture
def golden() -> Golden:
    """The inputs for which MIX'EM's official functions were run: B 6, M 3, d 4, closed forms."""
    b, m, k = (torch.arange(n, dtype=torch.float64) for n in (6, 3, 4))
    row, component, column = b[None, :, None], m[:, None, None], k[None, None, :]
    return Golden(
        e_i=torch.sin(1 + row + 2 * component + 3 * column),
        e_j=torch.cos(0.5 + 1.3 * row + 0.7 * component + 1.9 * column),
        l_i=2 * torch.sin(0.3 + 1.7 * b[:, None] + 2.3 * m[None]),
        l_j=2 * torch.cos(0.9 * b[:, None] + 1.1 * m[None]),
    )


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    """digits/simclr made so small that it is trained and evaluated in a second."""
    return get("digits/simclr").override(
        views__size=8, training__epochs=2, training__batch_size=599, protocol__n_init=2
    )


@pytest.fixture(scope="session")
def tiny_run(tiny, tmp_path_factory) -> Run:
    """A finished run of it, seed 1; not to be changed."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    finished = run(tiny, seed=1, out=out, device="cpu", progress=False)
    assert finished is not None
    return finished
