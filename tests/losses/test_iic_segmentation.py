"""IIC's segmentation loss: constants, slow and published references, corner cases, memory."""

import math

import pytest
import share_of_a_segmentation
import torch
from test_distributed import torchrun
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mixem.errors import InputError
from mixem.losses import iic, iic_segmentation

EPS = 2.220446049250313e-16  # the official bound
BOTH = pytest.mark.parametrize("collapsed", [False, True])


def two_maps(*shape, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, *shape, generator=generator, dtype=dtype)
    return logits.softmax(-3)


def some_pixels(n, height, width, seed=1):
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(seed)) < 0.6


def stripes():
    """Three one-hot rows of four pixels' height, ``(1, 3, 12, 12)``."""
    rows = torch.eye(3).repeat_interleave(4, 0).T
    return rows[None, :, :, None].expand(1, 3, 12, 12)


def information(joint, lamb):
    """As the official code has it, of one k x k list of counts."""
    total = sum(map(sum, joint))
    k = range(len(joint))
    p = [[(joint[a][b] + joint[b][a]) / 2 / total for b in k] for a in k]
    marginal = [max(sum(row), EPS) for row in p]
    return sum(
        max(p[a][b], EPS)
        * (
            math.log(max(p[a][b], EPS))
            - lamb * math.log(marginal[a])
            - lamb * math.log(marginal[b])
        )
        for a in k
        for b in k
    )


def slow(x, y, most, lamb, collapsed):
    """One displacement, one pixel and one pair of clusters at a time."""
    n, k, height, width = x.shape
    x, y = x.tolist(), y.tolist()
    joints = {}
    for down in range(-most, most + 1):
        for across in range(-most, most + 1):
            joint = joints.setdefault((down, across), [[0.0] * k for _ in range(k)])
            for i in range(n):
                for v in range(height):
                    for w in range(width):
                        if 0 <= v + down < height and 0 <= w + across < width:
                            for a in range(k):
                                for b in range(k):
                                    first = x[i][a][v + down][w + across]
                                    joint[a][b] += first * y[i][b][v][w]
    if collapsed:
        together = [[sum(j[a][b] for j in joints.values()) for b in range(k)] for a in range(k)]
        return -information(together, lamb)
    return -sum(information(joint, lamb) for joint in joints.values()) / len(joints)


def published(x, y, most, lamb, collapsed, mask=None):
    """The official form: one convolution with the other map as its kernel."""
    if mask is not None:
        x, y = x * mask, y * mask
    joint = torch.nn.functional.conv2d(x.transpose(0, 1), y.transpose(0, 1), padding=most)
    joint = joint.permute(2, 3, 0, 1)
    if collapsed:
        joint = joint.sum((0, 1), keepdim=True)
        joint = joint / joint.sum().item()  # the official code's normaliser has no gradient
    else:
        joint = joint / joint.sum((2, 3), keepdim=True)
    joint = (joint + joint.mT) / 2
    row = joint.sum(3, keepdim=True).clamp(min=EPS)
    column = joint.sum(2, keepdim=True).clamp(min=EPS)
    joint = joint.clamp(min=EPS)
    losses = -(joint * (joint.log() - lamb * row.log() - lamb * column.log())).sum((2, 3))
    return losses.mean()


def loss_and_gradients(logits, loss):
    leaf = logits.detach().clone().requires_grad_()
    value = loss(*leaf.softmax(-3))
    return value.detach(), *torch.autograd.grad(value.sum(), leaf)


@pytest.mark.parametrize(
    ("most", "collapsed", "golden"),
    # Of the official functions.
    [
        (0, True, -1.09861), (1, True, -0.70084), (2, True, -0.49891), (5, True, -0.15785),
        (0, False, -1.09861), (1, False, -0.74493), (2, False, -0.56340), (5, False, -0.50535),
    ],
)  # fmt: skip
def test_three_stripes(most, collapsed, golden):
    x = stripes()
    loss = iic_segmentation(x, x, max_displacement=most, collapsed=collapsed)
    assert loss.item() == pytest.approx(golden, abs=6e-6)


def test_two_pixels_by_hand():
    # Beside each other: sure of 0 and sure of 1. At distance 0 each meets itself, at distance 1
    # each meets the other, after symmetrising: ln 2 of information at both, and no rows beside.
    x = torch.eye(2)[None, :, None, :]
    found = iic_segmentation(x, x, max_displacement=1)
    assert found.item() == pytest.approx(-3 / 9 * math.log(2), rel=1e-6)
    # All together 2 meetings of equals and 2 of unequals: nothing is known.
    assert iic_segmentation(x, x, max_displacement=1, collapsed=True).item() == pytest.approx(0)


@BOTH
@pytest.mark.parametrize("lamb", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("shape", [(2, 3, 6, 6), (1, 2, 5, 7), (3, 4, 3, 2)])
@pytest.mark.parametrize("most", [0, 1, 2])
def test_equals_the_double_loop(shape, most, lamb, collapsed):
    x, y = two_maps(*shape)
    found = iic_segmentation(x, y, max_displacement=most, lamb=lamb, collapsed=collapsed)
    if most >= min(shape[2:]):  # where nothing overlaps the loop divides by 0
        return
    assert found.item() == pytest.approx(slow(x, y, most, lamb, collapsed), abs=1e-12)


@BOTH
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("most", "shape"), [(3, (2, 5, 12, 17)), (10, (2, 3, 31, 20))])
def test_values_and_gradients_equal_the_published_convolution(most, shape, masked, collapsed):
    mask = some_pixels(shape[0], *shape[2:]) if masked else None
    logits = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).double()
    ours = loss_and_gradients(
        logits,
        lambda x, y: iic_segmentation(x, y, max_displacement=most, mask=mask, collapsed=collapsed),
    )
    theirs = loss_and_gradients(logits, lambda x, y: published(x, y, most, 1.0, collapsed, mask))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-14)
    assert ours[1].abs().max() > 1e-8


@BOTH
def test_hard_maps_equal_the_published_convolution(collapsed):
    # Clusters without a pixel and pairs that never meet are below the official bound.
    logits = 1e4 * torch.randn(2, 2, 5, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    logits[:, :, 0] -= 1e6
    x, y = logits.softmax(2)
    found = iic_segmentation(x, y, max_displacement=2, collapsed=collapsed)
    assert found.item() == pytest.approx(published(x, y, 2, 1.0, collapsed).item(), abs=1e-11)


@BOTH
def test_without_displacement_it_is_the_loss_of_all_pixels(collapsed):
    x, y = two_maps(3, 4, 5, 6)
    flat = (view.movedim(1, 3).reshape(-1, 4) for view in (x, y))
    found = iic_segmentation(x, y, max_displacement=0, lamb=1.5, collapsed=collapsed)
    assert found.item() == pytest.approx(iic(*flat, lamb=1.5).item(), rel=1e-12)


@BOTH
def test_the_two_views_can_change_places(collapsed):
    x, y = two_maps(2, 3, 8, 9)
    one, other = (
        iic_segmentation(*maps, max_displacement=2, collapsed=collapsed)
        for maps in ((x, y), (y, x))
    )
    assert one.item() == pytest.approx(other.item(), rel=1e-10)


@BOTH
def test_the_names_of_the_clusters_and_the_way_up_do_not_matter(collapsed):
    x, y = two_maps(2, 4, 7, 9)
    expected = iic_segmentation(x, y, max_displacement=2, collapsed=collapsed).item()
    for change in (
        lambda z: z[:, [2, 0, 3, 1]],
        lambda z: z.flip(3),
        lambda z: z.flip(2),
        lambda z: z.transpose(2, 3),
        lambda z: z.flip(0),
    ):
        found = iic_segmentation(change(x), change(y), max_displacement=2, collapsed=collapsed)
        assert found.item() == pytest.approx(expected, rel=1e-10)


@BOTH
@pytest.mark.parametrize("k", [2, 5])
def test_uniform_maps_and_a_single_cluster_say_nothing(k, collapsed):
    uniform = torch.full((2, k, 6, 6), 1 / k)
    single = torch.zeros(2, k, 6, 6)
    single[:, 0] = 1
    for x in (uniform, single):
        loss = iic_segmentation(x, x, max_displacement=2, collapsed=collapsed)
        assert loss.item() == pytest.approx(0, abs=2e-6)


@BOTH
def test_certain_and_equally_frequent_clusters_reach_the_bound(collapsed):
    # One image for each cluster: wherever one looks, the same cluster.
    x = torch.eye(5)[:, :, None, None].expand(5, 5, 8, 8)
    for lamb in (1.0, 1.5):
        loss = iic_segmentation(x, x, max_displacement=3, lamb=lamb, collapsed=collapsed)
        assert loss.item() == pytest.approx((1 - 2 * lamb) * math.log(5), rel=1e-5)


@BOTH
def test_sub_heads_equal_separate_calls(collapsed):
    x, y = two_maps(3, 2, 4, 7, 8)
    mask = some_pixels(2, 7, 8)
    together = iic_segmentation(x, y, max_displacement=2, mask=mask, collapsed=collapsed)
    assert together.shape == (3,)
    for head in range(3):
        alone = iic_segmentation(
            x[head], y[head], max_displacement=2, mask=mask, collapsed=collapsed
        )
        assert alone.shape == ()
        assert together[head].item() == pytest.approx(alone.item(), rel=1e-12)


# Masks -------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_mask_gives_zero(collapsed, dtype):
    # The official code gives NaN.
    logits = two_maps(2, 3, 6, 6, dtype=dtype).log()
    mask = torch.zeros(2, 1, 6, 6)
    loss, gradient = loss_and_gradients(
        logits,
        lambda x, y: iic_segmentation(x, y, max_displacement=1, mask=mask, collapsed=collapsed),
    )
    assert loss.item() == 0
    assert gradient.count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_displacements_without_overlap_have_no_information(dtype):
    # One pixel counts: only at distance 0 does it meet anything. The official code gives NaN.
    x, y = two_maps(1, 3, 40, 40, dtype=dtype)
    mask = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    mask[:, :, 7, 30] = True
    pixel = (view[:, :, 7, 30] for view in (x, y))
    found = iic_segmentation(x, y, max_displacement=1, mask=mask)
    assert found.item() == pytest.approx(iic(*pixel).item() / 9, abs=1e-7)
    _, gradient = loss_and_gradients(
        torch.stack([x, y]).log(),
        lambda x, y: iic_segmentation(x, y, max_displacement=1, mask=mask),
    )
    assert gradient.isfinite().all()
    assert gradient[..., 7, 30].abs().max() > 0


@BOTH
def test_a_displacement_larger_than_the_image(collapsed):
    x, y = two_maps(2, 3, 4, 5)
    found = iic_segmentation(x, y, max_displacement=9, collapsed=collapsed)
    inner = iic_segmentation(x, y, max_displacement=4, collapsed=collapsed)
    if collapsed:
        assert found.item() == pytest.approx(inner.item(), rel=1e-12)
    else:  # the same 7 x 9 displacements have information, of 81 and of 361
        assert found.item() == pytest.approx(inner.item() * 81 / 361, rel=1e-12)


@BOTH
def test_masked_pixels_get_no_gradient(collapsed):
    mask = some_pixels(2, 9, 7)
    logits = two_maps(2, 3, 9, 7).log()
    _, gradient = loss_and_gradients(
        logits,
        lambda x, y: iic_segmentation(x, y, max_displacement=2, mask=mask, collapsed=collapsed),
    )
    outside = gradient.movedim(2, 4)[:, ~mask[:, 0]]
    assert outside.count_nonzero() == 0
    assert gradient.movedim(2, 4)[:, mask[:, 0]].abs().min() > 0


# Numbers -----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(masked, collapsed):
    x, y = two_maps(2, 2, 4, 3)
    mask = some_pixels(2, 4, 3) if masked else None
    assert torch.autograd.gradcheck(
        lambda a, b: iic_segmentation(
            a, b, max_displacement=1, mask=mask, lamb=1.5, collapsed=collapsed
        ),
        (x.requires_grad_(), y.requires_grad_()),
    )


@BOTH
def test_float32_is_enough(collapsed):
    x, y = two_maps(4, 15, 128, 128)
    found, exact = (
        iic_segmentation(*maps, max_displacement=10, collapsed=collapsed)
        for maps in ((x.float(), y.float()), (x, y))
    )
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), abs=2e-6)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_are_computed_in_float32(collapsed, dtype):
    x, y = two_maps(2, 4, 8, 8, dtype=torch.float32).to(dtype)
    expected = iic_segmentation(x.float(), y.float(), max_displacement=2, collapsed=collapsed)
    with torch.autocast("cpu", torch.bfloat16):
        found = iic_segmentation(x, y, max_displacement=2, collapsed=collapsed)
        same = iic_segmentation(x.float(), y.float(), max_displacement=2, collapsed=collapsed)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(same, expected)


@BOTH
def test_memory_is_as_stated(collapsed):
    class Watch(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            assert function.name() != "aten::_local_scalar_dense"  # no value is waited for
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self.elements = max(self.elements, leaf.numel())
            return result

    n, k, side, most = 2, 6, 30, 6
    x, y = two_maps(n, k, side, side, dtype=torch.float32)
    x, y = x.requires_grad_(), y.requires_grad_()
    with Watch() as watch:
        loss = iic_segmentation(x, y, max_displacement=most, collapsed=collapsed)
        torch.autograd.grad(loss, [x, y])
    padded = (side + most) * (side + most)
    # The convolution's 13 x 13 x 36 would be fewer here; unfolded maps would be 169 times as large.
    assert watch.elements <= (n * k * side**2 if collapsed else k * k * padded)


def test_two_processes_equal_one(tmp_path):
    torchrun(2, share_of_a_segmentation.__file__, tmp_path / "found.pt")
    two = torch.load(tmp_path / "found.pt", weights_only=True)
    one = share_of_a_segmentation.found()
    assert len(one) == 4
    for name, (loss, gradient) in one.items():
        assert torch.allclose(two[name][0], loss, rtol=1e-10), name
        assert torch.allclose(two[name][1], gradient, rtol=1e-9, atol=1e-14), name
        assert gradient.abs().max() > 1e-6


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3, 4, 4), (2, 3, 4, 5)),
        ((2, 3, 4), (2, 3, 4)),
        ((1, 1, 2, 3, 4, 4), (1, 1, 2, 3, 4, 4)),
        ((0, 3, 4, 4), (0, 3, 4, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(InputError, match=r"give .*images, clusters, height, width") as caught:
        iic_segmentation(*map(torch.ones, shapes), max_displacement=1)
    assert str(shapes[0]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_integers_are_refused():
    x = torch.ones(1, 2, 3, 3, dtype=torch.long)
    with pytest.raises(InputError, match=r"torch\.int64"):
        iic_segmentation(x, x, max_displacement=1)


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 3, 4, 4), (1, 1, 4, 4)])
def test_a_mask_of_another_shape_is_refused(shape):
    x = torch.ones(2, 3, 4, 4)
    with pytest.raises(InputError, match=r"the mask .* give one of \(2, 1, 4, 4\)"):
        iic_segmentation(x, x, max_displacement=1, mask=torch.ones(shape))


@pytest.mark.parametrize("most", [-1, 1.0, True, None])
def test_a_displacement_that_is_no_whole_number_is_refused(most):
    x = torch.ones(2, 3, 4, 4)
    with pytest.raises(InputError, match=f"max_displacement is {most!r}; give a whole number"):
        iic_segmentation(x, x, max_displacement=most)


@pytest.mark.parametrize("lamb", [-0.1, math.nan, math.inf])
def test_a_weight_that_is_negative_or_not_finite_is_refused(lamb):
    x = torch.ones(2, 3, 4, 4)
    with pytest.raises(InputError, match=f"lamb is {lamb}"):
        iic_segmentation(x, x, max_displacement=1, lamb=lamb)
