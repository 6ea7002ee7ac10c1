"""Every invariant can fail: each is shown a run that breaks it and nothing before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.api.history.v1 import HistoryEvent
from perdure.core.errors import InvariantViolation
from perdure.core.nexus import outcomes
from perdure.core.run import (
    completion,
    deadlines,
    history_rules,
    invariants,
    lifecycle,
    listing,
    nexus_operation,
    signal,
    workflow_task,
)
from perdure.core.run.records import EventBatch, ItemChange, RunWrite, Task, TaskKey, TaskKind
from perdure.core.run.state import (
    Activity,
    Callback,
    Child,
    External,
    NexusOperation,
    RunState,
    Timer,
    Update,
    encode,
)
from perdure.core.run.transition import Transition
from tests.support.builders import (
    application_failure,
    cancel_operation,
    complete_workflow,
    continue_as_new,
    schedule_activity,
    schedule_operation,
    signal_external,
    start_child,
    start_timer,
)
from tests.support.proto import common, enums, workflowservice
from tests.unit.core.driver import CUSTOM, QUEUE, STICKY, Driver, begun, with_commands

MARKER = enums.EventType.EVENT_TYPE_MARKER_RECORDED
SIGNALED = enums.EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED


Tamper = Callable[[RunState], object]
CALLBACK = common.Callback(nexus=common.Callback.Nexus(url="temporal://system"))
OPERATION = "a pending Nexus operation is in one possible state"
CALLBACKS = "callbacks are counted, and delivered only by the end of a chain or an update"


def _busy() -> Driver:
    """Activities waiting (5) and started (6), a timer, a started normal workflow task, a waiting signal."""
    driver = with_commands(schedule_activity("a", QUEUE), schedule_activity("b", QUEUE), start_timer("t", 50))
    driver.start_activity(6)
    driver.signal()
    driver.poll()
    driver.signal("waits")
    return driver


def _closed() -> Driver:
    driver = _busy()
    driver.terminate()
    return driver


def _sticky() -> Driver:
    driver = begun()
    driver.complete(sticky_on=STICKY)
    driver.signal()
    return driver


def _updated() -> Driver:
    """A speculative workflow task waits."""
    driver = with_commands()
    driver.update()
    return driver


def _reaching() -> Driver:
    """A child (5) and a signal (6) are on their way."""
    return with_commands(start_child("c"), signal_external("w"))


def _asking() -> Driver:
    """A Nexus operation (5) is on its way, and somebody is to be called back."""
    driver = Driver()
    driver.start(completion_callbacks=[CALLBACK])
    driver.complete(schedule_operation())
    return driver


def _asked() -> Driver:
    """A Nexus operation (5) has started; a request to cancel it (9) is on its way."""
    driver = _asking()
    driver.apply(lambda tx: nexus_operation.start_answered(tx, 5, 0, outcomes.Started("token")))
    driver.complete(cancel_operation(5))
    return driver


def _operation(**values: Any) -> Tamper:
    def change(state: RunState) -> None:
        for name, value in values.items():
            assert hasattr(state.nexus_operations[5], name)
            setattr(state.nexus_operations[5], name, value)

    return change


def _callback(**values: Any) -> Tamper:
    def change(state: RunState) -> None:
        for name, value in values.items():
            assert hasattr(state.callbacks[1], name)
            setattr(state.callbacks[1], name, value)

    return change


# --- states ---

CHILDREN = "a pending child is initiated, started or kept by a closed parent"


def _header(**values: Any) -> Tamper:
    def change(state: RunState) -> None:
        for name, value in values.items():
            assert hasattr(state.header, name)
            setattr(state.header, name, value)

    return change


def _activity(**values: Any) -> Tamper:
    def change(state: RunState) -> None:
        for name, value in values.items():
            assert hasattr(state.activities[6], name)
            setattr(state.activities[6], name, value)

    return change


STATES: list[tuple[str, Callable[[], Driver], Tamper]] = [
    (OPERATION, _asking, lambda state: state.nexus_operations.update({9: NexusOperation(8)})),
    (OPERATION, _asking, _operation(request_id="")),
    (OPERATION, _asked, _operation(next_attempt_ns=9)),
    (OPERATION, _asked, _operation(attempt=0)),
    (OPERATION, _asked, _operation(cancel_requested_ns=0)),
    (OPERATION, _asking, _operation(cancel_attempt=1)),
    (CALLBACKS, _asking, lambda state: state.callbacks.update({3: Callback(3)})),
    (CALLBACKS, _asking, _header(calls_back=True)),
    (CALLBACKS, _asking, _callback(attempt=1)),
    (CALLBACKS, _asking, _callback(update_id="u", attempt=1)),
    (CALLBACKS, _asking, _callback(update_id="u", update_ended_ns=1)),
    ("a started workflow task was scheduled", _busy, _header(task_scheduled_event_id=0)),
    ("a started workflow task was scheduled", _busy, _header(task_started_ns=0)),
    (
        "a transient or speculative workflow task has no events, any other has",
        _busy,
        _header(next_event_id=9),
    ),
    ("a transient or speculative workflow task has no events, any other has", _busy, _header(task_attempt=2)),
    (
        "a transient or speculative workflow task has no events, any other has",
        begun,
        _header(task_attempt=2, next_event_id=1),
    ),
    (
        "a transient or speculative workflow task has no events, any other has",
        _updated,
        _header(next_event_id=9),
    ),
    (
        "a speculative workflow task is a first attempt of an open run, and nothing waits behind it",
        _updated,
        _header(task_attempt=2),
    ),
    (
        "a speculative workflow task is a first attempt of an open run, and nothing waits behind it",
        _updated,
        _header(task_start_limit_ns=0),
    ),
    (
        "an update names its events",
        begun,
        lambda state: state.updates.update(u=Update(accepted_event_id=9)),
    ),
    (
        "events wait only while a workflow task is started",
        with_commands,
        lambda state: state.buffered.update({0: HistoryEvent(event_type=SIGNALED)}),
    ),
    (
        "a waiting event has no id and is of a type that waits",
        _busy,
        lambda state: state.buffered.update({9: HistoryEvent(event_type=SIGNALED, event_id=4)}),
    ),
    (
        "a waiting event has no id and is of a type that waits",
        _busy,
        lambda state: state.buffered.update({9: HistoryEvent(event_type=MARKER)}),
    ),
    ("a closed run has nothing pending", _busy, _header(close_ns=5)),
    ("a closed run has nothing pending", _closed, lambda state: state.timers.update({"t": Timer("t", 5, 1)})),
    ("a closed run has nothing pending", _closed, _header(sticky_queue="q", sticky_timeout_ns=1)),
    ("a closed run has nothing pending", _closed, _header(close_event_id=1)),
    ("a closed run has nothing pending", _closed, _header(close_ns=1)),
    (
        "a sticky workflow task is a first attempt on a sticky queue",
        begun,
        _header(task_on_sticky_queue=True),
    ),
    (
        "a sticky workflow task is a first attempt on a sticky queue",
        _sticky,
        _header(task_attempt=2, task_scheduled_event_id=7),
    ),
    ("a sticky workflow task is a first attempt on a sticky queue", begun, _header(task_rerouted=True)),
    ("a sticky workflow task is a first attempt on a sticky queue", begun, _header(sticky_timeout_ns=5)),
    ("a run whose first workflow task is held back has none", begun, _header(first_task_at_ns=5)),
    (
        "a run whose first workflow task is held back has none",
        lambda: with_commands(start_timer("t", 5)),
        _header(first_task_at_ns=5, last_completed_task_started_event_id=0),
    ),
    (CHILDREN, _reaching, lambda state: state.children.update({9: Child(5)})),
    (CHILDREN, _reaching, lambda state: setattr(state.children[5], "started_event_id", 4)),
    (CHILDREN, _closed, lambda state: state.children.update({1: Child(1)})),
    (
        "a signal or cancellation on its way names its event",
        _reaching,
        lambda state: state.externals.update({99: External(99)}),
    ),
    ("only a closed child owes its parent anything", begun, _header(owes_parent=True)),
    ("only a closed child owes its parent anything", begun, _header(parent_run_id="half")),
    ("a pending activity is in one possible state", _busy, _activity(scheduled_event_id=7)),
    ("a pending activity is in one possible state", _busy, _activity(attempt=0)),
    ("a pending activity is in one possible state", _busy, _activity(maximum_attempts=2, attempt=3)),
    ("a pending activity is in one possible state", _busy, _activity(backing_off=True)),
    (
        "a pending activity is in one possible state",
        _busy,
        _activity(started_ns=0, cancel_requested_event_id=5),
    ),
    ("a pending activity is in one possible state", _busy, _activity(last_failure=b"x")),
    ("a pending activity is in one possible state", _busy, _activity(last_heartbeat_ns=1)),
    ("pending activities have different ids", _busy, _activity(activity_id="a")),
    (
        "a pending timer names its event",
        _busy,
        lambda state: state.timers.update({"other": Timer("t", 7, 1)}),
    ),
    (
        "a header and its items survive encoding",
        _busy,
        _activity(backoff_coefficient=float("nan")),
    ),
]


def _rule_of(error: InvariantViolation) -> object:
    return error.context["rule"]


@pytest.mark.parametrize(("rule", "prepare", "tamper"), STATES)
def test_a_broken_state_is_noticed(rule: str, prepare: Callable[[], Driver], tamper: Tamper) -> None:
    state = prepare().state
    invariants.check_state(state)
    tamper(state)
    with pytest.raises(InvariantViolation) as caught:
        invariants.check_state(state)
    assert _rule_of(caught.value) == rule


def test_cheap_checks_leave_out_the_costly_ones() -> None:
    state = _busy().state
    _activity(backoff_coefficient=float("nan"))(state)
    invariants.check_state(state, cheap=True)


# --- transitions ---


def _signal(driver: Driver) -> Transition:
    tx = driver.transition()
    signal.receive(
        tx, name="s", input=None, identity="", header=None, request_id="", links=(), limits=driver.limits
    )
    workflow_task.schedule_if_needed(tx)
    return tx


def _finished(tx: Transition) -> RunWrite:
    visibility = listing.record(tx, CUSTOM) if tx.visibility_changed else None
    return tx.finish(deadlines.next_wakeup_ns(tx), visibility)


Break = Callable[[Driver], tuple[Transition, RunWrite]]


def _write(**values: Any) -> Break:
    """A signal to an idle run with an activity, whose record is then changed."""

    def make(driver: Driver) -> tuple[Transition, RunWrite]:
        tx = _signal(driver)
        return tx, replace(_finished(tx), **values)

    return make


def _tx(change: Callable[[Transition], object]) -> Break:
    """A signal, then something that must not be, then the end."""

    def make(driver: Driver) -> tuple[Transition, RunWrite]:
        tx = _signal(driver)
        change(tx)
        return tx, _finished(tx)

    return make


def _after(change: Callable[[Transition], object]) -> Break:
    """A signal, the end, then something that must not be."""

    def make(driver: Driver) -> tuple[Transition, RunWrite]:
        tx = _signal(driver)
        write = _finished(tx)
        change(tx)
        return tx, write

    return make


def _set(**values: Any) -> Callable[[Transition], None]:
    def change(tx: Transition) -> None:
        for name, value in values.items():
            assert hasattr(tx.header, name)
            setattr(tx.header, name, value)

    return change


def _speculative_stored(driver: Driver) -> tuple[Transition, RunWrite]:
    tx = _updated().transition()
    tx.header.task_is_speculative = False
    tx.touch()
    write = _finished(tx)
    tx.header.task_is_speculative = True
    return tx, replace(write, header=encode(tx.header), tasks_put=())


def _unscheduled(driver: Driver) -> tuple[Transition, RunWrite]:
    tx = driver.transition()
    signal.receive(
        tx, name="s", input=None, identity="", header=None, request_id="", links=(), limits=driver.limits
    )
    tx.flush()
    return tx, _finished(tx)


def _vanished(driver: Driver) -> tuple[Transition, RunWrite]:
    driver.signal()
    tx = driver.transition()
    workflow_task.clear_pending(tx.header)
    return tx, _finished(tx)


def _not_held_back(driver: Driver) -> tuple[Transition, RunWrite]:
    delayed = begun(workflow_start_delay={"seconds": 5})
    tx = delayed.transition()
    tx.header.first_task_at_ns = 0
    return tx, _finished(tx)


def _late(tx: Transition) -> None:
    tx.events[-1].event_time.seconds += 5


def _back(tx: Transition) -> None:
    first = tx.append(tx.new_event(MARKER))
    tx.append(tx.new_event(MARKER, first.event_time.ToNanoseconds() - 5))


def _closing(tx: Transition) -> None:
    tx.append(tx.new_event(enums.EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED))


def _closing_not_last(driver: Driver) -> tuple[Transition, RunWrite]:
    driver.signal()
    driver.poll()
    request = workflowservice.RespondWorkflowTaskCompletedRequest(commands=[complete_workflow()])
    tx = completion.respond_completed(
        driver.state, driver.now_ns, driver.token(), request, driver.limits, CUSTOM
    ).tx
    tx.append(tx.new_event(MARKER))
    tx.header.close_event_id += 1
    return tx, _finished(tx)


def _closing_of_another_status(driver: Driver) -> tuple[Transition, RunWrite]:
    tx = driver.transition()
    lifecycle.terminate(tx, reason="", details=None, identity="")
    tx.header.status = 2
    return tx, _finished(tx)


def _after_the_end(driver: Driver) -> tuple[Transition, RunWrite]:
    driver.terminate()
    tx = driver.transition()
    tx.append(tx.new_event(MARKER))
    tx.header.close_event_id += 1
    return tx, _finished(tx)


def _attempt_without_stamp(tx: Transition) -> None:
    edited = tx.activities.edit(6)
    edited.attempt, edited.last_failure = 2, b"x"


def _starts_again(tx: Transition) -> None:
    tx.append(tx.new_event(enums.EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED))


def _seen_nothing(driver: Driver) -> tuple[Transition, RunWrite]:
    fresh = Driver()
    tx = fresh.transition()
    tx.append(tx.new_event(enums.EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED))
    tx.visibility_changed = True
    return tx, _finished(tx)


def _follows(change: Callable[[Transition], object]) -> Break:
    """A continue-as-new whose next run is then changed."""

    def make(driver: Driver) -> tuple[Transition, RunWrite]:
        driver.signal()
        driver.poll()
        request = workflowservice.RespondWorkflowTaskCompletedRequest(commands=[continue_as_new()])
        tx = completion.respond_completed(
            driver.state, driver.now_ns, driver.token(), request, driver.limits, CUSTOM
        ).tx
        change(tx)
        return tx, _finished(tx)

    return make


def _next(tx: Transition) -> Transition:
    assert tx.successor is not None
    return tx.successor


def _next_started(tx: Transition) -> Any:
    return _next(tx).events[0].workflow_execution_started_event_attributes


FOLLOWS = "what follows a run is named by its closing event, and names it"
OTHER_TASK = TaskKey(TaskKind.ACTIVITY, 77)
ROW = "task rows follow the state"
TIMES = "event times never go back within what is written at once"
WOKEN = "an open run will be woken"
CLOSING = "a run closes with one closing event, the last"
ITEMS = "items written are the items changed"

TRANSITIONS: list[tuple[str, Break]] = [
    ("event ids have no gap", _after(lambda tx: setattr(tx.events[0], "event_id", 99))),
    ("event ids have no gap", _write(events=())),
    ("event ids have no gap", _write(events=(EventBatch(8, 99, b""),))),
    ("what is written is what happened", _after(lambda tx: setattr(tx.events[0], "task_id", 99))),
    ("what is written is what happened", _after(_set(history_size_bytes=0))),
    (TIMES, _tx(_late)),
    (TIMES, _tx(_back)),
    ("a transition counts itself and starts from the committed version", _write(expected_version=99)),
    ("a transition counts itself and starts from the committed version", _after(_set(transition_count=0))),
    ("a closed run stays as it is", _after_the_end),
    (CLOSING, _tx(_closing)),
    (CLOSING, _closing_not_last),
    (CLOSING, _closing_of_another_status),
    (FOLLOWS, _follows(lambda tx: setattr(tx, "successor", None))),
    (FOLLOWS, _follows(lambda tx: _next_started(tx).ClearField("continued_execution_run_id"))),
    (FOLLOWS, _follows(lambda tx: setattr(_next(tx).header, "execution_expiration_ns", 5))),
    ("the written status and header are those of the state", _write(status=2)),
    ("the written status and header are those of the state", _write(header=b"{}")),
    ("the wake-up is the earliest deadline", _write(wakeup_ns=5)),
    (WOKEN, _unscheduled),
    (WOKEN, _vanished),
    (WOKEN, _not_held_back),
    (WOKEN, _seen_nothing),
    (ROW, _write(tasks_put=())),
    (ROW, _write(tasks_deleted=(OTHER_TASK,))),
    (ROW, _write(tasks_deleted=(TaskKey(TaskKind.ACTIVITY, 5),))),
    ("a speculative workflow task is not stored", _speculative_stored),
    ("a dispatch never repeats", _tx(_set(task_stamp=0))),
    ("a dispatch never repeats", _tx(_attempt_without_stamp)),
    ("a dispatch never repeats", _tx(lambda tx: setattr(tx.activities.edit(6), "stamp", 0))),
    (ITEMS, _write(items=(ItemChange("timer", "t", None),))),
    (ITEMS, _write(items=(ItemChange("child", "5", b"{}"),))),
    (ITEMS, _write(items=(ItemChange("signal", "never", b""),))),
    (ITEMS, _write(items=(ItemChange("request", "never", b"5"),))),
    ("lists hear of what they show", _tx(lambda tx: tx.blobs.put("memo", b""))),
    ("a run starts once", _tx(_starts_again)),
]


@pytest.mark.parametrize(("rule", "make"), TRANSITIONS)
def test_a_broken_transition_is_noticed(rule: str, make: Break) -> None:
    driver = with_commands(schedule_activity("a", QUEUE), schedule_activity("b", QUEUE), start_timer("t", 50))
    driver.start_activity(6)
    tx, write = make(driver)
    with pytest.raises(InvariantViolation) as caught:
        invariants.check_transition(tx, write)
    assert _rule_of(caught.value) == rule


def test_a_record_for_lists_that_is_out_of_date_is_noticed() -> None:
    driver = begun()
    driver.apply(lambda tx: setattr(tx, "visibility_changed", True))
    assert driver.write is not None
    stale = driver.write.visibility
    tx = _signal(driver)
    write = replace(_finished(tx), visibility=stale)
    with pytest.raises(InvariantViolation) as caught:
        invariants.check_transition(tx, write)
    assert _rule_of(caught.value) == "lists hear of what they show"


def test_a_task_put_again_unchanged_is_noticed() -> None:
    driver = begun()
    tx = _signal(driver)
    write = replace(_finished(tx), tasks_put=tuple(driver.tasks.values()))
    with pytest.raises(InvariantViolation) as caught:
        invariants.check_transition(tx, write)
    assert _rule_of(caught.value) == ROW


def test_cheap_checks_of_a_transition_encode_nothing() -> None:
    driver = begun()
    tx = _signal(driver)
    write = replace(_finished(tx), header=b"{}")
    invariants.check_transition(tx, write, cheap=True)


# --- the store's tasks ---


@pytest.mark.parametrize(
    "prepare", [lambda tasks: tasks[:1], lambda tasks: [replace(tasks[0], delivery_id="x"), *tasks[1:]]]
)
def test_a_task_row_too_few_or_another_is_noticed(prepare: Callable[[list[Task]], list[Task]]) -> None:
    driver = with_commands(schedule_activity("a", QUEUE), schedule_activity("b", QUEUE))
    tasks = list(driver.tasks.values())
    invariants.check_tasks(driver.state, tasks)
    with pytest.raises(InvariantViolation) as caught:
        invariants.check_tasks(driver.state, prepare(tasks))
    assert _rule_of(caught.value) == "stored tasks are those of the state"


# --- histories ---

History = Callable[[RunState, list[HistoryEvent]], object]
PENDING_CHILDREN = "pending children follow from the history"
POSSIBLE = "the history is one that can have happened"


def _event(name: str, event_id: int, **values: int) -> HistoryEvent:
    event = HistoryEvent(event_id=event_id, event_type=enums.EventType.Value(f"EVENT_TYPE_{name}"))
    attributes = getattr(event, f"{name.lower()}_event_attributes")
    attributes.SetInParent()
    for field, value in values.items():
        setattr(attributes, field, value)
    return event


def _appended(name: str, **values: Any) -> History:
    def change(state: RunState, events: list[HistoryEvent]) -> None:
        state.buffered.clear()
        events.append(_event(name, len(events) + 1, **values))

    return change


def _of_state(tamper: Tamper) -> History:
    return lambda state, events: tamper(state)


OPERATIONS = "pending Nexus operations follow from the history"
HISTORIES: list[tuple[str, Callable[[], Driver], History]] = [
    (POSSIBLE, _busy, lambda state, events: events.pop(3)),
    (POSSIBLE, _busy, lambda state, events: events.pop(0)),
    (POSSIBLE, _closed, _appended("MARKER_RECORDED", workflow_task_completed_event_id=4)),
    (POSSIBLE, _busy, _appended("MARKER_RECORDED", workflow_task_completed_event_id=3)),
    (POSSIBLE, _busy, _appended("WORKFLOW_EXECUTION_COMPLETED", workflow_task_completed_event_id=4)),
    (POSSIBLE, begun, _appended("WORKFLOW_TASK_SCHEDULED")),
    (POSSIBLE, begun, _appended("WORKFLOW_TASK_STARTED", scheduled_event_id=1)),
    (POSSIBLE, _busy, _appended("WORKFLOW_TASK_COMPLETED", scheduled_event_id=2, started_event_id=3)),
    (POSSIBLE, begun, _appended("ACTIVITY_TASK_SCHEDULED")),
    (POSSIBLE, _busy, _appended("ACTIVITY_TASK_STARTED", scheduled_event_id=7)),
    (POSSIBLE, _busy, _appended("ACTIVITY_TASK_COMPLETED", scheduled_event_id=7)),
    (POSSIBLE, _busy, _appended("ACTIVITY_TASK_COMPLETED", scheduled_event_id=6, started_event_id=3)),
    (POSSIBLE, _busy, _appended("ACTIVITY_TASK_CANCELED", scheduled_event_id=5)),
    (POSSIBLE, _busy, _appended("ACTIVITY_TASK_CANCEL_REQUESTED", scheduled_event_id=4)),
    (POSSIBLE, _busy, _appended("TIMER_FIRED", started_event_id=5)),
    (POSSIBLE, _reaching, _appended("CHILD_WORKFLOW_EXECUTION_STARTED", initiated_event_id=6)),
    (POSSIBLE, _reaching, _appended("START_CHILD_WORKFLOW_EXECUTION_FAILED", initiated_event_id=6)),
    (POSSIBLE, _reaching, _appended("CHILD_WORKFLOW_EXECUTION_COMPLETED", initiated_event_id=5)),
    (POSSIBLE, _reaching, _appended("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", initiated_event_id=5)),
    (PENDING_CHILDREN, _reaching, _of_state(lambda state: state.children.clear())),
    (PENDING_CHILDREN, _reaching, _of_state(lambda state: setattr(state.children[5], "run_id", "x"))),
    (PENDING_CHILDREN, _closed, _of_state(lambda state: state.children.update({1: Child(1, run_id="x")}))),
    (
        "signals and cancellations on their way follow from the history",
        _reaching,
        _of_state(lambda state: state.externals.clear()),
    ),
    (
        POSSIBLE,
        _busy,
        lambda state, events: [
            _appended("WORKFLOW_EXECUTION_CANCEL_REQUESTED")(state, events) for _ in range(2)
        ],
    ),
    ("the state knows the history's length", _busy, _of_state(_header(next_event_id=50))),
    ("a closing event is there when the run is closed", _closed, _of_state(_header(status=1))),
    ("pending activities follow from the history", _busy, _of_state(lambda state: state.activities.pop(5))),
    (
        "pending activities follow from the history",
        _busy,
        _of_state(_activity(cancel_requested_event_id=4)),
    ),
    (OPERATIONS, _asking, _of_state(lambda state: state.nexus_operations.clear())),
    (OPERATIONS, _asking, _of_state(_operation(started_ns=7))),
    (OPERATIONS, _asked, _of_state(_operation(cancel_requested_event_id=4))),
    ("pending timers follow from the history", _busy, _of_state(lambda state: state.timers.clear())),
    (
        "the pending workflow task follows from the history",
        _busy,
        _of_state(_header(task_started_event_id=99)),
    ),
    ("the pending workflow task follows from the history", _busy, _of_state(_header(task_attempt=2))),
    (
        "the last completed workflow task follows from the history",
        _busy,
        _of_state(_header(last_completed_task_started_event_id=2)),
    ),
    (
        "every event that a workflow must hear of is looked at",
        with_commands,
        lambda state, events: [
            _appended("WORKFLOW_EXECUTION_SIGNALED")(state, events),
            _header(next_event_id=6, signal_count=1)(state),
        ],
    ),
    (
        "accepted and completed updates follow from the history",
        _busy,
        _of_state(lambda state: state.updates.update(u=Update(accepted_event_id=4))),
    ),
    ("signals and the request to cancel are counted", _busy, _of_state(_header(signal_count=7))),
    ("signals and the request to cancel are counted", _busy, _of_state(_header(cancel_requested=True))),
]


@pytest.mark.parametrize(("rule", "prepare", "tamper"), HISTORIES)
def test_a_history_that_disagrees_is_noticed(
    rule: str, prepare: Callable[[], Driver], tamper: History
) -> None:
    driver = prepare()
    invariants.check_history(driver.state, driver.history)
    tamper(driver.state, driver.history)
    with pytest.raises(InvariantViolation) as caught:
        invariants.check_history(driver.state, driver.history)
    assert _rule_of(caught.value) == rule


def test_a_pending_activity_whose_start_is_written_is_noticed() -> None:
    """Started events come with the end only."""
    driver = _busy()
    driver.state.buffered.clear()
    driver.history.append(_event("ACTIVITY_TASK_STARTED", len(driver.history) + 1, scheduled_event_id=6))
    driver.header.next_event_id += 1
    driver.header.signal_count -= 1
    with pytest.raises(InvariantViolation, match="its Started event is written"):
        invariants.check_history(driver.state, driver.history)


def test_a_retried_activity_agrees_with_its_history() -> None:
    driver = with_commands(schedule_activity("a", QUEUE))
    driver.start_activity(5)
    driver.fail_activity(5, application_failure())
    replayed = history_rules.replay(driver.history)
    assert (replayed.activities, replayed.started) == ({5: "a"}, {})
    assert isinstance(driver.state.activities[5], Activity)


def test_every_rule_is_shown_to_fail() -> None:
    shown = {row[0] for row in (*STATES, *TRANSITIONS, *HISTORIES)}
    assert shown == set(invariants.names())
    assert len(invariants.names()) == len(set(invariants.names())) >= 30
