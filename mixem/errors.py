"""The one error that is the user's to mend."""

__all__ = ["InputError", "printable", "reason"]


class InputError(ValueError):
    """Something given from outside cannot be used.

    The message is one line: what was given, what was expected, what to do. The command line
    prints it and exits with code 2; everything else that is raised is a defect of the library.
    """


def printable(text: str) -> str:
    r"""A name from outside as one harmless line: what a terminal would obey is shown as an escape.

    >>> print(printable("two\nlines, ünï.png"))
    two\nlines, ünï.png
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def reason(error: BaseException) -> str:
    """What an error says, in one line; its name if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
