"""Errors to statuses: the one table from error classes to gRPC codes and the detail messages that clients look for.

Codes are plain numbers, so every door can use them; nothing here knows a transport.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import Message

from perdure.api.errordetails.v1 import (
    ActivityExecutionAlreadyStartedFailure,
    MultiOperationExecutionFailure,
    NamespaceAlreadyExistsFailure,
    NamespaceInvalidStateFailure,
    NamespaceNotFoundFailure,
    NexusOperationExecutionAlreadyStartedFailure,
    NotFoundFailure,
    PermissionDeniedFailure,
    QueryFailedFailure,
    ResourceExhaustedFailure,
    WorkflowExecutionAlreadyStartedFailure,
    WorkflowNotReadyFailure,
)
from perdure.api.failure.v1 import Failure, MultiOperationExecutionAborted
from perdure.api.google.rpc import Status as RpcStatus
from perdure.core import errors

logger = logging.getLogger(__name__)

INVALID_ARGUMENT = 3
RESOURCE_EXHAUSTED = 8
ABORTED = 10
INTERNAL = 13
UNAVAILABLE = 14

MAX_MESSAGE_CHARS = 4000
_TYPE_URL_PREFIX = "type.googleapis.com/"

Detail = Callable[[Any], Message]


class Status(NamedTuple):
    """A call's failure on the wire."""

    code: int
    message: str
    details: bytes
    """Serialised google.rpc.Status, empty when there is nothing to say beyond code and message."""


class _Entry(NamedTuple):
    code: int
    detail: Detail | None = None


def _already_started(error: errors.WorkflowAlreadyStartedError) -> Message:
    return WorkflowExecutionAlreadyStartedFailure(
        start_request_id=error.start_request_id,
        run_id=error.run_id,
        first_execution_run_id=error.first_run_id,
    )


def _activity_already_started(error: errors.ActivityAlreadyStartedError) -> Message:
    return ActivityExecutionAlreadyStartedFailure(
        start_request_id=error.start_request_id, run_id=error.run_id
    )


def _operation_already_started(error: errors.NexusOperationAlreadyStartedError) -> Message:
    return NexusOperationExecutionAlreadyStartedFailure(
        start_request_id=error.start_request_id, run_id=error.run_id
    )


def _query_failed(error: errors.QueryFailedError) -> Message:
    return QueryFailedFailure(failure=Failure.FromString(error.failure) if error.failure else None)


def _exhausted(error: errors.ResourceExhaustedError) -> Message:
    detail = ResourceExhaustedFailure()
    # Plain numbers in the core; the enum's type is the wire's.
    detail.cause = error.cause  # type: ignore[assignment]
    detail.scope = error.scope  # type: ignore[assignment]
    return detail


def _invalid_state(error: errors.NamespaceInvalidStateError) -> Message:
    detail = NamespaceInvalidStateFailure(namespace=error.namespace)
    detail.state = error.state  # type: ignore[assignment]
    detail.allowed_states.extend(error.allowed_states)  # type: ignore[arg-type]
    return detail


def _multi_operation(error: errors.MultiOperationError) -> Message:
    detail = MultiOperationExecutionFailure()
    for operation in error.errors:
        status = detail.statuses.add()
        if operation is None:
            continue
        found = status_of(operation)
        status.code = found.code if found is not None else INTERNAL
        status.message = found.message if found is not None else ""
        if found is not None and found.details:
            for packed in RpcStatus.FromString(found.details).details:
                status.details.add().CopyFrom(packed)
    return detail


def _first_failure(error: errors.MultiOperationError) -> int:
    """The code of a failed multi-operation: of the operation that failed by itself."""
    for operation in error.errors:
        if operation is not None and not isinstance(operation, errors.OperationAbortedError):
            found = status_of(operation)
            return found.code if found is not None else INTERNAL
    return ABORTED


TABLE: Mapping[type[Exception], _Entry] = {
    errors.QueryFailedError: _Entry(3, _query_failed),
    errors.InvalidArgumentError: _Entry(3),
    errors.DeadlineExceededError: _Entry(4),
    errors.NamespaceNotFoundError: _Entry(
        5, lambda error: NamespaceNotFoundFailure(namespace=error.namespace)
    ),
    errors.NotFoundError: _Entry(5, lambda _: NotFoundFailure()),
    errors.WorkflowAlreadyStartedError: _Entry(6, _already_started),
    errors.ActivityAlreadyStartedError: _Entry(6, _activity_already_started),
    errors.NexusOperationAlreadyStartedError: _Entry(6, _operation_already_started),
    errors.NamespaceAlreadyExistsError: _Entry(6, lambda _: NamespaceAlreadyExistsFailure()),
    errors.AlreadyExistsError: _Entry(6),
    errors.PermissionDeniedError: _Entry(7, lambda _: PermissionDeniedFailure()),
    errors.ResourceExhaustedError: _Entry(RESOURCE_EXHAUSTED, _exhausted),
    errors.NamespaceInvalidStateError: _Entry(9, _invalid_state),
    errors.WorkflowNotReadyError: _Entry(9, lambda _: WorkflowNotReadyFailure()),
    errors.FailedPreconditionError: _Entry(9),
    errors.OperationAbortedError: _Entry(ABORTED, lambda _: MultiOperationExecutionAborted()),
    errors.AbortedError: _Entry(ABORTED),
    errors.MultiOperationError: _Entry(ABORTED, _multi_operation),
    errors.UnimplementedError: _Entry(12),
    errors.UnavailableError: _Entry(UNAVAILABLE),
    errors.ServiceError: _Entry(2),
    # The engine makes an UnavailableError of it; what reads the store directly need not.
    errors.StoreUnavailableError: _Entry(UNAVAILABLE),
}
"""Error class to code and detail; a class that is not listed has the entry of its nearest listed base."""


def status_of(error: Exception) -> Status | None:
    """The status of an error that a caller may see.

    Returns:
        its status, or None for an error that is nobody's answer (a bug: the caller gets INTERNAL).
    """
    for base in type(error).__mro__:
        entry = TABLE.get(base)
        if entry is not None:
            message = str(error)[:MAX_MESSAGE_CHARS]
            code = _first_failure(error) if isinstance(error, errors.MultiOperationError) else entry.code
            details = _details(code, message, entry.detail, error) if entry.detail else b""
            return Status(code, message, details)
    return None


def answer_to(error: Exception, path: str, new_id: Callable[[], str]) -> Status:
    """The status that ends a call whose handler raised `error`; what is nobody's answer is logged and masked.

    Args:
        error: what was raised.
        path: the RPC's, for the log.
        new_id: makes the id by which a masked error is found in the log.
    """
    status = status_of(error)
    if status is None:
        error_id = new_id()[:8]
        logger.error("%s failed, error id %s", path, error_id, exc_info=error)
        status = internal(error_id)
    return status


def _details(code: int, message: str, detail: Detail, error: Exception) -> bytes:
    packed = detail(error)
    status = RpcStatus(code=code, message=message)
    # Clients read the first detail only.
    status.details.add(
        type_url=_TYPE_URL_PREFIX + packed.DESCRIPTOR.full_name, value=packed.SerializeToString()
    )
    return status.SerializeToString()


def internal(error_id: str) -> Status:
    """The status of a bug: says where to look, not what happened."""
    return Status(INTERNAL, f"internal error; the server's log has the details under {error_id}", b"")
