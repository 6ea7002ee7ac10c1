"""Signals and requests to cancel between workflows: on the sender's side and on the other one's."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.errors import ResourceExhaustedError
from perdure.core.run import commands, effects, external
from perdure.core.run.effects import Effect, Kind
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunKey
from tests.support.builders import (
    cancel_external,
    complete_workflow,
    header,
    payloads,
    signal_external,
    start_child,
)
from tests.support.proto import command
from tests.unit.core.driver import RUN, Driver, with_commands
from tests.unit.core.test_child import run_child

NOWHERE = "0190c7a8-0000-7000-8000-000000000001"
OTHER = RunKey(RUN.namespace_id, "other", NOWHERE)
SIGNAL = signal_external("other", input=payloads("in"), header=header({"h": "v"}), control="control")
CANCEL = cancel_external("other", reason="why", control="control")


def other() -> Driver:
    """Another workflow."""
    driver = Driver(run=OTHER)
    driver.start()
    return driver


def reach(sender: Driver, target: Driver | None, event_id: int = 5) -> int:
    """Delivers as the engine does; returns the cause of a failure, or 0."""
    initiated = sender.history[event_id - 1]
    cause = external.NOT_FOUND[sender.state.externals[event_id].kind]
    if target is not None:
        tx = target.transition()
        cause = external.receive(tx, sender.state.run, initiated, target.limits)
        if not tx.is_untouched:
            target.commit(tx)
    sender.apply(lambda tx: external.settled(tx, initiated, cause))
    return cause


def test_a_signal_reaches_the_other_workflow_once() -> None:
    sender, target = with_commands(SIGNAL), other()
    assert effects.pending(sender.transition()) == [Effect(Kind.REACH_EXTERNAL, 5)]
    assert sender.state.wakeup_ns == sender.now_ns
    assert reach(sender, target) == 0
    attributes = target.last("WORKFLOW_EXECUTION_SIGNALED").workflow_execution_signaled_event_attributes
    assert (attributes.signal_name, attributes.input) == ("go", payloads("in"))
    assert (attributes.header, attributes.identity) == (header({"h": "v"}), "history-service")
    assert attributes.external_workflow_execution.run_id == RUN.run_id
    assert attributes.request_id
    assert not target.state.signal_request_ids  # what is delivered in one commit need not be remembered
    done = sender.last(
        "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED"
    ).external_workflow_execution_signaled_event_attributes
    assert (done.initiated_event_id, done.workflow_execution.workflow_id, done.control) == (
        5,
        "other",
        "control",
    )
    assert not sender.state.externals
    assert sender.header.has_pending_task


def test_a_request_to_cancel_reaches_the_other_workflow() -> None:
    sender, target = with_commands(CANCEL), other()
    assert reach(sender, target) == 0
    attributes = target.last(
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED"
    ).workflow_execution_cancel_requested_event_attributes
    assert (attributes.cause, attributes.external_initiated_event_id) == ("why", 5)
    assert attributes.external_workflow_execution.workflow_id == RUN.workflow_id
    assert "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED" in sender.types()


def test_cancelling_what_is_cancelled_or_closed_succeeds() -> None:
    target = other()
    target.cancel()
    events = len(target.history)
    assert reach(with_commands(CANCEL), target) == 0
    target.terminate()
    assert reach(with_commands(CANCEL), target) == 0
    assert len(target.history) == events + 1


def test_a_signal_to_a_closed_workflow_fails() -> None:
    target = other()
    target.terminate()
    sender = with_commands(SIGNAL)
    assert reach(sender, target) == external.NOT_FOUND[external.SIGNAL]
    failed = sender.last(
        "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED"
    ).signal_external_workflow_execution_failed_event_attributes
    assert (failed.initiated_event_id, failed.cause, failed.control) == (5, 1, "control")


@pytest.mark.parametrize("sent", [SIGNAL, CANCEL])
def test_nobody_is_there(sent: command.Command) -> None:
    sender = with_commands(sent)
    assert reach(sender, None)
    assert sender.types(5)[0].endswith("EXTERNAL_WORKFLOW_EXECUTION_FAILED")


@pytest.mark.parametrize("make", [signal_external, cancel_external])
def test_only_children_when_only_children_are_meant(make: Any) -> None:
    assert reach(with_commands(make("other", child_workflow_only=True)), other())
    parent = with_commands(start_child("c"))
    mine = run_child(parent)
    parent.complete(make("c", child_workflow_only=True))
    initiated = parent.types().index(
        next(name for name in parent.types() if name.endswith("EXTERNAL_WORKFLOW_EXECUTION_INITIATED"))
    )
    assert reach(parent, mine, initiated + 1) == 0


def test_a_workflow_that_takes_no_more_signals() -> None:
    target = Driver(Limits(signals=1), OTHER)
    target.start()
    target.signal()
    assert reach(with_commands(SIGNAL), target) == external.TOO_MANY_SIGNALS


def test_a_workflow_that_is_about_to_close_is_signalled_later() -> None:
    target = other()
    target.poll()
    target.signal()
    target.respond(complete_workflow())
    target.poll()
    sender = with_commands(SIGNAL)
    with pytest.raises(ResourceExhaustedError):
        external.receive(target.transition(), RUN, sender.history[4], target.limits)


def test_the_sender_closes_first() -> None:
    sender = with_commands(SIGNAL, CANCEL)
    sender.terminate()
    assert not sender.state.externals
    assert not effects.pending(sender.transition())


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([signal_external("")], "WorkflowId is not set on Signal"),
        ([signal_external("x" * 1001)], "WorkflowId on SignalExternal"),
        ([signal_external("w", "nonsense")], "Invalid RunId set on Signal"),
        ([signal_external("w", signal_name="")], "SignalName is not set"),
        ([signal_external("w", namespace="elsewhere")], "cross namespace commands are not allowed"),
        ([cancel_external("")], "WorkflowId is not set on RequestCancel"),
        ([cancel_external("x" * 1001)], "WorkflowId on RequestCancelExternal"),
        ([cancel_external("w", "nonsense")], "Invalid RunId set on RequestCancel"),
        ([cancel_external("w", namespace="elsewhere")], "cross namespace commands are not allowed"),
        ([start_child("w"), cancel_external("w")], "Start and RequestCancel for child workflow"),
    ],
)
def test_a_bad_command_fails_the_task(sent: list[command.Command], message: str) -> None:
    driver = with_commands(*sent)
    assert (
        message in driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes.failure.message
    )
    assert not driver.state.externals


def test_without_execution() -> None:
    bare = signal_external("w")
    bare.signal_external_workflow_execution_command_attributes.ClearField("execution")
    driver = with_commands(bare)
    failed = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert "Execution is not set" in failed.failure.message


@pytest.mark.parametrize(
    ("sent", "cause"),
    [(signal_external("w"), "PENDING_SIGNALS"), (cancel_external("w"), "PENDING_REQUEST_CANCEL")],
)
def test_what_is_on_its_way_is_limited(sent: command.Command, cause: str) -> None:
    limits = Limits(pending_external_signals=1, pending_external_cancels=1)
    driver = with_commands(sent, sent, limits=limits)
    failed = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert failed.cause == commands.cause_number(f"{cause}_LIMIT_EXCEEDED")


def test_too_large_a_signal_terminates_the_sender() -> None:
    driver = with_commands(signal_external("w", input=payloads("x" * 600)), limits=Limits(blob_bytes=500))
    assert driver.types()[-1] == "WORKFLOW_EXECUTION_TERMINATED"


def test_a_signal_does_not_wake_a_workflow_that_is_held_back() -> None:
    target = Driver(run=OTHER)
    target.start(workflow_start_delay={"seconds": 60})
    assert reach(with_commands(SIGNAL), target) == 0
    assert not target.header.has_pending_task
