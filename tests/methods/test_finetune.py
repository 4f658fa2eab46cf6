"""Finetuning: its classifier, the trunk it starts from, its ten crops, rates and labels."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixem.clustering import KMeansProtocol
from mixem.data import Augmentation, ImageSet, load_images
from mixem.data.operations import pad_to_square
from mixem.errors import InputError
from mixem.evaluation import clustering_scores
from mixem.methods import IIC, Finetune, FinetuneSettings, IICSettings, extract
from mixem.methods.finetune import SupHead5
from mixem.models import ClusterNet5g, ClusterNet6c
from mixem.scoring import evaluate
from mixem.training import train
from mixem.training.config import TrainConfig

VIEWS = Augmentation(size=8, crop_sides=(6,), plain_side=6, flip=0.5, degrees=10, cutout=0.5)
EASY = Augmentation(size=8, crop_sides=(7,), plain_side=7)
CPU = {"device": "cpu", "progress": False}


def make(views=VIEWS, clusters=10, **settings):
    torch.manual_seed(0)
    net = ClusterNet6c(1, width=4, size=views.size)
    return Finetune(net, views, FinetuneSettings(**{"hidden": 16} | settings), clusters=clusters)


def digits(count=None):
    images = load_images("digits", split="train+test")
    return images.subset(range(count)) if count else images


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def constant(epochs, batch_size, rate=1e-3):
    return TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=rate,
        weight_decay=0,
        constant_epochs=epochs,
    )


def decided(views=VIEWS):
    """A method whose probabilities are far from equal."""
    method = make(views).eval()
    for layer in (method.head[0], method.head[3]):
        nn.init.normal_(layer.weight)
    return method


def pixels(n=5, side=9):
    return torch.randint(256, (n, 1, side, side), dtype=torch.uint8, generator=seeded(1))


# Networks ---------------------------------------------------------------------------------------


def test_the_classifier_is_that_of_sup_head5():
    head = SupHead5(6, 10)
    kinds = [type(layer) for layer in head]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [tuple(p.shape) for p in head.parameters()] == [
        (2048, 6), (2048,), (2048,), (2048,), (10, 2048), (10,),
    ]  # fmt: skip


def test_the_classifier_starts_small():
    torch.manual_seed(0)
    head = SupHead5(300, 10, hidden=400)
    for linear in (head[0], head[3]):
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert linear.weight.mean().item() == pytest.approx(0, abs=5e-4)
        assert (linear.bias == 0).all()


def trunk(**options):
    torch.manual_seed(0)
    return ClusterNet5g(1, **{"width": 2, "penultimate": False, "size": 16} | options)


def test_only_the_layers_that_both_trunks_share_are_taken():
    views = Augmentation(size=16)
    start = IIC(trunk(), views, IICSettings(sub_heads=1, repeats=1))
    with torch.no_grad():  # moves the batch norms' averages too
        start.train().step(start.draw_views(digits(8).images, seeded()))
    torch.manual_seed(7)
    method = Finetune(
        ClusterNet5g(1, width=2, penultimate=True, size=16), views, FinetuneSettings(hidden=4)
    )
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.start_from(start)
    theirs = start.state_dict()
    names = [name for name in before if name.startswith("backbone.")]
    assert len(names) < sum(name.startswith("backbone.") for name in theirs)
    for name, value in method.state_dict().items():
        assert torch.equal(value, (theirs if name in names else before)[name]), name
    assert method.backbone[4].conv1.weight.data_ptr() != start.backbone[4].conv1.weight.data_ptr()
    # What comes out is what the longer trunk has at that place.
    x = torch.rand(2, 1, 16, 16, generator=seeded())
    with torch.no_grad():
        inner = nn.Sequential(*list(start.eval().backbone)[:17])(x).flatten(1)
        assert torch.equal(method.eval().backbone(x), inner)


@pytest.mark.parametrize(
    "other",
    [
        {"penultimate": True},
        {"width": 4},
        {"running_statistics": False},
    ],
    ids=str,
)
def test_a_start_without_all_the_layers_is_an_error(other):
    views = Augmentation(size=16)
    method = Finetune(trunk(), views, FinetuneSettings(hidden=4))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(InputError, match=r"has no layer [\w.]+ of shape \(.*\); start from a run"):
        method.start_from(IIC(trunk(**other), views))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


# Learning ---------------------------------------------------------------------------------------


def test_a_step_is_the_cross_entropy_with_the_labels():
    method, images = make().train(), digits(20)
    views = method.draw_views(images.images, seeded())
    assert torch.equal(views, VIEWS(images.images, seeded()))
    step = method.supervised_step(views, images.labels)
    logits = method.head(method.backbone(views))
    chosen = logits.log_softmax(1)[range(20), images.labels]
    assert list(step.terms) == ["cross-entropy"]
    assert step.terms["cross-entropy"].item() == pytest.approx(-chosen.mean().item())
    right = (logits.argmax(1) == images.labels).sum().item() / 20
    assert step.details["accuracy"].item() == pytest.approx(right)
    assert torch.allclose(step.assignments, logits.softmax(1))
    assert not step.assignments.requires_grad


@pytest.mark.parametrize("share", [0.1, 0.0])
def test_classifier_and_trunk_learn_at_their_own_rates(share):
    """The first step of Adam moves a weight by its rate, whatever the gradient."""
    method = make(trunk_rate=share)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    train(method, digits(50), constant(1, 50, rate=1e-2), **CPU)
    moved = {"head": 0.0, "backbone": 0.0}
    for name, value in method.named_parameters():
        part = name.split(".")[0]
        moved[part] = max(moved[part], (value - before[name]).abs().max().item())
    assert moved["head"] == pytest.approx(1e-2, rel=1e-3)
    assert moved["backbone"] == pytest.approx(share * 1e-2, rel=1e-2)


def test_two_epochs_equal_those_written_out_with_two_optimisers():
    """As the official script has them; the cosine works on both."""
    from mixem.training.step import seeded as drawn

    images, method, twin = digits(40), make(), make()
    config = TrainConfig(
        epochs=2, batch_size=16, learning_rate=1e-2, weight_decay=0, constant_epochs=0
    )
    history = train(method, images, config, seed=3, **CPU).history
    optimisers = [
        (torch.optim.Adam(twin.head.parameters()), 1e-2),
        (torch.optim.Adam(twin.backbone.parameters()), 1e-3),
    ]
    twin.train()
    for epoch, factor in ((0, 0.5), (1, 0.0)):
        order = torch.randperm(40, generator=drawn(3, "order", epoch))
        losses = []
        for i in range(2):
            chosen = order[16 * i : 16 * (i + 1)]
            views = VIEWS(images.images[chosen], drawn(3, "views", 2 * epoch + i))
            loss = F.cross_entropy(twin.head(twin.backbone(views)), images.labels[chosen])
            twin.zero_grad()
            loss.backward()
            for optimiser, rate in optimisers:
                optimiser.param_groups[0]["lr"] = rate * factor
                optimiser.step()
            losses.append(loss.item())
        assert history[epoch].loss == pytest.approx(sum(losses) / 2, rel=1e-4)


@pytest.fixture(scope="module")
def trained():
    method = make(EASY, trunk_rate=1.0)
    history = train(method, digits(600), constant(6, 50, rate=1e-2), **CPU).history
    return method, history


def test_training_lowers_the_loss(trained):
    _, history = trained
    assert history[0].loss < 2.3
    assert history[-1].loss < 0.4 * history[0].loss
    assert history[-1].details["accuracy"] > 0.8 > history[0].details["accuracy"]
    assert sum(history[-1].usage) == pytest.approx(1, abs=1e-5)


class Watched(Finetune):
    """Every image's brightness is its label."""

    seen: list[int]

    def draw_views(self, images, generator):
        self.drawn = images[:, 0, 0, 0].long()
        return super().draw_views(images, generator)

    def supervised_step(self, views, labels, name="images"):
        assert torch.equal(self.drawn, labels)
        self.seen = [*getattr(self, "seen", []), *labels.tolist()]
        return super().supervised_step(views, labels)


def test_every_image_comes_with_its_own_label():
    labels = torch.arange(30) % 10
    images = labels.to(torch.uint8)[:, None, None, None].repeat(1, 1, 8, 8)
    torch.manual_seed(0)
    method = Watched(ClusterNet6c(1, width=2, size=8), VIEWS, FinetuneSettings(hidden=4))
    train(method, ImageSet(images, labels, name="flat", split="all"), constant(2, 10), **CPU)
    assert sorted(method.seen[:30]) == sorted(method.seen[30:]) == sorted(labels.tolist())
    assert method.seen[:30] != method.seen[30:] != labels.tolist()


def test_a_stopped_training_goes_on(tmp_path):
    """Bit for bit as one that was never stopped, with both rates."""
    config = constant(3, 50, rate=1e-2)
    whole, images = make(), digits(150)
    train(whole, images, config, **CPU)
    for _ in range(10):
        part = make()
        result = train(
            part, images, config, out=tmp_path, max_minutes=1e-9, checkpoint_seconds=0, **CPU
        )
        if result.complete:
            break
    assert result.complete
    for ours, theirs in zip(whole.state_dict().values(), part.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("labels", "clusters"),
    [(None, 10), ([3] * 11 + [-1], 10), ([3] * 11 + [4], 4)],
    ids=["none", "one missing", "too many classes"],
)
def test_every_image_needs_a_label(labels, clusters):
    images = digits(12)
    labels = None if labels is None else torch.tensor(labels)
    images = dataclasses.replace(images, labels=labels, class_names=())
    method = make(clusters=clusters)
    before = [p.detach().clone() for p in method.parameters()]
    with pytest.raises(InputError, match=f"of digits, .* has a label from 0 to {clusters - 1};"):
        train(method, images, constant(1, 12), **CPU)
    assert all(map(torch.equal, before, method.parameters()))


# Scoring ----------------------------------------------------------------------------------------


def test_ten_crops_are_the_corners_the_centre_and_their_mirror_images():
    method, images = decided(), pixels(side=10)
    corners = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    crops = [images[:, :, top : top + 6, left : left + 6] for top, left in corners]
    crops += [crop.flip(3) for crop in crops]
    with torch.no_grad():
        views = [
            F.interpolate(crop / 255, (8, 8), mode="bilinear", antialias=True) for crop in crops
        ]
        logits = [method.head(method.backbone(view)) for view in views]
        expected = (sum(logits) / 10).softmax(1)
    for what in ("assign", "cluster"):
        torch.testing.assert_close(extract(method, images, what), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(extract(method, images, "logits"), logits[4], atol=1e-4, rtol=0)
    assert (expected - logits[4].softmax(1)).abs().max() > 0.05


def test_without_a_side_the_ten_crops_of_a_square_are_two():
    method, images = decided(Augmentation(size=8)), pixels(side=8)
    with torch.no_grad():
        plain, mirrored = method.logits(images), method.logits(images.flip(3))
    expected = ((plain + mirrored) / 2).softmax(1)
    torch.testing.assert_close(extract(method, images, "assign"), expected, atol=1e-5, rtol=0)
    assert (expected - plain.softmax(1)).abs().max() > 0.1


def test_images_that_do_not_fit_are_refused():
    method = make().eval()
    with pytest.raises(InputError, match="a crop of 6 x 6 pixels out of images of 5 x 5"):
        method.assign(pixels(side=5))
    with pytest.raises(InputError, match="give a uint8 tensor"):
        method.assign(pixels().float())


def test_classes_are_scored_without_any_matching(trained):
    method, images = trained[0], digits(300)
    found = {
        kind: extract(method, images.images, what).argmax(1)
        for kind, what in (("ten crops", "assign"), ("centre crop", "logits"))
    }
    scores = evaluate(method, images, protocol=KMeansProtocol())
    assert [row.kind for row in scores.rows] == ["ten crops", "centre crop"]
    assert scores.metrics == scores.rows[0].scores
    for row in scores.rows:
        chosen = found[row.kind]
        right = (chosen == images.labels).sum().item() / 300
        assert row.scores == clustering_scores(images.labels, chosen) | {"accuracy": right}
    assert scores.metrics["accuracy"] > 0.5
    assert scores.usage.used == len(found["ten crops"].unique())
    # With the classes renamed a clustering would be as good; a classifier is not.
    renamed = dataclasses.replace(images, labels=(images.labels + 1) % 10)
    other = evaluate(method, renamed, protocol=KMeansProtocol()).metrics
    assert other["accuracy"] < 0.2
    assert other["nmi"] == pytest.approx(scores.metrics["nmi"])


def test_images_without_labels_do_not_count(trained):
    method, images = trained[0], digits(100)
    labels = images.labels.clone()
    labels[::2] = -1
    half = evaluate(method, dataclasses.replace(images, labels=labels), protocol=KMeansProtocol())
    right = extract(method, images.images, "assign").argmax(1)[1::2] == labels[1::2]
    assert half.metrics["accuracy"] == pytest.approx(right.sum().item() / 50)
    bare = dataclasses.replace(images, labels=None, class_names=())
    none = evaluate(method, bare, protocol=KMeansProtocol())
    assert none.metrics is None
    assert [row.scores for row in none.rows] == [None, None]
    assert none.usage == half.usage


def test_neighbours_which_no_label_goes_with_are_refused():
    with pytest.raises(InputError, match="neighbours is 3; this method has none"):
        make(neighbours=3)


def test_ten_crops_are_cut_out_of_the_padded_image():
    method = decided(dataclasses.replace(VIEWS, plain_side=None, crop_sides=(), pad=True))
    images = pixels(4, 9)[:, :, :, :7]
    square = pad_to_square(images)
    with torch.no_grad():
        assert torch.equal(method.assign(images), method.assign(square))
