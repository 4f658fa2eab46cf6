"""Colour pictures of one's own: each method small, so that a thousand take minutes on a CPU.

For small, plain pictures. On real photographs the one that was tried, SimCLR's, was below k-means
on pixels; features of a pretrained network are the way there.

The settings are ours. Views keep the colours, for pictures of one's own often differ by them, and
most of the square, for what matters may be small. The number of steps has a lower bound, for a
folder may be small; a large one has its epochs.
"""

from dataclasses import replace

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.experiments.settings import Experiment
from mixem.methods import IICSettings, IMCSwAVSettings, MixEMSettings, SimCLRSettings
from mixem.training.config import TrainConfig

_SOURCES = dict.fromkeys(
    (
        "name", "method", "images", "train_split", "test_split", "backbone", "clusters", "views",
        "settings", "training", "protocol", "start",
    ),
    "this book, for folders of photographs on two CPU cores",
)  # fmt: skip
_VIEWS = Augmentation(
    size=32,
    crop_scale=(0.3, 1.0),
    flip=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.02,
    jitter=0.8,
)

_SIMCLR = Experiment(
    name="photos/simclr",
    method="simclr",
    images="cifar10",
    train_split="train+test",
    test_split="train+test",
    backbone="small-resnet",
    clusters=10,
    views=_VIEWS,
    settings=SimCLRSettings(embedding_size=64, temperature=0.2),
    training=TrainConfig(
        epochs=10,
        batch_size=128,
        learning_rate=2e-3,
        constant_epochs=0,
        schedule="steps",
        least_steps=800,
    ),
    protocol=KMeansProtocol(fit_split="train+test"),
    sources=_SOURCES,
)
_MIXEM = replace(
    _SIMCLR,
    name="photos/mixem",
    method="mixem",
    settings=MixEMSettings(embedding_size=64, temperature=0.2),
    training=replace(_SIMCLR.training, epochs=5, least_steps=400),
    protocol=replace(_SIMCLR.protocol, init="components"),
    start="photos/simclr",
)
_IIC = replace(
    _SIMCLR,
    name="photos/iic",
    method="iic",
    settings=IICSettings(
        over_clusters=50, sub_heads=10, repeats=1, passes=("over", "main"), head_std=None, lamb=1.5
    ),
)
_IMC_SWAV = replace(
    _SIMCLR,
    name="photos/imc-swav",
    method="imc-swav",
    settings=IMCSwAVSettings(
        small=2,
        hidden=256,
        prototypes=100,
        frozen_steps=50,
        small_views=replace(_VIEWS, size=24, crop_scale=(0.15, 0.5)),
    ),
)

EXPERIMENTS: tuple[Experiment, ...] = (_SIMCLR, _MIXEM, _IIC, _IMC_SWAV)
