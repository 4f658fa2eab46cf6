"""What a GPU says when something is wrong reaches the user, and what is left alone on it."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from mixem import distributed, fingerprint
from mixem.checkpoint import save_checkpoint, write_atomically
from mixem.data import Augmentation, ImageSet, load_images
from mixem.devices import DEVICE_ERRORS, resolve_device
from mixem.errors import InputError
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.methods import SimCLR, extract
from mixem.models import SmallNet
from mixem.training import TrainConfig, train
from mixem.training import step as steps
from mixem.training.meter import Meter, wide

SHORT = TrainConfig(epochs=2, batch_size=16)
FULL = torch.cuda.OutOfMemoryError("CUDA out of memory")
CUDA = torch.device("cuda", 1)


def method():
    torch.manual_seed(0)
    return SimCLR(SmallNet(1, width=2, size=8), Augmentation(size=8))


def digits(count=48):
    return load_images("digits", split="train+test").subset(slice(count))


def raising(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize("error", [FULL, *[e("CUDA error: busy") for e in DEVICE_ERRORS[1:]]])
def test_a_resume_that_does_not_fit_on_the_gpu_is_no_advice_to_delete(tmp_path, monkeypatch, error):
    train(method(), digits(), SHORT, out=tmp_path, device="cpu", progress=False, max_epochs=1)
    monkeypatch.setattr(torch.optim.Adam, "load_state_dict", raising(error))
    with pytest.raises(type(error), match="CUDA"):
        train(method(), digits(), SHORT, out=tmp_path, device="cpu", progress=False)
    assert (tmp_path / "checkpoint.pt").exists()


def test_an_error_of_the_gpu_is_not_one_of_the_disk(tmp_path, monkeypatch):
    late = RuntimeError("CUDA error: an illegal memory access was encountered")
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "cpu", raising(late))
        with pytest.raises(RuntimeError, match="illegal memory"):
            save_checkpoint(tmp_path / "checkpoint.pt", {"a": [torch.ones(2)]})
    with pytest.raises(RuntimeError, match="illegal memory"):
        write_atomically(tmp_path / "file", raising(late))
    with pytest.raises(InputError, match="free some space"):
        write_atomically(tmp_path / "file", raising(RuntimeError("PytorchStreamWriter failed")))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_on_the_cpu_before_its_file_is_begun(tmp_path, monkeypatch):
    moved, save = [], torch.save
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: moved.append(self) or cpu(self))

    def saved(state, file):
        assert len(moved) == 2
        return save(state, file)

    monkeypatch.setattr(torch, "save", saved)
    save_checkpoint(tmp_path / "a.pt", {"a": torch.ones(1), "b": {"c": [torch.ones(2), 3]}})


@pytest.mark.parametrize(("asked", "advice"), [("auto", "cpu"), ("cuda", "auto")])
def test_a_busy_gpu_is_no_advice_to_give_what_was_given(monkeypatch, asked, advice):
    monkeypatch.delenv("MIXEM_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", raising(RuntimeError("CUDA error: device is busy")))
    with pytest.raises(InputError, match=rf"no device 'cuda' here .*busy.*use --device {advice}$"):
        resolve_device(asked)


def test_the_variable_says_what_auto_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cpu"  # conftest.py has set it
    assert distributed.own_device("auto") == "auto"
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    assert distributed.own_device("auto") == "auto"


def test_building_a_network_leaves_the_generators_of_gpus_alone(monkeypatch):
    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, raising(AssertionError("seeded")))
    monkeypatch.setattr(torch, "manual_seed", raising(AssertionError("seeded")))
    before = torch.get_rng_state()
    one, other = (build(get("digits/simclr"), channels=1, seed=s) for s in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_evaluation_takes_smaller_batches_where_the_memory_is_full(monkeypatch):
    images, network = digits().images, method()
    expected = extract(network, images)
    features, sizes = SimCLR.features, []

    def small(self, images):
        sizes.append(len(images))
        if len(images) > 13:
            raise FULL
        return features(self, images)

    monkeypatch.setattr(SimCLR, "features", small)
    torch.testing.assert_close(extract(network, images), expected)
    assert sizes == [48, 24, 12, 12, 24, 12, 12]
    monkeypatch.setattr(SimCLR, "features", raising(FULL))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        extract(network, images)
    monkeypatch.setattr(SimCLR, "features", small)
    monkeypatch.setattr(SimCLR, "needs_a_batch", True)  # a part of a batch has other statistics
    with pytest.raises(torch.cuda.OutOfMemoryError):
        extract(network, images)


def test_a_compiled_network_is_compiled_once_under_its_own_precision(monkeypatch):
    compile, graphs = torch.compile, []

    def noted(graph, inputs):
        graphs.append(torch.is_autocast_enabled("cpu"))
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda f, **how: compile(f, backend=noted, **how))
    how = {"device": "cpu", "progress": False, "precision": "bfloat16", "compile": True}
    assert train(method(), digits(), SHORT, **how).compiled
    assert graphs == [True]


def test_processes_on_gpus_say_which_one_is_theirs(monkeypatch):
    given = []
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: given.append(device))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda kind, **how: given.append((kind, how))
    )
    distributed.connect(CUDA)
    distributed.connect(torch.device("cpu"))
    cuda, (nccl, its), (gloo, others) = given
    assert (cuda, nccl, its["device_id"]) == (CUDA, "nccl", CUDA)
    assert (gloo, others["device_id"]) == ("gloo", None)


class Several(torch.nn.Module):
    """Stands for DistributedDataParallel, and notes how it was asked for and used."""

    def __init__(self, network, **how):
        super().__init__()
        self.network, self.how, self.apart = network, how, []

    def forward(self, *inputs):
        self.apart.append(getattr(self, "alone", False))
        return self.network(*inputs)

    @contextlib.contextmanager
    def no_sync(self):
        self.alone = True
        yield
        self.alone = False


def test_gradients_of_processes_meet_once_a_step_and_buffers_never(monkeypatch):
    monkeypatch.setattr(steps, "DistributedDataParallel", Several)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "size", lambda: 2)
        patch.setattr(steps, "synchronise_batch_norm", lambda *_: None)
        network = steps.parallel(method())
    assert network.how["broadcast_buffers"] is False
    assert network.how["gradient_as_bucket_view"] is True
    config = TrainConfig(epochs=1, batch_size=12, accumulate=4)
    trained = network.network.method.train()
    cpu = torch.device("cpu")
    optimiser = steps.make_optimiser(trained, config, cpu)
    stepper = steps.Stepper(trained, optimiser, device=cpu, precision="float32")
    stepper.network = network
    images = digits()
    one = steps.Pass(trained, "images", images, config, images.images)
    stepper.step(one, one.order(0, 0), Meter(), position=0, step=0)
    assert network.apart == [True, True, True, False]


def test_apple_s_gpus_have_no_float64():
    asked = []
    for kind in ("mps", "cuda", "cpu"):
        value = SimpleNamespace(device=torch.device(kind), to=asked.append)
        wide(value)
    assert asked == [torch.float32, torch.float64, torch.float64]


def test_a_record_names_cuda_and_what_it_needed(monkeypatch, tiny_run):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    assert {"cuda", "cudnn"} <= set(fingerprint.versions())
    assert tiny_run.record.compiled is False
    assert tiny_run.record.peak_memory is None


def test_the_bank_s_labels_stay_on_the_host():
    """Choosing by labels on a GPU would wait for it, so labels and order are on the CPU."""
    few = {"prototypes": 8, "hidden": 8, "bank": True}
    experiment = get("digits/imc-swav").override(
        training__batch_size=16, **{f"settings__{name}": value for name, value in few.items()}
    )
    network = build(experiment, channels=1, seed=0)
    known = digits().labels.clone()
    known[::2] = -1
    images = ImageSet(digits().images, known)
    on_meta = images.images.to("meta")  # a device other than the CPU
    one = steps.Pass(network, "images", images, experiment.training, on_meta)
    assert one.labels.device.type == one.order(0, 0).device.type == "cpu"
    other = steps.Pass(method(), "images", images, SHORT, on_meta)
    assert other.order(0, 0).device.type == "meta"


def test_a_build_leaves_nothing_to_commit(pytestconfig):
    ignored = (pytestconfig.rootpath / ".gitignore").read_text().split()
    assert {"build/", "dist/"} <= set(ignored)
