"""SCAN: digits for two CPU cores, and the paper's three small sets.

The settings are those of the official code, ``configs/`` of Unsupervised-Classification.
"""

from dataclasses import replace

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.experiments.mixem import DIGITS_SIMCLR, DIGITS_SOURCES, FASHION_SIMCLR
from mixem.experiments.settings import Experiment
from mixem.methods import SCANSettings, SelfLabelSettings, SimCLRSettings
from mixem.training.config import TrainConfig

_DIGITS_SOURCES = {k: v for k, v in DIGITS_SOURCES.items() if not k.startswith("settings.")}

# --- digits: ours, small enough for two CPU cores -------------------------------------------------

_DIGITS = replace(
    DIGITS_SIMCLR,
    name="digits/scan",
    method="scan",
    settings=SCANSettings(),
    training=replace(DIGITS_SIMCLR.training, epochs=30),
    start="digits/simclr",
    sources={
        **_DIGITS_SOURCES,
        "method": "the paper, step 2",
        "settings": "configs/scan",
        "settings.heads": "configs/scan: one for small sets",
        "start": "the paper, step 1",
    },
)
_DIGITS_LABELS = replace(
    _DIGITS,
    name="digits/scan-self-label",
    method="self-label",
    settings=SelfLabelSettings(),
    training=replace(_DIGITS.training, epochs=20),
    start="digits/scan",
    sources={
        **_DIGITS_SOURCES,
        "method": "the paper, step 3",
        "settings": "configs/selflabel",
        "start": "the paper, step 2",
    },
)

_FASHION = replace(
    FASHION_SIMCLR,
    name="fashion-mnist/scan",
    method="scan",
    settings=_DIGITS.settings,
    start="fashion-mnist/simclr",
    sources={
        **{k: v for k, v in FASHION_SIMCLR.sources.items() if not k.startswith("settings.")},
        "method": "the paper, step 2",
        "settings": "as digits/scan",
        "settings.heads": "configs/scan: one for small sets",
        "start": "the paper, step 1",
    },
)

# --- the paper's three sets -----------------------------------------------------------------------

_VIEWS = Augmentation(
    size=32,
    crop_scale=(0.2, 1.0),
    flip=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    jitter=0.8,
    grey=0.2,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)
# Four operations of fourteen there, each at a random strength; of these, what views here have.
_STRONG = replace(
    _VIEWS,
    crop_scale=None,
    degrees=30,
    translate=0.1,
    shear=6,
    grey=0.0,
    hue=0.0,
    cutout=1.0,
    cutout_sides=(0.03, 0.5),
)
_SOURCES = {
    "name": "this book",
    "images": "the paper",
    "train_split": "data/: the training images alone",
    "test_split": "data/: the test images",
    "backbone": "models/",
    "clusters": "classes of the data",
    "protocol": "this book: k-means beside the classifier",
    "protocol.fit_split": "this book: the training images",
}
_SIMCLR = Experiment(
    name="cifar10/scan-simclr",
    method="simclr",
    images="cifar10",
    train_split="train",
    test_split="test",
    backbone="resnet18-cifar",
    clusters=10,
    views=_VIEWS,
    settings=SimCLRSettings(embedding_size=128, temperature=0.1),
    training=TrainConfig(
        epochs=500,
        batch_size=512,
        learning_rate=0.4,
        weight_decay=1e-4,
        constant_epochs=0,
        optimiser="sgd",
    ),
    protocol=KMeansProtocol(fit_split="train"),
    sources={
        **_SOURCES,
        "method": "the paper, step 1; only the first views are anchors there, all here",
        "views": "configs/pretext/simclr_cifar10.yml",
        "settings": "configs/pretext/simclr_cifar10.yml",
        "training": "configs/pretext/simclr_cifar10.yml",
        "training.schedule": "a cosine that changes with the epoch; it ends at 0 here",
        "training.optimiser": "configs/pretext/simclr_cifar10.yml",
        "start": "random weights",
    },
)
_CIFAR10 = replace(
    _SIMCLR,
    name="cifar10/scan",
    method="scan",
    views=_STRONG,
    settings=SCANSettings(),
    training=TrainConfig(
        epochs=50, batch_size=128, learning_rate=1e-4, weight_decay=1e-4, constant_epochs=50
    ),
    start="cifar10/scan-simclr",
    sources={
        **_SOURCES,
        "method": "the paper, step 2",
        "views": "data/augment.py: four operations of fourteen; those that views here have",
        "settings": "configs/scan",
        "training": "configs/scan",
        "training.epochs": "configs/scan; the paper says 100",
        "start": "the paper, step 1",
    },
)
_CIFAR10_LABELS = replace(
    _CIFAR10,
    name="cifar10/scan-self-label",
    method="self-label",
    settings=SelfLabelSettings(),
    training=replace(_CIFAR10.training, epochs=200, batch_size=1000, constant_epochs=200),
    start="cifar10/scan",
    sources={
        **_CIFAR10.sources,
        "method": "the paper, step 3",
        "settings": "configs/selflabel",
        "training": "configs/selflabel",
        "training.epochs": "configs/selflabel",
        "start": "the paper, step 2",
    },
)
_CIFAR20_COLOURS = {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)}
_STL10_COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def _on(
    images: str, epochs: int, batch_size: int, label_epochs: int, **changes: object
) -> tuple[Experiment, ...]:
    """The three steps on other images."""
    steps = []
    for step in (_SIMCLR, _CIFAR10, _CIFAR10_LABELS):
        views = {k: v for k, v in changes.items() if k in ("size", "mean", "std")}
        rest: dict[str, object] = {k: v for k, v in changes.items() if k not in views}
        training = step.training
        if step is _CIFAR10:
            training = replace(
                training, epochs=epochs, batch_size=batch_size, constant_epochs=epochs
            )
        elif step is _CIFAR10_LABELS:
            training = replace(training, epochs=label_epochs, constant_epochs=label_epochs)
        steps.append(
            replace(
                step,
                name=step.name.replace("cifar10", images),
                images=images,
                views=replace(step.views, **views),  # type: ignore[arg-type]
                training=training,
                start=step.start and step.start.replace("cifar10", images),
                **rest,  # type: ignore[arg-type]
            )
        )
    return tuple(steps)


EXPERIMENTS: tuple[Experiment, ...] = (
    _DIGITS,
    _DIGITS_LABELS,
    _FASHION,
    _SIMCLR,
    _CIFAR10,
    _CIFAR10_LABELS,
    *_on("cifar100-20", 100, 512, 200, clusters=20, **_CIFAR20_COLOURS),
    *_on("stl10", 100, 128, 100, size=96, backbone="resnet18-stl", **_STL10_COLOURS),
)
