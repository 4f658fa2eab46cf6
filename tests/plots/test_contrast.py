"""Pictures of the contrastive loss: probabilities and forces are those of the loss."""

import numpy as np
import pytest
import torch

from mixem.errors import InputError
from mixem.losses import nt_xent
from mixem.plots import partner_picture, partner_probabilities, temperature_weights

# a = (1, 0), b = (-2, 0), a' = (3, 4), b' = (-3, 4)
Z1 = torch.tensor([[1.0, 0.0], [-2.0, 0.0]])
Z2 = torch.tensor([[3.0, 4.0], [-3.0, 4.0]])


def test_partner_probabilities_are_the_losses() -> None:
    p = partner_probabilities(Z1, Z2, temperature=0.5)
    assert torch.allclose(p.sum(1), torch.ones(4))
    assert (p.diagonal() == 0).all()
    right = p[torch.arange(4), torch.arange(4).roll(2)]
    assert (-right.log()).mean().item() == pytest.approx(
        nt_xent(Z1, Z2, temperature=0.5).item(), rel=1e-6
    )
    assert p[0, 2].item() == pytest.approx(
        np.exp(1.2) / (np.exp(1.2) + np.exp(-2) + np.exp(-1.2)), rel=1e-6
    )


def test_partner_picture_shows_forces_and_probabilities() -> None:
    figure = partner_picture(Z1, Z2, names=["a", "b", "a'", "b'"], temperature=0.5)
    circle, matrix = figure.axes
    points = circle.collections[0].get_offsets()
    assert np.allclose(points, [[1, 0], [-1, 0], [0.6, 0.8], [-0.6, 0.8]])
    arrows = circle.collections[1]
    assert np.allclose(arrows.U * points[:, 0] + arrows.V * points[:, 1], 0, atol=1e-6)  # tangents
    assert arrows.V[0] > 0  # a goes up, to its partner
    assert arrows.U[2] > 0  # a' goes right, to its partner and away from b'
    assert arrows.U[2] == pytest.approx(-arrows.U[3], abs=1e-6)  # the picture is symmetric
    words = [text.get_text() for text in matrix.texts]
    assert len(words) == 12
    assert words[1] == "0.88"
    outlined = [(box.get_x() + 0.46, box.get_y() + 0.46) for box in matrix.patches]
    assert np.allclose(outlined, [(2, 0), (3, 1), (0, 2), (1, 3)])


def test_temperature_weights_fall_faster_when_cold() -> None:
    (axis,) = temperature_weights([0.1, 1.0], chosen=1.0).axes
    cold, warm = axis.lines[:2]
    assert cold.get_ydata()[-1] == warm.get_ydata()[-1] == 1
    assert warm.get_ydata()[0] == pytest.approx(np.exp(-2))
    assert (cold.get_ydata()[:-1] < warm.get_ydata()[:-1]).all()
    assert warm.get_linewidth() > cold.get_linewidth()


def test_temperature_weights_refuse_zero() -> None:
    with pytest.raises(InputError, match="positive"):
        temperature_weights([0.5, 0.0])
