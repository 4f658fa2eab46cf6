"""What methods with several heads share."""

import pytest
import torch
from torch import nn

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.methods import IIC, SCAN, IICSettings, KMeans, SCANSettings, extract
from mixem.methods.heads import SHARPNESS, Agreement, begin_at_centres, head_clusterings
from mixem.models import Prepared

VIEWS = Augmentation(size=1)


def blobs(n=60):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    x = 4 * torch.eye(6)[labels] + 1 + 0.1 * torch.randn(n, 6, generator=generator)
    return x.half(), labels


def test_every_head_begins_at_the_centres_of_a_kmeans():
    x, labels = blobs()
    method = KMeans(Prepared(6), VIEWS, clusters=3)
    method.begin(x, torch.Generator())
    linear = nn.Linear(6, 4 * 3)
    begin_at_centres(linear, method, x, torch.Generator().manual_seed(0))
    z = method.backbone(x)
    means = torch.stack([z[labels == c].mean(0) for c in range(3)])
    for weight in linear.weight.unflatten(0, (4, 3)):
        found = weight / SHARPNESS  # in any order of the clusters
        nearest = torch.cdist(found, means).argmin(1)
        assert sorted(nearest.tolist()) == [0, 1, 2]
        assert torch.allclose(found, means[nearest], atol=1e-4)
    assert not linear.bias.any()


@pytest.mark.parametrize("head_start", ["random", "k-means"])
@pytest.mark.parametrize("kind", ["scan", "iic"])
def test_a_start_at_centres_is_used_if_asked_for(kind, head_start):
    x, labels = blobs()
    torch.manual_seed(0)
    if kind == "scan":
        settings = SCANSettings(neighbours=3, heads=2, head_start=head_start)
        method = SCAN(Prepared(6), VIEWS, settings, clusters=3)
    else:
        settings = IICSettings(
            neighbours=3, sub_heads=2, repeats=1, passes=("main",), head_start=head_start
        )
        method = IIC(Prepared(6), VIEWS, settings, clusters=3)
    method.begin(x, torch.Generator().manual_seed(0))
    clusters = method.eval().assign(x).argmax(1)
    pure = all(len(clusters[labels == c].unique()) == 1 for c in range(3))
    assert (pure and len(clusters.unique()) == 3) == (head_start == "k-means")


def test_the_heads_of_the_lowest_losses_agree():
    eye = torch.eye(2)
    first, second = eye[[0, 0, 1, 1]], eye[[0, 1, 1, 1]]
    p = torch.stack([eye[[0, 1, 0, 1]], second[:, [1, 0]], first])
    agreement = Agreement(2, 2)
    agreement.choose(torch.tensor([-0.1, -0.2, -0.3]), p)
    assert agreement.heads.tolist() == [2, 1]
    assert agreement.columns.tolist() == [[0, 1], [1, 0]]
    assert torch.equal(agreement(p), (first + second) / 2)
    alone = Agreement(1, 2)
    alone.choose(torch.tensor([-0.1, -0.2, -0.3]), p)
    assert torch.equal(alone(p), first)


def test_more_heads_than_there_are_cannot_agree():
    with pytest.raises(InputError, match="3 of 2 heads agree"):
        SCANSettings(heads=2, agreeing=3)
    with pytest.raises(InputError, match="6 of 5 sub-heads agree"):
        IICSettings(agreeing=6)
    with pytest.raises(InputError, match="head_start is 'zeros'"):
        IICSettings(head_start="zeros")


def test_a_single_head_has_no_rows():
    assert not list(head_clusterings(torch.ones(1, 4, 2) / 2, torch.zeros(1), 0))


def test_a_backbone_of_ones_own_may_take_vectors():
    x, _ = blobs()
    backbone = nn.Linear(6, 2)
    backbone.takes_vectors = True
    method = KMeans(backbone, VIEWS, clusters=3)
    method.begin(x, torch.Generator())  # it wants to know nothing
    assert torch.allclose(extract(method, x), backbone(x.float()).detach())
