"""Clusters of finished features: small heads trained by IIC's loss, and one of them chosen."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from tqdm import tqdm

from mixem.clustering import KMeansResult, kmeans, nearest_neighbours, normalise_rows
from mixem.clustering.arrays import as_features
from mixem.errors import InputError
from mixem.losses import iic

__all__ = ["HeadsResult", "train_heads"]

COMPONENTS = 256  # principal components that the heads see
SHARPNESS = 10.0  # of the heads at the start: a centre times this is a row of weights
BATCH = 512
PASSES, STEPS = 10, 150  # at least as many of each
RATE = 2e-2
DRAWS = 4  # neighbours of each picture by which the finished heads are compared


class HeadsResult(NamedTuple):
    """What :func:`train_heads` found.

    Attributes:
        clusters: int64 ``(N,)``.
        logits: ``(N, k)`` of the chosen head.
        losses: ``(h,)``, of the finished heads, in nats; the chosen one has the least.
        kmeans: The better of the k-means that the heads began from, by inertia: the yardstick.
    """

    clusters: NDArray[np.int64]
    logits: NDArray[np.float32]
    losses: NDArray[np.float32]
    kmeans: NDArray[np.int64]


def train_heads(
    features: ArrayLike | torch.Tensor,
    k: int,
    *,
    heads: int = 20,
    neighbours: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> HeadsResult:
    """Train linear heads that give a picture and its neighbour the same cluster, by IIC's loss.

    The features are normalised, centred and normalised again. Every head begins at the centres of
    a k-means, half of them on these features and half on those given: where classes are even the
    first are better, where they are uneven the second. All heads are one matrix product. The one
    with the lowest loss counts, so no label is needed.

    The numbers were chosen by accuracy on five sets of pictures with features of
    EfficientNet-Lite0. On even classes the loss chooses well; on uneven ones it hardly chooses at
    all, and k-means can be as good.

    Args:
        features: ``(N, D)`` of a pretrained network, as :func:`mixem.features.features` gives.
        k: Clusters, from 2 to N / 4.
        heads: At least 2.
        neighbours: Nearest pictures that a picture may be paired with.
        seed: Of k-means, order and pairs.
        progress: Show a bar.

    Raises:
        InputError: If the features are no finite matrix, or there are too few pictures.
    """
    raw = as_features(features)
    n = len(raw)
    if not 2 <= k <= n // 4 or heads < 2:
        raise InputError(
            f"{k} clusters and {heads} heads for {n} pictures; give 2 to {n // 4} clusters and at "
            "least 2 heads"
        )
    unit = normalise_rows(raw)
    prepared = normalise_rows(unit - unit.mean(0))
    pairs = nearest_neighbours(prepared, min(neighbours, n - 1)).indices
    x = torch.from_numpy(_components(prepared, seed)).float()
    begun = [
        kmeans(points, k, seed=heads * seed + i, normalise=False, n_init=1, max_iter=300)
        for points, count in ((x.numpy(), heads - heads // 2), (_components(raw, seed), heads // 2))
        for i in range(count)
    ]
    weight, bias = _train(x, pairs, _centres(x, begun, k), seed=seed, progress=progress)
    with torch.no_grad():
        logits = _logits(x, weight, bias)
        p = logits.softmax(2)
        columns = torch.linspace(0, pairs.shape[1] - 1, DRAWS).long()
        losses = torch.stack([iic(p, p[:, pairs[:, c]]) for c in columns]).mean(0)
    best = int(losses.argmin())
    return HeadsResult(
        clusters=logits[best].argmax(1).numpy(),
        logits=logits[best].numpy(),
        losses=losses.numpy(),
        kmeans=min(begun[: heads - heads // 2], key=lambda found: found.inertia).clusters,
    )


def _components(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Principal components, where there are more columns than are wanted."""
    most = min(COMPONENTS, *points.shape)
    if most == points.shape[1]:
        return points - points.mean(0)
    return np.asarray(PCA(most, random_state=seed).fit_transform(points))


def _centres(x: torch.Tensor, begun: list[KMeansResult], k: int) -> torch.Tensor:
    """Means ``(h, k, d)`` of the rows of each cluster."""
    means = torch.zeros(len(begun), k, x.shape[1])
    for mean, found in zip(means, begun, strict=True):
        clusters = torch.from_numpy(found.clusters)
        sizes = torch.bincount(clusters, minlength=k).clamp_min(1)
        mean.index_add_(0, clusters, x).div_(sizes.unsqueeze(1))
    return means


def _train(
    x: torch.Tensor, pairs: torch.Tensor, centres: torch.Tensor, *, seed: int, progress: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights ``(h, k, d)`` and biases ``(h, k)`` of the trained heads."""
    generator = torch.Generator().manual_seed(seed)
    weight = (SHARPNESS * centres).requires_grad_()
    bias = torch.zeros(centres.shape[:2]).requires_grad_()
    a_pass = max(len(x) // BATCH, 1)
    total = a_pass * max(PASSES, -(-STEPS // a_pass))
    optimiser = torch.optim.Adam([weight, bias], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
    order = torch.randperm(len(x), generator=generator)
    for step in tqdm(range(total), desc="heads", disable=None if progress else True):
        if step % a_pass == 0:
            order = torch.randperm(len(x), generator=generator)
        chosen = order[step % a_pass * BATCH :][:BATCH]
        column = torch.randint(pairs.shape[1], (len(chosen),), generator=generator)
        both = torch.cat([x[chosen], x[pairs[chosen, column]]])
        p, q = _logits(both, weight, bias).softmax(2).chunk(2, 1)
        optimiser.zero_grad()
        iic(p, q).sum().backward()
        optimiser.step()
        schedule.step()
    return weight.detach(), bias.detach()


def _logits(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """``(h, N, k)`` of features ``(N, d)``: one product for all heads."""
    found = x @ weight.flatten(0, 1).T + bias.flatten()
    return found.unflatten(1, bias.shape).transpose(0, 1)
