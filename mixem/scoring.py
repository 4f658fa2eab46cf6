"""What a trained method is worth, under each protocol. Labels are used here and nowhere before."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mixem.clustering import KMeansProtocol, cluster_usage
from mixem.data import ImageSet, check_set
from mixem.evaluation import accuracy_by_labels, clustering_scores
from mixem.methods import Clustering, Method
from mixem.records import METRICS, Row, Usage

__all__ = ["LABEL_SHARES", "Evaluation", "evaluate"]

LABEL_SHARES = (0.01, 0.02, 0.05, 0.1, 0.5, 1.0)  # of IIC's figure 6


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        rows: Scores of every clustering, the main one first; where there are several of a kind
            that differ by chance, such as sub-heads, also their mean and the one that labels
            would choose.
        usage: How evenly the main clustering fills its clusters.
        counts: Images by class and main cluster, with one-to-one mapping and labels.
        clusters: int64 ``(N,)``, the main clustering.
    """

    rows: tuple[Row, ...]
    usage: Usage
    counts: list[list[int]] | None
    clusters: torch.Tensor

    @property
    def metrics(self) -> dict[str, float] | None:
        """accuracy, nmi and ari of the main clustering as fractions; None without labels."""
        return self.rows[0].scores


def evaluate(
    method: Method,
    images: ImageSet,
    *,
    protocol: KMeansProtocol,
    fit_images: ImageSet | None = None,
    main_only: bool = False,
) -> Evaluation:
    """Score the ways in which a method sorts images, see :meth:`mixem.methods.Method.clusterings`.

    Args:
        method: Trained.
        images: To be scored; without labels the scores are None and the rest still stands.
        protocol: The k-means of the main number, for a method without clusters of its own.
        fit_images: What k-means is fitted on, or whose labels map clusters to classes; by default
            the images that are scored.
        main_only: Find the main clustering only.

    Raises:
        InputError: If k-means shall start from components and the method has none, or if there
            are fewer images than clusters.
    """
    check_set(images)
    found = method.clusterings(
        images.images, None if fit_images is None else fit_images.images, protocol
    )
    main = next(found)
    clusterings = [main] if main_only else [main, *found]
    labelled = images if fit_images is None else fit_images
    rows: list[Row] = []
    for clustering in clusterings:
        scores = _scores(method, clustering, images, labelled)
        rows.append(Row(clustering.kind, scores, method.mapping, dict(clustering.switches)))
    if method.mapping == "majority" and rows[0].scores and not main_only:
        rows[1:1] = _label_shares(method, main, images, labelled)
    used, entropy = cluster_usage(main.clusters, method.clusters)
    return Evaluation(
        rows=(*rows, *_with_labels(rows)),
        usage=Usage(used, entropy),
        counts=_counts(images, main.clusters, method),
        clusters=main.clusters,
    )


def _scores(
    method: Method,
    clustering: Clustering,
    images: ImageSet,
    labelled: ImageSet,
    share: float = 1.0,
) -> dict[str, float] | None:
    """Of one clustering; None without labels."""
    labels, found = images.labels, clustering.clusters
    if labels is None or labelled.labels is None:
        return None
    scores = clustering_scores(labels, found)
    if method.mapping == "identity":
        right = (found == labels)[labels >= 0]
        scores |= {"accuracy": right.double().mean().item()}
    elif method.mapping == "majority":
        fitted = found if clustering.fitted is None else clustering.fitted
        mean, std = accuracy_by_labels(
            labelled.labels, fitted, labels, found, count=method.clusters, share=share
        )
        scores |= {"accuracy": mean, "accuracy_std": std}
    return scores


def _label_shares(
    method: Method, main: Clustering, images: ImageSet, labelled: ImageSet
) -> Iterator[Row]:
    """The main clustering mapped by a share of the labels."""
    for share in LABEL_SHARES:
        scores = _scores(method, main, images, labelled, share)
        yield Row("share of labels", scores, method.mapping, {"share": share})


def _with_labels(rows: list[Row]) -> Iterator[Row]:
    """Mean and best of the members of a kind that a number of their own tells apart."""
    kinds = Counter(row.kind for row in rows if "loss" in row.switches)
    for kind in kinds:
        every = [row.scores for row in rows if row.kind == kind and row.scores]
        if every:
            means = {name: sum(scores[name] for scores in every) / len(every) for name in METRICS}
            best = max(every, key=lambda scores: scores["accuracy"])
            yield Row(f"mean of {kind}s", means, rows[0].mapping)
            yield Row(f"{kind} chosen with labels", best, rows[0].mapping)


def _counts(images: ImageSet, clusters: torch.Tensor, method: Method) -> list[list[int]] | None:
    """Images by class and cluster."""
    if images.labels is None or method.mapping != "one-to-one":
        return None
    known = images.labels >= 0
    counts = torch.zeros(int(images.labels.max()) + 1, method.clusters, dtype=torch.int64)
    one = torch.ones((), dtype=torch.int64)
    where = (images.labels[known], clusters[known])
    return counts.index_put_(where, one, accumulate=True).tolist()
