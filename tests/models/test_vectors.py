"""Features as heads see them."""

import numpy as np
import torch
from sklearn.decomposition import PCA

from mixem.models import Prepared


def test_by_hand():
    net = Prepared(2)
    net.fit(torch.tensor([[3.0, 0.0], [0.0, 5.0]]))
    assert torch.allclose(net.mean, torch.tensor([0.5, 0.5]))
    # (1, 0) - (1/2, 1/2) has the direction (1, -1), the other one the opposite direction.
    found = net(torch.tensor([[7.0, 0.0], [0.0, 1.0]]))
    assert torch.allclose(found[:, 0].abs(), torch.ones(2), atol=1e-6)
    assert torch.allclose(found[0], -found[1], atol=1e-6)
    assert torch.allclose(found[:, 1], torch.zeros(2), atol=1e-6)


def test_the_components_are_those_of_scikit_learn():
    x = torch.randn(500, 300, generator=torch.Generator().manual_seed(0)) * torch.linspace(
        1, 9, 300
    )
    net = Prepared(300)
    net.fit(x.half())
    unit = torch.nn.functional.normalize(x.half().float())
    centred = torch.nn.functional.normalize(unit - unit.mean(0)).numpy()
    slow = PCA(10, svd_solver="full").fit(centred)
    agreement = np.abs((net.components[:10].numpy() * slow.components_).sum(1))
    assert net.out_features == 256
    assert agreement.min() > 0.999
    whole = net(x.half()).numpy() @ net.components.numpy()
    assert np.square(centred - whole).mean() < np.square(centred).mean() * 0.05


def test_it_is_not_trained():
    assert not any(p.requires_grad for p in Prepared(8).parameters())
