"""What an error of a handler means to the caller of an operation, in the terms of the Nexus protocol.

May live here: that translation, and the protocol's own form of failures for servers that read no other. May not: tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.json_format import MessageToJson
from nexusrpc import HandlerError, HandlerErrorType

from perdure.api.failure.v1 import Failure
from perdure.api.nexus.v1 import Failure as NexusFailure
from perdure.api.nexus.v1 import HandlerError as HandlerErrorMessage
from perdure.api.nexus.v1 import UnsuccessfulOperationError
from perdure.converter._payload_validation_error import is_payload_validation_error
from perdure.exceptions import ApplicationError, WorkflowAlreadyStartedError
from perdure.service import RPCError, RPCStatusCode

_Kind = HandlerErrorType
# A handler that may not do something is the service's own trouble and not the caller's: INTERNAL, and tried again.
_RPC_ERRORS: Final[Mapping[RPCStatusCode, tuple[HandlerErrorType, bool | None]]] = {
    RPCStatusCode.INVALID_ARGUMENT: (_Kind.BAD_REQUEST, None),
    RPCStatusCode.ALREADY_EXISTS: (_Kind.INTERNAL, False),
    RPCStatusCode.FAILED_PRECONDITION: (_Kind.INTERNAL, False),
    RPCStatusCode.OUT_OF_RANGE: (_Kind.INTERNAL, False),
    RPCStatusCode.ABORTED: (_Kind.UNAVAILABLE, None),
    RPCStatusCode.UNAVAILABLE: (_Kind.UNAVAILABLE, None),
    RPCStatusCode.CANCELLED: (_Kind.INTERNAL, None),
    RPCStatusCode.DATA_LOSS: (_Kind.INTERNAL, None),
    RPCStatusCode.INTERNAL: (_Kind.INTERNAL, None),
    RPCStatusCode.UNKNOWN: (_Kind.INTERNAL, None),
    RPCStatusCode.UNAUTHENTICATED: (_Kind.INTERNAL, None),
    RPCStatusCode.PERMISSION_DENIED: (_Kind.INTERNAL, None),
    RPCStatusCode.NOT_FOUND: (_Kind.NOT_FOUND, None),
    RPCStatusCode.RESOURCE_EXHAUSTED: (_Kind.RESOURCE_EXHAUSTED, None),
    RPCStatusCode.UNIMPLEMENTED: (_Kind.NOT_IMPLEMENTED, None),
    RPCStatusCode.DEADLINE_EXCEEDED: (_Kind.UPSTREAM_TIMEOUT, None),
}


def handler_error(error: BaseException) -> HandlerError:
    """Return what an exception of a handler means to the caller; the exception is its cause."""
    if isinstance(error, HandlerError):
        return error
    if isinstance(error, ApplicationError):
        text = "Handler failed with non-retryable application error"
        meant = HandlerError(text, type=_Kind.INTERNAL, retryable_override=not error.non_retryable)
    elif isinstance(error, WorkflowAlreadyStartedError):
        meant = HandlerError(error.message, type=_Kind.INTERNAL, retryable_override=False)
    elif isinstance(error, RPCError):
        kind, may_retry = _RPC_ERRORS.get(error.status, (_Kind.INTERNAL, None))
        meant = HandlerError(error.message, type=kind, retryable_override=may_retry)
    else:
        meant = HandlerError("Internal handler error", type=_Kind.INTERNAL)
    meant.__cause__ = error
    return meant


def input_error(error: Exception, otherwise: HandlerError) -> HandlerError:
    """Return what an exception means to the caller that a codec or a converter raised for an operation's input."""
    if not is_payload_validation_error(error):
        return otherwise
    return HandlerError("Invalid operation input", type=_Kind.BAD_REQUEST, retryable_override=False)


def old_handler_error(failure: Failure) -> HandlerErrorMessage:
    """Return a failure of a handler in the protocol's own form."""
    info = failure.nexus_handler_failure_info
    told = failure.cause if failure.HasField("cause") else failure
    return HandlerErrorMessage(
        error_type=info.type, retry_behavior=info.retry_behavior, failure=_old_failure(told, failure.message)
    )


def old_operation_error(failure: Failure) -> UnsuccessfulOperationError:
    """Return what an operation has ended in, in the protocol's own form."""
    state = "canceled" if failure.HasField("canceled_failure_info") else "failed"
    return UnsuccessfulOperationError(operation_state=state, failure=_old_failure(failure, failure.message))


def _old_failure(failure: Failure, message: str) -> NexusFailure:
    details = Failure()
    details.CopyFrom(failure)
    details.ClearField("message")
    return NexusFailure(
        message=message,
        metadata={"type": Failure.DESCRIPTOR.full_name},
        details=MessageToJson(details, indent=None).encode(),
    )
