"""The profile: whose time is whose, and whether its steps are those of the training."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from mixem import profile as module
from mixem.cli import main
from mixem.data import SCENES, SHAPES, network_of
from mixem.data.images import NAMES, load_images
from mixem.errors import InputError
from mixem.experiments import EXPERIMENTS, get
from mixem.experiments.build import build
from mixem.methods import Method, SimCLR
from mixem.methods.base import Step
from mixem.models.backbones import SmallNet
from mixem.profile import PARTS, PassProfile, Profile, profile, seconds_an_epoch
from mixem.reproduce import Speeds
from mixem.training import Sitting, train
from mixem.training.meter import Meter
from mixem.training.step import Pass, Stepper, make_optimiser

ONE_STEP = {"device": "cpu", "precision": "float32", "steps": 1}


@pytest.fixture
def seconds(monkeypatch):
    """A clock that goes on only where it is told to, and a matrix product of 2 TFLOP/s."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module, "_product_rate", lambda *_: 2e12)

    def takes(owner, name, time):
        function = getattr(owner, name)

        def slow(*arguments, **options):
            now[0] += time
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, slow)

    def advance(time):
        now[0] += time

    takes.advance = advance
    return takes


def test_each_part_gets_its_own_time(tiny, seconds, monkeypatch):
    seconds(SimCLR, "draw_views", 1)
    seconds(SmallNet, "forward", 2)
    seconds(torch.optim.Adam, "step", 16)
    seconds(Meter, "add", 32)

    def step(self, views, name="images"):
        seconds.advance(3)
        loss = self.head(self.backbone(views.flatten(0, 1))).sum()
        seconds.advance(1)
        loss.register_hook(lambda gradient: seconds.advance(8))
        return Step({"sum": loss}, None, {})

    monkeypatch.setattr(SimCLR, "step", step)
    found = profile(tiny, **ONE_STEP)
    (only,) = found.passes
    expected = dict(zip(PARTS, (1000, 2000, 4000, 8000, 16000, 32000), strict=True))
    assert only.parts == expected
    assert only.milliseconds == 63000
    assert only.images_per_second == 599 / 63
    assert found.share_of_peak(only) == only.operations / 63 / 2e12
    assert found.seconds_an_epoch == 3 * 63
    assert found.minutes == 2 * 3 * 63 / 60


def test_a_step_of_half_a_minute_is_made_three_times(tiny, seconds, monkeypatch):
    began = module.time.perf_counter()
    seconds(SimCLR, "draw_views", 30)
    found = profile(tiny, device="cpu", precision="float32")
    assert module.time.perf_counter() - began == 3 * 30  # a trial, a count, one with borders
    assert found.batch == 4
    assert found.minutes == pytest.approx(2 * 3 * 30 * 599 / 4 / 60)


def test_of_a_set_that_is_not_there_no_more_is_drawn_than_a_step_needs(tmp_path):
    experiment = get("stl10/imc-swav").override(training__batch_size=200)
    counts = {}
    load = module._loader(experiment, tmp_path, False, [], counts, few=True)
    images = load("train+unlabeled")
    assert counts == {"train+unlabeled": 105_000}
    assert 200 <= len(images) <= 202
    assert 0.9 < (images.labels < 0).double().mean() < 1


class Linear(Method):
    """Two linear layers one after the other, and no more."""

    def __init__(self, inputs, outputs, views):
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))
        backbone.out_features = outputs
        super().__init__(backbone, views, clusters=2)
        self.head = nn.Linear(outputs, 3)

    def step(self, views, name="images"):
        return Step({"sum": self.head(self.backbone(views.flatten(0, 1))).sum()}, None, {})


@pytest.mark.parametrize("accumulate", [1, 3])
def test_operations_are_those_of_forward_and_backward(tiny, seconds, monkeypatch, accumulate):
    seconds(Meter, "add", 1)
    monkeypatch.setattr(module, "build", lambda *_, **__: Linear(64, 5, tiny.views))
    experiment = tiny.override(training__accumulate=accumulate, training__batch_size=100)
    (only,) = profile(experiment, **ONE_STEP).passes
    # A product of B x m and m x n is 2 B m n operations; the pixels need no gradient.
    products = 2 * (64 * 5) + 3 * (5 * 3)
    assert only.operations == accumulate * 2 * (2 * 100) * products
    assert only.images == accumulate * 100
    assert only.steps == 1797 // (accumulate * 100)


def test_what_cannot_be_trained_is_not_profiled(tiny):
    experiment = tiny.override(training__accumulate=18, training__batch_size=100)
    with pytest.raises(InputError, match="18 batches of 100 a step, digits has 1797 images"):
        profile(experiment, **ONE_STEP)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("digits/simclr", {"training__accumulate": 2, "training__batch_size": 30}),
        ("digits/iic", {"settings__passes": ("main",), "settings__repeats": 1}),
        ("digits/imc-swav", {"training__batch_size": 60, "settings__prototypes": 20}),
    ],
)
def test_its_steps_are_those_of_the_training(name, changes):
    images = load_images("digits", split="train").subset(slice(120))
    experiment = get(name).override(**changes)
    config = dataclasses.replace(
        experiment.training, epochs=1, schedule="epochs", constant_epochs=1, warmup_steps=0
    )
    trained, profiled = (build(experiment, channels=1, seed=0) for _ in range(2))
    train(trained, images, config, device="cpu", precision="float32", progress=False)

    profiled.train().to(memory_format=torch.channels_last)
    cpu = torch.device("cpu")
    stepper = Stepper(
        profiled, make_optimiser(profiled, config, cpu), device=cpu, precision="float32"
    )
    one = Pass(profiled, profiled.passes[0], images, config, images.images)
    stage = module._Stage(one, stepper, config)
    stage.halfway = 0
    for _ in range(one.steps):
        stage.step()
    assert one.steps == 2
    for key, value in trained.state_dict().items():
        torch.testing.assert_close(profiled.state_dict()[key], value, rtol=0, atol=0)


FINETUNE = {
    "images": "digits", "train_split": "train", "backbone": "clusternet6c-16",
    "views__size": 16, "views__plain_side": 8, "views__crop_sides": (7,),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "passes"),
    [
        ("digits/mixem", {}, {"images": 1}),
        ("digits/iic", {}, {"main": 2, "over": 1}),
        ("digits/imc-swav", {}, {"images": 1}),
        ("digits/imc-swav", {"settings__bank": True}, {"images": 1}),
        ("stl10/iic-finetune", FINETUNE, {"images": 1}),
    ],
)
def test_every_method(name, changes, passes):
    experiment = get(name).override(training__batch_size=20, **changes)
    found = profile(experiment, **ONE_STEP)
    assert {one.name: one.times for one in found.passes} == passes
    for one in found.passes:
        assert list(one.parts) == list(PARTS)
        assert all(spent > 0 for spent in one.parts.values())
        assert one.steps == {"train+test": 1797, "train": 1297}[experiment.train_split] // 20
        assert 0 < found.share_of_peak(one) < 10  # on a busy machine the product is slow too
    assert found.memory > 2**20
    assert not found.random_images
    assert (found.precision, found.experiment) == ("float32", experiment)


def test_compile_is_passed_on(tiny, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f, **_: compiled.append(f) or f)
    (only,) = profile(tiny, compile=True, **ONE_STEP).passes
    assert len(compiled) == 1
    assert only.parts["forward"] > 0


def test_the_table():
    parts = dict(zip(PARTS, (10.0, 40.0, 5.0, 80.0, 4.0, 1.0), strict=True))
    main_pass = PassProfile("main", 2, 30, 50, parts, 100.0, 10**9)
    over = PassProfile("over", 1, 60, 50, parts, 200.0, 10**9)
    experiment = get("mnist/mixem-small")
    found = Profile(experiment, "a machine", "bfloat16", True, (main_pass, over), 1e11, 2**31)
    assert found.seconds_an_epoch == 2 * 30 * 0.1 + 60 * 0.2
    assert math.isclose(found.minutes, 5 * 18 / 60)
    lines = str(found).splitlines()
    assert lines[0] == "mnist/mixem-small on a machine, bfloat16"
    assert lines[1] == "mnist is not on this machine: these are random pixels"
    rows = {line[:20].strip(): line[20:].split() for line in lines}
    assert rows["backward"] == ["80.00", "80.0", "80.00", "40.0"]
    assert rows["sum"] == ["140.00", "140.0", "140.00", "70.0"]
    assert rows["whole, no borders"] == ["100.00", "100.0", "200.00", "100.0"]
    assert rows["images/s"] == ["500", "250"]
    assert rows["share of peak"] == ["10.0", "5.0"]
    assert lines[-4:] == [
        "peak: 100 GFLOP/s, a large matrix product in bfloat16",
        "memory: 2.00 GiB at most",
        "an epoch: 18.0 s (2 x 30 steps of 50 main, 1 x 60 steps of 50 over)",
        "all 5 epochs: 1.5 minutes, and before them mnist/simclr-small, 5 epochs",
    ]


def test_every_set_that_can_be_fetched_has_a_stand_in():
    assert set(SHAPES) == set(NAMES) - {"digits", "folder:PATH", "pairs:PATH", *SCENES}
    for experiment in EXPERIMENTS.values():
        if experiment.images not in ("digits", *SCENES):
            _, _, classes, counts = SHAPES[network_of(experiment.images)[0]]
            if experiment.method != "iic":  # IIC+ has more clusters than classes
                assert experiment.clusters == classes
            for split in (experiment.train_split, *experiment.settings.splits().values()):
                assert set(split.split("+")) <= set(counts)


def test_random_pixels_stand_in(tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, "stl10", (3, 96, 10, {"train": 50, "unlabeled": 30}))
    experiment = get("stl10/imc-swav")
    standing_in = []
    images = module._loader(experiment, tmp_path, False, standing_in, {})("train+unlabeled")
    assert standing_in == ["train+unlabeled"]
    assert images.images.shape == (80, 3, 96, 96)
    assert images.images.double().mean().item() == pytest.approx(127.5, abs=1)
    assert images.labels is not None
    assert set(images.labels[:50].tolist()) == set(range(10))
    assert set(images.labels[50:].tolist()) == {-1}


def test_the_command(capsys, tmp_path):
    code = main([
        "profile", "mnist/mixem-small", f"--data={tmp_path}", "--steps=1", "--device=cpu",
        "--set=training.batch_size=16", "--set=training.epochs=7",
    ])  # fmt: skip
    printed, complaints = capsys.readouterr()
    assert (code, complaints) == (0, "")
    assert "mnist is not on this machine" in printed
    assert "(1 x 3750 steps of 16 images)" in printed
    assert "all 7 epochs: " in printed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["digits/mixem", "--steps=0"], "--steps: '0'; give a whole number from 1 to 100000"),
        (["digits/mixen"], "did you mean 'digits/mixem'?"),
        (["digits/mixem", "--images=mnist", "--split=some"], "mnist has no split 'some'"),
        (["digits/mixem", "--images=mnist", "--split=train/5"], "mnist is not, or not whole, in"),
        (["digits/mixem", "--device=warp"], "no device 'warp' here"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(capsys, tmp_path, arguments, complaint):
    try:
        code = main(["profile", *arguments, f"--data={tmp_path}"])
    except SystemExit as ended:  # argparse's, of an option
        code = ended.code
    assert code == 2
    printed, complaints = capsys.readouterr()
    assert printed == ""
    assert complaint in complaints
    assert complaints.count("\n") == 1


def test_damaged_files_are_no_reason_for_random_pixels(tmp_path):
    for kind in ("images-idx3", "labels-idx1"):
        for part in ("train", "t10k"):
            file = tmp_path / "MNIST" / "raw" / f"{part}-{kind}-ubyte"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="damaged"):
        profile("mnist/simclr-small", root=tmp_path, **ONE_STEP)


def test_of_a_folder_no_picture_is_read(tmp_path):
    for i in range(130):
        (tmp_path / f"{i}.png").write_text("no picture")
    experiment = get("photos/simclr").on(f"folder:{tmp_path}")
    few = experiment.override(training__batch_size=4, training__epochs=1)
    assert seconds_an_epoch(few, steps=1, device="cpu") > 0


def test_what_trains_nothing_has_no_step_to_time():
    for timed in (profile, seconds_an_epoch):
        with pytest.raises(InputError, match="pretrained/kmeans trains nothing"):
            timed("pretrained/kmeans", device="cpu")
    assert Speeds([], Sitting(device="cpu")).minutes(get("pretrained/kmeans")) == 0
