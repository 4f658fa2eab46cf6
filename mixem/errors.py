"""The one error that is the user's to mend."""

import errno

__all__ = ["InputError", "memory_is_full", "printable", "reason"]

# What a full memory is called by libraries that have no exception for it: PyTorch's allocator for
# the CPU, threads that cannot be started, and NumPy's and BLAS's own allocators.
FULL = (
    "can't allocate memory", "not enough memory", "can't start new thread",
    "cannot allocate memory", "unable to allocate", "out of memory",
)  # fmt: skip


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
