"""Failures of Nexus and of Temporal, and how each is written as the other.

A failure of Temporal travels inside one of Nexus as JSON that names its type; a failure of Nexus that nobody here knows
becomes an application failure that holds it.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from google.protobuf import json_format

from perdure.api.enums.v1 import NexusHandlerErrorRetryBehavior
from perdure.api.failure.v1 import Failure
from perdure.api.nexus.v1 import Failure as NexusFailure
from perdure.api.nexus.v1 import HandlerError

RETRYABLE = NexusHandlerErrorRetryBehavior.Value("NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE")
NOT_RETRYABLE = NexusHandlerErrorRetryBehavior.Value("NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE")
FINAL_TYPES = frozenset(
    ("BAD_REQUEST", "UNAUTHENTICATED", "UNAUTHORIZED", "NOT_FOUND", "CONFLICT", "NOT_IMPLEMENTED")
)
"""Types of handler errors that trying again does not help, unless the handler says otherwise."""
_FAILURE_TYPE = Failure.DESCRIPTOR.full_name
_HANDLER_ERROR = "nexus.HandlerError"
_OPERATION_ERROR = "nexus.OperationError"
MAX_DEPTH = 50
"""Causes of causes that are looked at; what is deeper is cut off."""


def handler_failure(kind: str, message: str, behavior: int = 0) -> Failure:
    """The failure of a request to a handler, of one of the types that Nexus defines."""
    failure = Failure(message=message)
    failure.nexus_handler_failure_info.type = kind
    failure.nexus_handler_failure_info.retry_behavior = behavior  # type: ignore[assignment]  # an enum number
    return failure


def may_retry(failure: Failure) -> bool:
    """Whether a request that failed like this is to be tried again. `failure` must be a handler's."""
    info = failure.nexus_handler_failure_info
    if info.retry_behavior:
        return info.retry_behavior == RETRYABLE
    return info.type not in FINAL_TYPES


def of_handler(failure: Failure) -> Failure:
    """A handler's own failure with what travels of it: a source, for example, does not."""
    made = handler_failure(
        failure.nexus_handler_failure_info.type,
        failure.message,
        failure.nexus_handler_failure_info.retry_behavior,
    )
    made.stack_trace = failure.stack_trace
    for name in ("cause", "encoded_attributes"):
        if failure.HasField(name):
            getattr(made, name).CopyFrom(getattr(failure, name))
    return made


def of_handler_error(error: HandlerError) -> Failure:
    """The failure that an error of a handler means, in the older way to say it."""
    failure = handler_failure(error.error_type, "", error.retry_behavior)
    failure.cause.CopyFrom(to_temporal(error.failure))
    return failure


def to_temporal(failure: NexusFailure, depth: int = 0) -> Failure:
    """The failure of Temporal that one of Nexus means or holds."""
    kind = failure.metadata.get("type", "")
    made: Failure | None = None
    if kind == _FAILURE_TYPE:
        made = _embedded(failure)
    elif kind in (_HANDLER_ERROR, _OPERATION_ERROR):
        made = _known_error(kind, failure)
    if made is None:
        made = Failure()
        if failure.metadata or failure.details:
            _hold(made, failure)
    made.message, made.stack_trace = failure.message, failure.stack_trace
    if failure.HasField("cause") and depth < MAX_DEPTH:
        made.cause.CopyFrom(to_temporal(failure.cause, depth + 1))
    return made


def _embedded(failure: NexusFailure) -> Failure | None:
    try:
        return json_format.Parse(failure.details or b"{}", Failure(), ignore_unknown_fields=True)
    except (
        json_format.ParseError,
        ValueError,
        RecursionError,
    ):  # bytes that are no text, text that is no JSON
        return None


def _known_error(kind: str, failure: NexusFailure) -> Failure | None:
    try:
        details = json.loads(failure.details or b"{}")
    except (ValueError, RecursionError):
        return None
    if not isinstance(details, dict):
        return None
    made = Failure()
    if kind == _OPERATION_ERROR:
        if details.get("state") == "canceled":
            made.canceled_failure_info.SetInParent()
        else:
            made.application_failure_info.type = "OperationError"
            made.application_failure_info.non_retryable = True
        return made
    override = details.get("retryableOverride")
    behavior = 0 if override is None else RETRYABLE if override else NOT_RETRYABLE
    made = handler_failure(str(details.get("type", "")), "", behavior)
    attributes = details.get("encodedAttributes")
    if attributes:
        try:
            text = urlsafe_b64decode(str(attributes) + "=" * (-len(str(attributes)) % 4))
            json_format.Parse(text, made.encoded_attributes)
        except (ValueError, RecursionError, json_format.ParseError):
            return None
    return made


def _hold(target: Failure, failure: NexusFailure) -> None:
    """Keeps a failure that is of no known type as the details of an application failure."""
    target.application_failure_info.type = "NexusFailure"
    payload = target.application_failure_info.details.payloads.add()
    payload.metadata["encoding"] = b"json/plain"
    held = document(failure)
    held.pop("message", None)
    held.pop("stackTrace", None)
    payload.data = json.dumps(held, separators=(",", ":"), ensure_ascii=False).encode()


# --- as JSON documents, the bodies of answers by HTTP


def document(failure: NexusFailure, depth: int = 0) -> dict[str, Any]:
    """A failure of Nexus as the JSON document of its protocol."""
    made: dict[str, Any] = {"message": failure.message} if failure.message else {}
    if failure.stack_trace:
        made["stackTrace"] = failure.stack_trace
    if failure.metadata:
        made["metadata"] = dict(sorted(failure.metadata.items()))
    if failure.details:
        try:
            made["details"] = json.loads(failure.details)
        except (ValueError, RecursionError):
            made["details"] = failure.details.decode("utf-8", "replace")
    if failure.HasField("cause") and depth < MAX_DEPTH:
        made["cause"] = document(failure.cause, depth + 1)
    return made


def encoded(failure: NexusFailure) -> bytes:
    """The document of a failure, as it travels."""
    return json.dumps(document(failure), separators=(",", ":"), ensure_ascii=False).encode()


def of_document(data: object, depth: int = 0) -> NexusFailure:
    """The failure of Nexus that a JSON document says.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(data, dict):
        raise ValueError("a failure is an object")
    made = NexusFailure(message=_text(data, "message"), stack_trace=_text(data, "stackTrace"))
    metadata = data.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("a failure's metadata is texts by name")
    made.metadata.update(metadata)
    if data.get("details") is not None:
        made.details = json.dumps(data["details"], separators=(",", ":"), ensure_ascii=False).encode()
    if data.get("cause") is not None:
        if depth >= MAX_DEPTH:
            raise ValueError("a failure has too many causes")
        made.cause.CopyFrom(of_document(data["cause"], depth + 1))
    return made


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name) or ""
    if not isinstance(value, str):
        raise ValueError(f"a failure's {name} is a text")
    return value


def from_temporal(failure: Failure, depth: int = 0) -> NexusFailure:
    """A failure of Temporal as one of Nexus."""
    made = NexusFailure(message=failure.message, stack_trace=failure.stack_trace)
    if failure.HasField("nexus_handler_failure_info"):
        info = failure.nexus_handler_failure_info
        details: dict[str, Any] = {"type": info.type} if info.type else {}
        if info.retry_behavior:
            details["retryableOverride"] = info.retry_behavior == RETRYABLE
        if failure.HasField("encoded_attributes"):
            text = json_format.MessageToJson(failure.encoded_attributes, indent=None)
            details["encodedAttributes"] = urlsafe_b64encode(text.encode()).decode().rstrip("=")
        made.metadata["type"] = _HANDLER_ERROR
        made.details = json.dumps(details, separators=(",", ":")).encode()
    else:
        rest = Failure()
        rest.CopyFrom(failure)
        for name in ("message", "stack_trace", "cause"):
            rest.ClearField(name)
        made.metadata["type"] = _FAILURE_TYPE
        made.details = json_format.MessageToJson(rest, indent=None).encode()
    if failure.HasField("cause") and depth < MAX_DEPTH:
        made.cause.CopyFrom(from_temporal(failure.cause, depth + 1))
    return made
