"""Finding clusters without labels: k-means, and how evenly clusters are used.

Every function takes NumPy arrays, tensors or lists. Scores against labels are in
:mod:`mixem.evaluation`.

    >>> from mixem.clustering import kmeans
    >>> found = kmeans([[0.0], [0.1], [5.0], [5.1]], 2, normalise=False)
    >>> sorted(found.centres[:, 0].round(2).tolist())
    [0.05, 5.05]
"""

from mixem.clustering.consensus import consensus, matching
from mixem.clustering.kmeans import (
    KMeansProtocol,
    KMeansResult,
    assign_to_centres,
    component_centres,
    kmeans,
    kmeans_starts,
    normalise_rows,
)
from mixem.clustering.neighbours import Neighbours, nearest_neighbours
from mixem.clustering.places import nearest_centre, place_centres
from mixem.clustering.usage import ClusterUsage, cluster_usage

__all__ = [
    "ClusterUsage",
    "KMeansProtocol",
    "KMeansResult",
    "Neighbours",
    "assign_to_centres",
    "cluster_usage",
    "component_centres",
    "consensus",
    "kmeans",
    "kmeans_starts",
    "matching",
    "nearest_centre",
    "nearest_neighbours",
    "normalise_rows",
    "place_centres",
]
