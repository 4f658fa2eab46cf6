"""Scenes of textures: only their structure tells, and a seed says everything."""

import hashlib

import pytest
import torch

from mixem.clustering import nearest_centre, place_centres
from mixem.data.textures import BLOCK, TEXTURES, textures
from mixem.errors import InputError
from mixem.evaluation import PixelCounts, segmentation_scores

ALL = len(TEXTURES)


@pytest.fixture(scope="module")
def scenes():
    return textures(128, size=64, classes=ALL)


def test_what_comes_back(scenes):
    images, masks, names = scenes
    assert images.shape == (128, 1, 64, 64)
    assert masks.shape == (128, 64, 64)
    assert images.dtype == masks.dtype == torch.uint8
    assert names == tuple(TEXTURES)
    shares = torch.bincount(masks.flatten().long(), minlength=ALL) / masks.numel()
    assert shares.min() > 0.5 / ALL


def test_all_textures_have_one_mean_and_variance(scenes):
    images, masks, _ = scenes
    for c in range(ALL):
        pixels = images[:, 0][masks == c].float()
        # Neighbours are alike, so the mean of clouds over some 150 regions still varies by 2.
        assert pixels.mean().item() == pytest.approx(127.5, abs=4)
        assert pixels.std().item() == pytest.approx(42, abs=2)
        assert ((pixels == 0) | (pixels == 255)).float().mean() < 0.005


def test_neighbours_tell_the_textures_apart():
    expected = {  # correlation with the pixel on the right, below and across a corner
        "grain": (0, 0, 0), "across": (0.96, 0, 0), "down": (0, 0.96, 0),
        "blobs": (0.84, 0.84, 0.71), "checks": (-0.84, -0.84, 0.71), "clouds": (0.97, 0.97, 0.94),
    }  # fmt: skip
    for name, texture in TEXTURES.items():
        field = texture(48, torch.Generator().manual_seed(0))
        assert field.shape == (BLOCK, 48, 48)
        assert field.square().mean().item() == pytest.approx(1, abs=0.15)
        pairs = (
            (field[:, :, 1:], field[:, :, :-1]), (field[:, 1:], field[:, :-1]),
            (field[:, 1:, 1:], field[:, :-1, :-1]),
        )  # fmt: skip
        found = [(a * b).mean().item() for a, b in pairs]
        assert found == pytest.approx(expected[name], abs=0.05), name


def test_smoothing_is_that_of_a_slow_sum():
    def slow(tall, wide):
        generator = torch.Generator().manual_seed(1)
        shape = (4, BLOCK, 9 + 2 * (tall - 1), 9 + 2 * (wide - 1))
        noise = torch.randint(-8, 9, shape, generator=generator).sum(0)
        for _ in range(2):
            noise = noise.unfold(1, tall, 1).sum(-1).unfold(2, wide, 1).sum(-1)
        return noise

    for name, sides in (("across", (1, 6)), ("blobs", (3, 3))):
        found, sums = TEXTURES[name](9, torch.Generator().manual_seed(1)), slow(*sides)
        assert torch.allclose(found / found[0, 0, 0], (sums / sums[0, 0, 0]).float())


def test_kmeans_on_pixels_is_near_chance():
    images, masks, names = textures(64, size=64)
    pixels = images.float()
    found = nearest_centre(pixels, place_centres([pixels], len(names)))
    counts = PixelCounts(classes=4, clusters=4)
    counts.add(masks, found)
    assert 0.25 < segmentation_scores(counts.table())["accuracy"] < 0.32


def test_the_seed_says_everything():
    one, longer = textures(70, size=16), textures(140, size=16)
    other = textures(70, size=16, seed=1)
    for a, b, c in zip(one[:2], longer[:2], other[:2], strict=True):
        assert torch.equal(a, b[:70])
        assert not torch.equal(a, c)
        assert not torch.equal(a[:64], b[64:128])


def test_the_pixels_are_the_same_on_every_machine():
    images, masks, _ = textures(3, size=32, classes=ALL)
    both = images.numpy().tobytes() + masks.numpy().tobytes()
    assert hashlib.sha256(both).hexdigest().startswith("cf54a10d")


def test_a_region_has_the_texture_of_its_nearest_point():
    _, masks, _ = textures(40, size=20, regions=1)
    assert all(len(mask.unique()) == 1 for mask in masks)
    _, masks, _ = textures(40, size=20, regions=6)
    assert sum(len(mask.unique()) > 1 for mask in masks) > 30


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"count": 0}, "count 0"), ({"size": 7}, "size 7"), ({"classes": 1}, "classes 1"),
        ({"classes": ALL + 1}, f"classes {ALL + 1}"), ({"regions": 0}, "regions 0"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(options, name):
    with pytest.raises(InputError, match=f"textures with {name}; give a number from"):
        textures(**({"count": 2} | options))
