"""SimCLR and MIX'EM: digits for two CPU cores, and the paper's three sets."""

from dataclasses import replace

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.experiments.settings import Experiment
from mixem.methods import MixEMSettings, SimCLRSettings
from mixem.training.config import TrainConfig

# --- digits: ours, small enough for two CPU cores -----------------------------------------------

DIGITS_SOURCES = {
    "name": "this book",
    "method": "this book",
    "images": "scikit-learn, load_digits",
    "train_split": "this book: all images, as there is no official split",
    "test_split": "this book: all images, as there is no official split",
    "backbone": "this book: chosen by the accuracy of digits/simclr, seeds 0 to 3",
    "clusters": "the ten digits",
    "views": "this book: chosen by the accuracy of digits/simclr, seeds 0 to 3",
    "settings.temperature": "this book: chosen by the accuracy of digits/simclr, seeds 0 to 3",
    "settings.embedding_size": "MIX'EM, config.yaml: out_dim",
    "training": "this book, chosen for two CPU cores",
    "protocol": "MIX'EM, cluster_eval.py",
    "protocol.fit_split": "this book: all images",
    "start": "MIX'EM, README: --init_from a SimCLR run",
}
DIGITS_VIEWS = Augmentation(
    size=16,
    crop_scale=(0.6, 1.0),
    degrees=15,
    translate=0.1,
    scale=(0.8, 1.2),
    shear=15,
    brightness=0.4,
    contrast=0.4,
    jitter=1.0,
    blur=0.5,
    blur_sigma=(0.1, 1.0),
    blur_kernel=3,
)
DIGITS_SIMCLR = Experiment(
    name="digits/simclr",
    method="simclr",
    images="digits",
    train_split="train+test",
    test_split="train+test",
    backbone="small",
    clusters=10,
    views=DIGITS_VIEWS,
    settings=SimCLRSettings(temperature=1.0),
    training=TrainConfig(epochs=40, batch_size=256, learning_rate=1e-3, constant_epochs=5),
    protocol=KMeansProtocol(fit_split="train+test"),
    sources=DIGITS_SOURCES,
)
DIGITS_MIXEM = replace(
    DIGITS_SIMCLR,
    name="digits/mixem",
    method="mixem",
    settings=MixEMSettings(),
    training=replace(DIGITS_SIMCLR.training, epochs=60),
    protocol=KMeansProtocol(fit_split="train+test", init="components"),
    start="digits/simclr",
    sources={
        **DIGITS_SOURCES,
        "settings.temperature": "MIX'EM, config.yaml",
        "settings.components": "MIX'EM, config.yaml: n_comps",
        "settings.diversity_weight": "MIX'EM, config.yaml: w_entropy",
        "settings.confidence_weight": "MIX'EM, config.yaml: pimax_loss_w",
        "settings.pull_weight": "MIX'EM, config.yaml: w_pull",
        "settings.push_weight": "MIX'EM, config.yaml: w_push",
        "settings.confidence": "MIX'EM, train.py",
        "settings.extra_projection": "MIX'EM, train.py",
    },
)

# --- the paper's three sets ---------------------------------------------------------------------

_MIXEM_SOURCES = {
    "name": "this book",
    "method": "the paper",
    "images": "abstract",
    "backbone": "resnet.py, run.py",
    "test_split": "cluster_eval.py",
    "clusters": "classes of the data",
    "views": "data_aug/",
    "views.size": "config.yaml",
    "settings.embedding_size": "config.yaml: out_dim",
    "settings.temperature": "config.yaml",
    "settings.components": "config.yaml: n_comps",
    "settings.diversity_weight": "config.yaml: w_entropy",
    "settings.confidence_weight": "config.yaml: pimax_loss_w",
    "settings.pull_weight": "config.yaml: w_pull",
    "settings.push_weight": "config.yaml: w_push",
    "settings.confidence": "train.py; the abstract speaks of an entropy",
    "settings.extra_projection": "train.py; the architecture picture has one",
    "training.epochs": "config.yaml; the paper's number is not known to us",
    "training.batch_size": "config.yaml",
    "training.learning_rate": "config.yaml",
    "training.weight_decay": "config.yaml",
    "training.constant_epochs": "train.py",
    "training.schedule": "train.py",
    "protocol": "cluster_eval.py",
    "protocol.layer": "this book: abstract and code leave features or embeddings open",
    "start": "README: --init_from, as one of two ways",
}
_COLOUR = Augmentation(
    size=96,
    crop_scale=(0.08, 1.0),
    flip=0.5,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    jitter=0.8,
    grey=0.2,
    blur=0.5,
    blur_sigma=(0.1, 2.0),
    blur_kernel=9,
)
_CIFAR_NOTE = "data_aug/dataset_wrapper.py; the official evaluation leaves it out"
_CIFAR_RATE = (
    "byte-code of the public history (cluster_eval keeps CIFAR runs of 5e-4); config.yaml has 1e-4"
)
_STL10 = Experiment(
    name="stl10/mixem",
    method="mixem",
    images="stl10",
    train_split="train+test",
    test_split="test",
    backbone="resnet18",
    clusters=10,
    views=_COLOUR,
    settings=MixEMSettings(),
    training=TrainConfig(),
    protocol=KMeansProtocol(init="components"),
    start="stl10/simclr",
    sources={
        **_MIXEM_SOURCES,
        "train_split": "config.yaml: STL10_TrainTest; 7 % were held out there, none here",
    },
)
_CIFAR10 = replace(
    _STL10,
    name="cifar10/mixem",
    images="cifar10",
    train_split="train",
    backbone="resnet18-cifar",
    views=replace(
        _COLOUR,
        size=32,
        blur_kernel=3,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    ),
    training=TrainConfig(learning_rate=5e-4),
    start="cifar10/simclr",
    sources={
        **_MIXEM_SOURCES,
        "train_split": "data_aug/dataset_wrapper.py: CIFAR10; 10 % were held out there, none here",
        "views.mean": _CIFAR_NOTE,
        "views.std": _CIFAR_NOTE,
        "training.learning_rate": _CIFAR_RATE,
    },
)
_CIFAR20 = replace(
    _CIFAR10,
    name="cifar100-20/mixem",
    images="cifar100-20",
    clusters=20,
    views=replace(_CIFAR10.views, mean=(0.507, 0.487, 0.441), std=(0.267, 0.256, 0.276)),
    settings=MixEMSettings(components=20),
    start="cifar100-20/simclr",
    sources={
        **_CIFAR10.sources,
        "settings.components": "the number of classes; config.yaml has 10 for every set",
    },
)


def _simclr_of(experiment: Experiment) -> Experiment:
    """SimCLR on the same images; the official code cannot train it, so the length is ours."""
    return replace(
        experiment,
        name=experiment.name.replace("mixem", "simclr"),
        method="simclr",
        settings=SimCLRSettings(
            embedding_size=experiment.settings.embedding_size,
            temperature=experiment.settings.temperature,
        ),
        training=replace(experiment.training, epochs=500),
        protocol=replace(experiment.protocol, init="k-means++"),
        start=None,
        sources={
            **{
                path: source
                for path, source in experiment.sources.items()
                if not path.startswith(("settings.", "training.", "train_split"))
            },
            "train_split": "as MIX'EM; not documented",
            "method": "abstract: SimCLR and k-means on normalised representations",
            "settings": "as MIX'EM; the released code cannot train plain SimCLR",
            "training": "as MIX'EM; not documented",
            "training.epochs": "this book; not documented",
            "start": "abstract",
        },
    )


# --- real images for two CPU cores ----------------------------------------------------------------

_MNIST_SMALL = replace(
    DIGITS_SIMCLR,
    name="mnist/simclr-small",
    images="mnist",
    train_split="train",
    test_split="test",
    training=replace(DIGITS_SIMCLR.training, epochs=5, constant_epochs=1),
    protocol=KMeansProtocol(fit_split="train"),
    sources={
        **DIGITS_SOURCES,
        "images": "as IIC and IMC-SwAV",
        "train_split": "as IMC-SwAV",
        "test_split": "as IMC-SwAV",
        "backbone": "as digits/simclr",
        "views": "as digits/simclr",
        "settings.temperature": "as digits/simclr",
        "protocol.fit_split": "this book: the training images",
    },
)
# A contest on images by whose labels nothing was chosen: the digits' recipes, six epochs each.
FASHION_SOURCES = {
    "images": "this book",
    "train_split": "as mnist/simclr-small",
    "test_split": "as mnist/simclr-small",
    "protocol.fit_split": "this book: the training images",
    "training.epochs": "this book: the same number of views for all methods",
    "training.snapshots": "this book",
}
FASHION_SIMCLR = replace(
    _MNIST_SMALL,
    name="fashion-mnist/simclr",
    images="fashion-mnist",
    training=replace(_MNIST_SMALL.training, epochs=6, snapshots=(0, 1, 3)),
    sources={**_MNIST_SMALL.sources, **FASHION_SOURCES, "training": "as mnist/simclr-small"},
)
_CIFAR10_SMALL = replace(
    _simclr_of(_CIFAR10),
    name="cifar10/simclr-small",
    backbone="small-resnet18",
    training=replace(
        DIGITS_SIMCLR.training, epochs=60, constant_epochs=1, snapshots=(0, 1, 2, 5, 10, 20, 40)
    ),
    protocol=KMeansProtocol(fit_split="train"),
    sources={
        **_simclr_of(_CIFAR10).sources,
        "backbone": "this book, for two CPU cores",
        "training": "this book, for two CPU cores",
        "training.epochs": "this book, for two CPU cores",
        "training.batch_size": "this book, for two CPU cores",
        "training.learning_rate": "this book, for two CPU cores",
        "training.constant_epochs": "this book, for two CPU cores",
        "protocol.fit_split": "this book: the training images",
    },
)


def _mixem_of(
    start: Experiment, like: Experiment, epochs: int, snapshots: tuple[int, ...] = ()
) -> Experiment:
    """MIX'EM from a small SimCLR, with the settings of another MIX'EM."""
    return replace(
        start,
        name=start.name.replace("simclr", "mixem"),
        method="mixem",
        settings=like.settings,
        training=replace(start.training, epochs=epochs, snapshots=snapshots),
        protocol=replace(start.protocol, init="components"),
        start=start.name,
        sources={
            **start.sources,
            **{k: v for k, v in like.sources.items() if k.startswith("settings.")},
            "start": like.sources["start"],
        },
    )


EXPERIMENTS: tuple[Experiment, ...] = (
    DIGITS_SIMCLR,
    DIGITS_MIXEM,
    _MNIST_SMALL,
    _mixem_of(_MNIST_SMALL, DIGITS_MIXEM, 5),
    FASHION_SIMCLR,
    _mixem_of(FASHION_SIMCLR, DIGITS_MIXEM, 6, (0, 1, 3)),
    _CIFAR10_SMALL,
    _mixem_of(_CIFAR10_SMALL, _CIFAR10, 30, (0, 1, 2, 5, 10, 20)),
    *(e for base in (_STL10, _CIFAR10, _CIFAR20) for e in (_simclr_of(base), base)),
)
