"""Spectral clustering: images that are near each other, through others, are one cluster."""

from collections.abc import Iterator
from dataclasses import dataclass
from warnings import catch_warnings, filterwarnings

import torch
import torch.nn.functional as F
from sklearn.cluster import SpectralClustering

from mixem.clustering import KMeansProtocol
from mixem.errors import InputError
from mixem.methods.base import (
    Clustering,
    Method,
    MethodSettings,
    at_least,
    extract,
    refuse_neighbours,
)

__all__ = ["Spectral", "SpectralSettings"]


@dataclass(frozen=True)
class SpectralSettings(MethodSettings):
    """What the graph is made of.

    Attributes:
        edges: Nearest images, by the Euclidean distance of the features and with itself, to which
            an image is joined; scikit-learn's default.
    """

    edges: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_neighbours(self)
        at_least(self, edges=2)


class Spectral(Method):
    """A backbone that is not trained, and spectral clustering of its features: a yardstick.

    A baseline of IIC's Table 1, of scikit-learn here: the graph of nearest neighbours, the first
    eigenvectors of its normalised Laplacian, k-means on them. Only the images at hand are sorted.
    Others go to the nearest of the clusters' means, which are kept.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How evaluation sees an image.
        settings: See :class:`SpectralSettings`.
        clusters: Number k of clusters.
    """

    Settings = SpectralSettings
    trains = False

    def clusterings(
        self, images: torch.Tensor, fit: torch.Tensor | None, protocol: KMeansProtocol
    ) -> Iterator[Clustering]:
        """One way.

        Raises:
            InputError: If there are fewer images than edges or clusters, or others are to be
                fitted on.
        """
        edges = self.settings.edges
        if fit is not None:
            raise InputError(
                "spectral clustering sorts the images that it is fitted on; give the same split "
                "for train_split, test_split and protocol.fit_split"
            )
        if len(images) < max(edges, self.clusters):
            raise InputError(
                f"{len(images)} images for {edges} edges an image and {self.clusters} clusters; "
                "give more images, or fewer with settings.edges"
            )
        x = extract(self, images)
        found = SpectralClustering(
            self.clusters,
            affinity="nearest_neighbors",
            n_neighbors=edges,
            eigen_solver="lobpcg",
            n_init=protocol.n_init,
            random_state=0,
        )
        with catch_warnings():  # a graph may fall apart, and its parts are clusters then
            filterwarnings("ignore", "Graph is not fully connected")
            clusters = torch.from_numpy(found.fit_predict(x.numpy())).long()
        self._keep(F.normalize(x), clusters)
        yield Clustering("spectral", clusters, {"edges": edges})

    def _keep(self, x: torch.Tensor, clusters: torch.Tensor) -> None:
        """The means of the clusters, for images that come later."""
        members = F.one_hot(clusters, self.clusters).float()
        centres = members.T @ x / members.sum(0).clamp(min=1)[:, None]
        variance = (x - centres[clusters]).square().mean().item()
        self.keep_centres(centres, variance)
