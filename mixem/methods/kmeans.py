"""k-means alone: what the features know before anything is trained on them."""

from mixem.methods.base import Method

__all__ = ["KMeans"]


class KMeans(Method):
    """A backbone that is not trained, and k-means on its features: the yardstick.

    Its experiments have no epochs. The main number is that of the protocol, the other rows are
    k-means with its other settings.

    Args:
        backbone: Gives the features; has ``out_features``.
        views: How evaluation sees an image.
        settings: None of its own.
        clusters: Number k of clusters.
    """

    trains = False
