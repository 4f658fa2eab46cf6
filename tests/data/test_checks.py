"""A set, a tensor and an array in each other's place."""

import numpy as np
import pytest
import torch

from mixem.data import ImageSet, check_channels, check_set, check_tensor, load_images
from mixem.errors import InputError


def test_what_is_right_comes_back():
    digits = load_images("digits", split="test")
    assert check_set(digits) is digits
    assert check_tensor(digits.images) is digits.images
    check_channels(digits, 1)
    check_channels(digits.images, 1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 4, 4), "of type Tensor; give an ImageSet, as load_images"),
        (np.zeros((2, 4, 4)), r"of type ndarray; give an ImageSet, .*ImageSet\.of"),
        ("digits", "of type str; give an ImageSet"),
    ],
)
def test_anything_else_than_a_set(images, message: str):
    with pytest.raises(InputError, match=message):
        check_set(images)


def test_anything_else_than_a_tensor():
    with pytest.raises(InputError, match=r"of type ImageSet; give its tensor, .*\.images"):
        check_tensor(load_images("digits", split="test"))
    with pytest.raises(InputError, match=r"of type ndarray; give torch\.from_numpy"):
        check_tensor(np.zeros((2, 4, 4)))


@pytest.mark.parametrize(("found", "taken"), [(1, 3), (3, 1)])
def test_other_channels_than_the_network_takes(found: int, taken: int):
    """Fault 8: a run of grey pictures on colour ones ended in PyTorch's error."""
    images = torch.zeros(2, found, 4, 4, dtype=torch.uint8)
    message = rf"{found} channel\(s\) for a network that takes {taken}; .*channels={taken}\)"
    for given in (images, ImageSet(images)):
        with pytest.raises(InputError, match=message):
            check_channels(given, taken)
