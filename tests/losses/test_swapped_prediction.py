"""The swapped prediction: golden terms, a loop over them, corner cases."""

import itertools
import math

import pytest
import torch

from mixem.errors import InputError
from mixem.losses import sinkhorn, swapped_prediction

# Three views of four images, two of them targets, for which the official function was run.
VIEWS = [
    [[0.6, 0.1, -0.3], [0.55, 0.2, -0.1], [0.1, 0.4, 0.35], [-0.5, 0.0, 0.45]],
    [[0.5, 0.2, -0.2], [0.35, 0.3, -0.2], [0.0, 0.45, 0.25], [-0.4, 0.1, 0.4]],
    [[0.3, 0.25, 0.0], [0.6, 0.1, -0.3], [0.2, 0.1, 0.3], [-0.2, 0.2, 0.25]],
]
TERMS = {(0, 1): 0.2571287, (0, 2): 1.0527713, (1, 0): 0.6064821, (1, 2): 1.4473855}


def slow(scores, *, temperature=0.1, epsilon=0.05, iterations=3, targets=2):
    """One term, one image and one prototype at a time."""
    terms = []
    for i, v in itertools.product(range(targets), range(len(scores))):
        if i == v:
            continue
        codes = sinkhorn(scores[i], epsilon=epsilon, iterations=iterations)
        total = 0.0
        for code, row in zip(codes.tolist(), scores[v].tolist(), strict=True):
            rest = math.log(sum(math.exp(score / temperature) for score in row))
            total -= sum(q * (s / temperature - rest) for q, s in zip(code, row, strict=True))
        terms.append(total / len(codes))
    return sum(terms) / len(terms)


def by_terms(scores, *, temperature=0.1, targets=2):
    """As the official code sums it, whose gradient autograd finds."""
    terms = [
        -(sinkhorn(scores[i]) * (scores[v] / temperature).log_softmax(1)).sum(1).mean()
        for i in range(targets)
        for v in range(len(scores))
        if v != i
    ]
    return torch.stack(terms).mean()


def cosines(views, images, prototypes, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(views, images, prototypes, generator=generator, dtype=dtype) * 2 - 1


@pytest.mark.parametrize("pair", TERMS, ids=str)
def test_a_term_equals_the_official_one(pair):
    # With one target and two views there is one term, from the first to the second.
    found = swapped_prediction(torch.tensor([VIEWS[i] for i in pair]), targets=1)
    assert found.item() == pytest.approx(TERMS[pair], abs=5e-7)


def test_the_mean_equals_the_official_one():
    loss = swapped_prediction(torch.tensor(VIEWS))
    assert loss.item() == pytest.approx(0.8409419, abs=5e-7)
    assert loss.item() == pytest.approx(sum(TERMS.values()) / 4, abs=5e-7)
    assert loss.shape == ()


@pytest.mark.parametrize(("views", "targets"), [(2, 1), (2, 2), (3, 1), (3, 3), (6, 2)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (7, 4)])
def test_equals_the_slow_reference(views, targets, shape):
    scores = cosines(views, *shape)
    for settings in ({}, {"temperature": 0.5, "epsilon": 0.3, "iterations": 1}):
        found = swapped_prediction(scores, targets=targets, **settings)
        expected = slow(scores, targets=targets, **settings)
        assert found.item() == pytest.approx(expected, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize(("views", "targets"), [(2, 2), (3, 1), (6, 2), (3, 3)])
def test_the_gradient_is_that_of_the_terms_with_constant_codes(views, targets):
    scores = cosines(views, 5, 4).requires_grad_()
    found, expected = (
        torch.autograd.grad(loss(scores, targets=targets), scores)[0]
        for loss in (swapped_prediction, by_terms)
    )
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14)
    # Of the only target nothing is asked.
    assert found[0].any() == (targets > 1)


def test_gradcheck():
    # Numeric gradients would move the codes too: here the only target is held.
    target = cosines(1, 4, 3)
    others = cosines(2, 4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: swapped_prediction(torch.cat([target, x]), targets=1), (others,)
    )


def test_the_gradient_may_be_taken_again_and_scaled():
    scores = cosines(3, 5, 4).requires_grad_()
    loss = swapped_prediction(scores)
    first = torch.autograd.grad(loss, scores, retain_graph=True)[0]
    again = torch.autograd.grad(3 * loss, scores)[0]
    assert torch.allclose(again, 3 * first, rtol=1e-12, atol=0)


def test_the_second_derivative_is_that_of_the_numbers():
    target, others = cosines(1, 4, 3), cosines(2, 4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda x: swapped_prediction(torch.cat([target, x]), targets=1), (others,)
    )


def test_function_transforms_work():
    scores = cosines(3, 5, 4).requires_grad_()
    (expected,) = torch.autograd.grad(swapped_prediction(scores), scores)
    found = torch.func.grad(swapped_prediction)(scores.detach())
    assert torch.equal(found, expected)
    batch = torch.stack([scores.detach(), scores.detach().flip(1), scores.detach() / 2])
    losses = torch.func.vmap(swapped_prediction)(batch)
    assert losses.tolist() == pytest.approx([swapped_prediction(one).item() for one in batch])


@pytest.mark.parametrize("prototypes", [1, 10, 1000])
def test_collapse_is_the_logarithm_of_the_number_of_prototypes(prototypes):
    scores = torch.full((6, 8, prototypes), 0.7, dtype=torch.float64, requires_grad=True)
    loss = swapped_prediction(scores)
    assert loss.item() == pytest.approx(math.log(prototypes), abs=1e-13)
    # Stationary: from there the network does not come back by itself.
    assert torch.autograd.grad(loss, scores)[0].abs().max() < 1e-16


def test_views_that_agree_on_different_prototypes_reach_0():
    scores = (2 * torch.eye(5) - 1).expand(4, 5, 5)
    assert 0 <= swapped_prediction(scores).item() < 1e-7


def test_the_range_is_that_of_the_docstring():
    for seed in range(20):
        scores = cosines(3, 4, 6, seed=seed).sign()
        assert 0 <= swapped_prediction(scores) <= math.log(6) + 2 / 0.1
    # Close to the upper bound: the second view is sure of another prototype.
    first, second = 2 * torch.eye(2) - 1, 1 - 2 * torch.eye(2)
    assert swapped_prediction(torch.stack([first, second])).item() == pytest.approx(20, abs=1e-5)


def test_order_of_images_prototypes_and_equal_views_does_not_matter():
    scores = cosines(4, 6, 5)
    loss = swapped_prediction(scores).item()
    for other in (
        scores[:, [3, 1, 5, 0, 2, 4]],
        scores[:, :, [2, 0, 1, 4, 3]],
        scores[[1, 0, 2, 3]],
        scores[[0, 1, 3, 2]],
    ):
        assert swapped_prediction(other).item() == pytest.approx(loss, rel=1e-13)
    assert swapped_prediction(scores[[2, 1, 0, 3]]).item() != pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("temperature", [1e-5, 1e-30, 1e30])
@pytest.mark.parametrize("epsilon", [1e-30, 1e-6, 0.05])
def test_extreme_temperatures_stay_finite(temperature, epsilon):
    scores = cosines(3, 5, 4, dtype=torch.float32).requires_grad_()
    loss = swapped_prediction(scores, temperature=temperature, epsilon=epsilon)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


def test_a_wrong_prediction_costs_its_margin_however_large():
    # The official code raises probabilities to 1e-17: 39.14 at most, without a gradient.
    scores = torch.stack([torch.eye(2), 1 - torch.eye(2)]).requires_grad_()
    loss = swapped_prediction(scores, temperature=0.01)
    assert loss.item() == pytest.approx(100)
    assert torch.autograd.grad(loss, scores)[0].any()


def test_nan_is_not_hidden():
    scores = torch.tensor(VIEWS)
    scores[0, 0, 0] = math.nan
    assert swapped_prediction(scores).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    scores = cosines(4, 6, 5).to(dtype).requires_grad_()
    loss = swapped_prediction(scores)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, swapped_prediction(scores.float()))
    assert torch.autograd.grad(loss, scores)[0].dtype == dtype


def test_autocast_changes_nothing():
    scores = cosines(4, 6, 5, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = swapped_prediction(scores)
    expected = swapped_prediction(scores)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(loss, scores)[0] for loss in (found, expected)]
    assert torch.equal(*gradients)


def test_float64_stays_and_float32_is_close():
    scores = cosines(6, 64, 100)
    loss = swapped_prediction(scores)
    assert loss.dtype == torch.float64
    assert swapped_prediction(scores.float()).item() == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "settings", "message"),
    [
        (torch.zeros(3, 4), {}, r"\(3, 4\)"),
        (torch.zeros(2, 0, 4), {}, r"\(2, 0, 4\)"),
        (torch.zeros(2, 3, 4, dtype=torch.long), {}, "floating-point"),
        (torch.zeros(1, 3, 4), {"targets": 1}, "1 target views of 1"),
        (torch.zeros(2, 3, 4), {"targets": 0}, "0 target views of 2"),
        (torch.zeros(2, 3, 4), {"targets": 3}, "3 target views of 2"),
        (torch.zeros(2, 3, 4), {"temperature": 0.0}, "temperature is 0.0"),
        (torch.zeros(2, 3, 4), {"temperature": math.inf}, "temperature is inf"),
        (torch.zeros(2, 3, 4), {"temperature": math.nan}, "temperature is nan"),
        (torch.zeros(2, 3, 4), {"epsilon": 0.0}, "epsilon is 0.0"),
        (torch.zeros(2, 3, 4), {"iterations": -1}, "-1 iterations"),
    ],
)
def test_errors_say_what_is_wrong(scores, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        swapped_prediction(scores, **settings)
    assert "\n" not in str(caught.value)
