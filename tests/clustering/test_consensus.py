"""What several clusterings agree on."""

import itertools

import pytest
import torch

from mixem.clustering import consensus, matching
from mixem.errors import InputError


def test_two_of_three_decide():
    eye = torch.eye(3)
    first, second, third = eye[[0, 0, 1, 2]], eye[[0, 0, 1, 2]], eye[[0, 1, 1, 2]]
    found = consensus(torch.stack([first, second[:, [2, 0, 1]], third[:, [1, 2, 0]]]))
    assert found.argmax(1).tolist() == [0, 0, 1, 2]
    assert torch.allclose(found[1], torch.tensor([2 / 3, 1 / 3, 0.0]))


def test_it_is_the_best_of_all_pairings():
    p = torch.rand(2, 30, 4, generator=torch.Generator().manual_seed(1)).softmax(2)
    best = max(
        itertools.permutations(range(4)), key=lambda order: (p[1] * p[0][:, list(order)]).sum()
    )
    slow = (p[1] + p[0][:, list(best)]) / 2
    assert torch.allclose(consensus(p, like=1), slow)


@pytest.mark.parametrize("function", [consensus, matching])
@pytest.mark.parametrize(("shape", "like"), [((3, 4), 0), ((2, 3, 4), 2), ((2, 0, 4), 0)])
def test_other_shapes_are_refused(function, shape, like):
    with pytest.raises(InputError, match=r"give \(clusterings, images, clusters\)"):
        function(torch.zeros(shape), like=like)
