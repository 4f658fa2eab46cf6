"""What a method has to beat: baselines of IIC's Table 1, and the same on Fashion-MNIST.

Of the table's pixels, untrained network, spectral clustering and auto-encoder. IIC's authors took
these numbers from earlier papers; how they were made is not said, so all that follows is ours.
"""

from dataclasses import replace

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.experiments.mixem import FASHION_SIMCLR
from mixem.experiments.settings import Experiment, all_from
from mixem.methods import AutoEncoderSettings, MethodSettings, SpectralSettings
from mixem.training.config import TrainConfig

_ALL = "train+test"
_PIXELS = Experiment(
    name="mnist/kmeans",
    method="kmeans",
    images="mnist",
    train_split=_ALL,
    test_split=_ALL,
    backbone="pixels",
    clusters=10,
    views=Augmentation(size=28),
    settings=MethodSettings(),
    training=TrainConfig(epochs=0, constant_epochs=0),
    protocol=KMeansProtocol(fit_split=_ALL, normalise=False, n_init=10, max_iter=300),
    sources=all_from("this book"),
)
_UNTRAINED = replace(
    _PIXELS,
    name="mnist/kmeans-untrained",
    backbone="small",
    views=FASHION_SIMCLR.views,
    protocol=replace(_PIXELS.protocol, normalise=True),
)
_SPECTRAL = replace(_PIXELS, name="mnist/spectral", method="spectral", settings=SpectralSettings())
_AUTO_ENCODER = replace(
    _UNTRAINED,
    name="mnist/auto-encoder",
    method="auto-encoder",
    views=Augmentation(size=16),
    settings=AutoEncoderSettings(),
    training=replace(FASHION_SIMCLR.training, epochs=24, snapshots=()),
    protocol=replace(_PIXELS.protocol, layer="embeddings"),
)


def _fashion(baseline: Experiment) -> Experiment:
    """Of Fashion-MNIST, as its contest: fitted on the training images, scored on the others."""
    name = baseline.name.replace("mnist", "fashion-mnist")
    return replace(
        baseline,
        name=name,
        images="fashion-mnist",
        train_split="train",
        test_split="test",
        protocol=replace(baseline.protocol, fit_split="train"),
    )


EXPERIMENTS: tuple[Experiment, ...] = (
    _PIXELS,
    _UNTRAINED,
    _SPECTRAL,
    _AUTO_ENCODER,
    *map(_fashion, (_PIXELS, _UNTRAINED, _AUTO_ENCODER)),
    replace(  # spectral clustering sorts only what it is fitted on
        _fashion(_SPECTRAL),
        train_split="test",
        protocol=replace(_SPECTRAL.protocol, fit_split="test"),
    ),
)
