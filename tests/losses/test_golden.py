"""MIX'EM's five terms against what the official functions gave for the same inputs, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from mixem.losses import (
    associative_embedding,
    component_diversity,
    instance_confidence,
    nt_xent,
)
from mixem.models import mix

NAMES = ("contrast", "diversity", "confidence", "pull", "push")

# Logits as they are; 8 added to the first component's, so that every image is in it; all zero.
OFFICIAL = {
    "plain": (
        2.8992536953690764,
        -4.274293515581909,
        0.052645274515158075,
        0.09722095488192128,
        -0.020554786064134585,
    ),
    "one component": (
        2.1847676345325233,
        -0.10195914971147568,
        0.0007056711492609465,
        0.057168389795619834,
        -0.0064106178401248555,
    ),
    "uniform": (
        2.938940880290889,
        -4.394449154672438,
        0.13333333333333,
        0.03275700119397815,
        -0.004798896094437507,
    ),
}


def mixed(golden):
    """Z and p of both views."""
    p = [logits.softmax(1) for logits in (golden.l_i, golden.l_j)]
    e = [F.normalize(e, dim=2) for e in (golden.e_i, golden.e_j)]
    return [mix(*pair) for pair in zip(e, p, strict=True)], p


def terms(golden):
    """The five terms with the weights of the official ``config.yaml``."""
    z, p = mixed(golden)
    pull, push = zip(*map(associative_embedding, z, p), strict=True)
    return {
        "contrast": nt_xent(*z, temperature=0.5),
        "diversity": 2 * sum(map(component_diversity, p)),
        "confidence": 0.1 * sum(map(instance_confidence, p)),
        "pull": 0.1 * sum(pull),
        "push": 0.05 * sum(push),
    }


def variant(golden, name):
    if name == "one component":
        shift = torch.tensor([8.0, 0.0, 0.0], dtype=torch.float64)
        return golden._replace(l_i=golden.l_i + shift, l_j=golden.l_j + shift)
    if name == "uniform":
        return golden._replace(l_i=0 * golden.l_i, l_j=0 * golden.l_j)
    return golden


@pytest.mark.parametrize("name", OFFICIAL)
def test_terms_equal_the_official_ones(golden, name):
    found = terms(variant(golden, name))
    expected = dict(zip(NAMES, OFFICIAL[name], strict=True))
    for term, number in expected.items():
        # One of the numbers is known to 14 places only.
        assert found[term].item() == pytest.approx(number, rel=1e-12, abs=5e-15), term


def test_total_and_unweighted_diversity(golden):
    found = terms(golden)
    assert sum(found.values()).item() == pytest.approx(-1.2457283768798877, rel=1e-12)
    assert found["diversity"].item() / 2 == pytest.approx(-2.1371467577909544, rel=1e-12)


def test_gradient_norms_equal_the_official_ones(golden):
    inputs = golden._make(x.requires_grad_() for x in golden)
    loss = sum(terms(inputs).values())
    gradients = torch.autograd.grad(loss, (inputs.l_i, inputs.e_i, inputs.l_j, inputs.e_j))
    assert [g.norm().item() for g in gradients] == pytest.approx(
        [0.09047946410218713, 0.6615703779405537, 0.14081200515984416, 0.44240935834579265],
        rel=1e-12,
    )


@pytest.mark.parametrize("name", OFFICIAL)
def test_gradients_of_every_variant_are_finite(golden, name):
    inputs = golden._make(x.requires_grad_() for x in variant(golden, name))
    gradients = torch.autograd.grad(sum(terms(inputs).values()), inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_what_the_terms_are_made_of(golden):
    (z_i, z_j), (p_i, p_j) = mixed(golden)
    assert z_i.norm(dim=1).tolist() == pytest.approx(
        [0.9049498, 0.5157920, 0.8287352, 0.9118575, 0.5549054, 0.9093846], abs=5e-8
    )
    for z, p, counts, lengths in (
        (z_i, p_i, [2, 2, 2], [0.0316813, 0.0282207, 0.0533036]),
        (z_j, p_j, [3, 0, 3], [0.2912482, 0, 0.4221213]),
    ):
        dominant = p.argmax(1)
        assert dominant.bincount(minlength=3).tolist() == counts
        mu = [z[dominant == c].sum(0) / (n + 1) for c, n in enumerate(counts)]
        assert [m.norm().item() for m in mu] == pytest.approx(lengths, abs=5e-8)


def test_identical_embeddings():
    z = torch.ones(4, 3, dtype=torch.float64)
    assert nt_xent(z, z).item() == pytest.approx(math.log(7), rel=1e-15)


def test_an_embedding_of_length_0_and_opposite_components_stay_finite(golden):
    # e_0 = -e_1 and p = 1/2 each: z is 0. And a raw embedding that is exactly 0.
    e = golden.e_i.clone()
    e[1], e[2] = -e[0], 0
    opposite = golden._replace(e_i=e, l_i=torch.zeros_like(golden.l_i))
    opposite.l_i[:, 2] = -50
    inputs = golden._make(x.requires_grad_() for x in opposite)
    assert mixed(inputs)[0][0].abs().max() < 1e-15
    loss = sum(terms(inputs).values())
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, inputs):
        assert gradient.isfinite().all()
