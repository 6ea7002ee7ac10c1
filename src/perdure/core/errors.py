"""The one tree of errors that Perdure raises on purpose.

Every error a caller can meet is a class here; its docstring says when it is raised. The server's doors map the classes
to gRPC codes in one table (`perdure.server.doors.status`). Nothing here knows about gRPC.

    PerdureError
    ├── InvariantViolation            a bug in Perdure: the state machine reached a state it must not
    ├── ServiceError                  an answer to a caller
    │   ├── InvalidArgumentError      the request can never succeed as it is
    │   │   └── QueryFailedError      the workflow's query handler failed
    │   ├── NotFoundError             the workflow, task or activity is gone or was never there
    │   │   └── NamespaceNotFoundError
    │   ├── AlreadyExistsError
    │   │   ├── WorkflowAlreadyStartedError
    │   │   └── NamespaceAlreadyExistsError
    │   ├── FailedPreconditionError   the target is not in a state to do this
    │   │   ├── WorkflowNotReadyError
    │   │   └── NamespaceInvalidStateError
    │   ├── PermissionDeniedError
    │   ├── ResourceExhaustedError    a limit was reached; try later
    │   ├── UnimplementedError        this server does not have the feature
    │   ├── UnavailableError          the store or the server cannot answer now; retry
    │   ├── DeadlineExceededError     the caller's time is over
    │   ├── DeadlineTooShortError
    │   ├── AbortedError
    │   │   └── OperationAbortedError
    │   └── MultiOperationError       update-with-start: what became of each half
    └── StoreError                    raised by stores only; the engine turns it into a ServiceError
        ├── VersionConflictError      somebody else changed the run first; reload and try again
        ├── CurrentRunConflictError   the workflow id has another current run than expected
        ├── StoreUnavailableError     the write or read did not happen, or its outcome is unknown
        └── StoreOpenError            the database cannot be used at all (foreign, newer, locked, unreadable)
"""

from __future__ import annotations

from collections.abc import Sequence


class PerdureError(Exception):
    """Root of every error that Perdure raises on purpose."""


class InvariantViolation(PerdureError):
    """A rule that must always hold was found broken: a bug in Perdure, never the caller's fault."""

    def __init__(self, message: str, **context: object) -> None:
        self.context = context
        details = ", ".join(f"{name}={value!r}" for name, value in context.items())
        super().__init__(f"{message} ({details})" if details else message)


class ServiceError(PerdureError):
    """An answer to a caller: the request was understood and refused. `str(error)` is the message the caller sees."""


class InvalidArgumentError(ServiceError):
    """The request can never succeed as it is; the message names the field and what it must be."""


class QueryFailedError(InvalidArgumentError):
    """The workflow's query handler failed.

    Args:
        message: what the worker said.
        failure: a serialised `temporal.api.failure.v1.Failure`, or empty bytes.
    """

    def __init__(self, message: str, failure: bytes = b"") -> None:
        super().__init__(message)
        self.failure = failure


class NotFoundError(ServiceError):
    """The workflow, run, task, activity or other target is gone or was never there."""


class NamespaceNotFoundError(NotFoundError):
    """No namespace has this name."""

    def __init__(self, namespace: str) -> None:
        super().__init__(f"Namespace {namespace} is not found.")
        self.namespace = namespace


class AlreadyExistsError(ServiceError):
    """The target exists already."""


class WorkflowAlreadyStartedError(AlreadyExistsError):
    """The workflow id is taken by a run that the reuse or conflict policy does not allow to replace."""

    def __init__(self, message: str, *, start_request_id: str, run_id: str, first_run_id: str) -> None:
        super().__init__(message)
        self.start_request_id = start_request_id
        self.run_id = run_id
        self.first_run_id = first_run_id


class ActivityAlreadyStartedError(AlreadyExistsError):
    """The activity id is taken by an execution that the reuse or conflict policy does not allow to replace."""

    def __init__(self, message: str, *, start_request_id: str, run_id: str) -> None:
        super().__init__(message)
        self.start_request_id = start_request_id
        self.run_id = run_id


class NexusOperationAlreadyStartedError(AlreadyExistsError):
    """The operation id is taken by an execution that the reuse or conflict policy does not allow to replace."""

    def __init__(self, message: str, *, start_request_id: str, run_id: str) -> None:
        super().__init__(message)
        self.start_request_id = start_request_id
        self.run_id = run_id


class NamespaceAlreadyExistsError(AlreadyExistsError):
    """A namespace of this name exists."""


class FailedPreconditionError(ServiceError):
    """The target is not in a state in which this can be done."""


class WorkflowNotReadyError(FailedPreconditionError):
    """The workflow cannot answer yet (no workflow task completed so far) or its tasks are failing."""


class NamespaceInvalidStateError(FailedPreconditionError):
    """The namespace is deprecated or deleted, and this is not possible in it any more.

    Args:
        namespace: its name.
        state: `temporal.api.enums.v1.NamespaceState` number.
        allowed_states: the states in which it is possible.
    """

    def __init__(self, message: str, *, namespace: str, state: int, allowed_states: tuple[int, ...]) -> None:
        super().__init__(message)
        self.namespace = namespace
        self.state = state
        self.allowed_states = allowed_states


class PermissionDeniedError(ServiceError):
    """The caller may not do this, or presented a token that is not for this namespace."""


class ResourceExhaustedError(ServiceError):
    """A limit was reached.

    Args:
        message: what limit.
        cause: `temporal.api.enums.v1.ResourceExhaustedCause` number.
        scope: `temporal.api.enums.v1.ResourceExhaustedScope` number.
    """

    def __init__(self, message: str, cause: int = 0, scope: int = 0) -> None:
        super().__init__(message)
        self.cause = cause
        self.scope = scope


class TooManyVersionsError(ResourceExhaustedError):
    """A worker deployment has as many versions as it may have."""


class UnimplementedError(ServiceError):
    """This server does not have the feature that was asked for."""


class UnavailableError(ServiceError):
    """The server or its store cannot answer now; the caller may retry."""


class DeadlineExceededError(ServiceError):
    """The caller's time was over before there was an answer."""

    def __init__(self) -> None:
        # In the words of gRPC's libraries: the caller's own may notice first, and it should make no difference.
        super().__init__("Deadline Exceeded")


class DeadlineTooShortError(FailedPreconditionError):
    """A long poll came with a deadline that leaves no time to wait."""


class AbortedError(ServiceError):
    """The operation lost a race and was not done; the caller may retry."""


class OperationAbortedError(AbortedError):
    """One of several operations was not done because another one failed."""

    def __init__(self) -> None:
        super().__init__("Operation was aborted.")


class MultiOperationError(ServiceError):
    """Several operations that belong together could not all be done.

    Args:
        message: what was to be done.
        errors: what became of each, None for one that was done.
    """

    def __init__(self, message: str, errors: Sequence[ServiceError | None]) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class StoreError(PerdureError):
    """Raised by stores; the engine turns it into a ServiceError before a caller sees it."""


class VersionConflictError(StoreError):
    """The run's stored version is not the expected one: somebody else changed it. Nothing was written."""


class CurrentRunConflictError(StoreError):
    """The workflow id's current run is not the expected one. Nothing was written."""


class StoreUnavailableError(StoreError):
    """The store could not do it (disk full, I/O error, connection lost). The outcome of a write may be unknown."""


class StoreOpenError(StoreError):
    """The database cannot be used at all: not ours, newer than this release, in use by another process, unreadable."""


class StoreInUseError(StoreOpenError):
    """Another process has the database, for as long as it runs."""
