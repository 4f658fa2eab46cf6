"""IMC-SwAV: digits, small MNIST and CIFAR-10 for two CPU cores, and the paper's five sets."""

from dataclasses import replace

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation
from mixem.experiments.mixem import DIGITS_VIEWS, FASHION_SOURCES
from mixem.experiments.settings import Experiment
from mixem.methods import IMCSwAVSettings
from mixem.training.config import TrainConfig

_SOURCES = {
    "name": "this book",
    "method": "the paper",
    "images": "abstract, README",
    "train_split": "datasets.py",
    "test_split": "datasets.py",
    "clusters": "model.py, datasets.py",
    "backbone": "graphs.py",
    "views": "datasets.py; flipped after the crop here, before it there",
    "views.plain_size": "datasets.py: the whole image",
    "settings.small_views": "datasets.py",
    "settings": "model.py, costs.py",
    "settings.hidden": "graphs.py",
    "settings.large": "README",
    "settings.small": "README",
    "settings.prototypes": "train.py",
    "settings.temperature": "README",
    "settings.epsilon": "train.py",
    "settings.frozen_steps": "train.py: counted in steps, whatever the help text says",
    "settings.one_pass": "model.py: each view alone",
    "settings.bank": "model.py",
    "training": "README",
    "training.epochs": "train.py",
    "training.constant_epochs": "not used",
    "training.weight_decay": "README and code, 1e-5; the README's first version had 1e-4",
    "training.schedule": "task_train.py",
    "training.milestones": "task_train.py: epochs 150, 300 and 400 of 500",
    "training.decay": "task_train.py",
    "training.betas": "task_train.py",
    "protocol": "this book: k-means on the features, beside the classifier",
    "protocol.fit_split": "this book: the training images, also of the batch-norm statistics",
    "start": "random, as the paper",
}


def _views(
    large: int,
    small: int,
    plain: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[Augmentation, Augmentation]:
    """The large and the small view of one data set."""
    views = Augmentation(
        size=large,
        plain_size=plain,
        crop_scale=(0.2, 1.0),
        flip=0.5,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        jitter=0.8,
        grey=0.25,
        mean=mean,
        std=std,
    )
    return views, replace(views, size=small, crop_scale=(0.08, 0.4))


_CIFAR10_VIEWS, _CIFAR10_CROPS = _views(
    28, 18, 32, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
)
_CIFAR100_VIEWS, _CIFAR100_CROPS = _views(
    28, 18, 32, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
)
_STL_VIEWS, _STL_CROPS = _views(76, 52, 96, (0.43, 0.42, 0.39), (0.27, 0.26, 0.27))
_TINY_VIEWS, _TINY_CROPS = _views(56, 36, 64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


_CIFAR10 = Experiment(
    name="cifar10/imc-swav",
    method="imc-swav",
    images="cifar10",
    train_split="train",
    test_split="test",
    backbone="resnet18-cifar",
    clusters=10,
    views=_CIFAR10_VIEWS,
    settings=IMCSwAVSettings(small_views=_CIFAR10_CROPS),
    training=TrainConfig(
        epochs=500,
        batch_size=256,
        learning_rate=5e-4,
        weight_decay=1e-5,
        constant_epochs=0,
        schedule="milestones",
        milestones=(0.3, 0.6, 0.8),
        decay=0.4,
        warmup_steps=500,
        betas=(0.8, 0.999),
    ),
    protocol=KMeansProtocol(fit_split="train"),
    sources=_SOURCES,
)
_CIFAR20 = replace(
    _CIFAR10,
    name="cifar100-20/imc-swav",
    images="cifar100-20",
    clusters=20,
    views=_CIFAR100_VIEWS,
    settings=IMCSwAVSettings(small_views=_CIFAR100_CROPS),
)
_CIFAR100 = replace(
    _CIFAR20,
    name="cifar100/imc-swav",
    images="cifar100",
    clusters=100,
    training=replace(_CIFAR10.training, batch_size=512),
)
_STL10 = replace(
    _CIFAR10,
    name="stl10/imc-swav",
    images="stl10",
    train_split="train+unlabeled",
    backbone="resnet18-stl",
    views=_STL_VIEWS,
    settings=IMCSwAVSettings(bank=True, small_views=_STL_CROPS),
    sources={
        **_SOURCES,
        "train_split": "model.py; the classifier learns on the labelled part alone, see bank",
    },
)
_TINY = replace(
    _CIFAR10,
    name="tiny-imagenet/imc-swav",
    images="tiny-imagenet",
    backbone="resnet18-stl",
    clusters=200,
    views=_TINY_VIEWS,
    settings=IMCSwAVSettings(small_views=_TINY_CROPS),
    training=replace(_CIFAR10.training, batch_size=512),
)

# --- for two CPU cores --------------------------------------------------------------------------

_OURS = {
    **_SOURCES,
    "backbone": "this book, for two CPU cores",
    "views": "this book: chosen by the accuracy of digits/imc-swav, seeds 0 and 1",
    "views.plain_size": "this book: the size of the views",
    "settings.small_views": "this book: chosen by the accuracy of digits/imc-swav, seeds 0 and 1",
    "settings.small": "this book, for two CPU cores",
    "settings.hidden": "this book, for two CPU cores",
    "settings.prototypes": "this book: chosen by the accuracy of digits/imc-swav, seeds 0 and 1",
    "settings.frozen_steps": "this book, for a short training",
    "training.epochs": "this book, for two CPU cores",
    "training.batch_size": "this book: chosen by the accuracy of digits/imc-swav, seeds 0 and 1",
    "training.learning_rate": "this book: chosen by the accuracy of digits/imc-swav, seeds 0 and 1",
    "training.warmup_steps": "this book, for a short training",
}
_DIGITS = replace(
    _CIFAR10,
    name="digits/imc-swav",
    images="digits",
    train_split="train+test",
    test_split="train+test",
    backbone="small",
    views=replace(DIGITS_VIEWS, crop_scale=(0.8, 1.0)),
    settings=IMCSwAVSettings(
        prototypes=60,
        small=2,
        hidden=256,
        frozen_steps=20,
        small_views=replace(DIGITS_VIEWS, crop_scale=(0.5, 0.9)),
    ),
    training=replace(
        _CIFAR10.training, epochs=40, batch_size=128, learning_rate=2e-3, warmup_steps=20
    ),
    protocol=KMeansProtocol(fit_split="train+test"),
    sources={
        **_OURS,
        "images": "scikit-learn, load_digits",
        "train_split": "this book: all images, as there is no official split",
        "test_split": "this book: all images, as there is no official split",
        "protocol.fit_split": "this book: all images",
    },
)
_MNIST_SMALL = replace(
    _DIGITS,
    name="mnist/imc-swav-small",
    images="mnist",
    train_split="train",
    test_split="test",
    settings=replace(_DIGITS.settings, prototypes=100, frozen_steps=100),
    training=replace(_DIGITS.training, epochs=14, batch_size=256, warmup_steps=100),
    protocol=KMeansProtocol(fit_split="train"),
    sources={**_OURS, "training.epochs": "this book: chosen by the accuracy of seeds 0 and 1"},
)
_FASHION = replace(
    _MNIST_SMALL,
    name="fashion-mnist/imc-swav",
    images="fashion-mnist",
    training=replace(_MNIST_SMALL.training, epochs=6, snapshots=(0, 1, 3)),
    sources={**_OURS, **FASHION_SOURCES},
)
_CIFAR10_SMALL = replace(
    _CIFAR10,
    name="cifar10/imc-swav-small",
    backbone="small-resnet18",
    settings=replace(_CIFAR10.settings, small=2, prototypes=300, hidden=256, frozen_steps=200),
    training=replace(
        _CIFAR10.training,
        epochs=70,
        learning_rate=1e-3,
        warmup_steps=200,
        snapshots=(0, 1, 2, 5, 10, 20, 40),
    ),
    sources={**_OURS, "views": _SOURCES["views"], "views.plain_size": _SOURCES["views.plain_size"]},
)

EXPERIMENTS: tuple[Experiment, ...] = (
    _DIGITS,
    _MNIST_SMALL,
    _FASHION,
    _CIFAR10_SMALL,
    _CIFAR10,
    _CIFAR20,
    _CIFAR100,
    _STL10,
    _TINY,
)
