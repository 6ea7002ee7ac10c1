"""The error for what workflow code must not do, and where in the user's code it was done."""

from __future__ import annotations

import os
import sys
import sysconfig
from types import FrameType

from perdure.worker.workflow_code.guards.state import armed
from perdure.workflow import NondeterminismError

_STANDARD_LIBRARY = tuple(
    os.path.normcase(folder) + os.sep
    for folder in sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
)
_PACKAGES = tuple(
    os.path.normcase(folder) + os.sep
    for folder in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
)
_OWN = os.path.normcase(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))) + os.sep
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
_TRUSTED_SDK_MODULES = ("perdure.converter.", "perdure.contrib.", "perdure.worker.workflow_code.conversion")
"""What they call is the worker's configuration, not workflow code: Pydantic reads the environment as it makes a schema,
OpenTelemetry as it looks for its context."""

_places: dict[str, str] = {}
_USER, _LIBRARY, _SDK = "user", "library", "sdk"
_MAX_PLACES = 10_000


class RestrictedWorkflowAccessError(NondeterminismError):
    """Workflow code did what would give another answer, or act twice, when the workflow is replayed.

    Attributes:
        qualified_name: what was called, such as `datetime.datetime.now`.
        file, line: where in the user's code.
    """

    def __init__(self, qualified_name: str, instead: str, file: str, line: int, function: str) -> None:
        """Makes the message from its parts."""
        super().__init__(
            f"{qualified_name} in workflow code: when the workflow is replayed it would give another answer or act "
            f"again. Called at {file}:{line} in {function}. Instead: {instead} To allow it here, on your own "
            "responsibility: `with workflow.unsafe.sandbox_unrestricted():`."
        )
        self.qualified_name = qualified_name
        self.file = file
        self.line = line


def refuse(qualified_name: str, instead: str, depth: int = 2) -> None:
    """Raises for what the code `depth` frames up did, unless an importer, a logger, a debugger, a converter or a module
    that is passed through did it.

    Raises:
        RestrictedWorkflowAccessError: it was workflow code.
    """
    frame: FrameType | None = sys._getframe(depth)
    caller = frame
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name.startswith(_TRUSTED_MODULES):
            return
        place = _places.get(frame.f_code.co_filename) or _place(frame.f_code.co_filename)
        if place is _SDK:
            return
        if place is _USER:
            if armed.run is not None and f"{name}.".startswith(armed.run.passed_through):
                return
            break
        frame = frame.f_back
    if frame is None:
        frame = caller
    if frame is None or _nearest_sdk_module(frame).startswith(_TRUSTED_SDK_MODULES):
        return
    code = frame.f_code
    function = getattr(code, "co_qualname", code.co_name)
    raise RestrictedWorkflowAccessError(qualified_name, instead, code.co_filename, frame.f_lineno, function)


def _nearest_sdk_module(frame: FrameType | None) -> str:
    """The module of the SDK that called the frame, directly or not; empty if none did."""
    while frame is not None:
        file = frame.f_code.co_filename
        if (_places.get(file) or _place(file)) is _SDK:
            return frame.f_globals.get("__name__") or ""
        frame = frame.f_back
    return ""


def is_library(frame: FrameType) -> bool:
    """Whether a frame runs code of the standard library."""
    file = frame.f_code.co_filename
    return (_places.get(file) or _place(file)) is _LIBRARY


def _place(file: str) -> str:
    """Whose code a file is: the user's (third-party packages too), the standard library's or the SDK's."""
    path = os.path.normcase(file)
    if path.startswith(_OWN):
        place = _SDK
    elif path.startswith("<frozen ") or (
        path.startswith(_STANDARD_LIBRARY) and not path.startswith(_PACKAGES)
    ):
        place = _LIBRARY
    else:
        place = _USER
    if len(_places) >= _MAX_PLACES:
        _places.clear()
    _places[file] = place
    return place
