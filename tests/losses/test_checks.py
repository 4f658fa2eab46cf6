"""What all losses refuse, and what must pass: rounded rows, NaN, and where there are no values."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mixem.errors import InputError
from mixem.losses import (
    associative_embedding,
    component_diversity,
    iic,
    iic_segmentation,
    infomax,
    instance_confidence,
    instance_entropy,
    joint_distribution,
    logit_penalty,
    neighbour_consistency,
    nt_xent,
    self_label,
    sinkhorn,
    swapped_prediction,
    temi,
)
from mixem.losses.checks import require_cosines, require_probabilities


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


P, Q = random(2, 8, 4).softmax(2)
BOTH = torch.stack([P, Q])

# The name of an argument, the loss of it, and what may be given.
PROBABILITIES = {
    "iic, p": ("p", lambda p: iic(p, Q), P),
    "iic, q": ("q", lambda q: iic(Q, q), P),
    "joint distribution, p": ("p", lambda p: joint_distribution(p, Q), P),
    "joint distribution, q": ("q", lambda q: joint_distribution(Q, q), P),
    "diversity": ("p", component_diversity, P),
    "confidence": ("p", instance_confidence, P),
    "entropy": ("p", instance_entropy, P),
    "pull and push, p": ("p", lambda p: torch.stack(associative_embedding(Q, p)), P),
}
LOSSES = {
    **PROBABILITIES,
    "pull and push, z": ("z", lambda z: torch.stack(associative_embedding(z, Q)), P),
    "nt_xent, z1": ("z1", lambda z: nt_xent(z, Q), P),
    "nt_xent, z2": ("z2", lambda z: nt_xent(Q, z), P),
    "infomax, logits": ("logits", lambda y: infomax(y, Q), P),
    "infomax, scores": ("scores", lambda u: infomax(Q, u), P),
    "penalty": ("logits", lambda y: logit_penalty(y, bound=0.1), P),
    "sinkhorn": ("scores", sinkhorn, P),
    "swapped": ("scores", swapped_prediction, BOTH),
}
EVEN = torch.full((4,), 0.25)
MAPS = P.T.unflatten(1, (2, 4))[None]
TENSORS = {
    **LOSSES,
    "neighbours, anchors": ("anchors", lambda x: torch.stack(neighbour_consistency(x, Q)), P),
    "neighbours": ("neighbours", lambda x: neighbour_consistency(Q, x)[0], P),
    "self-label, logits": ("logits", lambda x: self_label(x, Q, threshold=0.0)[0], P),
    "self-label, sources": ("sources", lambda x: self_label(Q, x, threshold=0.0)[0], P),
    "temi, student": ("student", lambda x: temi(x, BOTH, marginal=EVEN)[0], BOTH),
    "temi, teacher": ("teacher", lambda x: temi(BOTH, x, marginal=EVEN)[0], BOTH),
    "temi, marginal": ("marginal", lambda x: temi(BOTH, BOTH, marginal=x)[0], EVEN),
    "segmentation, x": ("x", lambda x: iic_segmentation(x, MAPS, max_displacement=1), MAPS),
    "segmentation, y": ("y", lambda y: iic_segmentation(MAPS, y, max_displacement=1), MAPS),
}
CONSTANT = ("sinkhorn", "pull and push, p")  # no gradient
EVERY = pytest.mark.parametrize(("name", "loss", "given"), LOSSES.values(), ids=LOSSES)
OF_PROBABILITIES = pytest.mark.parametrize(
    ("name", "loss", "given"), PROBABILITIES.values(), ids=PROBABILITIES
)


@pytest.mark.parametrize("make", [torch.Tensor.numpy, torch.Tensor.tolist, lambda _: None])
@pytest.mark.parametrize(("name", "loss", "given"), TENSORS.values(), ids=TENSORS)
def test_what_is_no_tensor_is_refused(name, loss, given, make):
    with pytest.raises(InputError, match=f"^{name} of type \\w+; give a tensor, ") as caught:
        loss(make(given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "sums"),
    [
        (9 * P, "9 to 9"),
        (P / 2, "0.5 to 0.5"),
        (torch.cat([P[1:], 2 * P[:1]]), "1 to 2"),
        (torch.tensor([[1.5, -0.5, 0, 0]]).expand(8, 4), "1 to 1 and entries from -0.5"),
        (random(8, 4), "-2.* to .* and entries from -2"),
    ],
    ids=["large", "small", "one row", "negative", "logits"],
)
@OF_PROBABILITIES
def test_logits_are_no_probabilities(name, loss, given, wrong, sums):
    with pytest.raises(InputError, match=f"^rows of {name} have sums from {sums}") as caught:
        loss(wrong)
    assert "softmax" in str(caught.value)
    assert "\n" not in str(caught.value)
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.raises(InputError, match="give probabilities"):
            loss(wrong.to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("clusters", [2, 3, 10, 1000])
def test_rounded_rows_are_probabilities(dtype, clusters):
    for seed in range(20):
        p = (seed * random(50, clusters, seed=seed)).softmax(1)
        for rounded in (p.to(dtype), torch.stack([p, p.flip(0)]).to(dtype).mean(0)):
            assert instance_confidence(rounded).isfinite()
            assert iic(rounded, rounded).isfinite()


def test_rows_that_are_as_far_off_as_rounding_goes_are_probabilities():
    # 1 / 255 is nearly halfway between two numbers that bfloat16 has, where these are rarest.
    p = torch.full((4, 255), 1 / 255).to(torch.bfloat16)
    assert p.float().sum(1).min() > 1.0038
    assert component_diversity(p).isfinite()


def test_scores_far_from_cosines_are_refused():
    scores = random(6, 8, 10).clamp(-1, 1)
    assert swapped_prediction(1.9 * scores).isfinite()  # of prototypes somewhat longer than 1
    for wrong in (scores / 0.1, 50 * scores, 10 * scores.abs(), -10 * scores.abs()):
        with pytest.raises(InputError, match=r"^scores go from .* to .*; give cosines") as caught:
            swapped_prediction(wrong)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [0.0, -1.0, 1e-40, 1e-80, 1e31, math.nan, math.inf])
@pytest.mark.parametrize(
    "loss",
    [
        lambda t: nt_xent(P, Q, temperature=t),
        lambda t: infomax(P, Q, temperature=t),
        lambda t: swapped_prediction(torch.stack([P, Q]), temperature=t),
        lambda t: temi(BOTH, BOTH, marginal=EVEN, temperature=t)[0],
    ],
    ids=["nt_xent", "infomax", "swapped", "temi"],
)
def test_temperatures_without_an_inverse_are_refused(loss, given):
    with pytest.raises(InputError, match=f"temperature is {given}".replace("+", r"\+")) as caught:
        loss(given)
    assert "\n" not in str(caught.value)
    for extreme in (1e-30, 1e30):
        assert loss(extreme).isfinite()


@EVERY
def test_nan_is_no_mistake_and_stays_nan(name, loss, given):
    given = given.clone()
    given[..., 1, 1] = math.nan
    if loss is PROBABILITIES["pull and push, p"][1]:  # which only asks for the largest
        assert loss(given).isfinite().all()
    else:
        assert loss(given).isnan().any()


@pytest.mark.parametrize("case", ["iic, p", "confidence", "pull and push, p", "swapped"])
def test_a_graph_is_not_broken(case):
    _, loss, given = LOSSES[case]
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert torch.equal(compiled(given), loss(given))


@EVERY
def test_vmap_is_not_asked_for_values(name, loss, given):
    batch = torch.stack([given, given.flip(-1), given.flip(-2)])
    separate = torch.stack([loss(one) for one in batch])
    assert torch.allclose(torch.func.vmap(loss)(batch), separate, rtol=1e-5, atol=1e-6)


@OF_PROBABILITIES
def test_fake_tensors_have_no_values(name, loss, given):
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert loss(torch.empty(8, 4)).device.type == "cpu"
        assert swapped_prediction(torch.empty(2, 8, 4)).device.type == "cpu"


@pytest.mark.parametrize("check", [require_probabilities, require_cosines])
def test_values_are_looked_at_on_a_cpu_only(check, monkeypatch):
    def item(_):
        raise AssertionError("looked at a value")

    monkeypatch.setattr(torch.Tensor, "item", item)
    check("p", P.to("meta"))  # which stands for a GPU, that would have to be waited for
    with pytest.raises(AssertionError, match="looked"):
        check("p", P)


@pytest.mark.parametrize("case", [case for case in LOSSES if case not in CONSTANT])
def test_the_gradient_of_a_function_is_that_of_a_tensor(case):
    _, loss, given = LOSSES[case]

    def total(x):
        return loss(x).sum()

    leaf = given.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(leaf), leaf)
    assert torch.allclose(torch.func.grad(total)(given), expected)
    if case in PROBABILITIES:
        with pytest.raises(InputError, match="give probabilities"):
            torch.func.grad(total)(9 * given)
