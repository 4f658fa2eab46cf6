"""Sinkhorn's algorithm: by hand, in logarithms, golden values, corner cases."""

import itertools
import math

import pytest
import torch

from mixem.errors import InputError
from mixem.losses import sinkhorn

INF = math.inf
# Two of the inputs for which the official function was run, in float32.
THREE_BY_TWO = [[0.9, 0.1], [0.5, 0.4], [-0.2, 0.3]]
FOUR_BY_THREE = [[0.6, 0.1, -0.3], [0.55, 0.2, -0.1], [0.1, 0.4, 0.35], [-0.5, 0.0, 0.45]]
CLOSE = [[1.0, 0.99, -1.0], [0.2, 1.0, 0.1], [-1.0, 0.0, 0.9]]


def in_logarithms(scores, epsilon, iterations):
    """The same in float64, where nothing overflows."""
    codes = scores.double() / epsilon
    for _ in range(iterations):
        codes = codes - codes.logsumexp(0)
        codes = codes - codes.logsumexp(1, keepdim=True)
    return codes.softmax(1)


def from_the_formula(scores, epsilon, iterations):
    """One entry at a time, with the masses 1/K and 1/B of the paper."""
    images, prototypes = range(len(scores)), range(len(scores[0]))
    matrix = [[math.exp(score / epsilon) for score in row] for row in scores]
    for _ in range(iterations):
        for j in prototypes:
            mass = sum(matrix[i][j] for i in images)
            for i in images:
                matrix[i][j] /= mass * len(prototypes)
        for i in images:
            mass = sum(matrix[i])
            matrix[i] = [entry / (mass * len(images)) for entry in matrix[i]]
    return [[entry / sum(row) for entry in row] for row in matrix]


def cosines(images, prototypes, *, seed=0, dtype=torch.float32):
    """Of random unit vectors of length 128, as an untrained network gives them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images + prototypes, 128, generator=generator, dtype=dtype)
    x = torch.nn.functional.normalize(x, dim=1)
    return x[:images] @ x[images:].T


def close(found, expected, tolerance):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    return torch.allclose(found.double(), expected, rtol=0, atol=tolerance)


def is_code(codes):
    """Finite, at least 0, and each row sums to one."""
    ones = torch.ones(len(codes), dtype=codes.dtype)
    return bool(
        codes.isfinite().all()
        and (codes >= 0).all()
        and torch.allclose(codes.sum(1), ones, rtol=0, atol=1e-6)
    )


def test_one_iteration_by_hand():
    # exp(scores / epsilon) is [[4, 1], [2, 1]]; columns to 1/2: [[1/3, 1/4], [1/6, 1/4]].
    scores = torch.tensor([[4.0, 1.0], [2.0, 1.0]], dtype=torch.float64).log() * 0.3
    codes = sinkhorn(scores, epsilon=0.3, iterations=1)
    assert close(codes, [[4 / 7, 3 / 7], [2 / 5, 3 / 5]], 1e-15)


@pytest.mark.parametrize(
    ("scores", "iterations", "golden"),
    [
        (THREE_BY_TWO, 1, [[0.9978254, 0.0021745], [0.00038142, 0.9996186], [2.344e-9, 1]]),
        (THREE_BY_TWO, 3, [[0.9994572, 0.0005428], [0.0015288, 0.9984713], [9.4075e-9, 1]]),
        (THREE_BY_TWO, 10, [None, [0.1326229, 0.8673771], None]),
        (
            FOUR_BY_THREE,
            3,
            [
                [0.9879476, 0.0120513, 1.0881e-6],
                [0.8031016, 0.1967671, 1.3128e-4],
                [8.394e-6, 0.9098966, 0.0900950],
                [7.7e-11, 4.583e-4, 0.9995417],
            ],
        ),
    ],
)
def test_codes_equal_the_official_ones(scores, iterations, golden):
    codes = sinkhorn(torch.tensor(scores), iterations=iterations)
    assert codes.dtype == torch.float32
    for found, expected in zip(codes.tolist(), golden, strict=True):
        if expected:
            # Small entries have fewer digits, but as many as these.
            assert found == pytest.approx(expected, rel=2e-3, abs=1e-12)
            assert found == pytest.approx(expected, abs=3e-7)


@pytest.mark.parametrize(
    ("scores", "golden"),
    [(THREE_BY_TWO, [1.000986, 1.999014]), (FOUR_BY_THREE, [1.791058, 1.119173, 1.089769])],
)
def test_three_iterations_do_not_reach_equal_masses(scores, golden):
    masses = sinkhorn(torch.tensor(scores)).sum(0)
    assert masses.tolist() == pytest.approx(golden, abs=1e-6)
    assert masses.sum().item() == pytest.approx(len(scores), abs=1e-6)


@pytest.mark.parametrize("scores", [THREE_BY_TWO, FOUR_BY_THREE])
def test_many_iterations_do(scores):
    codes = sinkhorn(torch.tensor(scores), iterations=1000)
    assert codes.sum(0).tolist() == pytest.approx([len(scores) / len(scores[0])] * len(scores[0]))


def test_the_masses_of_random_vectors_are_almost_equal():
    masses = sinkhorn(cosines(256, 1000)).sum(0)
    assert masses.min() >= 0.2557
    assert masses.max() <= 0.2562


@pytest.mark.parametrize("iterations", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (7, 4), (4, 9)])
def test_equals_the_slow_references(shape, iterations):
    scores = cosines(*shape, dtype=torch.float64)
    codes = sinkhorn(scores, iterations=iterations)
    assert close(codes, from_the_formula(scores.tolist(), 0.05, iterations), 1e-13)
    assert close(codes, in_logarithms(scores, 0.05, iterations), 1e-13)


def test_no_iterations_are_the_softmax():
    scores = 3 * cosines(5, 4, dtype=torch.float64)
    assert close(sinkhorn(scores, epsilon=0.2, iterations=0), (scores / 0.2).softmax(1), 1e-15)


@pytest.mark.parametrize("iterations", [0, 1, 3, 30])
def test_float32_is_close_to_logarithms_in_float64(iterations):
    scores = cosines(256, 1000)
    codes = sinkhorn(scores, iterations=iterations)
    assert is_code(codes)
    assert close(codes, in_logarithms(scores, 0.05, iterations), 1e-6)


@pytest.mark.parametrize(
    ("epsilon", "first", "second"),
    # Logarithms in float64. At 0.01 the official function gives [0.5, 0.5, 0].
    [
        (0.05, 0.8615226, 0.1384774),
        (0.01, 0.8852985, 0.1147015),
        (0.005, 0.9253121, 0.0746879),
        (0.001, 0.9999546, 0.0000454),
    ],
)
def test_small_epsilons_do_not_overflow(epsilon, first, second):
    codes = sinkhorn(torch.tensor(CLOSE), epsilon=epsilon)
    assert codes[0].tolist() == pytest.approx([first, second, 0], abs=2e-6)
    if epsilon == 0.05:
        assert codes[0, 2].item() == pytest.approx(1.5e-17, rel=0.05, abs=0)


@pytest.mark.parametrize("epsilon", [0.0112, 0.0113, 0.0127, 0.013])
@pytest.mark.parametrize("many", [False, True])
def test_where_the_official_exponentials_or_their_sum_overflow(epsilon, many):
    scores = cosines(256, 1000) if many else torch.tensor(CLOSE)
    scores[0, 0] = 1
    codes = sinkhorn(scores, epsilon=epsilon)
    assert is_code(codes)
    assert close(codes, in_logarithms(scores, epsilon, 3), 1e-5)


def test_an_image_far_from_all_prototypes_counts_as_much_as_the_others():
    # exp((score - greatest) / epsilon) is 0 in float32 for the whole last row.
    scores = torch.tensor([[0.9, 0.8], [0.9, 0.7], [-0.9, -0.89]])
    codes = sinkhorn(scores, epsilon=0.01)
    assert close(codes, in_logarithms(scores, 0.01, 3), 1e-5)
    assert codes[2, 1] > 0.7


def test_a_large_epsilon_gives_uniform_codes():
    scores = torch.tensor(THREE_BY_TWO[:2])
    codes = sinkhorn(scores, epsilon=10)
    assert codes.tolist()[0] == pytest.approx([0.50875, 0.49125], abs=5e-6)
    assert sinkhorn(scores, epsilon=1e30).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_a_small_epsilon_gives_hard_codes():
    scores = torch.tensor(FOUR_BY_THREE)
    codes = sinkhorn(scores, epsilon=1e-6)
    assert close(codes, codes.round(), 1e-6)
    assert is_code(codes)


EXTREME = {
    "cosines": 1,
    "1e4": 1e4,
    "1e30": 1e30,
    "float32": torch.finfo(torch.float32).max,
}


@pytest.mark.parametrize("scale", EXTREME.values(), ids=EXTREME.keys())
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_is_a_code_for_every_finite_input(scale, iterations):
    generator = torch.Generator().manual_seed(0)
    for images, prototypes in ((1, 1), (1, 5), (5, 1), (3, 2), (8, 5), (2, 30)):
        scores = torch.rand(images, prototypes, generator=generator) * 2 - 1
        scores[0, 0], scores[-1, -1] = 1, -1
        for epsilon in (1e-30, 1e-6, 1e-3, 0.0113, 0.05, 1, 1e30):
            codes = sinkhorn(scores * scale, epsilon=epsilon, iterations=iterations)
            assert is_code(codes), (images, prototypes, epsilon)


@pytest.mark.parametrize("scale", EXTREME.values(), ids=EXTREME.keys())
@pytest.mark.parametrize("epsilon", [1e-6, 0.05, 1])
def test_is_a_code_after_a_thousand_iterations(scale, epsilon):
    scores = torch.rand(8, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert is_code(sinkhorn(scores * scale, epsilon=epsilon, iterations=1000))


@pytest.mark.parametrize("shape", [(2, 9), (9, 2)])
def test_a_thousand_iterations_converge(shape):
    # The factors would leave float32 if the masses asked for did not add up on both sides.
    scores = cosines(*shape)
    codes = sinkhorn(scores, epsilon=0.5, iterations=1000)
    assert close(codes, in_logarithms(scores, 0.5, 1000), 1e-5)
    assert close(codes.sum(0), torch.full(shape[1:], shape[0] / shape[1]), 1e-5)


def test_masses_that_no_scaling_makes_equal_stay_finite():
    # Images 0 and 1 may go to prototype 0 only, so that its mass stays at 2 of 3.
    scores = torch.tensor([[0.0, -INF, -INF], [0.0, -INF, -INF], [-INF, 0.0, 0.0]])
    for iterations in (1, 10, 100, 1000):
        codes = sinkhorn(scores, iterations=iterations)
        assert codes.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0.5, 0.5]], iterations


@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dead_prototype_gets_nothing_and_changes_nothing(iterations, dtype):
    scores = torch.tensor(THREE_BY_TWO, dtype=dtype)
    dead = torch.full((3, 1), -INF, dtype=dtype)
    codes = sinkhorn(torch.cat([scores, dead], 1), iterations=iterations)
    assert codes[:, 2].tolist() == [0, 0, 0]
    assert close(codes[:, :2], sinkhorn(scores, iterations=iterations), 2e-7)


@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dead_image_is_shared_out_evenly_and_changes_nothing(iterations, dtype):
    # The official function gives NaN for all images.
    scores = torch.tensor(FOUR_BY_THREE, dtype=dtype)
    dead = torch.full((1, 3), -INF, dtype=dtype)
    codes = sinkhorn(torch.cat([dead, scores]), iterations=iterations)
    assert codes[0].tolist() == torch.full((3,), 1, dtype=dtype).div(3).tolist()
    assert close(codes[1:], sinkhorn(scores, iterations=iterations), 2e-7)
    assert codes.dtype == dtype


def test_nothing_but_dead_images():
    assert sinkhorn(torch.full((2, 4), -INF)).tolist() == [[0.25] * 4] * 2


@pytest.mark.parametrize("iterations", [0, 3])
@pytest.mark.parametrize("bad", [math.nan, INF])
def test_a_diverged_network_is_not_hidden(iterations, bad):
    scores = torch.tensor(THREE_BY_TWO)
    scores[1, 1] = bad
    assert sinkhorn(scores, iterations=iterations)[1].isnan().all()


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_equal_rows_give_uniform_codes(iterations):
    # Collapsed features, though the prototypes differ.
    scores = torch.tensor([0.9, -0.3, 0.2, 0.85]).expand(6, 4)
    assert sinkhorn(scores, iterations=iterations).tolist() == [[0.25] * 4] * 6


def test_order_of_images_and_prototypes_and_a_constant_do_not_matter():
    scores = cosines(6, 5, dtype=torch.float64)
    codes = sinkhorn(scores)
    images, prototypes = torch.tensor([3, 1, 5, 0, 2, 4]), torch.tensor([2, 0, 1, 4, 3])
    assert close(sinkhorn(scores[images]), codes[images], 1e-14)
    assert close(sinkhorn(scores[:, prototypes]), codes[:, prototypes], 1e-14)
    # The first scaling of the prototypes takes a constant of each away.
    assert close(sinkhorn(scores + scores.new_tensor([3, -1, 0, 2, 7])), codes, 1e-12)
    assert close(sinkhorn(scores * 7, epsilon=0.35), codes, 1e-13)


def test_gives_no_gradient_and_leaves_its_input_alone():
    scores = torch.tensor(THREE_BY_TWO, requires_grad=True)
    for iterations in (0, 3):
        assert not sinkhorn(scores, iterations=iterations).requires_grad
        assert torch.equal(scores, torch.tensor(THREE_BY_TWO))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    scores = cosines(20, 6).to(dtype)  # exp(0.6 / 0.05) is beyond float16
    codes = sinkhorn(scores)
    assert codes.dtype == torch.float32
    assert torch.equal(codes, sinkhorn(scores.float()))
    assert is_code(codes)


def test_autocast_changes_nothing():
    scores = cosines(20, 6)
    with torch.autocast("cpu", torch.bfloat16):
        codes = sinkhorn(scores)
    assert codes.dtype == torch.float32
    assert torch.equal(codes, sinkhorn(scores))


def test_float64_stays():
    assert sinkhorn(torch.tensor(THREE_BY_TWO).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("scores", "settings", "message"),
    [
        (torch.zeros(3), {}, r"\(3,\)"),
        (torch.zeros(2, 3, 4), {}, r"\(2, 3, 4\)"),
        (torch.zeros(0, 3), {}, "non-empty"),
        (torch.zeros(3, 0), {}, "non-empty"),
        (torch.zeros(3, 3, dtype=torch.long), {}, "floating-point"),
        *itertools.product(
            [torch.zeros(3, 3)],
            [{"epsilon": e} for e in (0, -0.05, math.nan, INF, 1e-46)],
            ["give a positive number"],
        ),
        (torch.zeros(3, 3), {"iterations": -1}, "-1 iterations; give at least 0"),
    ],
)
def test_errors_say_what_is_wrong(scores, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        sinkhorn(scores, **settings)
    assert "\n" not in str(caught.value)
