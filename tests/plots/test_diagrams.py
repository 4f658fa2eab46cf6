"""The papers' pictures: complete, inside their sheet, with a bar where gradients stop."""

from collections.abc import Callable

import pytest
import torch

from mixem.errors import InputError
from mixem.plots import Figure, iic_diagram, imc_swav_diagram, mixem_diagram
from mixem.plots.diagrams import STOP

IMAGE = torch.zeros(1, 8, 8, dtype=torch.uint8)
COLOUR = torch.rand(3, 8, 8)
DIAGRAMS = [
    # drawing, views, tables of numbers drawn, places where a gradient stops
    pytest.param(iic_diagram, 2, 2, 0, id="iic"),
    pytest.param(mixem_diagram, 2, 0, 1, id="mixem"),
    pytest.param(imc_swav_diagram, 6, 0, 3, id="imc-swav"),
]


@pytest.mark.parametrize(("draw", "views", "tables", "stops"), DIAGRAMS)
def test_every_view_is_drawn(draw: Callable, views: int, tables: int, stops: int) -> None:
    figure = draw(IMAGE, [COLOUR] * views)
    assert isinstance(figure, Figure)
    (sheet,) = figure.axes
    assert len(sheet.images) == 1 + views + tables


@pytest.mark.parametrize(("draw", "views", "tables", "stops"), DIAGRAMS)
def test_gradients_stop_where_they_should(
    draw: Callable, views: int, tables: int, stops: int
) -> None:
    (sheet,) = draw(IMAGE, [IMAGE] * views).axes
    bars = [line for line in sheet.lines if line.get_color() == STOP and line.get_linewidth() == 2]
    in_the_key = 2 if stops else 0
    assert len(bars) == 2 * stops + in_the_key


@pytest.mark.parametrize(("draw", "views", "tables", "stops"), DIAGRAMS)
def test_words_stay_on_the_sheet_and_apart(
    draw: Callable, views: int, tables: int, stops: int
) -> None:
    figure = draw(IMAGE, [IMAGE] * views)
    (sheet,) = figure.axes
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in sheet.texts if text.get_text()]
    assert boxes
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[i + 1 :]) == 0


@pytest.mark.parametrize(("draw", "views", "tables", "stops"), DIAGRAMS)
def test_wrong_number_of_views_is_refused(
    draw: Callable, views: int, tables: int, stops: int
) -> None:
    with pytest.raises(InputError, match=f"{views + 1} views; give {views}"):
        draw(IMAGE, [IMAGE] * (views + 1))


def test_words_are_large_enough_for_a_phone() -> None:
    for draw, views in ((iic_diagram, 2), (mixem_diagram, 2), (imc_swav_diagram, 6)):
        figure = draw(IMAGE, [IMAGE] * views)
        phone = 335 / figure.get_figwidth() / 72  # pixels a point on a screen 375 pixels wide
        smallest = min(text.get_fontsize() for text in figure.axes[0].texts if text.get_text())
        assert smallest * phone >= 8
