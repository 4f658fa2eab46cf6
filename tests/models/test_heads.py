"""The mixture head against M separate heads written out, and the other heads."""

import pytest
import torch
import torch.nn.functional as F

from mixem.errors import InputError
from mixem.models import ClusterHead, MixtureHead, ProjectionHead, mix


def separate_heads(head, features):
    """Every head and the gate on its own, row by row, as the paper's picture has them."""
    size = features.shape[1]
    embeddings = []
    for m in range(head.components):
        rows = slice(m * size, (m + 1) * size)
        hidden = F.relu(features @ head.hidden.weight[rows].T + head.hidden.bias[rows])
        e = hidden @ head.weight[m] + head.bias[m, 0]
        embeddings.append(e / e.norm(dim=1, keepdim=True))
    first, _, last = head.gate
    hidden = F.relu(features @ first.weight.T + first.bias)
    return torch.stack(embeddings), hidden @ last.weight.T + last.bias


@pytest.mark.parametrize(("batch", "size", "components", "out"), [(1, 4, 1, 1), (2, 3, 5, 7)])
def test_equals_separate_heads(batch, size, components, out):
    torch.manual_seed(0)
    head = MixtureHead(size, components, out).double()
    features = torch.rand(batch, size, dtype=torch.float64)
    embeddings, logits = head(features)
    expected = separate_heads(head, features)
    assert embeddings.shape == (components, batch, out)
    assert logits.shape == (batch, components)
    assert torch.allclose(embeddings, expected[0], atol=1e-14)
    assert torch.allclose(logits, expected[1], atol=1e-14)


def test_gradients_equal_those_of_separate_heads():
    torch.manual_seed(0)
    head = MixtureHead(6, 3, 4).double()
    features = torch.rand(5, 6, dtype=torch.float64)
    weights = torch.randn(3, 5, 4, dtype=torch.float64)
    found = torch.autograd.grad(
        (head(features)[0] * weights).sum(), (head.hidden.weight, head.bias)
    )
    expected = torch.autograd.grad(
        (separate_heads(head, features)[0] * weights).sum(), (head.hidden.weight, head.bias)
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(("components", "count"), [(10, 3_058_506), (20, 5_854_356)])
def test_as_many_parameters_as_the_official_heads(components, count):
    head = MixtureHead(512, components, 32)
    assert sum(p.numel() for p in head.parameters()) == count


def test_every_parameter_starts_as_that_of_a_linear_layer():
    torch.manual_seed(0)
    size = 64
    for name, value in MixtureHead(size, 10, 32).named_parameters():
        bound = size**-0.5  # PyTorch's default: uniform within 1 / sqrt(inputs)
        assert value.abs().max() <= bound, name
        spread = bound / 3**0.5
        assert value.std().item() == pytest.approx(spread, rel=0.3), name
        assert abs(value.mean().item()) < 5 * spread / value.numel() ** 0.5, name


def test_embeddings_have_unit_length_and_mixtures_at_most_that():
    torch.manual_seed(0)
    embeddings, logits = MixtureHead(8, 4, 5)(torch.randn(20, 8))
    assert embeddings.norm(dim=2).sub(1).abs().max() < 1e-6
    p = logits.softmax(1)
    assert mix(embeddings, p).norm(dim=1).max() <= 1 + 1e-6
    # A decided image has exactly the embedding of its component.
    assert torch.equal(mix(embeddings, torch.eye(4)[[2] * 20]), embeddings[2])


def test_mix_by_hand():
    e = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, -1.0]]])  # (M, B, d)
    p = torch.tensor([[0.25, 0.75], [0.5, 0.5]])  # (B, M)
    assert mix(e, p).tolist() == [[0.25, 0.75], [0.0, 0.0]]


def test_an_embedding_of_exactly_0_is_finite():
    head = MixtureHead(4, 2, 3)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    embeddings, _ = head(torch.rand(2, 4))
    assert not embeddings.any()
    embeddings.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_autocast_leaves_lengths_exact():
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings, _ = MixtureHead(8, 4, 5)(torch.randn(20, 8))
    assert embeddings.dtype == torch.float32
    assert embeddings.norm(dim=2).sub(1).abs().max() < 1e-6


def test_the_projection_head_is_linear_relu_linear():
    head = ProjectionHead(512, 32)
    assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Linear"]
    assert [tuple(p.shape) for p in head.parameters()] == [(512, 512), (512,), (32, 512), (32,)]


def test_the_cluster_head_is_that_of_the_official_network():
    head = ClusterHead(512, 10)
    assert [type(layer).__name__ for layer in head] == [
        "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear",
    ]  # fmt: skip
    assert sum(p.numel() for p in head.parameters()) == 1_589_258
    assert ClusterHead(5, 3, hidden=4)(torch.randn(6, 5)).shape == (6, 3)
    with pytest.raises(InputError, match="1 clusters, 0 hidden units; give at least 2 and at"):
        ClusterHead(5, 1, hidden=0)
