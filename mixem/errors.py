"""The one error that is the user's to mend."""


class InputError(ValueError):
    """Something given from outside cannot be used.

    The message is one line: what was given, what was expected, what to do. The command line
    prints it and exits with code 2; everything else that is raised is a defect of the library.
    """
