"""`ActivityEnvironment`: runs an activity function as a worker would, without worker or server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from perdure.activity._context import Context
from perdure.activity._definition import Definition, is_async_callable
from perdure.activity._info import ActivityCancellationDetails, CancellationDetailsHolder, Info
from perdure.common import MetricMeter, Priority, _CompositeEvent
from perdure.converter import DataConverter
from perdure.exceptions import CancelledError
from perdure.worker._thread_cancel import ThreadExceptionRaiser

if TYPE_CHECKING:
    from perdure.client import Client

Params = ParamSpec("Params")
Return = TypeVar("Return")

_EPOCH = datetime.fromtimestamp(0, UTC)
_REQUESTED = ActivityCancellationDetails(cancel_requested=True)


def _ignore(*details: Any) -> None:
    pass


class ActivityEnvironment:
    """Runs activity code, which finds there what a worker would give it.

    Attributes:
        info: What `perdure.activity.info` returns; change it with `dataclasses.replace`.
        on_heartbeat: Called with the details of each heartbeat.
        payload_converter: The converter that activity code finds; of runs that begin after it was set.
        metric_meter: The meter that activity code finds; of runs that begin after it was set. By default it records
            nothing.

    Args:
        client: What `perdure.activity.client` returns in async activities.
    """

    def __init__(self, client: Client | None = None) -> None:
        self.info = ActivityEnvironment.default_info()
        self.on_heartbeat: Callable[..., None] = _ignore
        self.payload_converter = DataConverter.default.payload_converter
        self.metric_meter = MetricMeter.noop
        self._client = client
        self._is_cancelled = False
        self._is_shut_down = False
        self._running: set[_Run] = set()
        self._details = CancellationDetailsHolder()

    @staticmethod
    def default_info() -> Info:
        """Return a fresh info with values for tests."""
        return Info(
            activity_id="test",
            activity_type="unknown",
            attempt=1,
            current_attempt_scheduled_time=_EPOCH,
            heartbeat_details=[],
            heartbeat_timeout=None,
            is_local=False,
            namespace="default",
            schedule_to_close_timeout=timedelta(seconds=1),
            scheduled_time=_EPOCH,
            start_to_close_timeout=timedelta(seconds=1),
            started_time=_EPOCH,
            task_queue="test",
            task_token=b"test",
            workflow_id="test",
            workflow_namespace="default",
            workflow_run_id="test-run",
            workflow_type="test",
            priority=Priority.default,
            retry_policy=None,
            activity_run_id=None,
        )

    def run(self, fn: Callable[Params, Return], *args: Params.args, **kwargs: Params.kwargs) -> Return:
        """Run a function as an activity, or any function with an activity's context around it.

        Args:
            fn: The function; if it is `async def`, await what this returns.
            *args: Its arguments.
            **kwargs: Its arguments.

        Returns:
            What it returns.
        """
        result: Return = _Run(self, fn).run(*args, **kwargs)
        return result

    def cancel(self, cancellation_details: ActivityCancellationDetails = _REQUESTED) -> None:
        """Cancel what runs, and what is run from now on. Only the first call has an effect.

        Args:
            cancellation_details: What activity code finds as `perdure.activity.cancellation_details`.
        """
        if self._is_cancelled:
            return
        self._is_cancelled = True
        self._details.details = cancellation_details
        for run in list(self._running):
            run.cancel()

    def worker_shutdown(self) -> None:
        """Tell what runs, and what is run from now on, that the worker shuts down. Only the first call counts."""
        if self._is_shut_down:
            return
        self._is_shut_down = True
        for run in list(self._running):
            run.shut_down()


class _Run:
    """One function that runs as an activity."""

    def __init__(self, env: ActivityEnvironment, fn: Callable[..., Any]) -> None:
        self._env = env
        self._fn = fn
        self._is_async = is_async_callable(fn)
        self._raiser: ThreadExceptionRaiser | None = None
        if not self._is_async:
            definition = Definition.from_callable(fn)
            if definition is None or not definition.no_thread_cancel_exception:
                self._raiser = ThreadExceptionRaiser()
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.context = Context(
            info=lambda: env.info,
            heartbeat=lambda *details: env.on_heartbeat(*details),
            cancelled_event=self._event(),
            worker_shutdown_event=self._event(),
            shield_thread_cancel_exception=self._raiser.shielded if self._raiser is not None else None,
            payload_converter_class_or_instance=env.payload_converter,
            runtime_metric_meter=env.metric_meter,
            client=env._client if self._is_async else None,
            cancellation_details=env._details,
        )

    def _event(self) -> _CompositeEvent:
        return _CompositeEvent(
            thread_event=threading.Event(), async_event=asyncio.Event() if self._is_async else None
        )

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; an async function is run by awaiting what this returns."""
        if self._is_async:
            return self._run_async(*args, **kwargs)
        with ExitStack() as around:
            around.enter_context(self._in_context())
            if self._raiser is not None:
                around.enter_context(self._raiser.active_thread())
            return self._fn(*args, **kwargs)

    async def _run_async(self, *args: Any, **kwargs: Any) -> Any:
        self._loop = asyncio.get_running_loop()
        with self._in_context():
            task = self._task = asyncio.ensure_future(self._fn(*args, **kwargs))
            if self._env._is_cancelled:
                task.cancel()
            return await task

    @contextmanager
    def _in_context(self) -> Iterator[None]:
        if self._env._is_cancelled:
            self.context.cancelled_event.set()
        if self._env._is_shut_down:
            self.context.worker_shutdown_event.set()
        self._env._running.add(self)
        token = Context.set(self.context)
        try:
            yield
        finally:
            Context.reset(token)
            self._env._running.discard(self)

    def cancel(self) -> None:
        """Tell it in every way that it may be listening for, from whatever thread."""
        self._tell(self._cancel)

    def _cancel(self) -> None:
        self.context.cancelled_event.set()
        if self._raiser is not None:
            self._raiser.raise_in_thread(CancelledError)
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def shut_down(self) -> None:
        """Tell it, from whatever thread, that the worker shuts down."""
        self._tell(self.context.worker_shutdown_event.set)

    def _tell(self, message: Callable[[], object]) -> None:
        # What runs on a loop is told there: the loop may sleep until it is woken, and its objects are its own.
        if self._loop is None or asyncio._get_running_loop() is self._loop:
            message()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(message)
