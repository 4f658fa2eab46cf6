"""IIC for segmentation: pairs of views, masks, heads, and maps."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation, ImageSet
from mixem.data.textures import textures
from mixem.errors import InputError
from mixem.losses import iic_segmentation
from mixem.methods import IICSegmentation, IICSegmentationSettings
from mixem.models import SegmentationNet10a, SmallNet
from mixem.training.meter import Meter

VIEWS = Augmentation(size=16, flip=0.5, brightness=0.4, contrast=0.4, jitter=1.0)


def make(views=VIEWS, channels=1, clusters=3, frame=False, **settings):
    torch.manual_seed(0)
    settings = {"max_displacement": 2, "over_clusters": 5, "sub_heads": 2} | settings
    return IICSegmentation(
        SegmentationNet10a(channels, width=2, frame=frame),
        views,
        IICSegmentationSettings(**settings),
        clusters=clusters,
    )


@pytest.fixture(scope="module")
def scenes():
    images, masks, _ = textures(6, size=16, classes=3)
    return ImageSet(images, masks=masks)


def drawn(method, images, seed=0):
    return method.draw_views(images, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("collapsed", [False, True])
def test_a_step_is_the_loss_of_the_maps_with_the_flip_undone(scenes, collapsed):
    method = make(replace(VIEWS, flip=1.0), lamb=1.5, over_lamb=1.25, collapsed=collapsed).train()
    views = drawn(method, scenes.images)
    assert torch.equal(views.plain, scenes.images / 255)
    for name, lamb in (("main", 1.5), ("over", 1.25)):
        x = method.heads[name](method.backbone(views.plain), (16, 16))
        y = method.heads[name](method.backbone(views.other), (16, 16)).flip(-1)
        expected = iic_segmentation(x, y, max_displacement=2, lamb=lamb, collapsed=collapsed)
        step = method.step(views, name)
        assert step.terms.keys() == {name}
        torch.testing.assert_close(step.terms[name], expected.mean())
    assert step.assignments is None


def test_only_colours_differ_when_nothing_is_mirrored(scenes):
    method = make(Augmentation(size=16, flip=0.5))
    views = drawn(method, scenes.images)
    mirrored = views.frames.mirrored
    assert 0 < mirrored.sum() < len(mirrored)
    assert torch.equal(views.other[mirrored], views.plain[mirrored].flip(-1))
    assert torch.equal(views.other[~mirrored], views.plain[~mirrored])
    coloured = drawn(make(Augmentation(size=16, brightness=0.4, jitter=1.0)), scenes.images)
    ratio = (coloured.other / coloured.plain.clamp_min(1e-6)).flatten(1).median(1).values
    assert not coloured.frames.mirrored.any()
    assert (ratio - 1).abs().min() > 1e-4
    assert (ratio > 0.55).all()
    assert (ratio < 1.45).all()


def test_turned_views_lie_where_their_frames_say(scenes):
    method = make(Augmentation(size=16, degrees=30, scale=(0.8, 1.2), shear=5))
    views = drawn(method, scenes.images)
    torch.testing.assert_close(views.other, views.frames.move(views.plain))
    assert not torch.allclose(views.other, views.plain, atol=0.1)


def test_both_views_show_the_same_crop_and_so_does_the_mask(scenes):
    views = Augmentation(size=8, crop_sides=(8,), plain_side=8)
    method = make(views, labelled_only=True, passes=("main",)).train()
    found = drawn(method, scenes.images)
    assert len(found.corners.unique(dim=0)) > 1
    for i, (top, left) in enumerate(found.corners.tolist()):
        cut = scenes.images[i, :, top : top + 8, left : left + 8] / 255
        assert torch.equal(found.plain[i], cut)
        assert torch.equal(found.other[i], cut)
    masks = scenes.masks.clone()
    masks[masks == 1] = 255
    counted = torch.stack([
        masks[i, top : top + 8, left : left + 8] != 255
        for i, (top, left) in enumerate(found.corners.tolist())
    ])  # fmt: skip
    assert counted.any()
    assert not counted.all()
    expected, _ = method.losses(found, "main", counted[:, None])
    step = method.supervised_step(found, masks, "main")
    torch.testing.assert_close(step.terms["main"], expected.mean())
    whole = method.step(found, "main").terms["main"]
    assert not torch.isclose(whole, step.terms["main"])


def test_masks_are_looked_at_only_when_asked_for(scenes):
    assert make().targets(scenes) is None
    method = make(labelled_only=True)
    assert method.targets(scenes) is scenes.masks
    with pytest.raises(InputError, match="has no masks, and labelled_only trains on"):
        method.targets(ImageSet(scenes.images))
    with pytest.raises(InputError, match="masks of 16 x 16 pixels for views of 8 x 8; with"):
        make(Augmentation(size=8), labelled_only=True).targets(scenes)


def test_infrared_keeps_its_values_and_moves_along(scenes):
    images = scenes.images.repeat(1, 4, 1, 1)
    views = drawn(make(replace(VIEWS, flip=1.0), channels=4), images)
    assert views.other.shape == (6, 4, 16, 16)
    assert torch.equal(views.other[:, 3], views.plain[:, 3].flip(-1))
    assert not torch.allclose(views.other[:, :3], views.plain[:, :3].flip(-1), atol=0.02)
    method = make(channels=4).eval()
    assert method.maps(images).shape == (6, 3, 16, 16)


def test_the_meter_sees_pixels(scenes):
    method = make().train()
    step = method.step(drawn(method, scenes.images), "main")
    meter = Meter()
    meter.add(step)
    row = meter.read(1, 1, 0.1)
    p = step.assignments
    assert p.shape == (2, 6, 4, 4, 3)
    chosen = p.argmax(-1).flatten(1)
    for head in range(2):
        shares = torch.bincount(chosen[head], minlength=3) / chosen.shape[1]
        assert row.usage[head] == pytest.approx(shares.tolist(), abs=1e-6)
        assert row.confidence[head] == pytest.approx(p[head].max(-1).values.mean().item())
    assert row.details["sub_heads"] == pytest.approx(step.details["sub_heads"].tolist())


def test_the_bounds_are_those_of_maps_that_are_uniform():
    method = make(lamb=1.5, over_lamb=1.0)
    uniform = torch.full((1, 3, 8, 8), 1 / 3)
    loss = iic_segmentation(uniform, uniform, max_displacement=2, lamb=1.5).item()
    assert method.bounds(8) == pytest.approx({"main": loss, "over": 0.0}, abs=1e-5)
    assert make(passes=("main",), lamb=1.5).bounds(8) == pytest.approx({"main": -math.log(3)})


def test_the_sub_head_of_the_lowest_loss_is_chosen(scenes):
    method = make(Augmentation(size=16)).eval()
    with torch.no_grad():
        weight = method.heads["main"].convolution.weight
        weight[3:] *= 30  # surer, and so more informative
    method.finish(scenes.images, torch.Generator().manual_seed(0))
    losses, p = method.losses(drawn(method, scenes.images), "main")
    torch.testing.assert_close(method.sub_head_losses, losses)
    assert method.chosen == losses.argmin()
    assert torch.equal(method.maps(scenes.images), p[method.chosen])
    other = make()
    other.settle(method)
    assert other.chosen == method.chosen


@pytest.mark.parametrize("frame", [False, True])
def test_maps_and_what_follows_from_them(scenes, frame):
    method = make(frame=frame).eval()
    maps = method.maps(scenes.images)
    torch.testing.assert_close(maps.sum(1), torch.ones(6, 16, 16))
    assert torch.equal(method.whole_maps(scenes.images), maps)
    torch.testing.assert_close(method.assign(scenes.images), maps.mean((2, 3)))
    assert method.features(scenes.images).shape == (6, 16)
    wide = torch.cat([scenes.images, scenes.images], 3)
    assert method.whole_maps(wide).shape == (6, 3, 16, 32)
    assert method.maps(wide).shape == (6, 3, 16, 16)


def test_the_yardsticks_do_not_depend_on_the_training(scenes):
    method, protocol = make().eval(), KMeansProtocol()

    def sorted_by(method):
        found = method.clusterings(scenes.images, None, protocol)
        return {(maps.kind, *maps.switches.values()): maps.sort(scenes.images) for maps in found}

    with torch.no_grad():
        before = sorted_by(method)
        for parameter in method.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
        after = sorted_by(method)
    kinds = [key[0] for key in before]
    assert kinds == [
        "argmax p", "sub-head", "sub-head", "k-means on pixels", "k-means on an untrained network",
    ]  # fmt: skip
    for key, clusters in before.items():
        assert clusters.shape == (6, 16, 16)
        assert torch.equal(clusters, after[key]) == key[0].startswith("k-means")
    pixels = scenes.images[:, 0].float()
    means = torch.stack([pixels[before["k-means on pixels",] == c].mean() for c in range(3)])
    nearest = (pixels[..., None] - means).abs().argmin(-1)
    assert (nearest == before["k-means on pixels",]).float().mean() > 0.9


@pytest.mark.parametrize(
    ("views", "settings", "message"),
    [
        ({"crop_scale": (0.5, 1.0)}, {}, "cannot be undone on maps"),
        ({"translate": 0.1}, {}, "cannot be undone on maps"),
        ({"cutout": 0.5}, {}, "cannot be undone on maps"),
        ({"crop_sides": (8,)}, {}, r"crop_sides are \(8,\); give \(16,\), the size"),
        ({"plain_size": 20}, {}, "plain_size is 20; leave it out"),
        ({}, {"passes": ("over",)}, "give 'main', and 'over' if wanted"),
        ({}, {"mapping": "identity"}, "mapping is 'identity'; give"),
        ({}, {"max_displacement": -1}, "max_displacement is -1; give at least 0"),
        ({}, {"neighbours": 3}, "neighbours is 3; this method has none"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(views, settings, message):
    with pytest.raises(InputError, match=message):
        make(replace(VIEWS, **views), **settings)


def test_a_backbone_without_maps_is_refused():
    with pytest.raises(InputError, match="SmallNet, gives no maps; give one that keeps the"):
        IICSegmentation(SmallNet(1, size=16), VIEWS)
    own = nn.Conv2d(1, 4, 3, padding=1)
    own.out_features, own.frame = 4, False
    assert IICSegmentation(own, VIEWS).maps(torch.zeros(2, 1, 9, 9, dtype=torch.uint8)).shape == (
        2, 10, 16, 16,
    )  # fmt: skip


def test_images_smaller_than_a_crop_are_refused(scenes):
    method = make(Augmentation(size=20, crop_sides=(20,)))
    with pytest.raises(InputError, match="a crop of 20 x 20 out of images of 16 x 16 pixels"):
        drawn(method, scenes.images)
