"""Pictures of the mutual information: their numbers are the loss's, their words are readable."""

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from mixem.errors import InputError
from mixem.losses import iic, joint_distribution
from mixem.plots import (
    joint_tables,
    loss_landscape,
    outer_products,
    pair_network,
    sub_head_choice,
)
from mixem.plots.information import CHOSEN, two_cluster_loss

IMAGE = torch.zeros(1, 8, 8, dtype=torch.uint8)
P = torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.0, 1.0]])
Q = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])


def numbers(axis) -> list[float]:
    return [float(text.get_text()) for text in axis.texts]


def test_joint_tables_says_what_a_table_shares() -> None:
    (axis,) = joint_tables({"ours": [[0.5, 0.1], [0.1, 0.3]]}).axes
    assert numbers(axis) == [0.5, 0.1, 0.1, 0.3, 0.6, 0.6, 0.4, 0.4]
    assert axis.get_xlabel() == "H(z) = 0.67\nH(z | z′) = 0.50\nI = 0.18"


def test_joint_tables_gives_the_margins_of_rows_right_and_of_columns_below() -> None:
    (axis,) = joint_tables({"": [[0.4, 0.3], [0.2, 0.1]]}).axes
    margins = {text.get_position(): text.get_text() for text in axis.texts[4:]}
    assert margins == {(1.65, 0): ".7", (1.65, 1): ".3", (0, 1.8): ".6", (1, 1.8): ".4"}


def test_independent_answers_share_nothing() -> None:
    (axis,) = joint_tables({"": np.outer([0.6, 0.4], [0.6, 0.4])}).axes
    assert axis.get_xlabel().endswith("I = 0.00")


@pytest.mark.parametrize("table", [[[0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]], [0.5, 0.5]])
def test_a_table_that_is_no_joint_distribution_is_refused(table) -> None:
    with pytest.raises(InputError, match=r"odd: a table of shape .* give a square one"):
        joint_tables({"odd": table})


def test_outer_products_are_drawn_with_their_mean_and_the_symmetrised_table() -> None:
    visible = [axis for axis in outer_products(P, Q).axes if axis.get_visible()]
    *products, mean, symmetrised = visible
    assert [axis.get_xlabel() for axis in visible] == [
        "image 1",
        "image 2",
        "image 3",
        "mean",
        "symmetrised",
    ]
    assert numbers(products[1]) == [0.4, 0.4, 0.1, 0.1]
    assert numbers(mean) == pytest.approx((P.T @ Q / 3).flatten().tolist(), abs=6e-4)
    expected = joint_distribution(P, Q).flatten().tolist()
    assert numbers(symmetrised) == pytest.approx(expected, abs=6e-4)


def test_two_cluster_loss_is_that_of_a_batch_with_such_answers() -> None:
    leaning = torch.tensor([0.9, 0.1], dtype=torch.float64)
    batch = torch.stack([leaning] * 3 + [leaning.flip(0)] * 7)
    share, certainty = torch.tensor([[0.3], [0.8]], dtype=torch.float64)
    found = two_cluster_loss(share, certainty)
    assert found.item() == pytest.approx(iic(batch, batch).item(), rel=1e-12)


def test_two_cluster_loss_is_0_on_three_sides_only() -> None:
    share = torch.tensor([[0.0, 1.0, 0.5], [0.5, 0.2, 0.5]], dtype=torch.float64)
    certainty = torch.tensor([[0.7, 1.0, 0.0], [1.0, 0.5, 0.3]], dtype=torch.float64)
    loss = two_cluster_loss(share, certainty)
    assert loss.shape == (2, 3)
    assert loss[0].abs().max() < 1e-12
    assert loss[1, 0].item() == pytest.approx(-math.log(2))
    assert (loss[1] < -1e-3).all()


def test_loss_landscape_marks_the_points_with_words_on_the_sheet() -> None:
    points = {"one cluster": (0.0, 1.0), "best": (0.5, 1.0), "no": (1.0, 0.0)}
    figure = loss_landscape(points, resolution=21)
    axis = figure.axes[0]
    marked = [tuple(c.get_offsets()[0]) for c in axis.collections if len(c.get_offsets()) == 1]
    assert [place for place in marked if place in points.values()] == list(points.values())
    figure.draw_without_rendering()
    for text in axis.texts:
        box = text.get_window_extent()
        assert axis.bbox.x0 - 5 <= box.x0
        assert box.x1 <= axis.bbox.x1 + 5


def test_pair_network_draws_the_extra_head_dashed() -> None:
    (sheet,) = pair_network(IMAGE, [IMAGE, IMAGE]).axes
    assert len(sheet.images) == 3
    dashed = [patch for patch in sheet.patches if patch.get_linestyle() == "--"]
    assert len(dashed) == 3  # two heads and their loss
    words = [text.get_text() for text in sheet.texts]
    assert words.count("network") == 2
    assert sum(text.startswith("mutual information") for text in words) == 2


def test_words_of_pair_network_stay_apart_and_large_enough_for_a_phone() -> None:
    figure = pair_network(IMAGE, [IMAGE, IMAGE])
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[i + 1 :]) == 0
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    phone = 335 / figure.get_figwidth() / 72  # pixels a point on a screen 375 pixels wide
    assert min(text.get_fontsize() for text in texts) * phone >= 8


def test_pair_network_wants_two_views() -> None:
    with pytest.raises(InputError, match="3 views; give 2"):
        pair_network(IMAGE, [IMAGE] * 3)


def test_the_sub_head_with_the_lowest_loss_is_framed() -> None:
    p = torch.eye(2)[torch.tensor([[0, 0, 1], [0, 1, 1], [1, 0, 0]])]
    figure = sub_head_choice(torch.rand(3, 2), p, torch.tensor([-0.1, -0.5, -0.3]))
    assert [axis.get_title() for axis in figure.axes] == ["−0.10", "−0.50 lowest", "−0.30"]
    frames = [to_hex(axis.spines["left"].get_edgecolor()) == CHOSEN for axis in figure.axes]
    assert frames == [False, True, False]
    colours = figure.axes[1].collections[0].get_facecolors()
    assert (colours[1] == colours[2]).all()
    assert (colours[0] != colours[1]).any()


def test_every_sub_head_needs_a_loss() -> None:
    with pytest.raises(InputError, match="1 losses of 2 sub-heads"):
        sub_head_choice(torch.rand(3, 2), torch.rand(2, 3, 4), [-0.1])
