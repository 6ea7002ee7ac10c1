"""Wire messages as plain data in which two servers that behave the same write the same.

What differs from run to run by nature (times, random ids, tokens, sizes) becomes a placeholder, so that its presence
is still compared; every other set field is kept. Random ids are numbered in the order in which a scenario first shows
them: two fields that must hold the same id still must. Lists whose order nobody promises are sorted.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.support.proto import AnyMessage, Duration, Timestamp
from tests.support.rpc import RpcError

Data = Any  # None, bool, int, float, str, list[Data] or dict[str, Data]

# With dashes, or without as the Python SDK writes them into queue names.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")

# Fields (by name, in any message) whose value says nothing about behaviour: replaced when set.
PLACEHOLDERS = {
    "task_id": "<task id>",
    "task_token": "<token>",
    "next_page_token": "<token>",
    "long_poll_token": "<token>",
    "state_size_bytes": "<size>",
    "history_size_bytes": "<size>",
    "poller_group_id": "<poller group>",
    "execution_duration": "<duration>",
}

# The same for fields that are placeholders only in one message: the id a server gives its own start of a task.
QUALIFIED_PLACEHOLDERS = {
    "WorkflowTaskStartedEventAttributes.request_id": "<request id>",
    "ActivityTaskStartedEventAttributes.request_id": "<request id>",
}

# Durations computed from two clock readings: compared to the tenth of a second.
MEASURED_DURATIONS = frozenset({"current_retry_interval"})

# Lists in which the SDK keeps a set: their order is its hash order.
SET_FIELDS = frozenset({"core_used_flags", "lang_used_flags"})

_IN_A_MAP = "the official server keeps them in a map of its memory, and lists that as it comes"
_BY_RANDOM_ID = "the official server lists them by an id that it gave by chance"
_GROUPED = "the groups come as the store finds them"
_POLLERS = "pollers stand in the order of their last polls, which may be under way at once"

# Lists in no order that anybody promises, and why: sorted by what is in them. All others are compared as they are.
UNORDERED_LISTS: dict[str, str] = {
    "ActivityExecutionInfo.links": _IN_A_MAP,
    "CountActivityExecutionsResponse.groups": _GROUPED,
    "CountNexusOperationExecutionsResponse.groups": _GROUPED,
    "CountSchedulesResponse.groups": _GROUPED,
    "CountWorkflowExecutionsResponse.groups": _GROUPED,
    "DescribeActivityExecutionResponse.callbacks": _IN_A_MAP,
    "DescribeTaskQueueResponse.pollers": _POLLERS,
    "DescribeWorkerDeploymentVersionResponse.version_task_queues": _IN_A_MAP,
    "DescribeWorkflowExecutionResponse.callbacks": _IN_A_MAP,
    "DescribeWorkflowExecutionResponse.pending_activities": _IN_A_MAP,
    "DescribeWorkflowExecutionResponse.pending_children": _IN_A_MAP,
    "DescribeWorkflowExecutionResponse.pending_nexus_operations": _IN_A_MAP,
    "ListNamespacesResponse.namespaces": _BY_RANDOM_ID,
    "ListNexusEndpointsResponse.endpoints": _BY_RANDOM_ID,
    "ListWorkersResponse.workers": _IN_A_MAP,
    "ListWorkersResponse.workers_info": _IN_A_MAP,
    "TaskQueueTypeInfo.pollers": _POLLERS,
    "WorkerDeploymentVersionInfo.task_queue_infos": _IN_A_MAP,
}

# Fields that hold advice computed from load at the moment: their presence is a matter of timing.
IGNORED_FIELDS = frozenset({"poller_scaling_decision"})


class Normaliser:
    """Turns messages and errors of one scenario run into comparable data.

    Args:
        run_token: the random suffix this run put on its ids; it is cut out wherever it shows.
    """

    def __init__(self, run_token: str) -> None:
        self._suffix = f"-{run_token}"
        self._ids: dict[str, str] = {}

    def text(self, value: str) -> str:
        """A string with the run's suffix removed and each random id replaced by its number."""
        return _UUID.sub(self._numbered, value.replace(self._suffix, ""))

    def _numbered(self, match: re.Match[str]) -> str:
        return self._ids.setdefault(match[0], f"<id {len(self._ids) + 1}>")

    def data(self, value: Any) -> Data:
        """Plain data for anything a scenario may record: messages, errors, containers, scalars."""
        match value:
            case RpcError():
                return {
                    "error": value.code,
                    "message": self.text(value.message),
                    "details": [self._typed(detail) for detail in value.details],
                }
            case Message():
                return self._message(value)
            case bytes():
                return self._bytes(value)
            case str():
                return self.text(value)
            case list() | tuple():
                return [self.data(item) for item in value]
            case dict():
                return {self.text(str(key)): self.data(item) for key, item in value.items()}
            case None | bool() | int() | float():
                return value
        raise TypeError(f"cannot record a {type(value).__name__}")

    def _bytes(self, value: bytes) -> str:
        try:
            return self.text(value.decode())
        except UnicodeDecodeError:
            return "hex " + value.hex()

    def _typed(self, message: Message) -> Data:
        return {"@type": message.DESCRIPTOR.name, **cast("dict[str, Data]", self._message(message))}

    def _message(self, message: Message) -> Data:
        full_name = message.DESCRIPTOR.full_name
        if full_name == Timestamp.DESCRIPTOR.full_name:
            return _time(cast(Timestamp, message))
        if full_name == Duration.DESCRIPTOR.full_name:
            return duration_text(cast(Duration, message))
        if full_name == AnyMessage.DESCRIPTOR.full_name:
            packed = cast(AnyMessage, message)
            return {"@type": packed.type_url, "value": self._bytes(packed.value)}
        result: dict[str, Data] = {}
        for field, value in message.ListFields():
            if field.name not in IGNORED_FIELDS:
                result[field.name] = self._field(field, value)
        return result

    def _field(self, field: FieldDescriptor, value: Any) -> Data:
        if field.name in PLACEHOLDERS:
            return PLACEHOLDERS[field.name]
        owner = field.containing_type
        qualified = f"{owner.name}.{field.name}" if owner is not None else field.name
        if qualified in QUALIFIED_PLACEHOLDERS:
            return QUALIFIED_PLACEHOLDERS[qualified]
        if field.name in MEASURED_DURATIONS:
            return f"{value.seconds + value.nanos / 1_000_000_000:.1f}s"
        map_entry = field.message_type
        if map_entry is not None and map_entry.GetOptions().map_entry:
            value_field = map_entry.fields_by_name["value"]
            keys = sorted(value, key=lambda key: self._sort_key(str(key), value_field, value[key]))
            return {self.text(str(key)): self._scalar(value_field, value[key]) for key in keys}
        if qualified in UNORDERED_LISTS:
            value = sorted(value, key=lambda item: self._sort_key("", field, item))
        if field.name in SET_FIELDS:
            return sorted(value)
        if field.is_repeated:
            return [self._scalar(field, item) for item in value]
        return self._scalar(field, value)

    def _sort_key(self, key: str, field: FieldDescriptor, value: Any) -> tuple[str, str]:
        """Where an entry of a map or an unordered list stands: by what will be recorded of it.

        Ids that were not shown before count for nothing, as their numbers follow from the order.
        """
        masked = _Masked(self)
        return masked.text(key), json.dumps(masked._scalar(field, value))

    def _scalar(self, field: FieldDescriptor, value: Any) -> Data:
        if field.enum_type is not None:
            known = field.enum_type.values_by_number.get(value)
            return known.name if known is not None else f"<unknown enum {value}>"
        return self.data(value)


class _Masked(Normaliser):
    """A normaliser that knows the ids of another and gives no new numbers."""

    def __init__(self, knows: Normaliser) -> None:
        self._suffix = knows._suffix
        self._ids = knows._ids

    def _numbered(self, match: re.Match[str]) -> str:
        return self._ids.get(match[0], "<new id>")


def _time(value: Timestamp) -> str:
    return "<time>" if value.seconds > 0 else "<zero time>"


def duration_text(value: Duration) -> str:
    """A duration as seconds, the way people write it: 10s, 1.5s."""
    return f"{value.seconds + value.nanos / 1_000_000_000:.9f}".rstrip("0").rstrip(".") + "s"
