"""Child workflows: starts, ends, and what each kind of cancellation asks for and waits for."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.replay.activation import ResolveChildWorkflow, ResolveChildWorkflowStart
from perdure.core.replay.instructions import ChildCancellation
from perdure.core.replay.steps import TaskCompletion
from tests.support.builders import application_failure, payloads
from tests.support.proto import common, enums
from tests.unit.replay.bench import Bench
from tests.unit.replay.code import Code, Context, Stopped

ABANDON, TRY, WAIT, REQUESTED = (
    ChildCancellation.ABANDON,
    ChildCancellation.TRY_CANCEL,
    ChildCancellation.WAIT_CANCELLATION_COMPLETED,
    ChildCancellation.WAIT_CANCELLATION_REQUESTED,
)


def code(cancellation: int = WAIT) -> Code:
    async def main(context: Context) -> str:
        started, ended = context.child("kid", cancellation=cancellation)
        try:
            context.log.append(str(await started))
            context.spawn(cancel_on_signal(context, ended.seq))
            await ended
        except Stopped as error:
            context.log.append(error.failure.message)
        await context.timer(1)
        return ",".join(context.log)

    async def cancel_on_signal(context: Context, seq: int) -> None:
        await context.until(lambda: bool(context.signals))
        context.cancel_child(context.code.futures[("child", seq)])

    return Code(main)


def started(cancellation: int = WAIT) -> Bench:
    bench = Bench(lambda: code(cancellation))
    assert bench.work() == ["START_CHILD_WORKFLOW_EXECUTION"]
    execution = common.WorkflowExecution(workflow_id="kid", run_id="kid-run")
    bench.add("CHILD_WORKFLOW_EXECUTION_STARTED", initiated_event_id=5, workflow_execution=execution)
    assert bench.work() == []
    assert bench.code.activation.jobs == [ResolveChildWorkflowStart(1, "kid-run")]
    return bench


def end(bench: Bench, name: str, **attributes: Any) -> ResolveChildWorkflow:
    bench.add(f"CHILD_WORKFLOW_EXECUTION_{name}", initiated_event_id=5, **attributes)
    assert bench.work() == ["START_TIMER"]
    (job,) = bench.code.activation.jobs
    assert isinstance(job, ResolveChildWorkflow)
    bench.check_replay()
    return job


def test_a_child_completes() -> None:
    assert end(started(), "COMPLETED", result=payloads("r")).result == payloads("r")


@pytest.mark.parametrize(
    ("name", "attributes", "message", "cause"),
    [
        ("FAILED", {"failure": application_failure("boom")}, "Child Workflow execution failed", "boom"),
        ("TIMED_OUT", {}, "Child Workflow execution timed out", "Timed out"),
        ("TERMINATED", {}, "Child Workflow execution terminated", "Terminated"),
        ("CANCELED", {}, "Child Workflow execution cancelled", ""),
    ],
)
def test_a_child_ends_otherwise(name: str, attributes: dict[str, Any], message: str, cause: str) -> None:
    job = end(started(), name, **attributes)
    assert job.failure is not None
    assert (job.failure.message, job.failure.cause.message) == (message, cause)
    info = job.failure.child_workflow_execution_failure_info
    assert (info.workflow_execution.workflow_id, info.workflow_execution.run_id) == ("kid", "kid-run")
    assert (info.initiated_event_id, info.started_event_id, info.workflow_type.name) == (5, 6, "child")
    assert job.is_canceled == (name == "CANCELED")


@pytest.mark.parametrize("already_exists", [True, False])
def test_a_child_cannot_start(already_exists: bool) -> None:
    cause = enums.StartChildWorkflowExecutionFailedCause.Value(
        "START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_"
        + ("WORKFLOW_ALREADY_EXISTS" if already_exists else "NAMESPACE_NOT_FOUND")
    )
    bench = Bench(code)
    bench.work()
    bench.add("START_CHILD_WORKFLOW_EXECUTION_FAILED", initiated_event_id=5, cause=cause)
    bench.work()
    (job,) = bench.code.activation.jobs
    assert isinstance(job, ResolveChildWorkflowStart)
    assert (job.already_exists, job.workflow_id, job.workflow_type) == (already_exists, "kid", "child")
    assert (job.failure is None) == already_exists
    bench.check_replay()


def test_cancelled_before_it_was_sent_disappears() -> None:
    async def main(context: Context) -> None:
        start, _ = context.child("kid")
        context.cancel_child(start, "no need")
        with pytest.raises(Stopped, match="Child Workflow Execution cancelled before scheduled: no need"):
            await start
        await context.timer(1)

    bench = Bench(lambda: Code(main))
    assert bench.work() == ["START_TIMER"]
    bench.check_replay()


def cancelled(cancellation: int) -> tuple[Bench, list[str]]:
    bench = started(cancellation)
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    return bench, bench.work()


@pytest.mark.parametrize("cancellation", [WAIT, REQUESTED])
def test_wait_asks_the_child_and_waits_for_its_end(cancellation: int) -> None:
    bench, commands = cancelled(cancellation)
    assert commands == ["REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION"]
    assert isinstance(bench.step, TaskCompletion)
    request = bench.step.commands[0].request_cancel_external_workflow_execution_command_attributes
    assert (request.workflow_id, request.run_id, request.child_workflow_only) == ("kid", "kid-run", True)
    initiated = bench.last("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED").event_id
    bench.add("EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED", initiated_event_id=initiated)
    before = len(bench.code.activations)
    assert bench.work() == []
    assert len(bench.code.activations) == before
    assert end(bench, "CANCELED").is_canceled


def test_try_cancel_asks_and_does_not_wait() -> None:
    bench, commands = cancelled(TRY)
    assert commands == ["REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION", "START_TIMER"]
    bench.add("CHILD_WORKFLOW_EXECUTION_COMPLETED", initiated_event_id=5)
    bench.fire()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_abandon_asks_nothing() -> None:
    bench, commands = cancelled(ABANDON)
    assert commands == ["START_TIMER"]
    bench.add("CHILD_WORKFLOW_EXECUTION_FAILED", initiated_event_id=5)
    bench.fire()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()
