"""The draws are those that the trained runs were made with, bit for bit."""

import hashlib

import pytest
import torch

from mixem.data import Augmentation

COLOURS = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}

# What each part of a recipe draws for six images of 40 x 48 pixels, as a digest; written down
# before `draw` was taken apart. The last recipe has every part.
RECORDED = {
    "nothing": ({}, "1cd1f9803375bb53"),
    "crop": ({"crop_scale": (0.2, 1.0)}, "732e1a26a95bae33"),
    "wide crop": (
        {"crop_scale": (0.9, 1.0), "crop_ratio": (2.0, 3.0), "flip": 0.5},
        "fa000875e8b2929e",
    ),
    "squares": ({"crop_sides": (20, 30, 40), "centre": 0.3, "flip": 0.5}, "7a07fdfda416c481"),
    "flip": ({"flip": 0.5, "plain_side": 30}, "c8e19ab511635295"),
    "turn": ({"degrees": 20.0}, "1e7ead09eed44655"),
    "map": (
        {"translate": 0.1, "scale": (0.8, 1.2), "shear": 10.0, "affine": 0.5},
        "16ea802202106515",
    ),
    "hole": ({"cutout": 0.5}, "622dcba580887f51"),
    "band": ({"cutout": 0.5, "cutout_width": 1.0}, "9f9df40dd2b67a8d"),
    "colours": ({**COLOURS, "jitter": 0.8, "grey": 0.2}, "9cbfdb576443e791"),
    "strong": ({"brightness": 2.0, "jitter": 1.0}, "c944841a78bc5ad9"),
    "blur": ({"blur": 0.5}, "b6e626f50be5effb"),
    "all": (
        {
            "crop_scale": (0.08, 1.0), "flip": 0.5, "degrees": 20.0, "translate": 0.1,
            "scale": (0.8, 1.2), "shear": 10.0, "affine": 0.9, "cutout": 0.5, **COLOURS,
            "grey": 0.2, "blur": 0.5,
        },
        "397526ac1aa6fa11",
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
