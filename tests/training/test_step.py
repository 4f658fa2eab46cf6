"""Steps, passes, schedule and seeds; and a step on a GPU that is not there.

There tensors are without values, on a device without memory. What would make a step wait for the
GPU, reading a value or a number of rows, is an error, and so is a sum of tensors on different
devices.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from mixem.data import Augmentation, ImageSet, load_images
from mixem.errors import InputError
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.methods import Method, SimCLR
from mixem.models import SmallNet
from mixem.training import step as module
from mixem.training.config import TrainConfig
from mixem.training.meter import Meter
from mixem.training.step import (
    Pass,
    Schedule,
    Stepper,
    make_optimiser,
    make_passes,
    require_seed,
    seeded,
)

SIDES = {"digits": 8, "mnist": 28, "cifar10": 32, "stl10": 96}
CASES = {
    "simclr": ("cifar10/simclr", {}),
    "linear colour": ("cifar10/simclr", {"views__linear_colour": True}),
    "mixem": ("cifar10/mixem", {"start": None}),
    "mixem, entropy": ("digits/mixem", {"settings__confidence": "entropy", "start": None}),
    "iic": ("mnist/iic-small", {}),
    "iic, Sobel": ("cifar10/iic", {}),
    "imc-swav": ("cifar10/imc-swav", {}),
    "imc-swav, one pass": ("digits/imc-swav", {"settings__one_pass": True}),
    "finetune": ("stl10/iic-finetune", {}),
}


class Generator:
    """Stands for a generator on a GPU, which cannot be made without one."""

    def __init__(self, device):
        self.device = device


@pytest.fixture(params=["cpu", "cuda"])
def device(request, monkeypatch):
    """A device for tensors without values. Backward passes need the real one, so not on "cuda"."""
    device, rand, randperm = torch.device(request.param), torch.rand, torch.randperm
    monkeypatch.setattr(module, "seeded", lambda *_: Generator(device))
    monkeypatch.setattr("mixem.data.augment.draw_order", lambda _: ["hue", "contrast"])
    monkeypatch.setattr(torch, "rand", lambda *n, generator=None, **how: rand(*n, **how))
    monkeypatch.setattr(torch, "randperm", lambda *n, generator=None, **how: randperm(*n, **how))
    for name in ("uniform_", "bernoulli_"):
        draw = getattr(torch.Tensor, name)
        fake = lambda self, *bounds, generator=None, draw=draw: draw(self, *bounds)  # noqa: E731
        monkeypatch.setattr(torch.Tensor, name, fake)
    if device.type == "cuda":
        monkeypatch.setattr(torch.Tensor, "backward", lambda _: None)
    with FakeTensorMode():
        yield device


def steps(method, experiment, device):
    """Two steps of each pass, the first of a training and one long after; what the meter holds."""
    name = experiment.images
    channels, side = 3 if SIDES[name] in (32, 96) else 1, SIDES[name]
    pixels = torch.empty(64, channels, side, side, dtype=torch.uint8, device=device)
    labels = torch.zeros(64, dtype=torch.int64, device=device)
    images = ImageSet(pixels, labels, ("one",), name=name, split="train")
    optimiser = torch.optim.Adam(method.parameters(), fused=False)
    if device.type == "cuda":  # there are no gradients
        optimiser.step = lambda: None
    stepper = Stepper(method, optimiser, device=device, precision="bfloat16")
    order, meter = torch.empty(64, dtype=torch.int64, device=device), Meter()
    for part in dict.fromkeys(method.passes):
        one = Pass(method, part, images, experiment.training, pixels)
        for step in (0, 10**6):
            stepper.step(one, order, meter, position=0, step=step)
    return meter.state


def made(name, changes, device, monkeypatch):
    experiment = get(name).override(training__batch_size=16, **changes)
    with device:
        channels = 3 if SIDES[experiment.images] in (32, 96) else 1
        method = build(experiment, channels=channels, seed=0).train()
    if experiment.method == "finetune":  # which looks whether all images have a label
        monkeypatch.setattr(method, "targets", lambda images: images.labels)
    return method, experiment


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_a_value_or_mixes_devices(case, device, monkeypatch):
    method, experiment = made(*CASES[case], device, monkeypatch)
    state = steps(method, experiment, device)
    assert state
    assert {value.device.type for value in state.values()} == {device.type}


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_step_that_waits_is_found(device, monkeypatch):
    step = SimCLR.step

    def waiting(self, views, name="images"):
        found = step(self, views, name)
        assert found.terms["contrast"] > 0
        return found

    monkeypatch.setattr(SimCLR, "step", waiting)
    with pytest.raises(DataDependentOutputException):
        steps(*made("digits/simclr", {}, device, monkeypatch), device)


def method_with(passes):
    method = Method(SmallNet(1, width=2, size=8), Augmentation(size=8))
    method.passes = passes
    return method


def digits(count):
    return load_images("digits", split="train+test").subset(slice(count))


def test_the_passes_of_an_epoch_share_what_they_have_in_common():
    few, many, cpu = digits(40), digits(100), torch.device("cpu")
    method = method_with(("main", "main", "over"))
    config = TrainConfig(epochs=2, batch_size=20)
    first, second, third = make_passes(method, {"main": few, "over": many}, config, cpu)
    assert first is second
    assert (first.name, first.steps, third.name, third.steps) == ("main", 2, "over", 5)
    assert first.pixels is few.images
    assert first.labels is first.companions is None
    same = make_passes(method, {"main": few, "over": digits(40)}, config, cpu)
    assert same[0].pixels is same[2].pixels  # of the same fingerprint


def test_every_step_has_its_place():
    passes = make_passes(
        method_with(("main", "main", "over")), {"main": digits(40), "over": digits(60)},
        config := TrainConfig(epochs=2, batch_size=20, warmup_steps=4, learning_rate=1.0,
                              constant_epochs=1, schedule="steps"),
        torch.device("cpu"),
    )  # fmt: skip
    schedule = Schedule(passes, config)
    assert (schedule.steps, schedule.total) == (7, 14)
    found = [schedule.at(step) for step in range(14)]
    assert [now.epoch for now in found] == [0] * 7 + [1] * 7
    assert [now.number for now in found] == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 5]
    assert [now.position for now in found] == [0, 1, 0, 1, 0, 1, 2] * 2
    assert [now.images.name for now in found[:7]] == ["main"] * 4 + ["over"] * 3
    rates = [now.rate for now in found]
    assert rates[:8] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    assert rates[7:] == sorted(rates[7:], reverse=True)
    assert rates[13] == pytest.approx(config.rate(1, 6 / 7))


@pytest.mark.parametrize(
    ("epochs", "after", "epoch"), [(3, 0, 2), (400, 0, 40), (3, 50, 8), (100, 14, 10)]
)
def test_a_collapse_is_judged_after_enough_epochs_and_steps(epochs, after, epoch):
    config = TrainConfig(epochs=epochs, batch_size=20)
    passes = make_passes(method_with(("a",)), {"a": digits(140)}, config, torch.device("cpu"))
    assert Schedule(passes, config).judged_epoch(after) == epoch


@pytest.mark.parametrize(
    ("optimiser", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_the_optimisers_by_name(optimiser, kind):
    method = method_with(("a",))
    config = TrainConfig(optimiser=optimiser, betas=(0.5, 0.6), momentum=0.7, weight_decay=0.3)
    made = make_optimiser(method, config, torch.device("cpu"))
    assert type(made) is kind
    (group,) = made.param_groups
    assert group["weight_decay"] == 0.3
    if kind is torch.optim.SGD:
        assert group["momentum"] == 0.7
    else:
        assert group["betas"] == (0.5, 0.6)
    assert sum(p.numel() for p in group["params"]) == sum(p.numel() for p in method.parameters())


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "1"])
def test_impossible_seeds(seed):
    with pytest.raises(InputError, match=r"seed is .*; give a whole number from 0 on, below 2"):
        require_seed(seed)
    require_seed(0)
    require_seed(2**63 - 1)


def test_generators_are_distinct_and_repeatable():
    keys = [(0, "order", 0), (0, "order", 1), (1, "order", 0), (0, "views", 0)]
    draws = [torch.rand(4, generator=seeded(*key)).tolist() for key in keys]
    assert len(set(map(tuple, draws))) == len(keys)
    assert torch.rand(4, generator=seeded(0, "order", 0)).tolist() == draws[0]


@pytest.mark.parametrize(
    ("batch_size", "count", "message"),
    [
        (599, 2, "a batch of 599 images for 2 processes; give a batch_size that is a multiple of "
         "their number, at most 1796"),
        (2000, 2, "a batch of 1797 images for 2 processes; give a batch_size that is a multiple of "
         "their number, at most 1796"),
        (1800, 7, "a batch of 1797 images for 7 processes; .* at most 1792"),
        (512, 2000, "a batch of 512 images for 2000 processes; start no more processes than there "
         "are images"),
    ],
)  # fmt: skip
def test_a_batch_that_processes_cannot_share(monkeypatch, batch_size, count, message):
    """F14: 2000 is a multiple of 2, and was refused with the advice to give one."""
    monkeypatch.setattr(module, "processes", lambda: count)
    images = load_images("digits", split="train+test")
    method = SimCLR(SmallNet(1, size=8), Augmentation(size=8))
    config = TrainConfig(batch_size=batch_size)
    with pytest.raises(InputError, match=f"{message}$"):
        Pass(method, "images", images, config, images.images)
    if count < len(images):  # as it says
        most = TrainConfig(batch_size=len(images) - len(images) % count)
        assert Pass(method, "images", images, most, images.images).steps == 1
