"""SCAN: neighbours, its loss, the choice of a head; self-labelling after it."""

import copy
import math

import pytest
import torch
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation, load_images
from mixem.errors import InputError
from mixem.losses import neighbour_consistency
from mixem.methods import SCAN, SCANSettings, SelfLabel, SelfLabelSettings, SimCLR, extract

VIEWS = Augmentation(size=8)


class Brightness(nn.Module):
    """Mean of the left and the right half of an image: features that are known beforehand."""

    out_features = 2

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x):
        left, right = x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))
        return torch.stack([left, right], 1) * self.scale


def halves(*pairs):
    """uint8 images ``(N, 1, 8, 8)`` of two grey levels each."""
    images = torch.zeros(len(pairs), 1, 8, 8, dtype=torch.uint8)
    for image, (left, right) in zip(images, pairs, strict=True):
        image[..., :4], image[..., 4:] = left, right
    return images


def scan(heads=1, neighbours=2, clusters=3, seed=0, **settings):
    torch.manual_seed(seed)
    settings = SCANSettings(neighbours=neighbours, heads=heads, **settings)
    return SCAN(Brightness(), VIEWS, settings, clusters=clusters)


class Turned(SimCLR):
    """A start whose embeddings are not its features: the two halves change places."""

    def embeddings(self, images):
        return self.features(images).flip(1) * torch.tensor([1.0, 100.0])


def test_neighbours_are_those_of_the_starts_embeddings_and_the_image_itself():
    images = halves((200, 10), (180, 10), (10, 200), (10, 190), (100, 100))
    method = scan()
    assert method.companions(images).tolist()[:2] == [[0, 1, 4], [1, 0, 4]]
    other = Turned(Brightness(), VIEWS)
    method.start_from(other)
    x = torch.nn.functional.normalize(extract(other, images, "embeddings"), dim=1)
    similar = x @ x.T - 2 * torch.eye(5)
    expected = torch.cat([torch.arange(5)[:, None], similar.topk(2).indices], 1)
    found = method.companions(images)
    assert found.tolist() == expected.tolist()
    assert found.tolist() != scan().companions(images).tolist()


def test_the_starts_head_is_not_among_the_weights():
    method = scan()
    before = set(method.state_dict())
    method.start_from(Turned(Brightness(), VIEWS))
    assert set(method.state_dict()) == before
    assert torch.equal(method.backbone.scale, torch.ones(2))


def test_more_neighbours_than_images_are_refused():
    with pytest.raises(InputError, match="20 neighbours among 5 images; give fewer"):
        scan(neighbours=20).companions(halves(*[(1, 2)] * 5))


@torch.no_grad()
def test_a_step_is_the_papers_formula():
    method = scan(heads=2, clusters=3, entropy_weight=2.0)
    views = torch.rand(2, 4, 1, 8, 8)
    found = method.step(views)
    consistency = diversity = 0.0
    for head in range(2):
        rows = slice(3 * head, 3 * head + 3)
        p, q = (
            (method.backbone(v) @ method.head.weight[rows].T + method.head.bias[rows]).softmax(1)
            for v in views
        )
        consistency -= sum(math.log(float(a @ b)) for a, b in zip(p, q, strict=True)) / 4
        mean = p.mean(0)
        diversity += 2.0 * float((mean * mean.log()).sum())
        assert torch.allclose(found.assignments[head], p)
    assert found.terms["consistency"].item() == pytest.approx(consistency, abs=1e-5)
    assert found.terms["diversity"].item() == pytest.approx(diversity, abs=1e-5)
    assert sum(found.details["heads"]).item() == pytest.approx(consistency + diversity, abs=1e-5)


def test_the_anchors_are_the_images_and_not_their_companions():
    method = scan()
    images, companions = halves((255, 0), (255, 0)), halves((0, 255), (0, 255))
    views = method.draw_pairs(images, companions, torch.Generator().manual_seed(0))
    assert views[0, :, 0, 0, 0].tolist() == [1.0, 1.0]
    assert views[1, :, 0, 0, 0].tolist() == [0.0, 0.0]


def test_the_head_with_the_lowest_loss_counts():
    images = load_images("digits", split="test").images[:60]
    method = scan(heads=3, neighbours=4)
    with torch.no_grad():  # the second head knows left from right, the others say nothing
        method.head.weight.zero_()
        method.head.bias.zero_()
        method.head.weight[3:6] = torch.tensor([[50.0, -50.0], [-50.0, 50.0], [0.0, 0.0]])
    method.finish(images, torch.Generator())
    logits = extract(method, images, "logits")
    pairs = method.companions(images)
    by_hand = [
        sum(sum(neighbour_consistency(logits[:, h], logits[pairs[:, c], h])) for c in range(5)) / 5
        for h in range(3)
    ]
    assert method.losses.tolist() == pytest.approx([x.item() for x in by_hand], abs=1e-5)
    assert int(method.chosen) == 1
    kinds = list(method.clusterings(images, None, KMeansProtocol(n_init=1)))
    assert [c.kind for c in kinds] == ["argmax p", "k-means", "consensus", "head", "head", "head"]
    assert torch.equal(kinds[0].clusters, kinds[4].clusters)
    assert torch.equal(kinds[0].clusters, extract(method, images, "cluster").argmax(1))
    earlier = scan(heads=3)
    earlier.settle(method)
    assert int(earlier.chosen) == 1


def test_self_labelling_begins_with_the_chosen_head():
    start = scan(heads=2)
    start.chosen.fill_(1)
    start.agreement.heads.fill_(1)
    method = SelfLabel(Brightness(), VIEWS, clusters=3)
    method.start_from(start)
    images = halves((200, 10), (10, 200), (90, 100))
    assert torch.equal(extract(method, images, "assign"), extract(start, images, "assign"))
    with pytest.raises(InputError, match="no linear head of 3 clusters; start from a SCAN run"):
        SelfLabel(Brightness(), VIEWS, clusters=3).start_from(SimCLR(Brightness(), VIEWS))
    with pytest.raises(InputError, match="no linear head of 4 clusters"):
        SelfLabel(Brightness(), VIEWS, clusters=4).start_from(scan())


def test_self_labels_come_from_the_plain_image_and_only_when_sure():
    method = SelfLabel(Brightness(), VIEWS, SelfLabelSettings(threshold=0.9), clusters=2)
    with torch.no_grad():
        method.head.weight.copy_(torch.tensor([[10.0, 0.0], [0.0, 10.0]]))
        method.head.bias.zero_()
    sure, unsure = [1.0, 0.0], [0.5, 0.5]
    plain = torch.tensor([sure, unsure]).repeat_interleave(4, 1)[:, None, None].expand(2, 1, 8, 8)
    strong = torch.full((2, 1, 8, 8), 0.5)
    found = method.step(torch.stack([plain, strong]))
    assert found.details["kept"].item() == 0.5
    assert found.terms["self-label"].item() == pytest.approx(math.log(2), abs=1e-6)
    found.terms["self-label"].backward()
    assert method.head.weight.grad.abs().sum() > 0


def test_impossible_settings():
    for bad in ({"neighbours": 0}, {"heads": 0}, {"entropy_weight": -1.0}):
        with pytest.raises(InputError, match="give at least"):
            SCANSettings(**bad)
    with pytest.raises(InputError, match="threshold is 1; give a number from 0 to below 1"):
        SelfLabelSettings(threshold=1)


def test_a_copy_keeps_its_start():
    method = scan()
    method.start_from(Turned(Brightness(), VIEWS))
    images = halves((200, 10), (180, 10), (10, 200), (10, 190), (100, 100))
    assert copy.deepcopy(method).companions(images).tolist() == method.companions(images).tolist()
