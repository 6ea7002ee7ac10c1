"""Failures of the wire to exceptions and back, with their causes and stack traces."""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from logging import getLogger
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard, TypeVar

import google.protobuf.json_format

from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import NexusHandlerErrorRetryBehavior
from perdure.api.failure.v1 import Failure
from perdure.converter._payload_converter import PayloadConverter
from perdure.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
    CancelledError,
    ChildWorkflowError,
    FailureError,
    NexusOperationError,
    RetryState,
    ServerError,
    TerminatedError,
    TimeoutError,
    TimeoutType,
)

if TYPE_CHECKING:
    import nexusrpc

logger = getLogger("perdure.converter")

_FAILURE_MESSAGE_NAME = "temporal.api.failure.v1.Failure"
_EnumType = TypeVar("_EnumType")

_MAXIMUM_CAUSES = 40
"""Links of a chain of causes that are converted. Protobuf refuses messages nested a hundred deep."""

_in_conversion: ContextVar[frozenset[int]] = ContextVar("_in_conversion", default=frozenset())
"""The exceptions, by identity, of the chain that is being converted."""


class FailureConverter(ABC):
    """Converts between exceptions and failures.

    Of what a workflow raises only `FailureError` and its subclasses come here; others fail the workflow task.
    """

    default: ClassVar[FailureConverter]
    """The converter that is used unless another is given."""

    @abstractmethod
    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """Write an exception into a failure.

        Args:
            exception: What to convert; must not be changed.
            payload_converter: Converts the values that the exception carries.
            failure: Where to write.
        """
        raise NotImplementedError

    @abstractmethod
    def from_failure(self, failure: Failure, payload_converter: PayloadConverter) -> BaseException:
        """Turn a failure into an exception.

        Args:
            failure: What to convert; must not be changed.
            payload_converter: Converts the payloads that the failure carries.
        """
        raise NotImplementedError


class DefaultFailureConverter(FailureConverter):
    """Converts each kind of failure to the exception that stands for it, and back."""

    def __init__(self, *, encode_common_attributes: bool = False) -> None:
        """Create the converter.

        Args:
            encode_common_attributes: Put messages and stack traces into a payload, so that a codec can encrypt
                them.
        """
        super().__init__()
        self._encode_common_attributes = encode_common_attributes

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """See the base class."""
        outer = _in_conversion.get()
        if id(exception) in outer or len(outer) >= _MAXIMUM_CAUSES:
            # Either it is its own cause, or the chain is longer than protobuf can read.
            failure.message = _text(f"{message_of(exception)} (further causes are left out)")
            failure.application_failure_info.type = _text(type(exception).__name__)
            self._encode_attributes(failure, payload_converter)
            return
        token = _in_conversion.set(outer | {id(exception)})
        try:
            self._exception_to_failure(exception, payload_converter, failure)
        finally:
            _in_conversion.reset(token)

    def _exception_to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        if isinstance(exception, FailureError):
            self._error_to_failure(exception, payload_converter, failure)
        elif _is_nexus_handler_error(exception):
            self._nexus_handler_error_to_failure(exception, payload_converter, failure)
        else:
            error = ApplicationError(message_of(exception), type=type(exception).__name__)
            error.__traceback__ = exception.__traceback__
            error.__cause__ = exception.__cause__
            self._error_to_failure(error, payload_converter, failure)
        self._encode_attributes(failure, payload_converter)

    def _encode_attributes(self, failure: Failure, payload_converter: PayloadConverter) -> None:
        if self._encode_common_attributes:
            attributes = {"message": failure.message, "stack_trace": failure.stack_trace}
            failure.encoded_attributes.CopyFrom(payload_converter.to_payload(attributes))
            failure.message = "Encoded failure"
            failure.stack_trace = ""

    def _error_to_failure(
        self, error: FailureError, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        if error.failure:
            # It came from the wire and goes back as it was.
            failure.CopyFrom(error.failure)
            return
        failure.message = _text(error.message)
        if error.__traceback__:
            failure.stack_trace = _stack_trace(error)
        cause = error.__cause__
        if cause is None and not error.__suppress_context__:
            cause = error.__context__
        if cause is not None:
            self.to_failure(cause, payload_converter, failure.cause)
        for error_class, write in _WRITERS:
            if isinstance(error, error_class):
                write(error, payload_converter, failure)
                return

    def _nexus_handler_error_to_failure(
        self, error: nexusrpc.HandlerError, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        if error.original_failure:
            self._nexus_failure_to_temporal_failure(error.original_failure, error.retryable, failure)
            return
        failure.message = _text(error.message)
        if error.stack_trace:
            failure.stack_trace = _text(error.stack_trace)
        elif error.__traceback__:
            failure.stack_trace = _stack_trace(error)
        if error.__cause__:
            self.to_failure(error.__cause__, payload_converter, failure.cause)
        failure.nexus_handler_failure_info.type = error.type.name
        failure.nexus_handler_failure_info.retry_behavior = _RETRY_BEHAVIORS[error.retryable_override]

    def _temporal_failure_to_nexus_failure(self, failure: Failure) -> nexusrpc.Failure:
        """Return a failure as the Nexus protocol has it, which has fields of its own for two of ours."""
        import nexusrpc

        details = Failure()
        details.CopyFrom(failure)
        details.message = details.stack_trace = ""
        return nexusrpc.Failure(
            message=failure.message,
            stack_trace=failure.stack_trace,
            metadata={"type": _FAILURE_MESSAGE_NAME},
            details=google.protobuf.json_format.MessageToDict(details),
        )

    def _nexus_failure_to_temporal_failure(
        self, failure: nexusrpc.Failure, retryable: bool, temporal_failure: Failure
    ) -> None:
        if failure.metadata and failure.metadata.get("type") == _FAILURE_MESSAGE_NAME:
            google.protobuf.json_format.ParseDict(dict(failure.details or {}), temporal_failure)
        else:
            info = temporal_failure.application_failure_info
            info.type = "NexusFailure"
            info.non_retryable = not retryable
            without_message = dataclasses.asdict(dataclasses.replace(failure, message=""))
            info.details.payloads.append(
                Payload(
                    metadata={"encoding": b"json/plain"},
                    data=json.dumps(without_message, separators=(",", ":")).encode(),
                )
            )
        temporal_failure.message = failure.message
        temporal_failure.stack_trace = failure.stack_trace or ""

    def from_failure(self, failure: Failure, payload_converter: PayloadConverter) -> BaseException:
        """See the base class."""
        if failure.HasField("encoded_attributes"):
            failure = _with_decoded_attributes(failure, payload_converter)
        kind = failure.WhichOneof("failure_info")
        error: BaseException
        if kind == "nexus_handler_failure_info":
            error = self._nexus_handler_error(failure)
        else:
            error = _READERS.get(kind or "", _read_unknown)(failure, payload_converter)
        if isinstance(error, FailureError):
            error._failure = failure
        if failure.HasField("cause"):
            error.__cause__ = self.from_failure(failure.cause, payload_converter)
        return error

    def _nexus_handler_error(self, failure: Failure) -> BaseException:
        try:
            import nexusrpc
        except ImportError:
            # Without the library nobody can catch its error by its class.
            return FailureError(failure.message or "Nexus handler error")
        info = failure.nexus_handler_failure_info
        try:
            error_type = nexusrpc.HandlerErrorType[info.type]
        except KeyError:
            logger.warning("Nexus handler error of unknown type %r is taken for INTERNAL", info.type)
            error_type = nexusrpc.HandlerErrorType.INTERNAL
        return nexusrpc.HandlerError(
            failure.message or "Nexus handler error",
            type=error_type,
            retryable_override=_RETRYABLE_OVERRIDES.get(info.retry_behavior),
            stack_trace=failure.stack_trace or None,
            original_failure=self._temporal_failure_to_nexus_failure(failure),
        )


class DefaultFailureConverterWithEncodedAttributes(DefaultFailureConverter):
    """The default converter, with messages and stack traces in a payload that a codec can encrypt."""

    def __init__(self) -> None:
        """Create the converter."""
        super().__init__(encode_common_attributes=True)


_RETRY_BEHAVIORS = {
    None: NexusHandlerErrorRetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_UNSPECIFIED,
    True: NexusHandlerErrorRetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE,
    False: NexusHandlerErrorRetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE,
}
_RETRYABLE_OVERRIDES = {behavior: override for override, behavior in _RETRY_BEHAVIORS.items()}


def _is_nexus_handler_error(exception: BaseException) -> TypeGuard[nexusrpc.HandlerError]:
    # An error of a library can only exist once the library was imported.
    library = sys.modules.get("nexusrpc")
    return library is not None and isinstance(exception, library.HandlerError)


def _stack_trace(error: BaseException) -> str:
    return _text("\n".join(traceback.format_tb(error.__traceback__)))


def message_of(error: BaseException) -> str:
    """Return what an error says, or that it cannot: `__str__` is the user's code, and may raise."""
    try:
        return str(error)
    except Exception as unsaid:  # the user's code
        return f"<its __str__ raised {type(unsaid).__name__}>"


def _text(text: object) -> str:
    """Return what protobuf accepts.

    The name of a file may hold bytes that are no text, and an error may be given another error as its message.
    """
    return str(text).encode("utf-8", "backslashreplace").decode()


def _with_decoded_attributes(failure: Failure, payload_converter: PayloadConverter) -> Failure:
    """Return a copy with the message and stack trace from the encoded attributes, as far as they can be read."""
    decoded = Failure()
    decoded.CopyFrom(failure)
    try:
        attributes = payload_converter.from_payload(failure.encoded_attributes)
    except Exception:  # Whatever a converter raises: a failure that cannot be decoded is still a failure.
        logger.debug("Encoded attributes of a failure cannot be read", exc_info=True)
        return decoded
    if isinstance(attributes, dict):
        for name in ("message", "stack_trace"):
            if isinstance(attributes.get(name), str):
                setattr(decoded, name, attributes[name])
    return decoded


def _enum_or_none(enum_class: Callable[[int], _EnumType], number: int) -> _EnumType | None:
    """Return the member of an enum; None for 0 and for numbers of a newer protocol."""
    try:
        return enum_class(number) if number else None
    except ValueError:
        return None


def _write_application(error: ApplicationError, converter: PayloadConverter, failure: Failure) -> None:
    info = failure.application_failure_info
    info.SetInParent()
    info.type = _text(error.type or "")
    info.non_retryable = error.non_retryable
    if error.details:
        info.details.CopyFrom(converter.to_payloads_wrapper(error.details))
    if error.next_retry_delay:
        info.next_retry_delay.FromTimedelta(error.next_retry_delay)
    if error.category:
        info.category = int(error.category)  # type: ignore[assignment]


def _write_timeout(error: TimeoutError, converter: PayloadConverter, failure: Failure) -> None:
    info = failure.timeout_failure_info
    info.SetInParent()
    info.timeout_type = int(error.type or 0)  # type: ignore[assignment]
    if error.last_heartbeat_details:
        info.last_heartbeat_details.CopyFrom(converter.to_payloads_wrapper(error.last_heartbeat_details))


def _write_cancelled(error: CancelledError, converter: PayloadConverter, failure: Failure) -> None:
    failure.canceled_failure_info.SetInParent()
    if error.details:
        failure.canceled_failure_info.details.CopyFrom(converter.to_payloads_wrapper(error.details))


def _write_terminated(error: TerminatedError, converter: PayloadConverter, failure: Failure) -> None:
    failure.terminated_failure_info.SetInParent()


def _write_server(error: ServerError, converter: PayloadConverter, failure: Failure) -> None:
    failure.server_failure_info.SetInParent()
    failure.server_failure_info.non_retryable = error.non_retryable


def _write_activity(error: ActivityError, converter: PayloadConverter, failure: Failure) -> None:
    info = failure.activity_failure_info
    info.SetInParent()
    info.scheduled_event_id = error.scheduled_event_id
    info.started_event_id = error.started_event_id
    info.identity = error.identity
    info.activity_type.name = error.activity_type
    info.activity_id = error.activity_id
    info.retry_state = int(error.retry_state or 0)  # type: ignore[assignment]


def _write_child_workflow(error: ChildWorkflowError, converter: PayloadConverter, failure: Failure) -> None:
    info = failure.child_workflow_execution_failure_info
    info.SetInParent()
    info.namespace = error.namespace
    info.workflow_execution.workflow_id = error.workflow_id
    info.workflow_execution.run_id = error.run_id
    info.workflow_type.name = error.workflow_type
    info.initiated_event_id = error.initiated_event_id
    info.started_event_id = error.started_event_id
    info.retry_state = int(error.retry_state or 0)  # type: ignore[assignment]


def _write_nexus_operation(error: NexusOperationError, converter: PayloadConverter, failure: Failure) -> None:
    info = failure.nexus_operation_execution_failure_info
    info.SetInParent()
    info.scheduled_event_id = error.scheduled_event_id
    info.endpoint = error.endpoint
    info.service = error.service
    info.operation = error.operation
    info.operation_token = error.operation_token


_WRITERS: tuple[tuple[type[FailureError], Callable[[Any, PayloadConverter, Failure], None]], ...] = (
    (ApplicationError, _write_application),
    (TimeoutError, _write_timeout),
    (CancelledError, _write_cancelled),
    (TerminatedError, _write_terminated),
    (ServerError, _write_server),
    (ActivityError, _write_activity),
    (ChildWorkflowError, _write_child_workflow),
    (NexusOperationError, _write_nexus_operation),
)


def _read_application(failure: Failure, converter: PayloadConverter) -> FailureError:
    info = failure.application_failure_info
    return ApplicationError(
        failure.message or "Application error",
        *converter.from_payloads_wrapper(info.details),
        type=info.type or None,
        non_retryable=info.non_retryable,
        next_retry_delay=info.next_retry_delay.ToTimedelta() if info.HasField("next_retry_delay") else None,
        category=_enum_or_none(ApplicationErrorCategory, info.category)
        or ApplicationErrorCategory.UNSPECIFIED,
    )


def _read_timeout(failure: Failure, converter: PayloadConverter) -> FailureError:
    info = failure.timeout_failure_info
    return TimeoutError(
        failure.message or "Timeout",
        type=_enum_or_none(TimeoutType, info.timeout_type),
        last_heartbeat_details=converter.from_payloads_wrapper(info.last_heartbeat_details),
    )


def _read_cancelled(failure: Failure, converter: PayloadConverter) -> FailureError:
    details = converter.from_payloads_wrapper(failure.canceled_failure_info.details)
    return CancelledError(failure.message or "Cancelled", *details)


def _read_terminated(failure: Failure, converter: PayloadConverter) -> FailureError:
    return TerminatedError(failure.message or "Terminated")


def _read_server(failure: Failure, converter: PayloadConverter) -> FailureError:
    return ServerError(
        failure.message or "Server error", non_retryable=failure.server_failure_info.non_retryable
    )


def _read_activity(failure: Failure, converter: PayloadConverter) -> FailureError:
    info = failure.activity_failure_info
    return ActivityError(
        failure.message or "Activity error",
        scheduled_event_id=info.scheduled_event_id,
        started_event_id=info.started_event_id,
        identity=info.identity,
        activity_type=info.activity_type.name,
        activity_id=info.activity_id,
        retry_state=_enum_or_none(RetryState, info.retry_state),
    )


def _read_child_workflow(failure: Failure, converter: PayloadConverter) -> FailureError:
    info = failure.child_workflow_execution_failure_info
    return ChildWorkflowError(
        failure.message or "Child workflow error",
        namespace=info.namespace,
        workflow_id=info.workflow_execution.workflow_id,
        run_id=info.workflow_execution.run_id,
        workflow_type=info.workflow_type.name,
        initiated_event_id=info.initiated_event_id,
        started_event_id=info.started_event_id,
        retry_state=_enum_or_none(RetryState, info.retry_state),
    )


def _read_nexus_operation(failure: Failure, converter: PayloadConverter) -> FailureError:
    info = failure.nexus_operation_execution_failure_info
    return NexusOperationError(
        failure.message or "Nexus operation error",
        scheduled_event_id=info.scheduled_event_id,
        endpoint=info.endpoint,
        service=info.service,
        operation=info.operation,
        operation_token=info.operation_token,
    )


def _read_unknown(failure: Failure, converter: PayloadConverter) -> FailureError:
    return FailureError(failure.message or "Failure error")


_READERS: dict[str, Callable[[Failure, PayloadConverter], FailureError]] = {
    "application_failure_info": _read_application,
    "timeout_failure_info": _read_timeout,
    "canceled_failure_info": _read_cancelled,
    "terminated_failure_info": _read_terminated,
    "server_failure_info": _read_server,
    "activity_failure_info": _read_activity,
    "child_workflow_execution_failure_info": _read_child_workflow,
    "nexus_operation_execution_failure_info": _read_nexus_operation,
}
