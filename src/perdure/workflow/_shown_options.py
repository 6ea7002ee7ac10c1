"""What tools see of functions that pass their options on: each option by its name, as official functions have it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def shows_options(config: type, taker: Callable[..., Any]) -> Callable[[F], F]:
    """Have `inspect.signature` and `help` show the options of a function one by one instead of `**options`.

    Args:
        config: The typed dictionary of the options.
        taker: The function that takes them in the end. Its defaults are shown, so that who wraps a function and passes
            all that its signature names passes what is meant.
    """
    taken = inspect.signature(taker).parameters
    options = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=taken[name].default, annotation=annotation)
        for name, annotation in config.__annotations__.items()
    ]

    def show(function: F) -> F:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return function

    return show
