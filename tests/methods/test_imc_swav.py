"""IMC-SwAV: its step against a slow version, who learns from which term, prototypes, the bank."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from mixem.data import Augmentation, ImageSet, load_images
from mixem.errors import InputError
from mixem.losses import infomax
from mixem.methods import IMCSwAV, IMCSwAVSettings, extract
from mixem.models import ClusterHead, SmallResNet, resnet18
from mixem.training import train
from mixem.training.config import TrainConfig

VIEWS = Augmentation(size=8, crop_scale=(0.5, 1.0), brightness=0.4, plain_size=10)
SMALL = Augmentation(size=6, crop_scale=(0.2, 0.5), brightness=0.4)
SIZES = {"embedding_size": 5, "hidden": 12, "prototypes": 7}


def make(kind=IMCSwAV, views=VIEWS, clusters=10, **settings):
    torch.manual_seed(0)
    settings = IMCSwAVSettings(**{"small_views": SMALL, "frozen_steps": 0, **SIZES} | settings)
    return kind(SmallResNet(1, width=2), views, settings, clusters=clusters)


def digits(count):
    return load_images("digits", split="train+test").subset(slice(count))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(method, count=6):
    return method.draw_views(digits(count).images, seeded())


def loud(method, factor=100):
    """With logits beyond 5, where the penalty begins."""
    with torch.no_grad():
        method.head[-1].weight.mul_(factor)
    return method


def codes_of(scores, epsilon, iterations):
    """Sinkhorn as it is written down: images are columns."""
    q = (scores.detach() / epsilon).exp().T
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / q.shape[0]
        q = q / q.sum(0, keepdim=True) / q.shape[1]
    return (q / q.sum(0, keepdim=True)).T


def official(method, groups, *, temperature=0.1, epsilon=0.05, iterations=3, b=4.0, a=0.01):
    """The three terms: each view forwarded alone, each pair of views for itself."""
    views = [view for group in groups for view in group]
    features = [method.backbone(view) for view in views]
    scores = [F.normalize(method.projection(z)) @ method.prototypes.T for z in features]
    p_u = [(u / temperature).softmax(1) for u in scores]
    swapped = []
    for i in (0, 1):
        q = codes_of(scores[i], epsilon, iterations)
        for v in range(len(views)):
            if v != i:
                swapped.append(-(q * p_u[v].clamp(1e-17, 1).log()).sum(1).mean())
    logits = [method.head(z.detach()) for z in features]
    information = []
    for y in logits:
        for u in p_u:
            joint = y.softmax(1).T @ u.detach()
            joint = joint / joint.sum()
            p_y = joint.sum(1)
            conditional = -(joint * (joint / joint.sum(0)).log()).sum()
            information.append(conditional + b * (p_y * p_y.log()).sum())
    penalties = [a * (y.abs() - 5).clamp_min(0).sum(1).mean() for y in logits]
    terms = {"swapped": swapped, "information": information, "penalty": penalties}
    return {name: torch.stack(parts).mean() for name, parts in terms.items()}


def gradients(method):
    parameters = method.named_parameters()
    return {name: p.grad.clone() for name, p in parameters if p.grad is not None}


@pytest.mark.parametrize(
    ("options", "switches"),
    [
        ({}, {}),
        ({"large": 3, "small": 1}, {}),  # the third large view gives no code
        ({"small": 0}, {}),
        ({"small_views": None}, {}),
        ({"temperature": 0.2, "epsilon": 0.1, "iterations": 1}, None),
        ({"entropy_weight": 2.0, "penalty_weight": 0.5}, {"b": 2.0, "a": 0.5}),
    ],
    ids=str,
)
def test_the_terms_and_their_gradients_are_the_published_ones(options, switches):
    switches = options if switches is None else switches
    method = loud(make(**options)).double().train()
    method.before_step(0)
    views = [group.double() for group in drawn(method)]
    results = []
    for terms in (method.step(views).terms, official(method, views, **switches)):
        method.zero_grad()
        sum(terms.values()).backward()
        results.append(({name: term.item() for name, term in terms.items()}, gradients(method)))
    (ours, our_gradients), (theirs, their_gradients) = results
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert min(map(abs, theirs.values())) > 0.01
    assert our_gradients.keys() == their_gradients.keys() >= {"prototypes", "backbone.0.weight"}
    for name, gradient in our_gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], atol=1e-11, rtol=1e-7)


@pytest.mark.parametrize("name", ["swapped", "information", "penalty"])
def test_a_term_trains_the_encoder_or_the_classifier(name):
    method = loud(make()).train()
    method.before_step(0)
    method.step(drawn(method)).terms[name].backward()
    found = gradients(method)
    reached = {name.split(".")[0] for name in found}
    assert reached == ({"backbone", "projection", "prototypes"} if name == "swapped" else {"head"})
    assert all(found[n].any() for n in found if n.endswith("weight") or n == "prototypes")


def calls(module):
    """The shapes a module is called with from now on."""
    found = []
    module.register_forward_hook(lambda module, given, out: found.append(tuple(given[0].shape)))
    return found


@pytest.mark.parametrize(
    ("options", "groups"),
    [({}, [(12, 8), (24, 6)]), ({"small_views": None}, [(12, 8)])],
    ids=str,
)
@pytest.mark.parametrize("one_pass", [False, True])
def test_a_call_for_each_size(options, groups, one_pass):
    method = make(one_pass=one_pass, **options).train()
    seen, classified = calls(method.backbone), calls(method.head)
    step = method.step(drawn(method))
    assert seen == [(count, 1, size, size) for count, size in groups]
    assert classified == [(count, 16) for count, _ in groups]
    assert all(term.isfinite() for term in step.terms.values())


def test_each_view_has_batch_statistics_of_its_own():
    method, twin = make().train(), make(one_pass=True).train()
    views = drawn(method)
    alone = torch.stack([copy.deepcopy(method.backbone)(view) for group in views for view in group])
    torch.testing.assert_close(method.by_view(method.backbone, views), alone)
    together = [twin.backbone(group.flatten(0, 1)).unflatten(0, (-1, 6)) for group in views]
    assert torch.equal(twin.by_view(twin.backbone, views), torch.cat(together))
    assert not torch.allclose(torch.cat(together), alone, atol=1e-3)


def test_views_are_of_the_same_images_in_the_same_order():
    plain = Augmentation(size=8)  # nothing is random
    images = digits(5).images
    large, small = make(views=plain, small_views=Augmentation(size=6)).draw_views(images, seeded())
    assert (large.shape, small.shape) == ((2, 5, 1, 8, 8), (4, 5, 1, 6, 6))
    assert torch.equal(large, plain.plain(images).expand(2, 5, 1, 8, 8))
    assert torch.equal(small[3], small[0])
    large, small = make().draw_views(images, seeded())
    assert not torch.equal(large[0], large[1])
    assert len({view.sum().item() for view in small}) == 4


# Prototypes -------------------------------------------------------------------------------------


class Watched(IMCSwAV):
    """Remembers the prototypes at each forward, and what it is told."""

    def before_step(self, step):
        super().before_step(step)
        self.told = [*getattr(self, "told", []), step]

    def compare(self, features):
        self.seen = [*getattr(self, "seen", []), self.prototypes.detach().clone()]
        return super().compare(features)


@pytest.mark.filterwarnings("ignore:.*stays at its bound")
def test_prototypes_wait_and_then_move_on_the_sphere():
    method = make(Watched, frozen_steps=4)
    start = {name: p.detach().clone() for name, p in method.named_parameters()}
    # A weight decay that would be seen at once.
    config = TrainConfig(epochs=2, batch_size=16, learning_rate=0.05, weight_decay=1.0)
    train(method, digits(48), config, device="cpu", progress=False)
    assert method.told == [0, 1, 2, 3, 4, 5]
    for number, prototypes in enumerate(method.seen):
        torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(7))
        distance = (prototypes - start["prototypes"]).abs().max()
        assert distance < 1e-6 if number <= 4 else distance > 0.01
    assert not torch.allclose(method.projection[0].weight, start["projection.0.weight"], atol=1e-3)


def test_frozen_prototypes_have_no_gradient():
    method = make(frozen_steps=2).train()
    for step in range(4):
        method.zero_grad(set_to_none=True)
        method.before_step(step)
        method.step(drawn(method)).terms["swapped"].backward()
        assert (method.prototypes.grad is None) == (step < 2)


def test_scores_are_cosines_whatever_the_last_step_did():
    method = make()
    with torch.no_grad():
        method.prototypes.mul_(torch.linspace(0.5, 3, 7)[:, None])
    images = digits(20).images
    scores = extract(method, images, "scores")
    z = F.normalize(extract(method, images, "embeddings"))
    torch.testing.assert_close(scores, z @ F.normalize(method.prototypes.detach()).T)


def test_how_often_each_prototype_is_the_nearest():
    method = make().train()
    views = drawn(method, 30)
    nearest = method.compare(method.by_view(method.backbone, views))[0].argmax(1)
    step = method.step(views)
    assert step.hits["prototypes"].tolist() == torch.bincount(nearest, minlength=7).tolist()
    assert method.bounds(30) == {"swapped": math.log(7)}
    assert step.assignments.shape == (30, 10)
    torch.testing.assert_close(step.assignments.sum(1), torch.ones(30))
    assert not step.assignments.requires_grad


def test_alike_features_give_the_bound():
    method = make().train()
    with torch.no_grad():
        method.prototypes.copy_(method.prototypes[:1].expand(7, 5))
    method.before_step(0)
    assert method.step(drawn(method)).terms["swapped"].item() == pytest.approx(math.log(7))


# The bank ---------------------------------------------------------------------------------------


def test_the_classifier_waits_until_the_bank_holds_a_batch():
    method = make(bank=True).train()
    batches = [drawn(method, 4)] + [
        method.draw_views(digits(4 * n).images[-4:], seeded(n)) for n in (2, 3, 4, 5)
    ]
    twin = copy.deepcopy(method)
    labelled = [torch.arange(4) == n % 4 for n in range(5)]
    kept = []
    for number, (views, known) in enumerate(zip(batches, labelled, strict=True)):
        step = method.supervised_step(views, known)
        features = twin.by_view(twin.backbone, views).detach()
        kept.append((features[:, known], twin.compare(features)[:, known].detach()))
        assert ("information" in step.terms) == ("penalty" in step.terms) == (number == 3)
        assert len(method.banked) == (1, 2, 3, 0, 1)[number]
        assert (step.assignments is None) == (number != 3)
        assert step.terms["swapped"].requires_grad
        if number == 3:
            features, scores = (torch.cat(parts, 1) for parts in zip(*kept, strict=True))
            logits = torch.stack([twin.head(view) for view in features])
            expected = infomax(logits, scores)
            assert step.terms["information"].item() == pytest.approx(expected.item(), abs=1e-6)
            step.terms["information"].backward()
            assert {name.split(".")[0] for name in gradients(method)} == {"head"}


def test_the_bank_is_used_whole_and_may_get_nothing():
    method = make(bank=True).train()
    sizes = []
    for known in (0, 3, 3, 4, 0):
        step = method.supervised_step(drawn(method, 4), torch.arange(4) < known)
        sizes.append(0 if step.assignments is None else len(step.assignments))
    assert sizes == [0, 0, 6, 4, 0]


def test_only_whether_there_is_a_label_counts():
    images = digits(6)
    method = make(bank=True)
    for labels in ([0, -1, 3, -1, -1, 9], [7, -1, 0, -1, -1, 1]):
        labels = torch.tensor(labels)
        targets = method.targets(
            ImageSet(images.images, labels, images.class_names, name="some", split="all")
        )
        assert targets.tolist() == [True, False, True, False, False, True]
    assert make().targets(images) is None
    for labels in (None, torch.full((6,), -1)):
        bare = ImageSet(images.images, labels, name="bare", split="all")
        with pytest.raises(InputError, match=r"no image of bare, all, has a label.*bank=False"):
            method.targets(bare)
        assert make().targets(bare) is None


@pytest.mark.filterwarnings("ignore:.*stays at its bound")
def test_training_with_a_bank():
    images = digits(64)
    labels = images.labels.clone()
    labels[torch.arange(64) % 4 > 0] = -1
    config = TrainConfig(epochs=2, batch_size=16, learning_rate=1e-3)
    weights = []
    for known in (labels, torch.where(labels < 0, -1, (labels + 1) % 10)):
        method = make(bank=True)
        part = ImageSet(images.images, known, images.class_names, name="part", split="all")
        history = train(method, part, config, device="cpu", progress=False).history
        assert set(history[-1].terms) == {"swapped", "information", "penalty"}
        assert all(math.isfinite(value) for value in history[-1].terms.values())
        weights.append(torch.cat([p.flatten() for p in method.parameters()]))
    assert torch.equal(*weights)


# The rest ---------------------------------------------------------------------------------------


def test_as_many_parameters_as_the_official_network():
    with torch.device("meta"):
        method = IMCSwAV(resnet18(stem="cifar"), Augmentation(size=28))
    count = {
        name: sum(p.numel() for p in part.parameters()) for name, part in method.named_children()
    }
    assert count == {"backbone": 11_168_832, "projection": 328_320, "head": 1_589_258}
    assert method.prototypes.shape == (1000, 128)
    assert isinstance(method.head, ClusterHead)


def test_training_lowers_the_loss_of_a_fixed_batch():
    method = make().train()
    views = drawn(method, 32)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    rows = []
    for number in range(15):
        method.before_step(number)
        terms = method.step(views).terms
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
        rows.append({name: term.item() for name, term in terms.items()})
    assert rows[-1]["swapped"] < rows[0]["swapped"] / 2
    assert rows[-1]["information"] < rows[0]["information"] - 0.05


def test_bfloat16_leaves_the_scores_exact():
    # Large enough: for a stride of 2 on a single place PyTorch's CPU kernels read wild memory.
    sizes = {"views": Augmentation(size=16), "small_views": Augmentation(size=12, flip=0.5)}
    method = make(**sizes).train()
    views = drawn(method, 16)
    exact = method.step(views).terms
    with torch.autocast("cpu", torch.bfloat16):
        assert method.backbone(views[0][0]).dtype == torch.bfloat16
        scores = method.compare(method.by_view(method.backbone, views))
        terms = method.step(views).terms
    assert scores.dtype == torch.float32
    assert {term.dtype for term in terms.values()} == {torch.float32}
    for name, term in terms.items():
        assert term.item() == pytest.approx(exact[name].item(), rel=0.1, abs=0.01)
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in method.parameters())


def test_what_can_be_extracted():
    method, images = make().train(), digits(23).images
    sizes = {"features": 16, "embeddings": 5, "scores": 7, "logits": 10, "assign": 10}
    seen = calls(method.backbone)
    found = {what: extract(method, images, what, batch_size=8) for what in sizes}
    assert {what: value.shape for what, value in found.items()} == {
        what: (23, size) for what, size in sizes.items()
    }
    assert set(seen) == {(8, 1, 10, 10), (7, 1, 10, 10)}  # of the plain size
    assert found["scores"].abs().max() <= 1 + 1e-6
    assert torch.equal(found["assign"], found["logits"].softmax(1))
    assert torch.equal(extract(method, images, "cluster", batch_size=8), found["assign"])
    with pytest.raises(InputError, match="'sub_heads'; IMCSwAV has features"):
        extract(method, images, "sub_heads")
    assert method.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"large": 1}, "large is 1; give at least 2"),
        ({"small": -1}, "small is -1; give at least 0"),
        ({"clusters": 1}, "1 clusters, 12 hidden units; give at least 2"),
        ({"hidden": 0}, "hidden is 0; give at least 1"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


def test_an_image_and_its_neighbour_are_two_large_views_and_need_no_small_ones():
    method = make(neighbours=2, small=3).train()
    images = digits(6).images
    step = method.step(method.draw_pairs(images, images.roll(1, 0), seeded()))
    assert all(term.isfinite() for term in step.terms.values())
    assert step.assignments.shape == (6, 10)
