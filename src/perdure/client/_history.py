"""Event histories: fetching them, and reading and writing them as JSON.

May live here: a history as a value. May not: what its events mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from perdure.api.common import v1 as common_api
from perdure.api.enums import v1 as enums
from perdure.api.history import v1 as history_api
from perdure.api.workflowservice import v1 as service_api
from perdure.client._pages import PageIterator
from perdure.client._wire import enum_value
from perdure.core.invariant import invariant

if TYPE_CHECKING:
    from perdure.client._client import Client
    from perdure.client._inputs_workflow import FetchWorkflowHistoryEventsInput


class WorkflowHistoryEventFilterType(IntEnum):
    """Which events of a history are given."""

    ALL_EVENT = int(enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
    """All of them."""
    CLOSE_EVENT = int(enums.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
    """Only the one that closed the run."""


class WorkflowHistoryEventAsyncIterator(PageIterator["history_api.HistoryEvent"]):
    """The events of a run, asked for page by page. Made by `WorkflowHandle.fetch_history_events`."""

    def __init__(self, client: Client, input: FetchWorkflowHistoryEventsInput) -> None:
        super().__init__(input.page_size or 0, input.next_page_token)
        self._client = client
        self._input = input

    async def _fetch(self, page_size: int, token: bytes) -> tuple[Sequence[history_api.HistoryEvent], bytes]:
        asked = self._input
        response = await self._client.workflow_service.get_workflow_execution_history(
            service_api.GetWorkflowExecutionHistoryRequest(
                namespace=self._client.namespace,
                execution=common_api.WorkflowExecution(workflow_id=asked.id, run_id=asked.run_id or ""),
                maximum_page_size=page_size,
                next_page_token=token,
                wait_new_event=asked.wait_new_event,
                history_event_filter_type=enum_value(asked.event_filter_type),
                skip_archival=asked.skip_archival,
            ),
            retry=True,
            metadata=asked.rpc_metadata,
            timeout=asked.rpc_timeout,
        )
        invariant(not response.raw_history, "a server sends events, not raw history, unless asked")
        return list(response.history.events), response.next_page_token


@dataclass(frozen=True)
class WorkflowHistory:
    """A workflow's id and the events of one of its runs."""

    workflow_id: str
    """The workflow's id."""

    events: Sequence[history_api.HistoryEvent]
    """The events, oldest first."""

    @property
    def run_id(self) -> str:
        """The run's id, taken from the first event.

        Raises:
            RuntimeError: There are no events, or they do not begin with the workflow's start.
        """
        if not self.events:
            raise RuntimeError("No events")
        started = self.events[0]
        if not started.HasField("workflow_execution_started_event_attributes"):
            raise RuntimeError("First event is not workflow start")
        return started.workflow_execution_started_event_attributes.original_execution_run_id

    @staticmethod
    def from_json(workflow_id: str, history: str | dict[str, Any]) -> WorkflowHistory:
        """Read a history from JSON as the command line, the web UI or `to_json` write it.

        Args:
            workflow_id: The workflow's id, which the JSON does not have.
            history: The JSON as text, or what `json.loads` made of it (which is not changed).

        Raises:
            ValueError: It is not a history.
        """
        return WorkflowHistory(workflow_id, _history_from_json(history).events)

    def to_json(self) -> str:
        """Return the history as JSON text; `from_json` reads it."""
        from google.protobuf import json_format

        return json_format.MessageToJson(history_api.History(events=self.events))

    def to_json_dict(self) -> dict[str, Any]:
        """Return the history as a dictionary of JSON values; `from_json` reads it."""
        from google.protobuf import json_format

        return json_format.MessageToDict(history_api.History(events=self.events))


def _history_from_json(history: str | dict[str, Any]) -> history_api.History:
    """Read a history from JSON in any of the spellings that tools use for enums.

    Raises:
        ValueError: It is not a history.
    """
    try:
        return _read_history(history)
    # Fields of a wrong kind deep inside end in any of these.
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"The JSON is not a workflow history: {error}") from error


def _read_history(history: str | dict[str, Any]) -> history_api.History:
    from google.protobuf import json_format

    text = history if isinstance(history, str) else json.dumps(history)
    parsed = json.loads(text)
    if _HALF.search(text):
        json.dumps(parsed, ensure_ascii=False).encode()  # no message can hold half a character
    if not isinstance(parsed, dict):
        raise ValueError("JSON history not a dictionary")
    events = parsed.get("events")
    if not isinstance(events, Iterable):
        raise ValueError("History does not have iterable 'events'")
    for event in events:
        if not isinstance(event, dict):
            raise ValueError("Event not a dictionary")
    _fix_history_message(parsed, history_api.History.DESCRIPTOR)
    try:
        return json_format.ParseDict(parsed, history_api.History(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(f"The JSON is not a workflow history: {error}") from error


_HALF = re.compile(r"\\u[dD][89A-Fa-f]|[\ud800-\udfff]")
"""Halves of characters, which belong in pairs; looked up in a descriptor, one alone ends in a `SystemError`."""
_pascal_case_match = re.compile("([A-Z]+)")


def _fix_history_message(data: dict[str, Any], descriptor: Descriptor) -> None:
    """Give all enums in the JSON form of a message their full names, in place."""
    for key, value in data.items():
        field = descriptor.fields_by_camelcase_name.get(key) or descriptor.fields_by_name.get(key)
        if field is not None:
            data[key] = _fix_history_field(value, field)


def _fix_history_field(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, list):
        return [_fix_history_field(item, field) for item in value]
    if field.enum_type is not None and isinstance(value, str):
        return _fix_history_enum(value, field.enum_type)
    if field.message_type is not None and isinstance(value, dict):
        if field.message_type.GetOptions().map_entry:
            value_field = field.message_type.fields_by_name["value"]
            return {key: _fix_history_field(item, value_field) for key, item in value.items()}
        _fix_history_message(value, field.message_type)
    return value


def _fix_history_enum(name: str, enum: EnumDescriptor) -> str:
    """Return the full name of an enum's value: `EVENT_TYPE_TIMER_STARTED` for `TimerStarted`."""
    if name in enum.values_by_name:
        return name
    prefix = _pascal_case_match.sub(r"_\1", enum.name).upper().lstrip("_")
    return prefix + _pascal_case_match.sub(r"_\1", name).upper()
