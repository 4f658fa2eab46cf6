"""The pictures of a sweep draw what they were given."""

import pytest

from mixem.errors import InputError
from mixem.plots import sweep_panels

PANELS = {
    "first": {"a": [0.1, 0.9, 0.2], "b": [3.0, 2.0, 1.0]},
    "second": {"b": [1.0, 2.0, 5.0]},
    "third": {"a": [1.0, 1.0, 1.0]},
}


def test_panels_have_curves_rings_at_the_peaks_and_one_colour_a_name() -> None:
    first, second, third, hidden = sweep_panels([2, 4, 8], PANELS, xlabel="k", mark=4).axes
    a, ring_a, b, ring_b, mark = first.lines
    assert list(a.get_ydata()) == [0.1, 0.9, 0.2]
    assert [ring_a.get_xdata()[0], ring_a.get_ydata()[0]] == [4, 0.9]
    assert [ring_b.get_xdata()[0], ring_b.get_ydata()[0]] == [2, 3.0]
    assert list(mark.get_xdata()) == [4, 4]
    assert second.lines[0].get_color() == b.get_color() != a.get_color()
    assert [axis.get_xlabel() for axis in (first, second, third)] == ["", "k", "k"]
    assert not hidden.get_visible()


def test_a_curve_that_is_flat_beside_another_has_no_ring() -> None:
    (axis,) = sweep_panels(
        [1, 2], {"": {"steep": [0.0, 1.0], "flat": [0.1, 0.2]}}, xlabel="k"
    ).axes[:1]
    assert [len(line.get_xdata()) for line in axis.lines] == [2, 1, 2]


def test_two_panels_and_one_have_names_below() -> None:
    for count in (1, 2):
        panels = dict(list(PANELS.items())[:count])
        axes = sweep_panels([2, 4, 8], panels, xlabel="k").axes
        assert [axis.get_xlabel() for axis in axes[:count]] == ["k"] * count


def test_sweep_panels_need_a_value_for_each_place() -> None:
    with pytest.raises(InputError, match="a: 3 values for 2 places"):
        sweep_panels([2, 4], PANELS, xlabel="k")
    with pytest.raises(InputError, match="no panels"):
        sweep_panels([2, 4], {}, xlabel="k")
