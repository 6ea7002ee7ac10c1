"""The Nexus operations of one worker: tasks in from polls, handlers run, answers sent.

May live here: the life of a task. May not: what handlers can ask for (`perdure.nexus`), or what their errors mean.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import nexusrpc
from nexusrpc import handler as nexus_handler

from perdure.api.common.v1 import Payload
from perdure.api.failure.v1 import Failure
from perdure.api.nexus import v1 as nexus_api
from perdure.api.workflowservice.v1 import (
    PollNexusTaskQueueResponse,
    RespondNexusTaskCompletedRequest,
    RespondNexusTaskFailedRequest,
)
from perdure.client._links import served_operation
from perdure.common import _CompositeEvent
from perdure.converter import DataConverter, NexusSerializationContext
from perdure.exceptions import ApplicationError, CancelledError, FailureError
from perdure.nexus import Info
from perdure.nexus import logger as nexus_logger
from perdure.nexus._operation_context import CancelContext, StartContext, current_context
from perdure.service import RPCError
from perdure.worker._calls import CALL_TIMEOUT, call_until
from perdure.worker._interceptor import (
    ExecuteNexusOperationCancelInput,
    ExecuteNexusOperationStartInput,
    Interceptor,
    NexusOperationInboundInterceptor,
)
from perdure.worker._nexus_errors import handler_error, input_error, old_handler_error, old_operation_error
from perdure.worker._slots import NexusSlot, Permit, Slots

if TYPE_CHECKING:
    from perdure.worker._environment import Environment

logger = logging.getLogger("perdure.worker")

_TIMEOUT_HEADER: Final = "request-timeout"
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_UNITS_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_LONGEST_S: Final = 10 * 365 * 86_400.0
"""As good as no limit, and a time that the calendar has."""
_STILL_RUNNING_EVERY_S = 10.0
_REPORT_FOR_S: Final = 60.0
"""So long an answer to a request without a time-out is sent again to a server that cannot be reached."""


def request_timeout_s(text: str) -> float | None:
    """Return a duration such as `9.5s` or `1m30s` in seconds; None if it is none."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return min(sum(float(number) * _UNITS_S[unit] for number, unit in parts), _LONGEST_S)


class NexusWorker:
    """Serves the Nexus tasks that come to a worker.

    Args:
        environment: What the worker's parts share.
        services: Objects of classes with `@nexusrpc.handler.service_handler`.
        executor: Where `def` handlers run; None if there are none.
        slots: Of Nexus tasks.
        on_fatal: Called when the executor is broken.

    Raises:
        TypeError: A service is a class.
        RuntimeError: A service is none, or there twice, or has `def` handlers without an executor.
    """

    def __init__(
        self,
        environment: Environment,
        services: Sequence[Any],
        executor: Executor | None,
        slots: Slots,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._environment = environment
        self._handler = nexus_handler.Handler(
            services,
            _WithContext(executor) if executor is not None else None,
            middleware=[_Interceptors(environment.interceptors)],
        )
        self._slots = slots
        self._on_fatal = on_fatal
        self._running: dict[bytes, _Task] = {}
        self._shutdown = _CompositeEvent(threading.Event(), asyncio.Event())

    @property
    def slots(self) -> Slots:
        """The slots of Nexus tasks."""
        return self._slots

    def take(self, answer: PollNexusTaskQueueResponse, permit: Permit) -> None:
        """Serve a task in its slot, which is released when it is over."""
        request = answer.request
        task = _Task(answer, permit)
        self._slots.mark_used(permit, NexusSlot(task.variant.service, task.variant.operation))
        self._running[answer.task_token] = task
        loop = asyncio.get_running_loop()
        task.running = loop.create_task(self._serve(task))
        timeout_s = request_timeout_s(request.header.get(_TIMEOUT_HEADER, ""))
        if timeout_s is not None:
            task.answer_until_s = time.monotonic() + timeout_s
            task.deadline = datetime.now(UTC) + timedelta(seconds=timeout_s)
            task.timer = loop.call_later(timeout_s, task.cancel, "TIMED_OUT")

    def notify_shutdown(self) -> None:
        """Tell the handlers that run that the worker shuts down."""
        self._shutdown.set()

    async def drain(self, grace_s: float) -> None:
        """Wait until no handler runs; after the time of grace, cancel those that do.

        Args:
            grace_s: Seconds for which they may go on undisturbed.
        """
        if self._running and grace_s > 0:
            await asyncio.wait(self._tasks(), timeout=grace_s)
        self.cancel()
        began_s = time.monotonic()
        while self._running:
            await asyncio.wait(self._tasks(), timeout=_STILL_RUNNING_EVERY_S)
            # Of those that are answering, the server only has not been told yet.
            stuck = [task.variant for task in self._running.values() if not task.is_answering]
            if stuck:
                logger.warning(
                    "Shutdown waits for %d Nexus operations that were cancelled %.0f s ago and still run: %s. "
                    "Make their handlers end when they are cancelled: see ctx.task_cancellation",
                    *(len(stuck), time.monotonic() - began_s),
                    ", ".join(f"{named.service}.{named.operation}" for named in stuck[:10]),
                )

    def cancel(self) -> None:
        """Cancel all handlers: the worker's time is over."""
        for task in list(self._running.values()):
            task.cancel("WORKER_SHUTDOWN")

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task.running for task in self._running.values() if task.running is not None]

    async def _serve(self, task: _Task) -> None:
        """Run a handler and send its answer."""
        began_s = time.monotonic()
        try:
            call = await self._outcome(task, self._start if task.is_start else self._cancel)
            if call is not None:
                task.is_answering = True
                await self._send(call, task.answer_until_s)
        finally:
            self._measure(task, time.monotonic() - began_s)
            self._running.pop(task.token, None)
            if task.timer is not None:
                task.timer.cancel()
            task.permit.release()

    def _measure(self, task: _Task, seconds: float) -> None:
        self._slots.tally.failed += task.has_failed
        metrics = self._environment.metrics
        if metrics is not None:
            named = task.variant
            metrics.nexus_task_done(named.service, named.operation, seconds, failed=task.has_failed)

    async def _outcome(self, task: _Task, serve: Callable[[_Task], Any]) -> Callable[[], Any] | None:
        """Return the call that answers a task; None if the server is to give it to another worker."""
        service = self._environment.service
        common: dict[str, Any] = {
            "namespace": self._environment.namespace,
            "identity": self._environment.identity,
            "task_token": task.token,
        }
        try:
            response = await serve(task)
        except BaseException as error:  # whatever a handler raises is its answer
            if isinstance(error, asyncio.CancelledError):
                if task.cancellation.is_cancelled():
                    return None
                if _is_cancelled_from_outside():
                    raise
            task.has_failed = True
            nexus_logger.warning("Failed to execute Nexus operation method", exc_info=error)
            if isinstance(error, BrokenExecutor):
                self._on_fatal(error)
            failure = await _to_failure(handler_error(error), self._converter_for(task))
            failed = RespondNexusTaskFailedRequest(**common)
            if task.request.capabilities.temporal_failure_responses:
                failed.failure.CopyFrom(failure)
            else:
                failed.error.CopyFrom(old_handler_error(failure))
            return partial(service.respond_nexus_task_failed, failed, timeout=CALL_TIMEOUT)
        completed = RespondNexusTaskCompletedRequest(response=response, **common)
        return partial(service.respond_nexus_task_completed, completed, timeout=CALL_TIMEOUT)

    def _converter_for(self, task: _Task) -> DataConverter:
        """Return the data converter that knows which operation it converts for."""
        converter = self._environment.data_converter
        if not converter._takes_context:
            return converter
        variant = task.variant
        return converter.with_context(
            NexusSerializationContext(task.request.endpoint, variant.service, variant.operation)
        )

    async def _send(self, call: Callable[[], Any], until_s: float) -> None:
        try:
            await call_until(until_s, call, "Answering a Nexus task")
        except RPCError as error:
            logger.warning(
                "The answer of a Nexus task was not accepted (%s: %s)", error.status.name, error.message
            )

    async def _start(self, task: _Task) -> nexus_api.Response:
        request = task.request.start_operation
        context = nexus_handler.StartOperationContext(
            service=request.service,
            operation=request.operation,
            headers=dict(task.request.header),
            request_id=request.request_id,
            callback_url=request.callback or None,
            inbound_links=[nexusrpc.Link(url=link.url, type=link.type) for link in request.links],
            callback_headers=dict(request.callback_header),
            task_cancellation=task.cancellation,
            request_deadline=task.deadline,
        )
        served = StartContext(nexus_context=context, **self._shared(task))
        current_context.set(served)
        served_operation.set(served)
        converter = self._converter_for(task)
        given = nexusrpc.LazyValue(serializer=_Input(converter, request.payload), headers={}, stream=None)
        response = nexus_api.Response()
        started = response.start_operation
        try:
            result: object = await self._handler.start_operation(context, given)
            links = [nexus_api.Link(url=link.url, type=link.type) for link in context.outbound_links]
            if isinstance(result, nexus_handler.StartOperationResultAsync):
                started.async_success.operation_token = result.token
                started.async_success.links.extend(links)
            elif isinstance(result, nexus_handler.StartOperationResultSync):
                [payload] = await converter.encode([result.value])
                started.sync_success.payload.CopyFrom(payload)
                started.sync_success.links.extend(links)
            else:
                raise TypeError(
                    "Operation start method must return either nexusrpc.handler.StartOperationResultSync or "
                    "nexusrpc.handler.StartOperationResultAsync."
                )
        except nexusrpc.OperationError as error:
            failure = Failure()
            await converter.encode_failure(_ended_in(error), failure)
            if task.request.capabilities.temporal_failure_responses:
                started.failure.CopyFrom(failure)
            else:
                started.operation_error.CopyFrom(old_operation_error(failure))
        return response

    async def _cancel(self, task: _Task) -> nexus_api.Response:
        request = task.request.cancel_operation
        context = nexus_handler.CancelOperationContext(
            service=request.service,
            operation=request.operation,
            headers=dict(task.request.header),
            task_cancellation=task.cancellation,
            request_deadline=task.deadline,
        )
        current_context.set(CancelContext(nexus_context=context, **self._shared(task)))
        await self._handler.cancel_operation(context, request.operation_token or request.operation_id)
        return nexus_api.Response(cancel_operation=nexus_api.CancelOperationResponse())

    def _shared(self, task: _Task) -> dict[str, Any]:
        environment = self._environment
        info = Info(task.request.endpoint, environment.namespace, environment.task_queue)
        return {
            "client": environment.client,
            "info": lambda: info,
            "runtime_metric_meter": environment.metric_meter,
            "worker_shutdown_event": self._shutdown,
        }


def _ended_in(error: nexusrpc.OperationError) -> FailureError:
    """Return how the caller sees the end of an operation."""
    ended: FailureError
    if error.state is nexusrpc.OperationErrorState.CANCELED:
        ended = CancelledError(error.message)
    else:
        ended = ApplicationError(error.message, type="OperationError", non_retryable=True)
    ended.__cause__ = error.__cause__
    return ended


async def _to_failure(error: BaseException, converter: DataConverter) -> Failure:
    failure = Failure()
    try:
        await converter.encode_failure(error, failure)
    except Exception as conversion_error:  # the converter is the user's code
        # Without an answer the caller would only wait.
        nexus_logger.exception("Failed building Nexus failure, original error: %s", error)
        failure.Clear()
        failure.message = f"Failed building exception result: {conversion_error}"
        failure.nexus_handler_failure_info.type = nexusrpc.HandlerErrorType.INTERNAL.name
    return failure


def _is_cancelled_from_outside() -> bool:
    """Whether somebody cancels the task itself, as when the event loop ends, and the handler met with no other one."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Task:
    """A task that is served.

    Args:
        answer: As it was polled.
        permit: Its slot.
    """

    def __init__(self, answer: PollNexusTaskQueueResponse, permit: Permit) -> None:
        self.token = answer.task_token
        self.request = answer.request
        self.is_start = answer.request.HasField("start_operation")
        self.permit = permit
        self.cancellation = _Cancellation()
        self.running: asyncio.Task[None] | None = None
        self.deadline: datetime | None = None
        self.answer_until_s = time.monotonic() + _REPORT_FOR_S
        self.timer: asyncio.TimerHandle | None = None
        self.is_answering = False
        self.has_failed = False

    @property
    def variant(self) -> nexus_api.StartOperationRequest | nexus_api.CancelOperationRequest:
        """What is asked for."""
        return self.request.start_operation if self.is_start else self.request.cancel_operation

    def cancel(self, reason: str) -> None:
        """End the handler: nobody waits for it any more. An answer that is being sent gets there all the same."""
        self.cancellation.cancel(reason)
        if self.running is not None and not self.is_answering:
            self.running.cancel()


class _Cancellation(nexus_handler.OperationTaskCancellation):
    """Tells a handler, on whatever thread, that nobody waits for it."""

    def __init__(self) -> None:
        self._event = _CompositeEvent(threading.Event(), asyncio.Event())
        self._reason: str | None = None

    def is_cancelled(self) -> bool:
        """Whether it is."""
        return self._event.is_set()

    def cancellation_reason(self) -> str | None:
        """Why: TIMED_OUT or WORKER_SHUTDOWN; None if it is not."""
        return self._reason

    def wait_until_cancelled_sync(self, timeout: float | None = None) -> bool:
        """Wait in a thread, so many seconds at most; return whether it is."""
        self._event.wait_sync(timeout)
        return self._event.is_set()

    async def wait_until_cancelled(self) -> None:
        """Wait until it is."""
        await self._event.wait()

    def cancel(self, reason: str) -> None:
        """Note it; the first reason stays."""
        if not self._event.is_set():
            self._reason = reason
            self._event.set()


@dataclass
class _Input:
    """Converts the input of an operation once its type is known; see `nexusrpc.Serializer`."""

    converter: DataConverter
    payload: Payload

    async def serialize(self, value: Any) -> nexusrpc.Content:
        """Never called for a handler."""
        raise NotImplementedError

    async def deserialize(self, content: nexusrpc.Content, as_type: type | None = None) -> Any:
        """Return the input, whatever `content` says."""
        try:
            payload = await self.converter._transform_inbound_payload(self.payload)
        except Exception as error:  # a codec or a storage driver of the user's
            broken = nexusrpc.HandlerError(
                "Payload codec failed to decode Nexus operation input",
                type=nexusrpc.HandlerErrorType.INTERNAL,
            )
            raise input_error(error, broken) from error
        try:
            hints = [as_type] if as_type is not None else None
            return self.converter.payload_converter.from_payloads([payload], hints)[0]
        except Exception as error:  # a converter of the user's: the input is not what the operation takes
            unfit = nexusrpc.HandlerError(
                "Payload converter failed to decode Nexus operation input",
                type=nexusrpc.HandlerErrorType.BAD_REQUEST,
                retryable_override=False,
            )
            raise input_error(error, unfit) from error


class _Interceptors(nexus_handler.OperationHandlerMiddleware):
    """Puts the worker's interceptors around every handler."""

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._interceptors = interceptors

    def intercept(
        self,
        ctx: nexus_handler.OperationContext,
        next: nexus_handler.MiddlewareSafeOperationHandler,
    ) -> nexus_handler.MiddlewareSafeOperationHandler:
        """Return the handler with the interceptors around it, the first one outermost."""
        inbound: NexusOperationInboundInterceptor = _Innermost(next)
        for interceptor in reversed(self._interceptors):
            inbound = interceptor.intercept_nexus_operation(inbound)
        return _Intercepted(inbound)


class _Intercepted(nexus_handler.MiddlewareSafeOperationHandler):
    """A handler whose calls go through interceptors."""

    def __init__(self, inbound: NexusOperationInboundInterceptor) -> None:
        self._inbound = inbound

    async def start(
        self, ctx: nexus_handler.StartOperationContext, input: Any
    ) -> nexus_handler.StartOperationResultSync[Any] | nexus_handler.StartOperationResultAsync:
        """Start the operation."""
        result: Any = await self._inbound.execute_nexus_operation_start(
            ExecuteNexusOperationStartInput(ctx, input)
        )
        return result  # type: ignore[no-any-return]  # what it must be is checked by who asked for it

    async def cancel(self, ctx: nexus_handler.CancelOperationContext, token: str) -> None:
        """Cancel the operation."""
        await self._inbound.execute_nexus_operation_cancel(ExecuteNexusOperationCancelInput(ctx, token))


class _Innermost(NexusOperationInboundInterceptor):
    """The end of the chain: the handler itself."""

    def __init__(self, handler: nexus_handler.MiddlewareSafeOperationHandler) -> None:
        # There is no next one: the base class's own `__init__` is left out on purpose.
        self._handler = handler

    async def execute_nexus_operation_start(self, input: ExecuteNexusOperationStartInput) -> Any:
        return await self._handler.start(input.ctx, input.input)

    async def execute_nexus_operation_cancel(self, input: ExecuteNexusOperationCancelInput) -> None:
        await self._handler.cancel(input.ctx, input.token)


class _WithContext(Executor):
    """An executor whose threads see the context variables of who gave them the work."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function in a thread."""
        return self._executor.submit(contextvars.copy_context().run, fn, *args, **kwargs)
