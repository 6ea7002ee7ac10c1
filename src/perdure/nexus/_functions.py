"""Looking at the start methods that decorators get: async or not, their names, their types.

May live here: reading functions. May not: making handlers of them.
"""

from __future__ import annotations

import functools
import inspect
import typing
import warnings
from collections.abc import Callable
from typing import Any


def is_async_callable(function: Any) -> bool:
    """Return whether calling it gives a coroutine; partial functions and objects with `__call__` count too."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or (
        callable(function) and inspect.iscoroutinefunction(type(function).__call__)
    )


def callable_name(function: Callable[..., Any]) -> str:
    """Return the name of a function, or that of the class of an object that can be called."""
    name: str = getattr(function, "__name__", "") or type(function).__name__
    return name


def input_and_output_types(
    start: Callable[..., Any], *, context_types: tuple[type, ...], result_type: type
) -> tuple[type | None, type | None]:
    """Return what a start method takes and what its operation returns; None, with a warning, where it does not say.

    Args:
        start: Takes an object, the contexts and the input.
        context_types: Of the contexts.
        result_type: What it must return, with the operation's result as its one parameter.
    """
    try:
        hints = typing.get_type_hints(start)
    except TypeError:
        warnings.warn(f"Expected decorated start method {start} to have type annotations", stacklevel=4)
        return None, None
    returned = hints.pop("return", None)
    return _input_type(start, hints, context_types), _output_type(start, returned, result_type)


def _input_type(
    start: Callable[..., Any], hints: dict[str, Any], context_types: tuple[type, ...]
) -> type | None:
    expected = len(context_types) + 1
    if len(hints) != expected:
        suffix = f": {hints}" if hints else ""
        warnings.warn(
            f"Expected decorated start method {start} to have exactly {expected} type-annotated parameters, "
            f"but it has {len(hints)}{suffix}.",
            stacklevel=5,
        )
        return None
    *contexts, input_type = hints.values()
    for index, (given, wanted) in enumerate(zip(contexts, context_types, strict=True), start=1):
        if not (isinstance(given, type) and issubclass(wanted, given)):
            warnings.warn(
                f"Expected parameter {index} of {start} to be an instance of {wanted.__name__}, but is {given}.",
                stacklevel=5,
            )
            return None
    return typing.cast(type, input_type)


def _output_type(start: Callable[..., Any], returned: Any, result_type: type) -> type | None:
    origin = typing.get_origin(returned)
    if origin is None:
        return None
    if not issubclass(origin, result_type):
        warnings.warn(
            f"Expected return type of {callable_name(start)} to be a subclass of {result_type.__name__}, "
            f"but is {returned}",
            stacklevel=5,
        )
        return None
    parameters = typing.get_args(returned)
    if len(parameters) != 1:
        warnings.warn(
            f"Expected return type {returned} of {callable_name(start)} to have exactly one type parameter, "
            f"but has {len(parameters)}: {parameters}.",
            stacklevel=5,
        )
        return None
    return typing.cast(type, parameters[0])
