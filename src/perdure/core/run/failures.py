"""Failures that the server itself makes, and the part that it keeps of a failure that is too large."""

from __future__ import annotations

from perdure.api.failure.v1 import Failure

TOO_LARGE = "Failure exceeds size limit."
_DEPTH = 20
_FIELD_BYTES = 4
"""What a kept field costs beside its text, at least."""


def server_failure(message: str, *, non_retryable: bool = False) -> Failure:
    """A failure that no worker reported."""
    failure = Failure(message=message)
    failure.server_failure_info.non_retryable = non_retryable
    if not non_retryable:
        failure.server_failure_info.SetInParent()
    return failure


def oversized(failure: Failure, kept_bytes: int, *, non_retryable: bool = False) -> Failure:
    """Stands for a failure that is too large: says so, and has the part of it that fits as its cause."""
    outer = server_failure(TOO_LARGE, non_retryable=non_retryable)
    outer.cause.CopyFrom(_cut(failure, kept_bytes, _DEPTH))
    return outer


def truncated_failure(failure: Failure, limit_bytes: int) -> Failure:
    """The failure as it is kept between attempts: whole if small, else in part."""
    return failure if failure.ByteSize() <= limit_bytes else oversized(failure, limit_bytes)


def _cut(failure: Failure, room: int, depth: int) -> Failure:
    """Type, source, message, stack trace and causes, in this order, as far as `room` bytes go; details never."""
    kept = Failure()
    if failure.HasField("application_failure_info"):
        info = kept.application_failure_info
        info.type = _head(failure.application_failure_info.type, room)
        info.non_retryable = failure.application_failure_info.non_retryable
        info.SetInParent()
        room -= _cost(info.type) + 2 * _FIELD_BYTES
    elif failure.HasField("server_failure_info"):
        kept.server_failure_info.non_retryable = failure.server_failure_info.non_retryable
        kept.server_failure_info.SetInParent()
        room -= _FIELD_BYTES
    kept.source = _head(failure.source, room)
    room -= _cost(kept.source)
    kept.message = _head(failure.message, room)
    room -= _cost(kept.message)
    kept.stack_trace = _head(failure.stack_trace, room)
    room -= _cost(kept.stack_trace)
    if failure.HasField("cause") and room > _FIELD_BYTES and depth > 0:
        kept.cause.CopyFrom(_cut(failure.cause, room - _FIELD_BYTES, depth - 1))
    return kept


def _head(text: str, room: int) -> str:
    return text.encode()[: max(room, 0)].decode(errors="ignore")


def _cost(text: str) -> int:
    return len(text.encode()) + _FIELD_BYTES if text else 0
