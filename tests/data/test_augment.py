"""The operations against torchvision's, image by image, and the draws against their laws."""

import dataclasses
import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2 as tv
import torchvision.transforms.v2.functional as tvf
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode

from mixem.data import Augmentation, load_images, normalise, operations
from mixem.data.augment import COLOUR, draw_order
from mixem.errors import InputError

SIMCLR = Augmentation(
    size=32,
    crop_scale=(0.08, 1.0),
    flip=0.5,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    grey=0.2,
)
AFFINE = Augmentation(size=16, degrees=20, translate=0.1, scale=(0.8, 1.2), shear=10)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(n: int = 12, channels: int = 3, height: int = 20, width: int = 20) -> torch.Tensor:
    """Float images with black, white, grey and saturated pixels among random ones."""
    images = torch.rand(n, channels, height, width, generator=seeded(7))
    images[:, :, 0, :2] = torch.tensor([0.0, 1.0])
    images[:, :, 1] = images[:, :1, 1]  # grey: no hue
    images[:, :, 2] = images[:, :, 2].round()  # corners of the colour cube: ties between channels
    return images


def pixels(n: int = 12, channels: int = 3, height: int = 40, width: int = 40) -> torch.Tensor:
    shape = (n, channels, height, width)
    return torch.randint(256, shape, dtype=torch.uint8, generator=seeded(3))


def each(function, images: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
    """The operation of torchvision on one image at a time."""
    rows = zip(images, *(p.tolist() for p in parameters), strict=True)
    return torch.stack([function(image, *values) for image, *values in rows])


# Operations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_agree_with_torchvision(name: str, channels: int):
    images = photographs(channels=channels)
    factor = torch.linspace(0, 2, len(images))
    ours = getattr(operations, f"adjust_{name}")(images, factor)
    theirs = each(getattr(tvf, f"adjust_{name}"), images, factor)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_hue_agrees_with_torchvision(channels: int):
    images = photographs(channels=channels)
    turns = torch.linspace(-0.5, 0.5, len(images))
    theirs = each(tvf.adjust_hue, images, turns)
    torch.testing.assert_close(operations.adjust_hue(images, turns), theirs, atol=5e-6, rtol=0)


def test_hue_turns_red_to_green_to_blue():
    red = torch.tensor([1.0, 0.25, 0.25]).view(1, 3, 1, 1)
    turned = operations.adjust_hue(red.repeat(3, 1, 1, 1), torch.tensor([0.0, 1 / 3, -1 / 3]))
    expected = [[1.0, 0.25, 0.25], [0.25, 1.0, 0.25], [0.25, 0.25, 1.0]]
    torch.testing.assert_close(turned.flatten(1), torch.tensor(expected), atol=1e-6, rtol=0)


def test_hue_of_every_corner_and_edge_colour_is_in_range():
    levels = torch.tensor([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0])
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 1, -1)
    for turn in torch.linspace(-0.5, 0.5, 13):
        turned = operations.adjust_hue(colours, turn.view(1))
        assert turned.isfinite().all()
        assert turned.min() >= 0
        assert turned.max() <= 1


def test_greyscale_agrees_with_torchvision_where_chosen():
    images = photographs(n=4)
    ours = operations.greyscale(images, torch.tensor([1.0, 0.0, 1.0, 0.0]))
    grey = tvf.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(ours[0::2], grey[0::2], atol=1e-6, rtol=0)
    assert torch.equal(ours[1::2], images[1::2])


def test_linear_colour_is_the_operations_in_order_where_none_clamps():
    images = 0.45 + 0.1 * photographs(n=24)
    order = ["saturation", "contrast", "grey", "brightness"]
    draws = {name: torch.linspace(0.8, 1.3, 24).roll(i) for i, name in enumerate(order)}
    draws["grey"] = (torch.arange(24) % 3 == 0).float()
    for names in itertools.permutations(order):
        expected = images
        for name in names:
            expected = COLOUR[name](expected, draws[name])
        colours = operations.linear_colour(draws, names, channels=3)
        found = operations.recolour(images, colours)
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_linear_colour_of_one_channel_is_brightness_and_contrast():
    images = 0.45 + 0.1 * photographs(channels=1)
    draws = {"contrast": torch.linspace(0.5, 1.5, 12), "brightness": torch.linspace(1.2, 0.8, 12)}
    expected = operations.adjust_contrast(images, draws["contrast"])
    expected = operations.adjust_brightness(expected, draws["brightness"])
    draws |= dict.fromkeys(("saturation", "hue", "grey"), torch.ones(12))
    colours = operations.linear_colour(draws, list(draws), channels=1)
    torch.testing.assert_close(operations.recolour(images, colours), expected, atol=1e-6, rtol=0)


def test_linear_colour_clamps_at_the_end_only():
    images = torch.tensor([1.0, 0.2]).view(1, 1, 1, 2)
    draws = {"brightness": torch.tensor([1.25]), "contrast": torch.tensor([0.5])}
    colours = operations.linear_colour(draws, list(draws), channels=1)
    # 1.25 and 0.25 in between; clamped there, the end would be 0.8125 and 0.4375.
    expected = torch.tensor([1.0, 0.5])
    torch.testing.assert_close(
        operations.recolour(images, colours).flatten(), expected, atol=1e-6, rtol=0
    )
    brighter = {"brightness": torch.tensor([2.0])}
    colours = operations.linear_colour(brighter, ["brightness"], channels=1)
    assert operations.recolour(images, colours).max() == 1


def turned(colour: tuple[float, float, float], turns: list[float]) -> torch.Tensor:
    """A colour after linear turns of its hue, ``(turns, 3)``."""
    images = torch.tensor(colour).view(1, 3, 1, 1).repeat(len(turns), 1, 1, 1)
    colours = operations.linear_colour({"hue": torch.tensor(turns)}, ["hue"], channels=3)
    return operations.recolour(images, colours).flatten(1)


def test_the_linear_hue_turns_red_to_green_to_blue():
    for colour, expected in (
        ((0.6, 0.4, 0.4), [0, 1, 2]),
        ((0.4, 0.6, 0.4), [1, 2, 0]),
        ((0.4, 0.4, 0.6), [2, 0, 1]),
    ):
        assert turned(colour, [0, 1 / 3, 2 / 3]).argmax(1).tolist() == expected
        # A whole turn comes back, half a turn is the opposite colour.
        there = turned(colour, [0, 1, 0.5])
        torch.testing.assert_close(there[0], torch.tensor(colour), atol=1e-6, rtol=0)
        torch.testing.assert_close(there[1], there[0], atol=1e-5, rtol=0)
        grey = operations.luma(there.view(3, 3, 1, 1)).flatten()
        torch.testing.assert_close(there[0] - grey[0], grey[2] - there[2], atol=2e-4, rtol=0)


def test_the_linear_hue_keeps_grey_values_and_adds_up():
    grey = turned((0.5, 0.5, 0.5), [0.1, 0.25, -0.4])
    torch.testing.assert_close(grey, torch.full((3, 3), 0.5), atol=1e-4, rtol=0)
    many = turned((0.6, 0.5, 0.4), [0, 0.1, 0.25, -0.4])
    level = operations.luma(many.view(4, 3, 1, 1)).flatten()
    torch.testing.assert_close(level, level[0].expand(4), atol=2e-4, rtol=0)
    twice = turned(tuple(turned((0.6, 0.5, 0.4), [0.1])[0].tolist()), [0.15])
    torch.testing.assert_close(twice[0], many[2], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (20, 28, 12), (8, 8, 16), (96, 64, 24), (5, 3, 7)]
)
def test_resized_crop_agrees_with_torchvision(height: int, width: int, size: int):
    images = photographs(n=40, height=height, width=width)
    recipe = Augmentation(size=size, crop_scale=(0.05, 1.0), flip=0.5)
    draws = recipe.draw(40, height, width, seeded(5))
    ours = operations.resized_crop(images, draws["box"], draws["mirror"], size=size)
    for image, view, box, mirror in zip(images, ours, draws["box"], draws["mirror"], strict=True):
        top, left, tall, wide = (int(value) for value in box)
        theirs = tvf.resized_crop(image, top, left, tall, wide, [size, size], antialias=True)
        theirs = tvf.horizontal_flip(theirs) if mirror else theirs
        torch.testing.assert_close(view, theirs, atol=5e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_affine_agrees_with_torchvision(channels: int):
    images = photographs(n=16, channels=channels)
    draws = AFFINE.draw(16, 20, 20, seeded(2))
    ours = operations.affine(images, **draws)
    for i, image in enumerate(images):
        theirs = tvf.affine(
            image,
            angle=float(draws["angle"][i]),
            translate=(draws["translate"][i] * 20).tolist(),
            scale=float(draws["scale"][i]),
            shear=[float(draws["shear"][i]), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(ours[i], theirs, atol=2e-5, rtol=0)


def test_affine_shift_moves_right_and_down():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 1, 1] = 1
    still = torch.zeros(1)
    moved = operations.affine(
        image, angle=still, translate=torch.tensor([[0.25, 0.5]]), scale=still + 1, shear=still
    )
    assert moved[0, 0, 3, 2] == pytest.approx(1)
    assert moved.sum() == pytest.approx(1)


@pytest.mark.parametrize(("height", "width", "kernel"), [(20, 20, 3), (20, 14, 9), (5, 4, 7)])
def test_blur_agrees_with_torchvision(height: int, width: int, kernel: int):
    images = photographs(height=height, width=width)
    sigma = torch.linspace(0.1, 2.0, len(images))
    ours = operations.gaussian_blur(images, sigma, kernel=kernel)
    theirs = each(
        lambda image, s: tvf.gaussian_blur(image, [kernel, kernel], [s, s]), images, sigma
    )
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


def test_cutout_makes_a_box_black():
    images = photographs(6, height=20, width=16) + 0.01
    boxes = [
        [3, 5, 4, 4],
        [0, 0, 20, 16],
        [16, 12, 4, 4],
        [7, 2, 1, 9],
        [2, 2, 0, 0],
        [0, 15, 3, 1],
    ]
    expected = images.clone()
    for image, (top, left, tall, wide) in zip(expected, boxes, strict=True):
        for y in range(top, top + tall):
            for x in range(left, left + wide):
                image[:, y, x] = 0
    box = torch.tensor(boxes, dtype=torch.float32)
    assert torch.equal(operations.cutout(images, box), expected)
    assert torch.equal(operations.cutout(images, box, out=images), expected)
    assert torch.equal(images, expected)


def test_neutral_parameters_change_nothing():
    images = photographs()
    one, zero = torch.ones(len(images)), torch.zeros(len(images))
    box = torch.tensor([0.0, 0.0, 20.0, 20.0]).repeat(len(images), 1)
    assert torch.equal(operations.adjust_brightness(images, one), images)
    assert torch.equal(operations.adjust_contrast(images, one), images)
    assert torch.equal(operations.adjust_saturation(images, one), images)
    assert torch.equal(operations.greyscale(images, zero), images)
    assert torch.equal(operations.gaussian_blur(images, zero, kernel=5), images)
    assert torch.equal(operations.resized_crop(images, box, zero, size=20), images)
    torch.testing.assert_close(operations.adjust_hue(images, zero), images, atol=2e-6, rtol=0)
    draws = dict.fromkeys(COLOUR, one) | {"hue": zero, "grey": zero}
    colours = operations.linear_colour(draws, list(draws), channels=3)
    torch.testing.assert_close(operations.recolour(images, colours), images, atol=1e-6, rtol=0)


def test_operations_leave_their_input_alone():
    images = photographs()
    before = images.clone()
    half = torch.full((len(images),), 0.5)
    for name in ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue"):
        getattr(operations, name)(images, half)
    operations.greyscale(images, half)
    operations.gaussian_blur(images, half, kernel=3)
    normalise(images, (0.5,), (0.5,))
    assert torch.equal(images, before)


@pytest.mark.parametrize("count", [1, 3])
def test_normalise_agrees_with_torchvision(count: int):
    mean, std = (0.49, 0.48, 0.44)[:count], (0.2, 0.21, 0.22)[:count]
    images = photographs()
    theirs = tvf.normalize(images, list(mean), list(std))
    torch.testing.assert_close(normalise(images, mean, std), theirs, atol=1e-6, rtol=0)


def test_normalise_refuses_numbers_that_do_not_fit():
    with pytest.raises(InputError, match=r"2 means and 2 standard deviations .* 3 channel"):
        normalise(photographs(), (0.5, 0.5), (0.5, 0.5))


# Draws ------------------------------------------------------------------------------------------


def test_crop_boxes_follow_torchvisions_law():
    draws = SIMCLR.draw(20_000, 32, 32, seeded())
    top, left, tall, wide = draws["box"].unbind(1)
    assert torch.equal(draws["box"], draws["box"].round())
    assert min(top.min(), left.min()) >= 0
    assert min(tall.min(), wide.min()) >= 1
    assert (top + tall).max() == 32
    assert (left + wide).max() == 32
    ratio = wide / tall
    assert ratio.min() > 0.75 * 0.85  # sides are rounded to whole pixels
    assert ratio.max() < 4 / 3 / 0.85
    area = tall * wide / 32**2
    assert area.min() > 0.06
    torch.manual_seed(0)
    theirs = tv.RandomResizedCrop(32, scale=(0.08, 1.0))
    draw = getattr(theirs, "make_params", None) or theirs._get_params  # before torchvision 0.21
    boxes = [draw([torch.empty(3, 32, 32)]) for _ in range(4000)]
    peers = torch.tensor([[b["top"], b["left"], b["height"], b["width"]] for b in boxes]).float()
    # Two-sample check of every quantile of every coordinate; 0.03 is about 2.5 standard errors.
    for ours, other in zip(draws["box"].T, peers.T, strict=True):
        for edge in range(1, 32):
            assert (ours < edge).float().mean() == pytest.approx(
                float((other < edge).float().mean()), abs=0.03
            )


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(10, 100, [0, 43, 10, 13]), (100, 10, [43, 0, 13, 10])]
)
def test_crop_falls_back_to_the_centre(height: int, width: int, expected: list[int]):
    recipe = Augmentation(size=8, crop_scale=(1.0, 1.0))  # a full area never fits a strip
    box = recipe.draw(3, height, width, seeded())["box"]
    assert box.tolist() == [expected] * 3


IIC = Augmentation(  # IIC's transformed view of MNIST, without its colours
    size=24, crop_sides=(16, 20, 24), centre=0.25, plain_side=20, affine=0.5, affine_first=True,
    degrees=25,
)  # fmt: skip


def test_square_crops_have_every_side_and_every_place():
    top, left, tall, wide = IIC.draw(20_000, 28, 28, seeded())["box"].unbind(1)
    assert torch.equal(tall, wide)
    for side in (16, 20, 24):
        chosen = tall == side
        assert chosen.float().mean() == pytest.approx(1 / 3, abs=0.015)
        places = 28 - side + 1
        for corner in (top[chosen], left[chosen]):
            counts = torch.bincount(corner.long(), minlength=places) / len(corner)
            expected = torch.full((places,), 0.75 / places)
            expected[(28 - side) // 2] += 0.25
            torch.testing.assert_close(counts, expected, atol=0.015, rtol=0)
        both = (top[chosen] == (28 - side) // 2) & (left[chosen] == (28 - side) // 2)
        assert both.float().mean() == pytest.approx(0.25 + 0.75 / places**2, abs=0.02)


def test_an_affine_map_may_come_first_and_to_some_images_only():
    images = pixels(40, 1, 28, 28)
    draws = IIC.draw(40, 28, 28, seeded())
    turned = draws["angle"] != 0
    assert 10 < turned.sum() < 30
    views = IIC(images, seeded())
    for i, image in enumerate(images / 255):
        angle = float(draws["angle"][i])
        rotated = tvf.affine(
            image, angle=angle, translate=[0.0, 0.0], scale=1.0, shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )  # fmt: skip
        top, left, side, _ = (int(value) for value in draws["box"][i])
        theirs = tvf.resized_crop(rotated, top, left, side, side, [24, 24], antialias=True)
        torch.testing.assert_close(views[i], theirs, atol=1e-4, rtol=0)
    later = dataclasses.replace(IIC, affine_first=False)(images, seeded())
    torch.testing.assert_close(views[~turned], later[~turned], atol=1e-4, rtol=0)
    far = draws["angle"].abs() > 1
    assert (views[far] - later[far]).abs().amax((1, 2, 3)).min() > 0.01


def test_what_is_left_out_of_an_affine_map_is_neutral():
    recipe = dataclasses.replace(AFFINE, affine=0.3)
    draws = recipe.draw(10_000, 16, 16, seeded())
    done = draws["angle"] != 0
    assert done.float().mean() == pytest.approx(0.3, abs=0.02)
    assert (draws["translate"][~done] == 0).all()
    assert (draws["scale"][~done] == 1).all()
    assert (draws["shear"][~done] == 0).all()
    assert (draws["scale"][done] != 1).float().mean() > 0.99


def test_the_plain_view_may_be_a_smaller_square():
    images = pixels(3, 1, 28, 30)
    assert torch.equal(
        Augmentation(size=20, plain_side=20).plain(images), images[:, :, 4:24, 5:25] / 255
    )
    flipped = Augmentation(size=20, plain_side=20, flip=1.0)(images, seeded())
    torch.testing.assert_close(flipped, images[:, :, 4:24, 5:25].flip(3) / 255)


def test_the_plain_view_may_have_a_size_of_its_own():
    images = pixels(3, 3, 32, 32)
    recipe = Augmentation(size=28, plain_size=32, crop_scale=(0.2, 1.0), mean=(0.5,), std=(0.25,))
    assert torch.equal(recipe.plain(images), (images / 255 - 0.5) / 0.25)
    assert recipe(images, seeded()).shape == (3, 3, 28, 28)
    both = Augmentation(size=8, plain_side=20, plain_size=10)
    expected = F.interpolate(
        images[:, :, 6:26, 6:26] / 255, (10, 10), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(both.plain(images), expected)
    # A view without a crop keeps the size of the views.
    assert both(images, seeded()).shape == (3, 3, 8, 8)


def test_crops_larger_than_the_images_are_refused():
    with pytest.raises(InputError, match=r"a crop of 24 x 24 pixels out of images of 20 x 28"):
        IIC(pixels(2, 1, 20, 28), seeded())
    with pytest.raises(InputError, match="a crop of 20 x 20"):
        Augmentation(size=8, plain_side=20).plain(pixels(2, 1, 16, 16))
    with pytest.raises(InputError, match="30 x 28 pixels; affine_first needs square ones"):
        IIC(pixels(2, 1, 30, 28), seeded())


def test_holes_lie_inside_with_every_side_and_place():
    recipe = Augmentation(size=11, cutout=0.6, cutout_sides=(0.3, 0.75))
    top, left, tall, wide = recipe.draw(30_000, 40, 30, seeded())["hole"].unbind(1)
    assert torch.equal(tall, wide)
    done = tall > 0
    assert done.float().mean() == pytest.approx(0.6, abs=0.015)
    sides = range(int(0.3 * 11), int(0.75 * 11) + 1)
    assert tall[done].unique().tolist() == list(sides) == [3, 4, 5, 6, 7, 8]
    for side in sides:
        chosen = tall == side
        assert chosen.sum() / done.sum() == pytest.approx(1 / 6, abs=0.015)
        for corner in (top[chosen], left[chosen]):
            counts = torch.bincount(corner.long()) / len(corner)
            assert len(counts) == 12 - side
            torch.testing.assert_close(
                counts, torch.full((12 - side,), 1 / (12 - side)), atol=0.03, rtol=0
            )


def test_a_band_reaches_from_edge_to_edge():
    recipe = Augmentation(size=24, cutout=0.5, cutout_sides=(0.25, 0.46), cutout_width=1.0)
    top, left, tall, wide = recipe.draw(2_000, 24, 24, seeded())["hole"].unbind(1)
    assert tall.unique().tolist() == [0, 6, 7, 8, 9, 10, 11]
    assert (left == 0).all()
    assert (wide == 24).all()
    assert top[tall == 6].unique().tolist() == list(range(19))
    white = torch.full((50, 1, 24, 24), 255, dtype=torch.uint8)
    rows = recipe(white, seeded()).amin(3)[:, 0]  # of each row its darkest pixel
    columns = recipe(white, seeded()).amax(3)[:, 0]
    assert torch.equal(rows, columns)
    assert {int(n) for n in (rows == 0).sum(1)} <= {0, *range(6, 12)}


def test_a_hole_may_be_narrower_than_it_is_tall():
    recipe = Augmentation(size=20, cutout=1.0, cutout_sides=(0.5, 0.5), cutout_width=0.22)
    _, left, tall, wide = recipe.draw(500, 20, 20, seeded())["hole"].unbind(1)
    assert set(tall.tolist()) == {10}
    assert set(wide.tolist()) == {4}
    assert left.unique().tolist() == list(range(17))


def test_a_hole_comes_after_the_affine_map_and_before_the_colours():
    recipe = dataclasses.replace(AFFINE, cutout=0.7, brightness=0.5, contrast=0.5, jitter=1.0)
    images = pixels(20, height=16, width=16)
    draws = recipe.draw(20, 16, 16, generator := seeded())
    maps = {name: draws[name] for name in ("angle", "translate", "scale", "shear")}
    views = operations.affine(images / 255, **maps)
    for view, hole in zip(views, draws["hole"].long().tolist(), strict=True):
        top, left, side, _ = hole
        view[:, top : top + side, left : left + side] = 0
    for name in draw_order(generator):
        if name in draws:
            views = getattr(operations, f"adjust_{name}")(views, draws[name])
    torch.testing.assert_close(recipe(images, seeded()), views, atol=1e-6, rtol=0)
    assert 0 < (draws["hole"][:, 2] > 0).sum() < 20


def test_without_cutout_nothing_is_drawn_for_it():
    """The views of every other recipe are what they were."""
    generator, twin = seeded(), seeded()
    draws = SIMCLR.draw(4, 40, 40, generator)
    with_holes = dataclasses.replace(SIMCLR, cutout=0.5).draw(4, 40, 40, twin)
    assert set(with_holes) - set(draws) == {"hole"}
    assert torch.equal(draws["box"], with_holes["box"])
    assert not torch.equal(draws["hue"], with_holes["hue"])  # drawn after the holes


def test_vectors_have_no_several_views():
    with pytest.raises(InputError, match="let a neighbour be one"):
        SIMCLR.several(torch.ones(3, 5, dtype=torch.float16), 2, seeded())


def test_several_views_are_those_of_so_many_copies():
    images = pixels(6, 3, 20, 20)
    views = SIMCLR.several(images, 3, seeded())
    assert views.shape == (3, 6, 3, SIMCLR.size, SIMCLR.size)
    assert torch.equal(views.flatten(0, 1), SIMCLR(torch.cat([images] * 3), seeded()))
    assert (views[0] - views[1]).abs().amax((1, 2, 3)).min() > 0.01


def test_probabilities_and_ranges_of_the_draws():
    recipe = dataclasses.replace(SIMCLR, flip=0.3, grey=0.2, blur=0.6, blur_sigma=(0.5, 1.5))
    draws = recipe.draw(20_000, 32, 32, seeded())
    assert draws["mirror"].mean() == pytest.approx(0.3, abs=0.015)
    assert draws["grey"].mean() == pytest.approx(0.2, abs=0.015)
    sigma = draws["sigma"]
    assert (sigma > 0).float().mean() == pytest.approx(0.6, abs=0.015)
    assert sigma[sigma > 0].min() == pytest.approx(0.5, abs=0.01)
    assert sigma.max() == pytest.approx(1.5, abs=0.01)
    for name, neutral, strength in (
        ("brightness", 1, 0.8),
        ("contrast", 1, 0.8),
        ("saturation", 1, 0.8),
        ("hue", 0, 0.2),
    ):
        change = draws[name] - neutral
        assert (change != 0).float().mean() == pytest.approx(0.8, abs=0.015), name
        assert change.min() == pytest.approx(-strength, abs=0.01), name
        assert change.max() == pytest.approx(strength, abs=0.01), name
    jittered = draws["brightness"] != 1
    assert torch.equal(jittered, draws["hue"] != 0)  # one decision for the four


def test_brightness_above_one_never_goes_below_black():
    factor = Augmentation(size=8, brightness=1.5, jitter=1.0).draw(5000, 8, 8, seeded())[
        "brightness"
    ]
    assert factor.min() >= 0
    assert factor.min() == pytest.approx(0, abs=0.01)
    assert factor.max() == pytest.approx(2.5, abs=0.01)


def test_affine_draws_keep_their_ranges():
    draws = AFFINE.draw(5000, 16, 16, seeded())
    for name, low, high in (
        ("angle", -20, 20),
        ("translate", -0.1, 0.1),
        ("scale", 0.8, 1.2),
        ("shear", -10, 10),
    ):
        span = (high - low) / 100
        assert low <= draws[name].min() < low + span, name
        assert high - span < draws[name].max() <= high, name


def test_order_is_drawn_from_the_generator():
    generator = seeded()
    orders = []
    for _ in range(480):
        orders.append(tuple(draw_order(generator)))
        torch.rand(1, generator=generator)
    counts = {order: orders.count(order) for order in set(orders)}
    assert len(counts) == 24
    assert max(counts.values()) < 50  # 20 expected
    assert draw_order(seeded(4)) == draw_order(seeded(4))


# Views ------------------------------------------------------------------------------------------

RECIPES = {
    "simclr": SIMCLR,
    "blur": dataclasses.replace(SIMCLR, blur=0.5),
    "linear": dataclasses.replace(SIMCLR, linear_colour=True),
    "affine": AFFINE,
    "squares": dataclasses.replace(AFFINE, crop_sides=(1,), affine=0.5),
    "flip": Augmentation(size=24, flip=0.5),
    "turns": dataclasses.replace(SIMCLR, vertical_flip=0.5, quarter_turns=0.75),
    "padded": dataclasses.replace(SIMCLR, pad=True),
    "cutout": dataclasses.replace(SIMCLR, cutout=0.5),
    "band": dataclasses.replace(AFFINE, cutout=0.5, cutout_width=1.0),
    "normalised": Augmentation(size=24, flip=0.5, mean=(0.5,), std=(0.25,)),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_views_have_shape_type_and_range(name: str, channels: int):
    recipe = RECIPES[name]
    views = recipe(pixels(channels=channels, height=40, width=36), seeded())
    assert views.shape == (12, channels, recipe.size, recipe.size)
    assert views.dtype == torch.float32
    assert views.is_contiguous()
    low, high = (-2, 2) if recipe.mean else (0, 1)
    assert low <= views.min() < views.max() <= high


@pytest.mark.parametrize("name", RECIPES)
def test_same_seed_same_views_and_next_draw_differs(name: str):
    images, generator = pixels(), seeded(1)
    first, second = RECIPES[name](images, generator), RECIPES[name](images, generator)
    assert torch.equal(first, RECIPES[name](images, seeded(1)))
    assert not torch.equal(first, second)


def test_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = SIMCLR(pixels(), seeded())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(SIMCLR(pixels(), seeded()), first)


def test_images_of_a_batch_get_different_draws():
    views = SIMCLR(pixels(1).repeat(8, 1, 1, 1), seeded())
    distances = torch.cdist(views.flatten(1), views.flatten(1))
    assert (distances + torch.eye(8) * 100).min() > 0.1


@pytest.mark.parametrize("linear_colour", [False, True])
def test_pieces_of_a_batch_give_what_the_whole_gives(
    linear_colour: bool, monkeypatch: pytest.MonkeyPatch
):
    images = pixels(50)
    recipe = dataclasses.replace(
        SIMCLR, blur=0.5, degrees=10, cutout=0.5, linear_colour=linear_colour
    )
    whole = recipe(images, seeded())
    monkeypatch.setattr("mixem.data.augment.CACHE_BYTES", 3 * 40 * 40 * 4 * 7)
    torch.testing.assert_close(recipe(images, seeded()), whole, atol=1e-6, rtol=0)


def test_a_view_is_the_operations_in_order():
    images = pixels()
    recipe = dataclasses.replace(SIMCLR, blur=1.0, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    draws = recipe.draw(12, 40, 40, generator := seeded())
    views = operations.resized_crop(images / 255, draws["box"], draws["mirror"], size=32)
    for name in draw_order(generator):
        views = getattr(operations, f"adjust_{name}")(views, draws[name])
    views = operations.greyscale(views, draws["grey"])
    views = operations.gaussian_blur(views, draws["sigma"], kernel=3)
    views = normalise(views, recipe.mean, recipe.std)
    torch.testing.assert_close(recipe(images, seeded()), views, atol=1e-5, rtol=0)


@pytest.mark.parametrize("blur", [0.0, 1.0])
@pytest.mark.parametrize(("mean", "std"), [((), ()), ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))])
def test_linear_colours_are_drawn_as_the_others(blur: float, mean: tuple, std: tuple):
    images = pixels()
    recipe = dataclasses.replace(SIMCLR, linear_colour=True, blur=blur, mean=mean, std=std)
    draws = recipe.draw(12, 40, 40, generator := seeded())
    views = operations.resized_crop(images / 255, draws["box"], draws["mirror"], size=32)
    order = [*draw_order(generator), "grey"]
    views = operations.recolour(views, operations.linear_colour(draws, order, channels=3))
    if blur:
        views = operations.gaussian_blur(views, draws["sigma"], kernel=3)
    views = normalise(views, mean, std)
    found = recipe(images, seeded())
    torch.testing.assert_close(found, views, atol=1e-5, rtol=0)
    if not mean:  # the same draws as without, in another arithmetic
        exact = dataclasses.replace(recipe, linear_colour=False)(images, seeded())
        assert 0.01 < (found - exact).abs().mean() < 0.1


def test_linear_colour_without_colours_changes_nothing():
    images = pixels(height=32, width=32)
    assert torch.equal(Augmentation(size=32, linear_colour=True)(images, seeded()), images / 255)


def test_default_recipe_only_scales_to_one():
    images = pixels(height=32, width=32)
    recipe = Augmentation(size=32)
    assert torch.equal(recipe(images, seeded()), images / 255)
    assert torch.equal(recipe.plain(images), images / 255)


def test_every_grey_level_stays_in_range():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    views = Augmentation(size=16, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))(levels, seeded())
    torch.testing.assert_close(views, levels / 255, atol=1e-7, rtol=0)
    assert views.max() == 1


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 60), (9, 5)])
def test_plain_is_the_central_square_resized(height: int, width: int):
    images = pixels(height=height, width=width)
    recipe = Augmentation(size=16, flip=1.0, grey=1.0, mean=(0.5,), std=(0.5,))
    side = min(height, width)
    theirs = tvf.resize(
        tvf.center_crop(images / 255, [side, side]), [16, 16], antialias=True
    )  # fmt: skip
    ours = recipe.plain(images)
    torch.testing.assert_close(ours, (theirs - 0.5) / 0.5, atol=1e-5, rtol=0)
    assert torch.equal(ours, recipe.plain(images))


def test_flip_without_crop_mirrors_the_plain_view():
    images = pixels(height=24, width=30)
    recipe = Augmentation(size=16, flip=1.0)
    expected = recipe.plain(images).flip(3)
    torch.testing.assert_close(recipe(images, seeded()), expected, atol=1e-6, rtol=0)


def test_flips_and_quarter_turns_are_torchvisions():
    images = pixels(200, height=21, width=30)
    recipe = Augmentation(
        size=16, crop_scale=(0.3, 1.0), flip=0.5, vertical_flip=0.5, quarter_turns=0.75
    )
    draws = recipe.draw(200, 21, 30, seeded())
    parameters = (draws[name] for name in ("box", "mirror", "upside_down", "quarters"))

    def slowly(image, box, mirror, upside_down, quarters):
        view = tvf.resized_crop(image, *map(int, box), [16, 16], antialias=True)
        view = tvf.horizontal_flip(view) if mirror else view
        view = tvf.vertical_flip(view) if upside_down else view
        return torch.rot90(view, int(quarters), (1, 2))

    expected = each(slowly, images / 255, *parameters)
    torch.testing.assert_close(recipe(images, seeded()), expected, atol=1e-5, rtol=0)
    kinds = torch.stack([draws[name] for name in ("mirror", "upside_down", "quarters")], 1)
    assert len(kinds.unique(dim=0)) == 16


def test_all_ways_up_are_as_likely():
    recipe = Augmentation(size=16, vertical_flip=0.3, quarter_turns=0.75)
    draws = recipe.draw(4000, 16, 16, seeded())
    assert draws["upside_down"].mean().item() == pytest.approx(0.3, abs=0.03)
    shares = draws["quarters"].long().bincount() / 4000
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"vertical_flip": 1.0}, [[2, 3], [0, 1]]),
        ({"flip": 1.0, "vertical_flip": 1.0}, [[3, 2], [1, 0]]),
    ],
)
def test_a_flip_of_four_pixels(change, expected):
    image = torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2)
    view = Augmentation(size=2, **change)(image, seeded())
    torch.testing.assert_close(255 * view[0, 0], torch.tensor(expected).float())


def test_without_them_nothing_is_drawn_for_flips_and_turns():
    draws = SIMCLR.draw(3, 32, 32, seeded())
    assert not {"upside_down", "quarters"} & set(draws)


def slowly_padded(image):
    """An image ``(C, H, W)`` in the middle of a square, pixel by pixel."""
    channels, height, width = image.shape
    side = max(height, width)
    rim = [
        (y, x) for y in range(height) for x in range(width)
        if y in (0, height - 1) or x in (0, width - 1)
    ]  # fmt: skip
    square = torch.empty(channels, side, side, dtype=torch.uint8)
    for channel, plane in enumerate(image.tolist()):
        square[channel] = round(sum(plane[y][x] for y, x in rim) / len(rim))
    top, left = (side - height) // 2, (side - width) // 2
    for y, x in itertools.product(range(height), range(width)):
        square[:, top + y, left + x] = image[:, y, x]
    return square


@pytest.mark.parametrize(("height", "width"), [(9, 4), (4, 9), (1, 5), (6, 1), (2, 3), (5, 5)])
def test_padding_to_a_square(height, width):
    images = pixels(5, height=height, width=width)
    expected = torch.stack([slowly_padded(image) for image in images])
    assert torch.equal(operations.pad_to_square(images), expected)


def test_a_padded_view_is_the_view_of_the_padded_image():
    images = pixels(height=30, width=21)
    recipe, without = dataclasses.replace(SIMCLR, pad=True), SIMCLR
    squares = operations.pad_to_square(images)
    assert torch.equal(recipe(images, seeded()), without(squares, seeded()))
    assert torch.equal(recipe.plain(images), without.plain(squares))
    assert torch.equal(recipe(squares, seeded()), without(squares, seeded()))
    Augmentation(size=8, pad=True, crop_sides=(30,)).check_images(images)


def test_one_channel_images_keep_no_colour_operation():
    images = pixels(channels=1)
    recipe = Augmentation(size=40, saturation=0.8, hue=0.5, jitter=1.0, grey=1.0)
    assert torch.equal(recipe(images, seeded()), images / 255)


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_of_one_pixel(name: str):
    recipe = RECIPES[name]
    views = recipe(pixels(1, height=1, width=1), seeded())
    assert views.shape == (1, 3, recipe.size, recipe.size)
    assert views.isfinite().all()


def test_views_of_one_pixel():
    recipe = dataclasses.replace(SIMCLR, size=1, blur=1.0)
    assert recipe(pixels(), seeded()).shape == (12, 3, 1, 1)


def test_autocast_does_not_reach_the_views():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = SIMCLR(pixels(), seeded())
    assert views.dtype == torch.float32
    assert torch.equal(views, SIMCLR(pixels(), seeded()))


@pytest.mark.parametrize("linear_colour", [False, True])
def test_no_view_waits_for_a_value(linear_colour: bool, monkeypatch: pytest.MonkeyPatch):
    """Tensors without values: reading one, which would wait for a GPU, is an error."""
    monkeypatch.setattr("mixem.data.augment.draw_order", lambda generator: ["hue", "contrast"])
    recipe = dataclasses.replace(
        SIMCLR, blur=0.5, degrees=10, cutout=0.5, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2),
        linear_colour=linear_colour,
    )  # fmt: skip
    with FakeTensorMode():
        images = torch.empty(4, 3, 40, 36, dtype=torch.uint8)
        assert recipe(images, seeded()).shape == (4, 3, 32, 32)
        assert recipe.plain(images).shape == (4, 3, 32, 32)
        with pytest.raises(DataDependentOutputException):
            images.float().sum().item()


# Failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(2, 2, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 3, 8, 8, dtype=torch.uint8),
    ],
)
def test_wrong_images_are_refused(images: torch.Tensor):
    recipe = Augmentation(size=8)
    for use in (recipe.plain, lambda x: recipe(x, seeded())):
        with pytest.raises(InputError, match="give a uint8 tensor of shape") as caught:
            use(images)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("size", 32.0),
        ("size", True),
        ("flip", 1.5),
        ("flip", -0.1),
        ("flip", math.nan),
        ("grey", "0.2"),
        ("affine_first", 1),
        ("linear_colour", 1),
        ("pad", 1),
        ("vertical_flip", 1.5),
        ("quarter_turns", -0.1),
        ("hue", 0.6),
        ("brightness", -1.0),
        ("brightness", math.inf),
        ("degrees", 181),
        ("translate", 2),
        ("shear", 90),
        ("scale", (0.0, 1.0)),
        ("scale", (1.2, 0.8)),
        ("scale", 1.2),
        ("crop_scale", (0.5, 1.5)),
        ("crop_scale", (0.5,)),
        ("crop_ratio", None),
        ("crop_sides", (16.0,)),
        ("crop_sides", (0,)),
        ("crop_sides", 16),
        ("plain_side", 0),
        ("plain_side", 2.5),
        ("plain_size", 0),
        ("plain_size", 2.5),
        ("plain_size", True),
        ("centre", 1.5),
        ("affine", -0.5),
        ("cutout", 1.1),
        ("cutout_sides", (0.7, 0.2)),
        ("cutout_sides", (0.2, 1.5)),
        ("cutout_sides", None),
        ("cutout_width", 0.0),
        ("cutout_width", 1.5),
        ("cutout_width", True),
        ("blur_sigma", (0.0, 2.0)),
        ("blur_kernel", 4),
        ("blur_kernel", 65),
        ("mean", (0.5,)),
        ("mean", 0.5),
        ("std", ("a",)),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object):
    with pytest.raises(InputError, match=r"^\w+ is .*; give ") as caught:
        Augmentation(**{"size": 32, field: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_two_kinds_of_crop_are_refused():
    with pytest.raises(InputError, match=r"crop_sides is \(16,\); give \(\) beside a crop_scale"):
        Augmentation(size=16, crop_sides=(16,), crop_scale=(0.5, 1.0))


def test_zero_standard_deviation_is_refused():
    with pytest.raises(InputError, match=r"std is \(0.0,\); give a tuple of numbers above 0"):
        Augmentation(size=32, mean=(0.5,), std=(0.0,))


def test_a_recipe_survives_json():
    recipe = dataclasses.replace(SIMCLR, scale=(0.9, 1.1), mean=(0.5,), std=(0.5,))
    assert Augmentation(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


def test_a_set_or_an_array_in_the_place_of_a_tensor_is_one_line():
    digits = load_images("digits", split="test")
    recipe = Augmentation(size=8)
    with pytest.raises(InputError, match=r"of type ImageSet; give its tensor, .* \.images"):
        recipe(digits, seeded())
    with pytest.raises(InputError, match=r"of type ndarray; give torch\.from_numpy"):
        recipe.plain(digits.images.numpy())
    with pytest.raises(InputError, match="of type list; give a uint8 tensor"):
        recipe.plain([1, 2])


def views_in_a_worker(index: int) -> torch.Tensor | str:
    """A view drawn in a worker, or the message that came instead."""
    try:
        return SIMCLR(pixels(2), seeded())
    except InputError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 and later
def test_a_worker_says_what_to_do_instead_of_repeating_itself():
    loader = DataLoader(
        [0, 1],
        batch_size=None,
        num_workers=1,
        collate_fn=views_in_a_worker,
        multiprocessing_context="fork",
    )
    for message in loader:
        assert isinstance(message, str)
        assert "call the augmentation in the main process" in message
        assert "\n" not in message
    here = DataLoader([0, 1], batch_size=None, collate_fn=views_in_a_worker)
    assert all(view.shape == (2, 3, 32, 32) for view in here)
