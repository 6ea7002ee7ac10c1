"""Errors that workflow code meets, and the choices it can make about worker versions."""

from __future__ import annotations

from enum import Enum, IntEnum

from perdure.exceptions import TemporalError


class NondeterminismError(TemporalError):
    """Replay found that the code does not ask for what history recorded. Also a failure exception type to choose."""

    def __init__(self, message: str) -> None:
        """Keeps the message."""
        super().__init__(message)
        self.message = message


class ReadOnlyContextError(TemporalError):
    """A query handler, an update validator or another reader tried to change the workflow or to ask for something."""

    def __init__(self, message: str) -> None:
        """Keeps the message."""
        super().__init__(message)
        self.message = message


class _NotInWorkflowEventLoopError(TemporalError):
    """A function of `perdure.workflow` was called outside workflow code."""

    def __init__(self, *args: object) -> None:
        super().__init__("Not in workflow event loop")
        self.message = "Not in workflow event loop"


class VersioningIntent(Enum):
    """Which build of a worker should run what the workflow starts. Deprecated in favour of deployment versions."""

    COMPATIBLE = 1
    """One that is compatible with this build, if the target queue knows it."""
    DEFAULT = 2
    """The overall default build of the target queue."""


class ContinueAsNewVersioningBehavior(IntEnum):
    """Which version of the worker runs the first task of the run that continue-as-new starts (experimental)."""

    UNSPECIFIED = 0
    """What the run would inherit anyway."""
    AUTO_UPGRADE = 1
    """The target version of the task queue at the time of the start."""
    USE_RAMPING_VERSION = 2
    """The ramping version of the task queue if there is one, otherwise the current version."""
