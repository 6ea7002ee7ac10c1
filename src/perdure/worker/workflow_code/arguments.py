"""Arguments that callers sent and the user's functions take, or do not: said so that a reader knows what to do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any


def call_user_code(what: str, function: Callable[..., Any], args: Sequence[Any], *, own: int = 0) -> Any:
    """Calls a function of the user's with what somebody sent.

    Args:
        what: what was sent, for the message: "Signal 'go'".
        function: what to call.
        args: its arguments.
        own: how many of them, at the front, nobody sent.

    Raises:
        TypeError: it does not take them; the message says what to do.
    """
    try:
        return function(*args)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise  # From inside the function.
        raise _arguments_error(what, function, len(args) - own, error) from None


def check_arguments(what: str, function: Callable[..., Any], args: Sequence[Any]) -> None:
    """Checks that a function takes these arguments, without calling it.

    Raises:
        TypeError: it does not; the message says what to do.
    """
    try:
        inspect.signature(function).bind(*args)
    except TypeError as error:
        raise _arguments_error(what, function, len(args), error) from None


def _arguments_error(what: str, function: Callable[..., Any], count: int, error: TypeError) -> TypeError:
    # Bound handlers are partials, which have no name of their own.
    name = getattr(getattr(function, "func", function), "__qualname__", "its handler")
    declared = f"{name}{inspect.signature(function)}"
    plural = "" if count == 1 else "s"
    return TypeError(
        f"{what} came with {count} argument{plural}, which {declared} does not take: {error}. Send what it declares, "
        "or give a new parameter a default, so that callers that do not know it yet can go on"
    )
