"""Random sequences of everything that can happen to a run; every invariant is checked after every transition.

The invariants live in `perdure.core.run.invariants`; the driver compares with the store's rows and the history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    WorkflowNotReadyError,
)
from perdure.core.nexus import outcomes
from perdure.core.run import activity_control, child, external, nexus_attempts, nexus_operation, workflow_task
from perdure.core.run.completion import Completion, TaskToken
from perdure.core.run.limits import SECOND_NS, Limits
from perdure.core.run.records import RunKey
from perdure.core.run.transition import Transition
from tests.support.builders import (
    application_failure,
    bare_command,
    cancel_activity,
    cancel_external,
    cancel_operation,
    cancel_timer,
    cancel_workflow,
    canceled_failure,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    modify_memo,
    payload,
    record_marker,
    retry_policy,
    schedule_activity,
    schedule_operation,
    signal_external,
    start_child,
    start_timer,
    sticky,
    upsert_search_attributes,
)
from tests.support.proto import command, enums, failure, history, protocol
from tests.support.updates import DISCARDS, acceptance, place, rejection, response
from tests.unit.core.driver import QUEUE, STICKY, Driver, name_of
from tests.unit.core.test_reset import check_rebuilt

LIMITS = Limits(buffered_events=6, signals=60, task_heartbeat_ns=40 * SECOND_NS, stored_failure_bytes=200)
NAMES = "abcd"
IDS = st.sampled_from(NAMES)
SECONDS = st.sampled_from([None, 0, 0.5, 2, 5, 20])
POLICIES = st.sampled_from(
    [
        None,
        retry_policy(attempts=1),
        retry_policy(attempts=2, initial_s=1),
        retry_policy(initial_s=3, coefficient=1, non_retryable=("Fatal", "TemporalTimeout:Heartbeat")),
    ]
)
FAILURES = st.sampled_from(
    [
        application_failure(),
        application_failure("long " * 200),
        application_failure(type="Fatal"),
        application_failure(non_retryable=True),
        application_failure(next_retry_delay_s=0),
        application_failure(next_retry_delay_s=7),
        canceled_failure(),
        failure.Failure(),
    ]
)
ANY_ACTIVITY: dict[str, st.SearchStrategy[Any]] = {
    "task_queue": st.sampled_from([QUEUE, "other-queue"]),
    "start_to_close_s": st.sampled_from([3, 10]),
    "schedule_to_close_s": st.sampled_from([None, 6, 30]),
    "schedule_to_start_s": st.sampled_from([None, 4]),
    "heartbeat_s": st.sampled_from([None, 2]),
    "retry": POLICIES,
    "eager": st.booleans(),
}
PLAIN = [
    record_marker("marker"),
    start_child("child"),
    start_child("child", parent_close_policy=enums.ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON),
    signal_external("other"),
    cancel_external("other"),
    modify_memo({"key": payload("value")}),
    upsert_search_attributes({"Kw": payload("word")}),
    schedule_operation(),
    schedule_operation(schedule_to_close_timeout=duration(20), schedule_to_start_timeout=duration(6)),
    schedule_operation(start_to_close_timeout=duration(9)),
]
ANSWERS = st.sampled_from(
    [
        outcomes.Started("token"),
        outcomes.Succeeded(payload("result")),
        outcomes.Ended(application_failure()),
        outcomes.Ended(canceled_failure(), is_canceled=True),
        outcomes.refused("UNAVAILABLE", "not now"),
        outcomes.refused("BAD_REQUEST", "never"),
        outcomes.OutOfTime(nexus_attempts.SCHEDULE_TO_CLOSE),
    ]
)
NEVER = outcomes.refused("NOT_FOUND", "never")
ENDS = st.sampled_from([outcomes.Succeeded(None), outcomes.Ended(application_failure())])
CLUMSY = st.one_of(
    st.builds(schedule_activity, IDS, **ANY_ACTIVITY),
    st.builds(start_timer, IDS, SECONDS),
    st.builds(cancel_timer, IDS),
    st.builds(cancel_activity, st.integers(0, 12)),
    st.builds(cancel_operation, st.integers(0, 12)),
    st.sampled_from([*PLAIN, bare_command(enums.CommandType.COMMAND_TYPE_START_TIMER)]),
)
"""Commands of a worker that has lost its way: often bad ones."""


@st.composite
def sensible(draw: st.DrawFn, driver: Driver) -> list[command.Command]:
    """Commands that a worker could send which knows the run's state."""
    state = driver.state
    activity_ids = {activity.activity_id for activity in state.activities.values()}
    timer_ids = set(state.timers)
    fired = [
        event.timer_fired_event_attributes.timer_id
        for event in state.buffered.values()
        if name_of(event) == "TIMER_FIRED"
    ]
    cancellable = [key for key, pending in state.activities.items() if not pending.cancel_requested_event_id]
    operations = [key for key, item in state.nexus_operations.items() if not item.cancel_requested_event_id]
    commands: list[command.Command] = []
    for _ in range(draw(st.sampled_from([3, 2, 1, 0]))):
        kind = draw(
            st.sampled_from(
                ["activity", "timer", "cancel activity", "cancel timer", "cancel operation", "plain"]
            )
        )
        if kind == "activity" and len(activity_ids) < len(NAMES):
            name = draw(st.sampled_from([name for name in NAMES if name not in activity_ids]))
            activity_ids.add(name)
            commands.append(draw(st.builds(schedule_activity, st.just(name), **ANY_ACTIVITY)))
        elif kind == "timer" and len(timer_ids) < len(NAMES):
            name = draw(st.sampled_from([name for name in NAMES if name not in timer_ids]))
            timer_ids.add(name)
            commands.append(start_timer(name, draw(SECONDS)))
        elif kind == "cancel activity" and cancellable:
            commands.append(cancel_activity(cancellable.pop()))
        elif kind == "cancel operation" and operations:
            commands.append(cancel_operation(operations.pop()))
        elif kind == "cancel timer" and (fired or state.timers.keys() & timer_ids):
            name = fired.pop() if fired else min(state.timers.keys() & timer_ids)
            timer_ids.discard(name)
            commands.append(cancel_timer(name))
        else:
            commands.append(draw(st.sampled_from(PLAIN)))
    return commands


CHILD_ENDS = st.sampled_from(
    [
        history.HistoryEvent(event_type=enums.EventType.Value(f"EVENT_TYPE_WORKFLOW_EXECUTION_{end}"))
        for end in ("COMPLETED", "FAILED", "CANCELED", "TIMED_OUT", "TERMINATED")
    ]
)
CLOSING = st.sampled_from(
    [
        continue_as_new(),
        complete_workflow(),
        fail_workflow(application_failure()),
        cancel_workflow(),
        fail_workflow(None),
    ]
)


class Run(RuleBasedStateMachine):
    """One run, its clients, its workers and the time."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(LIMITS)
        self.token: TaskToken | None = None

    @initialize(
        run_s=st.sampled_from([0, 0, 0, 200]),
        execution_s=st.sampled_from([0, 0, 200]),
        delay_s=st.sampled_from([0, 0, 0, 15]),
    )
    def start(self, run_s: int, execution_s: int, delay_s: int) -> None:
        """The run starts, perhaps with timeouts, perhaps delayed."""
        self.driver.start(
            workflow_run_timeout=duration(run_s or execution_s or None),
            workflow_execution_timeout=duration(execution_s or None),
            workflow_start_delay=duration(delay_s or None),
        )

    # --- clients ---

    def is_open(self) -> bool:
        """Whether there is anything left to do to the run."""
        return self.driver.header.is_open

    @precondition(is_open)
    @rule(request_id=st.sampled_from(["", "", "one", "two"]))
    def signal(self, request_id: str) -> None:
        """A signal comes, perhaps for the second time."""
        try:
            self.driver.signal(request_id=request_id)
        except InvalidArgumentError:
            assert self.driver.header.signal_count == LIMITS.signals
        except ResourceExhaustedError:
            assert self.driver.header.task_close_refused

    @precondition(is_open)
    @rule()
    def cancel(self) -> None:
        """A client asks the run to cancel."""
        self.driver.cancel()

    @precondition(lambda self: self.is_open() and self.driver.header.next_event_id > 40)
    @rule()
    def terminate(self) -> None:
        """A client terminates the run."""
        self.driver.terminate()

    # --- operators ---

    @precondition(is_open)
    @rule()
    def pause_or_go_on(self) -> None:
        """An operator pauses the run, or lets it go on."""
        if self.driver.header.paused_ns:
            self.driver.unpause()
        else:
            self.driver.pause()

    @precondition(lambda self: self.is_open() and self.driver.state.activities)
    @rule(
        data=st.data(), what=st.sampled_from(["pause", "unpause", "reset"]), jitter_s=st.sampled_from([0, 3])
    )
    def control_activity(self, data: st.DataObject, what: str, jitter_s: int) -> None:
        """An operator does something to an activity."""
        event_id = data.draw(st.sampled_from(sorted(self.driver.state.activities)))
        jitter_ns = jitter_s * SECOND_NS
        fields: dict[str, Any] = {"jitter_ns": jitter_ns}
        if what == "pause":
            fields = {"identity": "operator", "reason": "why", "request_id": ""}
        control = getattr(activity_control, what)
        self.driver.apply(lambda tx: control(tx, tx.activities.edit(event_id), **fields))

    # --- updates ---

    @precondition(is_open)
    @rule(update_id=st.sampled_from("uvw"))
    def update(self, update_id: str) -> None:
        """A client sends an update, perhaps one that is known."""
        known = {**self.driver.state.updates}
        waiting_before = list(self.driver.updates.waiting)
        try:
            waiting = self.driver.update(update_id)
        except (WorkflowNotReadyError, ResourceExhaustedError, FailedPreconditionError):
            assert list(self.driver.updates.waiting) == waiting_before
            return
        assert (waiting is None) == (update_id in known)
        header = self.driver.header
        assert header.has_pending_task or known or header.first_task_at_ns or header.paused_ns

    @precondition(is_open)
    @rule()
    def lose_memory(self) -> None:
        """The server restarts: what waits in memory is lost, what was accepted is not."""
        accepted = dict(self.driver.state.updates)
        self.driver.lose_memory()
        assert self.driver.state.updates == accepted

    @precondition(lambda self: self.has_started_task())
    @rule(data=st.data(), inline=st.booleans(), discards=st.booleans())
    def answer_updates(self, data: st.DataObject, inline: bool, discards: bool) -> None:
        """The worker says something about each update it was told of, and completes what it accepted before."""
        driver = self.driver
        messages: list[Any] = []
        for request in driver.messages:
            word = data.draw(st.sampled_from(["accept", "complete", "reject", "nothing"]))
            if request.protocol_instance_id in driver.state.updates or word == "nothing":
                continue
            messages += {
                "accept": [acceptance(request)],
                "complete": [acceptance(request), response(request)],
                "reject": [rejection(request)],
            }[word]
        for update_id, known in driver.state.updates.items():
            if not known.completed_event_id and data.draw(st.booleans()):
                messages.append(response(protocol.Message(protocol_instance_id=update_id)))
        placed = [place(message) for message in messages if not message.id.endswith("reject")]
        before, speculative = driver.state.version, driver.header.task_is_speculative
        capabilities = DISCARDS if discards else None
        done = self._respond(
            placed, messages=messages, capabilities=capabilities, return_new_workflow_task=inline
        )
        if done is not None and done.reset_event_id is not None:
            assert speculative
            assert not placed
            assert driver.state.version == before

    # --- workflow tasks ---

    def has_started_task(self) -> bool:
        """Whether a worker holds a workflow task."""
        return self.driver.header.has_started_task

    @precondition(lambda self: self.driver.waiting_workflow_task() is not None)
    @rule()
    def poll(self) -> None:
        """A worker takes the waiting workflow task."""
        self.driver.poll()

    @precondition(lambda self: getattr(self.driver.waiting_workflow_task(), "sticky", False))
    @rule()
    def reroute(self) -> None:
        """Nobody polls the sticky queue."""
        if not self.driver.header.task_is_speculative:
            self.driver.apply(workflow_task.reroute_to_normal_queue)

    def has_task(self) -> bool:
        """Whether a workflow task waits or is started."""
        return self.driver.header.has_pending_task

    @precondition(has_task)
    @rule(data=st.data(), is_sticky=st.booleans(), force=st.booleans(), inline=st.booleans())
    def complete(self, data: st.DataObject, is_sticky: bool, force: bool, inline: bool) -> None:
        """A worker (takes and) completes the workflow task."""
        if not self.has_started_task():
            self.driver.poll()
        commands = data.draw(sensible(self.driver))
        fields = {"force_create_new_workflow_task": force, "return_new_workflow_task": inline}
        self._respond(commands, sticky_attributes=sticky(STICKY, QUEUE) if is_sticky else None, **fields)

    @precondition(has_started_task)
    @rule(commands=st.lists(CLUMSY, max_size=4))
    def complete_badly(self, commands: Sequence[command.Command]) -> None:
        """The worker completes its task with commands that are often bad."""
        self._respond(commands)

    @precondition(has_started_task)
    @rule(inline=st.booleans(), seconds=st.sampled_from([0, 9]))
    def heartbeat_task(self, inline: bool, seconds: float) -> None:
        """The worker says that it needs more time, again and again."""
        for _ in range(6):
            if not self.has_started_task():
                break
            self.driver.sleep(seconds)
            done = self._respond([], force_create_new_workflow_task=True, return_new_workflow_task=inline)
            if done is not None and done.error is not None:
                assert str(done.error) == "workflow task heartbeat timeout"

    @precondition(lambda self: self.has_started_task() and self.driver.header.next_event_id > 20)
    @rule(data=st.data(), closing=CLOSING)
    def close(self, data: st.DataObject, closing: command.Command) -> None:
        """The worker closes the run, if nothing came in between."""
        self._respond([*data.draw(sensible(self.driver)), closing])

    def _respond(self, commands: Sequence[command.Command], **fields: Any) -> Completion | None:
        before = self.driver.state.version
        try:
            return self.driver.respond(*commands, **fields)
        except FailedPreconditionError:
            assert self.driver.header.paused_ns
            assert fields["force_create_new_workflow_task"]
            return None
        except InvalidArgumentError:
            # A later attempt with bad commands is left to time out.
            assert self.driver.header.task_attempt > 1
            assert self.driver.state.version == before
            return None

    @rule(what=st.sampled_from(["complete", "fail"]))
    def stale_token(self, what: str) -> None:
        """A worker answers a workflow task that is not the started one any more."""
        current = self.driver.token()
        if not self.is_open() or self.token not in (None, current):
            answer = self.driver.fail_task if what == "fail" else self.driver.respond
            with pytest.raises(NotFoundError, match="Workflow task not found"):
                answer(token=self.token or current)
        self.token = current if self.has_started_task() else self.token

    @precondition(has_started_task)
    @rule()
    def fail_task(self) -> None:
        """The worker's code fails."""
        self.driver.fail_task()

    # --- activities ---

    def started_activities(self) -> list[int]:
        """Activities that a worker holds."""
        return [key for key, activity in self.driver.state.activities.items() if activity.started_ns]

    @precondition(lambda self: self.driver.waiting_activities())
    @rule(data=st.data())
    def start_activity(self, data: st.DataObject) -> None:
        """A worker takes a waiting activity."""
        self.driver.start_activity(data.draw(st.sampled_from(sorted(self.driver.waiting_activities()))))

    @precondition(lambda self: bool(self.started_activities() or self.driver.waiting_activities()))
    @rule(data=st.data(), cause=FAILURES, what=st.sampled_from(["complete", "fail", "heartbeat", "cancel"]))
    def answer_activity(self, data: st.DataObject, cause: failure.Failure, what: str) -> None:
        """A worker that holds (or takes) an activity says something."""
        if not self.started_activities():
            self.start_activity(data)
        event_id = data.draw(st.sampled_from(sorted(self.started_activities())))
        if what == "complete":
            self.driver.complete_activity(event_id)
        elif what == "heartbeat":
            self.driver.heartbeat(event_id, "progress")
        elif what == "fail":
            self.driver.fail_activity(event_id, cause)
        elif self.driver.state.activities[event_id].cancel_requested_event_id:
            self.driver.cancel_activity(event_id)
        else:
            with pytest.raises(InvalidArgumentError, match="without activity being request canceled"):
                self.driver.cancel_activity(event_id)

    # --- other runs ---

    def unstarted(self) -> list[int]:
        """Children that are to be started."""
        children = self.driver.state.children.items() if self.is_open() else ()
        return [key for key, pending in children if not pending.run_id]

    @precondition(lambda self: bool(self.unstarted()))
    @rule(data=st.data(), is_started=st.booleans())
    def start_child(self, data: st.DataObject, is_started: bool) -> None:
        """A child is started, or its id is in use."""
        event_id = data.draw(st.sampled_from(self.unstarted()))
        initiated = self.driver.history[event_id - 1]
        if is_started:
            self.driver.apply(lambda tx: child.started(tx, initiated, f"run of {event_id}"))
        else:
            self.driver.apply(lambda tx: child.start_failed(tx, initiated, 1))

    def running_children(self) -> list[int]:
        """Children that run."""
        return [key for key, pending in self.driver.state.children.items() if pending.run_id]

    @precondition(lambda self: self.is_open() and bool(self.running_children()))
    @rule(data=st.data(), closing=CHILD_ENDS)
    def end_child(self, data: st.DataObject, closing: history.HistoryEvent) -> None:
        """A child ends."""
        event_id = data.draw(st.sampled_from(self.running_children()))
        closed = RunKey("namespace-id", "child", "last run")
        self.driver.apply(lambda tx: child.ended(tx, event_id, closed, closing))

    @precondition(lambda self: not self.is_open() and bool(self.running_children()))
    @rule(data=st.data())
    def forget_child(self, data: st.DataObject) -> None:
        """A child of the closed run is dealt with."""
        event_id = data.draw(st.sampled_from(self.running_children()))
        self.driver.apply(lambda tx: child.forget(tx, event_id))

    @precondition(lambda self: bool(self.driver.state.externals))
    @rule(data=st.data(), cause=st.sampled_from([0, 1]))
    def settle_external(self, data: st.DataObject, cause: int) -> None:
        """Another workflow was signalled or asked to cancel, or was not there."""
        event_id = data.draw(st.sampled_from(sorted(self.driver.state.externals)))
        self.driver.apply(lambda tx: external.settled(tx, self.driver.history[event_id - 1], cause))

    # --- Nexus ---

    def operations(self) -> list[int]:
        """Operations that are pending."""
        return sorted(self.driver.state.nexus_operations)

    @precondition(lambda self: bool(self.operations()))
    @rule(data=st.data(), outcome=ANSWERS, is_late=st.booleans())
    def answer_operation(self, data: st.DataObject, outcome: Any, is_late: bool) -> None:
        """A handler answers a request to start, perhaps one that is over."""
        event_id = data.draw(st.sampled_from(self.operations()))
        item = self.driver.state.nexus_operations[event_id]
        attempt = item.attempt - 1 if is_late else item.attempt
        self._apply(lambda tx: nexus_operation.start_answered(tx, event_id, attempt, outcome))

    @precondition(lambda self: bool(self.operations()))
    @rule(data=st.data(), outcome=st.sampled_from([None, outcomes.refused("INTERNAL", ""), NEVER]))
    def answer_cancellation(self, data: st.DataObject, outcome: Any) -> None:
        """A handler answers a request to cancel, perhaps one that was never made."""
        event_id = data.draw(st.sampled_from(self.operations()))
        attempt = self.driver.state.nexus_operations[event_id].cancel_attempt
        self._apply(lambda tx: nexus_operation.cancel_answered(tx, event_id, attempt, outcome))

    @precondition(lambda self: bool(self.operations()))
    @rule(data=st.data(), outcome=ENDS, early_s=st.sampled_from([0, 3]))
    def complete_operation(self, data: st.DataObject, outcome: Any, early_s: int) -> None:
        """A completion comes, perhaps before the answer to the start."""
        event_id = data.draw(st.sampled_from(self.operations()))
        request_id = self.driver.state.nexus_operations[event_id].request_id
        started_ns = self.driver.now_ns - early_s * SECOND_NS
        self._apply(
            lambda tx: nexus_operation.complete(tx, event_id, request_id, outcome, started_ns=started_ns)
        )

    def _apply(self, change: Callable[[Transition], None]) -> None:
        tx = self.driver.transition()
        change(tx)
        if not tx.is_untouched:
            self.driver.commit(tx)

    # --- time ---

    @precondition(lambda self: self.driver.state.wakeup_ns is not None and self.is_open())
    @rule(late_s=st.sampled_from([0, 0, 3, 60]))
    def wake(self, late_s: float) -> None:
        """Time passes to the next deadline or beyond it."""
        self.driver.wake(late_s)

    @precondition(is_open)
    @rule(seconds=st.sampled_from([0.1, 1, 4]))
    def too_early(self, seconds: float) -> None:
        """A wake-up that comes for nothing does nothing."""
        self.driver.sleep(seconds)
        if self.driver.state.wakeup_ns is None or self.driver.now_ns < self.driver.state.wakeup_ns:
            events = len(self.driver.history)
            self.driver.fire()
            assert len(self.driver.history) == events

    def teardown(self) -> None:
        """What a run has come to can be worked out from its history alone."""
        if self.is_open() and not self.driver.state.buffered and self.driver.history:
            check_rebuilt(self.driver)


TestRun = Run.TestCase
TestRun.settings = settings(max_examples=60, stateful_step_count=70)
