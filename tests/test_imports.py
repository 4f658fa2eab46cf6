"""Imports run one way, name what is installed, and change nothing."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mixem
from mixem.fingerprint import SOURCES

PACKAGE = Path(mixem.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# What each part may import of the package, from the bottom up.
ALLOWED = {
    "errors": set(),
    "progress": set(),
    "schema": set(),
    "distributed": set(),
    "losses": {"distributed"},
    "models": {"distributed"},
    "data": {"distributed"},
    "clustering": set(),
    "evaluation": {"clustering"},
    "folding": set(),
    "linked": set(),
    "papers": {"linked"},
    "devices": set(),
    "checkpoint": set(),
    "lock": set(),
    "features": {"checkpoint", "data", "devices", "folding", "lock", "models"},
    "records": {"checkpoint", "linked", "papers", "schema"},
    "methods": {"clustering", "data", "distributed", "losses", "models"},
    "training": {
        "checkpoint",
        "data",
        "devices",
        "distributed",
        "methods",
        "models",
        "records",
        "schema",
    },
    "scoring": {"clustering", "data", "evaluation", "methods", "records"},
    "yardsticks": {"clustering", "data", "evaluation", "methods", "records"},
    "experiments": {
        "clustering",
        "data",
        "distributed",
        "features",
        "methods",
        "models",
        "schema",
        "training",
    },
    "fingerprint": set(),
    "runs": {
        "checkpoint",
        "data",
        "devices",
        "distributed",
        "experiments",
        "fingerprint",
        "lock",
        "methods",
        "records",
        "schema",
        "scoring",
        "training",
    },
    "verify": {"experiments", "fingerprint", "methods", "records", "training"},
    "profile": {
        "data",
        "devices",
        "experiments",
        "fingerprint",
        "methods",
        "models",
        "records",
        "training",
    },
}
ALLOWED["reproduce"] = ALLOWED["profile"] | {"checkpoint", "profile", "runs", "schema"}
# May import what they like, and nobody them.
TOP = ("cli", "plots", "sorting", "__main__", "__init__")


def part_of(file):
    """The first word of a file's path: losses of losses/nt_xent.py, runs of runs.py."""
    return file.split("/")[0].removesuffix(".py")


def modules(file):
    """Every module a file imports, at its top or further down, in full."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relatively, which is not read here"
            assert node.module
            yield node.module
            # `from mixem import losses` and `from mixem.data import operations` name modules too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts(file):
    """The parts of the package that a file imports."""
    found = set()
    for module in modules(file):
        first, *rest = module.split(".")
        if first == "mixem" and rest:
            found.add(rest[0])
    return found - {"errors", "progress", "__version__"}


def test_every_part_has_its_place():
    assert {part_of(file) for file in FILES} == {*ALLOWED, *TOP}


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) not in TOP])
def test_imports_run_one_way(file):
    own = part_of(file)
    assert parts(file) - {own} <= ALLOWED[own]


def test_the_order_has_no_circle():
    order = list(ALLOWED)
    for part, below in ALLOWED.items():
        assert all(order.index(name) < order.index(part) for name in below), part


def test_the_fingerprint_of_a_run_covers_all_that_training_and_scoring_import():
    reached, found = set(), {"training", "scoring"}
    while new := found - reached:
        reached |= new
        found |= {part for f in FILES if part_of(f) in new for part in parts(f)}
    # Not how things are read and written.
    assert reached - {"checkpoint", "linked", "papers", "records", "schema"} <= {
        name.removesuffix(".py") for name in SOURCES
    }


def method_classes():
    """The names of Method and of all classes in mixem/methods that extend it."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for file in FILES
        if part_of(file) == "methods"
        for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    found = {"Method"}
    while more := {name for name, below in bases.items() if below & found} - found:
        found |= more
    return found


def questions(tree):
    """What is asked for by isinstance and issubclass: every name in the second argument."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass")
        ):
            for part in ast.walk(node.args[1]):
                if isinstance(part, ast.Name | ast.Attribute):
                    yield part.id if isinstance(part, ast.Name) else part.attr


def test_questions_are_found():
    tree = ast.parse("isinstance(x, mixem.methods.IIC | int) or issubclass(y, (SimCLR, str))")
    assert {"IIC", "SimCLR"} <= set(questions(tree))
    assert {"IIC", "SimCLR", "MixEM", "IMCSwAV", "Finetune"} <= method_classes()


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) != "methods"])
def test_nobody_asks_what_kind_a_method_is(file):
    """What a method can do, it says itself; a method from outside is as good as any."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    assert not method_classes() & set(questions(tree))


def test_nothing_imports_the_command_line():
    for file in FILES:
        if part_of(file) not in ("__main__", "cli"):
            assert "cli" not in parts(file), file


def test_what_is_imported_is_declared():
    project = tomllib.loads(
        (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    )
    declared = {re.split(r"[^\w-]", text)[0] for text in project["project"]["dependencies"]}
    imported = {module.split(".")[0] for file in FILES for module in modules(file)}
    other = imported - set(sys.stdlib_module_names) - {"mixem"}
    distributions = {"sklearn": "scikit-learn", "PIL": "pillow"}
    # Who asks for brain slices without nilearn is told so in a line.
    assert {distributions.get(name, name) for name in other} - {"nilearn"} == declared


def test_importing_everything_changes_nothing():
    script = """
import os, random, sys, time, warnings
import matplotlib, numpy, torch

def state():
    return (
        torch.get_num_threads(), torch.initial_seed(), torch.get_rng_state().tolist(),
        torch.get_default_dtype(), torch.is_grad_enabled(),
        torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32,
        torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(),
        numpy.random.get_state()[1].tolist(), numpy.geterr(), random.getstate(),
        list(warnings.filters), dict(os.environ), os.getcwd(), os.listdir(),
        dict(matplotlib.rcParams), sys.getrecursionlimit(),
    )

before, known = state(), set(sys.modules)
import mixem
assert not {name for name in set(sys.modules) - known if not name.startswith("mixem")}
import sklearn, scipy, PIL, seaborn, tqdm, safetensors.torch, torchvision  # theirs is not ours
before = state()
for name in sys.argv[1:]:
    __import__(name)
assert state() == before
"""
    names = [f"mixem.{f.removesuffix('.py').replace('/', '.')}" for f in FILES]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", script, *names], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
