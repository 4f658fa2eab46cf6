"""SCAN's loss: by hand, slow and official references, golden values, corner cases."""

import math

import numpy as np
import pytest
import torch

from mixem.errors import InputError
from mixem.losses import neighbour_consistency


def softmax(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def slow(anchors, neighbours):
    """One pair at a time, in NumPy."""
    p, q = ([softmax(row) for row in x] for x in (anchors, neighbours))
    consistency = -sum(math.log(a @ b) for a, b in zip(p, q, strict=True)) / len(p)
    mean = sum(p) / len(p)
    return consistency, sum(m * math.log(m) for m in mean if m > 0)


def logits(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return list(2 * torch.randn(2, *shape, generator=generator, dtype=dtype))


def golden(shift=0.0):
    i, j = torch.arange(6.0, dtype=torch.float64)[:, None], torch.arange(4.0)[None]
    return [
        2 * torch.sin(0.7 * i + 1.3 * j.double() + shift),
        2 * torch.cos(0.5 * i - 0.9 * j.double() + shift),
    ]


def weighted(anchors, neighbours, weight=5.0):
    consistency, diversity = neighbour_consistency(anchors, neighbours)
    return consistency + weight * diversity


def test_two_clusters_by_hand():
    # Image 1: p (3/4, 1/4), q (1/2, 1/2), product 1/2. Image 2: p (1/4, 3/4), q the same, 5/8.
    p = torch.tensor([[3.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    q = torch.tensor([[1.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    consistency, diversity = neighbour_consistency(p.log(), q.log())
    assert consistency.item() == pytest.approx(-(math.log(1 / 2) + math.log(5 / 8)) / 2)
    assert diversity.item() == pytest.approx(-math.log(2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (7, 2), (20, 5)])
def test_equals_the_slow_reference_within_its_range(shape):
    pair = logits(*shape)
    found = [x.item() for x in neighbour_consistency(*pair)]
    assert found == pytest.approx(slow(*(x.numpy() for x in pair)), abs=1e-13)
    assert found[0] >= -1e-12
    assert -math.log(shape[1]) - 1e-12 <= found[1] <= 1e-12


@pytest.mark.parametrize(
    ("weight", "total", "norms", "row"),
    [
        (
            5.0,
            -4.992335248,
            (0.3975848256, 0.2078216687),
            (0.03060801494, 0.1185928750, -0.1559189224, 0.006718032474),
        ),
        (
            2.0,
            -1.184314227,
            (0.2036110850, 0.2078216687),
            (-0.0009780076412, 0.03819879035, -0.04209536404, 0.004874581324),
        ),
    ],
)
def test_value_and_gradient_equal_the_official_ones(weight, total, norms, row):
    pair = [x.requires_grad_() for x in golden()]
    consistency, diversity = neighbour_consistency(*pair)
    assert consistency.item() == pytest.approx(1.354366453, abs=5e-10)
    assert diversity.item() == pytest.approx(-1.269340340, abs=5e-10)
    loss = consistency + weight * diversity
    assert loss.item() == pytest.approx(total, abs=5e-9)
    gradients = torch.autograd.grad(loss, pair)
    assert [g.norm().item() for g in gradients] == pytest.approx(norms, abs=5e-10)
    assert gradients[0][0].tolist() == pytest.approx(row, abs=5e-11)


def test_heads_are_a_batch():
    pairs = [golden(), golden(0.4)]
    both = [torch.stack(x) for x in zip(*pairs, strict=True)]
    loss = weighted(*both)
    assert loss.tolist() == pytest.approx([-4.992335248, -4.972711630], abs=5e-9)
    assert loss.tolist() == pytest.approx([weighted(*pair).item() for pair in pairs], rel=1e-14)


@pytest.mark.parametrize("k", [2, 10])
def test_extremes(k):
    sure = 1000 * torch.eye(k)
    consistency, diversity = neighbour_consistency(sure, sure)
    assert consistency.item() == 0
    assert diversity.item() == pytest.approx(-math.log(k))
    one = sure[[1, 1, 1]]
    assert [x.item() for x in neighbour_consistency(one, one)] == [0, 0]
    uniform = torch.zeros(5, k, requires_grad=True)
    consistency, diversity = neighbour_consistency(uniform, uniform)
    assert consistency.item() == pytest.approx(math.log(k))
    assert diversity.item() == pytest.approx(-math.log(k))
    (gradient,) = torch.autograd.grad(consistency + 5 * diversity, uniform)
    assert gradient.abs().max() < 1e-6  # stationary


def test_what_changes_nothing_and_what_does():
    anchors, neighbours = logits(9, 4)
    found = neighbour_consistency(anchors, neighbours)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    names = [2, 0, 3, 1]
    for pair in (
        (anchors[order], neighbours[order]),
        (anchors[:, names], neighbours[:, names]),
        (anchors + 7, neighbours - 3),
    ):
        for a, b in zip(neighbour_consistency(*pair), found, strict=True):
            assert a.item() == pytest.approx(b.item(), rel=1e-12)
    # Only the anchors are asked to be diverse; agreement is mutual.
    swapped = neighbour_consistency(neighbours, anchors)
    assert swapped[0].item() == pytest.approx(found[0].item(), rel=1e-12)
    assert abs(swapped[1] - found[1]) > 0.01
    # Row b belongs to row b.
    assert abs(neighbour_consistency(anchors, neighbours.flip(0))[0] - found[0]) > 0.01


def test_the_neighbours_get_no_gradient_from_diversity():
    pair = [x.requires_grad_() for x in logits(5, 3)]
    _, diversity = neighbour_consistency(*pair)
    anchors, neighbours = torch.autograd.grad(diversity, pair, allow_unused=True)
    assert anchors.abs().max() > 0.01
    assert neighbours is None


def test_gradcheck():
    pair = [x.requires_grad_() for x in logits(2, 4, 3)]
    assert torch.autograd.gradcheck(neighbour_consistency, pair)
    assert torch.autograd.gradgradcheck(neighbour_consistency, pair)


@pytest.mark.parametrize("gap", [20.0, 200.0, 1e4])
def test_certain_of_different_clusters(gap):
    # From a gap of about 100 on the official loss is 100 and has no gradient.
    anchors = torch.tensor([[gap, 0.0]], requires_grad=True)
    neighbours = torch.tensor([[0.0, gap]], requires_grad=True)
    consistency, diversity = neighbour_consistency(anchors, neighbours)
    assert consistency.item() == pytest.approx(gap - math.log(2), rel=1e-6)
    for gradient in torch.autograd.grad(consistency, (anchors, neighbours), retain_graph=True):
        assert gradient.abs().tolist()[0] == pytest.approx([0.5, 0.5], abs=1e-6 + 1e-7 * gap)
    assert torch.autograd.grad(diversity, anchors)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    pair = [x.to(dtype) for x in logits(2, 8, 5, dtype=torch.float32)]
    found = neighbour_consistency(*pair)
    with torch.autocast("cpu", torch.bfloat16):
        cast = neighbour_consistency(*(x.float() for x in pair))
    for a, b, c in zip(found, neighbour_consistency(*(x.float() for x in pair)), cast, strict=True):
        assert a.dtype == c.dtype == torch.float32
        assert torch.equal(a, b)
        assert torch.equal(c, b)


@pytest.mark.parametrize(
    ("anchors", "neighbours"),
    [
        (torch.ones(3, 2), torch.ones(2, 2)),
        (torch.ones(3), torch.ones(3)),
        (torch.ones(0, 2), torch.ones(0, 2)),
        (torch.ones(3, 2).long(), torch.ones(3, 2).long()),
    ],
)
def test_other_shapes_are_refused(anchors, neighbours):
    with pytest.raises(InputError, match=r"give .*\(images, clusters\)"):
        neighbour_consistency(anchors, neighbours)
