"""Signals and cancellation requests to other workflows."""

from __future__ import annotations

import pytest

from perdure.core.replay.activation import ResolveCancelExternal, ResolveSignalExternal
from perdure.core.replay.steps import TaskCompletion
from tests.support.proto import enums
from tests.unit.replay.bench import Bench
from tests.unit.replay.code import Code, Context, Stopped


async def signals(context: Context) -> str:
    try:
        await context.signal_other("other")
    except Stopped as error:
        return error.failure.message
    return "done"


async def cancels(context: Context) -> str:
    try:
        await context.cancel_other("other", "because")
    except Stopped as error:
        return error.failure.message
    return "done"


def test_a_signal_is_delivered() -> None:
    bench = Bench(lambda: Code(signals))
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    attributes = step.commands[0].signal_external_workflow_execution_command_attributes
    assert (attributes.namespace, attributes.signal_name) == ("default", "hello")
    bench.record(step)
    bench.add("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", initiated_event_id=5)
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    assert bench.code.activation.jobs == [ResolveSignalExternal(1)]
    bench.check_replay()


@pytest.mark.parametrize(
    ("cause", "name", "reason"),
    [
        ("EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND", "ExternalWorkflowExecutionNotFound", "it was not found"),
        (
            "SIGNAL_COUNT_LIMIT_EXCEEDED",
            "SignalCountLimitExceeded",
            "The per-workflow signal limit was exceeded",
        ),
    ],
)
def test_a_signal_fails(cause: str, name: str, reason: str) -> None:
    number = enums.SignalExternalWorkflowExecutionFailedCause.Value(
        f"SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_{cause}"
    )
    bench = Bench(lambda: Code(signals))
    bench.work()
    bench.add("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED", initiated_event_id=5, cause=number)
    bench.work()
    (job,) = bench.code.activation.jobs
    assert isinstance(job, ResolveSignalExternal)
    assert job.failure is not None
    assert job.failure.message == f"Unable to signal external workflow because {reason}"
    assert job.failure.application_failure_info.type == name
    bench.check_replay()


def test_a_signal_taken_back_before_it_was_sent_disappears() -> None:
    async def main(context: Context) -> None:
        signal = context.signal_other("other")
        context.cancel_signal(signal)
        with pytest.raises(Stopped, match="Signal was cancelled before being sent"):
            await signal
        await context.timer(1)

    bench = Bench(lambda: Code(main))
    assert bench.work() == ["START_TIMER"]
    bench.check_replay()


def test_a_signal_that_was_sent_cannot_be_taken_back() -> None:
    async def main(context: Context) -> None:
        signal = context.signal_other("other")
        await context.until(lambda: bool(context.signals))
        context.cancel_signal(signal)
        await signal

    bench = Bench(lambda: Code(main))
    bench.work()
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    assert bench.work() == []
    bench.add("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", initiated_event_id=5)
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_a_cancellation_request_says_who_asks() -> None:
    bench = Bench(lambda: Code(cancels))
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    attributes = step.commands[0].request_cancel_external_workflow_execution_command_attributes
    assert attributes.reason == "Cancel requested by workflow with run id run with reason: because"
    bench.record(step)
    bench.add("EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED", initiated_event_id=5)
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    assert bench.code.activation.jobs == [ResolveCancelExternal(1)]
    bench.check_replay()


def test_a_cancellation_request_fails() -> None:
    number = enums.CancelExternalWorkflowExecutionFailedCause.Value(
        "CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
    )
    bench = Bench(lambda: Code(cancels))
    bench.work()
    bench.add("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED", initiated_event_id=5, cause=number)
    bench.work()
    (job,) = bench.code.activation.jobs
    assert isinstance(job, ResolveCancelExternal)
    assert job.failure is not None
    assert job.failure.message == "Unable to cancel external workflow because not found"
    assert job.failure.application_failure_info.type == "ExternalWorkflowExecutionNotFound"
    bench.check_replay()
