"""Pixels by class and cluster, the scores from them, and the yardsticks."""

import math

import numpy as np
import pytest
import torch

from mixem.clustering import nearest_centre, place_centres
from mixem.errors import InputError
from mixem.evaluation import clustering_accuracy, majority_accuracy
from mixem.evaluation.segmentation import (
    IGNORED,
    PixelCounts,
    majority_pixels,
    match_pixels,
    scores_by,
    segmentation_scores,
)


def some(classes=3, clusters=4, n=5, ignored=0.2, seed=0):
    """Masks and clusters that agree now and then."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(classes, (n, 6, 7), generator=generator)
    chance = torch.rand(n, 6, 7, generator=generator)
    found = torch.randint(clusters, (n, 6, 7), generator=generator)
    found = torch.where(chance < 0.5, (truth + 1) % clusters, found)
    masks = truth.to(torch.uint8)
    masks[torch.rand(n, 6, 7, generator=generator) < ignored] = IGNORED
    return masks, found


def counted(masks, clusters, classes=3, k=4):
    counts = PixelCounts(classes=classes, clusters=k)
    counts.add(masks, clusters)
    return counts


# By hand: clusters 0, 1, 2 and classes 0, 1.
TABLE = [[1, 0, 4], [2, 3, 0]]


def test_scores_by_hand():
    assert match_pixels(TABLE).tolist() == [-1, 1, 0]
    assert majority_pixels(TABLE).tolist() == [1, 1, 0]
    one, many = (scores_by(TABLE, mapping) for mapping in ([-1, 1, 0], [1, 1, 0]))
    assert one.accuracy == 7 / 10
    assert one.iou == (4 / 5, 3 / 5)  # what has no class is missed, but nobody's false alarm
    assert many.accuracy == 9 / 10
    assert many.iou == (4 / 5, 5 / 6)
    assert many.mean_iou == pytest.approx((4 / 5 + 5 / 6) / 2)
    assert segmentation_scores(TABLE) == pytest.approx(
        {"accuracy": 0.7, "mean_iou": 0.7, "majority_accuracy": 0.9}
    )


def test_a_class_without_a_pixel_does_not_count():
    scores = scores_by([[3, 0], [0, 0], [0, 2]], [0, 2])
    assert scores.accuracy == 1
    assert scores.mean_iou == 1
    assert scores.iou[::2] == (1, 1)
    assert math.isnan(scores.iou[1])


def test_equally_common_classes_and_empty_clusters_become_the_lowest():
    assert majority_pixels([[0, 2], [0, 2]]).tolist() == [0, 0]


@pytest.mark.parametrize(("classes", "clusters"), [(3, 3), (3, 7), (5, 3)])
def test_counts_and_accuracies_equal_those_of_all_pixels_one_by_one(classes, clusters):
    masks, found = some(classes, clusters)
    table = counted(masks, found, classes, clusters).table()
    expected = np.zeros((classes, clusters), dtype=int)
    for label, cluster in zip(masks.flatten().tolist(), found.flatten().tolist(), strict=True):
        if label != IGNORED:
            expected[label, cluster] += 1
    assert table.tolist() == expected.tolist()
    labels = torch.where(masks == IGNORED, -1, masks.long()).flatten()
    scores = segmentation_scores(table)
    assert scores["accuracy"] == pytest.approx(clustering_accuracy(labels, found.flatten()))
    assert scores["majority_accuracy"] == pytest.approx(majority_accuracy(labels, found.flatten()))


def test_the_iou_equals_that_of_sets():
    masks, found = some(ignored=0.3)
    table = counted(masks, found).table()
    mapping = match_pixels(table)
    predicted = torch.from_numpy(mapping)[found]
    for c, iou in enumerate(scores_by(table, mapping).iou):
        true, said = masks == c, (predicted == c) & (masks != IGNORED)
        assert iou == pytest.approx(((true & said).sum() / (true | said).sum()).item())


def test_batches_add_up():
    masks, found = some(n=6)
    together = counted(masks, found)
    parts = PixelCounts(classes=3, clusters=4)
    for start in (0, 1, 4):
        stop = {0: 1, 1: 4, 4: 6}[start]
        parts.add(masks[start:stop], found[start:stop])
    assert np.array_equal(parts.table(), together.table())


def test_clusters_may_be_renamed():
    masks, found = some()
    renamed = torch.tensor([2, 0, 3, 1])[found]
    one, other = (segmentation_scores(counted(masks, x).table()) for x in (found, renamed))
    assert one == pytest.approx(other)


def test_without_masks_there_are_shares():
    masks, found = some()
    counts = PixelCounts(classes=3, clusters=4)
    counts.add(None, found)
    expected = np.bincount(found.flatten(), minlength=4) / found.numel()
    assert counts.shares() == pytest.approx(expected)
    assert counts.shares() == pytest.approx(counted(masks, found).shares())  # ignored ones too
    assert not counts.table().any()
    with pytest.raises(InputError, match="at least one labelled pixel"):
        segmentation_scores(counts.table())
    assert PixelCounts(classes=3, clusters=4).shares().tolist() == [0] * 4


def test_classes_and_clusters_that_there_are_not_are_noticed():
    masks, found = some(classes=4)
    with pytest.raises(InputError, match="a mask has class 3; there are 3"):
        counted(masks, found).table()
    masks, found = some()
    found[0, 0, :2] = torch.tensor([4, -1])
    counts = counted(masks, found)
    for ask in (counts.table, counts.shares):
        with pytest.raises(InputError, match="2 pixels have a cluster that is not in 0 to 3"):
            ask()


@pytest.mark.parametrize(
    ("masks", "clusters"),
    [
        (torch.zeros(1, 2, 3, dtype=torch.uint8), torch.zeros(1, 3, 2, dtype=torch.long)),
        (torch.zeros(1, 2, 3, dtype=torch.long), torch.zeros(1, 2, 3, dtype=torch.long)),
        (None, torch.zeros(1, 2, 3)),
    ],
)
def test_other_shapes_and_types_are_refused(masks, clusters):
    with pytest.raises(InputError, match="give int64 clusters and uint8 masks of one shape"):
        counted(masks, clusters)


@pytest.mark.parametrize(("classes", "clusters"), [(0, 2), (256, 2), (2, 0)])
def test_impossible_sizes_are_refused(classes, clusters):
    with pytest.raises(InputError, match=f"{classes} classes, {clusters} clusters"):
        PixelCounts(classes=classes, clusters=clusters)


@pytest.mark.parametrize("table", [[[0, 0]], [1, 2], [[0.5]], np.zeros((0, 2), dtype=int)])
def test_tables_that_are_none_are_refused(table):
    with pytest.raises(InputError, match="give pixels by class and cluster"):
        segmentation_scores(table)


@pytest.mark.parametrize("mapping", [[0], [0, 1, 2], [0, 1, -2]])
def test_mappings_that_do_not_fit_are_refused(mapping):
    with pytest.raises(InputError, match="for 3 clusters and 2 classes"):
        scores_by(TABLE, mapping)


# Yardsticks --------------------------------------------------------------------------------------


def test_kmeans_of_places_finds_two_colours():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(2, (4, 8, 9), generator=generator)
    colours = torch.tensor([[0.1, 0.8], [0.9, 0.2], [0.5, 0.4]])  # channels by class
    maps = colours[:, truth].transpose(0, 1)
    maps = maps + 0.05 * torch.randn(maps.shape, generator=generator)
    centres = place_centres([maps[:3], maps[3:]], 2, each=20)
    assert centres.shape == (2, 3)
    assert centres.dtype == torch.float32
    found = nearest_centre(maps, centres)
    counts = counted(truth.to(torch.uint8), found, 2, 2)
    assert segmentation_scores(counts.table())["accuracy"] == 1
    assert torch.equal(place_centres([maps], 2, seed=3), place_centres([maps], 2, seed=3))


def test_the_nearest_centre_is_the_nearest():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, generator=generator)
    centres = torch.randn(6, 3, generator=generator)
    expected = torch.cdist(maps.movedim(1, 3).reshape(-1, 3), centres).argmin(1)
    assert torch.equal(nearest_centre(maps, centres).flatten(), expected)
