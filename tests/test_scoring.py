"""The scores of IMC-SwAV: clusters under three kinds of batch-norm statistics."""

import dataclasses

import pytest
import torch
from torch import nn

from mixem.clustering import KMeansProtocol, kmeans
from mixem.data import Augmentation, load_images
from mixem.evaluation import clustering_scores
from mixem.methods import IMCSwAV, IMCSwAVSettings, extract
from mixem.methods.base import mixed
from mixem.methods.imc_swav import BATCH_NORM, batch_norm_of
from mixem.models import ClusterNet6c, SmallResNet
from mixem.scoring import evaluate

VIEWS = Augmentation(size=8)
PROTOCOL = KMeansProtocol(n_init=2)


def make(net=None, clusters=4):
    """A random network whose running statistics are those of other images."""
    torch.manual_seed(0)
    net = net or SmallResNet(1, width=4)
    method = IMCSwAV(
        net, VIEWS, IMCSwAVSettings(hidden=8, prototypes=5, embedding_size=3), clusters=clusters
    )
    negatives = 255 - load_images("digits", split="train").images[:600]
    with torch.no_grad():
        for batch in negatives.split(20):
            method.assign(batch)
    return method.eval()


def state(method):
    return {name: value.clone() for name, value in method.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assigned(method, images):
    return extract(method, images.images, "assign").argmax(1)


@pytest.fixture(scope="module")
def train_and_test():
    return tuple(load_images("digits", split=split) for split in ("train", "test"))


@pytest.mark.parametrize(
    ("count", "options", "sizes"),
    [
        (600, {}, [256, 256]),  # 88 are left over
        (100, {}, [100]),
        (500, {"batches": 2, "batch_size": 100}, [100, 100]),
    ],
)
def test_running_statistics_go_on_with_plain_images(train_and_test, count, options, sizes):
    method, images = make(), train_and_test[0].images[:count]
    convolution, norm = method.backbone[0], method.backbone[1]
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    for batch in order[: sum(sizes)].split(sizes[0]):
        maps = convolution(images[batch] / 255).detach().transpose(0, 1).flatten(1)
        mean = 0.9 * mean + 0.1 * maps.mean(1)
        variance = 0.9 * variance + 0.1 * maps.var(1)
    before = state(method)
    with batch_norm_of(method, images, **options):
        assert not method.training
        torch.testing.assert_close(norm.running_mean, mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, variance, atol=1e-5, rtol=1e-4)
        inside = state(method)
    moved = {name for name in before if not torch.equal(before[name], inside[name])}
    norms = [n for n, m in method.named_modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
    names = ("running_mean", "running_var", "num_batches_tracked")
    assert moved == {f"{norm}.{name}" for norm in norms for name in names}
    assert {f"head.{i}" for i in (1, 4)} <= set(norms)
    assert norm.num_batches_tracked == before["backbone.1.num_batches_tracked"]
    assert same(state(method), before)


@pytest.mark.parametrize("training", [True, False])
def test_all_is_as_before_even_after_an_error(train_and_test, training):
    method, images = make().train(training), train_and_test[1].images[:20]
    before = state(method)

    def use():
        with batch_norm_of(method, images):
            assert method.training == training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert same(state(method), before)
    assert method.training == training

    def fail(_, given, out):
        raise ZeroDivisionError

    handle = method.head[-1].register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError), batch_norm_of(method, images):
        pytest.fail("no statistics, and yet it went on")
    handle.remove()
    assert same(state(method), before)
    assert method.training == training
    assert torch.is_grad_enabled()


def test_the_rows_are_one_for_each_kind_of_statistics(train_and_test):
    train, test = train_and_test
    method = make()
    before = state(method)
    found = evaluate(method, test, protocol=PROTOCOL, fit_images=train)
    assert same(state(method), before)

    clusters = {"training views": assigned(method, test)}
    for kind, images in (("training images", train), ("scored images", test)):
        with batch_norm_of(method, images.images):
            clusters[kind] = assigned(method, test)
    assert tuple(clusters) == BATCH_NORM
    assert [row.kind for row in found.rows] == ["argmax p"] * 3 + ["k-means"]
    for row, (kind, result) in zip(found.rows, clusters.items(), strict=False):
        assert row.switches["batch_norm"] == kind
        assert row.scores == clustering_scores(test.labels, result)
    first, second, third = (row.scores for row in found.rows[:3])
    assert first != second != third != first
    assert found.metrics == first

    main = clusters["training views"]
    sizes = torch.bincount(main, minlength=4)
    assert found.usage.used == (sizes > 0).sum()
    counts = torch.tensor(found.counts)
    assert counts.shape == (10, 4)
    assert counts.sum(0).tolist() == sizes.tolist()
    assert counts.sum(1).tolist() == torch.bincount(test.labels).tolist()
    assert counts[3, 1] == ((test.labels == 3) & (main == 1)).sum()


@pytest.mark.parametrize("layer", ["features", "embeddings"])
def test_k_means_on_the_features_is_fitted_on_the_training_images(train_and_test, layer):
    train, test = train_and_test
    protocol = dataclasses.replace(PROTOCOL, layer=layer)
    method = make(clusters=10)
    row = evaluate(method, test, protocol=protocol, fit_images=train).rows[3]
    assert row.switches == dataclasses.asdict(protocol)
    fitted = kmeans(extract(method, train.images, layer), 10, protocol=protocol)
    x = nn.functional.normalize(extract(method, test.images, layer))
    nearest = torch.cdist(x, torch.as_tensor(fitted.centres).float()).argmin(1)
    expected = clustering_scores(test.labels, nearest)
    assert row.scores["accuracy"] == pytest.approx(expected["accuracy"], abs=0.005)


def test_without_other_images_the_statistics_are_those_of_the_scored_ones(train_and_test):
    method, test = make(), train_and_test[1]
    rows = evaluate(method, test, protocol=PROTOCOL).rows
    assert rows[1].scores == rows[2].scores != rows[0].scores


def test_images_with_few_labels_or_none(train_and_test):
    method, test = make(), train_and_test[1]
    labels = test.labels.clone()
    labels[100:] = -1
    part = dataclasses.replace(test, labels=labels)
    found = evaluate(method, part, protocol=PROTOCOL)
    main = assigned(method, test)
    assert found.metrics == clustering_scores(labels[:100], main[:100])
    assert sum(map(sum, found.counts)) == 100
    assert found.usage == evaluate(method, test, protocol=PROTOCOL).usage

    bare = dataclasses.replace(test, labels=None, class_names=())
    found = evaluate(method, bare, protocol=PROTOCOL)
    assert found.metrics is None
    assert [row.scores for row in found.rows] == [None] * 4
    assert found.counts is None


def test_a_network_without_running_statistics(train_and_test):
    method = make(ClusterNet6c(1, width=2, size=8, running_statistics=False))
    assert method.needs_a_batch
    before = state(method)
    with batch_norm_of(method, train_and_test[1].images):
        assert not same(state(method), before)  # the classifier has some
    assert same(state(method), before)


def test_a_network_without_running_statistics_gets_the_images_mixed():
    net = ClusterNet6c(1, width=2, size=8, running_statistics=False)
    method = make(net).eval()
    digits = load_images("digits", split="train+test")
    images = digits.images[digits.labels.argsort()][:300]
    order = mixed(images)
    assert sorted(order.tolist()) == list(range(300))
    with torch.no_grad():
        parts = [method.features(images[rows]) for rows in order.tensor_split(3)]
        in_order = [method.features(images[rows]) for rows in torch.arange(300).tensor_split(3)]
    expected = torch.empty(300, net.out_features)
    expected[order] = torch.cat(parts)
    found = extract(method, images, batch_size=120)
    assert torch.equal(found, expected)
    assert torch.equal(extract(method, images, batch_size=120, in_order=True), torch.cat(in_order))
    assert not torch.allclose(found, torch.cat(in_order), atol=0.01)
