"""Payloads on their way in and out: all of them, for the right receiver, and never in the message that was received."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.api.command.v1 import Command, ScheduleActivityTaskCommandAttributes
from perdure.api.common.v1 import Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protocol.v1 import Message
from perdure.api.update.v1 import Request
from perdure.converter import (
    ActivitySerializationContext,
    DataConverter,
    ExternalStorage,
    NexusSerializationContext,
    PayloadCodec,
    SerializationContext,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from perdure.core.replay.markers import (
    LOCAL_ACTIVITY_MARKER,
    PATCH_MARKER,
    LocalActivityMarker,
    local_activity_details,
)
from perdure.core.replay.steps import LocalActivityOutcome
from perdure.worker._payload_edge import WorkflowPayloads, transform_payloads


class Marking(PayloadCodec, WithSerializationContext):
    """Notes in each payload for whom it was encoded or decoded."""

    def __init__(self, context: SerializationContext | None = None) -> None:
        self._context = context

    def with_context(self, context: SerializationContext) -> Marking:
        return Marking(context)

    @property
    def _name(self) -> bytes:
        if isinstance(self._context, ActivitySerializationContext):
            return f"activity {self._context.activity_id}".encode()
        if isinstance(self._context, WorkflowSerializationContext):
            return f"workflow {self._context.workflow_id}".encode()
        if isinstance(self._context, NexusSerializationContext):
            return f"operation {self._context.endpoint}/{self._context.service}/{self._context.operation}".encode()
        return b"nobody"

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(data=b"out " + self._name + b" " + payload.data) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(data=b"in " + self._name + b" " + payload.data) for payload in payloads]


def _payloads(*, encode_headers: bool = False) -> WorkflowPayloads:
    environment: Any = SimpleNamespace(
        namespace="ns",
        task_queue="queue",
        data_converter=replace(DataConverter.default, payload_codec=Marking()),
        encode_workflow_headers=encode_headers,
    )
    return WorkflowPayloads(environment, "w", "r", "Type")


async def _shout(payloads: Sequence[Payload]) -> list[Payload]:
    return [Payload(data=payload.data.upper()) for payload in payloads]


def test_every_payload_is_reached_except_search_attributes_and_headers() -> None:
    """Inside lists, maps, single fields, and failures within failures."""
    event = HistoryEvent()
    started = event.workflow_execution_started_event_attributes
    started.input.payloads.add(data=b"input")
    started.memo.fields["m"].data = b"memo"
    started.header.fields["h"].data = b"header"
    started.search_attributes.indexed_fields["s"].data = b"attribute"
    started.continued_failure.cause.cause.application_failure_info.details.payloads.add(data=b"deep")
    started.continued_failure.encoded_attributes.data = b"attributes"
    asyncio.run(transform_payloads(event, _shout, with_headers=False))
    assert started.input.payloads[0].data == b"INPUT"
    assert started.memo.fields["m"].data == b"MEMO"
    assert started.header.fields["h"].data == b"header"
    assert started.search_attributes.indexed_fields["s"].data == b"attribute"
    deep = started.continued_failure.cause.cause.application_failure_info.details.payloads[0]
    assert deep.data == b"DEEP"
    assert started.continued_failure.encoded_attributes.data == b"ATTRIBUTES"
    asyncio.run(transform_payloads(event, _shout, with_headers=True))
    assert started.header.fields["h"].data == b"HEADER"


def _scheduled_and_completed() -> list[HistoryEvent]:
    scheduled = HistoryEvent(event_id=5)
    attributes = scheduled.activity_task_scheduled_event_attributes
    attributes.activity_id = "a1"
    attributes.input.payloads.add(data=b"x")
    completed = HistoryEvent(event_id=7)
    completed.activity_task_completed_event_attributes.scheduled_event_id = 5
    completed.activity_task_completed_event_attributes.result.payloads.add(data=b"y")
    signaled = HistoryEvent(event_id=8)
    signaled.workflow_execution_signaled_event_attributes.input.payloads.add(data=b"z")
    return [scheduled, completed, signaled]


def test_events_are_decoded_for_whom_they_belong_to_and_the_received_ones_stay() -> None:
    """A result is decoded as the activity's arguments were encoded, even if it comes with a later task."""
    events = _scheduled_and_completed()
    before = [event.SerializeToString() for event in events]

    async def scenario() -> None:
        payloads = _payloads()
        # Nobody reads what the workflow itself has sent.
        assert await payloads.decoded_events(events[:1]) == events[:1]
        completed, signaled = await payloads.decoded_events(events[1:])
        data = completed.activity_task_completed_event_attributes.result.payloads[0].data
        assert data == b"in activity a1 y"
        data = signaled.workflow_execution_signaled_event_attributes.input.payloads[0].data
        assert data == b"in workflow w z"

    asyncio.run(scenario())
    assert [event.SerializeToString() for event in events] == before


def test_commands_are_encoded_for_whom_they_go_to() -> None:
    activity, child, signal, complete = Command(), Command(), Command(), Command()
    activity.schedule_activity_task_command_attributes.activity_id = "a1"
    activity.schedule_activity_task_command_attributes.input.payloads.add(data=b"x")
    child.start_child_workflow_execution_command_attributes.workflow_id = "c"
    child.start_child_workflow_execution_command_attributes.input.payloads.add(data=b"x")
    signal.signal_external_workflow_execution_command_attributes.execution.workflow_id = "s"
    signal.signal_external_workflow_execution_command_attributes.input.payloads.add(data=b"x")
    complete.complete_workflow_execution_command_attributes.result.payloads.add(data=b"x")
    asyncio.run(_payloads().encode_commands([activity, child, signal, complete]))
    assert activity.schedule_activity_task_command_attributes.input.payloads[0].data == b"out activity a1 x"
    data = child.start_child_workflow_execution_command_attributes.input.payloads[0].data
    assert data == b"out workflow c x"
    data = signal.signal_external_workflow_execution_command_attributes.input.payloads[0].data
    assert data == b"out workflow s x"
    assert (
        complete.complete_workflow_execution_command_attributes.result.payloads[0].data == b"out workflow w x"
    )


def test_what_is_heard_after_a_request_to_cancel_is_decoded_like_everything_before() -> None:
    """The request is not the end of the activity."""
    scheduled, completed, _ = _scheduled_and_completed()
    requested = HistoryEvent(event_id=6)
    requested.activity_task_cancel_requested_event_attributes.scheduled_event_id = 5

    async def scenario() -> None:
        [_, _, decoded] = await _payloads().decoded_events([scheduled, requested, completed])
        data = decoded.activity_task_completed_event_attributes.result.payloads[0].data
        assert data == b"in activity a1 y"

    asyncio.run(scenario())


def test_payloads_of_nexus_operations_are_encoded_and_decoded_for_the_operation() -> None:
    """Whoever serves it knows endpoint, service and operation, and nothing of the workflow."""
    command, scheduled = Command(), HistoryEvent(event_id=5)
    sent = command.schedule_nexus_operation_command_attributes
    sent.input.data = b"x"
    for attributes in (sent, scheduled.nexus_operation_scheduled_event_attributes):
        attributes.endpoint, attributes.service, attributes.operation = "e", "s", "o"
    refused, completed = HistoryEvent(event_id=6), HistoryEvent(event_id=7)
    not_cancelled = refused.nexus_operation_cancel_request_failed_event_attributes
    not_cancelled.scheduled_event_id = 5
    not_cancelled.failure.encoded_attributes.data = b"f"
    completed.nexus_operation_completed_event_attributes.result.data = b"y"
    completed.nexus_operation_completed_event_attributes.scheduled_event_id = 5

    async def scenario() -> None:
        payloads = _payloads()
        await payloads.encode_commands([command])
        assert sent.input.data == b"out operation e/s/o x"
        [_, failed, ended] = await payloads.decoded_events([scheduled, refused, completed])
        failure = failed.nexus_operation_cancel_request_failed_event_attributes.failure
        assert failure.encoded_attributes.data == b"in operation e/s/o f"
        assert ended.nexus_operation_completed_event_attributes.result.data == b"in operation e/s/o y"

    asyncio.run(scenario())


def test_an_update_request_is_decoded_inside_its_envelope() -> None:
    request = Request()
    request.input.args.payloads.add(data=b"x")
    message = Message()
    message.body.Pack(request)
    asyncio.run(_payloads().decode_protocol_message(message))
    decoded = Request()
    message.body.Unpack(decoded)
    assert decoded.input.args.payloads[0].data == b"in workflow w x"


def test_a_failure_has_all_its_causes_encoded() -> None:
    failure = Failure()
    failure.cause.application_failure_info.details.payloads.add(data=b"x")
    asyncio.run(_payloads().encode(failure))
    assert failure.cause.application_failure_info.details.payloads[0].data == b"out workflow w x"


def _local_marker(result: bytes) -> Command:
    marker = LocalActivityMarker(1, 1, "a1", "greet", 0, None, 0)
    marker.result = Payloads(payloads=[Payload(data=result)])
    command = Command()
    attributes = command.record_marker_command_attributes
    attributes.marker_name = LOCAL_ACTIVITY_MARKER
    for key, value in local_activity_details(marker).items():
        attributes.details[key].CopyFrom(value)
    return command


def test_what_workers_note_in_markers_stays_readable() -> None:
    """Only a local activity's result is the user's; other workers read the rest without the codec."""

    async def scenario() -> None:
        payloads = _payloads()
        command = _local_marker(b"x")
        await payloads.encode_commands([command])
        details = command.record_marker_command_attributes.details
        assert details["result"].payloads[0].data == b"out activity a1 x"
        assert b"greet" in details["data"].payloads[0].data
        assert not details["data"].payloads[0].data.startswith(b"out")
        patch = Command()
        patch.record_marker_command_attributes.marker_name = PATCH_MARKER
        patch.record_marker_command_attributes.details["patch-data"].payloads.add(data=b"{}")
        await payloads.encode_commands([patch])
        patched = patch.record_marker_command_attributes.details["patch-data"]
        assert patched.payloads[0].data == b"{}"

    asyncio.run(scenario())


def test_a_local_activitys_result_is_decoded_for_the_code_and_recorded_as_it_was_encoded() -> None:
    async def scenario() -> None:
        payloads = _payloads()
        attributes = ScheduleActivityTaskCommandAttributes(activity_id="a1")
        outcome = LocalActivityOutcome(result=Payloads(payloads=[Payload(data=b"encoded once")]))
        await payloads.decode_outcome(outcome, attributes)
        assert outcome.result is not None
        assert outcome.result.payloads[0].data == b"in activity a1 encoded once"
        command = _local_marker(outcome.result.payloads[0].data)
        await payloads.encode_commands([command])
        recorded = command.record_marker_command_attributes.details["result"]
        assert recorded.payloads[0].data == b"encoded once"

    asyncio.run(scenario())


class _Slow(StorageDriver):
    """Stores everything, each operation when it is let go; counts how many run at once."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.running = 0
        self.most_running = 0

    def name(self) -> str:
        return "slow"

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        for _ in range(5):
            await asyncio.sleep(0)
        self.running -= 1
        self.stored += [payload.data for payload in payloads]
        if payloads[0].data == b"7":
            raise ValueError("the seventh")
        return [StorageDriverClaim({"key": payload.data.decode()}) for payload in payloads]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        for _ in range(5):
            await asyncio.sleep(0)
        self.running -= 1
        return [Payload(data=claim.claim_data["key"].encode()) for claim in claims]


def _schedule(number: int) -> Command:
    command = Command()
    attributes = command.schedule_activity_task_command_attributes
    attributes.activity_id = str(number)
    attributes.input.payloads.add(data=str(number).encode())
    return command


def _stored(driver: _Slow) -> WorkflowPayloads:
    storage = ExternalStorage(drivers=[driver], payload_size_threshold=0)
    environment: Any = SimpleNamespace(
        namespace="ns",
        task_queue="queue",
        data_converter=replace(DataConverter.default, external_storage=storage),
        encode_workflow_headers=False,
        storage_concurrency=3,
    )
    return WorkflowPayloads(environment, "w", "r", "Type")


def test_external_storage_works_on_a_few_commands_and_events_at_once() -> None:
    async def scenario() -> None:
        driver = _Slow()
        commands = [_schedule(number) for number in range(7)]
        await _stored(driver).encode_commands(commands)
        assert sorted(driver.stored) == [str(number).encode() for number in range(7)]
        assert driver.most_running == 3
        driver.most_running = 0
        events = []
        for number, command in enumerate(commands):
            event = HistoryEvent(event_id=number + 1)
            event.workflow_execution_signaled_event_attributes.input.CopyFrom(
                command.schedule_activity_task_command_attributes.input
            )
            events.append(event)
        decoded = await _stored(driver).decoded_events(events)
        assert [
            event.workflow_execution_signaled_event_attributes.input.payloads[0].data for event in decoded
        ] == [str(number).encode() for number in range(7)]
        assert driver.most_running == 3

    asyncio.run(scenario())


def test_an_operation_that_fails_leaves_no_other_behind() -> None:
    """The task's failure is answered only when nothing is being stored for it any more."""

    async def scenario() -> None:
        driver = _Slow()
        with pytest.raises(ValueError, match="the seventh"):
            await _stored(driver).encode_commands([_schedule(number) for number in range(6, 12)])
        assert driver.running == 0
        assert len(driver.stored) == 6

    asyncio.run(scenario())
