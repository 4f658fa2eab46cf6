"""The one error that is the user's to mend."""

__all__ = ["InputError", "reason"]


class InputError(ValueError):
    """Something given from outside cannot be used.

    The message is one line: what was given, what was expected, what to do. The command line
    prints it and exits with code 2; everything else that is raised is a defect of the library.
    """


def reason(error: BaseException) -> str:
    """What an error says, in one line; its name if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
