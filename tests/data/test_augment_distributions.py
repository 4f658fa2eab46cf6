"""The draws of a view seen together: shapes of crops, what is independent, which square is central.

Of one number alone :mod:`test_augment` sees to the law.
"""

import math

import pytest
import torch
import torchvision.transforms.v2 as tv

from mixem.data import Augmentation

COUNT = 20_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distance(sample: torch.Tensor, other: torch.Tensor) -> float:
    """Kolmogorov and Smirnov's: the greatest difference of two samples' shares below a value."""
    values = torch.cat([sample, other]).sort().values
    shares = [
        torch.searchsorted(x.sort().values, values, right=True) / len(x) for x in (sample, other)
    ]
    return (shares[0] - shares[1]).abs().max().item()


def largest_correlation(*columns: torch.Tensor) -> float:
    """The largest of any two columns, by size."""
    matrix = torch.corrcoef(torch.stack(columns)).abs()
    return (matrix - torch.eye(len(columns))).max().item()


# Crops ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.5, 3.0), (0.2, 0.5)])
def test_area_and_logarithm_of_the_ratio_are_uniform_and_independent(ratio: tuple[float, float]):
    # Small crops of a large image: each first try fits, and whole pixels hardly matter.
    recipe = Augmentation(size=8, crop_scale=(0.02, 0.1), crop_ratio=ratio)
    tall, wide = recipe.draw(COUNT, 2000, 2000, seeded())["box"][:, 2:].T
    area, log_ratio = tall * wide / 2000**2, (wide / tall).log()
    low, high = (math.log(bound) for bound in ratio)
    steps = torch.arange(1, COUNT + 1) / COUNT
    # 0.0138 is exceeded once in a thousand samples of this law, whatever the sample.
    assert distance((area - 0.02) / 0.08, steps) < 0.0138
    assert distance((log_ratio - low) / (high - low), steps) < 0.0138
    assert largest_correlation(area, log_ratio) < 0.03


def test_small_crops_are_as_often_wide_as_tall():
    recipe = Augmentation(size=32, crop_scale=(0.08, 1.0))
    tall, wide = recipe.draw(COUNT, 32, 32, seeded())["box"][:, 2:].T
    # A square image and ratios from 3/4 to 4/3; 0.02 is 3 standard errors.
    difference = (wide > tall).float().mean() - (tall > wide).float().mean()
    assert abs(difference.item()) < 0.02


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 100)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.5, 3.0)])
def test_shapes_of_crops_are_torchvisions(height: int, width: int, ratio: tuple[float, float]):
    recipe = Augmentation(size=32, crop_scale=(0.08, 1.0), crop_ratio=ratio)
    ours = recipe.draw(COUNT, height, width, seeded())["box"].T
    torch.manual_seed(0)
    crop = tv.RandomResizedCrop(32, scale=(0.08, 1.0), ratio=ratio)
    draw = getattr(crop, "make_params", None) or crop._get_params  # before torchvision 0.21
    boxes = [draw([torch.empty(1, height, width)]) for _ in range(4000)]
    names = ("top", "left", "height", "width")
    theirs = torch.tensor([[box[name] for name in names] for box in boxes]).float().T
    seen_together = {
        "ratio": lambda top, left, h, w: w / h,
        "area": lambda top, left, h, w: w * h,
        "below and right": lambda top, left, h, w: (height - top - h) - (width - left - w),
        "above and left": lambda top, left, h, w: top - left,
    }
    for name, of in seen_together.items():
        # Exceeded once in a thousand pairs of samples of these sizes.
        assert distance(of(*ours), of(*theirs)) < 0.034, name


def test_the_place_of_a_crop_down_says_nothing_of_its_place_across():
    recipe = Augmentation(size=8, crop_scale=(0.1, 0.1), crop_ratio=(1.0, 1.0), flip=0.5)
    draws = recipe.draw(COUNT, 64, 64, seeded())
    assert largest_correlation(*draws["box"][:, :2].T, draws["mirror"]) < 0.03
    squares = Augmentation(size=8, crop_sides=(16, 24))
    top, left, side, _ = squares.draw(COUNT, 32, 32, seeded())["box"].T
    share = torch.stack([top, left]) / (32 - side)
    assert largest_correlation(*share, side) < 0.03


# Affine maps and colours ------------------------------------------------------------------------


def test_the_parameters_of_an_affine_map_are_independent():
    recipe = Augmentation(size=16, degrees=20, translate=0.1, scale=(0.8, 1.2), shear=10)
    draws = recipe.draw(COUNT, 16, 16, seeded())
    down_and_across = draws["translate"].T
    others = (draws[name] for name in ("angle", "scale", "shear"))
    assert largest_correlation(*down_and_across, *others) < 0.03


def test_the_parameters_of_the_colours_are_independent():
    recipe = Augmentation(
        size=8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, jitter=1.0, grey=0.5,
        blur=1.0,
    )  # fmt: skip
    draws = recipe.draw(COUNT, 8, 8, seeded())
    assert set(draws) == {"brightness", "contrast", "saturation", "hue", "grey", "sigma"}
    assert largest_correlation(*draws.values()) < 0.03


def test_a_hole_lies_down_and_across_independently():
    recipe = Augmentation(size=32, cutout=1.0, cutout_sides=(0.2, 0.5))
    top, left, side, _ = recipe.draw(COUNT, 32, 32, seeded())["hole"].T
    assert largest_correlation(top / (32 - side), left / (32 - side), side) < 0.03


# The central square -----------------------------------------------------------------------------


@pytest.mark.parametrize(("longer", "first"), [(32, 0), (33, 0), (34, 1), (35, 1), (37, 2)])
@pytest.mark.parametrize("across", [False, True])
def test_an_odd_remainder_leaves_the_smaller_half_above_and_left(
    longer: int, first: int, across: bool
):
    # Each line of pixels holds its own number. torchvision has 2 for 35, for it rounds 1.5 so.
    images = torch.arange(longer, dtype=torch.uint8).view(1, 1, longer, 1).repeat(1, 1, 1, 32)
    images = images.mT if across else images
    recipe = Augmentation(size=32)
    for views in (recipe.plain(images), recipe(images, seeded())):
        lines = (views.mT if across else views)[0, 0, :, 0] * 255
        assert lines.round().tolist() == list(range(first, first + 32))


@pytest.mark.parametrize(("side", "first"), [(5, 2), (6, 2), (7, 1), (9, 0)])
def test_a_smaller_square_is_central_too(side: int, first: int):
    images = torch.arange(10, dtype=torch.uint8).view(1, 1, 10, 1).repeat(1, 1, 1, 10)
    recipe = Augmentation(size=side, plain_side=side)
    assert (recipe.plain(images)[0, 0, :, 0] * 255).round().tolist() == [
        *range(first, first + side)
    ]
    central = Augmentation(size=side, crop_sides=(side,), centre=1.0)
    assert central.draw(2, 10, 10, seeded())["box"].tolist() == [[first, first, side, side]] * 2
