"""Functions of the standard library that are replaced by ones that know workflow code when they meet it.

Replaced are attributes of modules, once per process. Outside workflow code each replacement calls the original.
A name that was imported before (`from time import time`) keeps the original: see `calls.py`.
"""

from __future__ import annotations

import functools
import inspect
import os
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from perdure.worker.workflow_code.guards.errors import refuse
from perdure.worker.workflow_code.guards.state import GuardedRun, armed

Replacement = Callable[[GuardedRun], Callable[..., Any]]

RANDOM_FUNCTIONS = (
    "betavariate",
    "binomialvariate",
    "choice",
    "choices",
    "expovariate",
    "gammavariate",
    "gauss",
    "getrandbits",
    "lognormvariate",
    "normalvariate",
    "paretovariate",
    "randbytes",
    "randint",
    "random",
    "randrange",
    "sample",
    "shuffle",
    "triangular",
    "uniform",
    "vonmisesvariate",
    "weibullvariate",
)

_IN_ACTIVITY = "do it in an activity and return the result."

FORBIDDEN: dict[str, str] = {
    "time.sleep": "await asyncio.sleep(seconds), which is a durable timer.",
    "os.urandom": "workflow.random() or workflow.uuid4().",
    "uuid.uuid1": "workflow.uuid4().",
    "secrets.token_bytes": "workflow.random().randbytes(n), or a secret made in an activity.",
    "secrets.token_hex": "workflow.random().randbytes(n).hex(), or a secret made in an activity.",
    "secrets.token_urlsafe": "workflow.random(), or a secret made in an activity.",
    "secrets.randbelow": "workflow.random().randrange(n).",
    "secrets.randbits": "workflow.random().getrandbits(n).",
    "secrets.choice": "workflow.random().choice(sequence).",
    "os.getpid": _IN_ACTIVITY,
    "os.cpu_count": _IN_ACTIVITY,
    "os.getcwd": _IN_ACTIVITY,
}
"""What workflow code must not call: name to what it does instead."""

_ENVIRONMENT = "pass it to the workflow as an argument, or read it in an activity."
_METHODS: tuple[tuple[type[Any], str, str, str], ...] = (
    *(
        (type(os.environ), name, "os.environ", _ENVIRONMENT)
        for name in ("__getitem__", "__iter__", "__setitem__", "__delitem__")
    ),
    (threading.Thread, "start", "starting a thread", "asyncio.create_task(...), or an activity."),
)
"""Methods of Python classes that workflow code must not call."""

# Not time.monotonic: every event loop reads it all the time, and would pay for it everywhere.
_DETERMINISTIC: dict[tuple[Any, str], Replacement] = {
    (time, "time"): lambda run: lambda: run.time_ns() / 1e9,
    (time, "time_ns"): lambda run: run.time_ns,
    (time, "perf_counter"): lambda run: lambda: run.time_ns() / 1e9,
    (time, "perf_counter_ns"): lambda run: run.time_ns,
    (uuid, "uuid4"): lambda run: (
        lambda: uuid.UUID(bytes=run.random().getrandbits(128).to_bytes(16, "big"), version=4)
    ),
    **{
        (random, name): functools.partial(lambda name, run: getattr(run.random(), name), name)
        for name in RANDOM_FUNCTIONS
        if hasattr(random, name)
    },
}

originals: dict[str, Any] = {}
"""Every replaced function by its dotted name."""


def install() -> None:
    """Replaces the functions. Once per process."""
    for (module, name), replacement in _DETERMINISTIC.items():
        _replace(module, name, _deterministic(getattr(module, name), replacement))
    modules = {"time": time, "os": os, "uuid": uuid, "secrets": secrets}
    for qualified_name, instead in FORBIDDEN.items():
        module_name, _, name = qualified_name.partition(".")
        module = modules[module_name]
        if hasattr(module, name):
            _replace(module, name, _forbidden(getattr(module, name), qualified_name, instead))
    for kind, name, called, instead in _METHODS:
        setattr(kind, name, _forbidden(getattr(kind, name), called, instead))


def _replace(module: Any, name: str, function: Callable[..., Any]) -> None:
    # Whoever imported the name earlier has what was there before any replacement.
    originals[f"{module.__name__}.{name}"] = inspect.unwrap(getattr(module, name))
    setattr(module, name, function)


def _deterministic(original: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        run = armed.run
        if run is None:
            return original(*args, **kwargs)
        return replacement(run)(*args, **kwargs)

    return guarded


def _forbidden(original: Callable[..., Any], qualified_name: str, instead: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if armed.run is not None:
            refuse(qualified_name, instead)
        return original(*args, **kwargs)

    return guarded
