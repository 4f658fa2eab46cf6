"""What methods with several heads share: a start at the centres of k-means, and their scores."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from mixem.clustering import consensus, kmeans, matching
from mixem.errors import InputError
from mixem.methods.base import Clustering, Method, extract, mixed

__all__ = [
    "SHARPNESS",
    "Agreement",
    "begin_at_centres",
    "head_clusterings",
    "mean_losses",
    "require_start",
]

SHARPNESS = 10.0  # a centre times this is a row of weights
ROWS = 10_000  # images that one k-means sees, others for each head


class Agreement(nn.Module):
    """Which of several heads count, and how their clusters are numbered; chosen after training.

    One head counts, that with the lowest loss, or the mean of several with the lowest ones, their
    clusters paired as :func:`mixem.clustering.consensus` does it. A single head is an accident
    where classes are uneven.

    Args:
        count: Of the heads that count.
        clusters: Number k of clusters.
    """

    heads: torch.Tensor
    columns: torch.Tensor

    def __init__(self, count: int, clusters: int):
        super().__init__()
        self.register_buffer("heads", torch.arange(count))
        self.register_buffer("columns", torch.arange(clusters).repeat(count, 1))

    def choose(self, losses: torch.Tensor, probabilities: torch.Tensor) -> None:
        """Choose by losses ``(h,)``, and pair the clusters by probabilities ``(h, N, k)``."""
        chosen = losses.argsort()[: len(self.heads)]
        self.heads.copy_(chosen)
        if len(chosen) > 1:
            self.columns.copy_(matching(probabilities[chosen.to(probabilities.device)]))

    def forward(self, probabilities: torch.Tensor) -> torch.Tensor:
        """The mean ``(N, k)`` of those of ``(h, N, k)`` that count."""
        chosen = probabilities[self.heads]
        columns = self.columns.unsqueeze(1).expand_as(chosen)
        return chosen.gather(2, columns).mean(0)


@torch.no_grad()
def mean_losses(
    method: Method,
    images: torch.Tensor,
    losses: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    at_once: int,
) -> torch.Tensor:
    """Mean losses ``(h,)`` of sub-heads over all images, by which one is chosen.

    Args:
        method: On its device; is put into evaluation mode.
        images: uint8, on any device; mixed, for among images of one class nothing is to be told.
        losses: Those ``(h,)`` of some images, from their rows and from their pixels on the
            method's device.
        at_once: How many images.
    """
    method.eval()
    device = method.device
    parts = [
        losses(rows, images[rows].to(device)) * len(rows) for rows in mixed(images).split(at_once)
    ]
    return sum(parts[1:], parts[0]) / len(images)


def require_start(head_start: str) -> None:
    """Raise :class:`InputError` unless it is a way in which heads begin."""
    if head_start not in ("random", "k-means"):
        raise InputError(f"head_start is {head_start!r}; give 'random' or 'k-means'")


@torch.no_grad()
def begin_at_centres(
    linear: nn.Module, method: Method, images: torch.Tensor, generator: torch.Generator
) -> None:
    """Set the weights of several heads of ``method.clusters`` clusters each.

    Each head begins at a k-means of its own, on other images from another start. Half of them run
    on the features as the backbone gives them, half on the vectors as they came. Where classes are
    even the first are better, where they are uneven often the second. Centres are always means of
    the backbone's features, since the heads see these.

    Args:
        linear: From D features to heads times clusters, head after head.
        method: Its backbone is frozen.
        images: All training images.
        generator: Of the seeds.
    """
    assert isinstance(linear, nn.Linear)
    k = method.clusters
    features = extract(method, images)
    given = images.float().cpu() if images.ndim == 2 else features
    heads = linear.out_features // k
    seeds = torch.randint(2**31, (heads,), generator=generator, device=generator.device).tolist()
    rows = []
    for head, seed in enumerate(seeds):
        seen = np.random.default_rng(seed).permutation(len(features))[:ROWS]
        points = (features if head < heads - heads // 2 else given)[seen]
        found = kmeans(points, k, seed=seed, normalise=False, n_init=1, max_iter=300)
        clusters = torch.from_numpy(found.clusters)
        sums = torch.zeros(k, features.shape[1]).index_add_(0, clusters, features[seen])
        rows.append(sums / torch.bincount(clusters, minlength=k).clamp_min(1).unsqueeze(1))
    linear.weight.copy_(SHARPNESS * torch.cat(rows))
    linear.bias.zero_()


def head_clusterings(
    probabilities: torch.Tensor, losses: torch.Tensor, chosen: int
) -> Iterator[Clustering]:
    """What several heads agree on, and every head with its loss; nothing of a single one.

    Args:
        probabilities: ``(h, N, k)``.
        losses: ``(h,)``.
        chosen: The head whose numbers the clusters have.
    """
    if len(probabilities) < 2:
        return
    yield Clustering("consensus", consensus(probabilities, like=chosen).argmax(1))
    for head, (p, loss) in enumerate(zip(probabilities, losses.tolist(), strict=True)):
        yield Clustering("head", p.argmax(1), {"head": head, "loss": round(loss, 6)})
