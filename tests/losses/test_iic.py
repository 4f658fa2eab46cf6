"""IIC's loss: by hand, slow and official references, golden values, corner cases, memory."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mixem.errors import InputError
from mixem.losses import iic, joint_distribution

EPS = 2.220446049250313e-16  # the official bound
SHAPES = [(1, 1, 2), (1, 2, 3), (3, 7, 2), (2, 20, 5)]  # sub-heads, images, clusters


def slow(p, q, lamb):
    """One pair, one entry of the joint distribution and one sub-head at a time, in NumPy."""
    losses = []
    for first, second in zip(p, q, strict=True):
        joint = sum(np.outer(x, y) for x, y in zip(first, second, strict=True)) / len(first)
        joint = (joint + joint.T) / 2
        loss = 0.0
        for c in range(len(joint)):
            for d in range(len(joint)):
                marginals = math.log(joint[c].sum()) + math.log(joint[:, d].sum())
                loss -= joint[c, d] * (math.log(joint[c, d]) - lamb * marginals)
        losses.append(loss)
    return losses


def official(p, q, lamb):
    """The released arithmetic for one sub-head, with clones where it writes to expanded tensors."""
    k = p.shape[1]
    joint = (p.unsqueeze(2) * q.unsqueeze(1)).sum(0)
    joint = (joint + joint.t()) / 2
    joint = joint / joint.sum()
    row = joint.sum(1).view(k, 1).expand(k, k).clone()
    column = joint.sum(0).view(1, k).expand(k, k).clone()
    joint = joint.clone()
    for x in (joint, row, column):
        x[x < EPS] = EPS
    return -(joint * (joint.log() - lamb * row.log() - lamb * column.log())).sum()


def entropy(p):
    return -torch.special.xlogy(p, p).sum()


def logits(*shape, seed=0, dtype=torch.float64):
    return 2 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def two_views(*shape, **kwargs):
    return logits(*shape, **kwargs).softmax(-1)


def loss_and_gradient(x, loss):
    """Loss and its gradient in ``x``, which the softmax of is given to ``loss``."""
    x = x.detach().clone().requires_grad_()
    value = loss(*x.softmax(-1))
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def test_two_clusters_by_hand():
    # Image 1: surely cluster 0 in both views. Image 2: undecided, then surely cluster 1.
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    joint = [[1 / 2, 1 / 8], [1 / 8, 1 / 4]]  # ((1, 1/2), (0, 1/2)) / 2, symmetrised
    assert joint_distribution(p, q).tolist() == joint
    marginal = [5 / 8, 3 / 8]
    information = sum(
        joint[c][d] * math.log(joint[c][d] / (marginal[c] * marginal[d]))
        for c in range(2)
        for d in range(2)
    )
    assert iic(p, q).item() == pytest.approx(-information, rel=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lamb", [0.0, 0.5, 1.0, 1.5])
def test_equals_the_slow_reference(shape, lamb):
    p, q = two_views(*shape)
    loss = iic(p, q, lamb=lamb)
    assert loss.shape == shape[:1]
    assert loss.tolist() == pytest.approx(slow(p.numpy(), q.numpy(), lamb), abs=1e-13)


@pytest.mark.parametrize("lamb", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_is_the_joint_entropy_less_the_marginal_ones(lamb, seed):
    p, q = two_views(30, 6, seed=seed)
    joint = joint_distribution(p, q)
    expected = entropy(joint) - 2 * lamb * entropy(joint.sum(1))
    assert iic(p, q, lamb=lamb).item() == pytest.approx(expected.item(), abs=1e-13)


@pytest.mark.parametrize("lamb", [1.0, 1.5])
@pytest.mark.parametrize(
    ("name", "scale", "shift", "clamped"),
    [
        ("soft", 1, 0, False),
        ("almost hard", 60, 0, True),
        ("hard", 1e4, 0, True),
        ("an empty cluster", 1, -60, True),
        ("all in one cluster", 1, 300, True),
    ],
)
def test_value_and_gradient_equal_the_official_ones(name, scale, shift, clamped, lamb):
    # The official code overwrites entries below EPS, here they are clamped.
    x = scale * logits(8, 4)
    x[..., 0] += shift
    assert (joint_distribution(*x.softmax(-1)) < EPS).any() == clamped
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 2e-6)):
        p = x.to(dtype).softmax(-1)
        found, expected = (
            (value, *torch.autograd.grad(value, leaves))
            for loss in (lambda a, b: iic(a, b, lamb=lamb), lambda a, b: official(a, b, lamb))
            for leaves in [[view.clone().requires_grad_() for view in p]]
            for value in [loss(*leaves)]
        )
        for a, b in zip(found, expected, strict=True):
            assert a.isfinite().all()
            assert torch.allclose(a, b, rtol=tolerance, atol=tolerance), (name, dtype)


@pytest.mark.parametrize(
    ("k", "lamb", "golden"),
    # The official function's values, and (1 - 2 lamb) ln k.
    [(4, 1.0, -1.3862943649), (5, 1.0, -1.6094), (5, 1.5, -3.2189), (10, 1.0, -2.3026)],
)
def test_certain_balanced_clusters_reach_the_minimum(k, lamb, golden):
    p = torch.eye(k)
    loss = iic(p, p, lamb=lamb).item()
    assert loss == pytest.approx(golden, abs=5e-10 if k == 4 else 5e-5)
    assert loss == pytest.approx((1 - 2 * lamb) * math.log(k), rel=1e-6)


def test_a_saturated_softmax_gets_a_gradient_of_exactly_0():
    x = (200 * torch.eye(4)).expand(2, 4, 4)
    assert (x.softmax(-1) == 0).sum() == 24
    loss, gradient = loss_and_gradient(x, iic)
    assert loss.item() == pytest.approx(-1.3862943649, abs=5e-10)
    assert torch.equal(gradient, torch.zeros(2, 4, 4))


@pytest.mark.parametrize(("k", "golden"), [(4, -7.203e-14), (10, None)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_cluster_for_all_is_a_trace_below_0_and_stationary(k, golden, dtype):
    x = torch.zeros(2, 6, k, dtype=dtype)
    x[..., 1] = 1000
    loss, gradient = loss_and_gradient(x, iic)
    assert loss.item() == pytest.approx((k - 1) ** 2 * EPS * math.log(EPS), rel=1e-6, abs=0)
    assert golden is None or loss.item() == pytest.approx(golden, rel=1e-4, abs=0)
    assert torch.equal(gradient, torch.zeros_like(x))


@pytest.mark.parametrize("k", [2, 4, 8])
def test_uniform_rows_are_exactly_0_and_stationary(k):
    loss, gradient = loss_and_gradient(torch.zeros(2, 8, k), iic)
    assert loss == 0
    assert torch.equal(gradient, torch.zeros(2, 8, k))


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.float64, 1e-15)])
def test_identical_soft_rows_are_0_and_stationary(dtype, rounding):
    row = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0], dtype=dtype)
    loss, gradient = loss_and_gradient(row.expand(2, 50, 5), iic)
    assert abs(loss.item()) < rounding
    assert gradient.abs().max() < rounding / 50


@pytest.mark.parametrize("start", ["one cluster", "uniform"])
def test_a_step_towards_agreement_leads_out_of_the_stationary_points(start):
    p = torch.full((5, 5), 1 / 5) if start == "uniform" else torch.eye(5)[[0] * 5]
    p = 0.9 * p + 0.1 * torch.eye(5)
    assert iic(p, p).item() < -1e-4


@pytest.mark.parametrize("lamb", [0.0, 0.5, 1.0, 1.5, 3.0])
def test_the_range_is_that_of_the_docstring(lamb):
    for seed, scale in enumerate([0.0, 0.1, 1.0, 10.0, 1000.0] * 4):
        p, q = (scale * logits(4, 12, 6, seed=seed, dtype=torch.float32)).softmax(-1)
        for partner in (p, q):
            loss = iic(p, partner, lamb=lamb)
            least = (1 - 2 * lamb) * math.log(6) if lamb >= 0.5 else 0
            assert (loss >= least - 1e-6).all()
            if lamb == 1:
                assert (loss <= 1e-6).all()


def test_order_of_views_images_and_clusters_does_not_matter():
    p, q = two_views(9, 5)
    loss = iic(p, q).item()
    images, clusters = torch.tensor([3, 1, 8, 0, 2, 7, 5, 4, 6]), torch.tensor([2, 0, 1, 4, 3])
    for other in (
        iic(q, p),
        iic(p[images], q[images]),
        iic(p[:, clusters], q[:, clusters]),
    ):
        assert other.item() == pytest.approx(loss, rel=1e-13)
    assert iic(p, q[images]).item() != pytest.approx(loss, rel=1e-2)
    assert iic(p, q[:, clusters]).item() != pytest.approx(loss, rel=1e-2)


def test_two_swapped_clusters_keep_all_information():
    p = torch.eye(2, dtype=torch.float64)
    assert iic(p, p.flip(1)).item() == pytest.approx(-math.log(2), rel=1e-12)


@pytest.mark.parametrize(("k", "golden"), [(3, -0.405465), (4, None), (10, None)])
def test_clusters_shifted_cyclically_lose_ln_2_by_symmetrising(k, golden):
    p = torch.eye(k, dtype=torch.float64)
    loss = iic(p, p.roll(1, 1)).item()
    assert loss == pytest.approx(math.log(2) - math.log(k), abs=1e-12)
    assert golden is None or loss == pytest.approx(golden, abs=5e-7)


def test_one_pair():
    # Symmetrised, a single pair that disagrees says which two clusters go together.
    a, b = torch.eye(2, dtype=torch.float64).unsqueeze(1)
    assert iic(a, b).item() == pytest.approx(-math.log(2), rel=1e-12)
    assert iic(a, a).item() == pytest.approx(0, abs=1e-13)
    loss, gradient = loss_and_gradient(logits(1, 4), iic)
    assert -math.log(2) < loss < -1e-3
    assert gradient.isfinite().all()


def test_sub_heads_equal_separate_calls():
    x = logits(5, 11, 4)
    losses, gradient = loss_and_gradient(x, iic)
    for head in range(5):
        loss, expected = loss_and_gradient(x[:, head], iic)
        assert loss.shape == ()
        assert losses[head].item() == pytest.approx(loss.item(), rel=1e-13)
        assert torch.allclose(gradient[:, head], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("repeats", [1, 3, 5])
def test_tiled_plain_views_equal_the_mean_over_the_repeats(repeats):
    # The official code pairs r copies of the plain view; the joint is linear in q.
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(2, 8, 4, generator=generator, dtype=torch.float64)
    others = torch.randn(2, repeats, 8, 4, generator=generator, dtype=torch.float64)

    def tiled(p, q):
        return iic(p.repeat(1, repeats, 1), q.flatten(1, 2))

    def averaged(p, q):
        return iic(p, q.mean(1))

    results = []
    for loss in (tiled, averaged):
        leaves = [plain.clone().requires_grad_(), others.clone().requires_grad_()]
        value = loss(*(x.softmax(-1) for x in leaves))
        results.append((value, *torch.autograd.grad(value.sum(), leaves)))
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3)])
@pytest.mark.parametrize("lamb", [1.0, 1.5])
def test_gradcheck(shape, lamb):
    p, q = two_views(*shape)
    assert torch.autograd.gradcheck(
        lambda a, b: iic(a, b, lamb=lamb), (p.clone().requires_grad_(), q.clone().requires_grad_())
    )


def test_descent_finds_the_clusters_of_noisy_pairs():
    # 40 pairs of points around four corners, a linear softmax from a random start.
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(4).repeat(10)
    points = 3 * torch.eye(4)[truth] + 0.3 * torch.randn(2, 40, 4, generator=generator)
    weight = torch.randn(4, 4, generator=generator).mul(0.1).requires_grad_()
    for _ in range(100):
        loss = iic(*(points @ weight).softmax(-1))
        (gradient,) = torch.autograd.grad(loss, weight)
        weight.data -= 3 * gradient
    assert loss.item() < -0.95 * math.log(4)
    clusters = (points[0] @ weight).argmax(1)
    assert len(set(zip(truth.tolist(), clusters.tolist(), strict=True))) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    p, q = two_views(3, 40, 6, dtype=torch.float32).to(dtype)
    loss = iic(p, q)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, iic(p.float(), q.float()))
    # EPS is 0 in float16, and bfloat16 has three digits: -1.3828 there.
    hard = torch.eye(4, dtype=dtype, requires_grad=True)
    loss = iic(hard, hard)
    assert loss.item() == pytest.approx(-1.3862943649, abs=5e-10)
    assert torch.autograd.grad(loss, hard)[0].isfinite().all()


def test_autocast_changes_nothing():
    leaves = [view.requires_grad_() for view in two_views(3, 40, 6, dtype=torch.float32)]
    expected = iic(*leaves)
    with torch.autocast("cpu", torch.bfloat16):
        found = iic(*leaves)
        joint = joint_distribution(*leaves)
    assert found.dtype == joint.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(joint, joint_distribution(*leaves))
    gradients = (torch.autograd.grad(loss.sum(), leaves) for loss in (found, expected))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("n", "k"), [(70_000, 10), (2_800, 280)])
def test_float32_is_enough_for_many_pairs(n, k):
    p, q = two_views(n, k)
    joint, exact = joint_distribution(p.float(), q.float()), joint_distribution(p, q)
    assert torch.equal(joint, joint.T)
    assert joint.double().sum().item() == pytest.approx(1, abs=1e-6)
    # Rounding of n sums, in whatever order this processor takes them: at random sqrt(n) eps / 2.
    assert (joint - exact).abs().max() < 4 * n**0.5 * 2**-24 * exact.max()
    loss = iic(p, q)
    assert loss.dtype == torch.float64
    assert iic(p.float(), q.float()).item() == pytest.approx(loss.item(), abs=1e-6)


def test_one_product_for_all_sub_heads_and_no_outer_products_kept():
    class Watch(TorchDispatchMode):
        products = elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            self.products += "mm" in function.name()
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self.elements = max(self.elements, leaf.numel())
            return result

    heads, n, k = 5, 30, 8
    p, q = (view.requires_grad_() for view in two_views(heads, n, k))
    with Watch() as watch:
        loss = iic(p, q).sum()
        assert watch.products == 1
        loss.backward(inputs=[p, q])
    # As large as the probabilities; outer products would be (h, n, k, k).
    assert watch.elements == heads * n * k


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (2, 4)),
        ((3, 4), (3, 5)),
        ((2, 3, 4), (3, 4)),
        ((4,), (4,)),
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((0, 4), (0, 4)),
        ((3, 0), (3, 0)),
    ],
)
@pytest.mark.parametrize("function", [iic, joint_distribution])
def test_shapes_that_do_not_fit_are_refused(function, shapes):
    with pytest.raises(InputError, match=r"\(images, clusters\)") as caught:
        function(torch.ones(shapes[0]), torch.ones(shapes[1]))
    assert str(shapes[0]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_integers_are_refused():
    p = torch.eye(3, dtype=torch.long)
    with pytest.raises(InputError, match=r"torch\.int64"):
        iic(p, p)


@pytest.mark.parametrize("lamb", [-0.1, math.nan, math.inf])
def test_a_weight_that_is_negative_or_not_finite_is_refused(lamb):
    p = torch.eye(3)
    with pytest.raises(InputError, match=f"lamb is {lamb}") as caught:
        iic(p, p, lamb=lamb)
    assert "\n" not in str(caught.value)
