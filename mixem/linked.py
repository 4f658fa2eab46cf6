"""Text of a table that leads to where it is from."""

from collections.abc import Iterable

__all__ = ["REPOSITORY", "Linked", "made_by"]

REPOSITORY = "https://github.com/mixem-book/mixem"
SHOWN = 2  # commands below a table


class Linked(str):
    """A piece of text, mostly a number, that knows where it is from.

        >>> cell = Linked("96.6 ± 1.2", "results/digits-simclr")
        >>> print(cell)
        96.6 ± 1.2
        >>> print(cell.markdown())
        [96.6 ± 1.2](https://github.com/mixem-book/mixem/tree/main/results/digits-simclr)

    Whatever is made of it, by an f-string or by ``+``, is plain text again.

    Args:
        text: What is shown.
        place: A folder of the repository, or a file and behind a # a part of it.
        command: That makes what lies there; "" if nothing of ours does.
    """

    place: str
    command: str

    def __new__(cls, text: str, place: str, command: str = "") -> "Linked":
        """A string that has the two as well."""
        made = super().__new__(cls, text)
        made.place, made.command = place, command
        return made

    def __getnewargs__(self) -> tuple[str, str, str]:  # type: ignore[override]
        """What a copy is made of."""
        return str(self), self.place, self.command

    def markdown(self) -> str:
        """As a link into the repository."""
        kind = "blob" if ".json" in self.place else "tree"
        return f"[{self}]({REPOSITORY}/{kind}/main/{self.place})"


def made_by(cells: Iterable[str]) -> str:
    """The commands behind some cells, in a sentence of Markdown; "" if there are none.

    Those of two kinds of runs at most, for a table may have dozens.
    """
    commands = dict.fromkeys(c.command for c in cells if isinstance(c, Linked) and c.command)
    shown = ", ".join(f"`{command}`" for command in list(commands)[:SHOWN])
    return f"Records made by {shown} and the like." if shown else ""
