"""Brain slices, if nilearn is there."""

import sys

import pytest
import torch

from mixem.data import IGNORED
from mixem.data.brain import TISSUES, brain_slices
from mixem.errors import InputError


@pytest.fixture(scope="module")
def slices():
    pytest.importorskip("nilearn")
    return brain_slices(64)


def test_slices_and_tissues(slices):
    images, masks, names = slices
    assert names == TISSUES
    assert images.shape == (len(masks), 1, 64, 64)
    assert images.dtype == masks.dtype == torch.uint8
    assert 100 < len(images) < 189
    shares = torch.bincount(masks.flatten().long(), minlength=256) / masks.numel()
    assert shares[: len(TISSUES)].min() > 0.01
    assert shares[IGNORED] > 0.3
    assert shares[len(TISSUES) : IGNORED].sum() == 0
    assert torch.equal(masks == IGNORED, images[:, 0] == 0)


def test_white_matter_is_brighter_than_grey_and_fluid_darkest(slices):
    images, masks, _ = slices
    grey, white, fluid = (images[:, 0][masks == c].float().mean() for c in range(3))
    assert white > grey > fluid


def test_left_and_right_are_alike_and_up_and_down_are_not(slices):
    images, _, _ = slices
    middle = images[len(images) // 2, 0].float()
    assert (middle - middle.flip(1)).abs().mean() < 0.5 * (middle - middle.flip(0)).abs().mean()


def test_without_nilearn_there_is_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(InputError, match=r"nilearn, which is not installed; pip install") as caught:
        brain_slices()
    assert "\n" not in str(caught.value)


def test_a_tiny_size_is_refused():
    with pytest.raises(InputError, match="give a size of at least 16"):
        brain_slices(8)
