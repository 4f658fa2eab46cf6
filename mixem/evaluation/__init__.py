"""Scoring what a method found. The only place that sees labels.

Every function takes NumPy arrays, tensors or lists. Finding clusters, without labels, is the task
of :mod:`mixem.clustering`.

    >>> from mixem.clustering import kmeans
    >>> from mixem.evaluation import clustering_scores
    >>> found = kmeans([[0.0], [0.1], [5.0], [5.1]], 2, normalise=False)
    >>> clustering_scores([1, 1, 0, 0], found.clusters)["accuracy"]
    1.0
"""

from mixem.evaluation.matching import (
    accuracy_by_labels,
    clustering_accuracy,
    confusion_matrix,
    majority_accuracy,
    majority_mapping,
    match_clusters,
)
from mixem.evaluation.metrics import ari, clustering_scores, nmi
from mixem.evaluation.probes import knn_accuracy, linear_probe
from mixem.evaluation.segmentation import (
    PixelCounts,
    SegmentationScores,
    majority_pixels,
    match_pixels,
    scores_by,
    segmentation_scores,
)

__all__ = [
    "PixelCounts",
    "SegmentationScores",
    "accuracy_by_labels",
    "ari",
    "clustering_accuracy",
    "clustering_scores",
    "confusion_matrix",
    "knn_accuracy",
    "linear_probe",
    "majority_accuracy",
    "majority_mapping",
    "majority_pixels",
    "match_clusters",
    "match_pixels",
    "nmi",
    "scores_by",
    "segmentation_scores",
]
