"""What an experiment consists of: a frozen record of settings, every value with its source."""

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Literal, get_origin

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation, ImageSet, network_of, own_path
from mixem.errors import InputError
from mixem.methods import METHODS
from mixem.schema import from_json, hints, kinds, to_json
from mixem.training.config import TrainConfig

__all__ = ["Experiment", "all_from", "whole"]

LARGEST = 2**53  # of a whole number: the last up to which float and int are the same
MOST_STARTS = 100_000  # of k-means: more would not end
LARGEST_VIEW = 4096  # pixels of a side: a batch of larger ones fills every memory
SIDES = ("size", "plain_side", "plain_size", "crop_sides")  # of views


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run but the seed.

    Attributes:
        name: ``images/method``, perhaps with a variant.
        method: A key of ``mixem.methods.METHODS``.
        images: What :func:`mixem.data.load_images` calls them.
        train_split: Images trained on, without labels but by "finetune".
        test_split: Images scored.
        backbone: A key of ``mixem.models.BACKBONES``.
        clusters: Number k of clusters, the number of classes of the data.
        views: How training views are drawn.
        settings: Of the method, an instance of its ``Settings``.
        training: Of the optimiser.
        protocol: The k-means behind the main number, for methods without clusters of their own.
        start: Experiment whose run of the same seed gives the start; None is random weights.
        sources: Where each value comes from, by its path, such as ``training.epochs``.

    Raises:
        InputError: If the parts do not fit each other.
    """

    name: str
    method: str
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
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise InputError(f"{self.clusters} clusters; give at least 1")
        if self.method not in METHODS:
            raise InputError(f"method is {self.method!r}; give one of {', '.join(METHODS)}")
        method = METHODS[self.method]
        if type(self.settings) is not method.Settings:
            raise InputError(
                f"{self.method} with {type(self.settings).__name__}; "
                f"give {method.Settings.__name__}"
            )
        if method.trains != bool(self.training.epochs):
            wanted = "at least 1" if method.trains else f"0, for {self.method} trains nothing"
            raise InputError(f"epochs is {self.training.epochs}; give {wanted}")
        if self.protocol.n_init > MOST_STARTS:
            raise InputError(
                f"{self.protocol.n_init} starts of k-means; give at most {MOST_STARTS}"
            )
        for path, value in self.values().items():
            sides = value if isinstance(value, tuple) else (value or 0,)
            if path.split(".")[-1] in SIDES and max(sides, default=0) > LARGEST_VIEW:
                raise InputError(f"{path} is {value}; give at most {LARGEST_VIEW} pixels")
        if self.start and not method.takes_start:
            raise InputError(f"{self.method} begins from random weights; leave start out")
        if self.protocol.init == "components" and not method.has_components:
            raise InputError(
                f"{method.__name__} has no components; give 'k-means++' as protocol.init"
            )

    def values(self) -> dict[str, Any]:
        """All settings by path, such as ``{"training.epochs": 200, ...}``, sources left out."""
        return dict(_leaves(self))

    def source(self, path: str) -> str:
        """Where the value at ``path`` comes from.

        A group's source serves its members, but for those with a default that has its own.
        """
        if path in self.sources:
            return self.sources[path]
        *groups, name = path.split(".")
        owner: Any = self
        for group in groups:
            owner = getattr(owner, group)
        (own,) = [item for item in dataclasses.fields(owner) if item.name == name]
        if "source" in own.metadata and getattr(owner, name) == own.default:
            return own.metadata["source"]
        while groups:
            if ".".join(groups) in self.sources:
                return self.sources[".".join(groups)]
            groups.pop()
        raise KeyError(f"{self.name} names no source of {path}")

    def on(self, images: str | ImageSet, *, split: str | None = None) -> "Experiment":
        """This experiment on other images, which serve for training and, with labels, for scores.

            >>> from mixem.experiments import get
            >>> get("digits/simclr").on("folder:photos").override(clusters=3).train_split
            'all'

        Args:
            images: Such as ``folder:PATH``; see :func:`mixem.data.load_images`. Or images in
                memory, which :func:`mixem.runs.run` then has to be given too. An experiment on
                features takes those of the same network, unless another one is named.
            split: By default all of them.
        """
        name = images.name if isinstance(images, ImageSet) else images
        if isinstance(images, ImageSet):
            split = images.split
        elif (network := network_of(self.images)[1]) and not network_of(name)[1]:
            name = f"{name}@{network}"
        split = split or whole(name)
        changed = replace(self, settings=self.settings.elsewhere())
        return changed.override(
            images=name, train_split=split, test_split=split, protocol__fit_split=split
        )

    def override(self, changes: Mapping[str, Any] | None = None, /, **more: Any) -> "Experiment":
        """This experiment with other values, all changed at once and then checked together.

            >>> from mixem.experiments import get
            >>> get("digits/mixem").override(training__epochs=2).training.epochs
            2
            >>> get("digits/mixem").override({"training.epochs": 2}).training.epochs
            2

        Args:
            changes: Values by path, such as ``{"training.epochs": 2}``.
            **more: Likewise, with a double underscore for the dot.

        Raises:
            InputError: If a name does not exist; the message lists the names.
        """
        wanted = {**(changes or {}), **{k.replace("__", "."): v for k, v in more.items()}}
        tree: dict[str, Any] = {}
        for path, value in wanted.items():
            self._require_known(path)
            if any(other.startswith(f"{path}.") for other in wanted):
                raise InputError(f"{path} is given as a whole and in parts; give one of the two")
            *groups, name = path.split(".")
            branch = tree
            for group in groups:
                branch = branch.setdefault(group, {})
            branch[name] = _Leaf(value)
        changed = _rebuilt(self, tree, "")
        sources = {**self.sources, **dict.fromkeys(wanted, "changed for this run")}
        return replace(changed, sources=sources)

    def _require_known(self, path: str) -> None:
        known = self.values()
        groups = {".".join(p.split(".")[:i]) for p in known for i in range(1, p.count(".") + 1)}
        known = {name: None for name in (*known, *groups) if name != "name"}
        if path not in known:
            near = difflib.get_close_matches(path, known, n=1)
            raise InputError(
                f"{self.name} has no setting {path!r} to change; "
                + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}")
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them, sources left out."""
        values = to_json(replace(self, sources={}))
        del values["sources"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Experiment":
        """Undo :meth:`to_dict`.

        Raises:
            InputError: If the settings are those of another version of mixem.
        """
        try:
            settings = from_json(METHODS[values["method"]].Settings, values["settings"], "settings")
            return from_json(cls, {**values, "settings": settings})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"settings of another version of mixem ({error}); train again"
            ) from error


def all_from(source: str) -> dict[str, str]:
    """The sources of an experiment whose values are all from one place."""
    names = (item.name for item in dataclasses.fields(Experiment))
    return {name: source for name in names if name != "sources"}


def whole(images: str) -> str:
    """The split that is all of a set of images, or of a folder."""
    return "all" if own_path(images)[0] else "train+test"


@dataclass(frozen=True)
class _Leaf:
    """A value to be set, told from a group of them."""

    value: Any


def _rebuilt(old: Any, tree: Mapping[str, Any], prefix: str) -> Any:
    """A dataclass with the values of a tree, made once."""
    values, annotations = {}, hints(old.__class__)
    for name, branch in tree.items():
        path, present = f"{prefix}{name}", getattr(old, name)
        if isinstance(branch, _Leaf):
            values[name] = _like(path, branch.value, present, annotations[name])
        else:
            values[name] = _rebuilt(present, branch, f"{path}.")
    return replace(old, **values)


def _like(path: str, value: Any, old: Any, hint: Any) -> Any:
    """``value`` if it is of the type that its place asks for.

    A whole number will do for any number, a list or a single value for a tuple.
    """
    allowed = [get_origin(kind) or kind for kind in kinds(hint)]
    if value is None and NoneType in allowed:
        return None
    kind = next(kind for kind in allowed if kind is not NoneType)
    if kind in (Any, Literal):  # its owner checks the value
        kind = type(old)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= LARGEST else value
    if kind is tuple and isinstance(value, list | int | float | str):
        value = tuple(value) if isinstance(value, list) else (value,)
    if type(value) is not kind:
        like = "" if old is None else f" like {old!r}"
        raise InputError(
            f"{path} is {value!r}, of type {type(value).__name__}; give a {kind.__name__}{like}"
        )
    for part in value if kind is tuple else (value,):
        if isinstance(part, bool) and kind is tuple:
            raise InputError(f"{path} is {value!r}, in which {part} is no number; give numbers")
        if isinstance(part, float) and not math.isfinite(part):
            raise InputError(f"{path} is {value!r}; give finite numbers")
        if isinstance(part, int) and abs(part) > LARGEST:
            raise InputError(f"{path} is {value!r}; give numbers up to {LARGEST}")
    return value


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in dataclasses.fields(value):
        inner = getattr(value, item.name)
        if dataclasses.is_dataclass(inner):
            yield from _leaves(inner, f"{prefix}{item.name}.")
        elif item.name != "sources":
            yield f"{prefix}{item.name}", inner
