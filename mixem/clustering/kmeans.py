"""k-means with its whole protocol written out.

How well k-means does on a network's features depends on switches that papers often leave out:
which layer, normalised or not, on which split, how many starts and iterations, and how the
centres start. MIX'EM starts them from its components (MIX'EM, official cluster_eval.py).
"""

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize

from mixem.clustering.arrays import as_features, as_integers, require_whole
from mixem.errors import InputError

__all__ = [
    "KMeansProtocol",
    "KMeansResult",
    "assign_to_centres",
    "component_centres",
    "kmeans",
    "kmeans_starts",
    "normalise_rows",
]

SEEDS = 2**32 - 1  # scikit-learn's greatest


@dataclass(frozen=True)
class KMeansProtocol:
    """Everything that decides a k-means result besides the data and the seed.

    Attributes:
        layer: Which output of the network is clustered: the backbone's ``features`` or the
            head's ``embeddings``. For the caller, who extracts them.
        normalise: Divide every row by its Euclidean length first.
        fit_split: The split the centres are fitted on. For the caller, who loads it. The official
            code of MIX'EM fits and scores on the test images.
        n_init: Number of k-means++ starts, of which the one with the smallest inertia is kept.
            With ``init="components"`` there is exactly one start.
        max_iter: Most iterations per start. The official code stops after 10, which may be
            before convergence.
        init: ``k-means++``, or ``components`` for the means of MIX'EM's components.
        empty: What happens when fewer than k components hold an image: ``farthest`` fills the
            missing centres by a rule (see ``component_centres``), ``error`` refuses.
    """

    layer: Literal["features", "embeddings"] = "features"
    normalise: bool = True
    fit_split: str = "test"
    n_init: int = 50
    max_iter: int = 10
    init: Literal["k-means++", "components"] = "k-means++"
    empty: Literal["farthest", "error"] = "farthest"

    def __post_init__(self) -> None:
        allowed = {
            "layer": ("features", "embeddings"),
            "init": ("k-means++", "components"),
            "empty": ("farthest", "error"),
        }
        for field, choices in allowed.items():
            if getattr(self, field) not in choices:
                raise InputError(
                    f"k-means {field} is {getattr(self, field)!r}: choose {' or '.join(choices)}"
                )
        for field in ("n_init", "max_iter"):
            require_whole(getattr(self, field), f"k-means {field}", lowest=1)


@dataclass(frozen=True, eq=False)
class KMeansResult:
    """What k-means found.

    Attributes:
        centres: (k, D) float64, in normalised coordinates if the protocol normalises.
        clusters: (N,) int64 in 0..k-1, the nearest centre of each row.
        inertia: Sum of the squared distances of the rows to their centres.
        variance: Inertia / (N D), the mean squared distance per dimension.
        iterations: Iterations run by the start that was kept.
        used_clusters: Clusters that hold a row. Below k when there are fewer distinct rows than
            k, as after a collapse; scikit-learn would only warn.
        empty_components: Centres that no component could supply, 0 for k-means++.
    """

    centres: NDArray[np.float64]
    clusters: NDArray[np.int64]
    inertia: float
    variance: float
    iterations: int
    used_clusters: int
    empty_components: int


def kmeans(
    x: ArrayLike | torch.Tensor,
    k: int,
    *,
    components: ArrayLike | torch.Tensor | None = None,
    seed: int = 0,
    protocol: KMeansProtocol | None = None,
    **changes: Any,
) -> KMeansResult:
    """Clusters the rows of ``x`` with scikit-learn's KMeans (Lloyd, tol 1e-4, float64).

    Args:
        x: (N, D) features, N >= k.
        k: Number of clusters.
        components: (N,) dominant component of each image, argmax of p, for ``init="components"``.
        seed: Seeds k-means++, 0 to 2^32 - 1. Without effect on ``init="components"``.
        protocol: The switches. Without it they have their defaults, and ``init`` is "components"
            if ``components`` are given.
        **changes: Fields of ``KMeansProtocol`` that replace those of the protocol, such as
            ``normalise=False``.

    Returns:
        The start with the smallest inertia.

    Raises:
        InputError: If k is not in 1..N, if ``x`` is not a finite (N, D) array, if the seed is none,
            if ``components`` are given but not asked for or the other way round, or, with
            ``empty="error"``, if fewer than k components hold an image.
        TypeError: If ``changes`` names no field of the protocol.
    """
    if protocol is None:
        protocol = KMeansProtocol(init="k-means++" if components is None else "components")
    protocol = replace(protocol, **changes)
    points = as_features(x)
    _check_k(k, len(points))
    require_whole(seed, "seed", lowest=0, highest=SEEDS)
    if protocol.normalise:
        points = normalise_rows(points)
    if protocol.init == "k-means++":
        if components is not None:
            raise InputError('components given but k-means init is "k-means++": drop one of them')
        return _fit(points, k, "k-means++", protocol.n_init, protocol.max_iter, seed, empty=0)
    if components is None:
        raise InputError(
            'k-means init is "components" but none are given: pass components=argmax p'
        )
    centres, empty = component_centres(points, k, components, empty=protocol.empty)
    return _fit(points, k, centres, 1, protocol.max_iter, seed, empty=empty)


def kmeans_starts(
    x: ArrayLike | torch.Tensor,
    k: int,
    starts: int,
    *,
    seed: int = 0,
    protocol: KMeansProtocol | None = None,
    **changes: Any,
) -> list[KMeansResult]:
    """Runs k-means++ ``starts`` times and returns every single start, not the best one.

    Shows how much one start differs from the next. Start i does not depend on how many there are.

    Args:
        x: (N, D) features.
        k: Number of clusters.
        starts: Number of starts; replaces the protocol's.
        seed: Seeds the starts, each with a number of its own.
        protocol: See ``kmeans``; its ``init`` must be "k-means++".
        **changes: See ``kmeans``.

    Returns:
        One result per start.

    Raises:
        InputError: See ``kmeans``; also if ``starts`` is below 1.
    """
    require_whole(starts, "k-means starts", lowest=1)
    require_whole(seed, "seed", lowest=0)
    protocol = replace(protocol or KMeansProtocol(), **changes, n_init=1)
    seeds = np.random.SeedSequence(seed).generate_state(starts)
    return [kmeans(x, k, seed=int(s), protocol=protocol) for s in seeds]


def component_centres(
    x: ArrayLike | torch.Tensor,
    k: int,
    components: ArrayLike | torch.Tensor,
    *,
    empty: Literal["farthest", "error"] = "farthest",
) -> tuple[NDArray[np.float64], int]:
    """Returns k centres, each the mean of the images of one component, and how many were missing.

    Centres are means of ``x`` as given: normalise before, the means are not normalised again. When
    more than k components hold images, the k most populated supply the centres (ties go to the
    lower number), in the order of their numbers; this is the official "frequency based" start for
    M != k. Otherwise centre c belongs to component c, if its number is below k.

    A missing centre is placed on the image farthest from its nearest existing centre, one after
    the other (ties go to the first image). Differs from the official code (cluster_eval.py):
    there each coordinate of a missing centre is drawn uniformly between the smallest and the
    largest entry of ``x`` from NumPy's global generator, and k-means fails when M != k.

    Args:
        x: (N, D) features, finite.
        k: Number of centres, in 1..N.
        components: (N,) dominant component of each image.
        empty: ``farthest`` as above; ``error`` raises instead.

    Returns:
        The centres, (k, D), and the number of centres placed by the rule.

    Raises:
        InputError: If the lengths differ, if k is not in 1..N, or with ``empty="error"`` if a
            centre is missing.
    """
    points = as_features(x)
    _check_k(k, len(points))
    dominant = as_integers(components, "components", lowest=0)
    if len(dominant) != len(points):
        raise InputError(f"{len(points)} images but {len(dominant)} components: give one per image")
    ids, counts = np.unique(dominant, return_counts=True)
    chosen = np.sort(ids[np.argsort(-counts, kind="stable")[:k]])
    missing = k - len(chosen)
    if missing and empty == "error":
        raise InputError(
            f"k-means needs {k} components that hold an image but only {len(chosen)} do: "
            'lower k or use empty="farthest"'
        )
    rows = chosen if chosen[-1] < k else np.arange(len(chosen))
    centres = np.zeros((k, points.shape[1]))
    for row, component in zip(rows, chosen, strict=True):
        centres[row] = points[dominant == component].mean(axis=0)
    nearest = cdist(points, centres[rows], "sqeuclidean").min(axis=1)
    for row in np.setdiff1d(np.arange(k), rows):
        centres[row] = points[nearest.argmax()]
        nearest = np.minimum(nearest, cdist(points, centres[row : row + 1], "sqeuclidean")[:, 0])
    return centres, missing


def assign_to_centres(
    x: ArrayLike | torch.Tensor,
    centres: ArrayLike | torch.Tensor,
    *,
    normalise: bool,
    variance: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Assigns new images to the nearest centre and says how sure that is.

    The probability is the posterior of the nearest centre in a mixture of k Gaussians of equal
    weight around the centres, each with covariance variance * identity:

        1 / sum_c exp(-(||x - mu_c||^2 - min_j ||x - mu_j||^2) / (2 variance))

    k-means is the limit of this mixture for small variance. In many dimensions the probability
    is close to 1 for most images: read it as an order of sureness, not as a calibrated chance.

    Args:
        x: (N, D) features.
        centres: (k, D), such as ``KMeansResult.centres``.
        normalise: Divide the rows of ``x`` by their length first; the same as when fitting.
        variance: At least 0, such as ``KMeansResult.variance``. With 0 the probability is 1, or
            shared equally by centres at the same distance.

    Returns:
        The clusters, (N,) int64, and the probability of each, (N,) in [1/k, 1].

    Raises:
        InputError: If the widths of ``x`` and ``centres`` differ, or ``variance`` is no number from
            0 on.
    """
    points, middles = as_features(x), as_features(centres, "centres")
    if points.shape[1] != middles.shape[1]:
        raise InputError(
            f"features have {points.shape[1]} columns but centres {middles.shape[1]}: "
            "use the layer that the centres were fitted on"
        )
    if not (isinstance(variance, Real) and variance >= 0):
        raise InputError(f"variance is {variance!r}: give a number from 0 on")
    if normalise:
        points = normalise_rows(points)
    distances = cdist(points, middles, "sqeuclidean")
    gaps = distances - distances.min(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # a huge gap over a tiny variance is rightly infinite
        exponents = np.divide(
            gaps, 2 * variance, out=np.where(gaps > 0, np.inf, 0.0), where=variance > 0
        )
    return distances.argmin(axis=1), 1 / np.exp(-exponents).sum(axis=1)


def normalise_rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divides every row by its Euclidean length; a row of zeros stays zero.

    Differs from MIX'EM's official code (cluster_eval.py), where a row of zeros becomes NaN and
    k-means then fails. Such rows exist: features are averages of ReLU outputs.

    Args:
        x: (N, D).

    Returns:
        (N, D) rows of length 1 or 0.
    """
    return np.asarray(normalize(x))


def _check_k(k: int, n: int) -> None:
    require_whole(k, "k", lowest=1)
    if k > n:
        raise InputError(f"k is {k} but there are only {n} images: lower k or give more images")


def _fit(
    points: NDArray[np.float64],
    k: int,
    init: Any,
    starts: int,
    iterations: int,
    seed: int,
    *,
    empty: int,
) -> KMeansResult:
    model = KMeans(
        k,
        init=init,
        n_init=starts,
        max_iter=iterations,
        tol=1e-4,
        random_state=seed,
        algorithm="lloyd",
    )
    with catch_warnings():
        # Its one cause, fewer used clusters than k, is reported as ``used_clusters``.
        simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    clusters = model.labels_.astype(np.int64)
    return KMeansResult(
        centres=model.cluster_centers_,
        clusters=clusters,
        inertia=float(model.inertia_),
        variance=float(model.inertia_ / points.size),
        iterations=int(model.n_iter_),
        used_clusters=len(np.unique(clusters)),
        empty_components=empty,
    )
