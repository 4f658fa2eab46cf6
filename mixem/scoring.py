"""What a trained method is worth, under each protocol. Labels are used here and nowhere before."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mixem.clustering import KMeansProtocol, cluster_usage
from mixem.data import ImageSet, check_set, resize_masks
from mixem.data.augment import central_square
from mixem.evaluation import (
    PixelCounts,
    accuracy_by_labels,
    clustering_scores,
    majority_pixels,
    match_pixels,
    scores_by,
    segmentation_scores,
)
from mixem.methods import Clustering, Maps, Method
from mixem.progress import bar
from mixem.records import Row, Usage

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
        counts: Images by class and main cluster, with one-to-one mapping and labels; or pixels,
            with masks.
        clusters: int64 ``(N,)``, the main clustering; None of pixels, which are not kept.
    """

    rows: tuple[Row, ...]
    usage: Usage
    counts: list[list[int]] | None
    clusters: torch.Tensor | None

    @property
    def metrics(self) -> dict[str, float] | None:
        """Scores of the main clustering as fractions; None without labels or masks."""
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

    What is scored is what the method sorts: images against labels, or pixels against masks.

    Args:
        method: Trained.
        images: To be scored; without labels or masks the scores are None and the rest still stands.
        protocol: The k-means of the main number, for a method without clusters of its own.
        fit_images: What k-means is fitted on, or whose labels map clusters to classes; by default
            the images that are scored.
        main_only: Find the main clustering only.

    Raises:
        InputError: If k-means shall start from components and the method has none, or if there
            are fewer images than clusters.
    """
    check_set(images)
    of = {"images": _of_images, "pixels": _of_pixels}[method.sorts]
    return of(method, images, fit_images, protocol, main_only)


def _of_images(
    method: Method,
    images: ImageSet,
    fit_images: ImageSet | None,
    protocol: KMeansProtocol,
    main_only: bool,
) -> Evaluation:
    """Of a method that sorts images."""
    found: Iterator[Clustering] = method.clusterings(  # type: ignore[assignment]
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


# --- pixels ---------------------------------------------------------------------------------

PIXELS = 2**20  # sorted at a time


@torch.no_grad()
def _of_pixels(
    method: Method,
    images: ImageSet,
    fit_images: ImageSet | None,
    protocol: KMeansProtocol,
    main_only: bool,
) -> Evaluation:
    """Of a method that sorts pixels; they are counted batch by batch on the method's device."""
    training = method.training
    method.eval()
    fit = None if fit_images is None else fit_images.images
    found: Iterator[Maps] = method.clusterings(images.images, fit, protocol)  # type: ignore[assignment]
    rows: list[Row] = []
    counts: list[PixelCounts] = []
    for maps in found:
        counts.append(_pixel_counts(method, maps, images))
        scores = None
        if images.masks is not None:
            fitted = counts[-1]
            if method.mapping == "majority" and fit_images is not None:
                fitted = _pixel_counts(method, maps, fit_images)
            scores = _pixel_scores(method, counts[-1], fitted, images.class_names)
        rows.append(Row(maps.kind, scores, method.mapping, dict(maps.switches)))
        if main_only:
            break
    method.train(training)
    shares = torch.from_numpy(counts[0].shares())
    entropy = torch.special.entr(shares).sum().item()
    return Evaluation(
        rows=(*rows, *_with_labels(rows)),
        usage=Usage(int((shares > 0).sum()), entropy),
        counts=None if images.masks is None else counts[0].table().tolist(),
        clusters=None,
    )


def _pixel_counts(method: Method, maps: Maps, images: ImageSet) -> PixelCounts:
    """The pixels of a set by class and cluster."""
    device = method.device
    counts = PixelCounts(classes=max(1, images.num_classes), clusters=method.clusters)
    side = max(method.view_sizes())
    with bar(len(images), "counting pixels") as shown:
        for rows in torch.arange(len(images)).split(max(1, PIXELS // side**2)):
            clusters = maps.sort(images.images[rows].to(device, non_blocking=True))
            masks = None
            if images.masks is not None:
                masks = images.masks[rows].to(device, non_blocking=True)
                masks = _seen(masks, method, clusters.shape[-1])
            counts.add(masks, clusters)
            shown.update(len(rows))
    return counts


def _seen(masks: torch.Tensor, method: Method, side: int) -> torch.Tensor:
    """The part of the masks that evaluation sees of the images, as large as the clusters' map."""
    top, left, tall, wide = central_square(*masks.shape[1:], side=method.views.plain_side)
    return resize_masks(masks[:, top : top + tall, left : left + wide], side)


def _pixel_scores(
    method: Method, counts: PixelCounts, fitted: PixelCounts, names: tuple[str, ...]
) -> dict[str, float] | None:
    """Of one table; None if no pixel has a class."""
    table = counts.table()
    if not table.sum():
        return None
    if method.mapping == "majority":
        by = scores_by(table, majority_pixels(fitted.table()))
        scores = {"accuracy": by.accuracy, "mean_iou": by.mean_iou}
    else:
        by = scores_by(table, match_pixels(table))
        scores = segmentation_scores(table)
    # A class without a pixel has none.
    of_classes = zip(names, by.iou, strict=True)
    return scores | {f"iou {name}": iou for name, iou in of_classes if iou == iou}


# --- images ---------------------------------------------------------------------------------


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
            means = {name: sum(scores[name] for scores in every) / len(every) for name in every[0]}
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
