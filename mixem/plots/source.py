"""The library's own source on a page: what is shown is what runs, never a copy."""

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


def source_of(*functions: Callable[..., Any]) -> Source:
    """The source of functions or methods as they stand in the library, one below the other.

    Args:
        *functions: Such as ``SimCLR.step``; a class works too.
    """
    texts = [textwrap.dedent(inspect.getsource(function)).strip() for function in functions]
    return Source("\n\n\n".join(texts))
