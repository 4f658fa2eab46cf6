"""TEMI: heads, teacher, step and choice."""

import pytest
import torch
import torch.nn.functional as F

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.losses import temi
from mixem.methods import TEMI, TEMISettings, extract
from mixem.methods.temi import CosineHeads
from mixem.models import Prepared

VIEWS = Augmentation(size=1)


def made(**settings):
    torch.manual_seed(0)
    values = {"heads": 2, "neighbours": 3, "hidden": (7, 5)} | settings
    return TEMI(Prepared(6), VIEWS, TEMISettings(**values), clusters=4)


def vectors(n=20):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(1)).half()


def test_each_head_is_a_network_of_its_own():
    torch.manual_seed(0)
    heads = CosineHeads(6, 4, 3, (7, 5))
    with torch.no_grad():
        heads.factors.mul_(torch.arange(1.0, 5.0))
    x = torch.randn(9, 6)
    found = heads(x)
    for h in range(3):
        rows = slice(7 * h, 7 * h + 7)
        a = F.gelu(x @ heads.first.weight[rows].T + heads.first.bias[rows])
        b = a @ heads.second[h] + heads.second_bias[h]
        cosines = F.cosine_similarity(b[:, :, None], heads.directions[h][None], dim=1)
        assert torch.allclose(found[h], cosines * torch.arange(1.0, 5.0), atol=1e-6)


def test_a_step_is_the_loss_of_the_pairs_and_moves_the_marginal():
    method = made(beta=0.7)
    views = torch.stack([vectors(8).float(), vectors(16)[8:].float()])
    student = torch.stack([method.student(method.backbone(v)) for v in views])
    losses, marginal = temi(student, student, marginal=torch.full((2, 4), 0.25), beta=0.7)
    step = method.train().step(views)
    assert step.terms["information"].item() == pytest.approx(losses.mean().item(), abs=1e-6)
    assert torch.allclose(method.marginal, marginal)
    step.terms["information"].backward()
    assert method.student.second.grad.abs().sum() > 0
    assert method.teacher.second.grad is None


def test_the_teacher_follows():
    method = made(teacher_momentum=0.75)
    before = method.teacher.second.clone()
    with torch.no_grad():
        method.student.second.add_(1.0)
    method.before_step(0)
    assert torch.equal(method.teacher.second, before)
    method.before_step(1)
    assert torch.allclose(method.teacher.second, before + 0.25)
    assert [module for module, _ in method.rates()] == [method.student]


def test_the_head_with_the_lowest_loss_counts():
    method = made().eval()
    images = vectors()
    method.begin(images, torch.Generator())
    method.finish(images, torch.Generator())
    assert int(method.chosen) == int(method.losses.argmin())
    kinds = list(method.clusterings(images, None, KMeansProtocol(n_init=1)))
    assert [c.kind for c in kinds] == ["argmax p", "k-means", "consensus", "head", "head"]
    assert torch.equal(kinds[0].clusters, kinds[3 + int(method.chosen)].clusters)
    assert torch.equal(kinds[0].clusters, extract(method, images, "cluster").argmax(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.4}, "give a beta from 0.5 to 1"),
        ({"hidden": (3,)}, "two widths"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"neighbours": 0}, "neighbours is 0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(InputError, match=message):
        made(**settings)
