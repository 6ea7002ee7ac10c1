"""What a waiting poll is answered with: a started task, or a question to a workflow. Records only."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from perdure.api.history.v1 import HistoryEvent
from perdure.api.nexus.v1 import Request
from perdure.api.protocol.v1 import Message
from perdure.api.query.v1 import WorkflowQuery
from perdure.core.activity.state import ActivityRun
from perdure.core.run.records import QueueKey, RunKey
from perdure.core.run.state import Activity, RunHeader


class WorkflowTaskDelivery(msgspec.Struct, frozen=True):
    """A started workflow task.

    Attributes:
        run: whose.
        header: the run as committed with the start; never changed afterwards.
        queue: where it was delivered.
        partial_history: the worker has the run in its cache: send only what it has not seen.
        transient_events: Scheduled and Started events that are not in the history (a transient task).
        queries: questions to answer with the task, by id.
        messages: updates to look at after the events.
        committing: the commit of its start, if it is handed over before that is durable.
    """

    run: RunKey
    header: RunHeader
    queue: QueueKey
    partial_history: bool
    transient_events: tuple[HistoryEvent, ...]
    queries: dict[str, WorkflowQuery]
    messages: tuple[Message, ...] = ()
    committing: asyncio.Future[None] | None = None

    @property
    def was_lost(self) -> bool:
        """Whether its start was handed over and then not committed: it never happened."""
        committing = self.committing
        if committing is None or not committing.done():
            return False
        return committing.cancelled() or committing.exception() is not None

    @property
    def expires_ns(self) -> int:
        """After this the task has timed out and is not worth delivering."""
        return self.header.task_started_ns + self.header.task_timeout_ns


class ActivityDelivery(msgspec.Struct, frozen=True):
    """A started activity attempt. `scheduled_event` is None when it must be read from the history."""

    run: RunKey
    header: RunHeader
    queue: QueueKey
    activity: Activity
    scheduled_event: HistoryEvent | None

    @property
    def expires_ns(self) -> int:
        """After this the attempt has timed out; 0 when it never does."""
        activity = self.activity
        return activity.started_ns + activity.start_to_close_ns if activity.start_to_close_ns else 0


class StandaloneActivityDelivery(msgspec.Struct, frozen=True):
    """A started attempt of a standalone activity; `state` is never changed."""

    state: ActivityRun
    queue: QueueKey

    @property
    def expires_ns(self) -> int:
        """After this the attempt has timed out; 0 when it never does."""
        attempt = self.state.header.attempt
        return attempt.started_ns + attempt.start_to_close_ns if attempt.start_to_close_ns else 0


class QueryDelivery(msgspec.Struct, frozen=True):
    """A question to a workflow, asked outside of a workflow task. Nobody waits any more once `answer` is done."""

    run: RunKey
    header: RunHeader
    queue: QueueKey
    partial_history: bool
    query_id: str
    query: WorkflowQuery
    expires_ns: int
    answer: asyncio.Future[Any] | None = None


class NexusDelivery(msgspec.Struct, frozen=True):
    """A request to a Nexus handler. Whoever made it waits for the answer, and withdraws it when its time is over.

    Attributes:
        queue: where handlers poll.
        task_id: names it while somebody waits for its answer.
        request: what is asked; headers that say how much time is left are added when it is handed over.
        deadline_s, operation_deadline_s: until when the request, and the operation if it is limited, may take; in the
            time of the event loop, 0 for no limit.
        answer: nobody waits any more once this is done.
    """

    queue: QueueKey
    task_id: str
    request: Request
    deadline_s: float
    operation_deadline_s: float = 0.0
    expires_ns: int = 0
    answer: asyncio.Future[Any] | None = None


Delivery = (
    WorkflowTaskDelivery | ActivityDelivery | StandaloneActivityDelivery | QueryDelivery | NexusDelivery
)


def is_wanted(item: object) -> bool:
    """False for a question whose asker is gone, or has its answer: it must not be handed out (again)."""
    if isinstance(item, (QueryDelivery, NexusDelivery)):
        return item.answer is None or not item.answer.done()
    return True
