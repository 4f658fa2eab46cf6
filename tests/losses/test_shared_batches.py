"""Two processes find for their halves of a batch what one finds for all of it.

python -m torch.distributed.run --nproc-per-node 2 tests/losses/test_shared_batches.py FILE
"""

import os
import subprocess
import sys

import pytest
import torch

from mixem.distributed import disconnect, leads, rank, size, together, total
from mixem.losses import neighbour_consistency, self_label, temi

PAIRS, K = 12, 3


def scan(first, second):
    consistency, diversity = neighbour_consistency(first, second)
    return consistency + 5 * diversity


def labels(first, second):
    return self_label(first, second, threshold=0.7)[0]


def kept(first, second):
    return self_label(first, second, threshold=0.7)[1] + 0 * first.sum((1, 2))


def mutual(first, second):
    marginal = torch.full((2, K), 1 / K, dtype=first.dtype)
    loss, marginal = temi(
        torch.stack([first, second]), torch.stack([second, first]), marginal=marginal
    )
    return loss + marginal.square().sum(1)


CASES = {"scan": scan, "self-label": labels, "kept": kept, "temi": mutual}


def found():
    """Loss and gradient of every case; of the processes together, the mean of their losses."""
    generator = torch.Generator().manual_seed(0)
    both = 2 * torch.randn(2, 2, PAIRS, K, generator=generator, dtype=torch.float64)
    results = {}
    with together(torch.device("cpu")):
        for name, loss in CASES.items():
            whole = both.clone().requires_grad_()
            own = loss(*(0.2 * whole if name == "temi" else whole)[:, :, rank() :: size()])
            own.sum().backward()
            results[name] = (total(own.detach()) / size(), total(whole.grad) / size())
    return results


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    file = tmp_path_factory.mktemp("two") / "found.pt"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node=2", __file__, str(file)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_loss_and_gradient_of_one(of_two, name):
    for two, one in zip(of_two[name], found()[name], strict=True):
        assert torch.allclose(two, one, rtol=1e-12, atol=1e-14)
    assert name == "kept" or found()[name][1].abs().max() > 1e-3


if __name__ == "__main__":
    results = found()
    if leads():
        torch.save(results, sys.argv[1])
    disconnect()
