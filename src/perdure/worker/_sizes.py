"""Answers that the server would refuse for their size: found here, so that the task fails with a reason at once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from perdure.api.failure.v1 import Failure
from perdure.api.namespace.v1 import NamespaceInfo
from perdure.converter._payload_limits import LargeField, PayloadSizeLimits, large_fields
from perdure.runtime._runtime import log
from perdure.service import RPCError

if TYPE_CHECKING:
    from perdure.worker._environment import Environment


def limits_of(limits: NamespaceInfo.Limits) -> PayloadSizeLimits:
    """Return what a namespace accepts; 0 where the server does not say."""
    return PayloadSizeLimits(int(limits.blob_size_limit_error), int(limits.memo_size_limit_error))


def find_too_large(environment: Environment, request: Message) -> LargeField | None:
    """Return the first field of a request that the server would refuse, after saying so in the log."""
    if environment.payload_limits is None:
        return None
    found = large_fields(request, environment.payload_limits)
    if not found:
        return None
    large = found[0]
    log(
        environment.client.service_client.config.runtime,
        logging.ERROR,
        "perdure.worker",
        # The code in brackets is that of the official SDKs: people look it up and tools match it.
        f"[TMPRL1103] Attempted to upload {large.kind} with size that exceeded the error limit.",
        {"size": large.size_bytes, "limit": large.limit_bytes, "field": large.path},
    )
    return large


def too_large_failure(large: LargeField) -> Failure:
    """Return the failure that says which field is too large, and what to do."""
    failure = Failure(
        message=f"[TMPRL1103] Attempted to upload {large.kind} with size that exceeded the error limit: {large.path} "
        f"has {large.size_bytes} bytes, and the server accepts {large.limit_bytes}. Send less, or a reference to it; "
        "a data converter with external_storage does that by itself"
    )
    failure.application_failure_info.type = "PayloadsTooLarge"
    failure.application_failure_info.non_retryable = True
    return failure


def unsendable_failure(what: str, error: RPCError) -> Failure:
    """Return the failure that stands for an answer which makes a larger message than the server takes.

    Args:
        what: The answer, such as "The activity's result".
        error: The server's.
    """
    failure = Failure(message=f"{what} is too large to send: {error.message}")
    failure.application_failure_info.type = "GrpcMessageTooLarge"
    return failure
