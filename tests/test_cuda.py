"""What only a GPU can show. Skipped where there is none.

    MIXEM_TEST_DEVICE=cpu python -m pytest tests/test_cuda.py

tries all that has a meaning on the CPU, so that these tests are known to run before the day.
"""

import copy
import os
import subprocess
import sys

import pytest
import torch

import share_of_a_step
from mixem.cli import main
from mixem.clustering import kmeans
from mixem.data import ImageSet, load_images
from mixem.data.images import SHAPES
from mixem.devices import resolve_device
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.methods import extract
from mixem.profile import profile
from mixem.runs import run
from mixem.scoring import evaluate
from mixem.training import TrainConfig, train
from mixem.training.meter import Meter
from mixem.training.step import Pass, Stepper, make_optimiser

NAME = os.environ.get("MIXEM_TEST_DEVICE", "cuda")
REAL = NAME.startswith("cuda")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(REAL and not torch.cuda.is_available(), reason="needs a GPU"),
]
gpu_only = pytest.mark.skipif(not REAL, reason="needs a GPU")
CASES = {title: case for title, *case in share_of_a_step.CASES}
RECIPES = {
    "cifar10/simclr": {},
    "cifar10/mixem": {"start": None},
    "cifar10/imc-swav": {},
    "cifar10/imc-swav, one pass": {"settings__one_pass": True},
    "cifar10/iic": {},
    "mnist/iic": {},
    "stl10/imc-swav": {},  # with its bank
    "stl10/iic-finetune": {"start": None},
    "cifar10/scan": {"start": None, "settings__neighbours": 5},
    "cifar10/scan-self-label": {"start": None},
    "digits/simclr": {"views__linear_colour": True},
}


# On the CPU, where only the tests are tried, small networks do.
SMALL = {
    "resnet18-cifar": "small-resnet18",
    "resnet18-stl": "small-resnet18",
    "clusternet5g-batch": "clusternet6c-16-batch",
    "clusternet5g-penultimate": "small",
    "clusternet6c-batch": "clusternet6c-16-batch",
}


@pytest.fixture(scope="module")
def device():
    return resolve_device(NAME)


def near(found, expected, tolerance):
    """The difference is at most so large, relative to the length of the expected one."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    length = expected.norm().clamp(min=1e-12)
    assert ((found - expected).norm() / length).item() <= tolerance


def made(title, batch=16):
    """A recipe's method, random images of its set, some without a label, and its training."""
    name = title.split(",")[0]
    experiment = get(name).override(training__batch_size=batch, **RECIPES[title])
    if not REAL:
        experiment = experiment.override(backbone=SMALL.get(experiment.backbone, "small"))
    channels, side, classes, _ = SHAPES.get(experiment.images, (1, 8, 10, {}))
    random = torch.Generator().manual_seed(0)
    shape = (4 * batch, channels, side, side)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=random)
    labels = torch.arange(len(pixels)) % classes
    if "imc-swav" in name:
        labels[::2] = -1
    images = ImageSet(pixels, labels, tuple(map(str, range(classes))), name=experiment.images)
    return build(experiment, channels=channels, seed=0), images, experiment.training


# Steps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", CASES)
def test_a_step_in_float64_is_that_of_the_cpu(title, device):
    here, there = (share_of_a_step.step(*CASES[title], at) for at in (torch.device("cpu"), device))
    assert here["loss"].keys() == there["loss"].keys()
    for name, value in here["loss"].items():
        near(there["loss"][name], value, 1e-9)
    assert here["gradients"].keys() == there["gradients"].keys()
    for part in ("gradients", "buffers"):
        both = [
            torch.cat([x.double().flatten().cpu() for x in f[part].values()]) for f in (here, there)
        ]
        near(both[1], both[0], 1e-7)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("title", ["cifar10/simclr", "cifar10/mixem", "cifar10/iic"])
def test_a_step_in_half_precision_is_near_that_in_float32(title, device, precision):
    """Loss terms within 3 %, gradients within a cosine of 0.9, features within 5 %.

    In float32 the same step on random pixels differs by up to 2 % between orders of memory.
    """
    method, images, _ = made(title)
    views = method.draw_views(images.images[:16], torch.Generator().manual_seed(0))
    other = copy.deepcopy(method).to(device, memory_format=torch.channels_last)
    found = []
    for one, at, half in ((method, "cpu", False), (other, device.type, True)):
        one.train().before_step(10**6)
        with torch.autocast(at, precision, enabled=half):
            terms = one.step(views.to(device if half else "cpu"), one.passes[0]).terms
        scale = 256.0 if half else 1.0  # as the scaler does, or small gradients are 0 in float16
        (scale * sum(terms.values())).backward()
        grads = torch.cat(
            [p.grad.flatten().cpu() / scale for p in one.parameters() if p.grad is not None]
        )
        features = extract(one, images.images[:16])
        found.append((torch.stack([*terms.values()]), grads, features))
    (terms, grads, features), (its_terms, its_grads, its_features) = found
    near(its_terms, terms, 0.03)
    assert torch.cosine_similarity(its_grads, grads, dim=0) > 0.9
    near(its_features, features, 0.05)


@gpu_only
@pytest.mark.parametrize("where", ["images on the GPU", "images on the CPU"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("title", RECIPES)
def test_no_step_waits_for_the_gpu(title, device, where, precision):
    method, images, config = made(title)
    method.to(device, memory_format=torch.channels_last).train()
    optimiser = make_optimiser(method, config, device)
    stepper, meter = Stepper(method, optimiser, device=device, precision=precision), Meter()
    pixels = images.images.to(device) if where.endswith("GPU") else images.images
    for name in dict.fromkeys(method.passes):
        one = Pass(method, name, images, config, pixels)
        order = one.order(0, 0)
        stepper.step(one, order, meter, position=0, step=10**6)  # the first one fills tables
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for position in (1, 2):
                stepper.step(one, order, meter, position=position, step=10**6 + position)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite().all() for value in meter.state.values())


@pytest.mark.parametrize("title", RECIPES)
def test_a_step_of_every_recipe_runs_and_changes_the_weights(title, device):
    method, images, config = made(title)
    method.to(device, memory_format=torch.channels_last).train()
    stepper = Stepper(
        method, make_optimiser(method, config, device), device=device, precision="float32"
    )
    before = [p.detach().clone() for p in method.parameters()]
    for name in dict.fromkeys(method.passes):
        one = Pass(method, name, images, config, images.images.to(device))
        stepper.step(one, one.order(0, 0), Meter(), position=0, step=10**6)
    changed = [not torch.equal(p, old) for p, old in zip(method.parameters(), before, strict=True)]
    assert any(changed)
    assert all(p.isfinite().all() for p in method.parameters())


# Trainings ----------------------------------------------------------------------------------------

SHORT = TrainConfig(epochs=4, batch_size=64, learning_rate=1e-3, constant_epochs=2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_training_that_was_stopped_goes_on(device, precision, tmp_path):
    images = load_images("digits", split="train").subset(slice(320))
    ends = []
    for name, sittings in (("one", (None,)), ("two", (1, 3, None))):
        method = build(get("digits/simclr"), channels=1, seed=0)
        for most in sittings:
            done = train(
                method, images, SHORT, out=tmp_path / name, device=NAME, precision=precision,
                progress=False, max_epochs=most,
            )  # fmt: skip
        assert done.complete
        assert len(done.history) == 4
        assert done.history[-1].loss < done.history[0].loss
        assert (done.peak_memory is not None) == REAL
        ends.append(torch.cat([p.detach().flatten().cpu() for p in method.parameters()]))
    near(ends[1], ends[0], 0.02)  # sums on a GPU come in no fixed order


def test_scores_clusters_and_tables_are_those_of_the_cpu(device, tiny, tmp_path, capsys):
    finished = run(
        tiny, seed=1, out=tmp_path / "run", device=NAME, precision="float32", progress=False
    )
    images = load_images("digits", split="train+test")
    here = finished.method
    there = copy.deepcopy(here).to(device)
    near(extract(there, images.images), extract(here, images.images), 1e-3)
    clusters = [extract(one, images.images, "cluster").argmax(1) for one in (here, there)]
    assert (clusters[0] == clusters[1]).double().mean() > 0.99
    scores = [evaluate(one, images, protocol=tiny.protocol).metrics for one in (here, there)]
    assert scores[1]["accuracy"] == pytest.approx(scores[0]["accuracy"], abs=0.02)
    assert finished.record.metrics["accuracy"] == pytest.approx(scores[0]["accuracy"], abs=0.02)
    rows = extract(there, images.images)
    assert kmeans(rows.to(device), 10, n_init=2).clusters.shape == (len(images),)
    assert main(["evaluate", str(tmp_path / "run"), f"--device={NAME}"]) == 0
    assert "k-means" in capsys.readouterr().out


def test_evaluation_of_every_recipe(device):
    for title in ("mnist/iic", "cifar10/imc-swav"):
        method, images, _ = made(title)
        method.to(device).eval()
        method.finish(images.images, torch.Generator(device).manual_seed(0))
        found = evaluate(method, images, protocol=get(title).protocol)
        assert len(found.clusters) == len(images)


def test_the_profile_of_a_step(device):
    found = profile("digits/simclr", steps=2, device=NAME)
    assert found.passes[0].milliseconds > 0
    assert found.memory > 0


# Several processes, several GPUs ------------------------------------------------------------------


def test_two_processes_on_one_gpu_compute_what_one_does(device, tmp_path):
    """For nccl each needs a GPU of its own; gloo, where it can, lets two share one."""
    file = tmp_path / "found.pt"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node=2", share_of_a_step.__file__, str(file), str(device)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode and "not support" in done.stderr:
        pytest.skip("gloo of this PyTorch cannot")
    assert done.returncode == 0, done.stderr
    for title, found in torch.load(file, map_location="cpu").items():
        alone = share_of_a_step.step(*CASES[title], device)
        for name, value in alone["loss"].items():
            near(found["loss"][name], value, 1e-7)
        both = [
            torch.cat([g.flatten().cpu() for g in f["gradients"].values()]) for f in (found, alone)
        ]
        near(*both, 1e-7)  # together: some are 0 but for rounding


@gpu_only
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_gpu_leaves_the_first_alone(tmp_path):
    before = torch.cuda.memory_reserved(0)
    images = load_images("digits", split="train").subset(slice(128))
    method = build(get("digits/simclr"), channels=1, seed=0)
    assert train(method, images, SHORT, device="cuda:1", progress=False).device == "cuda:1"
    assert torch.cuda.memory_reserved(0) == before
