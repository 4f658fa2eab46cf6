"""Frames: what a view shows is found again where it came from."""

import pytest
import torch

from mixem.data import operations
from mixem.data.frames import Frames, draw_frames
from mixem.errors import InputError
from mixem.losses import iic_segmentation


def drawn(n=4, seed=0, **options):
    return draw_frames(n, torch.Generator().manual_seed(seed), **options)


def smooth(n, height, width):
    """Slow waves, which bilinear interpolation keeps."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    return torch.stack([torch.sin(x + y + i) for i in range(n)])[:, None]


def test_a_mirrored_view_comes_back_exactly():
    images = torch.rand(3, 2, 5, 6)
    frames = Frames(torch.tensor([True, False, True]))
    moved = frames.move(images)
    assert torch.equal(moved[0], images[0].flip(2))
    assert torch.equal(moved[1], images[1])
    assert torch.equal(frames.back(moved), images)


def test_about_half_are_mirrored_and_nothing_else():
    frames = drawn(1000)
    assert 400 < frames.mirrored.sum() < 600
    assert frames.matrix is None
    assert not drawn(flip=0.0).mirrored.any()
    assert drawn(flip=1.0).mirrored.all()


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(40, 40), (40, 60)])
def test_a_turned_view_comes_back(shape, flip):
    images = smooth(4, *shape)
    frames = drawn(flip=flip, degrees=30, scale=(0.9, 1.2), shear=10)
    moved = frames.move(images)
    assert (moved - images).abs().mean() > 0.05
    back = frames.back(moved)
    seen = frames.back(frames.move(torch.ones_like(images))) > 0.999
    assert 0.5 < seen.float().mean() < 1
    assert (back - images)[seen].abs().max() < 0.01


def test_what_the_view_did_not_show_is_0():
    frames = drawn(degrees=45, flip=0.0)
    back = frames.back(torch.ones(4, 3, 30, 30))
    assert back.amin() == 0
    assert back.amax() <= 1 + 1e-6


def test_a_turn_is_that_of_the_augmentation():
    # On square images, where operations.affine is defined.
    options = {"flip": 0.0, "degrees": 30.0, "scale": (0.8, 1.2), "shear": 10.0}
    images = torch.rand(4, 2, 16, 16)
    generator = torch.Generator().manual_seed(0)
    torch.rand(4, generator=generator)  # who is mirrored
    angle, shear, scale = (
        torch.rand(4, generator=generator) * (high - low) + low
        for low, high in ((-30, 30), (-10, 10), (0.8, 1.2))
    )
    expected = operations.affine(
        images, angle=angle, translate=torch.zeros(4, 2), scale=scale, shear=shear
    )
    assert torch.allclose(drawn(**options).move(images), expected, atol=1e-5)


def test_a_right_angle_by_hand():
    # The matrix says where from: the view's upper right corner shows the upper left one.
    image = torch.arange(9.0).view(1, 1, 3, 3)
    frames = Frames(torch.tensor([False]), torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]]))
    expected = image.rot90(-1, (2, 3))
    assert torch.allclose(frames.move(image), expected, atol=1e-5)
    assert torch.allclose(frames.back(expected), image, atol=1e-5)


def test_sub_heads_are_brought_back_alike():
    maps = torch.rand(3, 4, 2, 10, 12)
    frames = drawn(degrees=20)
    together = frames.back(maps)
    for head in range(3):
        assert torch.equal(together[head], frames.back(maps[head]))


@pytest.mark.parametrize("options", [{}, {"degrees": 20.0}])
def test_gradients_pass(options):
    maps = torch.rand(4, 2, 8, 8, requires_grad=True)
    drawn(**options).back(maps).square().sum().backward()
    assert maps.grad.abs().sum() > 0


@pytest.mark.parametrize("most", [0, 3])
def test_the_loss_of_a_mirrored_copy_is_that_of_the_image_itself(most):
    x = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0)).softmax(1)
    frames = drawn(2, flip=1.0)
    expected = iic_segmentation(x, x, max_displacement=most)
    assert torch.equal(
        iic_segmentation(x, frames.back(frames.move(x)), max_displacement=most), expected
    )


def test_draws_repeat_and_differ():
    one, same, other = (drawn(50, seed=seed, degrees=10.0) for seed in (0, 0, 1))
    assert torch.equal(one.matrix, same.matrix)
    assert not torch.equal(one.matrix, other.matrix)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"flip": 1.5}, "flip"), ({"degrees": -1}, "degrees"), ({"shear": 90}, "shear"),
        ({"scale": (0, 1)}, "scale"), ({"scale": (2, 1)}, "scale"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(options, name):
    with pytest.raises(InputError, match=f"{name} is .*; give"):
        drawn(**options)
