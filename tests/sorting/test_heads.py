"""Heads on finished features."""

import numpy as np
import pytest

from mixem.cli import main
from mixem.errors import InputError
from mixem.evaluation import clustering_accuracy
from mixem.sorting import train_heads


@pytest.fixture
def blobs():
    """Three groups of 60 directions in 8 dimensions, of very different lengths."""
    rng = np.random.default_rng(0)
    middles = np.eye(8)[:3] + 0.5
    labels = np.repeat([0, 1, 2], 60)
    x = middles[labels] + 0.15 * rng.standard_normal((180, 8))
    return x * rng.uniform(0.5, 5, (180, 1)), labels


def test_groups_are_found_and_the_head_of_the_lowest_loss_counts(blobs):
    x, labels = blobs
    found = train_heads(x, 3, heads=4, progress=False)
    assert clustering_accuracy(labels, found.clusters) > 0.97
    assert found.logits.shape == (180, 3)
    assert (found.logits.argmax(1) == found.clusters).all()
    assert found.losses.shape == (4,)
    assert -np.log(3) - 1e-5 <= found.losses.min() < -0.9


def test_a_seed_is_a_result(blobs):
    first, again = (train_heads(blobs[0], 3, heads=2, seed=5, progress=False) for _ in range(2))
    assert (first.logits == again.logits).all()
    other = train_heads(blobs[0], 3, heads=2, seed=6, progress=False)
    assert (first.logits != other.logits).any()


@pytest.mark.parametrize(("k", "heads"), [(1, 4), (46, 4), (3, 1)])
def test_impossible_numbers(blobs, k, heads):
    with pytest.raises(InputError, match="give 2 to 45 clusters and at least 2 heads"):
        train_heads(blobs[0], k, heads=heads, progress=False)


def test_sort_without_the_network_or_the_folder_is_one_line(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["sort", str(tmp_path / "absent"), "--out", out, "--network", "nonsense"]) == 2
    assert "no pretrained network 'nonsense'" in capsys.readouterr().err
