"""The scores of a method that sorts pixels."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import IGNORED, Augmentation, ImageSet
from mixem.evaluation import majority_pixels, scores_by, segmentation_scores
from mixem.methods import Maps, Method
from mixem.scoring import evaluate

PROTOCOL = KMeansProtocol()


class ByBrightness(Method):
    """The cluster of a pixel is its value."""

    sorts = "pixels"
    seen: ClassVar[list[int]] = []

    def __init__(self, clusters=4, size=6, **views):
        backbone = nn.Linear(1, 1)
        backbone.out_features = 1
        super().__init__(backbone, Augmentation(size=size, **views), clusters=clusters)

    def clusterings(self, images, fit, protocol):
        def values(some):
            self.seen.append(len(some))
            return (self.prepare(some)[:, 0] * 255).round().long()

        yield Maps("argmax p", values)
        for head, turn in enumerate((1, 2)):
            switches = {"sub_head": head, "loss": -float(head)}
            yield Maps("sub-head", lambda some, turn=turn: (values(some) + turn) % 4, switches)


def some(n=7, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(4, (n, 1, 6, 6), generator=generator, dtype=torch.uint8)
    masks = (images[:, 0] + 1) % 4 % classes
    masks[torch.rand(masks.shape, generator=generator) < 0.3] = 0
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = IGNORED
    return ImageSet(images, masks=masks, class_names=("a", "b", "c")[:classes])


def table_of(images, clusters=4):
    known = images.masks != IGNORED
    places = images.masks[known].long() * clusters + images.images[:, 0][known].long()
    return torch.bincount(places, minlength=3 * clusters).view(3, clusters).numpy()


def test_pixels_are_counted_by_class_and_cluster(monkeypatch):
    monkeypatch.setattr("mixem.scoring.PIXELS", 72)  # two images at a time
    ByBrightness.seen.clear()
    images, method = some(), ByBrightness().train()
    found = evaluate(method, images, protocol=PROTOCOL, main_only=True)
    assert ByBrightness.seen == [2, 2, 2, 1]
    table = table_of(images)
    assert found.counts == table.tolist()
    assert found.clusters is None
    expected = segmentation_scores(table)
    assert {name: found.metrics[name] for name in expected} == expected
    assert set(found.metrics) - set(expected) == {"iou a", "iou b", "iou c"}
    ious = [found.metrics[f"iou {name}"] for name in "abc"]
    assert sum(ious) / 3 == pytest.approx(expected["mean_iou"])
    shares = torch.bincount(images.images.flatten().long(), minlength=4) / images.images.numel()
    assert found.usage.used == 4
    assert found.usage.entropy == pytest.approx(torch.special.entr(shares).sum().item())
    assert method.training


def test_every_clustering_has_a_row():
    rows = evaluate(ByBrightness(), some(), protocol=PROTOCOL).rows
    assert [row.kind for row in rows] == [
        "argmax p", "sub-head", "sub-head", "mean of sub-heads", "sub-head chosen with labels",
    ]  # fmt: skip
    assert all(row.mapping == "one-to-one" for row in rows)
    # Matched one to one, a permutation of the clusters changes nothing.
    assert all(row.scores == pytest.approx(rows[0].scores) for row in rows)


def test_iic_plus_maps_by_the_labelled_images():
    method = ByBrightness()
    method.mapping = "majority"
    images, labelled = some(seed=1), some(seed=2, n=3)
    labelled.masks[labelled.images[:, 0] == 1] = 0  # which another majority would not say
    found = evaluate(method, images, protocol=PROTOCOL, fit_images=labelled, main_only=True)
    mapping = majority_pixels(table_of(labelled))
    assert mapping.tolist() != majority_pixels(table_of(images)).tolist()
    expected = scores_by(table_of(images), mapping)
    assert found.metrics["accuracy"] == expected.accuracy
    assert found.metrics["mean_iou"] == expected.mean_iou
    assert "majority_accuracy" not in found.metrics
    assert found.rows[0].mapping == "majority"


def test_without_masks_there_are_no_scores():
    images = some()
    for bare in (
        ImageSet(images.images),
        ImageSet(images.images, masks=torch.full_like(images.masks, IGNORED)),
    ):
        found = evaluate(ByBrightness(), bare, protocol=PROTOCOL)
        assert found.metrics is None
        assert [row.scores for row in found.rows] == [None] * 3
        assert found.usage.used == 4


def test_masks_are_cut_as_evaluation_sees_the_images():
    images = some()
    method = ByBrightness(size=4, plain_side=4)
    inner = ImageSet(images.images[:, :, 1:5, 1:5], masks=images.masks[:, 1:5, 1:5])
    found = evaluate(method, images, protocol=PROTOCOL, main_only=True)
    assert found.counts == table_of(inner).tolist()


def test_a_class_without_a_pixel_has_no_score():
    images = some(classes=2)
    named = ImageSet(images.images, masks=images.masks, class_names=("a", "b", "never"))
    metrics = evaluate(ByBrightness(), named, protocol=PROTOCOL, main_only=True).metrics
    assert "iou never" not in metrics
    assert {"iou a", "iou b"} < set(metrics)
