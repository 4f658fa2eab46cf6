"""Pictures of segmentations: the maps are shown as they are, in the colours of the key."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from mixem.errors import InputError
from mixem.plots.segmentation import NOBODY_SAYS, displacement_table, map_rows

IMAGES = torch.zeros(2, 1, 3, 4, dtype=torch.uint8)


def colours(axis) -> np.ndarray:
    """Of every pixel of what an axis shows."""
    (shown,) = axis.get_images()
    return np.vectorize(lambda *c: to_hex(c))(*np.moveaxis(shown.to_rgba(shown.get_array()), 2, 0))


def test_a_row_for_the_images_and_one_for_each_name() -> None:
    masks = torch.tensor([[[0, 1, 1, 255]] * 3, [[1, 1, 1, -1]] * 3])
    figure = map_rows(IMAGES, {"class": masks, "ours": masks * 0}, classes=["sky", "sea"])
    assert len(figure.axes) == 6
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["image", "class", "ours"]
    (legend,) = figure.legends
    key = {t.get_text(): to_hex(p.get_facecolor()) for t, p in zip(
        legend.get_texts(), legend.get_patches(), strict=True
    )}  # fmt: skip
    assert list(key) == ["sky", "sea"]
    drawn = colours(figure.axes[2])
    assert drawn[0].tolist() == [key["sky"], key["sea"], key["sea"], NOBODY_SAYS]
    assert (colours(figure.axes[3])[:, 3] == NOBODY_SAYS).all()
    assert (colours(figure.axes[4]) == key["sky"]).all()


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"the maps 'ours' have shape \(2, 4, 3\); give one of"):
        map_rows(IMAGES, {"ours": torch.zeros(2, 4, 3)}, classes=["sky"])


def test_no_displacement_is_in_the_middle() -> None:
    table = np.arange(25.0).reshape(5, 5)
    axis, bar = displacement_table(table).axes
    (shown,) = axis.get_images()
    assert shown.get_extent() == [-2.5, 2.5, -2.5, 2.5]
    assert (shown.get_array() == table).all()
    assert bar.get_ylabel() == "information in nats"


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (3,)])
def test_a_table_without_a_middle_is_refused(shape) -> None:
    with pytest.raises(InputError, match="give a square one with an odd side"):
        displacement_table(np.zeros(shape))
