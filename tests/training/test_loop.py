"""The training loop: determinism, resuming, failures."""

import dataclasses
import filecmp
import json
import math
import os
import shutil
import time
import warnings

import pytest
import torch

from mixem.checkpoint import UNFINISHED, load_checkpoint
from mixem.data import Augmentation, ImageSet, load_images
from mixem.devices import resolve_device, resolve_precision
from mixem.errors import InputError
from mixem.methods import MixEM, SimCLR
from mixem.methods.base import Step
from mixem.models import SmallNet
from mixem.records import Epoch
from mixem.schema import from_json
from mixem.training import Sitting, TrainConfig, train
from mixem.training import loop as module
from mixem.training.loop import READ_EVERY
from mixem.training.step import seeded

VIEWS = Augmentation(size=8, degrees=10, brightness=0.3)
SHORT = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-3, constant_epochs=1)


def make(kind=MixEM, clusters=10, **settings):
    torch.manual_seed(0)
    net = SmallNet(1, width=2, size=8)
    return kind(net, VIEWS, kind.Settings(**settings), clusters=clusters)


def digits(count=48):
    return load_images("digits", split="train+test").subset(slice(count))


def fit(method, images, config=SHORT, **options):
    options = {"device": "cpu", "progress": False} | options
    return train(method, images, config, **options)


def timeless(history):
    return [dataclasses.replace(row, seconds=None) for row in history]


def same_weights(a, b):
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def log(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [from_json(Epoch, json.loads(line)) for line in lines]


def test_the_rate_rises_over_the_first_steps():
    images = digits(16)  # one step an epoch
    config = TrainConfig(
        epochs=8, batch_size=16, learning_rate=0.8, warmup_steps=4,
        schedule="milestones", milestones=(0.75,), decay=0.5,
    )  # fmt: skip
    rates = [row.learning_rate for row in fit(make(SimCLR), images, config).history]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.4, 0.4])


def test_the_first_of_many_steps_is_small():
    method, start = make(), make()
    config = TrainConfig(
        epochs=1, batch_size=16, learning_rate=1.0, weight_decay=0, warmup_steps=500
    )
    fit(method, digits(16), config)
    pairs = zip(method.parameters(), start.parameters(), strict=True)
    # Adam's first step has the length of the rate, whatever the gradient.
    assert max((a - b).abs().max().item() for a, b in pairs) == pytest.approx(1 / 500, rel=1e-2)


def test_the_rate_of_a_step_is_the_optimisers(tmp_path):
    config = dataclasses.replace(SHORT, epochs=2, constant_epochs=0, schedule="steps")
    result = fit(make(), digits(), config)
    steps = result.history[0].step
    assert steps > 1
    last = config.rate(1, (steps - 1) / steps)
    assert result.history[-1].learning_rate == pytest.approx(last) != config.rate(1)


@pytest.mark.parametrize("kind", [SimCLR, MixEM])
def test_training_learns_and_writes_what_it_did(tmp_path, kind):
    method = make(kind)
    config = dataclasses.replace(SHORT, epochs=6)
    training = fit(method, digits(), config, out=tmp_path)
    assert training.complete
    assert (training.device, training.precision) == ("cpu", "float32")
    assert training.seconds > 0
    assert training.images_per_second == pytest.approx(6 * 48 / training.seconds)
    assert not method.training
    assert [row.epoch for row in training.history] == [1, 2, 3, 4, 5, 6]
    assert [row.step for row in training.history] == [3, 6, 9, 12, 15, 18]
    assert [row.learning_rate for row in training.history] == [
        config.rate(epoch) for epoch in range(6)
    ]
    for row in training.history:
        assert row.loss == pytest.approx(sum(row.terms.values()))
    assert training.history[-1].loss < training.history[0].loss
    assert log(tmp_path) == training.history
    if kind is MixEM:
        for row in training.history:
            assert sum(row.usage) == pytest.approx(1, abs=1e-5)
            assert row.used == sum(share > 0 for share in row.usage)
            assert 0.1 <= row.confidence <= 1
            assert 0 <= row.usage_entropy <= math.log(10) + 1e-9


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.7)])
def test_two_epochs_equal_those_written_out(betas):
    images, method, twin = digits(), make(), make()
    config = TrainConfig(
        epochs=2, batch_size=16, learning_rate=1e-2, weight_decay=0.1, constant_epochs=0,
        betas=betas,
    )  # fmt: skip
    history = fit(method, images, config, seed=3).history
    optimiser = torch.optim.Adam(twin.parameters(), lr=1e-2, weight_decay=0.1, betas=betas)
    twin.train()
    for epoch, factor in ((0, 0.5), (1, 0.0)):  # a cosine over two epochs, from its second value
        optimiser.param_groups[0]["lr"] = 1e-2 * factor
        order = torch.randperm(48, generator=seeded(3, "order", epoch))
        means = dict.fromkeys(history[0].terms, 0.0)
        for i in range(3):
            batch = images.images[order[16 * i : 16 * (i + 1)]]
            views = twin.draw_views(batch, seeded(3, "views", 3 * epoch + i))
            terms = twin.step(views).terms
            optimiser.zero_grad()
            sum(terms.values()).backward()
            optimiser.step()
            means = {name: means[name] + terms[name].item() / 3 for name in means}
        assert history[epoch].terms == pytest.approx(means, rel=1e-4, abs=1e-6)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = make(), make(), make()
    histories = [
        timeless(fit(method, digits(), seed=seed).history)
        for method, seed in ((first, 5), (again, 5), (other, 6))
    ]
    assert same_weights(first, again)
    assert histories[0] == histories[1]
    assert not same_weights(first, other)


def test_global_random_numbers_play_no_part():
    first, again = make(), make()
    fit(first, digits())
    torch.manual_seed(99)
    before = torch.get_rng_state()
    fit(again, digits())
    assert same_weights(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_labels_are_not_looked_at():
    first, again = make(), make()
    fit(first, digits())
    fit(again, dataclasses.replace(digits(), labels=None, class_names=()))
    assert same_weights(first, again)


class Seen(SimCLR):
    """SimCLR that remembers the brightness of each image it drew views of."""

    def draw_views(self, images, generator):
        self.seen = [*getattr(self, "seen", []), *images.flatten(1)[:, 0].tolist()]
        return super().draw_views(images, generator)


def test_every_epoch_sees_every_image_once_in_its_own_order():
    pixels = torch.randint(0, 255, (32, 1, 8, 8), dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(32)
    method = make(Seen)
    fit(method, ImageSet(pixels, None, name="numbered", split="all"))
    epochs = [method.seen[start : start + 32] for start in (0, 32, 64)]
    assert len(method.seen) == 96
    for epoch in epochs:
        assert sorted(epoch) == list(range(32))
    assert len({tuple(epoch) for epoch in [*epochs, range(32)]}) == 4


def test_an_incomplete_last_batch_is_left_out_and_a_small_set_is_one_batch():
    config = dataclasses.replace(SHORT, epochs=1)
    for count, steps in ((48, 3), (47, 2), (5, 1), (2, 1)):
        assert fit(make(), digits(count), config).history[0].step == steps


def test_one_image_is_not_enough():
    with pytest.raises(InputError, match="digits has 1 image; training needs at least two"):
        fit(make(), digits(1))


@pytest.mark.parametrize("kind", [SimCLR, MixEM])
def test_a_run_in_many_sittings_ends_as_one_in_one(tmp_path, kind):
    whole = make(kind)
    expected = fit(whole, digits(), out=tmp_path / "whole")
    sittings, complete = 0, False
    while not complete:
        method = make(kind)
        for parameter in method.parameters():
            parameter.data.mul_(0 if sittings else 1)  # what counts is in the checkpoint
        training = fit(method, digits(), out=tmp_path / "parts", max_minutes=0)
        complete = training.complete
        sittings += 1
    assert sittings == 3
    assert same_weights(method, whole)
    assert timeless(training.history) == timeless(expected.history)
    assert log(tmp_path / "parts") == training.history
    # The time of all sittings is counted.
    seconds = [row.seconds for row in training.history]
    assert seconds == sorted(seconds)


def test_a_run_stopped_within_an_epoch_ends_as_one_in_one(tmp_path):
    # More steps an epoch than between two looks at the numbers: checkpoints lie within epochs.
    images, config = digits(2 * READ_EVERY + 30), TrainConfig(epochs=2, batch_size=2)
    steps = len(images) // 2
    assert READ_EVERY < steps < 2 * READ_EVERY
    whole, places = make(), []
    expected = fit(whole, images, config)
    complete = False
    while not complete:
        method = make()
        complete = fit(method, images, config, out=tmp_path, max_minutes=0).complete
        places.append(load_checkpoint(tmp_path / "checkpoint.pt")["step"])
    assert places == [READ_EVERY, steps, 2 * READ_EVERY, 2 * steps]
    assert same_weights(method, whole)
    assert timeless(log(tmp_path)) == timeless(expected.history)


class Told(SimCLR):
    """SimCLR that remembers which steps it was told of, and how many views it had drawn by then."""

    def before_step(self, step):
        self.told = [*getattr(self, "told", []), (step, getattr(self, "drawn", 0))]

    def draw_views(self, images, generator):
        self.drawn = getattr(self, "drawn", 0) + 1
        return super().draw_views(images, generator)


def test_a_method_is_told_how_many_steps_are_done(tmp_path):
    told, complete = [], False
    while not complete:
        method = make(Told)
        complete = fit(method, digits(), out=tmp_path, max_minutes=0).complete
        told.append(method.told)
    # Three sittings of an epoch each; each step is said before its views are drawn.
    assert told == [[(3 * i + j, j) for j in range(3)] for i in range(3)]


def test_checkpoints_are_written_as_often_as_asked(tmp_path):
    def steps_seen(out, seconds):
        """Before each step the one at which the checkpoint was written."""
        seen = []

        class Watch(SimCLR):
            def draw_views(self, images, generator):
                file = out / "checkpoint.pt"
                seen.append(load_checkpoint(file)["step"] if file.exists() else 0)
                return super().draw_views(images, generator)

        fit(make(Watch), digits(), out=out, checkpoint_seconds=seconds)
        return seen

    assert steps_seen(tmp_path / "often", 0) == [0] * 3 + [3] * 3 + [6] * 3
    assert steps_seen(tmp_path / "seldom", 1000) == [0] * 9
    for folder in ("often", "seldom"):
        assert load_checkpoint(tmp_path / folder / "checkpoint.pt")["step"] == 9


def test_a_finished_training_given_again_changes_nothing(tmp_path):
    method, again = make(), make()
    first = fit(method, digits(), out=tmp_path)
    second = fit(again, digits(), out=tmp_path)
    assert second.complete
    assert same_weights(method, again)
    assert second.history == first.history
    assert not again.training


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(make(), digits(), max_minutes=0)
    assert not list(tmp_path.iterdir())


def test_a_torn_log_and_the_leftovers_of_a_kill_are_put_right(tmp_path):
    expected = fit(make(), digits(), out=tmp_path / "whole").history
    folder = tmp_path / "killed"
    fit(make(), digits(), out=folder, max_minutes=0)
    # A kill while the second epoch was being logged, and while a checkpoint was being written.
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 6, "lea')
    old, new = (folder / f".checkpoint.pt.{name}{UNFINISHED}" for name in ("0123", "4567"))
    for leftover in (old, new):
        leftover.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    fit(make(), digits(), out=folder)
    assert timeless(log(folder)) == timeless(expected)
    # The new one may be of another process that is still writing.
    assert {path.name for path in folder.iterdir()} == {"checkpoint.pt", "log.jsonl", new.name}


def test_a_slow_cpu_is_looked_at_before_fifty_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_AFTER", 0.0)
    whole = make()
    expected = fit(whole, digits(), out=tmp_path / "whole")
    found, sittings, folder = None, 0, tmp_path / "stopped"
    while not (found and found.complete):
        method = make()
        found = fit(method, digits(), out=folder, max_minutes=0)
        sittings += 1
    assert sittings == 9  # every step
    assert timeless(found.history) == timeless(expected.history)
    for key, value in whole.state_dict().items():
        assert torch.equal(method.state_dict()[key], value)


def test_a_run_goes_on_with_the_precision_that_it_began_with(tmp_path):
    fit(make(), digits(), out=tmp_path, precision="bfloat16", max_minutes=0)
    with pytest.raises(InputError, match="precision there is bfloat16, here float32; leave --prec"):
        fit(make(), digits(), out=tmp_path, precision="float32")
    assert fit(make(), digits(), out=tmp_path).precision == "bfloat16"


class Diverging(SimCLR):
    """SimCLR with a second term that is NaN from a step on."""

    good_steps = 4
    steps = 0

    def step(self, views, name="images"):
        step = super().step(views, name)
        self.steps += 1
        factor = math.nan if self.steps > self.good_steps else 0.0
        return step._replace(terms=step.terms | {"broken": factor * step.terms["contrast"]})


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_checkpoint(tmp_path):
    method = make(Diverging)
    with pytest.raises(FloatingPointError, match="the broken term became nan in epoch 2") as error:
        fit(method, digits(), out=tmp_path, checkpoint_seconds=0)
    assert str(error.value).isprintable()
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert state["step"] == 3
    assert all(value.isfinite().all() for value in state["method"].values())
    assert [row.epoch for row in log(tmp_path)] == [1]


def test_a_rate_far_too_high_is_noticed():
    config = dataclasses.replace(SHORT, epochs=20, learning_rate=1e30)
    with (
        warnings.catch_warnings(action="ignore"),  # the embeddings collapse first
        pytest.raises(FloatingPointError, match="try a lower learning rate"),
    ):
        fit(make(), digits(), config)


class OneComponent(MixEM):
    """All images are of one component."""

    def mixture(self, features):
        z, p = super().mixture(features)
        return z, p * 0.0 + torch.eye(p.shape[1])[3]


class Alike(SimCLR):
    """All embeddings are alike."""

    def step(self, views, name="images"):
        return super().step(0 * views)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (OneComponent, "all images are in one of 10 clusters"),
        (Alike, "the contrast term stays at 3.434, its value for a network that gives all images"),
    ],
)
def test_a_collapse_is_a_warning(monkeypatch, kind, message):
    fit(make(kind), digits())  # 9 steps are too few to tell: an error if it warns
    monkeypatch.setattr(module, "JUDGED_AFTER", 4)
    with pytest.warns(UserWarning, match=f"digits, epoch 2: {message}"):
        fit(make(kind), digits())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed there is 0, here 1"),
        ({"config": dataclasses.replace(SHORT, epochs=4)}, "config there is"),
        ({"images": digits(40)}, "images there is"),
        ({"precision": "bfloat16"}, "precision there is float32"),
        ({"method": make(SimCLR)}, "method there is MixEM, here SimCLR"),
        ({"method": make(components=3)}, "another network"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, changes, message):
    fit(make(), digits(), out=tmp_path, max_minutes=0)
    shutil.copy(tmp_path / "checkpoint.pt", tmp_path / "before.pt")
    arguments = {"method": make(), "images": digits(), "config": SHORT, "seed": 0} | changes
    with pytest.raises(InputError, match=message) as error:
        fit(**arguments, out=tmp_path)
    assert str(error.value).isprintable()
    assert filecmp.cmp(tmp_path / "checkpoint.pt", tmp_path / "before.pt", shallow=False)


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    torch.save({"step": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="version of mixem"):
        fit(make(), digits(), out=tmp_path)


def test_another_number_of_threads_is_a_warning(tmp_path):
    fit(make(), digits(), out=tmp_path, max_minutes=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(UserWarning, match=f"began with {threads} threads"):
            fit(make(), digits(), out=tmp_path)
    finally:
        torch.set_num_threads(threads)


def test_time_is_up_before_the_end(tmp_path):
    config = dataclasses.replace(SHORT, epochs=100_000)
    began = time.monotonic()
    training = fit(make(), digits(), config, out=tmp_path, max_minutes=0.5 / 60)
    assert not training.complete
    assert 0.5 <= time.monotonic() - began < 10
    assert 0 < load_checkpoint(tmp_path / "checkpoint.pt")["step"] < 300_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:99"}, "no device 'cuda:99' here"),
        ({"device": "abacus"}, "no device 'abacus' here"),
        ({"device": "hpu"}, "no device 'hpu' here"),
        ({"precision": "float8"}, "'float8'; give auto, float32, bfloat16, float16"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "from 0 on, below 2"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(InputError, match=message) as error:
        fit(make(), digits(), **options)
    assert str(error.value).isprintable()


def test_devices_and_precisions_by_name(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == "cpu"  # see conftest.py
    monkeypatch.delenv("MIXEM_DEVICE")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_precision("auto", torch.device("cpu")) == "float32"
    for capability, precision in (
        ((8, 0), "bfloat16"),
        ((9, 0), "bfloat16"),
        ((7, 5), "float32"),
        ((6, 1), "float32"),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert resolve_precision("auto", torch.device("cuda")) == precision  # a T4 has 7.5
    assert resolve_precision("bfloat16", torch.device("cpu")) == "bfloat16"


def test_a_folder_that_cannot_be_written_to_is_known_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        fit(make(Diverging, clusters=2), digits(), out=tmp_path / "file" / "below")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", [SimCLR, MixEM])
def test_half_precision_trains_and_resumes_on_the_cpu(tmp_path, kind, precision):
    method, again = make(kind), make(kind)
    config = dataclasses.replace(SHORT, epochs=6)
    training = fit(method, digits(), config, precision=precision)
    assert training.precision == precision
    assert training.history[-1].loss < training.history[0].loss
    assert {p.dtype for p in method.parameters()} == {torch.float32}
    fit(again, digits(), config, precision=precision, out=tmp_path, max_minutes=0)
    fit(again, digits(), config, out=tmp_path)
    assert same_weights(method, again)


def test_the_scale_of_the_gradients_is_in_the_checkpoint(tmp_path, monkeypatch):
    """A step whose gradients overflow is left out, and a run that goes on knows the new scale."""
    monkeypatch.setattr(
        module, "make_scaler", lambda *_: torch.amp.GradScaler("cpu", init_scale=2.0**40)
    )
    method, again = make(), make()
    before = {name: value.clone() for name, value in method.named_parameters()}
    config = dataclasses.replace(SHORT, epochs=1)
    fit(method, digits(), config, precision="float16", out=tmp_path / "one")
    scales = []
    for epochs in (1, 2, 3):
        sitting = {"max_epochs": epochs, "precision": "float16", "out": tmp_path / "two"}
        fit(again, digits(), dataclasses.replace(SHORT, epochs=40), **sitting)
        scales.append(load_checkpoint(tmp_path / "two" / "checkpoint.pt")["scaler"]["scale"])
    assert scales == [2.0**37, 2.0**34, 2.0**31]  # three steps an epoch, each halves it
    # Nothing was learned, and nothing is broken.
    assert all(torch.equal(value, before[name]) for name, value in method.named_parameters())
    assert load_checkpoint(tmp_path / "one" / "checkpoint.pt")["scaler"]["scale"] == 2.0**37


def test_float32_and_bfloat16_have_no_scale(tmp_path):
    fit(make(), digits(), out=tmp_path, max_epochs=1)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["scaler"] == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_the_same(tmp_path):
    here, there = make(), make()
    expected = fit(here, digits())
    training = fit(there, digits(), device="cuda", precision="float32", out=tmp_path)
    assert training.device == "cuda:0"
    # Other random numbers on the device: alike, not equal.
    assert training.history[-1].loss == pytest.approx(expected.history[-1].loss, abs=0.5)


class Means(SimCLR):
    """A loss that is a mean over images, so that batches may be cut in pieces."""

    def step(self, views, name="images"):
        z = self.head(self.backbone.eval()(views.flatten(0, 1)))
        return Step({"square": z.square().mean()})


def test_accumulated_batches_are_one_large_batch():
    plain, cut = make(Means), make(Means)
    for method in (plain, cut):
        method.views = Augmentation(size=8)  # nothing random
    whole = dataclasses.replace(SHORT, batch_size=48)
    parts = dataclasses.replace(SHORT, batch_size=16, accumulate=3)
    one, three = fit(plain, digits(50), whole), fit(cut, digits(50), parts)
    assert [row.step for row in three.history] == [1, 2, 3]
    losses = [[row.loss for row in result.history] for result in (one, three)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0][0] != pytest.approx(losses[0][2], rel=1e-3)
    for a, b in zip(plain.parameters(), cut.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_compiled_is_as_not_compiled(monkeypatch):
    calls, compile = [], torch.compile

    def eager(function, **options):
        calls.append(options)
        return compile(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", eager)
    plain, compiled = make(), make()
    fit(plain, digits())
    fit(compiled, digits(), compile=True)
    assert calls == [{"dynamic": False}]
    assert same_weights(plain, compiled)
    assert "forward" not in vars(compiled.backbone)


@pytest.mark.parametrize("at_once", [False, True])
def test_without_a_compiler_the_training_goes_on(monkeypatch, at_once):
    def fail(*arguments):
        raise RuntimeError("no C++ compiler\nanywhere")

    def broken(function, **options):
        return fail() if at_once else fail

    monkeypatch.setattr(torch, "compile", broken)
    plain, compiled = make(), make()
    fit(plain, digits())
    with pytest.warns(UserWarning, match=r"going on without it: no C\+\+ compiler anywhere"):
        fit(compiled, digits(), compile=True)
    assert same_weights(plain, compiled)


def test_the_compiled_pass_is_said_to_be_one(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    training = fit(make(), digits(), compile=True)
    assert (training.compiled, training.threads) == (True, torch.get_num_threads())
    assert (training.processes, training.peak_memory) == (1, None)
    assert not fit(make(), digits()).compiled


def test_a_training_stops_after_so_many_epochs_and_goes_on(tmp_path):
    whole, part = make(), make()
    expected = fit(whole, digits())
    first = fit(make(), digits(), out=tmp_path, max_epochs=2)
    assert not first.complete
    assert timeless(first.history) == timeless(expected.history[:2])
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 6
    again = fit(part, digits(), out=tmp_path, sitting=Sitting(device="cpu", progress=False))
    assert again.complete
    assert same_weights(part, whole)
    assert timeless(again.history) == timeless(expected.history)


def test_a_sitting_and_changes_of_it():
    sitting = Sitting(device="abacus", max_epochs=1, progress=False)
    with pytest.raises(InputError, match="no device 'abacus' here"):
        train(make(), digits(), SHORT, sitting=sitting)
    assert len(train(make(), digits(), SHORT, sitting=sitting, device="cpu").history) == 1


class Neighbours(SimCLR):
    """Each image is shown beside the one before it, or the one behind it."""

    def companions(self, images):
        rows = torch.arange(len(images))
        return torch.stack([rows.roll(1), rows.roll(-1)], 1)

    def draw_views(self, images, generator):
        raise AssertionError("with companions, pairs are drawn")

    def draw_pairs(self, images, companions, generator):
        own, others = (x[:, 0, 0, 0].tolist() for x in (images, companions))
        self.seen = [*getattr(self, "seen", []), *zip(own, others, strict=True)]
        return super().draw_pairs(images, companions, generator)


def test_companions_come_with_their_images():
    pixels = torch.arange(32, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 8, 8)
    method = make(Neighbours)
    fit(method, ImageSet(pixels, None, name="numbered", split="all"))
    assert sorted(own for own, _ in method.seen[:32]) == list(range(32))
    apart = [(other - own) % 32 for own, other in method.seen]
    assert set(apart) == {1, 31}
    assert len({tuple(apart[start : start + 32]) for start in (0, 32, 64)}) == 3
    again = make(Neighbours)
    fit(again, ImageSet(pixels, None, name="numbered", split="all"))
    assert again.seen == method.seen


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_every_optimiser_goes_on_where_it_stopped(tmp_path, optimiser):
    config = dataclasses.replace(SHORT, optimiser=optimiser, weight_decay=0.1)
    whole, part = make(), make()
    fit(whole, digits(), config)
    fit(make(), digits(), config, out=tmp_path, max_epochs=1)
    fit(part, digits(), config, out=tmp_path)
    assert same_weights(part, whole)
    adam = make()
    fit(adam, digits(), dataclasses.replace(SHORT, weight_decay=0.1))
    assert not same_weights(adam, whole)
