"""The errors the command line reports, each with the exit code a script can act on."""


class EvergreenError(Exception):
    """A command failed; `hint` says what to do about it. Exit code 1."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class CommandError(EvergreenError):
    """A program that the command ran failed. Exit code 1."""


class MissingError(EvergreenError):
    """Something must be installed first; the hint names it. Exit code 3."""

    exit_code = 3


class NotPermittedError(EvergreenError):
    """The user or role lacks a permission. Exit code 4."""

    exit_code = 4
