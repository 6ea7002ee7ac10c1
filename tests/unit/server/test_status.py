"""The table of statuses: every error a caller can meet has its code, and the details clients look for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.message import Message

from perdure.api.common.v1 import Payload
from perdure.api.errordetails import v1 as errordetails
from perdure.api.failure import v1 as failures
from perdure.api.failure.v1 import Failure
from perdure.api.google.rpc import Status as RpcStatus
from perdure.core import errors
from perdure.core.errors import ServiceError
from perdure.server.doors.status import MAX_MESSAGE_CHARS, TABLE, internal, status_of

_ARGUMENTS: dict[type[ServiceError], ServiceError] = {
    errors.DeadlineExceededError: errors.DeadlineExceededError(),
    errors.NamespaceNotFoundError: errors.NamespaceNotFoundError("lost"),
    errors.WorkflowAlreadyStartedError: errors.WorkflowAlreadyStartedError(
        "taken", start_request_id="q", run_id="r", first_run_id="f"
    ),
    errors.ActivityAlreadyStartedError: errors.ActivityAlreadyStartedError(
        "taken", start_request_id="q", run_id="r"
    ),
    errors.NexusOperationAlreadyStartedError: errors.NexusOperationAlreadyStartedError(
        "taken", start_request_id="q", run_id="r"
    ),
    errors.NamespaceInvalidStateError: errors.NamespaceInvalidStateError(
        "gone", namespace="old", state=3, allowed_states=(1, 2)
    ),
}

_ARGUMENTS[errors.OperationAbortedError] = errors.OperationAbortedError()
_ARGUMENTS[errors.MultiOperationError] = errors.MultiOperationError(
    "both", [errors.OperationAbortedError(), errors.NotFoundError("gone"), None]
)

_EXPECTED: dict[type[ServiceError], tuple[int, str | None]] = {
    errors.ServiceError: (2, None),
    errors.InvalidArgumentError: (3, None),
    errors.QueryFailedError: (3, "QueryFailedFailure"),
    errors.DeadlineExceededError: (4, None),
    errors.NotFoundError: (5, "NotFoundFailure"),
    errors.NamespaceNotFoundError: (5, "NamespaceNotFoundFailure"),
    errors.AlreadyExistsError: (6, None),
    errors.WorkflowAlreadyStartedError: (6, "WorkflowExecutionAlreadyStartedFailure"),
    errors.ActivityAlreadyStartedError: (6, "ActivityExecutionAlreadyStartedFailure"),
    errors.NexusOperationAlreadyStartedError: (6, "NexusOperationExecutionAlreadyStartedFailure"),
    errors.NamespaceAlreadyExistsError: (6, "NamespaceAlreadyExistsFailure"),
    errors.PermissionDeniedError: (7, "PermissionDeniedFailure"),
    errors.ResourceExhaustedError: (8, "ResourceExhaustedFailure"),
    errors.TooManyVersionsError: (8, "ResourceExhaustedFailure"),
    errors.FailedPreconditionError: (9, None),
    errors.WorkflowNotReadyError: (9, "WorkflowNotReadyFailure"),
    errors.DeadlineTooShortError: (9, None),
    errors.NamespaceInvalidStateError: (9, "NamespaceInvalidStateFailure"),
    errors.AbortedError: (10, None),
    errors.OperationAbortedError: (10, "MultiOperationExecutionAborted"),
    errors.MultiOperationError: (5, "MultiOperationExecutionFailure"),
    errors.UnimplementedError: (12, None),
    errors.UnavailableError: (14, None),
}


def _subclasses(base: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield base
    for subclass in base.__subclasses__():
        if subclass.__module__ == base.__module__:
            yield from _subclasses(subclass)


def _detail(error: Exception) -> Message | None:
    status = status_of(error)
    assert status is not None
    if not status.details:
        return None
    packed = RpcStatus.FromString(status.details)
    assert (packed.code, packed.message) == (status.code, status.message)
    (detail,) = packed.details
    prefix, _, full_name = detail.type_url.rpartition("/")
    assert prefix == "type.googleapis.com"
    name = full_name.rpartition(".")[2]
    detail_class = getattr(errordetails, name, None) or getattr(failures, name)
    message: Message = detail_class.FromString(detail.value)
    return message


@pytest.mark.parametrize("error_class", list(_subclasses(ServiceError)), ids=lambda c: c.__name__)
def test_every_answer_has_its_code_and_its_detail(error_class: type[ServiceError]) -> None:
    error = _ARGUMENTS.get(error_class) or error_class("what happened")
    status = status_of(error)
    assert status is not None
    detail = _detail(error)
    shown = (status.code, None if detail is None else type(detail).__name__)
    assert shown == _EXPECTED[error_class]
    assert status.message == str(error)


def test_details_carry_what_the_error_knows() -> None:
    detail = _detail(_ARGUMENTS[errors.WorkflowAlreadyStartedError])
    assert detail == errordetails.WorkflowExecutionAlreadyStartedFailure(
        start_request_id="q", run_id="r", first_execution_run_id="f"
    )
    activity = _detail(_ARGUMENTS[errors.ActivityAlreadyStartedError])
    assert activity == errordetails.ActivityExecutionAlreadyStartedFailure(start_request_id="q", run_id="r")
    operation = _detail(_ARGUMENTS[errors.NexusOperationAlreadyStartedError])
    assert operation == errordetails.NexusOperationExecutionAlreadyStartedFailure(
        start_request_id="q", run_id="r"
    )
    assert _detail(errors.NamespaceNotFoundError("lost")) == errordetails.NamespaceNotFoundFailure(
        namespace="lost"
    )
    failure = Failure(message="no", encoded_attributes=Payload(data=b"x"))
    assert _detail(errors.QueryFailedError("no", failure.SerializeToString())) == (
        errordetails.QueryFailedFailure(failure=failure)
    )
    state = _detail(_ARGUMENTS[errors.NamespaceInvalidStateError])
    assert isinstance(state, errordetails.NamespaceInvalidStateFailure)
    assert (state.namespace, state.state, list(state.allowed_states)) == ("old", 3, [1, 2])
    limited = _detail(errors.ResourceExhaustedError("slow down", cause=1, scope=2))
    assert isinstance(limited, errordetails.ResourceExhaustedFailure)
    assert (limited.cause, limited.scope) == (1, 2)


def test_a_failed_multi_operation_says_what_became_of_each_operation() -> None:
    detail = _detail(_ARGUMENTS[errors.MultiOperationError])
    assert isinstance(detail, errordetails.MultiOperationExecutionFailure)
    assert [(status.code, status.message) for status in detail.statuses] == [
        (10, "Operation was aborted."),
        (5, "gone"),
        (0, ""),
    ]
    kinds = [[packed.TypeName() for packed in status.details] for status in detail.statuses]
    assert kinds == [
        ["temporal.api.failure.v1.MultiOperationExecutionAborted"],
        ["temporal.api.errordetails.v1.NotFoundFailure"],
        [],
    ]


def test_a_class_that_is_not_listed_has_the_entry_of_its_nearest_base() -> None:
    class Special(errors.WorkflowNotReadyError):
        pass

    assert Special not in TABLE
    assert status_of(Special("x")) == status_of(errors.WorkflowNotReadyError("x"))


def test_a_store_that_cannot_answer_is_unavailable_and_not_a_bug() -> None:
    status = status_of(errors.StoreUnavailableError("The store is closed."))
    assert status is not None
    assert status.code == 14


@pytest.mark.parametrize(
    "error",
    [ValueError("secret"), errors.InvariantViolation("secret"), errors.VersionConflictError("secret")],
)
def test_a_bug_has_no_status_of_its_own(error: Exception) -> None:
    assert status_of(error) is None


def test_the_status_of_a_bug_says_only_where_to_look() -> None:
    status = internal("1a2b3c4d")
    assert status.code == 13
    assert "1a2b3c4d" in status.message
    assert not status.details


def test_a_message_is_cut_to_what_headers_can_carry() -> None:
    status = status_of(errors.InvalidArgumentError("x" * 100_000))
    assert status is not None
    assert len(status.message) == MAX_MESSAGE_CHARS
