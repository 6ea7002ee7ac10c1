"""The error for what workflow code must not do: what the user called, where, and what that came to."""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

from perdure.core.replay.networks import NETWORK_MODULES
from perdure.worker.workflow_code.guards.state import armed
from perdure.workflow import NondeterminismError

_STANDARD_LIBRARY = tuple(
    os.path.normcase(folder) + os.sep
    for folder in sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
)
_PACKAGES = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_OWN = os.path.normcase(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))) + os.sep
_ASYNCIO = os.path.normcase(os.path.join(os.path.dirname(os.path.dirname(__file__)), "generations.py"))
"""What stands for functions of `asyncio` is a library, too."""
_TRUSTED_MODULES = (
    "importlib.",
    "_frozen_importlib",
    "linecache",
    "tokenize",
    "traceback",
    "logging",
    "warnings",
    "inspect",
    "pdb",
    "bdb",
    "cmd",
    "_pytest.",
    "pydevd",
    "_pydevd_",
    "debugpy.",
    "coverage.",
    "pydantic.",
    "zoneinfo.",
)
"""They read files, clocks and settings on behalf of the interpreter, the log, a debugger or themselves: no answer
reaches workflow code. What they call back, such as a model's validator, is workflow code again."""
_TRUSTED_CALLERS = ("importlib.", "_frozen_importlib", "logging")
"""What these call in packages is none either: a package that is imported late, and the handlers of the log."""
_TRUSTED_SDK_MODULES = ("perdure.converter.", "perdure.contrib.", "perdure.worker.workflow_code.conversion")
"""What they call is the worker's configuration, not workflow code: Pydantic reads the environment as it makes a schema,
OpenTelemetry as it looks for its context."""
_NETWORK_INSTEAD = "call the network in an activity."

_places: dict[str, str] = {}
_user_packages: set[str] = set()
_USER, _PACKAGE, _LIBRARY, _SDK = "user", "package", "library", "sdk"
_MAX_PLACES = 10_000


class Place(NamedTuple):
    """Where a call was made: the calling code, its module and the line."""

    code: CodeType
    module: str
    line: int

    @classmethod
    def of(cls, frame: FrameType) -> Place:
        return cls(frame.f_code, _module(frame), frame.f_lineno)


Way = tuple[Place, ...]
"""Places from a library's, innermost first, to the user's, which is the last one."""


class RestrictedWorkflowAccessError(NondeterminismError):
    """Workflow code did what would give another answer, or act twice, when the workflow is replayed.

    Attributes:
        qualified_name: what the user's code called, such as `datetime.datetime.now()` or `requests.get()`.
        file, line: where in the user's code.
    """

    def __init__(
        self, qualified_name: str, instead: str, file: str, line: int, function: str, came_to: str = ""
    ) -> None:
        """Makes the message from its parts; `came_to` goes on after "in workflow code"."""
        super().__init__(
            f"{qualified_name} in workflow code{came_to}: when the workflow is replayed it would give another answer "
            f"or act again. Called at {file}:{line} in {function}. Instead: {instead} To allow it here, on your own "
            "responsibility: `with workflow.unsafe.sandbox_unrestricted():`."
        )
        self.qualified_name = qualified_name
        self.file = file
        self.line = line


def count_as_users(module: str) -> None:
    """The package of a workflow module is the user's code, also where it is installed beside the others."""
    _user_packages.add(module.partition(".")[0])


def is_users(module: str, file: str | None) -> bool:
    """Whether a module is the user's own code."""
    if module.partition(".")[0] in _user_packages:
        return True
    return file is not None and (_places.get(file) or _place(file)) is _USER


def refuse(qualified_name: str, instead: str, depth: int = 2) -> None:
    """Raises for what the code `depth` frames up did, unless an importer, a logger, a debugger, a converter or a module
    that is passed through did it, or the worker's restrictions permit the call.

    The user is told of the call that left their own code, which is the only one they know: `requests.get()` and not
    the settings of proxies that it reads first.

    Raises:
        RestrictedWorkflowAccessError: it was workflow code.
    """
    run = armed.run
    if run is not None and f"{qualified_name.replace('()', '')}.".startswith(run.permits.calls):
        return
    frames = _frames_up_to_the_user(sys._getframe(depth))
    if not frames or _nearest_sdk_module(frames[-1]).startswith(_TRUSTED_SDK_MODULES):
        return
    *inside, place = [Place.of(frame) for frame in frames] + list(_way_to_this_task(frames[-1]))
    called, came_to = _names(inside, qualified_name)
    if any(f"{inner.module}.".startswith(NETWORK_MODULES) for inner in inside):
        instead = _NETWORK_INSTEAD
        came_to = f" uses the network (it was stopped at {qualified_name.strip(',')})"
    function = getattr(place.code, "co_qualname", place.code.co_name)
    raise RestrictedWorkflowAccessError(
        called, instead, place.code.co_filename, place.line, function, came_to
    )


def way_from_user(depth: int = 2) -> Way:
    """How the user's code came to have a package make a task, `depth` frames up: what the task does has no frame there.

    Returns:
        The package's call that the user made, and the user's; empty if the user's own code makes it.
    """
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        file = frame.f_code.co_filename
        place = _places.get(file) or _place(file)
        if place is _PACKAGE:
            break
        if place is not _LIBRARY:
            return ()
        frame = frame.f_back
    else:
        return ()
    frames = _frames_up_to_the_user(frame)
    if not frames:
        return ()
    return tuple(Place.of(each) for each in frames[-2:]) + _way_to_this_task(frames[-1])


def _way_to_this_task(outermost: FrameType) -> Way:
    """How the user came to the task that runs, where the outermost frame in it is a package's."""
    if is_users(_module(outermost), outermost.f_code.co_filename):
        return ()
    loop = asyncio._get_running_loop()
    way: Way = () if loop is None else getattr(asyncio.current_task(loop), "way", ())
    return way


def _frames_up_to_the_user(caller: FrameType) -> list[FrameType]:
    """The frames from `caller` up to the user's code, which is the last one; empty if it is not workflow code."""
    frames: list[FrameType] = []
    is_past_package = False
    frame: FrameType | None = caller
    while frame is not None:
        name = _module(frame)
        place = _places.get(frame.f_code.co_filename) or _place(frame.f_code.co_filename)
        if place is _SDK:
            break
        if name.startswith(_TRUSTED_CALLERS if is_past_package else _TRUSTED_MODULES):
            return []
        frames.append(frame)
        if place is not _LIBRARY:
            if armed.run is not None and f"{name}.".startswith(armed.run.permits.modules):
                return []
            if place is _USER or name.partition(".")[0] in _user_packages:
                return frames
            is_past_package = True
        frame = frame.f_back
    if is_past_package:  # it runs in a task of its own
        return frames
    return [] if frame is not None else [caller]


def _names(inside: list[Place], refused: str) -> tuple[str, str]:
    """What the user called, and what that came to, where it is something else.

    Args:
        inside: the places in libraries, innermost first.
        refused: what is refused; it is all that can be said of a function that has no public name.
    """
    entered = _public_name(inside[-1]) if inside else None
    if entered is None:
        if not inside or _places.get(inside[-1].code.co_filename) is not _PACKAGE:
            return refused, ""
        entered = f"A call of {inside[-1].module.partition('.')[0]}"
    elif entered.partition(".")[0] == refused.partition(".")[0]:
        return f"{entered}{',' if refused.endswith(',') else ''}", ""
    return entered, f" comes to {refused.strip(',')}"


def _public_name(place: Place) -> str | None:
    """How users write the function that a place is in: `requests.get()`, although `requests.api` defines it."""
    code = place.code
    *owners, last = code.co_qualname.split(".")
    path = owners if last == "__init__" else [*owners, last]
    module = place.module.split(".")
    if module == ["collections", "abc"] or any(name.startswith(("_", "<")) for name in path):
        return None  # the former has methods for other classes, such as `os.environ.get`
    for length in range(1, len(module) + 1):
        holder = ".".join(module[:length])
        if not module[length - 1].startswith("_") and code in _codes(holder, [*owners, last]):
            return f"{'.'.join([holder, *path])}()"
    return None


def _codes(module: str, path: list[str]) -> Iterator[CodeType]:
    """The code of the function that a module has under this name, if any, and of those it wraps."""
    found: Any = sys.modules.get(module)
    for name in path:
        found = getattr(found, name, None)
    while found is not None:
        code = getattr(found, "__code__", None)
        if isinstance(code, CodeType):
            yield code
        found = getattr(found, "__wrapped__", None)


def _module(frame: FrameType) -> str:
    return frame.f_globals.get("__name__") or ""


def _nearest_sdk_module(frame: FrameType | None) -> str:
    """The module of the SDK that called the frame, directly or not; empty if none did."""
    while frame is not None:
        file = frame.f_code.co_filename
        if (_places.get(file) or _place(file)) is _SDK:
            return _module(frame)
        frame = frame.f_back
    return ""


def is_library(frame: FrameType) -> bool:
    """Whether a frame runs code of the standard library."""
    file = frame.f_code.co_filename
    return (_places.get(file) or _place(file)) is _LIBRARY


def _place(file: str) -> str:
    """Whose code a file is: the user's, an installed package's, the standard library's or the SDK's."""
    path = os.path.normcase(file)
    if path.startswith(_OWN):
        place = _LIBRARY if path == _ASYNCIO else _SDK
    elif any(folder in path for folder in _PACKAGES):
        place = _PACKAGE
    elif path.startswith(("<frozen ", *_STANDARD_LIBRARY)):
        place = _LIBRARY
    else:
        place = _USER
    if len(_places) >= _MAX_PLACES:
        _places.clear()
    _places[file] = place
    return place
