"""Errors that a user sees as one paragraph, and the exit codes they stand for."""


class AtftError(Exception):
    """Base of the errors that the command line prints without a traceback."""

    exit_code = 1


class UseError(AtftError):
    """Wrong use or configuration: bad input, a bad value, a missing file. Exit code 2.

    The message says what is wrong, where, how much, the bound and the mend.
    """

    exit_code = 2


class RunError(AtftError):
    """A run or a check failed after it had started properly. Exit code 1."""
