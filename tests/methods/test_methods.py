"""SimCLR and MIX'EM: steps that learn, named terms, features, assignments."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from mixem.clustering import assign_to_centres
from mixem.data import Augmentation, load_images
from mixem.errors import InputError
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.losses import nt_xent
from mixem.methods import (
    IIC,
    IICSettings,
    IMCSwAV,
    Method,
    MethodSettings,
    MixEM,
    SimCLR,
    SimCLRSettings,
    extract,
)
from mixem.methods import METHODS as ALL_METHODS
from mixem.models import SegmentationNet10a, SmallNet, mix

VIEWS = Augmentation(size=16, degrees=15, translate=0.1, brightness=0.4)
METHODS = pytest.mark.parametrize("kind", [SimCLR, MixEM])


def make(kind, *, channels=1, clusters=10, **settings) -> Method:
    torch.manual_seed(0)
    net = SmallNet(channels, width=4)
    return kind(net, VIEWS, kind.Settings(**settings), clusters=clusters).eval()


def digits(count):
    return load_images("digits", split="train+test").images[:count]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Given(nn.Module):
    """A module that returns what it was given, whatever it is called with."""

    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, _):
        return self.result


def on_golden_inputs(golden, **options) -> MixEM:
    """MIX'EM whose networks are replaced by the golden embeddings and logits."""
    method = make(MixEM, components=3, embedding_size=4, **options).double()
    embeddings = nn.functional.normalize(torch.cat([golden.e_i, golden.e_j], 1), dim=2)
    method.backbone = nn.Identity()
    method.head = Given((embeddings, torch.cat([golden.l_i, golden.l_j])))
    return method


NO_VIEWS = torch.zeros(2, 6, 1)


def test_the_terms_of_mixem_equal_the_official_ones(golden):
    step = on_golden_inputs(golden).step(NO_VIEWS)
    terms = {name: value.item() for name, value in step.terms.items()}
    assert terms == pytest.approx(
        {
            "contrast": 2.8992536953690764,
            "diversity": -4.274293515581909,
            "confidence": 0.052645274515158075,
            "pull": 0.09722095488192128,
            "push": -0.020554786064134585,
        },
        rel=1e-12,
    )
    assert sum(terms.values()) == pytest.approx(-1.2457283768798877, rel=1e-12)
    assert torch.equal(step.assignments, torch.cat([golden.l_i, golden.l_j]).softmax(1))
    assert on_golden_inputs(golden).bounds(6)["contrast"] == pytest.approx(math.log(11))


def test_each_weight_weighs_its_own_term(golden):
    weights = {"diversity": 1.0, "confidence": 10.0, "pull": 100.0, "push": 1000.0}
    options = {f"{name}_weight": weight for name, weight in weights.items()}
    terms = on_golden_inputs(golden, **options).step(NO_VIEWS).terms
    defaults = {"diversity": 2.0, "confidence": 0.1, "pull": 0.1, "push": 0.05}
    plain = on_golden_inputs(golden).step(NO_VIEWS).terms
    for name, weight in weights.items():
        expected = plain[name].item() / defaults[name] * weight
        assert terms[name].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("left_out", ["diversity", "confidence", "pull", "push"])
def test_a_weight_of_0_leaves_its_term_out(golden, left_out):
    terms = on_golden_inputs(golden, **{f"{left_out}_weight": 0.0}).step(NO_VIEWS).terms
    assert set(terms) == {"contrast", "diversity", "confidence", "pull", "push"} - {left_out}


def test_without_its_own_terms_mixem_is_contrast_alone(golden):
    weights = dict.fromkeys(
        ("diversity_weight", "confidence_weight", "pull_weight", "push_weight"), 0.0
    )
    step = on_golden_inputs(golden, **weights).step(NO_VIEWS)
    assert list(step.terms) == ["contrast"]


def test_loss_two_as_an_entropy(golden):
    step = on_golden_inputs(golden, confidence="entropy").step(NO_VIEWS)
    p = step.assignments
    expected = 0.1 * sum(-(v * v.log()).sum(1).mean() for v in p.chunk(2)).item()
    assert step.terms["confidence"].item() == pytest.approx(expected, rel=1e-12)


def test_temperature_is_handed_on(golden):
    z = mix(
        nn.functional.normalize(torch.cat([golden.e_i, golden.e_j], 1), dim=2),
        torch.cat([golden.l_i, golden.l_j]).softmax(1),
    )
    expected = nt_xent(*z.chunk(2), temperature=0.2).item()
    step = on_golden_inputs(golden, temperature=0.2).step(NO_VIEWS)
    assert step.terms["contrast"].item() == pytest.approx(expected, rel=1e-12)


def test_the_extra_projection_stands_between_mixture_and_contrast_alone(golden):
    plain = on_golden_inputs(golden).step(NO_VIEWS).terms
    method = on_golden_inputs(golden, extra_projection=True)
    terms = method.step(NO_VIEWS).terms
    assert terms["contrast"] != plain["contrast"]
    for name in ("diversity", "confidence", "pull", "push"):
        assert terms[name] == plain[name]
    shapes = [tuple(p.shape) for p in method.projection.parameters()]
    assert shapes == [(4, 4), (4,), (4, 4), (4,)]
    assert not list(on_golden_inputs(golden).projection.parameters())


@METHODS
def test_training_steps_lower_the_loss_of_a_fixed_batch(kind):
    method = make(kind).train()
    views = method.draw_views(digits(32), seeded())
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss = sum(method.step(views).terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@METHODS
@pytest.mark.parametrize("batch", [2, 3])
def test_the_smallest_batches(kind, batch):
    method = make(kind).train()
    step = method.step(method.draw_views(digits(batch), seeded()))
    assert all(term.isfinite() for term in step.terms.values())
    assert method.bounds(batch)["contrast"] == pytest.approx(math.log(2 * batch - 1))


def test_simclr_has_one_term_and_no_assignments():
    method = make(SimCLR)
    views = method.draw_views(digits(8), seeded())
    step = method.step(views)
    assert list(step.terms) == ["contrast"]
    assert step.assignments is None
    z = [method.head(method.backbone(view)) for view in views]
    assert step.terms["contrast"].item() == pytest.approx(nt_xent(*z).item(), rel=1e-5)


def test_two_views_of_each_image_are_drawn_independently():
    method = make(SimCLR)
    views = method.draw_views(digits(5), seeded())
    assert views.shape == (2, 5, 1, 16, 16)
    assert not torch.equal(views[0], views[1])
    assert torch.equal(views, method.draw_views(digits(5), seeded()))
    assert not torch.equal(views, method.draw_views(digits(5), seeded(1)))


@METHODS
def test_shapes_of_features_and_embeddings(kind):
    method = make(kind, embedding_size=5)
    with torch.no_grad():
        assert method.features(digits(3)).shape == (3, 16)
        assert method.embeddings(digits(3)).shape == (3, 5)


def test_mixem_assigns_by_its_coefficients():
    method = make(MixEM, components=7, embedding_size=5, clusters=3)
    with torch.no_grad():
        p = method.assign(digits(4))
        z = method.embeddings(digits(4))
        embeddings, logits = method.head(method.features(digits(4)))
    assert p.shape == (4, 7)
    assert torch.allclose(p.sum(1), torch.ones(4))
    assert torch.equal(p, logits.softmax(1))
    assert torch.allclose(z, (embeddings * p.T[:, :, None]).sum(0), atol=1e-6)
    assert z.norm(dim=1).max() <= 1 + 1e-6


def test_start_from_takes_the_backbone_and_nothing_else():
    start = make(SimCLR)
    torch.manual_seed(7)
    method = MixEM(SmallNet(1, width=4), VIEWS)
    start.train().step(start.draw_views(digits(8), seeded()))  # moves the batch norms' averages
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.start_from(start)
    for name, value in method.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, start.state_dict()[name]), name
        else:
            assert torch.equal(value, before[name]), name
    # Copied, not shared.
    next(method.backbone.parameters()).data.add_(1)
    assert not torch.equal(
        next(method.backbone.parameters()), next(iter(start.backbone.parameters()))
    )


@pytest.mark.parametrize(
    "other", [{"channels": 3}, {"width": 8}, {"size": 24}], ids=["channels", "width", "size"]
)
def test_start_from_another_backbone_is_an_error(other):
    options = {"channels": 1, "width": 4, "size": 16} | other
    backbone = SmallNet(options.pop("channels"), **options)
    with pytest.raises(InputError, match="another backbone"):
        make(MixEM).start_from(SimCLR(backbone, VIEWS))


@METHODS
@pytest.mark.parametrize("what", ["features", "embeddings", "assign", "cluster"])
@pytest.mark.parametrize("training", [True, False])
def test_extract_leaves_the_mode_and_does_not_depend_on_the_batch_size(kind, what, training):
    method = make(kind)
    method.keep_centres(torch.randn(10, 16, generator=seeded()), 0.1)
    method.train(training)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    whole = extract(method, digits(20), what)
    assert method.training is training
    assert whole.dtype == torch.float32
    assert len(whole) == 20
    for batch_size in (1, 3, 20):
        parts = extract(method, digits(20), what, batch_size=batch_size)
        assert torch.allclose(parts, whole, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_extract_restores_the_mode_after_an_error():
    method = make(SimCLR).train()
    with pytest.raises(InputError):
        extract(method, digits(3).float())
    assert method.training


def test_what_extract_returns_can_be_trained_on():
    features = extract(make(SimCLR), digits(4))
    features -= features.mean(0)
    nn.Linear(16, 2)(features).sum().backward()


def test_extract_of_something_unknown():
    with pytest.raises(InputError, match="'logits'; SimCLR has features, embeddings"):
        extract(make(SimCLR), digits(2), "logits")


@METHODS
def test_no_clusters_before_there_are_centres(kind):
    with pytest.raises(InputError, match="no cluster centres yet"):
        make(kind).cluster(digits(2))
    if kind is SimCLR:
        with pytest.raises(InputError, match="no cluster centres yet"):
            make(kind).assign(digits(2))


@METHODS
def test_clusters_agree_with_the_evaluation(kind):
    method = make(kind, clusters=6)
    features = extract(method, digits(40))
    centres = nn.functional.normalize(features[::7]) + 0.01
    method.keep_centres(centres.double(), 0.01)
    p = extract(method, digits(40), "cluster")
    assert p.shape == (40, 6)
    assert torch.allclose(p.sum(1), torch.ones(40))
    clusters, sureness = assign_to_centres(features, centres, normalise=True, variance=0.01)
    assert p.argmax(1).tolist() == clusters.tolist()
    assert p.max(1).values.tolist() == pytest.approx(sureness.tolist(), rel=1e-4)
    assert 0.2 < p.max(1).values.min() < 0.9  # not all of them certain
    if kind is SimCLR:
        assert torch.equal(p, extract(method, digits(40), "assign"))


def test_clusters_without_spread_are_certain():
    method = make(SimCLR, clusters=2)
    features = nn.functional.normalize(extract(method, digits(2)))
    method.keep_centres(features, 0.0)
    p = extract(method, digits(2), "cluster")
    assert p.argmax(1).tolist() == [0, 1]
    assert p.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "variance", "message"),
    [
        ((5, 16), 0.1, r"centres of shape \(5, 16\) for 2 clusters and features of 16 numbers"),
        ((1, 16), 0.1, "give 2 rows of 16"),  # which would have been all of them
        ((16,), 0.1, "give 2 rows of 16"),
        ((2, 8), 0.1, "give 2 rows of 16"),
        ((2, 16), math.nan, "variance is nan; give a finite number from 0 on"),
        ((2, 16), -1.0, "variance is -1.0"),
        ((2, 16), math.inf, "variance is inf"),
    ],
)
def test_centres_that_do_not_fit_are_refused(shape, variance, message):
    """PyTorch said "the size of tensor a (3) must match", and a single row became all."""
    method = make(SimCLR, clusters=2)
    with pytest.raises(InputError, match=message):
        method.keep_centres(torch.ones(shape), variance)
    assert not method.centres.any()
    with pytest.raises(InputError, match="no cluster centres yet"):
        method.distances(digits(2))


@pytest.mark.parametrize("clusters", [0, -1, 1.5, True, None])
def test_a_number_of_clusters_that_is_none(clusters):
    with pytest.raises(InputError, match=f"clusters is {clusters}; give a whole number from 1 on"):
        SimCLR(SmallNet(1, size=8, width=4), Augmentation(size=8), clusters=clusters)


def test_centres_are_saved_with_the_weights():
    method, other = make(SimCLR, clusters=2), make(SimCLR, clusters=2)
    method.keep_centres(torch.ones(2, 16), 0.25)
    other.load_state_dict(method.state_dict())
    assert torch.equal(extract(other, digits(3), "cluster"), extract(method, digits(3), "cluster"))


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)],
    ids=["float", "no batch"],
)
def test_images_of_another_type_are_refused(images):
    for what in ("features", "embeddings"):
        with pytest.raises(InputError, match="give a uint8 tensor of shape"):
            getattr(make(MixEM), what)(images)


def test_evaluation_sees_plain_images():
    method = make(SimCLR)
    expected = method.backbone(VIEWS.plain(digits(3)))
    assert torch.allclose(method.features(digits(3)), expected, atol=1e-6)
    normalised = dataclasses.replace(VIEWS, mean=(0.5,), std=(0.25,))
    method.views = normalised
    assert torch.allclose(
        method.prepare(digits(3)), (VIEWS.plain(digits(3)) - 0.5) / 0.25, atol=1e-6
    )


def test_autocast_gives_full_precision_terms():
    method = make(MixEM).train()
    views = method.draw_views(digits(16), seeded())
    plain = method.step(views).terms
    with torch.autocast("cpu", torch.bfloat16):
        step = method.step(views)
    for name, term in step.terms.items():
        assert term.dtype == torch.float32, name
        assert term.item() == pytest.approx(plain[name].item(), rel=0.05, abs=0.01), name
    assert step.assignments.dtype == torch.float32
    sum(step.terms.values()).backward()
    assert all(p.grad.dtype == torch.float32 for p in method.parameters())


def test_a_method_has_to_say_how_it_steps():
    method = Method(SmallNet(1, width=4), VIEWS, clusters=2)
    for name in ("step", "assign"):
        with pytest.raises(NotImplementedError, match=f"Method does not define {name}"):
            getattr(method, name)(digits(2))
    with pytest.raises(NotImplementedError, match="Method does not define supervised_step"):
        method.supervised_step(digits(2), torch.zeros(2))


def test_what_a_method_leaves_out_has_a_plain_meaning():
    method = Method(SmallNet(1, width=4), VIEWS, clusters=2).eval()
    images = load_images("digits", split="test")
    assert torch.equal(method.embeddings(digits(3)), method.features(digits(3)))
    assert (method.targets(images), method.companions(images.images)) == (None, None)
    assert (method.bounds(8), method.rates()) == ({}, [(method, 1.0)])
    assert method.view_sizes() == {16}
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.before_step(0)
    method.finish(images.images, seeded())
    method.settle(make(SimCLR))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("kind", [Method, SimCLR, IIC, IMCSwAV])
def test_a_method_that_begins_from_random_weights_refuses_a_start(kind):
    method = kind(SmallNet(1, width=4), VIEWS)
    with pytest.raises(
        InputError, match=f"{kind.__name__} begins from random weights, or goes on from"
    ):
        method.start_from(make(SimCLR))


def test_a_method_is_not_made_of_anothers_settings():
    with pytest.raises(InputError, match="SimCLR with IICSettings; give SimCLRSettings"):
        SimCLR(SmallNet(1, width=4), VIEWS, IICSettings())
    assert SimCLR(SmallNet(1, width=4), VIEWS).settings == SimCLRSettings()


def test_a_backbone_says_how_long_its_features_are():
    with pytest.raises(InputError, match=r"Sequential, has no out_features; set it .* = 512"):
        Method(nn.Sequential(nn.Linear(3, 4)), VIEWS)


@pytest.mark.parametrize("name", ALL_METHODS)
def test_settings_are_frozen_and_their_defaults_make_the_method(name):
    kind = ALL_METHODS[name]
    settings = kind.Settings()
    assert isinstance(settings, MethodSettings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.anything = 1
    if kind.sorts == "pixels":
        method = kind(SegmentationNet10a(1, width=2), Augmentation(size=16))
    else:
        method = kind(SmallNet(1, width=2), VIEWS)
    assert method.settings == settings
    assert method.feature_size == method.backbone.out_features
    assert set(Method.outputs) <= set(method.outputs)
    assert all(hasattr(method, output) for output in method.outputs)


def test_images_that_are_no_tensor_are_refused():
    images = load_images("digits", split="test")
    with pytest.raises(InputError, match="images are of type ImageSet; give its tensor"):
        extract(make(SimCLR), images)


def test_an_unknown_confidence_is_an_error():
    with pytest.raises(InputError, match="'margin'; give confidence or entropy"):
        make(MixEM, confidence="margin")


def test_images_with_other_channels_are_refused():
    method = build(get("digits/simclr"), channels=1, seed=0)
    with pytest.raises(InputError, match=r"images of 3 channel\(s\) for a network that takes 1"):
        extract(method, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
