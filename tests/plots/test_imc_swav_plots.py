"""Pictures of IMC-SwAV: what is drawn is what was given, and the distances are right."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.methods import IMCSwAV, IMCSwAVSettings
from mixem.plots.imc_swav import (
    FARTHEST,
    distance_scatter,
    distances,
    grad_cam,
    heat_maps,
    meters,
    prototype_tables,
)
from mixem.records import Epoch

SMALL = IMCSwAVSettings(prototypes=4, hidden=4)


def history(epochs: int = 3) -> list[Epoch]:
    return [
        Epoch(
            e,
            10 * e,
            1e-4,
            4.0 / e - 6.0 - e,
            {"swapped": 4.0 / e, "information": -6.0 - e},
            details={"prototypes": 10 * e},
        )
        for e in range(1, epochs + 1)
    ]


def test_meters_draw_terms_and_counts_with_their_bounds() -> None:
    figure = meters(history(), {"swapped": {"ln K": 4.6}, "prototypes": {}})
    left, right = figure.axes
    assert list(left.lines[0].get_ydata()) == [4.0, 2.0, 4 / 3]
    assert list(left.lines[1].get_ydata()) == [4.6, 4.6]
    assert list(right.lines[0].get_ydata()) == [10, 20, 30]
    assert [text.get_text() for text in left.texts] == ["ln K"]


def test_meters_need_what_they_draw() -> None:
    with pytest.raises(InputError, match="empty"):
        meters([], {"swapped": {}})
    with pytest.raises(InputError, match="no number penalty"):
        meters(history(), {"penalty": {}})


def test_prototype_tables_sort_columns_and_name_information() -> None:
    table = np.array([[0.0, 0.3, 0.2], [0.5, 0.0, 0.0]])
    (axis,) = prototype_tables({"trained": table}).axes
    drawn = axis.images[0].get_array()
    np.testing.assert_allclose(drawn, [[0.3, 0.2, 0.0], [0.0, 0.0, 0.5]])
    assert axis.get_title(loc="left") == "trained: H(Y) = 0.69, H(Y | U) = 0.00, I = 0.69"
    with pytest.raises(InputError, match="with sum 2"):
        prototype_tables({"trained": 2 * table})


def test_distances_of_equal_and_of_disjoint_answers() -> None:
    u = torch.eye(3)[[0, 0, 1]].expand(2, 3, 3)  # images 0 and 1 alike, 2 apart; views alike
    y = torch.full((2, 3, 4), 0.25)
    pairs = distances(u, y, [5, 5, 7])
    assert len(pairs.kinds) == 15
    assert np.bincount(pairs.kinds).tolist() == [8, 4, 3]
    np.testing.assert_allclose(pairs.prototypes[pairs.kinds == 0], math.sqrt(math.log(2)))
    np.testing.assert_allclose(pairs.prototypes[pairs.kinds > 0], 0, atol=1e-7)
    np.testing.assert_allclose(pairs.clusters, 0, atol=1e-7)


def test_a_distance_by_hand() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    middle = (p + q) / 2
    divergence = 0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum()
    u = torch.tensor(np.stack([p, q]))[None]
    pairs = distances(u, u, [0, 1])
    assert pairs.prototypes[0] == pytest.approx(math.sqrt(divergence))
    assert pytest.approx(0.8326, abs=1e-4) == FARTHEST


def test_distances_need_shapes_that_fit() -> None:
    with pytest.raises(InputError, match="3 labels"):
        distances(torch.ones(2, 2, 3), torch.ones(2, 2, 3), [0, 1, 2])


def test_every_pair_is_a_dot() -> None:
    p = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(2)
    pairs = distances(p, p, [0, 0, 1, 1])
    figure = distance_scatter({"untrained": pairs, "trained": pairs})
    for axis in figure.axes:
        assert sum(len(dots.get_offsets()) for dots in axis.collections) == len(pairs.kinds)


class Corner(nn.Module):
    """A map that is the image, and a feature that sees the corner of it alone."""

    out_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.ones_(self.map.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.map(images)[:, :, :2, :2].mean((2, 3))


def test_grad_cam_is_bright_where_the_map_is() -> None:
    method = IMCSwAV(Corner(), Augmentation(size=8), SMALL, clusters=2)
    method.head = nn.Sequential(nn.Linear(2, 2, bias=False))  # type: ignore[assignment]
    method.head[0].weight.data = torch.ones(2, 2)
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images[0, 0, 0, 1] = 255
    heat = grad_cam(method.eval(), images)
    assert heat.shape == (1, 8, 8)
    assert heat.max() == heat[0, 0, 1] == 1
    assert heat.sum() == 1
    assert not method.backbone.map._forward_hooks  # type: ignore[union-attr]


def test_grad_cam_needs_a_map() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    flat.out_features = 2  # type: ignore[assignment]
    method = IMCSwAV(flat, Augmentation(size=8), SMALL, clusters=2)
    with pytest.raises(InputError, match="no map with places"):
        grad_cam(method.eval(), torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


def test_heat_maps_lie_on_their_images() -> None:
    images, maps = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.rand(2, 6, 6)
    figure = heat_maps({"right": (images, maps, ["0", "1"])}, columns=3)
    above, below = figure.axes[:3], figure.axes[3:]
    assert [axis.get_title() for axis in above[:2]] == ["0", "1"]
    assert [len(axis.images) for axis in below] == [2, 2, 0]
    np.testing.assert_allclose(below[0].images[1].get_array(), maps[0])
    with pytest.raises(InputError, match="2 images, 1 maps"):
        heat_maps({"right": (images, maps[:1], ["0", "1"])})
