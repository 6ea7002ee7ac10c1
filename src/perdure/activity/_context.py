"""The running activity's context and the functions that activity code calls on it.

Nothing here talks to a server: the worker (or a test environment) puts callables into the context.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.activity._info import ActivityCancellationDetails, CancellationDetailsHolder, Info

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.common import MetricMeter, _CompositeEvent
    from perdure.converter import PayloadConverter


class CompleteAsyncError(BaseException):
    """Raised by `raise_complete_async`; a BaseException, so that no `except Exception` swallows it."""


@dataclass
class Context:
    """What the functions of `perdure.activity` act on.

    Attributes:
        info: Returns the activity's info; interceptors may wrap it.
        heartbeat: Sends a heartbeat; None until the interceptors are set up.
        cancelled_event: Set when the activity is cancelled.
        worker_shutdown_event: Set when the worker begins to shut down.
        shield_thread_cancel_exception: Delays exceptions thrown into the thread; None where none are thrown.
        payload_converter_class_or_instance: A class where the activity runs in another process.
        runtime_metric_meter: None where metrics cannot be recorded.
        client: Given to async activities only.
        cancellation_details: Holder of why it is cancelled.
    """

    info: Callable[[], Info]
    heartbeat: Callable[..., None] | None
    cancelled_event: _CompositeEvent
    worker_shutdown_event: _CompositeEvent
    shield_thread_cancel_exception: Callable[[], AbstractContextManager[None]] | None
    payload_converter_class_or_instance: type[PayloadConverter] | PayloadConverter
    runtime_metric_meter: MetricMeter | None
    client: Client | None
    cancellation_details: CancellationDetailsHolder
    _logger_details: Mapping[str, Any] | None = None
    _payload_converter: PayloadConverter | None = None
    _metric_meter: MetricMeter | None = None

    @staticmethod
    def current() -> Context:
        """Return the running activity's context.

        Raises:
            RuntimeError: No activity is running here.
        """
        context = current_context.get(None)
        if context is None:
            raise RuntimeError("Not in activity context")
        return context

    @staticmethod
    def set(context: Context) -> contextvars.Token[Context]:
        """Make this the current context."""
        return current_context.set(context)

    @staticmethod
    def reset(token: contextvars.Token[Context]) -> None:
        """Undo `set`."""
        current_context.reset(token)

    @property
    def logger_details(self) -> Mapping[str, Any]:
        """What the logger appends to each message."""
        if self._logger_details is None:
            self._logger_details = self.info()._logger_details()
        return self._logger_details

    @property
    def payload_converter(self) -> PayloadConverter:
        """The payload converter, made on first use from its class."""
        if self._payload_converter is None:
            given = self.payload_converter_class_or_instance
            self._payload_converter = given() if isinstance(given, type) else given
        return self._payload_converter

    @property
    def metric_meter(self) -> MetricMeter:
        """A meter whose attributes name the activity.

        Raises:
            RuntimeError: The activity runs in another process.
        """
        if self.runtime_metric_meter is None:
            raise RuntimeError(
                "Metrics are not available in a `def` activity that runs in another process; "
                "use an async activity or a ThreadPoolExecutor"
            )
        if self._metric_meter is None:
            info = self.info()
            self._metric_meter = self.runtime_metric_meter.with_additional_attributes(
                {
                    "namespace": info.namespace,
                    "task_queue": info.task_queue,
                    "activity_type": info.activity_type,
                }
            )
        return self._metric_meter


current_context: contextvars.ContextVar[Context] = contextvars.ContextVar("perdure_activity")


def client() -> Client:
    """Return the worker's client, for use in an async activity.

    In a test, give the client to `ActivityEnvironment`.

    Raises:
        RuntimeError: There is no client: not an async activity, or a test environment without one.
    """
    given = Context.current().client
    if given is None:
        raise RuntimeError(
            "No client available. The client is only available in `async def` activities; not in `def` "
            "activities. In tests you can pass a client when creating ActivityEnvironment."
        )
    return given


def in_activity() -> bool:
    """Return whether the calling code runs inside an activity."""
    return current_context.get(None) is not None


def info() -> Info:
    """Return the running activity's info.

    Raises:
        RuntimeError: Not in an activity.
    """
    return Context.current().info()


def cancellation_details() -> ActivityCancellationDetails | None:
    """Return why the running activity is being cancelled; None while it is not.

    Raises:
        RuntimeError: Not in an activity.
    """
    return Context.current().cancellation_details.details


def heartbeat(*details: Any) -> None:
    """Tell the server that the running activity is alive, and learn whether it was cancelled.

    May be called as often as is convenient: the worker sends at most one in 80 % of the heartbeat timeout.

    Args:
        *details: What the next attempt finds in `Info.heartbeat_details` if this one fails.

    Raises:
        RuntimeError: Not in an activity, or before its interceptors are set up.
    """
    send = Context.current().heartbeat
    if send is None:
        raise RuntimeError("Can only execute heartbeat after interceptor init")
    send(*details)


def is_cancelled() -> bool:
    """Return whether the running activity was ever asked to cancel.

    Raises:
        RuntimeError: Not in an activity.
    """
    return Context.current().cancelled_event.is_set()


@contextmanager
def shield_thread_cancel_exception() -> Iterator[None]:
    """Delay the exception that cancels a threaded activity until the end of the `with` block.

    If one is pending at the end of the outermost block, it is thrown there, even if the block itself raises. In
    async activities and in other processes the block runs as it is.

    Raises:
        perdure.exceptions.CancelledError: The activity was cancelled within the block.
        RuntimeError: Not in an activity.
    """
    shield = Context.current().shield_thread_cancel_exception
    if shield is None:
        yield None
    else:
        with shield():
            yield None


async def wait_for_cancelled() -> None:
    """Wait until the running async activity is asked to cancel.

    Raises:
        RuntimeError: Not in an async activity.
    """
    await Context.current().cancelled_event.wait()


def wait_for_cancelled_sync(timeout: timedelta | float | None = None) -> None:
    """Block until the running activity is asked to cancel.

    Args:
        timeout: Longest wait, in seconds if a number.

    Raises:
        RuntimeError: Not in an activity.
    """
    Context.current().cancelled_event.wait_sync(_seconds(timeout))


def is_worker_shutdown() -> bool:
    """Return whether the worker began to shut down.

    Raises:
        RuntimeError: Not in an activity.
    """
    return Context.current().worker_shutdown_event.is_set()


async def wait_for_worker_shutdown() -> None:
    """Wait until the worker begins to shut down.

    Raises:
        RuntimeError: Not in an async activity.
    """
    await Context.current().worker_shutdown_event.wait()


def wait_for_worker_shutdown_sync(timeout: timedelta | float | None = None) -> None:
    """Block until the worker begins to shut down.

    Args:
        timeout: Longest wait, in seconds if a number.

    Raises:
        RuntimeError: Not in an activity.
    """
    Context.current().worker_shutdown_event.wait_sync(_seconds(timeout))


def _seconds(timeout: timedelta | float | None) -> float | None:
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout


def raise_complete_async() -> NoReturn:
    """End this activity function without ending the activity: something else will finish it through a client."""
    raise CompleteAsyncError()


def payload_converter() -> PayloadConverter:
    """Return the payload converter of the running activity, with its serialization context.

    Raises:
        RuntimeError: Not in an activity.
    """
    return Context.current().payload_converter


def metric_meter() -> MetricMeter:
    """Return a metric meter whose attributes name the running activity.

    Raises:
        RuntimeError: Not in an activity, or in one that runs in another process.
    """
    return Context.current().metric_meter
