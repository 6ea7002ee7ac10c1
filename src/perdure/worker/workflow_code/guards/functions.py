"""Functions of the standard library that are replaced by ones that know workflow code when they meet it.

Replaced are attributes of modules, once per process, and names in workflow modules that were imported from them before
(`from time import time`). Outside workflow code each replacement calls the original.
"""

from __future__ import annotations

import functools
import inspect
import os
import platform
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from types import ModuleType
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
    "random.seed": "nothing: the run seeds the randomness of its code.",
    "random.setstate": "nothing: the run seeds the randomness of its code.",
    "time.process_time": _IN_ACTIVITY,
    "time.process_time_ns": _IN_ACTIVITY,
    "time.thread_time": _IN_ACTIVITY,
    "time.thread_time_ns": _IN_ACTIVITY,
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
    "os.uname": _IN_ACTIVITY,
    "os.stat": _IN_ACTIVITY,
    "os.lstat": _IN_ACTIVITY,
    "os.access": _IN_ACTIVITY,
    "platform.uname": _IN_ACTIVITY,
}
"""What workflow code must not call: name to what it does instead."""

_ENVIRONMENT = "pass it to the workflow as an argument, or read it in an activity."
_METHODS: tuple[tuple[type[Any], str, str, str], ...] = (
    *(
        (type(os.environ), name, "os.environ", _ENVIRONMENT)
        for name in ("__getitem__", "__iter__", "__setitem__", "__delitem__")
    ),
    *(
        (random.SystemRandom, name, "random.SystemRandom", "workflow.random().")
        for name in ("random", "getrandbits", "randbytes")
        if hasattr(random.SystemRandom, name)
    ),
    (threading.Thread, "start", "threading.Thread.start()", "asyncio.create_task(...), or an activity."),
)
"""Methods of Python classes that workflow code must not call."""


def _seconds_or_now(name: str, run: GuardedRun) -> Callable[..., Any]:
    """For functions of `time` whose only argument, seconds since the epoch, is now when it is missing."""
    return lambda seconds=None: originals[name](run.time_ns() / 1e9 if seconds is None else seconds)


def _formatted_or_now(run: GuardedRun) -> Callable[..., Any]:
    return lambda form, *moment: originals["time.strftime"](
        form, *(moment or [originals["time.localtime"](run.time_ns() / 1e9)])
    )


_DETERMINISTIC: dict[tuple[Any, str], Replacement] = {
    (time, "time"): lambda run: lambda: run.time_ns() / 1e9,
    (time, "time_ns"): lambda run: run.time_ns,
    (time, "perf_counter"): lambda run: lambda: run.time_ns() / 1e9,
    (time, "perf_counter_ns"): lambda run: run.time_ns,
    (time, "monotonic"): lambda run: lambda: run.time_ns() / 1e9,
    (time, "monotonic_ns"): lambda run: run.time_ns,
    **{
        (time, name): functools.partial(_seconds_or_now, f"time.{name}")
        for name in ("gmtime", "localtime", "ctime")
    },
    (time, "strftime"): _formatted_or_now,
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
_replacements: dict[int, Callable[..., Any]] = {}
"""What took the place of each function, by the id of the original, which `originals` keeps."""


def install() -> None:
    """Replaces the functions. Once per process."""
    for (module, name), replacement in _DETERMINISTIC.items():
        _replace(module, name, _deterministic(getattr(module, name), replacement))
    modules = {
        "time": time,
        "os": os,
        "uuid": uuid,
        "secrets": secrets,
        "random": random,
        "platform": platform,
    }
    for qualified_name, instead in FORBIDDEN.items():
        module_name, _, name = qualified_name.partition(".")
        module = modules[module_name]
        if hasattr(module, name):
            _replace(module, name, _forbidden(getattr(module, name), qualified_name, instead))
    for kind, name, called, instead in _METHODS:
        setattr(kind, name, _forbidden(getattr(kind, name), called, instead))
    _refuse_generators_without_a_seed()


def rebind(module: ModuleType) -> None:
    """Gives a module that had imported functions by name what took their place."""
    for name, value in list(vars(module).items()):
        replacement = _replacements.get(id(value))
        if replacement is not None:
            setattr(module, name, replacement)


def _refuse_generators_without_a_seed() -> None:
    """`random.Random()` seeds itself from the system."""
    original = random.Random.seed

    @functools.wraps(original)
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and armed.run is not None and not isinstance(self, random.SystemRandom):
            refuse("random.Random() without a seed", "workflow.random().")
        original(self, a, version)

    setattr(random.Random, "seed", seed)  # noqa: B010 - an assignment to a method is what mypy forbids


def _replace(module: Any, name: str, function: Callable[..., Any]) -> None:
    # Whoever imported the name earlier has what was there before any replacement.
    original = inspect.unwrap(getattr(module, name))
    originals[f"{module.__name__}.{name}"] = original
    _replacements[id(original)] = function
    setattr(module, name, function)
    # Whoever asks what a function can do (shutil does) must get the same answer for the one in its place.
    for functions in (
        os.supports_dir_fd,
        os.supports_effective_ids,
        os.supports_fd,
        os.supports_follow_symlinks,
    ):
        if original in functions:
            functions.add(function)


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
