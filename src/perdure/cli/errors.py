"""How commands fail: exit codes, and errors turned into one line each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

import click

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOT_CONNECTED: Final = 3
EXIT_NOT_FOUND: Final = 4
EXIT_TIMED_OUT: Final = 5
EXIT_UNSUCCESSFUL: Final = 6
EXIT_INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    0: "The command did what it says.",
    EXIT_FAILED: "It failed: the server refused, or something went wrong.",
    EXIT_USAGE: "Wrong usage: an unknown flag or command, a missing or wrong value.",
    EXIT_NOT_CONNECTED: "No server answers at the address, or it does not let the client in.",
    EXIT_NOT_FOUND: "What the command is about does not exist.",
    EXIT_TIMED_OUT: "--command-timeout or the time of a call is over.",
    EXIT_UNSUCCESSFUL: "The command worked, and what it waited for failed: a workflow, activity, update or operation.",
    EXIT_INTERRUPTED: "Ctrl-C.",
}
"""Every exit code of the command and what it means; stable."""


class CommandError(click.ClickException):
    """A command ends with one line on stderr.

    Args:
        message: the line.
        exit_code: a key of `EXIT_CODES`.
    """

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance as well


class WrongUsageError(CommandError):
    """Flags that contradict each other, or a value that cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, EXIT_USAGE)


class UnsuccessfulError(CommandError):
    """What the command waited for has failed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, EXIT_UNSUCCESSFUL)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the most similar known words, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def one_line(error: click.ClickException) -> str:
    """The error's text in one line, with a suggestion where there is one."""
    if isinstance(error, click.NoSuchOption):
        known = [name for param in error.ctx.command.params for name in param.opts] if error.ctx else []
        return f"there is no flag {error.option_name}{nearest(error.option_name, known)}"
    if isinstance(error, click.BadParameter) and isinstance(getattr(error.param, "type", None), click.Choice):
        return _wrong_choice(error)
    return " ".join(error.format_message().split()).removesuffix(".")


def _wrong_choice(error: click.BadParameter) -> str:
    message = " ".join(error.format_message().split()).removesuffix(".")
    given = message.partition(": ")[2].partition(" is not one of ")[0].strip("'\"")
    of = getattr(getattr(error.param, "type", None), "choices", ())
    return message + nearest(given, of) if isinstance(error.param, click.Option) else message
