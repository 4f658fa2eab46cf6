"""Ctrl-C and the system's request to end: what was done is kept, and goes on."""

import dataclasses
import signal
import threading

import pytest
import torch

from mixem.checkpoint import load_checkpoint
from mixem.data import Augmentation, load_images
from mixem.methods import MixEM
from mixem.models import SmallNet
from mixem.training import TrainConfig, train

VIEWS = Augmentation(size=8, degrees=10, brightness=0.3)
CONFIG = TrainConfig(epochs=3, batch_size=8, learning_rate=1e-3, constant_epochs=1)  # 6 steps each


class Interrupted(MixEM):
    """Gets signals while the views of its step number ``at`` are drawn."""

    at: int | None = None
    signals: tuple[int, ...] = ()

    def before_step(self, step):
        self.now = step

    def draw_views(self, images, generator):
        if self.now == self.at:
            for number in self.signals:
                signal.raise_signal(number)
        return super().draw_views(images, generator)


def make(at=None, *signals):
    torch.manual_seed(0)
    method = Interrupted(SmallNet(1, width=2, size=8), VIEWS)
    method.at, method.signals = at, signals
    return method


def fit(method, **options):
    digits = load_images("digits", split="train+test").subset(slice(48))
    return train(method, digits, CONFIG, device="cpu", progress=False, **options)


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [0, 8, 11, 17], ids=["first", "within", "end of epoch", "last"])
def test_the_step_is_ended_and_kept(tmp_path, number, at):
    """The least time between checkpoints is 30 s: only the interruption can have written it."""
    before = handlers()
    whole = make()
    expected = fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(make(at, number), out=tmp_path)
    assert handlers() == before
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == at + 1
    again = make()
    found = fit(again, out=tmp_path)
    assert found.complete
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    rows = [
        [dataclasses.replace(row, seconds=None) for row in training.history]
        for training in (found, expected)
    ]
    assert rows[0] == rows[1]


def test_interrupted_again_and_again_it_ends_as_in_one(tmp_path):
    whole = make()
    fit(whole)
    for at in (1, 2, 9, 14):
        with pytest.raises(KeyboardInterrupt):
            fit(make(at, signal.SIGINT), out=tmp_path)
    again = make()
    fit(again, out=tmp_path)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    before = handlers()
    method = make(8, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(method, out=tmp_path)
    assert method.now == 8
    assert not (tmp_path / "checkpoint.pt").exists()
    assert handlers() == before


def test_without_a_folder_an_interruption_is_one_all_the_same():
    method = make(8, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(method)
    assert method.now == 8


def test_outside_the_main_thread_there_are_no_signals():
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(make())))
    thread.start()
    thread.join()
    assert found[0].complete
