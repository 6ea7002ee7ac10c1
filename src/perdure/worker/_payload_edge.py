"""Where payloads enter and leave a worker: the payload codec and external storage act here, if there are any.

Received messages are never changed: they may be shared with an engine in this process. So what is to be decoded is
copied first, and without codec and external storage nothing is copied or even looked at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from perdure.api.command.v1 import (
    Command,
    RecordMarkerCommandAttributes,
    ScheduleActivityTaskCommandAttributes,
)
from perdure.api.common.v1 import Payload, Payloads
from perdure.api.history.v1 import HistoryEvent, MarkerRecordedEventAttributes
from perdure.api.protocol.v1 import Message as ProtocolMessage
from perdure.api.update.v1 import Acceptance, Rejection, Request, Response
from perdure.api.workflowservice.v1 import SignalWithStartWorkflowExecutionRequest
from perdure.converter import (
    ActivitySerializationContext,
    NexusSerializationContext,
    SerializationContext,
    StorageDriverActivityInfo,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
    WorkflowSerializationContext,
)
from perdure.converter._extstore import StorageOperationMetrics
from perdure.core.replay.markers import LOCAL_ACTIVITY_MARKER, PATCH_MARKER
from perdure.workflow import _SYSTEM_ENDPOINT

if TYPE_CHECKING:
    from perdure.converter import DataConverter
    from perdure.core.replay.steps import LocalActivityOutcome, TaskCompletion
    from perdure.worker._activity_attempt import Attempt
    from perdure.worker._environment import Environment

_Marker = RecordMarkerCommandAttributes | MarkerRecordedEventAttributes
Transform = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]

_BODIES: dict[str, type[Message]] = {
    body.DESCRIPTOR.full_name: body for body in (Request, Acceptance, Rejection, Response)
}

_PAYLOAD = "temporal.api.common.v1.Payload"
_PAYLOADS = "temporal.api.common.v1.Payloads"
_HEADER = "temporal.api.common.v1.Header"
# The server reads search attributes; no codec may hide them.
_NEVER = frozenset({"temporal.api.common.v1.SearchAttributes"})


class _Step(NamedTuple):
    """A field through which payloads are reached."""

    name: str
    type_name: str
    is_repeated: bool
    is_map: bool


@cache
def _steps(descriptor: Descriptor) -> tuple[_Step, ...]:
    return tuple(_find_steps(descriptor, frozenset({descriptor.full_name})))


def _find_steps(descriptor: Descriptor, above: frozenset[str]) -> Iterable[_Step]:
    for field in descriptor.fields:
        target = field.message_type
        if target is None or target.full_name in _NEVER:
            continue
        is_map = target.GetOptions().map_entry
        if is_map:
            target = target.fields_by_name["value"].message_type
            if target is None:
                continue
        if _leads_to_payloads(target, above):
            yield _Step(field.name, target.full_name, field.is_repeated and not is_map, is_map)


def _leads_to_payloads(descriptor: Descriptor, above: frozenset[str]) -> bool:
    name = descriptor.full_name
    if name in (_PAYLOAD, _PAYLOADS):
        return True
    if name in _NEVER or not name.startswith("temporal.api."):
        return False
    if name in above:
        # A message inside itself (failures and their causes): whether it leads there is decided above.
        return True
    return any(True for _ in _find_steps(descriptor, above | {name}))


async def transform_payloads(message: Message, transform: Transform, *, with_headers: bool) -> None:
    """Replace, in place, every payload inside a message, except in search attributes.

    Args:
        message: Belongs to the caller, who may change it.
        transform: Returns what stands in the place of some payloads that belong together.
        with_headers: Whether payloads in headers are replaced too.
    """
    for step in _steps(message.DESCRIPTOR):
        if step.type_name == _HEADER and not with_headers:
            continue
        value: Any = getattr(message, step.name)
        if step.is_map:
            await _transform_map(value, step, transform, with_headers)
        elif step.is_repeated:
            if step.type_name == _PAYLOAD:
                await _replace_all(value, transform)
            else:
                for item in value:
                    await _transform_one(item, step, transform, with_headers)
        elif message.HasField(step.name):
            await _transform_one(value, step, transform, with_headers)


async def _transform_one(value: Any, step: _Step, transform: Transform, with_headers: bool) -> None:
    if step.type_name == _PAYLOAD:
        (replacement,) = await transform([value])
        value.CopyFrom(replacement)
    elif step.type_name == _PAYLOADS:
        await _replace_all(value.payloads, transform)
    else:
        await transform_payloads(value, transform, with_headers=with_headers)


async def _transform_map(values: Any, step: _Step, transform: Transform, with_headers: bool) -> None:
    for key in list(values):
        await _transform_one(values[key], step, transform, with_headers)


async def _replace_all(payloads: Any, transform: Transform) -> None:
    if not payloads:
        return
    # Copied first: a codec may hand back the very messages that are about to be removed.
    replacements = [Payload.FromString(payload.SerializeToString()) for payload in await transform(payloads)]
    del payloads[:]
    payloads.extend(replacements)


def has_effect(converter: DataConverter) -> bool:
    """Return whether payloads look different on the wire and inside the worker."""
    return converter.payload_codec is not None or converter.external_storage is not None


def converter_for_activity(environment: Environment, attempt: Attempt) -> DataConverter:
    """Return the data converter that knows which activity it converts for."""
    converter = environment.data_converter
    if not converter._takes_context and converter.external_storage is None:
        return converter
    start = attempt.start
    execution = start.workflow_execution
    namespace = start.workflow_namespace or environment.namespace
    context = ActivitySerializationContext(
        namespace=namespace,
        workflow_id=execution.workflow_id,
        workflow_type=start.workflow_type.name,
        activity_type=start.activity_type.name,
        activity_id=start.activity_id,
        activity_task_queue=environment.task_queue,
        is_local=attempt.is_local,
    )
    converter = converter.with_context(context)
    if converter.external_storage is None:
        return converter
    target: StorageDriverWorkflowInfo | StorageDriverActivityInfo
    if execution.workflow_id:
        target = StorageDriverWorkflowInfo(
            id=execution.workflow_id,
            type=start.workflow_type.name or None,
            run_id=execution.run_id or None,
            namespace=namespace,
        )
    else:
        target = StorageDriverActivityInfo(
            id=start.activity_id or None,
            type=start.activity_type.name or None,
            run_id=start.activity_run_id or None,
            namespace=namespace,
        )
    return converter._with_store_context(StorageDriverStoreContext(target=target))


_SENT_BY_THE_WORKFLOW = frozenset(
    {
        "activity_task_scheduled_event_attributes",
        "start_child_workflow_execution_initiated_event_attributes",
        "signal_external_workflow_execution_initiated_event_attributes",
        "nexus_operation_scheduled_event_attributes",
        "workflow_properties_modified_event_attributes",
        "upsert_workflow_search_attributes_event_attributes",
        "workflow_execution_continued_as_new_event_attributes",
        "workflow_execution_completed_event_attributes",
        "workflow_execution_failed_event_attributes",
    }
)
"""Events whose payloads went out: workflow code never reads them, and who receives them decodes them."""


_ENDS_OF_CALLS = frozenset(
    {"nexus_operation_scheduled_event_attributes", "nexus_operation_completed_event_attributes"}
)
_ENDS = tuple(
    f"_{end}_event_attributes" for end in ("completed", "failed", "timed_out", "canceled", "terminated")
)
"""How events are called after which nothing more is heard of what was scheduled."""


def read_local_activity_names(details: Mapping[str, Payloads]) -> tuple[str, str] | None:
    """Return id and type of the local activity that a marker is about; None if it does not say."""
    try:
        noted = json.loads(details["data"].payloads[0].data)
        return str(noted["activity_id"]), str(noted["activity_type"])
    except (LookupError, ValueError, TypeError):
        return None


async def _in_order(jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
    try:
        for job in jobs:
            await job
    finally:
        for job in jobs:
            job.close()


class WorkflowPayloads:
    """The payloads of one run on their way in and out; knows for which activity or child each one is.

    Args:
        environment: Of the worker.
        workflow_id: Of the run.
        run_id: Of the run.
        workflow_type: Of the run.
    """

    def __init__(self, environment: Environment, workflow_id: str, run_id: str, workflow_type: str) -> None:
        self._environment = environment
        self._workflow_id = workflow_id
        self._workflow_type = workflow_type
        self._own = WorkflowSerializationContext(environment.namespace, workflow_id)
        self._storage_target = StorageDriverWorkflowInfo(
            id=workflow_id, type=workflow_type or None, run_id=run_id or None, namespace=environment.namespace
        )
        # Stores what the run returns: its parent reads it, also when only the parent is replayed.
        self._result_target = self._storage_target
        self.downloads = StorageOperationMetrics()
        self.uploads = StorageOperationMetrics()
        # Contexts of what was scheduled and has not ended, by the id of the event that scheduled it.
        self._by_event: dict[int, SerializationContext | None] = {}
        # Scheduled events of operations of the server's own endpoint that have not completed.
        self._system_calls: set[int] = set()
        # Results of local activities as they were encoded, by activity id, until their markers are written.
        self._local_results: dict[str, Payloads] = {}

    async def decoded_events(self, events: Sequence[HistoryEvent]) -> list[HistoryEvent]:
        """Return events with decoded payloads, copies where anything was decoded."""
        decoded = []
        jobs: list[Coroutine[Any, Any, None]] = []
        for event in events:
            context = self._context_of_event(event)
            kind = event.WhichOneof("attributes")
            is_plain = kind in _ENDS_OF_CALLS and self._is_of_a_system_call(event)
            if is_plain or kind in _SENT_BY_THE_WORKFLOW:
                decoded.append(event)
                continue
            copy = HistoryEvent()
            copy.CopyFrom(event)
            decoded.append(copy)
            if copy.HasField("marker_recorded_event_attributes"):
                jobs.append(self._transform_marker(copy.marker_recorded_event_attributes, is_inbound=True))
            else:
                jobs.append(self._transform(copy, context, is_inbound=True))
        await self._run_all(jobs)
        return decoded

    async def _run_all(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run jobs: a few at once where external storage takes its time, else one after the other.

        All of them end before the first error is raised.
        """
        environment = self._environment
        if environment.data_converter.external_storage is None:
            await _in_order(jobs)
            return
        limit = asyncio.Semaphore(environment.storage_concurrency)

        async def limited(job: Coroutine[Any, Any, None]) -> None:
            async with limit:
                await job

        ended = await asyncio.gather(*map(limited, jobs), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def decode(self, message: Message) -> None:
        """Decode the payloads of a query or update request, in place."""
        await self._transform(message, self._own, is_inbound=True)

    async def encode(self, message: Message) -> None:
        """Encode the payloads of a message that belongs to the workflow itself, in place."""
        await self._transform(message, self._own, is_inbound=False)

    async def decode_protocol_message(self, message: ProtocolMessage) -> None:
        """Decode the payloads of an update request, in place."""
        await self._transform_body(message, self.decode)

    def reset_metrics(self) -> None:
        """Begin to count anew what external storage does: the next task has begun."""
        self.downloads = StorageOperationMetrics()
        self.uploads = StorageOperationMetrics()

    async def encode_completion(self, completion: TaskCompletion) -> None:
        """Encode everything that a completed task says, in place."""
        jobs = self._jobs_of_commands(completion.commands)
        jobs += [self._transform_body(message, self.encode) for message in completion.messages]
        jobs += [self.encode(result) for result in completion.query_results.values()]
        if completion.legacy_query_result is not None:
            jobs.append(self.encode(completion.legacy_query_result))
        await self._run_all(jobs)

    async def _transform_body(
        self, message: ProtocolMessage, transform: Callable[[Message], Awaitable[None]]
    ) -> None:
        body_class = _BODIES.get(message.body.type_url.rpartition("/")[2])
        if body_class is None:
            return
        body = body_class()
        message.body.Unpack(body)
        await transform(body)
        message.body.Pack(body)

    async def encode_local(self, attributes: ScheduleActivityTaskCommandAttributes) -> None:
        """Encode the arguments of a local activity, in place: it decodes them like any other activity."""
        await self._transform(attributes, self._for_activity(attributes, is_local=True), is_inbound=False)

    async def decode_outcome(
        self, outcome: LocalActivityOutcome, attributes: ScheduleActivityTaskCommandAttributes
    ) -> None:
        """Decode how a local activity ended, in place; its marker gets the result as the activity encoded it."""
        context = self._for_activity(attributes, is_local=True)
        if outcome.result is not None:
            self._local_results[attributes.activity_id] = Payloads.FromString(
                outcome.result.SerializeToString()
            )
        for message in (outcome.result, outcome.failure):
            if message is not None:
                await self._transform(message, context, is_inbound=True)

    async def _transform_marker(self, marker: _Marker, *, is_inbound: bool) -> None:
        """Transform what a marker carries for the user; what workers note for themselves stays readable."""
        if marker.marker_name == PATCH_MARKER:
            return
        if marker.marker_name != LOCAL_ACTIVITY_MARKER:
            await self._transform(marker, self._own, is_inbound=is_inbound)
            return
        noted = read_local_activity_names(marker.details)
        context = self._own if noted is None else self._for_local(*noted)
        encoded = None if is_inbound or noted is None else self._local_results.pop(noted[0], None)
        if "result" in marker.details:
            if encoded is not None:
                marker.details["result"].CopyFrom(encoded)
            else:
                await self._transform(marker.details["result"], context, is_inbound=is_inbound)
        if marker.HasField("failure"):
            await self._transform(marker.failure, context, is_inbound=is_inbound)

    def _for_local(self, activity_id: str, activity_type: str) -> SerializationContext:
        return ActivitySerializationContext(
            namespace=self._environment.namespace,
            workflow_id=self._workflow_id,
            workflow_type=self._workflow_type,
            activity_type=activity_type,
            activity_id=activity_id,
            activity_task_queue=self._environment.task_queue,
            is_local=True,
        )

    async def encode_commands(self, commands: Iterable[Command]) -> None:
        """Encode the payloads of commands, in place, each for its receiver."""
        await self._run_all(self._jobs_of_commands(commands))

    def _jobs_of_commands(self, commands: Iterable[Command]) -> list[Coroutine[Any, Any, None]]:
        return [
            self._encode_marker_command(command)
            if command.HasField("record_marker_command_attributes")
            else self._encode_system_call(command)
            if command.schedule_nexus_operation_command_attributes.endpoint == _SYSTEM_ENDPOINT
            else self._transform(
                command,
                self._context_of_command(command),
                is_inbound=False,
                target=self._storage_target_of(command),
            )
            for command in commands
        ]

    async def _encode_system_call(self, command: Command) -> None:
        """Encode what a request to the server itself carries for a workflow; the server reads the request."""
        if command.HasField("user_metadata"):
            await self._transform(command.user_metadata, self._own, is_inbound=False)
        sent = command.schedule_nexus_operation_command_attributes.input
        request = SignalWithStartWorkflowExecutionRequest.FromString(sent.data)
        namespace, workflow_id = self._environment.namespace, request.workflow_id
        target = StorageDriverWorkflowInfo(
            id=workflow_id, type=request.workflow_type.name, run_id=None, namespace=namespace
        )
        context = WorkflowSerializationContext(namespace, workflow_id)
        await self._transform(request, context, is_inbound=False, target=target)
        sent.data = request.SerializeToString()

    def _is_of_a_system_call(self, event: HistoryEvent) -> bool:
        """Tell whether the server itself wrote, or reads, what an event carries: no codec has seen it."""
        scheduled = event.nexus_operation_scheduled_event_attributes
        if scheduled.endpoint == _SYSTEM_ENDPOINT:
            self._system_calls.add(event.event_id)
            return True
        completed = event.nexus_operation_completed_event_attributes
        if completed.scheduled_event_id not in self._system_calls:
            return False
        self._system_calls.discard(completed.scheduled_event_id)
        return True

    async def _encode_marker_command(self, command: Command) -> None:
        """Encode what a marker holds, and the words for user interfaces that come with it."""
        await self._transform_marker(command.record_marker_command_attributes, is_inbound=False)
        if command.HasField("user_metadata"):
            await self._transform(command.user_metadata, self._own, is_inbound=False)
        for group in command.event_group_markers:
            await self._transform(group, self._own, is_inbound=False)

    def _storage_target_of(self, command: Command) -> StorageDriverWorkflowInfo:
        """Return the workflow that what a command carries is stored for: the one that will read it."""
        kind = command.WhichOneof("attributes")
        if kind == "start_child_workflow_execution_command_attributes":
            child = command.start_child_workflow_execution_command_attributes
            return StorageDriverWorkflowInfo(
                id=child.workflow_id,
                type=child.workflow_type.name or None,
                namespace=self._environment.namespace,
            )
        if kind == "signal_external_workflow_execution_command_attributes":
            receiver = command.signal_external_workflow_execution_command_attributes.execution
            return StorageDriverWorkflowInfo(id=receiver.workflow_id, namespace=self._environment.namespace)
        if kind == "complete_workflow_execution_command_attributes":
            return self._result_target
        return self._storage_target

    async def _transform(
        self,
        message: Message,
        context: SerializationContext | None,
        *,
        is_inbound: bool,
        target: StorageDriverWorkflowInfo | None = None,
    ) -> None:
        converter = self._environment.data_converter
        if context is not None:
            converter = converter.with_context(context)
        converter = converter._with_store_context(
            StorageDriverStoreContext(target=target or self._storage_target)
        )

        async def inbound(payloads: Sequence[Payload]) -> list[Payload]:
            retrieved = await converter._external_retrieve_payload_sequence(payloads)
            return list(await converter._decode_payload_sequence(retrieved))

        async def outbound(payloads: Sequence[Payload]) -> list[Payload]:
            encoded = await converter._encode_payload_sequence(payloads)
            return list(await converter._external_store_payload_sequence(encoded))

        await transform_payloads(
            message,
            inbound if is_inbound else outbound,
            with_headers=self._environment.encode_workflow_headers,
        )

    def _context_of_event(self, event: HistoryEvent) -> SerializationContext | None:
        kind = event.WhichOneof("attributes")
        if kind is None:
            return self._own
        attributes: Any = getattr(event, kind)
        if kind == "workflow_execution_started_event_attributes":
            parent = attributes.parent_workflow_execution
            if parent.workflow_id and not attributes.continued_execution_run_id:
                self._result_target = StorageDriverWorkflowInfo(
                    id=parent.workflow_id,
                    run_id=parent.run_id or None,
                    namespace=attributes.parent_workflow_namespace or self._environment.namespace,
                )
            return self._own
        if kind == "activity_task_scheduled_event_attributes":
            context = self._for_activity(attributes)
            self._by_event[event.event_id] = context
            return context
        if kind == "start_child_workflow_execution_initiated_event_attributes":
            context = WorkflowSerializationContext(self._environment.namespace, attributes.workflow_id)
            self._by_event[event.event_id] = context
            return context
        if kind == "nexus_operation_scheduled_event_attributes":
            return self._by_event.setdefault(event.event_id, _for_operation(attributes))
        scheduled_id = getattr(attributes, "scheduled_event_id", 0) or getattr(
            attributes, "initiated_event_id", 0
        )
        if not scheduled_id:
            return self._own
        # A request to cancel, and how that went, come before the end.
        is_end = kind.endswith(_ENDS) and "_cancel_request_" not in kind
        take = self._by_event.pop if is_end else self._by_event.get
        return take(scheduled_id, self._own)

    def _for_activity(self, attributes: Any, *, is_local: bool = False) -> SerializationContext:
        return ActivitySerializationContext(
            namespace=self._environment.namespace,
            workflow_id=self._workflow_id,
            workflow_type=self._workflow_type,
            activity_type=attributes.activity_type.name,
            activity_id=attributes.activity_id,
            activity_task_queue=attributes.task_queue.name or self._environment.task_queue,
            is_local=is_local,
        )

    def _context_of_command(self, command: Command) -> SerializationContext | None:
        kind = command.WhichOneof("attributes")
        if kind == "schedule_nexus_operation_command_attributes":
            return _for_operation(command.schedule_nexus_operation_command_attributes)
        if kind == "schedule_activity_task_command_attributes":
            return self._for_activity(command.schedule_activity_task_command_attributes)
        if kind == "start_child_workflow_execution_command_attributes":
            child = command.start_child_workflow_execution_command_attributes
            return WorkflowSerializationContext(
                child.namespace or self._environment.namespace, child.workflow_id
            )
        if kind == "signal_external_workflow_execution_command_attributes":
            signal = command.signal_external_workflow_execution_command_attributes
            return WorkflowSerializationContext(
                signal.namespace or self._environment.namespace, signal.execution.workflow_id
            )
        return self._own


def _for_operation(attributes: Any) -> SerializationContext | None:
    """Return the context of a Nexus operation; what the server itself serves has none."""
    if attributes.endpoint == _SYSTEM_ENDPOINT:
        return None
    return NexusSerializationContext(attributes.endpoint, attributes.service, attributes.operation)
