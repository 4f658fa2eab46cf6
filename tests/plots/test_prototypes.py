"""Pictures of prototypes: what is drawn is what Sinkhorn and the softmax say."""

import math

import pytest
import torch
from matplotlib.colors import to_hex

from mixem.errors import InputError
from mixem.losses import sinkhorn
from mixem.plots import (
    circle_snapshots,
    equipartition_error,
    plan_tables,
    prototype_circle,
    swap_diagram,
    swapped_terms,
)
from mixem.plots.prototypes import OFF

SCORES = torch.tensor([[0.9, 0.1], [0.5, 0.4], [-0.2, 0.3]])
IMAGE = torch.zeros(1, 8, 8, dtype=torch.uint8)
AXES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def words(axis) -> list[str]:
    return [text.get_text() for text in axis.texts if text.get_text()]


def test_prototype_circle_gives_the_softmax_of_the_cosines() -> None:
    figure = prototype_circle(torch.tensor([3.0, 4.0]), 5 * AXES, temperatures=[1.0, 0.1])
    circle, soft, hard = figure.axes
    assert words(circle) == ["$c_1$", "$c_2$", "z"]
    p = 1 / (1 + math.exp(0.2))  # cosines .6 and .8
    assert [bar.get_height() for bar in soft.patches] == pytest.approx([p, 1 - p])
    assert words(hard) == ["0.12", "0.88"]


def test_prototype_circle_refuses_a_temperature_of_0() -> None:
    with pytest.raises(InputError, match="give positive numbers"):
        prototype_circle(AXES[0], AXES, temperatures=[0.1, 0.0])


def test_plan_tables_colour_the_masses_that_are_wrong() -> None:
    figure = plan_tables({"even": [[1.0, 0.0], [0.25, 0.75]], "so": [[0.5, 0.5], [0.5, 0.5]]})
    first, second = figure.axes[:2]
    assert words(first) == ["1.00", "0", "0.25", "0.75", "1.00", "1.00", "1.25", "0.75"]
    off = [to_hex(text.get_color()) == OFF for text in first.texts]
    assert off == [False] * 6 + [True] * 2
    assert not any(to_hex(text.get_color()) == OFF for text in second.texts)
    assert [axis.get_visible() for axis in figure.axes] == [True, True, False]


def test_plan_tables_want_b_over_k_of_each_prototype() -> None:
    (axis, *_) = plan_tables({"": [[1.0], [1.0], [1.0]]}).axes
    assert words(axis)[-1] == "3.00"
    assert to_hex(axis.texts[-1].get_color()) != OFF


def test_equipartition_error_is_that_of_the_codes_and_falls() -> None:
    figure = equipartition_error(SCORES, epsilons=[0.05, 0.5], iterations=[1, 3, 30], mark=3)
    sharp, soft, mark = figure.axes[0].lines
    mass = sinkhorn(SCORES, epsilon=0.05, iterations=3).sum(0)
    assert sharp.get_ydata()[1] == pytest.approx((mass.max().item() - 1.5) / 1.5, rel=1e-4)
    assert list(sharp.get_ydata()) == sorted(sharp.get_ydata(), reverse=True)
    assert soft.get_ydata()[1] < sharp.get_ydata()[1]
    assert list(mark.get_xdata()) == [3, 3]


def test_words_of_swap_diagram_stay_apart_and_on_the_sheet() -> None:
    figure = swap_diagram(IMAGE, [IMAGE, IMAGE])
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_text()]
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[i + 1 :]) == 0
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


def test_swap_diagram_wants_two_views() -> None:
    with pytest.raises(InputError, match="6 views; give 2"):
        swap_diagram(IMAGE, [IMAGE] * 6)


def test_swapped_terms_count_two_large_views_against_all_others() -> None:
    (axis,) = swapped_terms(["A", "B", "a", "b", "c", "d"]).axes
    assert words(axis) == ["–", *map(str, range(1, 7)), "–", *map(str, range(7, 11))]
    with pytest.raises(InputError, match="3 targets of 2 views"):
        swapped_terms(["A", "B"], targets=3)


def test_circle_snapshots_count_the_points_of_each_prototype() -> None:
    z = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    snapshots = {"start": (z, AXES), "end": (z, -AXES)}
    figure = circle_snapshots(snapshots, torch.tensor([0, 0, 1]))
    assert [axis.get_xlabel() for axis in figure.axes] == ["2 1", "1 2"]
    colours = figure.axes[0].collections[0].get_facecolors()
    assert (colours[0] == colours[1]).all()
    assert (colours[1] != colours[2]).any()
