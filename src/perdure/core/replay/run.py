"""A workflow run in a worker: workflow tasks in, completions out; between them history is held against the code.

One `WorkflowRun` with its program is one entry of the worker's sticky cache. Calls are not thread-safe: the worker lets
at most one be under way at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.api.enums.v1 import WorkflowTaskFailedCause
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.instructions import Program
from perdure.core.replay.steps import (
    LocalActivityOutcome,
    RunConfig,
    Step,
    TaskCompletion,
    TaskFailure,
    WorkflowTask,
)

DEFAULT_CONFIG = RunConfig()


class WorkflowRun:
    """Holds one run's history against its code.

    Args:
        workflow_id: of the run.
        run_id: of the run; the random seed comes from the *original* run id in its first event.
        program: the code under execution, fresh (never activated).
        config: what the run has to know about its worker.

    Attributes:
        activation_count: grows by one before each call of `program.activate`; a deadlock watch compares it between
            looks, because one task may activate many times (replay).
        is_complete: the code asked to close the run (or history shows it closed); questions can still be answered.
        has_task: a task is in hand: its Step was LocalActivityWork and no completion has been handed out yet.
        last_event_id: the last event this run has seen; the next sticky task goes on after it.
        workflow_type, workflow_task_timeout_s, task_queue: from the first event (empty/10.0 before the first task).
        eviction: why the run must leave the cache, None while it may stay.
    """

    activation_count: int
    is_complete: bool
    has_task: bool
    last_event_id: int
    workflow_type: str
    workflow_task_timeout_s: float
    eviction: str | None

    def __init__(
        self, workflow_id: str, run_id: str, program: Program, config: RunConfig = DEFAULT_CONFIG
    ) -> None:
        raise NotImplementedError

    def handle(self, task: WorkflowTask) -> Step:
        """Takes a polled workflow task; blocks while workflow code runs (call it in the workflow thread).

        Returns: the completion, the failure, or local activities to run first.
        Raises: CacheMissError when the events do not go on where this run stands.
        """
        raise NotImplementedError

    def local_activity_resolved(self, seq: int, outcome: LocalActivityOutcome) -> Step | None:
        """Reports the end of a local activity; blocks while workflow code runs.

        Returns: the next step of the task in hand; None when there is no task in hand (the heartbeat's follower has
            not come yet), or the local activity is not awaited any more.
        """
        raise NotImplementedError

    def local_activity_retried(self) -> None:
        """Counts one retry of a local activity inside this worker, for the metering metadata."""
        raise NotImplementedError

    def heartbeat(self) -> TaskCompletion | None:
        """Hands in the task in hand although local activities are running, asking for a new task at once.

        Returns: the completion; None when there is no task in hand.
        """
        raise NotImplementedError

    def reset_to(self, started_event_id: int) -> None:
        """The server discarded the task just completed (it was speculative): stand where `started_event_id` left off.

        Args:
            started_event_id: `reset_history_event_id` of the RespondWorkflowTaskCompleted response; 0 does nothing.
        """
        raise NotImplementedError

    def fail(self, cause: WorkflowTaskFailedCause.ValueType, failure: Failure, message: str) -> TaskFailure:
        """Gives up the task in hand for a reason seen from outside (deadlock, a payload that does not decode).

        Sets `eviction`; `legacy_query` and `should_report` are set for the task in hand. Safe to call while another
        thread is stuck inside `handle`: that call's outcome must then be thrown away.
        """
        raise NotImplementedError


def replay_history(
    program: Program,
    events: Sequence[HistoryEvent],
    *,
    workflow_id: str,
    run_id: str = "",
    config: RunConfig = DEFAULT_CONFIG,
) -> TaskFailure | None:
    """Replays a saved history against the code and compares.

    Args:
        program: the code, fresh.
        events: the whole history from event 1, payloads decoded; it may end anywhere.
        workflow_id: of the run.
        run_id: of the run; empty: the original run id of the first event.
        config: `build_id` and the like; local activities not in history are not run.

    Returns: None when the code agrees with history; otherwise what the workflow task would have failed with
        (`error` is a NondeterminismError when history and code differ).
    Raises: HistoryError when the events are no history (wrong first event, gaps).
    """
    raise NotImplementedError
