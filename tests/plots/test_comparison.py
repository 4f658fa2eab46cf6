"""Pictures of several methods: what is drawn is what was given, and what is missing is said."""

import numpy as np
import pytest

from mixem.errors import InputError
from mixem.plots import (
    class_shares,
    cost_bars,
    found_shares,
    score_curves,
    seed_scatter,
    seed_strips,
    signal_panels,
)

SCORES = {
    "one": {"accuracy": [90.0, 96.0], "NMI": [80.0, 81.0]},
    "two": {"accuracy": [], "NMI": []},
}
MERGED = [[5, 0, 0], [5, 0, 0], [0, 3, 1]]  # classes 0 and 1 share a cluster


def words(axis) -> list[str]:
    return [text.get_text() for text in axis.texts if text.get_text()]


def test_seed_strips_draw_seeds_and_mean_and_say_what_is_missing() -> None:
    accuracy, nmi = seed_strips(SCORES).axes
    (dots,) = accuracy.collections
    assert dots.get_offsets().tolist() == [[90, 0], [96, 0]]
    (mean,) = accuracy.lines
    assert list(mean.get_xdata()) == [93, 93]
    assert words(accuracy) == words(nmi) == ["not run"]
    assert [text.get_text() for text in accuracy.get_yticklabels()] == ["one", "two"]


def test_seed_strips_want_the_same_measures() -> None:
    with pytest.raises(InputError, match="give one"):
        seed_strips({"one": {"accuracy": [1.0]}, "two": {"NMI": [1.0]}})
    with pytest.raises(InputError, match="0 methods"):
        seed_strips({})


def test_seed_scatter_names_what_was_not_run() -> None:
    figure = seed_scatter({"a": ([1.0], [2.0]), "b": ([], [])}, xlabel="x", ylabel="y")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b: not run"]
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[1, 2]]


def test_score_curves_have_a_line_a_seed_and_one_name_a_method() -> None:
    runs = {"a": [([0, 1], [10, 20]), ([0, 2], [11, 21])], "b": []}
    figure = score_curves(runs, xlabel="minutes", ylabel="accuracy, %")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b: not run"]
    (axis,) = figure.axes
    drawn = [line for line in axis.lines if len(line.get_xdata())]
    assert [line.get_xydata().tolist() for line in drawn] == [
        [[0, 10], [1, 20]],
        [[0, 11], [2, 21]],
    ]
    assert len({line.get_color() for line in drawn}) == 1


def test_signal_panels_have_a_panel_a_method() -> None:
    signals = {"a": ("loss", [1.0, 2.0], [90.0, 80.0]), "b": ("loss", [], []), "c": ("", [], [])}
    figure = signal_panels(signals)
    a, b, _, spare = figure.axes
    assert a.collections[0].get_offsets().tolist() == [[1, 90], [2, 80]]
    assert words(b) == ["not run"]
    assert not spare.get_visible()


def test_cost_bars_lay_parts_end_to_end() -> None:
    figure = cost_bars({"a": {"views": 1.0, "net": 2.5}, "b": {"net": 2.0}}, xlabel="ms")
    (axis,) = figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in axis.patches] == [(0, 1), (1, 2.5), (0, 2)]
    assert words(axis) == ["3.5", "2.0"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["views", "net"]


def test_cost_bars_refuse_a_negative_cost() -> None:
    with pytest.raises(InputError, match="no negative cost"):
        cost_bars({"a": {"views": -1.0, "net": 3.0}}, xlabel="ms")


def test_found_shares_match_as_accuracy_does() -> None:
    shares = found_shares(MERGED)
    assert sorted(shares[:2]) == [0, 100]  # one of the two owns the cluster
    assert shares[2] == 75
    assert found_shares([[0, 4], [6, 2], [1, 1]]).tolist() == [100, 75, 0]  # fewer clusters


def test_found_shares_give_the_accuracy() -> None:
    counts = np.array([[3, 1, 0], [0, 1, 3], [2, 0, 2]])
    right = (found_shares(counts) / 100 * counts.sum(1)).sum()
    assert right == 1 + 3 + 2


def test_class_shares_print_what_was_found() -> None:
    figure = class_shares({"a": [MERGED, MERGED], "b": []}, classes=["x", "y", "z"])
    a, b = figure.axes
    assert len(words(a)) == 6
    assert words(a)[-2:] == ["75", "75"]
    assert words(b) == ["not run"]


def test_class_shares_want_a_name_for_each_class() -> None:
    with pytest.raises(InputError, match="3 classes, but 2 names"):
        class_shares({"a": [MERGED]}, classes=["x", "y"])
