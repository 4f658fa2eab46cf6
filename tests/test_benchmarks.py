"""The benchmarks compare like with like, take turns, and do without lightly."""

import importlib
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALL = {"images": 8, "prototypes": 5}


@pytest.fixture
def losses(monkeypatch):
    """The script as a module, and nothing of it left behind."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("losses", "timing"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("losses")
    for name in ("losses", "timing"):
        del sys.modules[name]


def test_all_take_turns_and_the_first_round_does_not_count(losses):
    calls = []

    def run(name):
        def found():
            calls.append(name)
            return len(calls)

        return found

    found = losses.in_turns({"a": run("a"), "b": run("b")}, rounds=2)
    assert "".join(calls) == "ababab"
    assert found == {"a": [3, 5], "b": [4, 6]}


def test_the_plain_implementations_are_equal_to_ours(losses):
    losses.check(losses.iic_ways(10, "cpu"))
    losses.check(losses.infomax_ways("cpu", **SMALL))


def test_lightly_is_equal_to_ours(losses):
    pytest.importorskip("lightly")
    losses.check(losses.nt_xent_ways(8, 4, "cpu"))
    losses.check(losses.sinkhorn_ways(8, 5, "cpu"))
    losses.check(losses.swapped_ways("cpu", **SMALL))


@pytest.mark.parametrize(
    ("wrong", "leaf"),
    [
        (lambda leaves: 2 * leaves[0].sum(), torch.ones(3)),
        (lambda leaves: leaves[0].sum(), torch.ones(3)),
        (lambda leaves: leaves[0].sum().detach() + 0 * leaves[0].sum(), torch.ones(3)),
    ],
    ids=["value", "same", "gradient"],
)
def test_a_different_value_or_gradient_is_noticed(losses, wrong, leaf, request):
    ways = [
        losses.Way("ours", lambda leaves: leaves[0].sum(), [leaf.clone().requires_grad_()]),
        losses.Way("theirs", wrong, [leaf.clone().requires_grad_()]),
    ]
    if request.node.callspec.id == "same":
        losses.check(ways)
    else:
        with pytest.raises(AssertionError, match="theirs gives something else"):
            losses.check(ways)


def test_the_table(losses):
    rows = losses.compare(losses.infomax_ways("cpu", **SMALL), rounds=2, seconds=0)
    assert rows[0].slower == (1, 1, 1)
    for row in rows:
        assert 0 < row.forward.least <= row.forward.median <= row.forward.greatest
        assert row.backward.least > 0
    lines = losses.report("Infomax", rows).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["Infomax", *(row.name for row in rows)]


def test_codes_have_no_backward_pass(losses):
    leaf = torch.ones(3)
    rows = losses.compare([losses.Way("codes", lambda x: x[0] + 1, [leaf])], rounds=1, seconds=0)
    assert rows[0].forward.least > 0
    assert rows[0].backward == (0, 0, 0)


def test_without_lightly_one_line_says_so_and_the_others_are_compared(losses, monkeypatch, capsys):
    def not_installed(name):
        raise PackageNotFoundError(name)

    ways = losses.infomax_ways("cpu", **SMALL)
    monkeypatch.setattr(losses, "version", not_installed)
    monkeypatch.setattr(losses, "comparisons", lambda device: [("Infomax", ways)])
    monkeypatch.setattr(sys, "argv", ["losses.py", "--rounds", "1", "--seconds", "0"])
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    losses.main()
    out = capsys.readouterr().out
    assert out.startswith("Infomax")
    assert [line for line in out.splitlines() if "lightly" in line] == [
        "NT-Xent, Sinkhorn, swapped: lightly is not installed; pip install -e '.[bench]'"
    ]
    assert "median (range) of 1 rounds" in out
