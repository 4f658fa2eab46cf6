"""What an experiment consists of: frozen records of settings, every value with its source."""

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mixem.data import Augmentation
from mixem.errors import InputError
from mixem.evaluation import KMeansProtocol
from mixem.train_config import TrainConfig


@dataclass(frozen=True)
class SimCLRSettings:
    """What network and loss are made of; see :class:`mixem.methods.SimCLR`."""

    embedding_size: int = 32
    temperature: float = 0.5

    def __post_init__(self) -> None:
        if self.embedding_size < 1:
            raise InputError(f"embedding_size is {self.embedding_size}; give at least 1")
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; give a positive number")


@dataclass(frozen=True)
class MixEMSettings(SimCLRSettings):
    """What networks and losses are made of; see :class:`mixem.methods.MixEM`."""

    components: int = 10
    diversity_weight: float = 2.0
    confidence_weight: float = 0.1
    pull_weight: float = 0.1
    push_weight: float = 0.05
    confidence: str = "confidence"
    extra_projection: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components < 1:
            raise InputError(f"components is {self.components}; give at least 1")
        if self.confidence not in ("confidence", "entropy"):
            raise InputError(f"confidence is {self.confidence!r}; give 'confidence' or 'entropy'")


@dataclass(frozen=True)
class IICSettings:
    """What heads and loss are made of; see :class:`mixem.methods.IIC`."""

    over_clusters: int = 50
    sub_heads: int = 5
    repeats: int = 5
    passes: tuple[str, ...] = ("main", "main", "over")
    lamb: float = 1.0
    head_std: float | None = 0.01
    clear_steps: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.passes, list):  # as JSON has it
            object.__setattr__(self, "passes", tuple(self.passes))
        for name, least in (
            ("over_clusters", 2), ("sub_heads", 1), ("repeats", 1), ("clear_steps", 0),
        ):  # fmt: skip
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}; give at least {least}")
        if "main" not in self.passes or any(name not in ("main", "over") for name in self.passes):
            raise InputError(f"passes are {self.passes!r}; give 'main', and 'over' if wanted")
        if not 0 <= self.lamb < math.inf:
            raise InputError(f"lamb is {self.lamb}; give a number from 0 on")
        if self.head_std is not None and not 0 <= self.head_std < math.inf:
            raise InputError(f"head_std is {self.head_std}; give a number from 0 on, or None")


@dataclass(frozen=True)
class FinetuneSettings:
    """What the classifier is made of; see :class:`mixem.methods.Finetune`."""

    hidden: int = 2048
    trunk_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise InputError(f"hidden is {self.hidden}; give at least 1")
        if not 0 <= self.trunk_rate < math.inf:
            raise InputError(f"trunk_rate is {self.trunk_rate}; give a number from 0 on")


@dataclass(frozen=True)
class IMCSwAVSettings:
    """What networks and losses are made of; see :class:`mixem.methods.IMCSwAV`."""

    large: int = 2
    small: int = 4
    embedding_size: int = 128
    hidden: int = 1024
    prototypes: int = 1000
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    entropy_weight: float = 4.0
    penalty_weight: float = 0.01
    frozen_steps: int = 500
    one_pass: bool = False
    bank: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("large", 2), ("small", 0), ("embedding_size", 1), ("hidden", 1), ("prototypes", 2),
            ("iterations", 0), ("entropy_weight", 0), ("penalty_weight", 0), ("frozen_steps", 0),
        ):  # fmt: skip
            if not least <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give at least {least}")
        for name in ("temperature", "epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give a positive number")


SETTINGS: dict[str, Any] = {  # by method
    "simclr": SimCLRSettings,
    "mixem": MixEMSettings,
    "iic": IICSettings,
    "imc-swav": IMCSwAVSettings,
    "finetune": FinetuneSettings,
}


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run but the seed.

    Attributes:
        name: ``images/method``, perhaps with a variant.
        method: "simclr", "mixem", "iic", "imc-swav" or "finetune".
        images: What :func:`mixem.data.load_images` calls them.
        train_split: Images trained on, without labels; with labels by "finetune".
        test_split: Images scored.
        backbone: A key of :data:`mixem.models.BACKBONES`.
        clusters: Number k of clusters, the number of classes of the data.
        views: How training views are drawn.
        settings: Of the method, an instance of ``SETTINGS[method]``.
        training: Of the optimiser.
        protocol: The k-means behind the main number, for methods without clusters of their own.
        mapping: How clusters get a class when they are scored, for methods with clusters of
            their own: "one-to-one", or, for IIC, "majority" of the labels of
            ``protocol.fit_split``.
        plain_views: How IIC's plain view is drawn, at the size of the others; None for the central
            square.
        small_views: How IMC-SwAV's small views are drawn; None for none.
        over_split: Images of IIC's overclustering passes; None for those of ``train_split``.
        start: Experiment whose run of the same seed gives the backbone's start; None is random.
            "finetune" takes it with its own images, views and backbone.
        sources: Where each value comes from, by its path, such as ``training.epochs``.
    """

    name: str
    method: Literal["simclr", "mixem", "iic", "imc-swav", "finetune"]
    images: str
    train_split: str
    test_split: str
    backbone: str
    clusters: int
    views: Augmentation
    settings: Any
    training: TrainConfig
    protocol: KMeansProtocol
    start: str | None = None
    mapping: Literal["one-to-one", "majority"] = "one-to-one"
    plain_views: Augmentation | None = None
    small_views: Augmentation | None = None
    over_split: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise InputError(f"{self.clusters} clusters; give at least 1")
        if self.method not in SETTINGS:
            raise InputError(f"method is {self.method!r}; give one of {', '.join(SETTINGS)}")
        if type(self.settings) is not SETTINGS[self.method]:
            raise InputError(
                f"{self.method} with {type(self.settings).__name__}; "
                f"give {SETTINGS[self.method].__name__}"
            )
        if self.mapping not in ("one-to-one", "majority"):
            raise InputError(f"mapping is {self.mapping!r}; give 'one-to-one' or 'majority'")

    def values(self) -> dict[str, Any]:
        """All settings by path, such as ``{"training.epochs": 200, ...}``, sources left out."""
        return dict(_leaves(self))

    def source(self, path: str) -> str:
        """Where the value at ``path`` comes from; a group's source serves its members."""
        return self.sources.get(path) or self.sources[path.split(".")[0]]

    def on(self, images: str, *, split: str | None = None) -> "Experiment":
        """This experiment on other images, which serve for training and, with labels, for scores.

            >>> from mixem.experiments import get
            >>> get("digits/simclr").on("folder:photos").override(clusters=3).train_split
            'all'

        Args:
            images: Such as ``folder:PATH``; see :func:`mixem.data.load_images`.
            split: By default all of them.
        """
        split = split or whole(images)
        return self.override(
            images=images,
            train_split=split,
            test_split=split,
            protocol__fit_split=split,
            over_split=None,
        )

    def override(self, **changes: Any) -> "Experiment":
        """This experiment with other values, given by path with a double underscore for the dot.

            >>> from mixem.experiments import get
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


def whole(images: str) -> str:
    """The split that is all of a set of images, or of a folder."""
    return "all" if images.startswith("folder:") else "train+test"


OPTIONAL = {  # what may be None, wherever it stands, and what it is otherwise
    "start": str, "plain_views": Augmentation, "small_views": Augmentation, "over_split": str,
    "crop_scale": tuple, "scale": tuple, "blur_kernel": int, "plain_side": int,
    "plain_size": int, "head_std": float, "cutout_width": float,
}  # fmt: skip


def _like(path: str, value: Any, old: Any) -> Any:
    """``value`` if it is of the same type as the old one.

    A whole number will do for any number, a list or a single value for a tuple.
    """
    name = path.split(".")[-1]
    if value is None and name in OPTIONAL:
        return None
    kind = OPTIONAL[name] if old is None else type(old)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list | int | float | str):
        return tuple(value) if isinstance(value, list) else (value,)
    if type(value) is not kind:
        like = "" if old is None else f" like {old!r}"
        raise InputError(
            f"{path} is {value!r}, of type {type(value).__name__}; give a {kind.__name__}{like}"
        )
    return value


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in dataclasses.fields(value):
        inner = getattr(value, item.name)
        if dataclasses.is_dataclass(inner):
            yield from _leaves(inner, f"{prefix}{item.name}.")
        elif item.name != "sources":
            yield f"{prefix}{item.name}", inner
