"""Functions that activity code calls, and the decorator that makes an activity.

They find the running activity through `contextvars`: code in threads of its own must carry the context along.
Nothing of a worker lives here: the worker sets the context that these functions act on.
"""

from perdure.activity._context import CompleteAsyncError as _CompleteAsyncError
from perdure.activity._context import Context as _Context
from perdure.activity._context import (
    cancellation_details,
    client,
    heartbeat,
    in_activity,
    info,
    is_cancelled,
    is_worker_shutdown,
    metric_meter,
    payload_converter,
    raise_complete_async,
    shield_thread_cancel_exception,
    wait_for_cancelled,
    wait_for_cancelled_sync,
    wait_for_worker_shutdown,
    wait_for_worker_shutdown_sync,
)
from perdure.activity._context import current_context as _current_context
from perdure.activity._definition import Definition as _Definition
from perdure.activity._definition import defn
from perdure.activity._info import ActivityCancellationDetails, Info
from perdure.activity._info import CancellationDetailsHolder as _ActivityCancellationDetailsHolder
from perdure.activity._logger import LoggerAdapter, logger

__all__ = [
    "ActivityCancellationDetails",
    "Info",
    "LoggerAdapter",
    "_ActivityCancellationDetailsHolder",
    "_CompleteAsyncError",
    "_Context",
    "_Definition",
    "_current_context",
    "cancellation_details",
    "client",
    "defn",
    "heartbeat",
    "in_activity",
    "info",
    "is_cancelled",
    "is_worker_shutdown",
    "logger",
    "metric_meter",
    "payload_converter",
    "raise_complete_async",
    "shield_thread_cancel_exception",
    "wait_for_cancelled",
    "wait_for_cancelled_sync",
    "wait_for_worker_shutdown",
    "wait_for_worker_shutdown_sync",
]
