"""Batch norm of parts of a batch: as a call for each part, in every respect."""

import copy

import pytest
import torch
from torch import nn

from mixem.models import SmallNet, make_backbone
from mixem.models.norm import in_parts


def network(kind):
    torch.manual_seed(0)
    if kind == "resnet":
        return make_backbone("small-resnet", in_channels=3).double().train()
    return SmallNet(3, width=2, size=8).double().train()


@pytest.mark.parametrize("kind", ["small", "resnet"])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_one_call_in_parts_is_a_call_for_each_part(kind, parts):
    ours, theirs = network(kind), network(kind)
    images = torch.rand(12, 3, 8, 8, dtype=torch.float64)
    weights = torch.rand(12, ours.out_features, dtype=torch.float64)
    with in_parts(ours, parts):
        found = ours(images)
    expected = torch.cat([theirs(part) for part in images.chunk(parts)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    for output in (found, expected):
        (output * weights).sum().backward()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-12, msg=name)
    for (name, one), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12, msg=name)


def test_the_parts_end_with_the_context_and_in_evaluation_there_are_none():
    net, images = network("small"), torch.rand(12, 3, 8, 8, dtype=torch.float64)
    plain = copy.deepcopy(net)
    with pytest.raises(ZeroDivisionError), in_parts(net, 3):
        raise ZeroDivisionError
    assert torch.equal(net(images), plain(images))
    net.eval(), plain.eval()
    with in_parts(net, 3):
        assert torch.equal(net(images), plain(images))


def test_batch_norm_without_running_statistics():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    twin, x = copy.deepcopy(norm), torch.rand(6, 4)
    with in_parts(norm, 2):
        found = norm(x)
    torch.testing.assert_close(found, torch.cat([twin(part) for part in x.chunk(2)]))
