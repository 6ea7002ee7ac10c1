"""Loading histories: the pages that follow a polled task, or a whole history when the cache does not have the run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
    PollWorkflowTaskQueueResponse,
)
from perdure.worker._calls import CALL_TIMEOUT, call_until

if TYPE_CHECKING:
    from perdure.worker._environment import Environment


async def task_events(
    environment: Environment, task: PollWorkflowTaskQueueResponse, until_s: float
) -> list[HistoryEvent]:
    """Return all events that come with a task, its further pages included.

    Args:
        environment: Of the worker.
        task: As polled.
        until_s: Until when, on the monotonic clock, failed calls are repeated.

    Raises:
        RPCError: A page cannot be had.
    """
    events = list(task.history.events)
    token = task.next_page_token
    while token:
        page = await _page(environment, task, token, until_s)
        events.extend(page.history.events)
        token = page.next_page_token
    return events


async def whole_history(
    environment: Environment,
    task: PollWorkflowTaskQueueResponse,
    tail: list[HistoryEvent],
    until_s: float,
) -> list[HistoryEvent]:
    """Return a run's events from the first to the last one of a task.

    Args:
        environment: Of the worker.
        task: As polled.
        tail: The task's own events: the server does not store all of them before the task completes.
        until_s: Until when, on the monotonic clock, failed calls are repeated.

    Raises:
        RPCError: A page cannot be had.
    """
    before_id = tail[0].event_id if tail else None
    last_id = task.started_event_id or None
    events: list[HistoryEvent] = []
    token = b""
    while True:
        page = await _page(environment, task, token, until_s)
        for event in page.history.events:
            if before_id is not None and event.event_id >= before_id:
                return events + tail
            if before_id is None and last_id is not None and event.event_id > last_id:
                return events
            events.append(event)
        token = page.next_page_token
        if not token:
            return events + tail


async def _page(
    environment: Environment, task: PollWorkflowTaskQueueResponse, token: bytes, until_s: float
) -> GetWorkflowExecutionHistoryResponse:
    request = GetWorkflowExecutionHistoryRequest(
        namespace=environment.namespace, execution=task.workflow_execution, next_page_token=token
    )
    response: GetWorkflowExecutionHistoryResponse = await call_until(
        max(until_s, time.monotonic()),
        lambda: environment.service.get_workflow_execution_history(request, timeout=CALL_TIMEOUT),
        "Reading a history",
    )
    return response
