"""The model: what happened in a run, as items with segments of time. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What an item is."""

    TASK = "workflow task"
    ACTIVITY = "activity"
    LOCAL = "local activity"
    TIMER = "timer"
    CHILD = "child workflow"
    NEXUS = "nexus operation"
    UPDATE = "update"
    SIGNAL = "signal"
    EXTERNAL = "other workflow"
    MARKER = "marker"
    LIFE = "workflow"


class State(StrEnum):
    """How an item stands."""

    OPEN = "open"
    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    CANCELED = "canceled"

    @property
    def is_bad(self) -> bool:
        """Whether it ended without what was wanted of it."""
        return self in (State.FAILED, State.TIMED_OUT)


class Phase(StrEnum):
    """What a segment of an item's time was."""

    WAIT = "waiting for a worker"
    ATTEMPT = "attempt"
    BACKOFF = "waiting for the next attempt"
    RUN = "running"
    SLEEP = "waiting"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an item's time.

    Attributes:
        phase: what it was.
        start_ns, end_ns: nanoseconds since the epoch; `end_ns` is None while it lasts.
        attempt: number of the attempt it belongs to; 0 without attempts.
        state: how it ended.
        failure: what went wrong in it, in words.
        is_estimated: the history does not say when it was; the times follow from the retry policy.
    """

    phase: Phase
    start_ns: int
    end_ns: int | None
    attempt: int = 0
    state: State = State.OPEN
    failure: str = ""
    is_estimated: bool = False


@dataclass(slots=True)
class Item:
    """Something with a beginning and mostly an end.

    Attributes:
        kind: what it is.
        name: its type or name.
        key: what tells it from others of its name: an activity's id, a workflow's id.
        event_id: where it begins in the history.
        start_ns, end_ns: nanoseconds since the epoch; `end_ns` is None while it lasts, equal for a moment.
        state: how it stands.
        segments: stretches of its time, in order; none for a moment.
        detail: a sentence about it.
        target: workflow id and run id of the other run it is about; empty without one.
        last_event_id: where it ends in the history; 0 while it lasts.
        summary: what the workflow's code says it is for, in one line.
    """

    kind: Kind
    name: str
    key: str
    event_id: int
    start_ns: int
    end_ns: int | None = None
    state: State = State.OPEN
    segments: list[Segment] = field(default_factory=list)
    detail: str = ""
    target: tuple[str, str] = ("", "")
    last_event_id: int = 0
    summary: str = ""

    @property
    def is_moment(self) -> bool:
        """Whether it has no duration by its nature."""
        return self.end_ns == self.start_ns and not self.segments

    def end_or(self, now_ns: int) -> int:
        """When it ended, or now."""
        return now_ns if self.end_ns is None else self.end_ns


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run, or the part of it that was read.

    Attributes:
        start_ns: when the run started, or the part begins.
        end_ns: when it closed, or the part ends; now while it is open.
        is_open: the run goes on.
        items: by beginning.
        waiting_for: what it waits for now, in words; empty for a closed run.
        first_event_id, last_event_id: the part that was read.
    """

    start_ns: int
    end_ns: int
    is_open: bool
    items: tuple[Item, ...]
    waiting_for: tuple[str, ...] = ()
    first_event_id: int = 0
    last_event_id: int = 0
