"""Pictures of IIC: what is drawn is what was given, and a missing record leaves a note."""

import math

import made
import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnnotationBbox

from mixem.errors import InputError
from mixem.plots.iic import (
    JITTER,
    REST,
    RIGHT,
    WRONG,
    accuracy_along,
    circle_order,
    corners,
    head_losses,
    learning_curves,
    loss_against_accuracy,
    probability_bars,
    simplex_snapshots,
    sub_head_strips,
    sub_heads_of,
)
from mixem.plots.style import PALETTE
from mixem.records import Epoch, Record, Row, score, summarise


def record(seed: int = 0) -> Record:
    """A record with three sub-heads, the second one chosen."""
    heads = [(-2.1, 0.85), (-2.25 - 0.01 * seed, 0.97), (-2.2, 0.975)]
    rows = [Row("argmax p", {"accuracy": 0.97})]
    rows += [
        Row("sub-head", {"accuracy": accuracy}, switches={"sub_head": i, "loss": loss})
        for i, (loss, accuracy) in enumerate(heads)
    ]
    rows += [
        Row("mean of sub-heads", {"accuracy": 0.93 + 0.01 * seed}),
        Row("share of labels", {"accuracy": 0.8}, "majority", {"share": 0.1}),
    ]
    return made.record(rows, experiment="mnist/iic-small", seed=seed, epoch=6)


def history(epochs: int = 3) -> list[Epoch]:
    return [
        Epoch(
            epoch,
            10 * epoch,
            1e-4,
            -1.1 * epoch,
            {"main": -0.5 * epoch, "over": -0.6 * epoch},
            details={"sub_heads": [-0.4 * epoch, -0.6 * epoch]},
        )
        for epoch in range(1, epochs + 1)
    ]


def test_records_are_summarised_as_the_chapter_does() -> None:
    some = [record(), record(seed=1)]
    mean = summarise(some, kind="mean of sub-heads")
    assert mean is not None
    assert mean.values == pytest.approx((0.93, 0.94))
    assert score(some[0], kind="share of labels", share=0.1) == {"accuracy": 0.8}


def test_sub_heads_of_a_record() -> None:
    losses, accuracies = sub_heads_of(record())
    assert losses == [-2.1, -2.25, -2.2]
    assert accuracies == pytest.approx([85, 97, 97.5])


def test_head_losses_draws_sub_heads_and_bounds() -> None:
    main, over = head_losses(
        history(), {"main": -math.log(10), "over": -math.log(50)}, chosen=1
    ).axes
    first, second, bound = main.lines
    assert list(first.get_ydata()) == pytest.approx([-0.4, -0.8, -1.2])
    assert second.get_linewidth() > first.get_linewidth()
    assert set(bound.get_ydata()) == {-math.log(10)}
    assert [text.get_text() for axis in (main, over) for text in axis.texts] == ["−ln 10", "−ln 50"]
    assert list(over.lines[0].get_ydata()) == pytest.approx([-0.6, -1.2, -1.8])
    assert main.get_ylim()[0] < -math.log(10)
    assert over.get_ylim()[0] < -math.log(50)


def test_head_losses_of_a_single_head() -> None:
    (main,) = head_losses(history(1), {"main": -math.log(50)}).axes
    assert [text.get_text() for text in main.texts] == ["−ln 50"]


def test_head_losses_refuses_other_histories() -> None:
    for other in ([], [Epoch(1, 1, 1e-4, 1.0, {"contrast": 1.0})]):
        with pytest.raises(InputError, match="no losses of sub-heads"):
            head_losses(other, {"main": -1.0})


def test_loss_against_accuracy_rings_the_lowest_loss_of_each_run() -> None:
    runs = {"this run": sub_heads_of(record()), "seed 1": ([-1.0, -2.0], [40.0, 90.0])}
    figure = loss_against_accuracy(runs)
    rings = [c.get_offsets()[0].tolist() for c in figure.axes[0].collections[1::2]]
    assert np.allclose(rings, [(-2.25, 97), (-2.0, 90)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["this run", "seed 1"]


def test_corners_are_clockwise_from_the_top() -> None:
    assert np.allclose(corners(4), [(0, 1), (1, 0), (0, -1), (-1, 0)])


def test_circle_order_keeps_clusters_together_that_share_images() -> None:
    # Clusters 0 and 2 share images, and so do 1 and 3.
    p = np.array([[0.5, 0, 0.5, 0]] * 5 + [[0, 0.5, 0, 0.5]] * 5 + [[0.9, 0, 0.1, 0]])
    order = circle_order(torch.tensor(p)).tolist()
    assert sorted(order) == [0, 1, 2, 3]
    places = [order.index(cluster) for cluster in range(4)]
    assert abs(places[0] - places[2]) == abs(places[1] - places[3]) == 1


def snapshots(count: int = 3) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    start = torch.full((4, 4), 0.25)
    end = torch.eye(4)[[0, 1, 2, 2]]
    images = torch.tensor([0, 80, 160, 240], dtype=torch.uint8).reshape(4, 1, 1, 1)
    tables = {f"epoch {i}": start if i == 0 else end for i in range(count)}
    return tables, torch.tensor([0, 1, 2, 0]), images.expand(4, 1, 6, 6)


def test_simplex_snapshots_puts_images_between_their_corners() -> None:
    tables, labels, images = snapshots()
    figure = simplex_snapshots(tables, labels, images, order=[2, 0, 1, 3], names="abcd")
    start, end, same, hidden = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["epoch 0", "epoch 1", "epoch 2", ""]
    assert not hidden.get_visible()
    assert np.allclose(start.collections[0].get_offsets(), 0, atol=5 * JITTER)
    # Cluster 2 is at the top, 0 right of it, 1 at the bottom. The order of the dots is random.
    dots = end.collections[0].get_offsets()
    assert sorted(np.round(dots).tolist()) == [[0, -1], [0, 1], [0, 1], [1, 0]]
    assert len({tuple(dot) for dot in dots}) == 4  # none hides another
    assert [text.get_text() for text in same.texts[:4]] == ["c", "a", "b", "d"]


def test_simplex_snapshots_hangs_weighted_means_at_the_corners() -> None:
    _, labels, images = snapshots()
    images = images.clone()
    images[3, :, :3] = 0
    p = {"now": torch.tensor([[1, 0], [1, 0], [0.25, 0.75], [0, 1]])}
    (axis, _) = simplex_snapshots(p, labels, images, order=[0, 1], names="ab").axes
    boxes = [child for child in axis.get_children() if isinstance(child, AnnotationBbox)]
    first, second = (np.asarray(box.offsetbox.get_data()) for box in boxes)
    darkest = (0.75 * 160 + 240) / 1.75  # is drawn black
    assert np.allclose(first, (80 + 0.25 * 160) / 2.25 / darkest)
    assert np.allclose(second[:3], 0.75 * 160 / 1.75 / darkest)
    assert np.allclose(second[3:], 1)


def test_simplex_snapshots_draws_at_most_2000_dots() -> None:
    p = torch.full((2500, 3), 1 / 3)
    labels = torch.arange(2500) % 3
    images = torch.zeros(2500, 1, 2, 2, dtype=torch.uint8)
    figure = simplex_snapshots({"": p}, labels, images, order=[0, 1, 2], names="abc")
    assert len(figure.axes[0].collections[0].get_offsets()) == 2000


def test_simplex_snapshots_refuses_what_does_not_fit() -> None:
    tables, labels, images = snapshots()
    with pytest.raises(InputError, match="3 clusters in order"):
        simplex_snapshots(tables, labels, images, order=[0, 1, 2], names="abc")


def test_probability_bars_colours_truth_and_error() -> None:
    images = torch.zeros(3, 1, 4, 4)
    p = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.0, 0.0, 1.0]])
    figure = probability_bars(images, p, [0, 1, 2], names=["a", "b", "c"], columns=2)
    assert [axis.get_title() for axis in figure.axes if axis.images] == ["a", "a, not b", "c"]
    panels = [axis for axis in figure.axes if axis.patches]
    colours = [[to_hex(bar.get_facecolor()) for bar in axis.patches] for axis in panels]
    assert colours == [[RIGHT, REST, REST], [WRONG, RIGHT, REST], [REST, REST, RIGHT]]
    assert [bool(bar.get_hatch()) for bar in panels[1].patches] == [True, False, False]
    assert [bar.get_height() for bar in panels[0].patches] == pytest.approx([0.7, 0.2, 0.1])
    assert sum(not axis.get_visible() for axis in figure.axes) == 2  # the empty place


def test_probability_bars_refuses_nothing_and_other_lengths() -> None:
    for count in (0, 2):
        with pytest.raises(InputError, match="one of each"):
            probability_bars(torch.zeros(count, 1, 4, 4), torch.ones(1, 2), [0], names="ab")


def test_accuracy_along_draws_means_in_order() -> None:
    points = {1.0: (0.9, None), 0.1: (0.8, 0.02)}
    figure = accuracy_along({"this run": points, "seeds": {}}, xlabel="share", log=True)
    (axis,) = figure.axes
    line = axis.lines[0]
    assert list(line.get_xdata()) == [0.1, 1.0]
    assert list(line.get_ydata()) == pytest.approx([80, 90])
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0.1", "1"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["this run"]


def test_accuracy_along_leaves_out_labels_that_would_touch() -> None:
    points = {float(place): (0.9, None) for place in (20, 40, 80, 160, 170)}
    (axis,) = accuracy_along({"runs": points}, xlabel="images", log=True).axes
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels == ["20", "40", "80", "", "170"]


@pytest.mark.parametrize("series", [{}, {"this run": {}}])
def test_accuracy_along_says_what_was_not_run(series) -> None:
    (axis,) = accuracy_along(series, xlabel="k", log=True).axes
    assert [text.get_text() for text in axis.texts] == ["not run"]


def test_learning_curves_lays_ours_over_theirs() -> None:
    theirs = {"best": ([0, 1, 10], [20, 80, 99]), "mean": ([0, 1, 10], [20, 70, 98])}
    ours = {"mean": [([6], [97.0]), ([6], [96.0])], "best": []}
    panels = {"MNIST": (theirs, ours), "STL-10": (theirs, {})}
    figure = learning_curves(panels, ylabel="accuracy, %")
    first, second = figure.axes
    assert list(first.lines[1].get_ydata()) == [20, 70, 98]
    dots = [line for line in first.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [line.get_ydata()[0] for line in dots] == [97, 96]
    assert {line.get_color() for line in dots} == {PALETTE[1]}  # that of their mean
    assert len(first.texts) == 0
    assert [text.get_text() for text in second.texts] == ["ours: not run"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["best", "mean", "ours"]


def test_learning_curves_writes_where_no_curve_is() -> None:
    rising, falling = ([0, 1], [1, 2]), ([0, 1], [2, 1])
    panels = {
        "up": ({"a": rising}, {}),
        "down": ({"a": falling}, {"a": []}),
        "odd": ({"a": rising}, {}),
    }
    up, down, _, hidden = learning_curves(panels, ylabel="").axes
    assert up.texts[0].get_position()[1] < 0.5 < down.texts[0].get_position()[1]
    assert not hidden.get_visible()


def test_learning_curves_refuses_curves_without_a_partner() -> None:
    with pytest.raises(InputError, match="ours has other"):
        learning_curves({"a": ({"loss": ([1], [1])}, {"other": []})}, ylabel="")


def test_sub_head_strips_shows_modes_and_the_chosen_one() -> None:
    five = [99.253, 97.913, 99.231, 97.91, 97.913]  # the author's MNIST run
    (axis,) = sub_head_strips({"author": five, "ours": []}, {"author": 2}).axes
    dots, ring = (c for c in axis.collections if isinstance(c, PathCollection))
    assert dots.get_offsets()[:, 0].tolist() == five
    assert ring.get_offsets().tolist() == [[99.231, 0]]
    assert axis.lines[0].get_xdata()[0] == pytest.approx(98.44, abs=0.01)
    ends = axis.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert np.ptp(ends) / 2 == pytest.approx(0.652, abs=1e-3)  # the printed one
    assert [text.get_text() for text in axis.texts] == ["not run"]
