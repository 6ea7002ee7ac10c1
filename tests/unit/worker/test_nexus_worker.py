"""Nexus tasks in a worker: what is answered to what, and what happens when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import nexusrpc
import pytest
from nexusrpc import handler as nexus_handler
from nexusrpc.handler import StartOperationContext

from perdure import nexus
from perdure.api.common.v1 import Payload
from perdure.api.workflowservice.v1 import PollNexusTaskQueueResponse
from perdure.common import MetricMeter
from perdure.converter import (
    DataConverter,
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
    DefaultPayloadConverter,
    NexusSerializationContext,
    PayloadCodec,
    PayloadConverter,
    SerializationContext,
    WithSerializationContext,
    create_payload_validation_error,
)
from perdure.exceptions import ApplicationError
from perdure.service import RPCStatusCode
from perdure.worker import Interceptor, NexusOperationInboundInterceptor
from perdure.worker._nexus_worker import NexusWorker, request_timeout_s
from perdure.worker._slots import FixedSlots
from tests.unit.client.fakes import rpc_error

LIMIT_S = 10.0


class _Service:
    """Takes the answers of a worker."""

    def __init__(self) -> None:
        self.completed: list[Any] = []
        self.failed: list[Any] = []

    async def respond_nexus_task_completed(self, request: Any, **_: Any) -> None:
        """An answer."""
        self.completed.append(request)

    async def respond_nexus_task_failed(self, request: Any, **_: Any) -> None:
        """An error."""
        self.failed.append(request)


class _World:
    """A worker without polls: tasks are put in, answers come out."""

    def __init__(
        self,
        *services: Any,
        executor: Executor | None = None,
        interceptors: tuple[Interceptor, ...] = (),
        converter: DataConverter = DataConverter.default,
    ) -> None:
        self.service = _Service()
        self.fatal: list[BaseException] = []
        environment: Any = SimpleNamespace(
            namespace="ns",
            task_queue="queue",
            identity="me",
            client=SimpleNamespace(namespace="ns"),
            service=self.service,
            data_converter=converter,
            interceptors=interceptors,
            metric_meter=MetricMeter.noop,
            metrics=None,
        )
        self.slots = FixedSlots(1)
        self.worker = NexusWorker(environment, services, executor, self.slots, self.fatal.append)
        self.token = 0

    async def begin(
        self, operation: str, value: object = None, *, is_old: bool = False, **header: str
    ) -> None:
        """Let the worker take the start of an operation."""
        self.token += 1
        answer = PollNexusTaskQueueResponse(task_token=str(self.token).encode())
        answer.request.endpoint = "endpoint"
        answer.request.capabilities.temporal_failure_responses = not is_old
        start = answer.request.start_operation
        start.service, start.operation, start.request_id = "Service", operation, "request"
        for key, text in header.items():
            answer.request.header[key.replace("_", "-")] = text
        start.payload.CopyFrom(Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode()))
        self.worker.take(answer, await self.slots.reserve())

    async def answer(self, operation: str, value: object = None, *, is_old: bool = False) -> Any:
        """Return what the worker answers to the start of an operation."""
        await self.begin(operation, value, is_old=is_old)
        await self.worker.drain(LIMIT_S)
        assert self.slots.free == 1
        [request] = self.service.completed + self.service.failed
        self.service.completed.clear()
        self.service.failed.clear()
        return request


@nexus_handler.service_handler(name="Service")
class Handlers:
    """One operation for each thing that a handler can do."""

    def __init__(self) -> None:
        self.entered, self.may_end = asyncio.Event(), asyncio.Event()
        self.reasons: list[str | None] = []

    @nexus_handler.sync_operation
    async def double(self, ctx: StartOperationContext, input: int) -> int:
        return 2 * input

    @nexus_handler.sync_operation
    async def where(self, ctx: StartOperationContext, input: None) -> list[str]:
        info = nexus.info()
        return [info.endpoint, info.namespace, info.task_queue, ctx.request_id, str(nexus.in_operation())]

    @nexus_handler.sync_operation
    async def fail(self, ctx: StartOperationContext, input: str) -> None:
        errors: dict[str, Callable[[], BaseException]] = {
            "plain": lambda: ValueError("plain"),
            "permanent": lambda: ApplicationError("no", non_retryable=True),
            "refused": lambda: rpc_error(RPCStatusCode.PERMISSION_DENIED),
            "overloaded": lambda: rpc_error(RPCStatusCode.RESOURCE_EXHAUSTED),
            "handler": lambda: nexusrpc.HandlerError("h", type=nexusrpc.HandlerErrorType.BAD_REQUEST),
            "failed": lambda: nexusrpc.OperationError("o", state=nexusrpc.OperationErrorState.FAILED),
            "canceled": lambda: nexusrpc.OperationError("o", state=nexusrpc.OperationErrorState.CANCELED),
            "cancellation": asyncio.CancelledError,
        }
        raise errors[input]()

    @nexus_handler.sync_operation
    async def hang(self, ctx: StartOperationContext, input: None) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.reasons.append(ctx.task_cancellation.cancellation_reason())

    @nexus_handler.sync_operation
    async def refuse_to_end(self, ctx: StartOperationContext, input: None) -> None:
        self.entered.set()
        while not self.may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.may_end.wait()

    @nexus_handler.sync_operation
    async def until_shutdown(self, ctx: StartOperationContext, input: None) -> str:
        self.entered.set()
        await nexus.wait_for_worker_shutdown()
        return "told"


def _run(scenario: Callable[[Handlers, _World], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            handlers = Handlers()
            await scenario(handlers, _World(handlers, **options))

    asyncio.run(bounded())


def test_results_are_answered() -> None:
    """With the token of their task."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        request = await world.answer("double", 21)
        assert (request.task_token, request.namespace, request.identity) == (b"1", "ns", "me")
        assert request.response.start_operation.sync_success.payload.data == b"42"
        where = (await world.answer("where")).response.start_operation.sync_success.payload.data
        assert json.loads(where) == ["endpoint", "ns", "queue", "request", "True"]

    _run(scenario)


NON_RETRYABLE = 2


@pytest.mark.parametrize(
    ("error", "kind", "retry_behavior"),
    [
        ("plain", "INTERNAL", 0),
        ("permanent", "INTERNAL", NON_RETRYABLE),
        ("refused", "INTERNAL", 0),
        ("overloaded", "RESOURCE_EXHAUSTED", 0),
        ("handler", "BAD_REQUEST", 0),
        ("cancellation", "INTERNAL", 0),
    ],
)
def test_errors_of_handlers_are_answered_as_the_protocol_names_them(
    error: str, kind: str, retry_behavior: int
) -> None:
    """For servers that read failures, and for those that do not. A cancellation that the handler met with is one."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        failure = (await world.answer("fail", error)).failure
        info = failure.nexus_handler_failure_info
        assert (info.type, info.retry_behavior) == (kind, retry_behavior)
        assert failure.HasField("cause") == (error != "handler")
        old = (await world.answer("fail", error, is_old=True)).error
        assert (old.error_type, old.retry_behavior) == (kind, retry_behavior)
        assert old.failure.message == failure.message
        assert old.failure.metadata == {"type": "temporal.api.failure.v1.Failure"}

    _run(scenario)


@pytest.mark.parametrize(("state", "kind"), [("failed", "application"), ("canceled", "canceled")])
def test_what_an_operation_ends_in_is_its_answer(state: str, kind: str) -> None:
    """It is no trouble of the handler's: the task is done."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        failure = (await world.answer("fail", state)).response.start_operation.failure
        assert failure.message == "o"
        assert failure.HasField(f"{kind}_failure_info")
        old = (await world.answer("fail", state, is_old=True)).response.start_operation.operation_error
        assert (old.operation_state, old.failure.message) == (state, "o")

    _run(scenario)


def test_what_is_not_there_or_does_not_fit_is_told() -> None:
    """An operation that there is not, and an input that is no number."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        failure = (await world.answer("unheard_of")).failure
        assert failure.nexus_handler_failure_info.type == "NOT_FOUND"
        failure = (await world.answer("double", "x")).failure
        assert failure.nexus_handler_failure_info.type == "BAD_REQUEST"
        assert failure.nexus_handler_failure_info.retry_behavior == NON_RETRYABLE

    _run(scenario)


def test_a_handler_that_outlives_its_request_is_cancelled_and_not_answered() -> None:
    """The server has given the task up, and gives it out again."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        await world.begin("hang", request_timeout="10ms")
        await world.slots.reserve()
        assert handlers.reasons == ["TIMED_OUT"]
        assert world.service.completed + world.service.failed == []

    _run(scenario)


def test_a_shutdown_tells_handlers_waits_and_then_cancels() -> None:
    """One that ends in time is answered; one that does not, is not."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        await world.begin("until_shutdown")
        await handlers.entered.wait()
        world.worker.notify_shutdown()
        await world.worker.drain(LIMIT_S)
        [told] = world.service.completed
        assert told.response.start_operation.sync_success.payload.data == b'"told"'
        await world.begin("hang")
        await asyncio.sleep(0)
        await world.worker.drain(0.001)
        assert handlers.reasons == ["WORKER_SHUTDOWN"]
        assert world.service.failed == []

    _run(scenario)


def test_a_shutdown_says_which_handlers_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that heeds no cancellation keeps the process alive, and nobody would know why."""
    said: list[str] = []
    monkeypatch.setattr("perdure.worker._nexus_worker._STILL_RUNNING_EVERY_S", 0.01)

    async def scenario(handlers: Handlers, world: _World) -> None:
        told = asyncio.Event()

        def warn(text: str, *values: object) -> None:
            said.append(text % values)
            told.set()

        monkeypatch.setattr(logging.getLogger("perdure.worker"), "warning", warn)
        await world.begin("refuse_to_end")
        await handlers.entered.wait()
        draining = asyncio.ensure_future(world.worker.drain(0))
        await told.wait()
        handlers.may_end.set()
        await draining

    _run(scenario)
    assert "Shutdown waits for 1 Nexus operations" in said[0]
    assert "Service.refuse_to_end" in said[0]


def test_an_answer_that_is_being_sent_when_the_worker_ends_gets_there_first() -> None:
    """What closes the connection then does not cut it off."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        sending, may_arrive = asyncio.Event(), asyncio.Event()

        async def respond(request: Any, **_: Any) -> None:
            sending.set()
            await may_arrive.wait()
            world.service.completed.append(request)

        world.service.respond_nexus_task_completed = respond  # type: ignore[method-assign]
        await world.begin("double", 21)
        await sending.wait()
        draining = asyncio.ensure_future(world.worker.drain(0))
        await asyncio.wait([draining], timeout=0.01)
        assert not draining.done()
        may_arrive.set()
        await draining
        assert len(world.service.completed) == 1

    _run(scenario)


class _Failures(DefaultFailureConverter):
    """Cannot convert any error."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Any) -> None:
        """Fail."""
        raise ValueError("no words")


@pytest.mark.parametrize("error", ["plain", "failed"])
def test_an_error_that_cannot_be_converted_is_answered_all_the_same(error: str) -> None:
    """Without an answer the caller would wait for its time-out, and never learn why."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        failure = (await world.answer("fail", error)).failure
        assert failure.nexus_handler_failure_info.type == "INTERNAL"
        assert "no words" in failure.message

    _run(scenario, converter=DataConverter(failure_converter_class=_Failures))


class _Invalid(PayloadCodec):
    """Takes no payload: it is invalid, or the codec is broken."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Nothing to do."""
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Refuse."""
        raise self._error


class _InvalidConverter(DefaultPayloadConverter):
    """Finds every value invalid."""

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Refuse."""
        raise create_payload_validation_error("no such order")


_VALIDATION = create_payload_validation_error({"field": "order"})


@pytest.mark.parametrize(
    ("converter", "kind", "message"),
    [
        (
            DataConverter(payload_codec=_Invalid(_VALIDATION)),
            "BAD_REQUEST",
            "Invalid operation input",
        ),
        (
            DataConverter(payload_converter_class=_InvalidConverter),
            "BAD_REQUEST",
            "Invalid operation input",
        ),
        (
            DataConverter(payload_codec=_Invalid(ApplicationError("later", type="PayloadValidationError"))),
            "INTERNAL",
            "Payload codec failed to decode Nexus operation input",
        ),
        (
            DataConverter(payload_codec=_Invalid(ApplicationError("key", type="Other", non_retryable=True))),
            "INTERNAL",
            "Payload codec failed to decode Nexus operation input",
        ),
    ],
    ids=["codec", "converter", "may-be-retried", "another-error"],
)
def test_an_input_that_is_invalid_is_the_callers_fault(
    converter: DataConverter, kind: str, message: str
) -> None:
    """Sending it again is of no use; a codec that is broken is the handler's own trouble, and tried again."""

    async def scenario(handlers: Handlers, world: _World) -> None:
        failure = (await world.answer("double", 21)).failure
        info = failure.nexus_handler_failure_info
        assert (info.type, failure.message) == (kind, message)
        assert (info.retry_behavior == NON_RETRYABLE) == (kind == "BAD_REQUEST")
        if kind == "BAD_REQUEST":
            assert failure.cause.application_failure_info.type == "PayloadValidationError"

    _run(scenario, converter=converter)


class _Contexts(PayloadCodec, WithSerializationContext):
    """Notes what it is told about the payloads."""

    def __init__(self, seen: list[str], context: SerializationContext | None = None) -> None:
        self._seen, self._context = seen, context

    def with_context(self, context: SerializationContext) -> _Contexts:
        """One that knows the context."""
        return _Contexts(self._seen, context)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Note the context."""
        self._seen.append(f"encode {self._context}")
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Note the context."""
        self._seen.append(f"decode {self._context}")
        return list(payloads)


def test_codecs_are_told_of_which_operation_the_payloads_are() -> None:
    """Its input, its result, and what an error says."""
    seen: list[str] = []

    async def scenario(handlers: Handlers, world: _World) -> None:
        of_double = NexusSerializationContext("endpoint", "Service", "double")
        await world.answer("double", 21)
        assert seen == [f"decode {of_double}", f"encode {of_double}"]
        seen.clear()
        of_fail = NexusSerializationContext("endpoint", "Service", "fail")
        await world.answer("fail", "plain")
        assert set(seen) == {f"decode {of_fail}", f"encode {of_fail}"}

    converter = DataConverter(
        payload_codec=_Contexts(seen),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
    _run(scenario, converter=converter)


def test_interceptors_are_around_handlers_the_first_one_outermost() -> None:
    """They see the input and may change the result."""
    seen: list[str] = []

    class Inbound(NexusOperationInboundInterceptor):
        def __init__(self, next: NexusOperationInboundInterceptor, name: str) -> None:
            super().__init__(next)
            self._name = name

        async def execute_nexus_operation_start(self, input: Any) -> Any:
            seen.append(self._name)
            return await super().execute_nexus_operation_start(input)

    class Around(Interceptor):
        def __init__(self, name: str) -> None:
            self._name = name

        def intercept_nexus_operation(
            self, next: NexusOperationInboundInterceptor
        ) -> NexusOperationInboundInterceptor:
            return Inbound(next, self._name)

    async def scenario(handlers: Handlers, world: _World) -> None:
        await world.answer("double", 1)
        assert seen == ["outer", "inner"]

    _run(scenario, interceptors=(Around("outer"), Around("inner")))


def test_handlers_in_threads_see_the_operation_and_a_broken_executor_ends_the_worker() -> None:
    """As with activities."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    @nexus_handler.service_handler(name="Service")
    class Threaded:
        @nexus_handler.sync_operation
        def where(self, ctx: StartOperationContext, input: None) -> list[str]:
            return [nexus.info().task_queue, variable.get()]

    class Broken(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            raise BrokenExecutor("gone")

    async def scenario() -> None:
        variable.set("seen")
        with ThreadPoolExecutor(1) as executor:
            request = await _World(Threaded(), executor=executor).answer("where")
            assert json.loads(request.response.start_operation.sync_success.payload.data) == ["queue", "seen"]
        broken = _World(Threaded(), executor=Broken())
        assert (await broken.answer("where")).HasField("failure")
        assert [type(error) for error in broken.fatal] == [BrokenExecutor]
        with pytest.raises(RuntimeError, match="not an `async def`"):
            _World(Threaded())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("9.5s", 9.5),
        ("1m30s", 90.0),
        ("250ms", 0.25),
        ("2h", 7200.0),
        ("9" * 400 + "h", 315_360_000.0),  # a date that far off does not exist
        ("", None),
        ("soon", None),
        ("5", None),
    ],
)
def test_durations_are_read_as_the_server_writes_them(text: str, seconds: float | None) -> None:
    """What cannot be read is no limit."""
    assert request_timeout_s(text) == seconds


def test_outside_an_operation_its_functions_say_so() -> None:
    """With the official SDK's words."""
    assert not nexus.in_operation()
    with pytest.raises(RuntimeError, match="Not in Nexus operation context"):
        nexus.info()
