"""On a GPU that is not there: features, clusters, ends, checkpoints; see without_values.py.

Steps are in training/test_step.py.
"""

import json
import os
import subprocess
import sys

import pytest

import without_values

# They choose rows or heads by values that are on the device: once a run or a batch, no harm.
WAITS = {"cifar10/scan"}


@pytest.fixture(scope="module")
def found():
    """What came of each recipe, from a process that ends without freeing anything."""
    done = subprocess.run(
        [sys.executable, without_values.__file__],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {row["recipe"]: row["found"] for row in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("recipe", without_values.RECIPES)
def test_nothing_mixes_devices(recipe, found):
    tried = found[recipe]
    assert [one for one in tried if "error" in one] == []
    assert (recipe in WAITS) == any("waits" in one for one in tried)
    whats = [one["what"] for one in tried]
    for where in ("cpu", "cuda"):
        assert f"finish, images on {where}" in whats
        assert f"extract features, images on {where}" in whats
    assert "a checkpoint and back" in whats
