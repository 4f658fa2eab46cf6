"""The baselines of IIC's Table 1: pixels, spectral clustering, an auto-encoder."""

import math

import pytest
import torch
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.evaluation import clustering_scores
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.methods import (
    AutoEncoder,
    AutoEncoderSettings,
    KMeans,
    Spectral,
    SpectralSettings,
    extract,
)
from mixem.models import Pixels, SmallNet

PROTOCOL = KMeansProtocol(normalise=False, n_init=5, fit_split="test")


class Points(nn.Identity):
    """Vectors are their own features."""

    takes_vectors = True
    out_features = 2


def rings(n=60):
    """Points on two circles about the origin, one twice as wide, and which circle."""
    angle = torch.arange(n) * 2 * math.pi / n
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    return torch.cat([circle, 2 * circle]).half(), torch.arange(2).repeat_interleave(n)


def test_spectral_clustering_tells_rings_apart_and_k_means_does_not():
    points, labels = rings()
    spectral = Spectral(Points(), Augmentation(size=1), SpectralSettings(edges=5), clusters=2)
    (found,) = spectral.clusterings(points, None, PROTOCOL)
    assert found.kind == "spectral"
    assert clustering_scores(labels, found.clusters)["accuracy"] == 1
    by_k_means = KMeans(Points(), Augmentation(size=1), clusters=2)
    clusters = next(iter(by_k_means.clusterings(points, None, PROTOCOL))).clusters
    assert clustering_scores(labels, clusters)["accuracy"] < 0.7


def test_a_graph_in_parts_is_sorted_and_later_images_go_to_the_nearest_mean():
    torch.manual_seed(0)
    ends = torch.tensor([[4.0, 1.0], [1.0, 4.0]]).repeat_interleave(10, 0)
    points = (ends + 0.1 * torch.randn(20, 2)).half()
    method = Spectral(Points(), Augmentation(size=1), SpectralSettings(edges=3), clusters=2)
    (found,) = method.clusterings(points, None, PROTOCOL)
    assert torch.equal(extract(method, points, "cluster").argmax(1), found.clusters)


def test_spectral_clustering_sorts_what_it_is_fitted_on():
    points, _ = rings(10)
    method = Spectral(Points(), Augmentation(size=1), clusters=2)
    with pytest.raises(InputError, match="sorts the images that it is fitted on"):
        next(method.clusterings(points, points, PROTOCOL))
    with pytest.raises(InputError, match="9 images for 10 edges"):
        next(method.clusterings(points[:9], None, PROTOCOL))


def test_pixels_are_the_plain_view():
    views = Augmentation(size=8, mean=(0.5,), std=(0.25,))
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    method = KMeans(Pixels(1, size=8), views, clusters=2)
    expected = (images.flatten(1) / 255 - 0.5) / 0.25
    assert torch.allclose(extract(method, images), expected, atol=1e-6)
    assert method.feature_size == 64


def auto_encoder(**settings):
    torch.manual_seed(0)
    settings = AutoEncoderSettings(**({"code_size": 4, "hidden": 32} | settings))
    return AutoEncoder(SmallNet(1, width=4), Augmentation(size=16), settings, clusters=3)


def test_a_step_of_the_auto_encoder_is_the_squared_error():
    method = auto_encoder().eval()
    images = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8)
    views = method.draw_views(images, torch.Generator().manual_seed(0))
    assert views.shape == (1, 6, 1, 16, 16)
    drawn = method.decoder(extract(method, images, "embeddings"))
    expected = sum(
        (drawn[b, i] - views[0, b].flatten()[i]) ** 2 for b in range(6) for i in range(256)
    ) / (6 * 256)
    assert method.step(views).terms["pixels"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_auto_encoder_learns_to_draw():
    method = auto_encoder().train()
    views = torch.rand(1, 16, 1, 1, 1).expand(1, 16, 1, 16, 16) * torch.rand(16, 16)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = method.step(views).terms["pixels"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_the_auto_encoder_says_which_channels_it_draws():
    with pytest.raises(InputError, match="images of 3 channels, and the decoder draws 1"):
        auto_encoder().step(torch.zeros(1, 2, 3, 16, 16))
    assert auto_encoder(channels=3).decoder[-1].out_features == 3 * 256


def test_the_fashion_contest_gives_all_methods_as_many_views():
    blank = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)

    def views(experiment):
        method = build(experiment, channels=1, seed=0)
        drawn = method.draw_views(blank, torch.Generator().manual_seed(0))
        groups = drawn if isinstance(drawn, list) else [drawn]
        here = experiment.training.epochs * len(method.passes) * sum(map(len, groups))
        return here + (views(get(experiment.start)) if experiment.start else 0)

    names = ("mixem", "iic", "imc-swav", "scan", "auto-encoder")
    assert {name: views(get(f"fashion-mnist/{name}")) for name in names} == dict.fromkeys(names, 24)
    twice = get("fashion-mnist/simclr").override(training__epochs=12)
    assert views(twice) == 24
