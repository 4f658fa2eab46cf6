"""The experiments by name: one frozen record of settings each, every value with its source."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.evaluation import KMeansProtocol
from mixem.train import TrainConfig


@dataclass(frozen=True)
class MethodSettings:
    """What the networks and losses are made of; see :class:`mixem.methods.MixEM`.

    SimCLR uses the first two; the rest is MIX'EM's.
    """

    embedding_size: int = 32
    temperature: float = 0.5
    components: int = 10
    diversity_weight: float = 2.0
    confidence_weight: float = 0.1
    pull_weight: float = 0.1
    push_weight: float = 0.05
    confidence: str = "confidence"
    extra_projection: bool = False

    def __post_init__(self) -> None:
        if self.embedding_size < 1 or self.components < 1:
            raise InputError(
                f"embedding_size {self.embedding_size}, components {self.components}; "
                "give at least 1 of each"
            )
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; give a positive number")
        if self.confidence not in ("confidence", "entropy"):
            raise InputError(f"confidence is {self.confidence!r}; give 'confidence' or 'entropy'")


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run but the seed.

    Attributes:
        name: ``images/method``, perhaps with a variant.
        method: "simclr" or "mixem".
        images: What :func:`mixem.data.load_images` calls them.
        train_split: Images trained on, without labels.
        test_split: Images scored.
        backbone: A key of :data:`mixem.models.BACKBONES`.
        clusters: Number k of clusters, the number of classes of the data.
        views: How training views are drawn.
        settings: Of the method.
        training: Of the optimiser.
        protocol: The k-means behind the main number.
        start: Experiment whose run of the same seed gives the backbone's start; None is random.
        sources: Where each value comes from, by its path, such as ``training.epochs``.
    """

    name: str
    method: Literal["simclr", "mixem"]
    images: str
    train_split: str
    test_split: str
    backbone: str
    clusters: int
    views: Augmentation
    settings: MethodSettings
    training: TrainConfig
    protocol: KMeansProtocol
    start: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise InputError(f"{self.clusters} clusters; give at least 1")
        if self.method not in ("simclr", "mixem"):
            raise InputError(f"method is {self.method!r}; give 'simclr' or 'mixem'")

    def values(self) -> dict[str, Any]:
        """All settings by path, such as ``{"training.epochs": 200, ...}``, sources left out."""
        return dict(_leaves(self))

    def source(self, path: str) -> str:
        """Where the value at ``path`` comes from; a group's source serves its members."""
        return self.sources.get(path) or self.sources[path.split(".")[0]]

    def override(self, **changes: Any) -> "Experiment":
        """This experiment with other values, given by path with a double underscore for the dot.

            >>> get("digits/mixem").override(training__epochs=2).training.epochs
            2

        Raises:
            InputError: If a name does not exist; the message lists the names.
        """
        changed, known = self, self.values()
        del known["name"]
        for name, value in changes.items():
            path = name.replace("__", ".")
            if path not in known:
                near = difflib.get_close_matches(path, known, n=1)
                raise InputError(
                    f"{self.name} has no setting {path!r} to change; "
                    + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}")
                )
            value = _like(path, value, known[path])
            outer, _, inner = path.partition(".")
            if inner:
                value = replace(getattr(changed, outer), **{inner: value})
            changed = replace(
                changed,
                **{outer: value},
                sources={**changed.sources, path: "changed for this run"},
            )
        return changed


OPTIONAL = ("start", "views.crop_scale", "views.scale", "views.blur_kernel")  # may be None


def _like(path: str, value: Any, old: Any) -> Any:
    """``value`` if it is of the same type as the old one; a whole number will do for any number."""
    if value is None and path in OPTIONAL:
        return None
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and type(value) is not type(old):
        raise InputError(
            f"{path} is {value!r}, of type {type(value).__name__}; "
            f"give a {type(old).__name__} like {old!r}"
        )
    return value


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in dataclasses.fields(value):
        inner = getattr(value, item.name)
        if dataclasses.is_dataclass(inner):
            yield from _leaves(inner, f"{prefix}{item.name}.")
        elif item.name != "sources":
            yield f"{prefix}{item.name}", inner


def get(name: str) -> Experiment:
    """The experiment called ``name``.

    Raises:
        InputError: If there is none; the message names the closest ones.
    """
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see python -m mixem list"
        raise InputError(f"there is no experiment {name!r}; {hint}")
    return EXPERIMENTS[name]


# --- digits: ours, small enough for two CPU cores -----------------------------------------------

_DIGITS_SOURCES = {
    "name": "this book",
    "method": "this book",
    "images": "scikit-learn, load_digits",
    "train_split": "this book: all images, as there is no official split",
    "test_split": "this book: all images, as there is no official split",
    "backbone": "this book: chosen by the accuracy of digits/simclr, seeds 0 to 3",
    "clusters": "the ten digits",
    "views": "this book: chosen by the accuracy of digits/simclr, seeds 0 to 3",
    "settings.temperature": "this book: chosen by the accuracy of digits/simclr, seeds 0 to 3",
    "settings": "MIX'EM; SimCLR does not use it",
    "settings.embedding_size": "MIX'EM, config.yaml: out_dim",
    "training": "this book, chosen for two CPU cores",
    "protocol": "MIX'EM, cluster_eval.py",
    "protocol.fit_split": "this book: all images",
    "start": "MIX'EM, README: --init_from a SimCLR run",
}
_DIGITS_VIEWS = Augmentation(
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
_DIGITS_SIMCLR = Experiment(
    name="digits/simclr",
    method="simclr",
    images="digits",
    train_split="train+test",
    test_split="train+test",
    backbone="small",
    clusters=10,
    views=_DIGITS_VIEWS,
    settings=MethodSettings(temperature=1.0),
    training=TrainConfig(epochs=40, batch_size=256, learning_rate=1e-3, constant_epochs=5),
    protocol=KMeansProtocol(fit_split="train+test"),
    sources=_DIGITS_SOURCES,
)
_DIGITS_MIXEM = replace(
    _DIGITS_SIMCLR,
    name="digits/mixem",
    method="mixem",
    settings=MethodSettings(),
    training=replace(_DIGITS_SIMCLR.training, epochs=60),
    protocol=KMeansProtocol(fit_split="train+test", init="components"),
    start="digits/simclr",
    sources={
        **_DIGITS_SOURCES,
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
    settings=MethodSettings(),
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
    settings=MethodSettings(components=20),
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
        training=replace(experiment.training, epochs=500),
        protocol=replace(experiment.protocol, init="k-means++"),
        start=None,
        sources={
            **experiment.sources,
            "method": "abstract: SimCLR and k-means on normalised representations",
            "settings": "as MIX'EM; the released code cannot train plain SimCLR",
            "training": "as MIX'EM; not documented",
            "training.epochs": "this book; not documented",
            "start": "abstract",
        },
    )


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        _DIGITS_SIMCLR,
        _DIGITS_MIXEM,
        *(e for base in (_STL10, _CIFAR10, _CIFAR20) for e in (_simclr_of(base), base)),
    )
}
