"""The one error that is the user's to mend."""

import errno
from numbers import Integral

__all__ = ["InputError", "memory_is_full", "printable", "reason", "require_whole"]

# What a full memory is called by libraries that have no exception for it: PyTorch's allocator for
# the CPU, threads that cannot be started, and NumPy's and BLAS's own allocators.
FULL = (
    "can't allocate memory", "not enough memory", "can't start new thread",
    "cannot allocate memory", "unable to allocate", "out of memory",
    "storage size calculation overflowed",
)  # fmt: skip


class InputError(ValueError):
    """Something given from outside cannot be used.

    The message is one line: what was given, what was expected, what to do. The command line
    prints it and exits with code 2; everything else that is raised is a defect of the library.
    """


def require_whole(what: str, value: object, least: int = 1) -> None:
    """Raise :class:`InputError` unless a value is a whole number from ``least`` on."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and int(value) >= least):  # type: ignore[call-overload]
        raise InputError(f"{what} is {value}; give a whole number from {least} on")


def printable(text: str) -> str:
    r"""A name from outside as one harmless line: what a terminal would obey is shown as an escape.

    >>> print(printable("two\nlines, ünï.png"))
    two\nlines, ünï.png
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def reason(error: BaseException) -> str:
    """What an error says, in one line; its name if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def memory_is_full(error: BaseException) -> bool:
    """Whether an error says that the memory is full, of the machine or of its GPU.

    Only some of them have a type that says so. A CPU's is a plain RuntimeError of PyTorch.

    >>> memory_is_full(MemoryError()), memory_is_full(RuntimeError("shapes do not fit"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):  # whose text may hold the name of a file
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in FULL)
