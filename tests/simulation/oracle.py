"""What the simulator knows to be true: everything committed, everything acknowledged, the checks after each commit."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from perdure.api.enums.v1 import WorkflowTaskFailedCause
from perdure.api.history.v1 import History, HistoryEvent
from perdure.api.workflowservice.v1 import UpdateWorkflowExecutionResponse
from perdure.core.batch.state import BatchState
from perdure.core.batch.state import decode as decode_batch
from perdure.core.errors import InvariantViolation
from perdure.core.run.invariants import check_history, check_state, check_tasks
from perdure.core.run.items import decode_run
from perdure.core.run.records import RunKey, RunKind, RunWrite
from perdure.core.run.state import RunState
from perdure.store.memory import MemoryStore
from perdure.store.protocol import BatchKey, StoredBatch
from tests.simulation.callback_oracle import CallbackOracle
from tests.simulation.control_oracle import ControlOracle
from tests.simulation.cron_oracle import CronOracle
from tests.simulation.deployment_oracle import DeploymentOracle
from tests.simulation.fleet_oracle import FleetOracle
from tests.simulation.interpreter import attributes_of, event_name, value_of, verdict
from tests.simulation.limit_oracle import LimitOracle
from tests.simulation.model import RUNNING, RunModel, check
from tests.simulation.operation_oracle import OperationOracle
from tests.simulation.removal_oracle import RemovalOracle
from tests.simulation.schedules import ScheduleOracle
from tests.simulation.standalone_oracle import StandaloneOracle
from tests.simulation.trace import Trace

T = TypeVar("T")
_CONTINUED = 6
_ACCEPTED = 2
"""UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED."""


def immediate(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits, such as a call of the store in memory."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("it waits")


_CLOCK_RULES = (
    "closed before it started",
    "has a heartbeat from before it was scheduled",
    "lies in the future",
    "is earlier than one before it",
)
"""Findings about times, which a clock that is set back between two processes explains."""


def watched(look: Callable[[], None], *, clock_set_back: bool) -> None:
    """Runs a check of `perdure.core.run.invariants`, without its rules about times if the clock went back."""
    try:
        look()
    except InvariantViolation as violation:
        if not (clock_set_back and any(rule in str(violation) for rule in _CLOCK_RULES)):
            raise


class Oracle:
    """Watches the durable store.

    Args:
        store: the truth; the oracle reads it after every commit.
        trace: what happened.
        time_ns: simulated time, for the trace.
    """

    def __init__(self, store: MemoryStore, trace: Trace, time_ns: Callable[[], int]) -> None:
        self._store = store
        self._time_ns = time_ns
        self._trace = trace
        self.standalone = StandaloneOracle(
            store, trace, immediate, LimitOracle(trace, lambda: time_ns() / 1e9)
        )
        self.operations = OperationOracle(store, trace, immediate)
        self.models: dict[RunKey, RunModel] = {}
        self.states: dict[RunKey, RunState] = {}
        self.current: dict[tuple[str, str], RunKey] = {}
        self.started_by: dict[tuple[str, str, str], list[RunKey]] = {}
        """Runs by namespace id, workflow id and start request id."""
        self.deleted: dict[RunKey, RunModel] = {}
        self.may_delete: set[RunKey] = set()
        self.commits = 0
        self.clock_set_back = False
        """Whether the wall clock ever was."""
        self.controls = ControlOracle(trace)
        self.callbacks = CallbackOracle(trace, self.states)
        self.deployments = DeploymentOracle(trace, lambda: time_ns() / 1e9)
        self.schedules = ScheduleOracle(trace, self.models)
        self.crons = CronOracle(trace, self.models)
        self.removals = RemovalOracle(store, trace)
        self.fleet = FleetOracle(trace)
        self._batches: dict[BatchKey, BatchState] = {}
        self._heartbeats: dict[tuple[str, str], tuple[list[Any], set[str]]] = {}

    # --- after every commit

    def committed(self, unit: Sequence[RunWrite]) -> None:
        """Takes a unit that the store has just committed, and checks everything about its runs."""
        self.commits += 1
        for write in unit:
            if self.removals.owns(write.run.namespace_id):
                self.removals.committed(write)
            elif write.run.kind is RunKind.ACTIVITY:
                self.standalone.committed(write)
            elif write.run.kind is RunKind.NEXUS_OPERATION:
                self.operations.committed(write)
            else:
                self._apply(write)
        written = {write.run for write in unit}
        self._check_pairs(written)
        self.crons.check_chains(written)

    def _check_pairs(self, written: set[RunKey]) -> None:
        """A parent and its child say the same of each other, at every moment."""
        for run in written:
            state = self.states.get(run)
            if state is None:
                continue
            for child in state.children.values():
                first = RunKey(run.namespace_id, child.workflow_id, child.run_id)
                there = not child.run_id or first in self.models or first in self.deleted
                check(there, "a started child is there", (run, child))
            header = state.header
            if header.parent_run_id:
                self._check_child(run, state)

    def _check_child(self, run: RunKey, state: RunState) -> None:
        header = state.header
        parent = RunKey(run.namespace_id, header.parent_workflow_id, header.parent_run_id)
        known = self.states.get(parent)
        if known is None or not known.header.is_open:
            return
        item = known.children.get(header.parent_initiated_event_id)
        last = self.current.get((run.namespace_id, run.workflow_id)) == run
        if header.is_open or header.owes_parent:
            same = item is not None and item.run_id == header.first_run_id
            check(same, "an open parent knows its child", (parent, item, run))
        elif last and header.status != _CONTINUED:
            check(item is None, "a child that is over is not pending any more", (parent, item))

    def _apply(self, write: RunWrite) -> None:
        run = write.run
        model = self.models.get(run)
        if model is None:
            model = self._new_run(write)
        events = [event for batch in write.events for event in History.FromString(batch.data).events]
        model.apply(write, events)
        stored = immediate(self._store.load_run(run))
        check(stored is not None, "what is committed can be read", run)
        if stored is None:
            return
        state = decode_run(run, stored.version, stored.header, stored.items, stored.wakeup_ns)
        previous, self.states[run] = self.states.get(run), state
        model.compare(state)
        self.controls.committed(previous, state)
        self.callbacks.committed(previous, state)
        self.deployments.committed(previous, state, events)
        self.crons.committed(state, events)
        self._observe(previous, state, write, events)
        for item in write.items:
            self._trace.reach(f"item: {item.kind}")
        names = " ".join(f"{event.event_id}:{event_name(event)}" for event in events)
        content = write.header + b"".join(event.SerializeToString(deterministic=True) for event in events)
        digest = hashlib.blake2b(content, digest_size=4).hexdigest()
        self._trace.add(
            self._time_ns(),
            "store",
            f"{run.workflow_id} {run.run_id[-6:]} v{state.version} {names} wake {write.wakeup_ns} {digest}",
        )

    def _new_run(self, write: RunWrite) -> RunModel:
        run = write.run
        check(write.expected_version == 0, "version increases by one", write.expected_version)
        model = self.models[run] = RunModel(run)
        workflow = (run.namespace_id, run.workflow_id)
        before = self.current.get(workflow)
        closed = before is None or before not in self.models or self.models[before].status != RUNNING
        check(closed, "a workflow id has one open run", (before, run))
        self.current[workflow] = run
        self.started_by.setdefault((*workflow, write.start_request_id), []).append(run)
        self.schedules.started(run)
        return model

    def removed(self, run: RunKey, now_ns: int) -> None:
        """The store has deleted a run."""
        if self.removals.owns(run.namespace_id):
            self.removals.removed(run)
            return
        if run.kind is RunKind.ACTIVITY:
            self.standalone.removed(run, now_ns)
            return
        if run.kind is RunKind.NEXUS_OPERATION:
            self.operations.removed(run, now_ns)
            return
        model = self.models.pop(run)
        state = self.states.pop(run)
        self.callbacks.removed(run)
        check(model.status != RUNNING, "only closed runs are deleted", run)
        over = now_ns >= state.header.close_ns + state.header.retention_ns
        check(over or run in self.may_delete, "retention is kept", f"{run} at {now_ns}")
        self._trace.reach("deleted on request" if run in self.may_delete else "retention over")
        self._trace.add(self._time_ns(), "store", f"{run.workflow_id} {run.run_id[-6:]} deleted")
        self.deleted[run] = model
        if self.current.get((run.namespace_id, run.workflow_id)) == run:
            del self.current[run.namespace_id, run.workflow_id]

    # --- what was acknowledged

    def started(self, namespace_id: str, workflow_id: str, run_id: str) -> RunModel:
        """A start was answered with this run."""
        run = RunKey(namespace_id, workflow_id, run_id)
        model = self.models.get(run) or self.deleted.get(run)
        check(model is not None, "an acknowledged start is durable", run)
        assert model is not None
        return model

    def signaled(
        self, namespace_id: str, workflow_id: str, request_id: str, *, to_any_run: bool = False
    ) -> None:
        """A signal was acknowledged. One to whatever run is the newest may, repeated, meet another run than before."""
        found = [
            run
            for run, model in (*self.models.items(), *self.deleted.items())
            if (run.namespace_id, run.workflow_id) == (namespace_id, workflow_id)
            and model.knows_signal(self.states.get(run), request_id)
            and not model.is_reset
        ]
        check(
            len(found) == 1 or (to_any_run and bool(found)),
            "an acknowledged signal is recorded once",
            f"{workflow_id} {request_id} {found}",
        )

    def completed_tasks(self, run: RunKey, *, is_open: bool) -> list[int]:
        """The events with which a workflow task of a run was completed that is open, or came to its own end; else none.

        One that was ended from outside may lack signals, and nobody would send them again.
        """
        statuses = (RUNNING,) if is_open else (2, 3)
        if run not in self.models or self.models[run].status not in statuses:
            return []
        return [
            event.event_id for event in self._events(run) if event_name(event) == "WORKFLOW_TASK_COMPLETED"
        ]

    def _events(self, run: RunKey) -> list[HistoryEvent]:
        batches = immediate(self._store.read_history(run, 1, 1 << 60, 1 << 60))
        return [event for batch in batches for event in History.FromString(batch.data).events]

    def updates_accepted(self, run: RunKey, first_event_id: int) -> list[str]:
        """The ids of the updates that a run has accepted from this event on."""
        return [
            event.workflow_execution_update_accepted_event_attributes.protocol_instance_id
            for event in self._events(run)
            if event.event_id >= first_event_id and event_name(event) == "WORKFLOW_EXECUTION_UPDATE_ACCEPTED"
        ]

    def reset(self, base: RunKey, run: RunKey, finish_event_id: int, *, excludes_updates: bool) -> None:
        """A reset was answered with this run; it was to bring its base's updates again, after the copied events."""
        self.callbacks.reset()
        if run not in self.models or base not in self.models:
            return  # deleted meanwhile
        updates = [] if excludes_updates else self.updates_accepted(base, finish_event_id)
        brought = [
            event.workflow_execution_update_admitted_event_attributes.request.meta.update_id
            for event in self._events(run)
            if event.event_id >= finish_event_id and event_name(event) == "WORKFLOW_EXECUTION_UPDATE_ADMITTED"
        ]
        check(brought == updates, "a reset brings accepted updates again", (run, updates, brought))
        if brought:
            self._trace.reach("update brought again by a reset")

    def activity_finished(self, run: RunKey, activity_id: str, ends: str) -> None:
        """A worker's outcome of an activity was acknowledged."""
        model = self.models.get(run) or self.deleted[run]
        state = self.states.get(run)
        waiting = state.buffered.values() if state is not None else ()
        buffered = any(
            event_name(event) == f"ACTIVITY_TASK_{ends}"
            and model.activity_id(attributes_of(event).scheduled_event_id) == activity_id
            for event in waiting
        )
        recorded = model.finished.get(activity_id) == f"ACTIVITY_TASK_{ends}"
        check(
            recorded or buffered, "an acknowledged activity outcome is durable", f"{run} {activity_id} {ends}"
        )

    def batch_put(self, batch: StoredBatch) -> None:
        """A batch was written. When that ends a page, what is open of it has the signal, or counts as failed."""
        before, state = self._batches.get(batch.key), decode_batch(batch.data)
        self._batches[batch.key] = state
        if before is None or (state.completed, state.failed) == (before.completed, before.failed):
            return
        namespace_id, job_id = batch.key
        page = [RunKey(namespace_id, *target) for target in before.page or ()]
        missing = sum(not self.has_batch_signal(run, job_id) for run in page)
        failed = state.failed - before.failed
        check(missing <= failed, "what a batch counts as done is done", f"{state} {before}")

    def has_batch_signal(self, run: RunKey, job_id: str) -> bool:
        """Whether a batch's signal has reached a run, or waits to be written; one that has closed need not have it."""
        model = self.models.get(run) or self.deleted[run]
        if model.status != RUNNING or job_id in model.batches:
            return True
        return any(
            job_id in event.workflow_execution_signaled_event_attributes.signal_name
            for event in self.states[run].buffered.values()
        )

    def closed(self, run: RunKey) -> None:
        """The run was said to be closed."""
        model = self.models.get(run) or self.deleted[run]
        check(model.status != RUNNING, "an acknowledged termination is durable", run)

    def cancel_requested(self, run: RunKey) -> None:
        """A request to cancel was acknowledged."""
        state = self.states.get(run)
        asked = state is None or state.header.cancel_requested or not state.header.is_open
        check(asked, "an acknowledged cancellation is durable", run)

    def updated(self, run: RunKey, update_id: str, answer: UpdateWorkflowExecutionResponse) -> None:
        """A client was told how far its update is."""
        state = self.states.get(run)
        if state is None:
            return  # deleted meanwhile
        known = state.updates.get(update_id)
        outcome = answer.outcome
        rejected = outcome.failure.message.startswith("rejected")
        if answer.stage >= _ACCEPTED and not rejected:
            check(known is not None, "an acknowledged acceptance of an update is durable", update_id)
        if outcome.HasField("success"):
            done = known is not None and known.completed_event_id > 0
            check(done, "an acknowledged outcome of an update is durable", update_id)
            check(value_of(outcome.success) == f"updated {update_id}", "updates do not mix", outcome)
            self._trace.reach("update completed")
        elif rejected:
            check(known is None and verdict(update_id) == "reject", "a rejected update leaves nothing", known)
            self._trace.reach("update rejected")
        elif outcome.HasField("failure"):
            outlived = not state.header.is_open and known is not None and not known.completed_event_id
            check(outlived, "an accepted update fails only with its run", outcome.failure.message)
            self._trace.reach("update outlived by its run")
        elif answer.stage == _ACCEPTED:
            self._trace.reach("update accepted")
        else:
            self._trace.reach("update still waits")

    def heartbeat_sent(self, run_id: str, activity_id: str, details: list[int]) -> None:
        """A worker sends a heartbeat with these details."""
        _, sent = self._heartbeats.setdefault((run_id, activity_id), ([], set()))
        sent.add(str(details))

    def heartbeat_acknowledged(self, run_id: str, activity_id: str, details: list[int]) -> None:
        """A heartbeat was acknowledged."""
        latest, sent = self._heartbeats[run_id, activity_id]
        self._heartbeats[run_id, activity_id] = (max(latest, details), sent)

    def attempt_begins(self, run_id: str, activity_id: str, attempt: int, details: Any) -> None:
        """An attempt begins with these details of the attempts before."""
        latest, sent = self._heartbeats.get((run_id, activity_id), ([], set()))
        # Not always the latest ones: an earlier heartbeat may arrive late and replace them.
        forgotten = (run_id, activity_id) in self.controls.heartbeats_dropped
        good = str(details) in sent if details else not latest or latest[0] >= attempt or forgotten
        check(good, "heartbeat details go on to the next attempt", f"{details}, acknowledged {latest}")

    # --- rare situations

    def _observe(
        self, previous: RunState | None, state: RunState, write: RunWrite, events: list[HistoryEvent]
    ) -> None:
        reach = self._trace.reach
        header = state.header
        if header.has_started_task and header.is_task_transient:
            reach("transient task started")
        if header.task_attempt > 3:
            reach("workflow task backs off")
        if header.first_task_at_ns:
            reach("first workflow task delayed")
        if header.task_rerouted:
            reach("sticky task rerouted")
        check(not header.task_is_speculative, "no speculative workflow task is stored", header)
        if header.task_start_limit_ns:
            reach("speculative task became a normal one")
        for activity in state.activities.values():
            if activity.attempt > 1:
                reach("activity retried")
                break
        if previous is not None and previous.buffered and not state.buffered:
            self._observe_flush(events)
        if not header.is_open and state.children:
            reach("closed parent with children to end")
        for event in events:
            name = event_name(event)
            if name == "WORKFLOW_EXECUTION_TERMINATED":
                reason = event.workflow_execution_terminated_event_attributes.reason
                if reason == "by parent close policy":
                    reach("child terminated with its parent")
            if name == "WORKFLOW_TASK_FAILED":
                cause = event.workflow_task_failed_event_attributes.cause
                reach(f"workflow task failed: {CAUSES[cause]}")
            elif name in _MARKED:
                reach(_MARKED[name])
                if name == "TIMER_CANCELED" and previous is not None:
                    self._observe_taken_back(previous, event)
            elif name == "WORKFLOW_TASK_TIMED_OUT":
                kind = event.workflow_task_timed_out_event_attributes.timeout_type
                reach("sticky task timed out" if kind == 2 else "workflow task timed out")
            elif name == "ACTIVITY_TASK_TIMED_OUT":
                kind = (
                    event.activity_task_timed_out_event_attributes.failure.timeout_failure_info.timeout_type
                )
                reach(f"activity timed out, type {kind}")

    def _observe_taken_back(self, previous: RunState, event: HistoryEvent) -> None:
        timer_id = event.timer_canceled_event_attributes.timer_id
        if any(
            waiting.timer_fired_event_attributes.timer_id == timer_id
            for waiting in previous.buffered.values()
        ):
            self._trace.reach("fired timer taken back")

    def _observe_flush(self, events: list[HistoryEvent]) -> None:
        names = [event_name(event) for event in events]
        self._trace.reach("buffer flushed")
        ends = [index for index, name in enumerate(names) if name in _ENDS]
        others = [
            index
            for index, name in enumerate(names)
            if name in ("WORKFLOW_EXECUTION_SIGNALED", "TIMER_FIRED")
        ]
        if ends and others:
            self._trace.reach("buffer flushed with completions last")

    # --- at the end

    def check_histories(self) -> None:
        """Checks every run that is left with the rules that need its whole history."""
        self._check_effects()
        for run, model in self.models.items():
            watched(functools.partial(self._check_history, run, model), clock_set_back=self.clock_set_back)

    def _check_effects(self) -> None:
        """Nothing that a run had to do to another one is left undone."""
        for run, state in self.states.items():
            check(not state.header.owes_parent, "every parent is told", run)
            check(
                not state.children, "every child of a closed parent is dealt with", f"{run} {state.children}"
            )

    def _check_history(self, run: RunKey, model: RunModel) -> None:
        events = self._events(run)
        check(len(events) == model.next_event_id - 1, "history has no gap", run)
        state = self.states[run]
        check_state(state)
        check_history(state, events)
        check_tasks(state, model.tasks.values())


CAUSES = {
    number: name.removeprefix("WORKFLOW_TASK_FAILED_CAUSE_").lower().replace("_", " ")
    for name, number in WorkflowTaskFailedCause.items()
}
_ENDS = frozenset(f"ACTIVITY_TASK_{end}" for end in ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELED"))
_MARKED = {
    "TIMER_CANCELED": "timer cancelled",
    "ACTIVITY_TASK_CANCEL_REQUESTED": "activity cancellation requested",
    "ACTIVITY_TASK_CANCELED": "activity cancelled",
    "WORKFLOW_EXECUTION_CANCELED": "workflow cancelled",
    "WORKFLOW_EXECUTION_TIMED_OUT": "workflow timed out",
    "WORKFLOW_EXECUTION_TERMINATED": "workflow terminated",
    "START_CHILD_WORKFLOW_EXECUTION_FAILED": "child not started",
    "CHILD_WORKFLOW_EXECUTION_STARTED": "child started",
    "CHILD_WORKFLOW_EXECUTION_COMPLETED": "child completed",
    "CHILD_WORKFLOW_EXECUTION_FAILED": "child failed",
    "CHILD_WORKFLOW_EXECUTION_CANCELED": "child cancelled",
    "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED": "other workflow signalled",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED": "nobody to signal",
    "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED": "other workflow asked to cancel",
}
