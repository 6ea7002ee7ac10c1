"""Nexus operations from a workflow: started, awaited, cancelled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import nexusrpc
import pytest

from perdure import workflow
from perdure.api.common.v1 import Payload
from perdure.converter import (
    CompositePayloadConverter,
    JSONPlainPayloadConverter,
    NexusSerializationContext,
    SerializationContext,
    WithSerializationContext,
)
from perdure.core.replay.activation import FireTimer, ResolveNexusOperation, ResolveNexusOperationStart
from perdure.core.replay.instructions import (
    CancelNexusOperation,
    CompleteWorkflow,
    FailWorkflow,
    ScheduleNexusOperation,
)
from perdure.exceptions import ApplicationError

from .driver import Driver, failure_of, kinds, only, pause, payloads, value_of


@nexusrpc.service
class Greeter:
    """A service."""

    greet: nexusrpc.Operation[str, str]


@workflow.defn
class Caller:
    """Calls an operation, and cancels it if told to."""

    @workflow.run
    async def run(self, cancels: bool) -> list[Any]:
        client = workflow.create_nexus_client(service=Greeter, endpoint="there")
        handle = await client.start_operation(
            Greeter.greet,
            "bob",
            schedule_to_close_timeout=timedelta(seconds=7),
            headers={"a": "b"},
            summary="a line",
            cancellation_type=workflow.NexusOperationCancellationType.WAIT_REQUESTED,
        )
        token = handle.operation_token
        if cancels:
            await pause(1)
            handle.cancel()
        return [token, await handle]


def test_an_operation_is_started_and_awaited() -> None:
    """The service's and the operation's names come from their definitions."""
    run = Driver(Caller, False)
    scheduled = only(run.start(), ScheduleNexusOperation)
    attributes = scheduled.attributes
    assert (attributes.endpoint, attributes.service, attributes.operation) == ("there", "Greeter", "greet")
    assert value_of(attributes.input) == "bob"
    assert attributes.schedule_to_close_timeout.seconds == 7
    assert dict(attributes.nexus_header) == {"a": "b"}
    assert scheduled.cancellation == 3
    assert run.send(ResolveNexusOperationStart(1, operation_token="token")) == []
    result = payloads("hello").payloads[0]
    completed = only(run.send(ResolveNexusOperation(1, result)), CompleteWorkflow)
    assert value_of(completed.result) == ["token", "hello"]


def test_an_operation_that_ends_at_once_has_no_token() -> None:
    """Its start and its result come together."""
    run = Driver(Caller, False)
    run.start()
    result = payloads("hello").payloads[0]
    answer = run.send(ResolveNexusOperationStart(1), ResolveNexusOperation(1, result))
    assert value_of(only(answer, CompleteWorkflow).result) == [None, "hello"]


def test_a_cancelled_operation_asks_for_it_and_waits() -> None:
    """A late end of an operation that was given up is no surprise."""
    run = Driver(Caller, True)
    run.start()
    run.send(ResolveNexusOperationStart(1, operation_token="token"))
    assert only(run.send(FireTimer(1)), CancelNexusOperation).seq == 1
    failed = run.send(ResolveNexusOperation(1, failure=failure_of(ApplicationError("given up"))))
    assert only(failed, FailWorkflow).failure.message == "given up"
    assert run.send(ResolveNexusOperation(1, payloads("late").payloads[0])) == []


def test_an_operation_that_does_not_start_raises() -> None:
    """Where it was started."""
    run = Driver(Caller, False)
    run.start()
    answer = run.send(ResolveNexusOperationStart(1, failure=failure_of(ApplicationError("no such endpoint"))))
    assert kinds(answer) == ["FailWorkflow"]


def test_a_class_that_is_no_service_is_refused() -> None:
    """With what would do."""
    with pytest.raises(ValueError, match="decorated with either"):
        workflow.create_nexus_client(service=int, endpoint="there")


class _Contexts(JSONPlainPayloadConverter, WithSerializationContext):
    """Writes into each payload for what it was converted."""

    def __init__(self, context: SerializationContext | None = None) -> None:
        super().__init__()
        self._context = context

    def with_context(self, context: SerializationContext) -> _Contexts:
        """One that knows the context."""
        return _Contexts(context)

    def to_payload(self, value: Any) -> Payload | None:
        """The context stands beside the encoding."""
        payload = super().to_payload(value)
        if payload is not None:
            payload.metadata["for"] = str(self._context).encode()
        return payload


def test_converters_are_told_of_which_operation_the_payloads_are() -> None:
    """As its handler's are."""
    converter = CompositePayloadConverter(_Contexts())
    run = Driver(Caller, False, payload_converter=converter)
    scheduled = only(run.start(), ScheduleNexusOperation)
    context = NexusSerializationContext("there", "Greeter", "greet")
    assert scheduled.attributes.input.metadata["for"] == str(context).encode()
