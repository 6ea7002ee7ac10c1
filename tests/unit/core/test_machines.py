"""The tables of state machines: the code does what they say, all of it, and the diagrams are drawn from them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.core.nexus.outcomes import Started, Succeeded
from perdure.core.run import (
    activity,
    activity_control,
    child,
    machines,
    nexus_operation,
    workflow_task,
)
from perdure.core.run.activity import ActivityToken
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.machines import (
    ACTIVITY,
    CHILD,
    EXTERNAL,
    MACHINES,
    NEXUS_OPERATION,
    RUN,
    TIMER,
    WORKFLOW_TASK,
    Machine,
)
from perdure.core.run.transition import Transition
from tests.support.builders import (
    application_failure,
    cancel_activity,
    cancel_external,
    cancel_operation,
    cancel_timer,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    payloads,
    retry_policy,
    schedule_activity,
    schedule_operation,
    signal_external,
    start_child,
    start_timer,
)
from tests.support.proto import enums
from tests.unit.core import observe
from tests.unit.core.driver import QUEUE, STICKY, Driver, begun, with_commands
from tests.unit.core.observe import Seen, observed
from tests.unit.core.test_child import run_child, tell
from tests.unit.core.test_external import other, reach
from tests.unit.core.test_nexus_operation import TRANSIENT, answered
from tests.unit.core.test_reset import reset_to

ROOT = Path(__file__).resolve().parents[3]


def _activity(**fields: object) -> Driver:
    """A run whose activity "a" is event 5."""
    return with_commands(schedule_activity("a", QUEUE, **fields))  # type: ignore[arg-type]


def _started(**fields: object) -> Driver:
    driver = _activity(**fields)
    driver.start_activity(5)
    return driver


def _cancel_requested(**fields: object) -> Driver:
    driver = _started(**fields)
    driver.signal()
    driver.complete(cancel_activity(5))
    return driver


def _backing_off(**fields: object) -> Driver:
    driver = _started(**fields)
    driver.fail_activity(5, application_failure())
    return driver


def _closed(driver: Driver) -> None:
    driver.terminate()


# --- the run ---


def _runs_close() -> None:
    for closing in (complete_workflow(), fail_workflow(application_failure()), cancel_workflow()):
        with_commands(closing)
    begun().terminate()
    begun(workflow_run_timeout=duration(5)).wake()
    with_commands(continue_as_new())
    reset_to(with_commands(), 4)
    paused = begun(workflow_run_timeout=duration(5))
    paused.pause()
    paused.wake()
    begun().pause()
    for end in (Driver.terminate, Driver.unpause):
        paused = begun()
        paused.pause()
        end(paused)


# --- the workflow task ---


def _sticky() -> Driver:
    driver = begun()
    driver.complete(sticky_on=STICKY)
    driver.signal()
    return driver


def _transient() -> Driver:
    driver = begun()
    driver.poll()
    driver.fail_task()
    return driver


def _workflow_tasks() -> None:
    begun(workflow_start_delay=duration(5)).wake()
    begun(workflow_start_delay=duration(5)).cancel()
    _sticky().poll()
    _sticky().wake()
    for then in (Driver.poll, Driver.wake, _closed):
        rerouted = _sticky()
        rerouted.apply(workflow_task.reroute_to_normal_queue)
        then(rerouted)
    failing = _transient()
    failing.poll()
    failing.fail_task()
    failing.poll()
    failing.wake()
    failing.poll()
    failing.signal()
    failing.fail_task()  # flushed: a normal first attempt
    converted = _transient()
    converted.signal()
    converted.poll()
    completed = _transient()
    completed.complete()
    for end in (Driver.fail_task, Driver.wake):
        for driver in (begun(), _sticky()):
            driver.poll()
            end(driver)
    for driver in (
        begun(),
        _sticky(),
        _transient(),
        with_commands(),
        begun(workflow_start_delay=duration(5)),
    ):
        _closed(driver)
    started = begun()
    started.poll()
    _closed(started)
    _speculative_tasks()


def _updated(*, sticky_on: str = "", rerouted: bool = False, started: bool = False) -> Driver:
    driver = begun()
    driver.complete(sticky_on=sticky_on)
    driver.update()
    if rerouted:
        tx = driver.transition()
        workflow_task.reroute_to_normal_queue(tx)
        tx.is_in_memory = True
        driver.keep(tx)
    if started:
        driver.poll()
    return driver


def _speculative_tasks() -> None:
    for sticky_on in ("", STICKY):
        for act in (Driver.signal, Driver.cancel, Driver.wake, _closed):
            for started in (False, True):
                act(_updated(sticky_on=sticky_on, started=started))
        _updated(sticky_on=sticky_on, started=True).fail_task()
    for act in (Driver.signal, Driver.cancel):
        act(_updated(sticky_on=STICKY, rerouted=True))
    for driver in (begun(), _sticky(), _transient(), _updated(), _updated(started=True)):
        driver.pause()
    rerouted = _sticky()
    rerouted.apply(workflow_task.reroute_to_normal_queue)
    rerouted.pause()
    in_flight = begun()
    in_flight.poll()
    in_flight.pause()
    in_flight.respond(complete_workflow())  # refused: it has not seen the pause, and no other task follows
    _updated(started=True).respond(start_timer("t", 5))
    _updated(started=True).respond()
    held_back = [begun(workflow_start_delay=duration(5)) for _ in range(2)]
    for driver in held_back:
        driver.update()
    _closed(held_back[0])
    held_back[1].poll()
    held_back[1].respond()
    held_back[1].wake()
    converted = _updated()
    converted.signal()
    converted.wake()


# --- activities ---


def _activities() -> None:
    once = retry_policy(attempts=1)
    for driver in (_activity(), _started(), _cancel_requested(), _backing_off()):
        _closed(driver)
    _started().complete_activity(5)
    _cancel_requested().complete_activity(5)
    _started(retry=once).fail_activity(5, application_failure())
    _started().fail_activity(5, application_failure(next_retry_delay_s=0))
    _cancel_requested().fail_activity(5, application_failure())
    for driver in (_activity(), _backing_off(schedule_to_close_s=60)):
        if not driver.header.has_pending_task:
            driver.signal()
        driver.complete(cancel_activity(5))
    _cancel_requested().cancel_activity(5)
    asked = _cancel_requested()
    asked.signal()
    asked.complete()
    reset_to(asked, len(asked.history))
    _backing_off().wake()
    for driver in (
        _started(),
        _started(retry=once),
        _activity(schedule_to_start_s=3),
        _cancel_requested(),
    ):
        driver.sleep(8)
        driver.wake()
    by_id = _backing_off()
    by_id.apply(
        lambda tx: activity.complete(
            tx, activity.current(tx, ActivityToken(activity_id="a"), start_as="me"), payloads("r"), "me"
        )
    )

    _controlled_activities()


def _control(driver: Driver, name: str, **fields: object) -> Driver:
    """An operator does something to every pending activity."""
    values: dict[str, object] = {"identity": "i", "reason": "r", "request_id": "q"} if name == "pause" else {}

    def change(tx: Transition) -> None:
        for pending in activity_control.chosen(tx):
            getattr(activity_control, name)(tx, pending, **(values | fields))

    driver.apply(change)
    return driver


def _slower(driver: Driver, initial_s: float) -> None:
    def change(tx: Transition) -> None:
        for pending in activity_control.chosen(tx):
            wanted = activity_control.options(pending)
            wanted.retry_policy.initial_interval.FromMilliseconds(round(initial_s * 1000))
            activity_control.apply_options(tx, pending, wanted)

    driver.apply(change)


def _controlled_activities() -> None:
    for jitter_ns in (0, SECOND_NS):
        for name in ("unpause", "reset"):
            for driver in (_activity(), _backing_off(), _started()):
                _control(_control(driver, "pause"), name, jitter_ns=jitter_ns)
    paused = _control(_activity(schedule_to_close_s=6), "pause")
    put_off = _control(paused, "unpause", jitter_ns=60 * SECOND_NS)
    put_off.sleep(7)
    put_off.wake()
    _control(_backing_off(), "reset")
    _control(_activity(), "reset", jitter_ns=SECOND_NS)
    waiting = _backing_off()
    waiting.sleep(0.5)
    _slower(waiting, 0.1)
    _slower(waiting, 60)
    _control(_started(), "pause").complete_activity(5)
    _control(_started(), "pause").fail_activity(5, application_failure())
    _control(_started(), "pause").fail_activity(5, application_failure(non_retryable=True))
    for driver in (_activity(), _started()):
        _closed(_control(driver, "pause"))
    for driver in (_activity(), _started()):
        _control(driver, "pause").signal()
        driver.complete(cancel_activity(5))
    _control(_activity(), "pause").start_activity(5)


# --- timers ---


def _timers() -> None:
    with_commands(start_timer("t", 5)).wake()
    _closed(with_commands(start_timer("t", 5)))
    running = with_commands(start_timer("t", 5))
    running.signal()
    running.complete(cancel_timer("t"))
    fired = with_commands(start_timer("t", 5))
    fired.signal()
    fired.poll()
    fired.wake()
    fired.respond(cancel_timer("t"))


# --- children, signals and cancellations ---


def _children() -> None:
    _closed(with_commands(start_child("c")))
    failing = with_commands(start_child("c"))
    failing.apply(lambda tx: child.start_failed(tx, failing.history[4], 1))
    for policy in (0, enums.ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON):
        parent = with_commands(start_child("c", parent_close_policy=policy))
        run_child(parent)
        _closed(parent)
        if parent.state.children:
            parent.apply(lambda tx: child.forget(tx, 5))
    parent = with_commands(start_child("c"))
    mine = run_child(parent)
    mine.terminate()
    tell(parent, mine)


def _externals() -> None:
    for sent in (signal_external("other"), cancel_external("other")):
        reach(with_commands(sent), other())
        reach(with_commands(sent), None)
        _closed(with_commands(sent))


def _operations() -> None:
    """Every end of an operation in every state that it can be in."""

    def scheduled() -> Driver:
        return with_commands(schedule_operation(schedule_to_close_timeout=duration(60)))

    def tried() -> Driver:
        return answered(scheduled(), TRANSIENT)

    def cancel_waits() -> Driver:
        driver = scheduled()
        driver.signal()
        driver.complete(cancel_operation(5))
        return driver

    def cancel_waits_after_a_try() -> Driver:
        driver = tried()
        driver.signal()
        driver.complete(cancel_operation(5))
        return driver

    def started() -> Driver:
        return answered(scheduled(), Started("token"))

    def canceling() -> Driver:
        driver = started()
        driver.complete(cancel_operation(5))
        return driver

    def cancel_settled() -> Driver:
        driver = canceling()
        driver.apply(lambda tx: nexus_operation.cancel_answered(tx, 5, 0, None))
        return driver

    done = Succeeded(None)

    def told(request_id: str) -> Callable[[Transition], object]:
        return lambda tx: nexus_operation.complete(tx, 5, request_id, done)

    states = (scheduled, tried, cancel_waits, cancel_waits_after_a_try, started, canceling, cancel_settled)
    for state in states:
        ended = state()
        request_id = ended.state.nexus_operations[5].request_id
        ended.apply(told(request_id))
        late = state()
        late.sleep(61)
        late.fire()
        state().terminate()
    for state in (scheduled, tried, cancel_waits):
        answered(state(), done)
        answered(state(), Started("token"))


@pytest.mark.parametrize(
    ("machine", "scenario"),
    [
        (RUN, _runs_close),
        (WORKFLOW_TASK, _workflow_tasks),
        (ACTIVITY, _activities),
        (TIMER, _timers),
        (CHILD, _children),
        (EXTERNAL, _externals),
        (NEXUS_OPERATION, _operations),
    ],
    ids=lambda value: value.name if isinstance(value, Machine) else "",
)
def test_every_row_of_a_table_is_seen(machine: Machine, scenario: Callable[[], None]) -> None:
    """A row that nothing does any more must leave the table (and the diagram)."""
    seen: Seen = {}
    with observed(seen):
        scenario()
    assert seen[machine.name] == machine.edges


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_state_of_a_table_is_named_and_reached(machine: Machine) -> None:
    named = {state for before, _, after in machine.edges for state in (before, after)}
    assert named == set(machine.states)
    assert {after for _, _, after in machine.edges} >= set(machine.states) - {machine.initial}


def test_a_change_that_no_table_has_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The observation can fail: without its row, a change is an error."""
    poorer = replace(
        TIMER, edges=TIMER.edges - {("running", "timer.fire", "fired")} | {("none", "timer.fire", "x")}
    )
    rows = [(poorer if row[0] is TIMER else row[0], *row[1:]) for row in observe.WATCHED]
    monkeypatch.setattr(observe, "WATCHED", rows)
    driver = with_commands(start_timer("t", 5))
    with observed({}), pytest.raises(AssertionError, match="is not in the table"):
        driver.wake()


def test_what_was_never_there_has_the_initial_state() -> None:
    tx = begun().transition()
    assert machines.timer_state(tx, 99) == TIMER.initial
    assert machines.activity_state(tx, 99) == ACTIVITY.initial


def test_the_diagrams_are_fresh() -> None:
    """docs/state-machines.md is what docs/make_diagrams.py makes of the tables."""
    spec = importlib.util.spec_from_file_location("make_diagrams", ROOT / "docs" / "make_diagrams.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text() == module.page(), "run `python docs/make_diagrams.py`"
