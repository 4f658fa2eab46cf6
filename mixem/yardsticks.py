"""What a number has to be measured by: scores that need no training, on the same images."""

import torch

from mixem.clustering import kmeans
from mixem.data import ImageSet
from mixem.evaluation import clustering_scores
from mixem.methods import Method, extract
from mixem.records import Row

__all__ = ["MOST", "yardsticks"]

MOST = 10_000  # images that are looked at


def yardsticks(untrained: Method, images: ImageSet) -> list[Row]:
    """Scores of the largest class, of k-means on pixels, and of a network before training.

    A method is worth what it adds to them.

    Args:
        untrained: Says how images look to a network, and how many clusters there are.
        images: With labels. Of more than 10,000 a random choice, always the same.

    Returns:
        Rows as of :func:`mixem.scoring.evaluate`; none without labels.
    """
    if images.labels is None:
        return []
    known = torch.nonzero(images.labels >= 0).flatten()
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
    images = images.subset(known[order[:MOST]])
    labels = images.labels
    assert labels is not None
    found = {"largest class": torch.zeros(len(images), dtype=torch.int64)}
    if len(images) >= untrained.clusters:
        seen = [untrained.prepare(some).flatten(1) for some in images.images.split(1024)]
        for kind, vectors, normalise in (
            ("k-means on pixels", torch.cat(seen), False),
            ("k-means, untrained network", extract(untrained, images.images), True),
        ):
            result = kmeans(vectors.cpu(), untrained.clusters, n_init=10, normalise=normalise)
            found[kind] = torch.from_numpy(result.clusters)
    return [Row(kind, clustering_scores(labels, found[kind])) for kind in found]
