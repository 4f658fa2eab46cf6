"""How many clusters? Signals that need no label, and what they say in words.

A silhouette is high wherever points lie in few directions, and two sortings agree easily where
clusters are few. So the silhouette is compared with that of the same features after each of their
principal components was shuffled by itself: as much spread, and no clusters (as in the gap
statistic of Tibshirani, Walther and Hastie 2001, there with uniform values). What is left is the
gain. A k is worth proposing where the gain is near its highest, and among those where halves of the
pictures agree best.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from mixem.clustering import kmeans, normalise_rows
from mixem.clustering.arrays import as_features
from mixem.errors import InputError
from mixem.evaluation import ari
from mixem.progress import bar

if TYPE_CHECKING:
    from mixem.plots import Figure

__all__ = ["Choice", "KSignals", "choose_k", "k_panels"]

COMPONENTS = 32  # principal components that are kept: nearly as good, and many times faster
STARTS, ITERATIONS = 3, 100  # of each k-means
LEAST = 0.02  # gain below which there is nothing but chance; shuffled data stay below 0.01
NEAR = 0.9  # of the highest gain: as good, given how much the gain changes from seed to seed
SHAKY = 0.6  # agreement below which another sample sorts many pictures otherwise


class KSignals(NamedTuple):
    """What is known of one number of clusters; means over the seeds.

    Attributes:
        k: The number of clusters.
        silhouette: In [-1, 1], of k-means on the features.
        chance: The silhouette of shuffled features.
        agreement: Adjusted Rand index between sortings of all pictures by two sets of centres,
            each found on one half of the pictures; at most 1.
        spread: Standard deviation of the agreement over the seeds (n - 1).
        smallest: Size of the smallest cluster as a share of an even one, in [0, 1].
    """

    k: int
    silhouette: float
    chance: float
    agreement: float
    spread: float
    smallest: float

    @property
    def gain(self) -> float:
        """How much better than by chance the clusters are separated."""
        return self.silhouette - self.chance


class Choice(NamedTuple):
    """A proposal.

    Attributes:
        rows: The signals of each k.
        k: The proposal; None where nothing speaks for any number.
        alike: The k that are about as good, with the proposal; () without one.
        reason: Why, in one or two sentences.
    """

    rows: tuple[KSignals, ...]
    k: int | None
    alike: tuple[int, ...]
    reason: str


def choose_k(
    features: ArrayLike | torch.Tensor,
    ks: Iterable[int] = range(2, 21),
    *,
    seeds: int = 3,
    sample: int = 3000,
    progress: bool = True,
) -> Choice:
    """Try numbers of clusters on normalised features, and propose one if one stands out.

    Args:
        features: ``(N, D)``.
        ks: Numbers of clusters to try, from 2 to N / 4.
        seeds: How often each is tried, on other halves of another sample.
        sample: Most pictures used at a time.
        progress: Show a bar.

    Raises:
        InputError: If the features are no finite matrix, or there is no k, or one out of range.
    """
    tried = sorted(set(ks))
    n = len(features)  # type: ignore[arg-type]
    if not tried or tried[0] < 2 or tried[-1] > n // 4:
        raise InputError(
            f"k from {tried[0]} to {tried[-1]} with {n} pictures; give numbers from 2 to {n // 4}, "
            "a quarter of the pictures"
            if tried
            else "there is no k to try; give at least one"
        )
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; give at least 1")
    found: dict[int, list[tuple[float, float, float, float]]] = {k: [] for k in tried}
    with bar(seeds * len(tried), "trying k", "tries", show=progress) as shown:
        for seed in range(seeds):
            points, shuffled = _sample(features, seed, sample)
            halves = np.array_split(points, 2)
            own, other = cdist(halves[0], halves[0]), cdist(shuffled, shuffled)
            for k in tried:
                fits = [_clusters(half, k, seed) for half in halves]
                labels = [cdist(points, centres).argmin(1) for centres, _ in fits]
                clusters = fits[0][1]
                found[k].append(
                    (
                        _silhouette(own, clusters),
                        _silhouette(other, _clusters(shuffled, k, seed)[1]),
                        ari(*labels),
                        k * np.bincount(clusters, minlength=k).min() / len(clusters),
                    )
                )
                shown.update()
    rows = []
    for k, values in found.items():
        silhouette, chance, agreement, smallest = np.mean(values, axis=0).tolist()
        spread = float(np.std([v[2] for v in values], ddof=1)) if seeds > 1 else 0.0
        rows.append(KSignals(k, silhouette, chance, agreement, spread, smallest))
    return Choice(tuple(rows), *_proposal(rows))


def k_panels(choice: Choice) -> "Figure":
    """The signals against k, with the proposal marked."""
    from mixem.plots import sweep_panels  # here, for the drawing takes long to import

    rows = choice.rows
    return sweep_panels(
        [row.k for row in rows],
        {
            "silhouette": {
                "these pictures": [row.silhouette for row in rows],
                "by chance": [row.chance for row in rows],
            },
            "gain over chance": {"these pictures": [row.gain for row in rows]},
            "halves agree": {"these pictures": [row.agreement for row in rows]},
            "smallest cluster": {"these pictures": [row.smallest for row in rows]},
        },
        xlabel="k",
        mark=choice.k,
    )


def _proposal(rows: list[KSignals]) -> tuple[int | None, tuple[int, ...], str]:
    """The k, those about as good, and why."""
    best = max(rows, key=lambda row: row.gain)
    if best.gain < LEAST:
        return (
            None,
            (),
            f"No number stands out: with k-means these features fall into clusters no better than "
            f"by chance (silhouette {best.silhouette:.2f}, by chance {best.chance:.2f}). Choose "
            "by what you need, or take other features.",
        )
    near = [row for row in rows if row.gain >= NEAR * best.gain]
    chosen = max(near, key=lambda row: row.agreement)
    reason = (
        f"{chosen.k}: silhouette {chosen.silhouette:.2f}, by chance {chosen.chance:.2f}; halves "
        f"of the pictures agree to {chosen.agreement:.2f}. "
    )
    alike = tuple(row.k for row in near)
    if len(near) == 1:
        reason += "No other number tried is as good."
    else:
        reason += (
            f"{len(near)} numbers from {alike[0]} to {alike[-1]} separate the pictures about as "
            "well; among them it is the steadiest. Look at two or three of them."
        )
    if chosen.agreement < SHAKY:
        reason += " Much of the sorting is decided by chance: the halves agree little."
    if alike[-1] == rows[-1].k and len(rows) > 1:
        reason += " The largest number tried is among the best: try more."
    return chosen.k, alike, reason


def _sample(
    features: ArrayLike | torch.Tensor, seed: int, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Some pictures in few dimensions, and half as many with each dimension shuffled."""
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(features))[:most]  # type: ignore[arg-type]
    values = features if hasattr(features, "shape") else np.asarray(features)
    points = normalise_rows(as_features(values[rows]))  # type: ignore[index]
    components = min(COMPONENTS, *points.shape)
    with np.errstate(invalid="ignore"):  # 0 / 0 where all pictures are the same
        points = PCA(components, random_state=seed).fit_transform(points)
    half = points[: (len(points) + 1) // 2]
    return points, np.stack([generator.permutation(column) for column in half.T], axis=1)


def _clusters(
    points: NDArray[np.float64], k: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    found = kmeans(points, k, seed=seed, normalise=False, n_init=STARTS, max_iter=ITERATIONS)
    return found.centres, found.clusters


def _silhouette(distances: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """The mean silhouette; 0 where all pictures are in one cluster."""
    if len(np.unique(clusters)) < 2:
        return 0.0
    return float(silhouette_score(distances, clusters, metric="precomputed"))
