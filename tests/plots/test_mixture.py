"""Pictures of MIX'EM: the numbers in them are the losses', the arrows lead downhill."""

import numpy as np
import pytest
import torch

from mixem.clustering import kmeans_starts
from mixem.errors import InputError
from mixem.losses import associative_embedding, instance_confidence, instance_entropy
from mixem.plots import (
    coefficient_batches,
    diversity_curve,
    mixem_network,
    mixing,
    pull_and_push,
    ranked_images,
    simclr_network,
    simplex_losses,
    starts_spread,
)
from mixem.plots.images import MARK
from mixem.plots.mixture import _downhill, _simplex


def arrows(axis):
    return next(c for c in axis.collections if hasattr(c, "U"))


def test_mixing_lies_on_the_line_between_the_components() -> None:
    figure = mixing(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    plane, curve = figure.axes
    z = next(c for c in plane.collections if len(c.get_offsets()) == 21).get_offsets()
    assert np.allclose(z.sum(1), 1, atol=1e-6)  # from (0, 1) to (1, 0)
    length = curve.lines[0].get_ydata()
    assert length[0] == pytest.approx(1)
    assert length[10] == pytest.approx(0.5**0.5)


def test_mixing_is_of_two_components_in_the_plane() -> None:
    with pytest.raises(InputError, match="give \\(2, 2\\)"):
        mixing(torch.ones(3, 2))


def test_diversity_curve_has_its_minimum_at_even_use() -> None:
    (axis,) = diversity_curve({"even": 0.5, "one": 1.0}).axes
    value = np.array(axis.lines[0].get_ydata())
    assert value.argmin() == 100
    assert value[100] == pytest.approx(-np.log(2))
    assert value[0] == value[-1] == 0
    marked = [tuple(c.get_offsets()[0]) for c in axis.collections]
    assert np.allclose(marked, [(0.5, -np.log(2)), (1, 0)])


def test_coefficient_batches_prints_the_three_losses() -> None:
    eye = torch.eye(4)
    figure = coefficient_batches({"undecided": torch.full((8, 4), 0.25), "one": eye[[1] * 8]})
    words = [axis.get_xlabel() for axis in figure.axes if axis.images]
    assert words == [
        "Σ p̄ ln p̄ = −1.39\n1 − max p = 0.75\nentropy = 1.39",
        "Σ p̄ ln p̄ = 0.00\n1 − max p = 0.00\nentropy = 0.00",
    ]
    bars = [bar.get_height() for bar in figure.axes[1].patches]
    assert bars == [0, 1, 0, 0]


def test_simplex_losses_has_two_triangles() -> None:
    figure = simplex_losses(resolution=20)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["1 − max p (the code)", "entropy (the abstract)"]
    assert len(_simplex(20)) == 210


@pytest.mark.parametrize("loss", [instance_confidence, instance_entropy])
def test_arrows_of_the_simplex_stay_in_it_and_lead_downhill(loss) -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
    move = torch.from_numpy(_downhill(loss, p))
    assert torch.allclose(move.sum(1), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    for row, step in zip(p, move, strict=True):
        assert loss((row + 1e-3 * step)[None]) < loss(row[None])
    assert (move.argmax(1) == p.argmax(1)).all()


def test_pull_and_push_arrows_lead_downhill() -> None:
    z = torch.tensor([[0.8, 0.2], [0.5, 0.1], [-0.4, 0.3], [-0.6, 0.2]])
    p = torch.eye(2)[[0, 0, 1, 1]]
    for position, axis in enumerate(pull_and_push(z, p).axes):
        step = torch.tensor(np.stack([arrows(axis).U, arrows(axis).V], 1), dtype=torch.float32)
        before = associative_embedding(z, p)[position]
        assert associative_embedding(z + 1e-3 * step, p)[position] < before
        name = ("pull", "push")[position]
        assert axis.get_title() == f"{name} = {before:.2f}".replace("-", "−")


def test_ranked_images_ranks_and_frames() -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 2, 2) * 50
    p = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.45, 0.55]])
    figure = ranked_images(images, p, labels=[0, 0, 1, 5, 1], columns=3)
    axes = np.reshape(figure.axes, (2, 3))
    assert [row[0].get_ylabel() for row in axes] == ["0: 60 %", "1: 40 %"]
    shown = [axis.images[0].get_array().max() * 255 / 50 for axis in axes[0]]
    assert shown == pytest.approx([1, 3, 0])
    framed = [axis.spines["left"].get_edgecolor() for axis in axes[0]]
    from matplotlib.colors import to_hex

    assert [to_hex(colour) == MARK for colour in framed] == [False, True, False]


def test_ranked_images_shows_an_empty_component() -> None:
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    figure = ranked_images(images, torch.tensor([[0.9, 0.1], [0.8, 0.2]]), columns=2)
    assert figure.axes[2].get_ylabel() == "1: 0 %"
    assert not figure.axes[2].images


def test_starts_spread_marks_the_kept_start_and_the_components() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    results = kmeans_starts(x, 4, 5)
    scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    figure = starts_spread(
        {"A": results, "B": results}, {"A": scores, "B": scores}, started={"B": 0.45}
    )
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["A", "B"]
    kept = scores[int(np.argmin([result.inertia for result in results]))]
    dots, ring, _, _, diamond = axis.collections
    assert list(dots.get_offsets()[:, 0]) == scores
    assert ring.get_offsets()[0, 0] == kept
    assert tuple(diamond.get_offsets()[0]) == (0.45, 1.0)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3


def test_starts_spread_refuses_other_lengths() -> None:
    results = kmeans_starts(np.eye(4), 2, 2)
    with pytest.raises(InputError, match="2 starts but 1 accuracies"):
        starts_spread({"A": results}, {"A": [0.5]})


def test_mixem_network_names_its_last_head_and_the_losses() -> None:
    words = {text.get_text() for text in mixem_network(20).axes[0].texts}
    assert {"head 1", "head 20", "gate", "p", "z", "NT-Xent", "(i)\neven use"} <= words
    with pytest.raises(InputError, match="at least 2"):
        mixem_network(1)


def test_simclr_network_shows_two_views() -> None:
    image = torch.zeros(1, 8, 8)
    figure = simclr_network(image, torch.zeros(2, 1, 8, 8))
    assert len(figure.axes[0].artists) == 3
    with pytest.raises(InputError, match="give two"):
        simclr_network(image, torch.zeros(3, 1, 8, 8))
