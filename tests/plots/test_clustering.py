"""Pictures of clusterings: numbers where they belong, and what is refused."""

import numpy as np
import pytest

from mixem.clustering import kmeans_starts
from mixem.errors import InputError
from mixem.plots import (
    Figure,
    confusion_table,
    contingency_tables,
    curves,
    histograms,
    information_bars,
    score_bars,
    solutions,
    starts_scatter,
)

COUNTS = np.array([[5, 4, 0], [4, 0, 1], [1, 2, 3]])


def words(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def frames(axis) -> list[tuple[float, float]]:
    """Column and row of each framed cell."""
    return [(box.get_x() + 0.48, box.get_y() + 0.48) for box in axis.patches]


def test_contingency_tables_print_counts_and_frame_matches() -> None:
    figure = contingency_tables(
        {"as found": COUNTS, "matched": COUNTS[:, [1, 0, 2]]},
        classes=["cat", "dog", "hen"],
        clusters=[["0", "1", "2"], ["1", "0", "2"]],
        matches={0: 0, 1: 1, 2: 2},
    )
    before, after = figure.axes
    assert words(before) == ["5", "4", "0", "4", "0", "1", "1", "2", "3"]
    assert [label.get_text() for label in after.get_xticklabels()] == ["1", "0", "2"]
    assert frames(before) == []
    assert np.allclose(frames(after), [(0, 0), (1, 1), (2, 2)])
    assert [axis.get_title() for axis in figure.axes] == ["as found", "matched"]


def test_confusion_table_frames_the_matched_cells_only() -> None:
    figure = confusion_table(COUNTS[:, :2], classes=["a", "b", "c"], clusters=[7, 3])
    (axis,) = figure.axes
    assert np.allclose(frames(axis), [(0, 0), (1, 1)])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["7", "3"]
    assert axis.get_ylabel() == "class"


def test_solutions_shade_each_column_by_itself_and_print_scores() -> None:
    tables = {"good": [[90, 0], [0, 1]], "one": [[9], [1]]}
    scores = {"good": {"NMI": 0.987, "ARI": -0.001}, "one": {"NMI": 0.0, "ARI": 0.0}}
    figure = solutions(tables, scores)
    left, right = figure.axes[:2]
    assert left.images[0].get_array().tolist() == [[1, 0], [0, 1]]
    assert words(right) == ["0.99", "0.00"]
    assert [figure.axes[i].get_title(loc="left") for i in (0, 2)] == [
        "good: 2 clusters",
        "one: 1 cluster",
    ]


def test_score_bars_draw_mean_dots_spread_and_missing_runs() -> None:
    figure = score_bars(
        {"ours": [70.0, 80.0], "other": [50.0], "missing": []},
        xlabel="accuracy in %",
        reported={"missing": 82.0},
        chance=10.0,
    )
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [75, 50]
    assert words(axis) == ["75.0 ± 7.1", "50", "not run", "chance"]
    dots, diamonds = axis.collections[-2:]
    assert dots.get_offsets()[:, 0].tolist() == [70, 80]
    assert diamonds.get_offsets().tolist() == [[82, 2]]
    assert axis.get_xlabel() == "accuracy in %"
    assert figure.legends[0].get_texts()[0].get_text() == "in the paper"


def test_score_bars_without_any_run() -> None:
    (axis,) = score_bars({"a": []}, xlabel="accuracy").axes
    assert words(axis) == ["not run"]


def test_curves_draw_means_and_bands() -> None:
    repeats = [[1.0, 3.0], [2.0, 2.0], [5.0, 7.0]]
    figure = curves(
        [1, 10, 100],
        {"left": {"a": repeats, "b": [0, 1, 2]}, "right": {"b": [2, 1, 0]}},
        xlabel="k",
        ylabel="score",
        log=True,
        mark=10,
    )
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [2, 2, 6]
    assert len(left.collections) == 1  # one band: b has no repeats
    assert left.lines[1].get_color() == right.lines[0].get_color()
    assert left.get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_starts_scatter_rings_the_lowest_inertia() -> None:
    points = np.random.default_rng(0).normal(size=(60, 2))
    starts = kmeans_starts(points, 6, 8, normalise=False, max_iter=3)
    (axis,) = starts_scatter({"raw": starts}, {"raw": np.linspace(0, 1, 8)}).axes
    dots, ring = (collection.get_offsets() for collection in axis.collections)
    assert len(dots) == 8
    assert ring.tolist() == [dots[dots[:, 0].argmin()].tolist()]
    assert ring[0, 0] == 0


def test_information_bars_overlap_by_the_information() -> None:
    (axis,) = information_bars({"six": (0.69, 0.64, 0.32)}).axes
    classes, clusters, overlap = axis.patches
    assert classes.get_width() == pytest.approx(0.69)
    assert clusters.get_x() == overlap.get_x() == pytest.approx(0.69 - 0.32)
    assert overlap.get_width() == pytest.approx(0.32)
    assert axis.get_title(loc="left") == "six: I(Y; C) = 0.32"


def test_histograms_mark_the_means() -> None:
    figure = histograms({"a": [1.0, 3.0], "b": [[5.0], [6.0]]}, xlabel="distance")
    (axis,) = figure.axes
    assert [line.get_xdata()[0] for line in axis.lines] == [2, 5.5]
    assert axis.get_xlabel() == "distance"


@pytest.mark.parametrize(
    ("draw", "complaint"),
    [
        (
            lambda: contingency_tables({"t": COUNTS}, classes=["a"], clusters=[["0", "1", "2"]]),
            "shape",
        ),
        (lambda: confusion_table(COUNTS, classes=["a", "b", "c"], clusters=[0]), "shape"),
        (lambda: solutions({"a": COUNTS}, {"b": {"NMI": 1.0}}), "tables of a but scores of b"),
        (lambda: score_bars({}, xlabel=""), "no scores"),
        (lambda: score_bars({"a": [1]}, xlabel="", reported={"b": 1}), "no names of bars"),
        (lambda: curves([1, 2], {"": {"a": [1]}}, xlabel="", ylabel=""), "1 values for 2"),
        (lambda: starts_scatter({"a": []}, {"a": [1.0]}), "0 starts but 1"),
        (lambda: information_bars({"a": (0.5, 0.2, 0.3)}), "exceeds"),
        (lambda: histograms({"a": []}, xlabel=""), "no values"),
    ],
)
def test_wrong_input_is_refused(draw, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        draw()


def test_all_return_the_books_figure() -> None:
    assert isinstance(score_bars({"a": [0.5]}, xlabel=""), Figure)
    assert isinstance(histograms({"a": [1, 2]}, xlabel=""), Figure)
