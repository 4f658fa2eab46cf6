"""A training step on a GPU that is not there: tensors without values, on a device without memory.

What would make a step wait for the GPU, reading a value or a number of rows, is an error there, and
so is a sum of tensors on different devices.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from mixem import step as module
from mixem.data import ImageSet
from mixem.experiments import get
from mixem.training.meter import Meter
from mixem.methods import SimCLR
from mixem.runs import build
from mixem.training.step import Pass, Stepper

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
    images = ImageSet(name, "train", pixels, labels, ("one",))
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
