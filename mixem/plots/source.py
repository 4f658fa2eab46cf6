"""The library's own source on a page: what is shown is what runs, never a copy."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Source", "source_of"]


@dataclass(frozen=True)
class Source:
    """Python text that shows itself in a terminal, and with colours in a notebook."""

    text: str

    def __repr__(self) -> str:
        """As plain text."""
        return self.text

    def _repr_markdown_(self) -> str:
        return f"````python\n{self.text}\n````"


def source_of(*functions: Callable[..., Any], docstrings: bool = True) -> Source:
    """The source of functions or methods as they stand in the library, one below the other.

    Args:
        *functions: Such as ``SimCLR.step``; a class works too.
        docstrings: Leave a function's docstring in; without it only what runs is shown.
    """
    texts = [textwrap.dedent(inspect.getsource(function)).strip() for function in functions]
    if not docstrings:
        texts = [_without_docstring(text) for text in texts]
    return Source("\n\n\n".join(texts))


def _without_docstring(text: str) -> str:
    function = ast.parse(text).body[0]
    if not isinstance(function, ast.FunctionDef) or ast.get_docstring(function) is None:
        return text
    first, lines = function.body[0], text.splitlines()
    return "\n".join(lines[: first.lineno - 1] + lines[first.end_lineno :])
