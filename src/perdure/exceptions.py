"""Errors that workflows, activities and clients raise and receive.

The tree is that of failures on the wire: each class stands for one kind of failure, and `perdure.converter` turns one
into the other. Errors about payloads that cannot be converted are here too, because callers catch them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any

import perdure.api.failure.v1


class TemporalError(Exception):
    """Base of all errors of the SDK."""

    @property
    def cause(self) -> BaseException | None:
        """What led to this error: the same as `__cause__`."""
        return self.__cause__


class FailureError(TemporalError):
    """Base of the failures of workflows and activities."""

    def __init__(
        self,
        message: str,
        *,
        failure: perdure.api.failure.v1.Failure | None = None,
        exc_args: tuple[Any, ...] | None = None,
    ) -> None:
        """Create a failure.

        Args:
            message: What happened.
            failure: The message of the wire that this error was made from.
            exc_args: What `args` will be; the message alone when not given.
        """
        super().__init__(*((message,) if exc_args is None else exc_args))
        self._message = message
        self._failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled as its class called with `args`, which does not fit the constructors of the
        # subclasses; an error that cannot be unpickled breaks the pool of processes that its activity ran in.
        return _restore_failure_error, (type(self), self.args), self.__dict__

    @property
    def message(self) -> str:
        """What happened."""
        return self._message

    @property
    def failure(self) -> perdure.api.failure.v1.Failure | None:
        """The message of the wire that this error was made from."""
        return self._failure


def _restore_failure_error(error_class: type[FailureError], args: tuple[Any, ...]) -> FailureError:
    """Make an error without its constructor; pickle fills in its attributes afterwards."""
    return error_class.__new__(error_class, *args)


class WorkflowAlreadyStartedError(FailureError):
    """A workflow was not started because its id is in use.

    Attributes:
        workflow_id: The id.
        workflow_type: Name of the workflow type that was to be started.
        run_id: The run that uses the id, when a client raised this.
        first_run_id: The first run of that run's chain, when a client raised this and the server said it.
    """

    def __init__(
        self,
        workflow_id: str,
        workflow_type: str,
        *,
        run_id: str | None = None,
        first_run_id: str | None = None,
    ) -> None:
        """Create the error; the arguments are its attributes."""
        super().__init__("Workflow execution already started")
        self.workflow_id = workflow_id
        self.workflow_type = workflow_type
        self.run_id = run_id
        self.first_run_id = first_run_id

    def __str__(self) -> str:
        """Say more than the message, which other SDKs read."""
        return (
            f"{self.message}: the workflow ID {self.workflow_id!r} is in use. Use another ID, or say with "
            "id_conflict_policy or id_reuse_policy what is to happen"
        )


class InvalidVersioningOverrideError(FailureError):
    """A child workflow was not started because its versioning override is not valid."""

    def __init__(self) -> None:
        """Create the error."""
        super().__init__("Invalid versioning override")


class ActivityAlreadyStartedError(FailureError):
    """A standalone activity was not started because its id is in use.

    Attributes:
        activity_id: The id.
        activity_type: Name of the activity type that was to be started.
        run_id: The run that uses the id, when a client raised this.
    """

    def __init__(self, activity_id: str, activity_type: str, *, run_id: str | None = None) -> None:
        """Create the error; the arguments are its attributes."""
        super().__init__("Activity execution already started")
        self.activity_id = activity_id
        self.activity_type = activity_type
        self.run_id = run_id


class NexusOperationAlreadyStartedError(FailureError):
    """A Nexus operation was not started because its id is in use.

    Attributes:
        operation_id: The id.
        run_id: The run that uses the id, if known.
    """

    def __init__(self, operation_id: str, *, run_id: str | None = None) -> None:
        """Create the error; the arguments are its attributes."""
        super().__init__("Nexus operation execution already started")
        self.operation_id = operation_id
        self.run_id = run_id


class ApplicationErrorCategory(IntEnum):
    """How serious an application error is."""

    UNSPECIFIED = 0

    BENIGN = 1
    """Expected in normal operation: logged at debug level and not counted in metrics."""


class ApplicationError(FailureError):
    """An error that user code raises."""

    def __init__(
        self,
        message: str,
        *details: Any,
        type: str | None = None,
        non_retryable: bool = False,
        next_retry_delay: timedelta | None = None,
        category: ApplicationErrorCategory = ApplicationErrorCategory.UNSPECIFIED,
    ) -> None:
        """Create an error.

        Args:
            message: What happened.
            details: Values that travel with the error.
            type: Name of the kind of error, which retry policies can list as not retryable.
            non_retryable: Never retry, whatever the policy says.
            next_retry_delay: Wait this long before the next try of the activity instead of what the policy says.
            category: How serious it is.
        """
        super().__init__(message, exc_args=(f"{type}: {message}" if type else message,))
        self._details = details
        self._type = type
        self._non_retryable = non_retryable
        self._next_retry_delay = next_retry_delay
        self._category = category

    @property
    def details(self) -> Sequence[Any]:
        """Values that travel with the error."""
        return self._details

    @property
    def type(self) -> str | None:
        """Name of the kind of error."""
        return self._type

    @property
    def non_retryable(self) -> bool:
        """Whether the error was created as not retryable; a retry policy may forbid retries too."""
        return self._non_retryable

    @property
    def next_retry_delay(self) -> timedelta | None:
        """How long to wait before the next try of the activity, if the error says so."""
        return self._next_retry_delay

    @property
    def category(self) -> ApplicationErrorCategory:
        """How serious the error is."""
        return self._category


class CancelledError(FailureError):
    """A workflow or activity was cancelled."""

    def __init__(self, message: str = "Cancelled", *details: Any) -> None:
        """Create an error with the values that travel with it."""
        super().__init__(message)
        self._details = details

    @property
    def details(self) -> Sequence[Any]:
        """Values that travel with the error."""
        return self._details


class TerminatedError(FailureError):
    """A workflow was terminated."""

    def __init__(self, message: str, *details: Any) -> None:
        """Create an error with the values that travel with it."""
        super().__init__(message)
        self._details = details

    @property
    def details(self) -> Sequence[Any]:
        """Values that travel with the error."""
        return self._details


class TimeoutType(IntEnum):
    """Which timeout passed."""

    START_TO_CLOSE = 1
    SCHEDULE_TO_START = 2
    SCHEDULE_TO_CLOSE = 3
    HEARTBEAT = 4


class TimeoutError(FailureError):  # noqa: A001
    """A workflow or activity took too long."""

    def __init__(
        self, message: str, *, type: TimeoutType | None, last_heartbeat_details: Sequence[Any]
    ) -> None:
        """Create an error with the activity's last heartbeat."""
        super().__init__(message)
        self._type = type
        self._last_heartbeat_details = last_heartbeat_details

    @property
    def type(self) -> TimeoutType | None:
        """Which timeout passed, if known."""
        return self._type

    @property
    def last_heartbeat_details(self) -> Sequence[Any]:
        """What the activity reported with its last heartbeat."""
        return self._last_heartbeat_details


class ServerError(FailureError):
    """An error that the server made."""

    def __init__(self, message: str, *, non_retryable: bool = False) -> None:
        """Create an error."""
        super().__init__(message)
        self._non_retryable = non_retryable

    @property
    def non_retryable(self) -> bool:
        """Whether it is not retried."""
        return self._non_retryable


class RetryState(IntEnum):
    """Why something was or was not tried again."""

    IN_PROGRESS = 1
    NON_RETRYABLE_FAILURE = 2
    TIMEOUT = 3
    MAXIMUM_ATTEMPTS_REACHED = 4
    RETRY_POLICY_NOT_SET = 5
    INTERNAL_SERVER_ERROR = 6
    CANCEL_REQUESTED = 7


class ActivityError(FailureError):
    """An activity failed; its `cause` says why."""

    def __init__(
        self,
        message: str,
        *,
        scheduled_event_id: int,
        started_event_id: int,
        identity: str,
        activity_type: str,
        activity_id: str,
        retry_state: RetryState | None,
    ) -> None:
        """Create an error; the arguments are its properties."""
        super().__init__(message)
        self._scheduled_event_id = scheduled_event_id
        self._started_event_id = started_event_id
        self._identity = identity
        self._activity_type = activity_type
        self._activity_id = activity_id
        self._retry_state = retry_state

    @property
    def scheduled_event_id(self) -> int:
        """Id of the event that scheduled the activity."""
        return self._scheduled_event_id

    @property
    def started_event_id(self) -> int:
        """Id of the event of the activity's start."""
        return self._started_event_id

    @property
    def identity(self) -> str:
        """Identity of the worker that ran the activity."""
        return self._identity

    @property
    def activity_type(self) -> str:
        """Name of the activity type."""
        return self._activity_type

    @property
    def activity_id(self) -> str:
        """Id of the activity."""
        return self._activity_id

    @property
    def retry_state(self) -> RetryState | None:
        """Why it was not tried again, if known."""
        return self._retry_state


class ChildWorkflowError(FailureError):
    """A child workflow failed; its `cause` says why."""

    def __init__(
        self,
        message: str,
        *,
        namespace: str,
        workflow_id: str,
        run_id: str,
        workflow_type: str,
        initiated_event_id: int,
        started_event_id: int,
        retry_state: RetryState | None,
    ) -> None:
        """Create an error; the arguments are its properties."""
        super().__init__(message)
        self._namespace = namespace
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._workflow_type = workflow_type
        self._initiated_event_id = initiated_event_id
        self._started_event_id = started_event_id
        self._retry_state = retry_state

    @property
    def namespace(self) -> str:
        """The child's namespace."""
        return self._namespace

    @property
    def workflow_id(self) -> str:
        """The child's workflow id."""
        return self._workflow_id

    @property
    def run_id(self) -> str:
        """The child's run id."""
        return self._run_id

    @property
    def workflow_type(self) -> str:
        """Name of the child's workflow type."""
        return self._workflow_type

    @property
    def initiated_event_id(self) -> int:
        """Id of the event that initiated the child."""
        return self._initiated_event_id

    @property
    def started_event_id(self) -> int:
        """Id of the event of the child's start."""
        return self._started_event_id

    @property
    def retry_state(self) -> RetryState | None:
        """Why it was not tried again, if known."""
        return self._retry_state


class NexusOperationError(FailureError):
    """A Nexus operation failed inside a workflow; its `cause` says why."""

    def __init__(
        self,
        message: str,
        *,
        scheduled_event_id: int,
        endpoint: str,
        service: str,
        operation: str,
        operation_token: str,
    ) -> None:
        """Create an error; the arguments are its properties."""
        super().__init__(message)
        self._scheduled_event_id = scheduled_event_id
        self._endpoint = endpoint
        self._service = service
        self._operation = operation
        self._operation_token = operation_token

    @property
    def scheduled_event_id(self) -> int:
        """Id of the event that scheduled the operation."""
        return self._scheduled_event_id

    @property
    def endpoint(self) -> str:
        """Name of the endpoint."""
        return self._endpoint

    @property
    def service(self) -> str:
        """Name of the service."""
        return self._service

    @property
    def operation(self) -> str:
        """Name of the operation."""
        return self._operation

    @property
    def operation_token(self) -> str:
        """The token that the operation returned when it started."""
        return self._operation_token


class PayloadError(TemporalError):
    """A payload cannot be turned into a value.

    Attributes:
        index: Position of the payload among those converted together, from 0: for a call, the argument's.
        encoding: The encoding that the payload names, such as `json/plain`.
        type_hint: The type that was asked for, if any.
    """

    def __init__(self, message: str, *, index: int, encoding: str, type_hint: Any = None) -> None:
        """Create an error.

        Args:
            message: What is wrong and what to do.
            index: Position of the payload.
            encoding: Its encoding.
            type_hint: The type that was asked for.
        """
        super().__init__(message)
        self.index = index
        self.encoding = encoding
        self.type_hint = type_hint

    def __str__(self) -> str:
        """Return the message, which KeyError would quote."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickle needs, because the constructor takes keywords."""
        return _restore_payload_error, (type(self), str(self), self.index, self.encoding, self.type_hint)


def _restore_payload_error(
    error_class: type[PayloadError], message: str, index: int, encoding: str, type_hint: Any
) -> PayloadError:
    return error_class(message, index=index, encoding=encoding, type_hint=type_hint)


class UnknownPayloadEncodingError(PayloadError, KeyError):
    """No converter knows the payload's encoding."""


class PayloadParseError(PayloadError, RuntimeError):
    """The payload's bytes are not what its encoding says."""


class PayloadTypeError(PayloadError, TypeError):
    """The payload's value does not fit the type that was asked for."""


class ExternalStorageNotConfiguredError(TemporalError, RuntimeError):
    """A payload is stored elsewhere, and nothing here knows where."""

    def __init__(self) -> None:
        """Create the error."""
        # The code is that of the official SDKs: people look it up and tools match it.
        super().__init__(
            "[TMPRL1105] Detected externally stored payload(s) but external storage is not configured."
            " Give the data converter the external_storage of the one that sent them"
        )

    def __reduce__(self) -> tuple[type[ExternalStorageNotConfiguredError], tuple[()]]:
        """Return what pickle needs: the constructor takes no message."""
        return type(self), ()


_WRAPPING_ERRORS = (ActivityError, ChildWorkflowError, NexusOperationError)


def is_cancelled_exception(exception: BaseException) -> bool:
    """Tell whether an exception means that something was cancelled.

    That is a cancellation of asyncio, a `CancelledError` of this module, or the failure of an activity, a child
    workflow or a Nexus operation with such a cause.

    Args:
        exception: Any exception, usually one just caught in workflow code.
    """
    if isinstance(exception, _WRAPPING_ERRORS):
        return isinstance(exception.cause, CancelledError)
    return isinstance(exception, (asyncio.CancelledError, CancelledError))
