"""What protobuf costs for typical messages: a start request and a history of ten events."""

from __future__ import annotations

import timeit
from collections.abc import Callable

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueResponse, StartWorkflowExecutionRequest

LOOPS = 20_000


def start_request() -> StartWorkflowExecutionRequest:
    """A start request as the official SDK sends it: one JSON payload, timeouts unset, an identity."""
    request = StartWorkflowExecutionRequest(
        namespace="default", workflow_id="bench-0000000001", identity="1234@machine", request_id="0" * 36
    )
    request.workflow_type.name = "Order"
    request.task_queue.name = "bench"
    payload = request.input.payloads.add(data=b'{"order":"A-1","amount":125}')
    payload.metadata["encoding"] = b"json/plain"
    request.workflow_task_timeout.seconds = 10
    return request


def history() -> History:
    """The first ten events of a run with one activity, with plausible attributes."""
    result = History()
    kinds = [
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    ]
    for number, kind in enumerate(kinds, start=1):
        result.events.append(history_event(number, kind))
    return result


def history_event(number: int, kind: EventType.ValueType) -> HistoryEvent:
    """One event of `kind` with the attributes that make up its usual size."""
    event = HistoryEvent(event_id=number, event_type=kind, task_id=1_048_576 + number)
    event.event_time.FromNanoseconds(1_700_000_000_123_456_789)
    if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
        started = event.workflow_execution_started_event_attributes
        started.workflow_type.name, started.task_queue.name = "Order", "bench"
        started.input.CopyFrom(start_request().input)
        started.original_execution_run_id = started.first_execution_run_id = "0" * 36
        started.identity, started.attempt, started.workflow_id = "1234@machine", 1, "bench-0000000001"
    elif kind == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
        scheduled = event.workflow_task_scheduled_event_attributes
        scheduled.task_queue.name, scheduled.attempt = "bench", 1
        scheduled.start_to_close_timeout.seconds = 10
    elif kind == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
        task = event.workflow_task_started_event_attributes
        task.scheduled_event_id, task.identity, task.request_id = number - 1, "1234@machine", "0" * 36
    elif kind == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
        completed = event.workflow_task_completed_event_attributes
        completed.scheduled_event_id, completed.started_event_id = number - 2, number - 1
        completed.identity = "1234@machine"
    elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
        activity = event.activity_task_scheduled_event_attributes
        activity.activity_id, activity.activity_type.name, activity.task_queue.name = "1", "charge", "bench"
        activity.input.CopyFrom(start_request().input)
        activity.start_to_close_timeout.seconds, activity.retry_policy.backoff_coefficient = 10, 2.0
    elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
        begun = event.activity_task_started_event_attributes
        begun.scheduled_event_id, begun.identity, begun.request_id, begun.attempt = (
            5,
            "1234@machine",
            "0" * 36,
            1,
        )
    elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        ended = event.activity_task_completed_event_attributes
        ended.result.CopyFrom(start_request().input)
        ended.scheduled_event_id, ended.started_event_id, ended.identity = 5, 6, "1234@machine"
    return event


def main() -> None:
    """Print µs per operation for each message."""
    request, events = start_request(), history()
    request_bytes, event_bytes = request.SerializeToString(), events.SerializeToString()
    each = [event.SerializeToString() for event in events.events]
    poll = PollWorkflowTaskQueueResponse(task_token=b"t" * 60, history=events)
    poll_bytes = poll.SerializeToString()

    def raw_history() -> bytes:
        """Join stored event bytes without parsing them: tag 0x0a, varint length, body."""
        parts: list[bytes] = []
        for body in each:
            size = len(body)
            parts.append(bytes((0x0A, size)) if size < 128 else bytes((0x0A, size & 0x7F | 0x80, size >> 7)))
            parts.append(body)
        return b"".join(parts)

    if raw_history() != event_bytes:
        raise SystemExit("joined event bytes differ from the serialised history")
    cases: dict[str, Callable[[], object]] = {
        f"parse start request ({len(request_bytes)} B)": lambda: StartWorkflowExecutionRequest.FromString(
            request_bytes
        ),
        "serialise start request": request.SerializeToString,
        "build + serialise start request": lambda: start_request().SerializeToString(),
        f"parse 10-event history ({len(event_bytes)} B)": lambda: History.FromString(event_bytes),
        "serialise 10-event history": events.SerializeToString,
        "build 10-event history": history,
        "build one event (activity scheduled)": lambda: history_event(
            5, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ),
        "copy 10-event history into a message": lambda: PollWorkflowTaskQueueResponse(history=events),
        "parse 10 events one by one": lambda: [HistoryEvent.FromString(body) for body in each],
        "join 10 serialised events as bytes": raw_history,
        f"parse poll response ({len(poll_bytes)} B)": lambda: PollWorkflowTaskQueueResponse.FromString(
            poll_bytes
        ),
        "read 5 scalar fields of a start request": lambda: (
            request.namespace,
            request.workflow_id,
            request.request_id,
            request.workflow_type.name,
            request.identity,
        ),
    }
    for name, action in cases.items():
        best_s = min(timeit.repeat(action, number=LOOPS // 4, repeat=4)) / (LOOPS // 4)
        print(f"{name:<45} {best_s * 1e6:8.2f} us")


if __name__ == "__main__":
    main()
