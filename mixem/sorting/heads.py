"""Clusters of finished features: a run of the experiment ``pretrained/scan-sort`` on them."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixem.clustering.arrays import as_features
from mixem.data import ImageSet
from mixem.errors import InputError
from mixem.experiments import Experiment, get
from mixem.methods import extract
from mixem.runs import run

__all__ = ["HeadsResult", "recipe", "train_heads"]

EXPERIMENT = "pretrained/scan-sort"
FEWEST = 3  # neighbours, where clusters are small


class HeadsResult(NamedTuple):
    """What :func:`train_heads` found.

    Attributes:
        clusters: int64 ``(N,)``.
        logits: ``(N, k)``, logarithms of the mean probabilities of the heads that count.
        losses: ``(h,)``, of the finished heads, in nats; those with the lowest ones count.
    """

    clusters: NDArray[np.int64]
    logits: NDArray[np.float32]
    losses: NDArray[np.float32]


def recipe(images: ImageSet, k: int, *, heads: int = 20) -> Experiment:
    """The experiment that sorts these vectors.

    A picture has no more neighbours than half a cluster of average size.

    Args:
        images: Vectors.
        k: Clusters, from 2 to N / 4.
        heads: At least 2.

    Raises:
        InputError: If there are too few pictures.
    """
    n = len(images)
    if not 2 <= k <= n // 4 or heads < 2:
        raise InputError(
            f"{k} clusters and {heads} heads for {n} pictures; give 2 to {n // 4} clusters and at "
            "least 2 heads"
            if n >= 8
            else f"{n} pictures are too few to be sorted; give at least 8"
        )
    experiment = get(EXPERIMENT).on(images)
    neighbours = max(FEWEST, min(experiment.settings.neighbours, n // (2 * k)))
    return experiment.override(
        clusters=k,
        settings__heads=heads,
        settings__agreeing=min(experiment.settings.agreeing, heads),
        settings__neighbours=neighbours,
    )


def train_heads(
    images: ImageSet | ArrayLike | Tensor,
    k: int,
    *,
    heads: int = 20,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> HeadsResult:
    """Train linear heads that give a picture and its neighbours the same cluster, by SCAN's loss.

    Every head begins at the centres of a k-means, see
    ``mixem.methods.heads.begin_at_centres``. Those with the lowest losses count, so no
    label is needed.

    Args:
        images: Vectors, or an array ``(N, D)`` of them.
        k: Clusters, from 2 to N / 4.
        heads: At least 2.
        seed: Of k-means, order and pairs.
        out: Folder of the run, which is read again, or gone on with, the next time; by default
            nothing is kept.
        progress: Show a bar.

    Raises:
        InputError: If the features are no finite matrix, or there are too few pictures.
    """
    if not isinstance(images, ImageSet):
        images = ImageSet.of_vectors(as_features(images))
    experiment = recipe(images, k, heads=heads)
    with tempfile.TemporaryDirectory() as folder:
        finished = run(
            experiment,
            seed=seed,
            images=images,
            out=out or Path(folder, "run"),
            device="cpu",
            progress=progress,
        )
    assert finished is not None  # it may take the time that it takes
    method = finished.method
    logits = extract(method, images.images, "assign").clamp_min(1e-30).log()
    return HeadsResult(
        clusters=logits.argmax(1).numpy(),
        logits=logits.numpy(),
        losses=method.get_buffer("losses").numpy(),
    )
