"""The information between clusters and prototypes, and the penalty on large logits."""

import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mixem.errors import InputError
from mixem.losses import infomax, logit_penalty

# The inputs for which the official functions were run, in float32.
LOGITS = [[2.0, 0.0, -1.0], [0.5, 1.5, 0.0], [-1.0, 0.0, 2.0], [6.5, -5.5, 0.0]]
SCORES = [[0.6, 0.1, -0.3, 0.2], [0.1, 0.5, 0, -0.2], [-0.4, 0, 0.7, 0.1], [0.5, 0.2, -0.1, 0.3]]
JOINT = [
    [0.4169913, 0.0682039, 0.0113929, 0.0322924],
    [0.0306546, 0.1533698, 0.0294873, 0.0007204],
    [0.0111900, 0.0344502, 0.2104647, 0.0007827],
]
THREE_LOGITS = [
    [[2.0, 0.0], [1.0, -1.0], [-1.0, 1.0], [0.0, 2.0]],
    [[1.0, 0.0], [2.0, -1.0], [0.0, 1.0], [-1.0, 2.0]],
    [[0.5, 0.0], [1.0, 0.0], [-0.5, 0.5], [0.0, 1.0]],
]
THREE_SCORES = [
    [[0.6, 0.1, -0.3], [0.55, 0.2, -0.1], [0.1, 0.4, 0.35], [-0.5, 0.0, 0.45]],
    [[0.5, 0.2, -0.2], [0.35, 0.3, -0.2], [0.0, 0.45, 0.25], [-0.4, 0.1, 0.4]],
    [[0.3, 0.25, 0.0], [0.6, 0.1, -0.3], [0.2, 0.1, 0.3], [-0.2, 0.2, 0.25]],
]
NINE = [
    [-2.383046, -2.305521, -2.251960],
    [-2.331177, -2.279768, -2.241588],
    [-2.154664, -2.129680, -2.126062],
]


def entropy(p):
    return -torch.special.xlogy(p, p).sum()


def slow(logits, scores, *, temperature=0.1, entropy_weight=4.0):
    """One pair of views and one entry of the joint distribution at a time."""
    losses = []
    for y, u in itertools.product(logits, scores):
        y, u = y.softmax(1).tolist(), (u / temperature).softmax(1).tolist()
        joint = [
            [sum(a[c] * b[j] for a, b in zip(y, u, strict=True)) / len(y) for j in range(len(u[0]))]
            for c in range(len(y[0]))
        ]
        clusters = [sum(row) for row in joint]
        prototypes = [sum(column) for column in zip(*joint, strict=True)]
        conditional = -sum(
            joint[c][j] * math.log(joint[c][j] / prototypes[j])
            for c in range(len(clusters))
            for j in range(len(prototypes))
        )
        losses.append(conditional + entropy_weight * sum(p * math.log(p) for p in clusters))
    return sum(losses) / len(losses)


def by_pairs(logits, scores, *, entropy_weight=4.0):
    """The V x V official calls, which autograd differentiates."""
    losses = []
    for y, u in itertools.product(logits.softmax(2), (scores / 0.1).softmax(2)):
        joint = y.T @ u
        joint = joint / joint.sum()
        row, column = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
        conditional = -(joint * (joint / column).log()).sum()
        losses.append(conditional + entropy_weight * (row * row.log()).sum())
    return torch.stack(losses).mean()


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_golden_values():
    logits, scores = torch.tensor(LOGITS), torch.tensor(SCORES)
    information = 0.4708304
    assert infomax(logits, scores, entropy_weight=1).item() == pytest.approx(-information, abs=1e-6)
    loss = infomax(logits, scores)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(-3.5191298, abs=1e-6)
    assert loss.item() == pytest.approx(-(information + 3 * 1.0160997), abs=1e-6)
    # H(Y) alone: what one unit of its weight takes off.
    weights = (infomax(logits, scores, entropy_weight=b).item() for b in (0, 1))
    assert next(weights) - next(weights) == pytest.approx(1.0160997, abs=1e-6)


def test_the_value_is_that_of_the_golden_joint_distribution():
    joint = torch.tensor(JOINT, dtype=torch.float64)
    assert joint.sum().item() == pytest.approx(1, abs=1e-6)
    expected = entropy(joint) - entropy(joint.sum(0)) - 4 * entropy(joint.sum(1))
    loss = infomax(torch.tensor(LOGITS), torch.tensor(SCORES))
    assert loss.item() == pytest.approx(expected.item(), abs=2e-6)


def test_golden_gradient():
    logits = torch.tensor(LOGITS, requires_grad=True)
    (gradient,) = torch.autograd.grad(infomax(logits, torch.tensor(SCORES)), logits)
    golden = [
        [0.0179336, -0.0262968, 0.0083632],
        [0.1760697, -0.2066368, 0.0305670],
        [0.0567285, 0.0241972, -0.0809257],
        [-2.249e-4, -1.565e-6, 2.265e-4],
    ]
    for found, expected in zip(gradient.tolist(), golden, strict=True):
        assert found == pytest.approx(expected, abs=2e-7)


def test_nine_golden_pairs_and_their_mean():
    logits, scores = torch.tensor(THREE_LOGITS), torch.tensor(THREE_SCORES)
    for a, b in itertools.product(range(3), range(3)):
        assert infomax(logits[a], scores[b]).item() == pytest.approx(NINE[a][b], abs=2e-6), (a, b)
    assert infomax(logits, scores).item() == pytest.approx(-2.2448298, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 2, 3), (1, 5, 1, 4), (2, 4, 3, 1), (3, 6, 4, 7)])
@pytest.mark.parametrize("entropy_weight", [0.0, 1.0, 4.0])
def test_equals_the_slow_reference(shape, entropy_weight):
    views, images, clusters, prototypes = shape
    logits = random(views, images, clusters)
    scores = random(views, images, prototypes, seed=1)
    settings = {"temperature": 0.7, "entropy_weight": entropy_weight}
    expected = slow(logits, scores, **settings)
    assert infomax(logits, scores, **settings).item() == pytest.approx(expected, abs=1e-13)
    if views == 1:
        found = infomax(logits[0], scores[0], **settings)
        assert found.item() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("scale", [1, 10, 100])
def test_rare_pairs_count_too(scale):
    # Entries of the joint distribution down to 1e-6, 1e-50 and 0.
    logits, scores = scale * random(6, 4), 0.1 * scale * random(6, 5, seed=1)
    joint = logits.softmax(1).T @ (scores / 0.1).softmax(1) / 6
    expected = entropy(joint) - entropy(joint.sum(0)) - 4 * entropy(joint.sum(1))
    assert infomax(logits, scores).item() == pytest.approx(expected.item(), abs=1e-13)


@pytest.mark.parametrize("entropy_weight", [1.0, 4.0])
def test_gradients_are_those_of_the_pairs(entropy_weight):
    leaves = [random(4, 9, 3).requires_grad_(), (0.3 * random(4, 9, 5, seed=1)).requires_grad_()]
    found, expected = (
        torch.autograd.grad(loss(*leaves, entropy_weight=entropy_weight), leaves)
        for loss in (infomax, by_pairs)
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_gradcheck(shape):
    logits = random(*shape, 4, 3).requires_grad_()
    scores = random(*shape, 4, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: infomax(a, b, temperature=0.8), (logits, scores))


@pytest.mark.parametrize(("entropy_weight", "clusters"), [(4.0, 10), (4.0, 3), (1.0, 10)])
def test_the_bounds(entropy_weight, clusters):
    most = math.log(clusters)
    sure = 60 * torch.eye(clusters)  # one image a cluster
    silent = torch.zeros(clusters, 2 * clusters)
    telling = 6 * torch.eye(clusters, 2 * clusters)

    def loss(logits, scores):
        return infomax(logits, scores, entropy_weight=entropy_weight).item()

    uninformed = pytest.approx((1 - entropy_weight) * most, abs=3e-6)
    assert loss(torch.zeros(clusters, clusters), telling) == uninformed
    assert loss(sure, silent) == uninformed
    assert loss(sure, telling) == pytest.approx(-entropy_weight * most, abs=3e-6)
    together = sure[[0] * clusters]
    for scores in (silent, telling):
        assert loss(together, scores) == pytest.approx(0, abs=3e-6)


def test_the_bounds_of_ten_clusters_as_numbers():
    sure, telling = 60 * torch.eye(10), 6 * torch.eye(10, 20)
    assert infomax(torch.zeros(10, 10), telling).item() == pytest.approx(-6.9078, abs=5e-5)
    assert infomax(sure, telling).item() == pytest.approx(-9.2103, abs=5e-5)


def test_the_range_is_that_of_the_docstring():
    for seed, scale in enumerate([0.0, 0.1, 1.0, 10.0, 1000.0] * 3):
        logits = scale * random(2, 12, 4, seed=seed, dtype=torch.float32)
        scores = random(2, 12, 9, seed=seed + 100, dtype=torch.float32)
        for weight in (1.0, 4.0):
            loss = infomax(logits, scores, entropy_weight=weight).item()
            assert -weight * math.log(4) - 5e-6 <= loss <= 5e-6


def test_a_constant_and_the_order_of_clusters_prototypes_images_and_views_do_not_matter():
    logits, scores = random(3, 8, 4), 0.3 * random(3, 8, 5, seed=1)
    loss = infomax(logits, scores).item()
    images, clusters = torch.tensor([3, 1, 5, 0, 2, 4, 7, 6]), torch.tensor([2, 0, 3, 1])
    for other in (
        infomax(logits + random(3, 8, 1, seed=2), scores + random(3, 8, 1, seed=3)),
        infomax(logits[:, :, clusters], scores),
        infomax(logits, scores[:, :, [4, 2, 0, 1, 3]]),
        infomax(logits[:, images], scores[:, images]),
        infomax(logits[[2, 0, 1]], scores),  # all pairs of views, so each may be in any order
    ):
        assert other.item() == pytest.approx(loss, rel=1e-12)
    assert infomax(logits[:, images], scores).item() != pytest.approx(loss, rel=1e-4)


def test_one_image():
    # One image says nothing of the information: - (b - 1) H(Y).
    loss = infomax(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.3, 0.1, -0.5]]))
    assert loss.item() == pytest.approx(-1.746609, abs=1e-6)


@pytest.mark.parametrize("margin", [97.1, 200.0, 738.0, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_clusters_and_prototypes_are_not_nan(margin, dtype):
    # From a margin of 97.1 on (738 in float64) the official function gives NaN.
    sure = (margin * torch.eye(10, dtype=dtype)).requires_grad_()
    for scores in (0.1 * margin * torch.eye(10, dtype=dtype), torch.eye(10, 1000, dtype=dtype)):
        loss = infomax(sure, scores)
        assert loss.isfinite()
        assert torch.autograd.grad(loss, sure)[0].isfinite().all()
    assert infomax(sure, sure / 10).item() == pytest.approx(-4 * math.log(10), abs=4e-6)


@pytest.mark.parametrize("margin", [97.1, 200.0, 1e4])
def test_a_cluster_that_nothing_reaches_is_not_nan(margin):
    logits = random(16, 10, dtype=torch.float32)
    logits[:, 3] = -margin
    logits.requires_grad_()
    scores = 0.2 * random(16, 30, seed=1, dtype=torch.float32)
    loss = infomax(logits, scores)
    without = infomax(logits[:, [c for c in range(10) if c != 3]], scores)
    assert loss.item() == pytest.approx(without.item(), abs=1e-6)
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def test_nan_is_not_hidden():
    logits, scores = torch.tensor(LOGITS), torch.tensor(SCORES)
    assert infomax(logits * math.nan, scores).isnan()
    assert infomax(logits, scores * math.nan).isnan()


def test_nothing_asked_of_detached_scores():
    logits, scores = random(2, 5, 3).requires_grad_(), random(2, 5, 4, seed=1).requires_grad_()
    infomax(logits, scores.detach()).backward()
    assert logits.grad.any()
    assert scores.grad is None


def test_all_pairs_are_one_matrix_product():
    class Watch(TorchDispatchMode):
        products = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.products += "mm" in function.name()
            return function(*args, **(kwargs or {}))

    with Watch() as watch:
        infomax(random(6, 20, 3), random(6, 20, 8))
    assert watch.products == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, scores = (3 * random(2, 20, n).to(dtype).requires_grad_() for n in (4, 9))
    loss = infomax(logits, scores)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, infomax(logits.float(), scores.float()))
    assert torch.equal(loss, infomax(logits.float(), scores))  # the classifier alone under autocast
    penalty = logit_penalty(logits, bound=1)
    assert penalty.dtype == torch.float32
    assert torch.equal(penalty, logit_penalty(logits.float(), bound=1))


def test_autocast_changes_nothing():
    leaves = [random(2, 20, n, dtype=torch.float32).requires_grad_() for n in (4, 9)]
    with torch.autocast("cpu", torch.bfloat16):
        found = infomax(*leaves)
        penalty = logit_penalty(leaves[0], bound=1)
    expected = infomax(*leaves)
    assert found.dtype == penalty.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(penalty, logit_penalty(leaves[0], bound=1))
    gradients = (torch.autograd.grad(loss, leaves) for loss in (found, expected))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_float64_stays_and_float32_is_close():
    logits, scores = random(6, 64, 10), 0.1 * random(6, 64, 100, seed=1)
    loss = infomax(logits, scores)
    assert loss.dtype == logit_penalty(logits).dtype == torch.float64
    assert infomax(logits.float(), scores.float()).item() == pytest.approx(loss.item(), abs=5e-6)


@pytest.mark.parametrize(
    ("logits", "scores", "settings", "message"),
    [
        ((3, 2), (4, 5), {}, r"\(3, 2\).*\(4, 5\)"),
        ((2, 3, 2), (1, 3, 5), {}, r"\(2, 3, 2\)"),
        ((2, 3, 2), (3, 5), {}, r"\(2, 3, 2\)"),
        ((3,), (3,), {}, r"\(3,\)"),
        ((1, 2, 3, 4), (1, 2, 3, 4), {}, r"\(1, 2, 3, 4\)"),
        ((0, 2), (0, 5), {}, r"\(0, 2\)"),
        ((3, 0), (3, 5), {}, r"\(3, 0\)"),
        ((3, 2), (3, 0), {}, r"\(3, 0\)"),
        ((3, 2), (3, 5), {"temperature": 0.0}, "temperature is 0.0"),
        ((3, 2), (3, 5), {"temperature": math.nan}, "temperature is nan"),
        ((3, 2), (3, 5), {"temperature": math.inf}, "temperature is inf"),
        ((3, 2), (3, 5), {"entropy_weight": -1.0}, "entropy_weight is -1.0"),
        ((3, 2), (3, 5), {"entropy_weight": math.nan}, "entropy_weight is nan"),
        ((3, 2), (3, 5), {"entropy_weight": math.inf}, "entropy_weight is inf"),
    ],
)
def test_errors_say_what_is_wrong(logits, scores, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        infomax(torch.zeros(logits), torch.zeros(scores), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", [0, 1])
def test_integers_are_refused(which):
    given = [torch.zeros(3, 3), torch.zeros(3, 3)]
    given[which] = given[which].long()
    with pytest.raises(InputError, match=r"torch\.int64"):
        infomax(*given)


def test_penalty_and_its_gradient():
    logits = torch.tensor(LOGITS, requires_grad=True)
    penalty = 0.01 * logit_penalty(logits)
    assert penalty.item() == pytest.approx(0.005, abs=1e-8)
    (gradient,) = torch.autograd.grad(penalty, logits)
    assert torch.allclose(gradient[3], torch.tensor([0.0025, -0.0025, 0]), rtol=1e-6, atol=0)
    assert not gradient[:3].any()


def test_the_penalty_is_a_mean_over_images_and_views():
    logits = 5 * random(3, 7, 4)
    rows = logits.flatten(0, 1).tolist()
    expected = sum(max(0, abs(x) - 2) for row in rows for x in row) / len(rows)
    assert logit_penalty(logits, bound=2).item() == pytest.approx(expected, rel=1e-13)
    views = torch.stack([logit_penalty(view, bound=2) for view in logits])
    assert views.mean().item() == pytest.approx(expected, rel=1e-13)
    assert logit_penalty(logits[0, 0], bound=2).item() == pytest.approx(
        sum(max(0, abs(x) - 2) for x in rows[0]), rel=1e-13
    )


def test_the_bound_itself_costs_nothing():
    logits = torch.tensor([[5.0, -5.0, 4.9]], requires_grad=True)
    penalty = logit_penalty(logits)
    assert penalty == 0
    assert not torch.autograd.grad(penalty, logits)[0].any()


@pytest.mark.parametrize(
    ("logits", "bound", "message"),
    [
        (torch.zeros(()), 5.0, r"\(\)"),
        (torch.zeros(0, 3), 5.0, r"\(0, 3\)"),
        (torch.zeros(3, dtype=torch.long), 5.0, r"torch\.int64"),
        (torch.zeros(3), -1.0, "bound is -1.0"),
        (torch.zeros(3), math.nan, "bound is nan"),
        (torch.zeros(3), math.inf, "bound is inf"),
    ],
)
def test_errors_of_the_penalty(logits, bound, message):
    with pytest.raises(InputError, match=message) as caught:
        logit_penalty(logits, bound=bound)
    assert "\n" not in str(caught.value)
