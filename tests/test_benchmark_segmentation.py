"""The benchmark of the segmentation loss compares like with like."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = [path.stem for path in BENCHMARKS.glob("*.py")]


@pytest.fixture
def segmentation(monkeypatch):
    """Imports the script as a module, and leaves nothing of it behind."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("segmentation")
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("collapsed", [True, False])
def test_the_published_form_is_equal_to_ours(segmentation, collapsed):
    losses = importlib.import_module("losses")
    losses.check(segmentation.ways(3, "cpu", collapsed=collapsed, side=13))


def test_rows_and_memory(segmentation, monkeypatch):
    monkeypatch.setattr(segmentation, "CLUSTERS", (3,))
    monkeypatch.setattr(segmentation, "CHECKED", 12)
    rows = list(segmentation.rows("cpu", rounds=1, side=12))
    assert [row.goal for row in rows] == [100, 10]
    assert {row.against for row in rows} == {"the published convolution"}
    for memory in segmentation.held("cpu", side=12):
        assert memory.ours > 4 * 2 * 3 * 12 * 12
        assert memory.theirs > 4 * 2 * 3 * 12 * 12


def test_every_growth_can_be_evaluated(segmentation):
    import torch

    for growth in segmentation.growths():
        loss = growth.evaluate(*(torch.randn(shape) for shape in growth.shapes(growth.sizes[0])))
        assert loss.shape == ()
        assert [b / a for a, b in zip(growth.sizes, growth.sizes[1:], strict=False)] == [2] * 3
