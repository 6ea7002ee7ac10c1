"""What the client, the worker and the definitions of workflows and activities share about Python functions."""

from __future__ import annotations

import asyncio
import inspect
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

_making_event = threading.Lock()
_arg_unset: Any = object()
"""Stands for an argument that was not given, because None is an argument like any other."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_BUILTIN_CALLABLES = (
    type(type.__call__),
    types.MethodWrapperType,
    type(int.__dict__["from_bytes"]),
    types.BuiltinFunctionType,
)
"""Callables whose `__call__` was not written by a user."""


def _arg_or_args(arg: Any, args: Sequence[Any]) -> Sequence[Any]:
    """Return the arguments of a call, given either one or a sequence of them.

    Raises:
        ValueError: Both are given.
    """
    if arg is _arg_unset:
        return args
    if args:
        raise ValueError("Cannot have arg and args: pass one argument as `arg`, or all of them as `args`")
    return [arg]


def _type_hints_from_func(func: Callable[..., Any]) -> tuple[list[type] | None, type | None]:
    """Return the types of a function's parameters and of its result.

    Args:
        func: A function, a method, a class or an object that can be called.

    Returns:
        The types of the parameters without an unannotated leading `self`, or None when there is any parameter
        that is not positional or has no annotation; and the type of the result if annotated.
    """
    if not isinstance(func, (types.FunctionType, types.MethodType, *_BUILTIN_CALLABLES)):
        owner = func if isinstance(func, type) else type(func)
        func = getattr(owner, "__call__", func)  # noqa: B004
    parameters = inspect.signature(func).parameters.values()
    hints = get_type_hints(func)
    result_hint: type | None = hints.get("return")
    parameter_hints: list[type] = []
    for index, parameter in enumerate(parameters):
        if index == 0 and _is_self(parameter):
            continue
        if parameter.kind not in _POSITIONAL:
            return None, result_hint
        # A parameter without annotation counts as None here, which converts nothing.
        parameter_hints.append(hints.get(parameter.name))  # type: ignore[arg-type]
    return parameter_hints, result_hint


def _is_self(parameter: inspect.Parameter) -> bool:
    if parameter.name != "self":
        return False
    return parameter.annotation is inspect.Parameter.empty or str(parameter.annotation) == "typing.Self"


@dataclass
class _CompositeEvent:
    """An event that threads and coroutines can wait for."""

    # Set later for activities that run in other processes, and where the async event is enough until a thread waits.
    thread_event: threading.Event | None
    # Present for async activities only.
    async_event: asyncio.Event | None

    def _required_thread_event(self) -> threading.Event:
        if self.thread_event is None:
            raise RuntimeError("Missing event")
        return self.thread_event

    def set(self) -> None:
        if self.async_event is None:
            self._required_thread_event().set()
            return
        # In this order: a thread that makes its event meanwhile looks at the other one afterwards.
        self.async_event.set()
        if self.thread_event is not None:
            self.thread_event.set()

    def is_set(self) -> bool:
        if self.async_event is not None:
            return self.async_event.is_set()
        return self._required_thread_event().is_set()

    async def wait(self) -> None:
        if self.async_event is None:
            raise RuntimeError("not in async activity")
        await self.async_event.wait()

    def wait_sync(self, timeout: float | None = None) -> None:
        with _making_event:
            if self.thread_event is None and self.async_event is not None:
                self.thread_event = threading.Event()
                if self.async_event.is_set():
                    self.thread_event.set()
        self._required_thread_event().wait(timeout)
