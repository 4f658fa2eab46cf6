"""k-means alone: what the features know before anything is trained on them."""

from collections.abc import Iterator
from dataclasses import asdict, replace

import torch

from mixem.clustering import KMeansProtocol, kmeans
from mixem.methods.base import Clustering, Method

__all__ = ["KMeans"]


class KMeans(Method):
    """A backbone that is not trained, and k-means on its features: the yardstick.

    Its experiments have no epochs. The main number is that of the protocol, the other rows are
    k-means with its other settings, and of vectors also as they came.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How evaluation sees an image.
        settings: None of its own.
        clusters: Number k of clusters.
    """

    trains = False

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """k-means by the protocol and its variants; then of vectors without any preparation."""
        yield from self.kmeans_clusterings(images, fit, protocol)
        if images.ndim == 2 and fit is None:
            as_given = replace(protocol, normalise=False, init="k-means++")
            found = kmeans(images.float(), self.clusters, protocol=as_given)
            switches = asdict(as_given) | {"layer": "vectors as given"}
            yield Clustering("k-means", torch.from_numpy(found.clusters), switches)
