"""Running one attempt of an activity: arguments in, the user's function called through interceptors, an outcome out.

Where the attempt came from and where its outcome goes (the server, or a workflow) is not known here.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.activity import (
    Info,
    _ActivityCancellationDetailsHolder,
    _CompleteAsyncError,
    _Context,
)
from perdure.api.common.v1 import Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.common import RawValue, _CompositeEvent
from perdure.exceptions import ApplicationError, CancelledError
from perdure.worker import _logs
from perdure.worker._activity_attempt import Attempt, Outcome
from perdure.worker._activity_registry import ActivityRegistry, Registered
from perdure.worker._heartbeats import Heartbeater
from perdure.worker._interceptor import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
)
from perdure.worker._payload_edge import converter_for_activity
from perdure.worker._process_calls import call_in_process
from perdure.worker._process_events import ProcessEvents
from perdure.worker._shared_state import SharedHeartbeatSender, SharedStateManager
from perdure.worker._thread_cancel import ThreadExceptionRaiser

if TYPE_CHECKING:
    from perdure.common import MetricMeter
    from perdure.converter import DataConverter, PayloadConverter
    from perdure.worker._environment import Environment


class ActivityRunner:
    """Runs attempts of the activities that a worker has registered.

    Args:
        environment: Of the worker.
        registry: The activities.
        executor: Where `def` activities run.
        shared_state_manager: For executors that are not thread pools.
        on_broken_executor: Called when the executor cannot run anything any more.
    """

    def __init__(
        self,
        environment: Environment,
        registry: ActivityRegistry,
        executor: Executor | None,
        shared_state_manager: SharedStateManager | None,
        on_broken_executor: Callable[[Exception], None],
    ) -> None:
        self.environment = environment
        self.registry = registry
        self.executor = executor
        self.is_threaded = isinstance(executor, ThreadPoolExecutor)
        self.shared_state_manager = shared_state_manager
        self._process_events = (
            ProcessEvents(shared_state_manager) if shared_state_manager is not None else None
        )
        self._on_broken_executor = on_broken_executor
        self._has_process_event = False
        self.shutdown_event = _CompositeEvent(thread_event=threading.Event(), async_event=asyncio.Event())
        self._interceptors = [
            interceptor
            for interceptor in reversed(environment.interceptors)
            if _intercepts_activities(interceptor)
        ]

    async def run(self, attempt: Attempt) -> Outcome:
        """Run an attempt to its end; what the activity raises becomes part of the outcome."""
        converter = self.environment.data_converter
        try:
            converter = converter_for_activity(self.environment, attempt)
            try:
                result = await self._execute(attempt, converter)
            finally:
                attempt.is_executing = False
            return Outcome(result=Payloads(payloads=await converter.encode([result])))
        except GeneratorExit:
            raise
        except BaseException as error:  # whatever the activity raises is its outcome
            return await self._outcome_of(error, attempt, converter)

    async def _execute(self, attempt: Attempt, converter: DataConverter) -> Any:
        start = attempt.start
        registered = self.registry.find(start.activity_type.name, start.workflow_execution.workflow_id)
        definition = registered.definition
        attempt.is_async = definition.is_async
        await self._prepare_cancellation(attempt, definition.no_thread_cancel_exception)
        args = await _decode_arguments(start.input.payloads, registered, converter)
        if start.heartbeat_details.payloads:
            attempt.heartbeat_details = await _decode_heartbeat(start.heartbeat_details.payloads, converter)
        headers: dict[str, Payload] = dict(start.header.fields) if start.HasField("header") else {}
        if self.environment.encode_headers and headers:
            decoded = await converter._decode_payload_sequence(list(headers.values()))
            headers = dict(zip(headers, decoded, strict=True))
        if not attempt.is_local:
            attempt.heartbeater = self._heartbeater(attempt, converter)
        in_process = definition.is_async or self.is_threaded
        _Context.set(
            _Context(
                info=attempt.info,
                heartbeat=None,
                cancelled_event=_present(attempt.cancelled_event),
                worker_shutdown_event=self.shutdown_event,
                shield_thread_cancel_exception=attempt.raiser.shielded if attempt.raiser else None,
                payload_converter_class_or_instance=converter.payload_converter,
                runtime_metric_meter=self.environment.metric_meter if in_process else None,
                client=self.environment.client if definition.is_async else None,
                cancellation_details=attempt.cancellation,
            )
        )
        inbound: ActivityInboundInterceptor = _InboundEnd(self, attempt)
        for interceptor in self._interceptors:
            inbound = interceptor.intercept_activity(inbound)
        inbound.init(_OutboundEnd(attempt))
        attempt.is_executing = True
        if attempt.cancellation.details is not None:
            # It was cancelled while its arguments were decoded.
            attempt._stop_code()
        executor = None if definition.is_async else self.executor
        return await inbound.execute_activity(
            ExecuteActivityInput(fn=definition.fn, args=args, executor=executor, headers=headers)
        )

    async def _prepare_cancellation(self, attempt: Attempt, no_thread_cancel_exception: bool) -> None:
        if attempt.is_async:
            attempt.cancelled_event = _CompositeEvent(None, asyncio.Event())
        elif self.is_threaded:
            attempt.cancelled_event = _CompositeEvent(threading.Event(), None)
            if not no_thread_cancel_exception:
                attempt.raiser = ThreadExceptionRaiser()
        else:
            events: ProcessEvents = _present(self._process_events)
            attempt.cancelled_event = _CompositeEvent(await events.new(), None)
            if not self._has_process_event:
                event = await events.new()
                if not self._has_process_event:  # nor has another attempt made it meanwhile
                    if self.shutdown_event.is_set():
                        event.set()
                    self.shutdown_event.thread_event = event
                    self._has_process_event = True

    def _heartbeater(self, attempt: Attempt, converter: DataConverter) -> Heartbeater:
        environment = self.environment
        timeout = attempt.start.heartbeat_timeout
        timeout_s = timeout.seconds + timeout.nanos / 1e9
        interval_s = timeout_s * 0.8 if timeout_s else environment.default_heartbeat_throttle_s
        return Heartbeater(
            environment,
            attempt.start.task_token,
            min(interval_s, environment.max_heartbeat_throttle_s),
            converter,
            attempt.cancel,
            attempt.cancel_for_heartbeat_error,
        )

    async def _outcome_of(self, error: BaseException, attempt: Attempt, converter: DataConverter) -> Outcome:
        if isinstance(error, _CompleteAsyncError):
            return Outcome()
        is_cancel = isinstance(error, (asyncio.CancelledError, CancelledError))
        details = attempt.cancellation.details
        reported: BaseException = error
        if is_cancel and attempt.heartbeat_error is not None:
            reported = attempt.heartbeat_error
        elif is_cancel and details is not None and (details.paused or details.reset):
            what = "pause" if details.paused else "reset"
            reported = ApplicationError(
                f"Unhandled activity cancel error produced by activity {what}",
                type=f"Activity{what.capitalize()}",
            )
        elif is_cancel and attempt.cancelled_by_request:
            return await self._canceled(error, attempt, converter)
        failure = _reportable(await _to_failure(reported, converter), reported)
        if isinstance(error, BrokenExecutor):
            self._on_broken_executor(error)
        return Outcome(failure=failure, error=reported)

    async def _canceled(self, error: BaseException, attempt: Attempt, converter: DataConverter) -> Outcome:
        details = attempt.cancellation.details
        if details is not None and details.worker_shutdown and not details.cancel_requested:
            # Not a cancellation that the server knows of: the attempt failed, and may be repeated elsewhere at once.
            failure = Failure()
            failure.message = "Worker is shutting down and this activity did not complete in time"
            failure.application_failure_info.type = "WorkerShutdown"
            return Outcome(failure=failure, error=error)
        failure = await _to_failure(CancelledError("Cancelled"), converter)
        return Outcome(failure=failure, is_canceled=True, error=error)


async def _to_failure(error: BaseException, converter: DataConverter) -> Failure:
    failure = Failure()
    try:
        await converter.encode_failure(error, failure)
    except Exception as conversion_error:  # the converter is the user's code
        _logs.activity_logger.exception("Exception handling failed, original error: %s", error)
        failure.Clear()
        failure.message = f"Failed building exception result: {conversion_error}"
        failure.application_failure_info.SetInParent()
    return failure


def _intercepts_activities(interceptor: Any) -> bool:
    from perdure.worker._interceptor import Interceptor

    return getattr(type(interceptor), "intercept_activity", None) is not Interceptor.intercept_activity


def _present(value: Any) -> Any:
    if value is None:
        raise RuntimeError("The activity is not prepared yet")
    return value


def _reportable(failure: Failure, error: BaseException) -> Failure:
    """Servers take failures of applications only, and else the attempt lies there until its time is over.

    Whatever else ended the code is the cause of one: such as a cancellation that nobody asked for, or the error of
    another workflow that it waited for.
    """
    if failure.HasField("application_failure_info"):
        return failure
    reported = Failure(message=failure.message, source=failure.source, cause=failure)
    reported.application_failure_info.type = type(error).__name__
    return reported


async def _decode_arguments(
    received: Sequence[Payload], registered: Registered, converter: DataConverter
) -> list[Any]:
    definition = registered.definition
    try:
        payloads = await converter._receive(received)
    except Exception as error:  # codecs are the user's code
        raise ApplicationError("Failed decoding arguments") from error
    types = definition.arg_types
    count = len(payloads)  # only now: a codec may have put several into one
    if definition.name is None:
        types = [RawValue] * count
    else:
        registered.check_count(count)
        if types is not None and len(types) != count:
            types = None
    try:
        arguments = converter.payload_converter.from_payloads(payloads, types)
    except Exception as error:  # so are converters
        raise ApplicationError("Failed decoding arguments") from error
    return [arguments] if definition.name is None else arguments


async def _decode_heartbeat(payloads: Sequence[Payload], converter: DataConverter) -> list[Any]:
    try:
        return await converter.decode(payloads)
    except Exception as error:  # converters and codecs are the user's code
        raise ApplicationError("Failed decoding heartbeat details", non_retryable=True) from error


class _OutboundEnd(ActivityOutboundInterceptor):
    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def info(self) -> Info:
        return self._attempt.info()

    def heartbeat(self, *details: Any) -> None:
        heartbeater = self._attempt.heartbeater
        if heartbeater is not None and self._attempt.is_executing:
            heartbeater.beat(details)


class _InboundEnd(ActivityInboundInterceptor):
    def __init__(self, runner: ActivityRunner, attempt: Attempt) -> None:
        self._runner = runner
        self._attempt = attempt

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        # The context stays the same object: interceptors may hold it.
        context = _Context.current()
        context.info = outbound.info
        context.heartbeat = outbound.heartbeat

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if self._attempt.is_async:
            return await input.fn(*input.args)
        context = _Context.current()
        loop = asyncio.get_running_loop()
        send = context.heartbeat
        activity_context = contextvars.copy_context()

        def heartbeat(*details: Any) -> None:
            # Interceptors expect the event loop's thread and the activity's context.
            loop.call_soon_threadsafe(_present(send), *details, context=activity_context)

        if self._runner.is_threaded:
            return await self._in_thread(loop, context, heartbeat, input)
        return await self._in_process(loop, context, heartbeat, input)

    async def _in_thread(
        self,
        loop: asyncio.AbstractEventLoop,
        context: _Context,
        heartbeat: Callable[..., None],
        input: ExecuteActivityInput,
    ) -> Any:
        # Executors do not carry context variables along; activities find theirs in them.
        carried = contextvars.copy_context()
        call = partial(
            carried.run,
            run_in_executor,
            context.info(),
            heartbeat,
            self._attempt.raiser,
            _present(context.cancelled_event.thread_event),
            _present(context.worker_shutdown_event.thread_event),
            context.payload_converter,
            context.runtime_metric_meter,
            context.cancellation_details,
            input.fn,
            *input.args,
        )
        return await loop.run_in_executor(input.executor, call)

    async def _in_process(
        self,
        loop: asyncio.AbstractEventLoop,
        context: _Context,
        heartbeat: Callable[..., None],
        input: ExecuteActivityInput,
    ) -> Any:
        manager: SharedStateManager = _present(self._runner.shared_state_manager)
        info = context.info()
        sender = await manager.register_heartbeater(info.task_token, heartbeat)
        try:
            call = partial(
                run_in_executor,
                info,
                sender,
                None,
                _present(context.cancelled_event.thread_event),
                _present(context.worker_shutdown_event.thread_event),
                self._runner.environment.data_converter.payload_converter_class,
                None,
                context.cancellation_details,
                input.fn,
                *input.args,
            )
            if isinstance(input.executor, ProcessPoolExecutor):
                return await call_in_process(input.executor, info.activity_type, call)
            return await loop.run_in_executor(input.executor, call)
        finally:
            await manager.unregister_heartbeater(info.task_token)


# At the top level of the module, so that it can be pickled.
def run_in_executor(
    info: Info,
    heartbeat: Callable[..., None] | SharedHeartbeatSender,
    raiser: ThreadExceptionRaiser | None,
    cancelled_event: threading.Event,
    worker_shutdown_event: threading.Event,
    payload_converter_class_or_instance: type[PayloadConverter] | PayloadConverter,
    metric_meter: MetricMeter | None,
    cancellation: _ActivityCancellationDetailsHolder,
    fn: Callable[..., Any],
    *args: Any,
) -> Any:
    """Run a `def` activity in a thread or process of its executor."""

    def send_heartbeat(*details: Any) -> None:
        if isinstance(heartbeat, SharedHeartbeatSender):
            heartbeat.send_heartbeat(info.task_token, *details)
        else:
            heartbeat(*details)

    _Context.set(
        _Context(
            info=lambda: info,
            heartbeat=send_heartbeat,
            cancelled_event=_CompositeEvent(cancelled_event, None),
            worker_shutdown_event=_CompositeEvent(worker_shutdown_event, None),
            shield_thread_cancel_exception=raiser.shielded if raiser else None,
            payload_converter_class_or_instance=payload_converter_class_or_instance,
            runtime_metric_meter=metric_meter,
            client=None,
            cancellation_details=cancellation,
        )
    )
    if raiser is None:
        return fn(*args)
    with raiser.active_thread():
        return fn(*args)
