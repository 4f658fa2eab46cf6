"""k-means with its protocol written out. No label is seen here."""

from mixem.clustering.neighbours import Neighbours, nearest_neighbours
from mixem.evaluation.kmeans import (  # until the move is merged
    KMeansProtocol,
    KMeansResult,
    assign_to_centres,
    component_centres,
    kmeans,
    kmeans_starts,
    normalise_rows,
)
from mixem.evaluation.metrics import ClusterUsage, cluster_usage

__all__ = [
    "ClusterUsage",
    "KMeansProtocol",
    "KMeansResult",
    "Neighbours",
    "assign_to_centres",
    "cluster_usage",
    "component_centres",
    "kmeans",
    "kmeans_starts",
    "nearest_neighbours",
    "normalise_rows",
]
