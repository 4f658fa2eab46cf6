"""How many clusters are used, and how evenly."""

import math

import numpy as np
import pytest
import torch

from mixem.clustering import cluster_usage
from mixem.errors import InputError


def test_cluster_usage():
    used, entropy = cluster_usage(torch.tensor([0, 0, 3, 3]), 5)
    assert used == 2
    assert entropy == pytest.approx(math.log(2))
    assert cluster_usage(np.arange(10), 10).entropy == pytest.approx(math.log(10))
    assert cluster_usage([4, 4, 4], 10) == (1, 0.0)


def test_cluster_usage_refuses_a_cluster_beyond_k():
    with pytest.raises(InputError, match="clusters contain 5 but k is 5"):
        cluster_usage([0, 5], 5)


@pytest.mark.parametrize("k", [0, 2.5, True, "2"])
def test_cluster_usage_refuses_what_is_no_number_of_clusters(k):
    with pytest.raises(InputError, match=f"k is {k!r}: give a whole number"):
        cluster_usage([0, 1], k)
