"""IIC: its step against a plain version, passes, choosing a sub-head, training."""

import copy
import dataclasses
import filecmp

import pytest
import torch

from mixem.data import Augmentation, ImageSet, load_images
from mixem.errors import InputError
from mixem.losses import iic
from mixem.methods import IIC, IICSettings, extract
from mixem.methods.base import mixed
from mixem.models import ClusterNet6c
from mixem.training import train
from mixem.training.config import TrainConfig
from mixem.training.meter import Meter

VIEWS = Augmentation(size=8, degrees=15, brightness=0.4)
PLAIN = Augmentation(size=8, crop_sides=(6, 7))


def make(*, running_statistics=True, clusters=10, **settings):
    torch.manual_seed(0)
    net = ClusterNet6c(1, width=4, size=8, running_statistics=running_statistics)
    settings = IICSettings(**{"over_clusters": 20, "repeats": 3, "head_std": None} | settings)
    return IIC(net, VIEWS, settings, clusters=clusters)


def digits(count=None, split="train+test"):
    images = load_images("digits", split=split)
    return images.subset(range(count)) if count else images


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def official(method, views, name):
    """The loss as published: r copies of the plain view, each sub-head for itself."""
    plain, changed = views[0].repeat(len(views) - 1, 1, 1, 1), views[1:].flatten(0, 1)
    head = method.heads[name]
    pairs = zip(head(method.backbone(plain)), head(method.backbone(changed)), strict=True)
    return torch.stack([iic(p, q) for p, q in pairs]).mean()


@pytest.mark.parametrize("name", ["main", "over"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_forwarding_the_plain_view_once_changes_nothing(name, repeats):
    """With batch norm in training: the statistics of r copies are those of one."""
    method = make(repeats=repeats).double().train()
    views = method.draw_views(digits(12).images, seeded()).double()
    assert views.shape == (1 + repeats, 12, 1, 8, 8)
    results = []
    for loss in (method.step(views, name).terms[name], official(method, views, name)):
        method.zero_grad()
        loss.backward()
        gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
        results.append((loss.item(), torch.cat(gradients)))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert ours == pytest.approx(theirs, abs=1e-14)
    torch.testing.assert_close(our_gradient, their_gradient, atol=1e-13, rtol=1e-9)
    assert our_gradient.abs().max() > 1e-4


def test_a_pass_trains_the_trunk_and_its_own_head():
    method = make().train()
    views = method.draw_views(digits(12).images, seeded())
    for name, other in (("main", "over"), ("over", "main")):
        method.zero_grad(set_to_none=True)
        step = method.step(views, name)
        assert list(step.terms) == [name]
        step.terms[name].backward()
        assert all(p.grad is None for p in method.heads[other].parameters())
        assert all(p.grad is not None for p in method.heads[name].parameters())
        assert all(p.grad is not None for p in method.backbone.parameters())


def test_a_main_step_tells_each_sub_head_apart():
    method = make(sub_heads=4).train()
    step = method.step(method.draw_views(digits(12).images, seeded()))
    assert step.assignments.shape == (4, 12, 10)
    assert step.details["sub_heads"].shape == (4,)
    assert step.terms["main"].item() == pytest.approx(step.details["sub_heads"].mean().item())
    assert len(set(step.details["sub_heads"].tolist())) == 4


def test_the_plain_view_is_the_whole_image_or_a_crop_of_its_own():
    images = digits(30).images
    views = make().draw_views(images, seeded())
    assert torch.equal(views[0], images / 255)
    assert not torch.equal(views[1], views[2])
    cropped = make(plain_views=PLAIN).draw_views(images, seeded())
    assert not torch.equal(cropped[0], images / 255)
    # Whatever its own size is, it is drawn as large as the others.
    large = make(plain_views=dataclasses.replace(PLAIN, size=9))
    assert torch.equal(large.draw_views(images, seeded()), cropped)


def test_the_first_steps_see_views_without_cutout():
    views = dataclasses.replace(VIEWS, cutout=1.0, cutout_sides=(0.5, 0.5), cutout_width=1.0)
    torch.manual_seed(0)
    method = IIC(ClusterNet6c(1, width=4, size=8), views, IICSettings(repeats=2, clear_steps=5))
    images = torch.full((20, 1, 8, 8), 255, dtype=torch.uint8)

    def has_a_band(step):
        if step is not None:
            method.before_step(step)
        drawn = method.draw_views(images, seeded())[1:]
        middle = drawn[..., 2:6]  # a turn leaves black corners
        return (middle.amax(4) == 0).any(3).all().item()

    assert has_a_band(None)  # outside training
    assert [has_a_band(step) for step in (0, 4, 5, 6, 3)] == [False, False, True, True, False]
    assert method.views.cutout == 1.0


@pytest.fixture(scope="module")
def trained():
    """A short training with both heads on different images, as on STL-10."""
    method = make(passes=("over", "main", "main"))
    every, few = digits(), digits(500)
    config = TrainConfig(
        epochs=3, batch_size=100, learning_rate=3e-3, weight_decay=0, constant_epochs=3
    )
    result = train(method, {"main": few, "over": every}, config, progress=False)
    method.finish(few.images, seeded(7))
    return method, result


def test_training_lowers_both_losses_and_logs_each_sub_head(trained):
    _, result = trained
    first, last = result.history[0], result.history[-1]
    assert set(last.terms) == {"main", "over"}
    assert last.terms["main"] < first.terms["main"] < -0.02
    assert last.terms["over"] < first.terms["over"] < -0.02
    assert last.loss == pytest.approx(sum(last.terms.values()))
    assert sum(last.details["sub_heads"]) / 5 == pytest.approx(last.terms["main"], abs=1e-6)
    assert [len(shares) for shares in last.usage] == [10] * 5
    assert last.used == [sum(share > 0 for share in shares) for shares in last.usage]
    # 17 batches of all images and twice 5 of the few.
    assert [row.step for row in result.history] == [27, 54, 81]


def test_the_sub_head_with_the_lowest_loss_is_chosen(trained):
    method, _ = trained
    assert method.chosen == method.sub_head_losses.argmin()
    assert len(set(method.sub_head_losses.tolist())) == 5
    images = digits(200).images
    every = extract(method, images, "sub_heads")
    assert every.shape == (200, 5, 10)
    torch.testing.assert_close(every.sum(2), torch.ones(200, 5))
    for what in ("assign", "cluster"):
        assert torch.equal(extract(method, images, what), every[:, method.chosen])
    assert torch.equal(extract(method, images, "embeddings"), extract(method, images))


def test_the_losses_after_training_are_those_of_new_views(trained):
    """The mean over the batches, by a plain loop; the last batch is smaller and weighs less."""
    method, _ = trained
    images, generator = digits(300).images, seeded(3)
    method.finish(images, seeded(3))
    images = images[mixed(images)]
    with torch.no_grad():
        parts = [
            method.losses(method.draw_views(batch, generator), "main")[0] * len(batch)
            for batch in (images[:256], images[256:])
        ]
    torch.testing.assert_close(method.sub_head_losses, sum(parts) / 300)


def test_the_losses_after_training_do_not_depend_on_the_order_of_the_files(trained):
    method = copy.deepcopy(trained[0])
    some = digits(600)
    by_class = some.images[some.labels.argsort()]
    method.finish(some.images, seeded(3))
    losses = method.sub_head_losses.clone()
    method.finish(by_class, seeded(3))
    with torch.no_grad():  # what batches of consecutive files would give
        parts = [
            method.losses(method.draw_views(batch, seeded(3)), "main")[0] * len(batch)
            for batch in by_class.split(256)
        ]
    apart = (sum(parts) / 600 - losses).abs().max()
    assert (method.sub_head_losses - losses).abs().max() < 0.01 < apart / 2


def test_one_head_alone():
    method = make(passes=("main",), clusters=30)
    assert list(method.heads) == ["main"]
    config = TrainConfig(epochs=1, batch_size=100, learning_rate=1e-3)
    history = train(method, digits(300), config, progress=False).history
    assert list(history[-1].terms) == ["main"]
    assert extract(method, digits(50).images, "assign").shape == (50, 30)


def test_batches_left_over_are_left_out_of_each_pass():
    method = make(passes=("main", "over"))
    config = TrainConfig(epochs=2, batch_size=140, learning_rate=1e-3)
    sets = {"main": digits(300), "over": digits(430)}
    history = train(method, sets, config, progress=False).history
    assert [row.step for row in history] == [2 + 3, 10]


def test_a_stopped_training_goes_on_in_the_middle_of_an_epoch(tmp_path):
    """Bit for bit as one that was never stopped."""
    config = TrainConfig(
        epochs=3, batch_size=50, learning_rate=1e-3, constant_epochs=3, snapshots=(0, 2)
    )
    sets = {"main": digits(300), "over": digits(1000)}
    whole = make(running_statistics=False)
    train(whole, sets, config, progress=False, out=tmp_path / "whole")
    for _ in range(20):
        part = make(running_statistics=False)
        result = train(
            part, sets, config, progress=False, out=tmp_path / "parts",
            max_minutes=1e-9, checkpoint_seconds=0,
        )  # fmt: skip
        if result.complete:
            break
    assert result.complete
    for ours, theirs in zip(whole.state_dict().values(), part.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    for epoch in (0, 2):
        name = f"epoch-{epoch}.safetensors"
        one, other = (tmp_path / folder / name for folder in ("whole", "parts"))
        assert filecmp.cmp(one, other, shallow=False)


def test_a_network_that_sees_nothing_is_noticed(monkeypatch):
    monkeypatch.setattr("mixem.training.loop.JUDGED_AFTER", 0)
    blank = digits(300)
    blank = dataclasses.replace(blank, images=torch.zeros_like(blank.images))
    config = TrainConfig(epochs=3, batch_size=100, learning_rate=1e-3, constant_epochs=3)
    with pytest.warns(UserWarning, match=r"epoch 2: (all images|the main term)"):
        train(make(passes=("main",)), blank, config, progress=False)


def test_images_without_labels_are_enough():
    images = digits(300)
    bare = ImageSet(images.images, None, name="bare", split="all")
    config = TrainConfig(epochs=1, batch_size=100, learning_rate=1e-3)
    train(make(), bare, config, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": ("over",)}, "give 'main', and 'over' if wanted"),
        ({"passes": ("main", "third")}, "give 'main', and 'over' if wanted"),
        ({"sub_heads": 0}, "sub_heads is 0; give at least 1"),
        ({"over_clusters": 1}, "over_clusters is 1; give at least 2"),
        ({"repeats": 0}, "repeats is 0; give at least 1"),
        ({"lamb": float("nan")}, "lamb is nan; give at least 0"),
        ({"mapping": "best"}, "mapping is 'best'; give 'one-to-one' or 'majority'"),
        ({"clusters": 1}, "give at least 1 sub-head and 2 clusters"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


@pytest.mark.parametrize("lamb", [0.8, 1.0, 1.5])
def test_answers_that_say_nothing_are_noticed_whatever_the_weight(lamb):
    method = make(lamb=lamb)
    with torch.no_grad():
        for p in method.heads["main"].parameters():
            p.zero_()  # equal answers for all images
    meter = Meter()
    views = method.draw_views(digits().images[:8], seeded())
    meter.add(method.step(views, "main"))
    row = meter.read(2, 10, 1e-3)
    assert row.used == [1] * 5
    row = dataclasses.replace(row, used=2)  # of equal answers the first cluster has all
    bounds = method.bounds(8)
    assert "the main term stays at" in meter.collapsed(row, bounds)
    row = dataclasses.replace(row, terms={"main": row.terms["main"] - 1})
    assert meter.collapsed(row, bounds) is None


def test_the_choice_does_not_depend_on_the_last_step_of_a_sitting():
    """A run that is complete but was killed before its end goes on without a step."""
    found = []
    for step in (0, 100):
        method = make(clear_steps=10)
        method.views = dataclasses.replace(VIEWS, cutout=1.0)
        method.before_step(step)
        method.finish(digits(20).images, seeded())
        found.append(method.sub_head_losses)
    assert torch.equal(*found)
