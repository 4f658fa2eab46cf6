"""What a method does besides its steps, on a GPU that is not there; run by test_without_values.py.

python tests/without_values.py

Tensors are without values, on a device without memory: a sum of tensors on different devices is an
error. Reading a value, which makes a real run wait, gives a fixed one here and is counted.
Everything is kept until the process ends by itself: PyTorch crashes when it frees networks on such
a device.
"""

import contextlib
import json
import os
import sys
import warnings
from collections import Counter

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

import mixem.data.augment
from mixem.checkpoint import _on_cpu
from mixem.data.images import SHAPES
from mixem.experiments import get
from mixem.experiments.build import build
from mixem.methods import IIC, extract
from mixem.methods.imc_swav import batch_norm_of

RECIPES = {
    "cifar10/simclr": {},
    "cifar10/mixem": {"start": None},
    "mnist/iic-small": {},
    "cifar10/iic": {},
    "cifar10/imc-swav": {},
    "stl10/imc-swav": {},
    "stl10/iic-finetune": {"start": None},
    "mnist/iic-plus": {},
    "cifar10/scan": {"start": None},
    "cifar10/scan-self-label": {"start": None},
}
CUDA = torch.device("cuda", 0)
read: Counter[str] = Counter()


class Generator:
    """Stands for a generator on a GPU, which cannot be made without one."""

    def __init__(self, device="cpu"):
        self.device = torch.device(device)

    def manual_seed(self, seed):
        """Itself."""
        return self


def counted(name, value, usual):
    """A way to read a value: of tensors without values it is a fixed one, and counted."""

    def found(self, *arguments):
        if not isinstance(self, FakeTensor):
            return usual(self, *arguments)
        read[name] += self.device.type == "cuda"
        return value

    return found


def prepare():
    """Let all that would need values do without."""
    rand, randperm = torch.rand, torch.randperm
    torch.rand = lambda *n, generator=None, **how: rand(*n, **how)
    torch.randperm = lambda *n, generator=None, **how: randperm(*n, **how)
    torch.Tensor.uniform_ = lambda self, *bounds, generator=None: self
    torch.Tensor.bernoulli_ = lambda self, *share, generator=None: self
    torch.Generator = Generator
    mixem.data.augment.draw_order = lambda _: ["hue", "contrast"]
    torch.Tensor.pin_memory = lambda self: self
    for name, value in (("__bool__", True), ("item", 1.0), ("__int__", 0), ("__float__", 1.0)):
        setattr(torch.Tensor, name, counted(name, value, getattr(torch.Tensor, name)))

    def chosen(self, images):  # an index by a tensor on a GPU reads it
        read["chosen"] += 1
        return self.sub_heads(images)[:, 0]

    IIC.assign = chosen


def attempts(method, pixels, where):
    """What is tried with images that lie somewhere: names and calls."""
    for what in method.outputs:

        def output(what=what):
            with contextlib.suppress(NotImplementedError):
                found = extract(method, pixels, what, batch_size=32)
                assert (found.device.type, found.dtype) == ("cpu", torch.float32)
                assert len(found) == len(pixels)

        yield f"extract {what}, images on {where}", output
    yield f"finish, images on {where}", lambda: method.finish(pixels, Generator(CUDA))
    if method.clusters_itself:

        def statistics():
            with batch_norm_of(method, pixels):
                extract(method, pixels, "assign", batch_size=32)

        yield f"batch norm of the images, on {where}", statistics

    def main_clustering():
        found = next(method.clusterings(pixels, None, None))
        assert found.clusters.device.type == "cpu"

    if method.clusters_itself:
        yield f"the main clustering, images on {where}", main_clustering


def once(method):
    """What needs no images."""
    zeros = torch.zeros(*method.centres.shape)
    yield "keep centres", lambda: method.keep_centres(zeros, 1.0)

    def checkpoint():
        state = _on_cpu({"method": method.state_dict()})
        assert {value.device.type for value in state["method"].values()} == {"cpu"}
        method.load_state_dict(state["method"])
        assert {value.device.type for value in method.state_dict().values()} == {"cuda"}

    yield "a checkpoint and back", checkpoint
    yield "an earlier state settles", lambda: method.settle(method)


def tried(name, call):
    """What came of it."""
    read.clear()
    try:
        call()
    except (DataDependentOutputException, DynamicOutputShapeException):
        return {"waits": True, "what": name}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300], "what": name}
    return {"read": sum(read.values()), "what": name}


def main():
    """Try everything, and print a line of JSON for each recipe."""
    prepare()
    kept = []
    for recipe, changes in RECIPES.items():
        experiment = get(recipe).override(changes)
        channels, side, *_ = SHAPES[experiment.images]
        with FakeTensorMode(allow_non_fake_inputs=False):
            with CUDA:
                method = build(experiment, channels=channels, seed=0).eval()
            found = [tried(*one) for one in once(method)]
            for where in ("cpu", "cuda"):
                pixels = torch.empty(64, channels, side, side, dtype=torch.uint8, device=where)
                found += [tried(*one) for one in attempts(method, pixels, where)]
                kept.append(pixels)
        kept.append(method)
        print(json.dumps({"recipe": recipe, "found": found}), flush=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
