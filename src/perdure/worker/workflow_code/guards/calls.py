"""Calls that cannot be replaced from outside, because they belong to built-in types.

From Python 3.12 on, calls made by the code of workflow modules are watched (`sys.monitoring`), and those of functions
with a name such as `now` in them in the user's modules that these reach: other code runs at full speed, and installed
packages may read the clock unseen. Python 3.11 has nothing of the kind; there the class methods of `datetime` are
exchanged in the type itself, and in modules that kept one under a name of their own (`now = datetime.now`).
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import sys
from collections.abc import Iterable
from types import (
    BuiltinFunctionType,
    BuiltinMethodType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from perdure.worker.workflow_code.guards import functions
from perdure.worker.workflow_code.guards.errors import refuse
from perdure.worker.workflow_code.guards.objects import WAITING_METHODS, would_wait
from perdure.worker.workflow_code.guards.state import armed
from perdure.worker.workflow_code.guards.waits import INSTEAD

_NOW = "workflow.now()."
CLASS_METHODS: tuple[tuple[type, str, str], ...] = (
    (datetime.datetime, "now", _NOW),
    (datetime.datetime, "utcnow", _NOW),
    (datetime.datetime, "today", _NOW),
    (datetime.date, "today", "workflow.now().date()."),
)
"""Class methods of built-in types that read the clock."""


_SUSPICIOUS_NAMES = frozenset(("acquire", *(name for _, name, _ in CLASS_METHODS)))

BLOCKING_METHODS: dict[Any, str] = {
    getattr(kind, called.rpartition(".")[2].removesuffix("()")): called
    for kind, called in WAITING_METHODS.items()
}
"""Methods of built-in types that wait for a thread, and what they are called."""

_monitoring: Any = getattr(sys, "monitoring", None)
"""None before Python 3.12."""
_TOOL_NAME = "perdure workflow guards"
_TOOL_IDS = (4, 3)
"""Those that no kind of tool has a claim to."""
_SEEN_LIMIT = 100_000
_MAX_DEPTH = 5
_METHOD_TYPES = (BuiltinMethodType, BuiltinFunctionType, MethodType, FunctionType)

_forbidden: dict[Any, tuple[str, str]] = {}
_seen: dict[int, CodeType] = {}
"""By id: the code of a module that was loaded anew equals what it was before, and is watched only by itself."""
_tool_id: int | None = None


def install() -> None:
    """Prepares the table of calls, and on Python 3.11 the methods of `datetime`. After `functions.install`."""
    if _monitoring is None:
        for kind, name, instead in CLASS_METHODS:
            if name in vars(kind):  # datetime inherits `today`
                _exchange_class_method(kind, name, instead)
        return
    _forbidden.update(_forbidden_calls())
    _start_monitoring()


def _forbidden_calls() -> Iterable[tuple[Any, tuple[str, str]]]:
    for kind, name, instead in CLASS_METHODS:
        yield getattr(kind, name), (f"{kind.__module__}.{kind.__name__}.{name}()", instead)
    for qualified_name, original in functions.originals.items():
        module = qualified_name.partition(".")[0]
        by_module = f"import {module} and call {qualified_name}(), which is deterministic here."
        yield original, (f"{qualified_name}()", functions.FORBIDDEN.get(qualified_name, by_module))


def watch(module: ModuleType, *, is_workflows: bool) -> None:
    """Watches the calls that the user's code makes.

    Args:
        module: whose functions.
        is_workflows: it defines workflows, so every call counts; of others, which activities use as well, only
            functions are watched that have a name such as `now` in them.
    """
    if _tool_id is None:
        return
    for code in _codes_of(module):
        if not is_workflows and _SUSPICIOUS_NAMES.isdisjoint(code.co_names):
            continue
        if id(code) not in _seen and len(_seen) < _SEEN_LIMIT:
            _seen[id(code)] = code
            _monitoring.set_local_events(_tool_id, code, _monitoring.events.CALL)


def rebind(module: ModuleType) -> None:
    """Gives a module that kept a class method under a name of its own what took its place; not from Python 3.12 on."""
    if _monitoring is not None:
        return
    for name, value in list(vars(module).items()):
        if isinstance(value, BuiltinMethodType) and isinstance(value.__self__, type):
            for kind, method, _ in CLASS_METHODS:
                if value.__name__ == method and issubclass(value.__self__, kind):
                    setattr(module, name, getattr(value.__self__, method))


def _codes_of(module: ModuleType) -> Iterable[CodeType]:
    """The code of every function that the module defines, those inside classes and other functions too."""
    for value in list(vars(module).values()):
        yield from _codes_in(value, module.__name__, 0)


def _codes_in(value: Any, module: str, depth: int) -> Iterable[CodeType]:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, property):
        for accessor in (value.fget, value.fset, value.fdel):
            yield from _codes_in(accessor, module, depth)
    elif isinstance(value, (dict, list, tuple)):  # tables of handlers
        for member in list(value.values() if isinstance(value, dict) else value):
            yield from _codes_in(member, module, depth + 1)
    elif isinstance(value, FunctionType):
        function: Any = value
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        if isinstance(function, FunctionType) and function.__module__ == module:
            yield from _nested(function.__code__)
    elif isinstance(value, type) and value.__module__ == module:
        for member in list(vars(value).values()):
            yield from _codes_in(member, module, depth + 1)


def _nested(code: CodeType) -> Iterable[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _start_monitoring() -> None:
    """Takes a free tool id; without one (profilers and debuggers use them too) calls are not watched."""
    global _tool_id
    for tool_id in _TOOL_IDS:
        if _monitoring.get_tool(tool_id) is None:
            _monitoring.use_tool_id(tool_id, _TOOL_NAME)
            _monitoring.register_callback(tool_id, _monitoring.events.CALL, _on_call)
            _tool_id = tool_id
            return


def _on_call(code: CodeType, offset: int, called: object, first_argument: object) -> None:
    if armed.run is None:
        return
    if isinstance(called, _METHOD_TYPES):
        found = _forbidden.get(called)
        if found is not None:
            refuse(*found)
        elif isinstance(called, BuiltinMethodType) and isinstance(called.__self__, type):
            _check_subclass(called.__self__, called.__name__)
    elif isinstance(called, MethodDescriptorType):
        found_blocking = BLOCKING_METHODS.get(called)
        if found_blocking is not None and would_wait(first_argument):
            refuse(f"{found_blocking}, which would wait,", INSTEAD)


def _check_subclass(owner: type, name: str) -> None:
    for kind, method, instead in CLASS_METHODS:
        if name == method and issubclass(owner, kind):
            refuse(f"{owner.__module__}.{owner.__qualname__}.{name}()", instead, depth=3)


def _exchange_class_method(kind: type, name: str, instead: str) -> None:
    """Exchanges a class method of a built-in type; only ever done on Python 3.11, whose types will not change."""
    original = vars(kind)[name]
    label = f"{kind.__module__}.{kind.__name__}.{name}()"

    def guarded(cls: type, *args: Any, **kwargs: Any) -> Any:
        if armed.run is not None:
            refuse(label, instead)
        return original.__get__(None, cls)(*args, **kwargs)

    guarded.__name__ = name
    guarded.__qualname__ = f"{kind.__name__}.{name}"
    guarded.__doc__ = original.__doc__
    members: Any = gc.get_referents(vars(kind))[0]
    members[name] = classmethod(guarded)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
