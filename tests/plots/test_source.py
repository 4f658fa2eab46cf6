"""Source on a page is the library's own."""

import ast
from pathlib import Path

from mixem.losses import nt_xent
from mixem.methods import SimCLR
from mixem.plots import source_of

PACKAGE = Path(__file__).resolve().parents[2] / "mixem"


def test_shows_what_stands_in_the_file():
    shown = repr(source_of(SimCLR.step)).splitlines()
    file = (PACKAGE / "methods" / "simclr.py").read_text("utf-8").splitlines()
    assert shown[0].startswith("def step(self, views: torch.Tensor")
    assert all(f"    {line}".rstrip() in file for line in shown)


def test_several_are_parsable_python_one_below_the_other():
    names = [node.name for node in ast.parse(repr(source_of(nt_xent, SimCLR.step))).body]
    assert names == ["nt_xent", "step"]


def test_without_the_docstring_the_same_code_is_left():
    whole = ast.parse(repr(source_of(nt_xent))).body[0]
    shown = repr(source_of(nt_xent, docstrings=False))
    assert "Args:" not in shown
    assert ast.dump(ast.Module(whole.body[1:], [])) == ast.dump(
        ast.Module(ast.parse(shown).body[0].body, [])
    )


def test_in_a_notebook_it_is_a_block_of_code():
    lines = source_of(nt_xent)._repr_markdown_().splitlines()
    assert (lines[0], lines[-1]) == ("````python", "````")
    assert not any(line.startswith("````") for line in lines[1:-1])
