"""The draws are those that the trained runs were made with, bit for bit."""

import hashlib

import pytest
import torch

from mixem.data import Augmentation

COLOURS = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}

# What each part of a recipe draws for six images of 40 x 48 pixels, as a digest. The
# last recipe has every part.
RECORDED = {
    "nothing": ({}, "6149302ceef98a3f"),
    "crop": ({"crop_scale": (0.2, 1.0)}, "50a4b7d0bcd15b9f"),
    "wide crop": (
        {"crop_scale": (0.9, 1.0), "crop_ratio": (2.0, 3.0), "flip": 0.5},
        "da52cd8578575589",
    ),
    "squares": ({"crop_sides": (20, 30, 40), "centre": 0.3, "flip": 0.5}, "b3a31ee8e4ee3f0e"),
    "flip": ({"flip": 0.5, "plain_side": 30}, "bb9002b80f06ee2c"),
    "turn": ({"degrees": 20.0}, "1572c9be52f8110e"),
    "map": (
        {"translate": 0.1, "scale": (0.8, 1.2), "shear": 10.0, "affine": 0.5},
        "9d92b76c03553eb3",
    ),
    "hole": ({"cutout": 0.5}, "e5df2af053580a42"),
    "band": ({"cutout": 0.5, "cutout_width": 1.0}, "bb8686638649926c"),
    "colours": ({**COLOURS, "jitter": 0.8, "grey": 0.2}, "a7201bdb8d4ae949"),
    "strong": ({"brightness": 2.0, "jitter": 1.0}, "b28a0a276d177f6d"),
    "blur": ({"blur": 0.5}, "8b3c703babe556df"),
    "all": (
        {
            "crop_scale": (0.08, 1.0), "flip": 0.5, "degrees": 20.0, "translate": 0.1,
            "scale": (0.8, 1.2), "shear": 10.0, "affine": 0.9, "cutout": 0.5, **COLOURS,
            "grey": 0.2, "blur": 0.5,
        },
        "d92219d37c794388",
    ),
}  # fmt: skip


def digest(recipe: dict) -> str:
    """Of the names, shapes and values of the draws, and of where the generator then stands."""
    generator = torch.Generator().manual_seed(12)
    draws = Augmentation(size=16, **recipe).draw(6, 40, 48, generator)
    digest = hashlib.sha256()
    for name, draw in draws.items():
        digest.update(f"{name} {tuple(draw.shape)} {draw.dtype}".encode())
        digest.update(draw.numpy().tobytes())
    digest.update(torch.rand(2, generator=generator).numpy().tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("name", RECORDED)
def test_draws_are_those_of_the_records(name: str):
    recipe, recorded = RECORDED[name]
    assert digest(recipe) == recorded
