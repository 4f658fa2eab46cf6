"""Grids and groups of pictures: what is drawn where, and what is refused."""

import matplotlib
import numpy as np
import pytest
import torch

from mixem.errors import InputError
from mixem.plots import Figure, confusion_table, picture_grid, pictures_by_group
from mixem.plots.images import FRAME, MARK


def numbered(count: int, channels: int = 1) -> torch.Tensor:
    """Image i is grey i / 255 all over."""
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, channels, 4, 4)


def shown(axis) -> int | None:
    """The number of the image that an axis shows, None if it shows none."""
    if not axis.images or not axis.get_visible():
        return None
    return round(255 * float(np.asarray(axis.images[0].get_array()).flat[0]))


def test_grid_goes_from_left_to_right_and_wraps() -> None:
    figure = picture_grid(numbered(5), ["a", "b", "c", "d", "e"], columns=3)
    assert isinstance(figure, Figure)
    assert [shown(axis) for axis in figure.axes] == [0, 1, 2, 3, 4, None]
    assert [axis.get_title() for axis in figure.axes[:5]] == ["a", "b", "c", "d", "e"]


def test_colour_and_grey_images_are_drawn() -> None:
    (colour,) = picture_grid(numbered(1, channels=3), columns=1).axes
    (grey,) = picture_grid(numbered(1), columns=1).axes
    assert colour.images[0].get_array().shape == (4, 4, 3)
    assert grey.images[0].get_array().shape == (4, 4)
    assert grey.images[0].get_clim() == (0, 1)  # not stretched to the image's own range


def test_groups_are_rows() -> None:
    groups = [1, 0, 1, -1, 1, 1]
    figure = pictures_by_group(numbered(6), groups, names=["x", "y", "z"], columns=3)
    rows = np.array(figure.axes).reshape(3, 3)
    assert [[shown(axis) for axis in row] for row in rows] == [
        [1, None, None],
        [0, 2, 4],
        [None, None, None],
    ]
    assert [row[0].get_ylabel() for row in rows] == ["x", "y", "z"]


def test_marked_images_are_framed() -> None:
    marked = torch.tensor([False, True])
    figure = pictures_by_group(numbered(2), [0, 0], names=["x"], marked=marked, columns=2)
    colours = [axis.spines["top"].get_edgecolor() for axis in figure.axes]
    assert colours == [matplotlib.colors.to_rgba(c) for c in (FRAME, MARK)]


@pytest.mark.parametrize(
    ("draw", "complaint"),
    [
        (lambda: picture_grid(numbered(0)), "no image"),
        (lambda: picture_grid(numbered(2), ["one"]), "2 images but 1 captions"),
        (lambda: pictures_by_group(numbered(2), [0], names=["x"]), "2 images, 1 groups"),
        (lambda: pictures_by_group(numbered(2), [0, 3], names=["x"]), "groups contain 3"),
    ],
)
def test_wrong_input_is_refused(draw, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        draw()


def test_figures_show_themselves_and_leave_the_settings() -> None:
    before = {name: value for name, value in matplotlib.rcParams.items() if name != "backend"}
    png = picture_grid(numbered(1), columns=1)._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert {name: matplotlib.rcParams[name] for name in before} == before


@pytest.mark.parametrize("name", ["$x^{$", "$a$ and $b$", "5 $", r"a\\b_c"])
def test_names_are_no_mathematics(name: str) -> None:
    """A folder called so was a ValueError of matplotlib's."""
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    for figure in (
        pictures_by_group(images, [0, 0, 1], names=[name, "b"]),
        picture_grid(images, [name] * 3),
        confusion_table(np.eye(2, dtype=int), classes=[name, "b"], clusters=[0, 1]),
    ):
        assert figure._repr_png_()
    axis = pictures_by_group(images, [0, 0, 1], names=[name, "b"]).axes[0]
    drawn = axis.yaxis.label
    assert drawn._preprocess_math(drawn.get_text()) == (name, False)
