"""What one transition of a run leaves behind, as plain records: the language between core, stores and engine.

Records only: no behaviour, no protobuf objects (events and items travel as bytes), nothing of any store.
All times are integers of nanoseconds since the Unix epoch (`*_ns`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec


class Text(str):
    """The value of a Text attribute: found by its words, where any other string is found as a whole."""

    __slots__ = ()


AttributeValue = bool | int | float | str | list[str]
"""A search attribute's value as queries see it; datetimes are nanoseconds since the epoch, Text is marked as such,
and floats are finite."""


class RunKind(IntEnum):
    """What a run is of. Each kind has ids, current runs and lists of its own."""

    WORKFLOW = 0
    ACTIVITY = 1
    """Of an activity that no workflow scheduled. It has no history."""
    NEXUS_OPERATION = 2
    """Of a Nexus operation that no workflow scheduled. It has no history."""


class RunKey(NamedTuple):
    """Names one run. The namespace is its id (a UUID), not its name."""

    namespace_id: str
    workflow_id: str
    """The activity's or operation's id if that is what the run is of."""
    run_id: str
    kind: RunKind = RunKind.WORKFLOW


class TaskKind(IntEnum):
    """What a task in a task queue asks a worker to do; numbers as in temporal.api.enums.v1.TaskQueueType."""

    WORKFLOW = 1
    ACTIVITY = 2
    NEXUS = 3
    """Of these no task is ever stored: they are questions to whoever polls."""


class QueueKey(NamedTuple):
    """Names one task queue of one kind. Sticky queues are queues like any other: their names are unique."""

    namespace_id: str
    name: str
    kind: TaskKind


class TaskKey(NamedTuple):
    """Names one pending task of a run: at most one exists per run, kind and scheduled event."""

    kind: TaskKind
    scheduled_event_id: int


class Task(msgspec.Struct, frozen=True, gc=False):
    """A task waiting for a worker. Exists exactly as long as its run's state says 'scheduled, not started'."""

    run: RunKey
    key: TaskKey
    queue: QueueKey
    enqueued_ns: int
    priority_key: int = 0
    """1 (most urgent) to 5; 0 means the default, 3."""
    sticky: bool = False
    """True when `queue` is a worker's own sticky queue."""
    delivery_id: str = ""
    """Which dispatch of the task this is (run-unique); a start that names another dispatch is stale."""
    fairness_key: str = ""
    fairness_weight: float = 0.0
    """As it was given; 0: not."""
    place: int = 0
    """Its turn among the tasks of its priority, given when its row is made: in the order of places, then of arrival."""


class EventBatch(msgspec.Struct, frozen=True, gc=False):
    """Consecutive events of one run, written together.

    `data` is a serialised `temporal.api.history.v1.History`; the concatenation of consecutive batches' data is a valid
    serialised History of all their events.
    """

    first_event_id: int
    last_event_id: int
    data: bytes


class ItemChange(msgspec.Struct, frozen=True, gc=False):
    """One piece of a run's state beside its header: written when `data` is bytes, deleted when None.

    `kind` names the primitive that owns it ("activity", "timer", "buffered", "signal", "memo", ...).
    """

    kind: str
    key: str
    data: bytes | None


class VisibilityRecord(msgspec.Struct, frozen=True, gc=False):
    """A run as lists show it."""

    workflow_type: str
    task_queue: str
    status: int
    start_time_ns: int
    execution_time_ns: int
    close_time_ns: int | None
    history_length: int
    history_size_bytes: int
    state_transition_count: int
    parent_workflow_id: str | None
    parent_run_id: str | None
    root_workflow_id: str
    root_run_id: str
    memo: bytes
    """Serialised temporal.api.common.v1.Memo."""
    search_attributes: bytes
    """Serialised temporal.api.common.v1.SearchAttributes, as the client gave them."""
    attributes: dict[str, AttributeValue]
    """The search attributes decoded, custom and predefined, for filters."""


class RunWrite(msgspec.Struct, frozen=True, gc=False):
    """Everything one transition changes of one run; written whole or not at all."""

    run: RunKey
    expected_version: int
    """The version the transition was computed from; 0 means the run must not exist. It becomes this + 1."""
    status: int
    """temporal.api.enums.v1.WorkflowExecutionStatus number."""
    header: bytes
    """The run's encoded state without its items."""
    wakeup_ns: int | None
    """When the run must be looked at again at the latest (timers, timeouts; for a closed run: the end of retention)."""
    events: tuple[EventBatch, ...] = ()
    items: tuple[ItemChange, ...] = ()
    tasks_put: tuple[Task, ...] = ()
    tasks_deleted: tuple[TaskKey, ...] = ()
    visibility: VisibilityRecord | None = None
    """Set when what lists show changed."""
    becomes_current: bool = False
    """The run becomes its workflow id's current run..."""
    expected_current_run_id: str | None = None
    """...in the place of this one (None: the workflow id must have no current run)."""
    start_request_id: str = ""
    """Set with `becomes_current`: the request that started the run, for answers to a repeated start."""
    first_run_id: str = ""
    """Set with `becomes_current`: the first run of the chain."""
    history_size_bytes: int = 0
    transition_count: int = 0
    """With the size, what filters see of a run that is open; a closed one has its list row."""
