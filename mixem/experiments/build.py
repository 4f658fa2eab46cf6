"""From an experiment to its untrained method, its images, and the experiment it starts from."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from mixem.data import SHAPES, ImageSet, load_images, network_of, own_path
from mixem.distributed import leads, wait
from mixem.errors import InputError, memory_is_full, printable
from mixem.experiments.settings import Experiment
from mixem.features import load_vectors
from mixem.methods import METHODS, Method
from mixem.models import make_backbone

__all__ = ["Sets", "build", "load_sets", "loader", "picture_size", "start_of"]

MOST_CHANNELS = 4  # of pictures; features have more numbers


@dataclass(frozen=True)
class Sets:
    """The images of a run.

    Attributes:
        train: Trained on, and what gives the run its name.
        passes: Images of the passes that have others, by the name of the pass.
        test: Scored.
        fit: What k-means is fitted on, or whose labels map clusters to classes.
    """

    train: ImageSet
    passes: Mapping[str, ImageSet]
    test: ImageSet
    fit: ImageSet

    def of(self, method: Method) -> dict[str, ImageSet]:
        """The images of each pass of a method."""
        return {name: self.passes.get(name, self.train) for name in method.passes}

    @property
    def fit_apart(self) -> ImageSet | None:
        """``fit`` if it is not what is scored."""
        return None if self.fit.fingerprint == self.test.fingerprint else self.fit

    def all(self) -> list[ImageSet]:
        """Each set once."""
        sets = (self.train, *self.passes.values(), self.test, self.fit)
        return list({id(images): images for images in sets}.values())


def load_sets(experiment: Experiment, load: Callable[[str], ImageSet]) -> Sets:
    """The images of an experiment; of several processes the first one prepares the files.

    Args:
        experiment: Names the splits.
        load: From a split to its images.

    Raises:
        InputError: If there are fewer images than clusters, or too few to begin with.
    """
    own = experiment.settings.splits()
    fit = experiment.protocol.fit_split
    splits = (experiment.train_split, *own.values(), experiment.test_split, fit)
    if not leads():
        wait()  # what the first process downloads or prepares, the others find
    loaded = {split: load(split) for split in dict.fromkeys(splits)}
    if leads():
        wait()
    fewest = min(map(len, loaded.values()))
    if experiment.clusters > fewest and METHODS[experiment.method].sorts == "images":
        raise InputError(f"{experiment.clusters} clusters for {fewest} images; give fewer clusters")
    return Sets(
        train=loaded[experiment.train_split],
        passes={name: loaded[split] for name, split in own.items()},
        test=loaded[experiment.test_split],
        fit=loaded[fit],
    )


def loader(
    experiment: Experiment,
    *,
    images: ImageSet | Mapping[str, ImageSet] | None = None,
    root: str | Path | None = None,
    download: bool = False,
) -> Callable[[str], ImageSet]:
    """How a split of an experiment is loaded.

    Args:
        experiment: Names the images.
        images: In memory, instead: all of them, or by split.
        root: Folder of the data sets; see :func:`mixem.data.load_images`.
        download: Fetch the data set if it is not there.
    """

    def load(split: str) -> ImageSet:
        if isinstance(images, ImageSet):
            return images
        if images is not None:
            if split not in images:
                raise InputError(
                    f"images has no {split!r}; {experiment.name} wants it: give a mapping with "
                    f"it, or change the split (there are {', '.join(images) or 'none'})"
                )
            return images[split]
        if network_of(experiment.images)[1]:
            found = load_vectors(
                experiment.images, split=split, root=root, download=download and leads()
            )
        else:
            found = load_images(
                experiment.images,
                split=split,
                root=root,
                download=download and leads(),
                size=picture_size(experiment),
                pad=experiment.views.pad,
            )
        if found.skipped and leads():
            files, (name, why) = len(found) + len(found.skipped), found.skipped[0]
            warnings.warn(
                f"{len(found.skipped)} of {files} files in {found.name} cannot be read and are "
                f"left out, such as {printable(name)}: {why}",
                stacklevel=2,
            )
        return found

    return load


def picture_size(experiment: Experiment) -> int | None:
    """Side in pixels to which pictures of a folder are decoded; None for other images.

    That of the views. A recipe whose crops are so many pixels wide gets pictures of the side that
    it was made for, so that there is something to cut off.
    """
    from mixem.experiments import EXPERIMENTS  # which are made of this package's modules

    if not own_path(experiment.images)[0] or network_of(experiment.images)[1]:
        return None
    views = experiment.views
    made_for = EXPERIMENTS[experiment.name].images if experiment.name in EXPERIMENTS else ""
    own = SHAPES[made_for][1] if views.crop_sides and made_for in SHAPES else 0
    return max(views.size, views.plain_size or 0, own)


def build(experiment: Experiment, *, channels: int, seed: int) -> Method:
    """The untrained method of an experiment, its weights drawn from the seed.

    Raises:
        InputError: If the backbone does not take the images.
    """
    if (experiment.backbone == "vectors") != (channels > MOST_CHANNELS):
        raise InputError(
            f"the backbone {experiment.backbone} with {experiment.images}; features go with the "
            "backbone vectors and a name such as cifar10@efficientnet-lite0, pictures with others"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed is for GPUs as well
        backbone = make_backbone(
            experiment.backbone, in_channels=channels, size=experiment.views.size
        )
        method = METHODS[experiment.method](
            backbone, experiment.views, experiment.settings, clusters=experiment.clusters
        )
    method.channels = channels
    backbone.eval()
    for size in method.view_sizes() - {experiment.views.size}:
        try:
            with torch.no_grad():
                backbone(torch.zeros(2, channels, size, size))
        except RuntimeError as error:
            if memory_is_full(error):
                raise
            raise InputError(
                f"{experiment.backbone} for images of size {experiment.views.size} does not take "
                f"{size}; give all views one size, or a ResNet"
            ) from error
    return method.eval()


def start_of(experiment: Experiment) -> Experiment:
    """The experiment that ``experiment`` starts from.

    What they share is the method's to say.
    """
    from mixem.experiments import get

    start = get(str(experiment.start))
    common = METHODS[experiment.method].takes_start
    if common == "nothing":
        return start
    shared = ("images", "train_split", "test_split", "backbone", "clusters")
    views = experiment.views
    if common == "images":  # as the network sees them outside training, but drawn as the start says
        seen = ("size", "plain_side", "plain_size", "pad", "mean", "std")
        views = dataclasses.replace(start.views, **{name: getattr(views, name) for name in seen})
    return dataclasses.replace(
        start,
        views=views,
        protocol=dataclasses.replace(start.protocol, fit_split=experiment.protocol.fit_split),
        **{name: getattr(experiment, name) for name in shared},
    )
