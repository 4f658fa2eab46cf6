"""TEMI's loss: by hand, slow reference, golden values, corner cases."""

import math

import numpy as np
import pytest
import torch

from mixem.errors import InputError
from mixem.losses import temi


def softmax(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def slow(student, teacher, marginal, beta, temperature=0.1, momentum=0.9):
    """Head by head, pair by pair and cluster by cluster, in NumPy."""
    _, heads, pairs, k = student.shape
    s, t = (np.apply_along_axis(softmax, -1, x / temperature) for x in (student, teacher))
    new = np.empty((heads, k))
    for h in range(heads):
        batch = sum(t[side, h, b] for side in (0, 1) for b in range(pairs)) / (2 * pairs)
        new[h] = momentum * marginal[h] + (1 - momentum) * batch
    losses = [0.0] * heads
    for b in range(pairs):
        weight = sum(t[0, h, b] @ t[1, h, b] for h in range(heads)) / heads
        for h in range(heads):
            for own, other in ((0, 1), (1, 0)):
                total = sum(
                    (s[own, h, b, c] * t[other, h, b, c]) ** beta / new[h, c] for c in range(k)
                )
                losses[h] -= weight * math.log(total) / (2 * pairs)
    return losses, new


def logits(*shape, seed=0, dtype=torch.float64, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    return list(scale * torch.randn(2, 2, *shape, generator=generator, dtype=dtype))


def golden(step):
    """Student and teacher, (2, heads, pairs, clusters), of step 0 or 1."""
    h = torch.arange(2, dtype=torch.float64)[:, None, None]
    r = torch.arange(8, dtype=torch.float64)[:, None]
    j = torch.arange(5, dtype=torch.float64)
    student = 0.5 * torch.sin(0.7 * r + 1.3 * j + 0.5 * h + step)
    teacher = 0.5 * torch.cos(0.4 * r - 0.8 * j + 0.9 * h + step)
    return [x.unflatten(1, (2, 4)).transpose(0, 1) for x in (student, teacher)]


def uniform(*shape, dtype=torch.float64):
    return torch.full(shape, 1 / shape[-1], dtype=dtype)


def test_two_clusters_by_hand():
    # One pair, beta 1, temperature 1, momentum 0: pi is the mean of the teacher's two rows.
    s, t = (
        torch.tensor([[a], [b]], dtype=torch.float64)
        for a, b in (([0.5, 0.5], [0.8, 0.2]), ([0.75, 0.25], [0.25, 0.75]))
    )
    options = {"beta": 1.0, "temperature": 1.0, "momentum": 0.0}
    loss, marginal = temi(s.log(), t.log(), marginal=uniform(2), **options)
    assert marginal.tolist() == pytest.approx([0.5, 0.5])
    forth = math.log((0.5 * 0.25 + 0.5 * 0.75) / 0.5)
    back = math.log((0.8 * 0.75 + 0.2 * 0.25) / 0.5)
    weight = 2 * 0.75 * 0.25
    assert loss.item() == pytest.approx(-weight * (forth + back) / 2)


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 4, 3), (3, 7, 5)])
@pytest.mark.parametrize("beta", [0.5, 0.6, 1.0])
def test_equals_the_slow_reference(shape, beta):
    student, teacher = logits(*shape)
    marginal = torch.rand(
        shape[0], shape[2], generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    marginal /= marginal.sum(1, keepdim=True)
    loss, new = temi(student, teacher, marginal=marginal, beta=beta)
    expected, expected_new = slow(student.numpy(), teacher.numpy(), marginal.numpy(), beta)
    assert loss.tolist() == pytest.approx(expected, abs=1e-13)
    assert np.allclose(new, expected_new, rtol=1e-13)


@pytest.mark.parametrize(
    ("beta", "losses", "norms"),
    [
        (
            0.6,
            [(0.002159844269, -0.009533219952), (-0.1411392037, 0.01222106061)],
            [(0.02751919619, 0.02054556206), (0.07130820589, 0.1157186920)],
        ),
        (
            1.0,
            [(0.05269598930, 0.03147412844), (-0.05369146649, 0.2250865569)],
            [(0.04966799869, 0.03547157214), (0.1432758449, 0.2251787341)],
        ),
        (
            0.5,
            [(-0.01165419866, -0.02084908321), (-0.1673142247, -0.04537090730)],
            [(0.02212698171, 0.01681853748), (0.05410667515, 0.09209167491)],
        ),
    ],
)
def test_two_steps_equal_the_official_ones(beta, losses, norms):
    marginal = uniform(2, 5)
    for step in (0, 1):
        student, teacher = golden(step)
        student = student.clone().requires_grad_()
        loss, marginal = temi(student, teacher, marginal=marginal, beta=beta)
        assert loss.tolist() == pytest.approx(losses[step], abs=5e-11)
        (gradient,) = torch.autograd.grad(loss.mean(), student)
        assert gradient.square().sum((0, 2, 3)).sqrt().tolist() == pytest.approx(
            norms[step], abs=5e-11
        )
        if beta == 0.6 and not step:
            assert gradient[0, 0, 0].tolist() == pytest.approx(
                [
                    *(3.901152889e-05, 0.003449195469, -0.003438444909),
                    *(-4.738447170e-05, -2.377616715e-06),
                ],
                abs=1e-12,
            )
    assert marginal.flatten().tolist() == pytest.approx(
        [
            *(0.1797571412, 0.1971470272, 0.2085099915, 0.2086446291, 0.2059412110),
            *(0.1684306931, 0.1760718349, 0.1943371313, 0.2103487983, 0.2508115424),
        ],
        abs=5e-11,
    )


def test_the_weight_is_one_for_all_heads():
    (student, teacher), marginal = golden(0), uniform(2, 5)
    loss, _ = temi(student, teacher, marginal=marginal)
    alone, own = temi(student[:, 0], teacher[:, 0], marginal=marginal[0])
    assert alone.item() == pytest.approx(0.006054982993, abs=5e-13)  # the official WMI
    assert own.tolist() == pytest.approx(
        [0.1985787047, 0.2051454895, 0.2049878452, 0.2029085133, 0.1883794473], abs=5e-11
    )
    assert abs(alone - loss[0]) > 1e-3
    one, _ = temi(student[:, :1], teacher[:, :1], marginal=marginal[:1])
    assert one.tolist() == pytest.approx([alone.item()])


@pytest.mark.parametrize("beta", [0.6, 1.0])
def test_extremes(beta):
    sure = 100 * torch.eye(10).repeat(2, 1, 1)
    loss, marginal = temi(sure, sure, marginal=uniform(10, dtype=torch.float32), beta=beta)
    assert loss.item() == pytest.approx(-math.log(10), rel=1e-6)
    assert marginal.tolist() == pytest.approx([0.1] * 10)
    same = torch.zeros(2, 4, 10, requires_grad=True)
    loss, _ = temi(same, same, marginal=uniform(10, dtype=torch.float32), beta=beta)
    assert loss.item() == pytest.approx(-(2 - 2 * beta) * math.log(10) / 10, abs=1e-6)
    assert torch.autograd.grad(loss, same)[0].abs().max() < 1e-6  # stationary


def test_all_in_one_cluster():
    one = torch.tensor([3.0, *[0.0] * 9], dtype=torch.float64).expand(2, 4, 10)
    marginal = uniform(10)
    for _ in range(300):
        loss, marginal = temi(one, one, marginal=marginal)
    assert loss.item() == pytest.approx(-0.0216350573, abs=5e-11)
    loss, _ = temi(10 * one, 10 * one, marginal=torch.eye(10, dtype=torch.float64)[0])
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_what_changes_nothing():
    (student, teacher), marginal = logits(2, 6, 4), uniform(2, 4)
    loss, _ = temi(student, teacher, marginal=marginal)
    names = [2, 0, 3, 1]
    for a, b in (
        (student.flip(0), teacher.flip(0)),  # which side is which
        (student.flip(2), teacher.flip(2)),
        (student[..., names], teacher[..., names]),
        (student + 3, teacher - 1),
    ):
        assert torch.allclose(temi(a, b, marginal=marginal)[0], loss, rtol=1e-12)
    # But student and teacher, and the pairing, do.
    for a, b in ((teacher, student), (student, torch.stack([teacher[0], teacher[1].flip(1)]))):
        assert (temi(a, b, marginal=marginal)[0] - loss).abs().max() > 1e-3


def test_only_the_student_learns():
    student, teacher = (x.requires_grad_() for x in logits(2, 6, 4))
    marginal = uniform(2, 4).requires_grad_()
    loss, new = temi(student, teacher, marginal=marginal)
    loss.sum().backward()
    assert teacher.grad is None
    assert marginal.grad is None
    assert not new.requires_grad
    assert student.grad is not None
    assert (student.grad != 0).all()


def test_gradcheck():
    student, teacher = logits(2, 3, 4)
    assert torch.autograd.gradcheck(
        lambda x: temi(x, teacher, marginal=uniform(2, 4))[0], student.requires_grad_()
    )


@pytest.mark.parametrize("gap", [10.0, 10.5, 1000.0])
def test_certain_of_different_clusters_is_finite(gap):
    # The official code gives NaN gradients and an infinite loss here, in float32.
    logits = torch.tensor([[[gap, 0.0]], [[0.0, gap]]])
    student = logits.clone().requires_grad_()
    loss, _ = temi(student, logits, marginal=uniform(2, dtype=torch.float32))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_a_dead_cluster_is_finite():
    (student, teacher), marginal = logits(6, 3, dtype=torch.float32), torch.tensor([0.5, 0.5, 0.0])
    student, teacher = (x - torch.tensor([0.0, 0.0, 1000.0]) for x in (student, teacher))
    student.requires_grad_()
    loss, new = temi(student, teacher, marginal=marginal)
    assert new[2] == 0
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    given = [x.to(dtype) for x in logits(2, 8, 5, dtype=torch.float32)]
    wide = [x.float() for x in given]
    marginal = uniform(2, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        cast = temi(*wide, marginal=marginal)
    found, expected = temi(*given, marginal=marginal), temi(*wide, marginal=marginal)
    for a, b, c in zip(found, expected, cast, strict=True):
        assert a.dtype == c.dtype == torch.float32
        assert torch.equal(a, b)
        assert torch.equal(c, b)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("beta", 0.49),
        ("beta", 1.1),
        ("temperature", 0.0),
        ("temperature", float("inf")),
        ("momentum", 1.0),
        ("momentum", -0.1),
    ],
)
def test_other_numbers_are_refused(option, value):
    with pytest.raises(InputError, match=f"{option} is"):
        temi(*logits(3, 4), marginal=uniform(4), **{option: value})


@pytest.mark.parametrize(
    ("student", "teacher", "marginal"),
    [
        ((2, 3, 4), (2, 3, 5), (4,)),
        ((3, 3, 4), (3, 3, 4), (4,)),
        ((2, 3, 4), (2, 3, 4), (5,)),
        ((2, 3, 4), (2, 3, 4), (1, 4)),
        ((2, 2, 3, 4), (2, 2, 3, 4), (4,)),
        ((2, 4), (2, 4), (4,)),
        ((2, 0, 4), (2, 0, 4), (4,)),
    ],
)
def test_other_shapes_are_refused(student, teacher, marginal):
    with pytest.raises(InputError, match=r"give .*\(2, \[heads,\] pairs, clusters\)"):
        temi(torch.ones(student), torch.ones(teacher), marginal=torch.ones(marginal))
