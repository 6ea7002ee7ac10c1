"""Errors of the client: what a workflow, query, update, activity or schedule ended in.

May live here: error classes. May not: errors of calls themselves (`perdure.service`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.errors import InvariantViolation
from perdure.exceptions import TemporalError

if TYPE_CHECKING:
    from perdure.activity import ActivityCancellationDetails
    from perdure.client._execution import WorkflowExecutionStatus


class _CausedError(TemporalError):
    """An error that always has a cause."""

    def __init__(self, message: str, cause: BaseException) -> None:
        super().__init__(message)
        self.__cause__ = cause

    @property
    def cause(self) -> BaseException:
        """Why it failed."""
        cause = self.__cause__
        if cause is None:
            raise InvariantViolation("an error of this kind has a cause")
        return cause


class WorkflowFailureError(_CausedError):
    """A workflow failed, was cancelled, was terminated or timed out; `cause` says which and why."""

    def __init__(self, *, cause: BaseException) -> None:
        super().__init__("Workflow execution failed", cause)


class WorkflowContinuedAsNewError(TemporalError):
    """A run continued as a new one, and its result was asked for without following."""

    def __init__(self, new_execution_run_id: str) -> None:
        super().__init__("Workflow continued as new")
        self._new_execution_run_id = new_execution_run_id

    @property
    def new_execution_run_id(self) -> str:
        """Run id of the new run."""
        return self._new_execution_run_id


class WorkflowQueryRejectedError(TemporalError):
    """A query was not answered because of its reject condition."""

    def __init__(self, status: WorkflowExecutionStatus | None) -> None:
        super().__init__(f"Query rejected, status: {status}")
        self._status = status

    @property
    def status(self) -> WorkflowExecutionStatus | None:
        """The workflow's status, which led to it."""
        return self._status


class WorkflowQueryFailedError(TemporalError):
    """A query's handler failed, or there is none of that name."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._message = message

    @property
    def message(self) -> str:
        """What the worker said."""
        return self._message


class WorkflowUpdateFailedError(_CausedError):
    """An update was rejected or failed; `cause` says why."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("Workflow update failed", cause)


class RPCTimeoutOrCancelledError(TemporalError):
    """Waiting ended because of a deadline or a cancellation; what was waited for goes on."""


class WorkflowUpdateRPCTimeoutOrCancelledError(RPCTimeoutOrCancelledError):
    """Waiting for an update ended because of a deadline or a cancellation; the update itself goes on."""

    def __init__(self) -> None:
        super().__init__("Timeout or cancellation waiting for update")


class ActivityFailureError(_CausedError):
    """An activity started by a client failed, was cancelled, was terminated or timed out; `cause` says which."""

    def __init__(self, *, cause: BaseException) -> None:
        super().__init__("Activity execution failed", cause)


class NexusOperationFailureError(_CausedError):
    """A nexus operation started by a client did not succeed; `cause` says why."""

    def __init__(self, *, cause: BaseException) -> None:
        super().__init__("Nexus operation execution failed", cause)


class AsyncActivityCancelledError(TemporalError):
    """An activity that is completed from outside is to be cancelled, paused or reset; `details` says which."""

    def __init__(self, details: ActivityCancellationDetails | None = None) -> None:
        super().__init__("Activity cancelled")
        self.details = details


class ScheduleAlreadyRunningError(TemporalError):
    """There is a schedule of this id."""

    def __init__(self) -> None:
        super().__init__("Schedule already running")
