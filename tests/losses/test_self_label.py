"""SCAN's self-labelling loss: by hand, slow reference, golden values, nobody sure."""

import math

import numpy as np
import pytest
import torch

from mixem.errors import InputError
from mixem.losses import self_label


def softmax(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def slow(logits, sources, threshold, balanced):
    """Image by image and cluster by cluster, in NumPy."""
    errors = {}
    for row, source in zip(logits, sources, strict=True):
        p = softmax(source)
        if p.max() > threshold:
            errors.setdefault(int(p.argmax()), []).append(-math.log(softmax(row)[p.argmax()]))
    kept = [e for cluster in errors.values() for e in cluster]
    if not kept:
        return 0.0, 0.0
    groups = list(errors.values()) if balanced else [kept]
    return sum(sum(g) / len(g) for g in groups) / len(groups), len(kept) / len(logits)


def pair(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return list(3 * torch.randn(2, *shape, generator=generator, dtype=dtype))


def golden():
    i = torch.arange(8, dtype=torch.float64)[:, None]
    j = torch.arange(4, dtype=torch.float64)[None]
    return 1.5 * torch.cos(0.4 * i + 1.1 * j), 4 * torch.sin(0.9 * i + 1.7 * j)


def test_by_hand():
    # Two images surely in cluster 0, one in cluster 1, one undecided.
    sources = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [0.0, 0.0]], dtype=torch.float64)
    p = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.2, 0.8], [0.9, 0.1]], dtype=torch.float64)
    first, second, third = (-math.log(x) for x in (0.5, 0.25, 0.8))
    loss, kept = self_label(p.log(), sources)
    assert loss.item() == pytest.approx(((first + second) / 2 + third) / 2)
    assert kept.item() == 0.75
    loss, _ = self_label(p.log(), sources, balanced=False)
    assert loss.item() == pytest.approx((first + second + third) / 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (9, 2), (40, 5)])
@pytest.mark.parametrize("threshold", [0.0, 0.7, 0.99])
@pytest.mark.parametrize("balanced", [True, False])
def test_equals_the_slow_reference(shape, threshold, balanced):
    logits, sources = pair(*shape)
    found = self_label(logits, sources, threshold=threshold, balanced=balanced)
    expected = slow(logits.numpy(), sources.numpy(), threshold, balanced)
    assert [x.item() for x in found] == pytest.approx(expected, abs=1e-13)
    assert found[0] >= 0


@pytest.mark.parametrize(
    ("balanced", "value", "norm"),
    [(True, 1.479285297, 0.4204806265), (False, 1.607136316, 0.4280210180)],
)
def test_value_and_gradient_equal_the_official_ones(balanced, value, norm):
    logits, sources = golden()
    logits.requires_grad_()
    loss, kept = self_label(logits, sources, threshold=0.8, balanced=balanced)
    assert kept.item() == 5 / 8
    assert loss.item() == pytest.approx(value, abs=5e-10)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.norm().item() == pytest.approx(norm, abs=1e-10)
    rows = gradient.abs().sum(1)
    assert (rows > 0).nonzero().flatten().tolist() == [0, 2, 3, 5, 7]


def test_the_threshold_itself_does_not_count():
    sources = torch.zeros(3, 2, dtype=torch.float64)  # 1/2, exactly
    _, kept = self_label(sources, sources, threshold=0.5)
    assert kept.item() == 0
    _, kept = self_label(sources, sources, threshold=0.49)
    assert kept.item() == 1


@pytest.mark.parametrize("balanced", [True, False])
def test_nobody_sure_is_a_loss_of_0_with_gradient_0(balanced):
    # The official code raises an error and the training ends.
    logits, sources = golden()
    logits.requires_grad_()
    loss, kept = self_label(logits, sources, threshold=0.999, balanced=balanced)
    assert (loss.item(), kept.item()) == (0, 0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_sources_receive_no_gradient():
    logits, sources = (x.requires_grad_() for x in pair(6, 3))
    loss, _ = self_label(logits, sources, threshold=0.5)
    loss.backward()
    assert sources.grad is None
    assert logits.grad is not None


def test_heads_are_a_batch():
    logits, sources = pair(3, 10, 4)
    sources[1] = 0  # a head that is sure of nothing
    loss, kept = self_label(logits, sources, threshold=0.6)
    for h in range(3):
        alone = self_label(logits[h], sources[h], threshold=0.6)
        assert (loss[h].item(), kept[h].item()) == pytest.approx([x.item() for x in alone])
    assert kept[1] == 0


def test_order_of_images_and_names_of_clusters_do_not_matter():
    logits, sources = pair(12, 4)
    loss, _ = self_label(logits, sources, threshold=0.6)
    names = [2, 0, 3, 1]
    for a, b in ((logits.flip(0), sources.flip(0)), (logits[:, names], sources[:, names])):
        assert self_label(a, b, threshold=0.6)[0].item() == pytest.approx(loss.item())


def test_gradcheck():
    logits, sources = pair(2, 6, 3)
    assert torch.autograd.gradcheck(
        lambda x: self_label(x, sources, threshold=0.5)[0], logits.requires_grad_()
    )


@pytest.mark.parametrize("gap", [200.0, 1e30])
def test_large_logits_stay_finite(gap):
    logits = torch.tensor([[gap, 0.0], [0.0, gap]], requires_grad=True)
    loss, _ = self_label(logits, logits.flip(1))
    assert loss.item() == pytest.approx(gap)
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()
    assert self_label(logits, logits)[0].item() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    given = [x.to(dtype) for x in pair(2, 8, 5, dtype=torch.float32)]
    wide = [x.float() for x in given]
    with torch.autocast("cpu", torch.bfloat16):
        cast = self_label(*wide, threshold=0.5)
    found, expected = self_label(*given, threshold=0.5), self_label(*wide, threshold=0.5)
    for a, b, c in zip(found, expected, cast, strict=True):
        assert a.dtype == c.dtype == torch.float32
        assert torch.equal(a, b)
        assert torch.equal(c, b)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_other_thresholds_are_refused(threshold):
    with pytest.raises(InputError, match="threshold is"):
        self_label(*pair(2, 2), threshold=threshold)


@pytest.mark.parametrize(("a", "b"), [((3, 2), (2, 2)), ((3,), (3,)), ((0, 2), (0, 2))])
def test_other_shapes_are_refused(a, b):
    with pytest.raises(InputError, match=r"give .*\(images, clusters\)"):
        self_label(torch.ones(a), torch.ones(b))
