"""Resets on a whole server: what of the runs that followed is done once more, and chains of any length."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError, UnavailableError, UnimplementedError
from perdure.core.run.limits import Limits
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.faults import Fault, FaultyStore, fail_method
from perdure.store.memory import MemoryStore
from tests.support.builders import complete_workflow, continue_as_new, queue, start_child
from tests.support.proto import common, enums, workflow, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

AT_ONCE = ServerConfig(port=0, limits=replace(Limits(), chain_interval_ns=0))
ABANDON = enums.ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON
EventType = enums.EventType
RUNNING = enums.WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
TERMINATED = enums.WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED


async def step(client: LocalClient, queue_name: str, *commands: Any) -> None:
    """Completes the next workflow task of a queue."""
    task = await client.poll_workflow_task(queue(queue_name))
    assert task.task_token, f"no task on {queue_name}"
    await client.complete_workflow_task(task.task_token, commands)


async def reset(client: LocalClient, run_id: str, event_id: int, **fields: Any) -> str:
    """Resets a run; returns the new one's id."""
    request = workflowservice.ResetWorkflowExecutionRequest(
        namespace="default",
        request_id="reset",
        workflow_task_finish_event_id=event_id,
        reason="why",
        **fields,
    )
    request.workflow_execution.workflow_id, request.workflow_execution.run_id = "w", run_id
    response: Any = await client.invoke(request)
    return str(response.run_id)


def test_signals_of_a_long_chain_are_received_again() -> None:
    """Longer than functions can call each other."""
    runs = 120

    async def scenario() -> None:
        async with serving(AT_ONCE) as client:
            first = await client.start("w", "q")
            for number in range(runs):
                if number % 40 == 0:
                    await client.signal("w", f"s{number}")
                await step(client, "q", continue_as_new())
            depth, frame = 0, sys._getframe()
            while frame.f_back is not None:
                depth, frame = depth + 1, frame.f_back
            usual = sys.getrecursionlimit()
            sys.setrecursionlimit(depth + 100)
            try:
                new_run_id = await reset(client, first.run_id, 3)
            finally:
                sys.setrecursionlimit(usual)
            events = await client.history("w", run_id=new_run_id)
            names = [
                event.workflow_execution_signaled_event_attributes.signal_name
                for event in events
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
            ]
            assert names == ["s0", "s40", "s80"]

    run(scenario())


def test_children_of_the_runs_that_followed_are_not_the_new_runs() -> None:
    """Both runs have a child whose Initiated event has the same id; only the other run's child has ended."""

    async def scenario() -> None:
        async with serving(AT_ONCE) as client:
            first = await client.start("w", "q")
            await step(client, "q", start_child("own", task_queue=queue("own"), parent_close_policy=ABANDON))
            await step(client, "q", continue_as_new())
            await step(client, "q", start_child("other", task_queue=queue("other")))
            await step(client, "other", complete_workflow())
            await step(client, "q")
            new_run_id = await reset(client, first.run_id, 8)
            described = await client.describe("w", run_id=new_run_id)
            assert [child.workflow_id for child in described.pending_children] == ["own"]

    run(scenario())


def change(*paths: str, **options: Any) -> workflow.PostResetOperation:
    """What changes options of the new run."""
    made = workflow.PostResetOperation()
    made.update_workflow_options.workflow_execution_options.CopyFrom(
        workflow.WorkflowExecutionOptions(**options)
    )
    made.update_workflow_options.update_mask.paths.extend(paths)
    return made


async def options_of(client: LocalClient, run_id: str) -> list[int]:
    """The priorities that the events of a run set, in order."""
    events = await client.history("w", run_id=run_id)
    changes = [
        event.workflow_execution_options_updated_event_attributes
        for event in events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED
    ]
    return [change.priority.priority_key for change in changes]


def test_a_repeated_reset_changes_options_once() -> None:
    """The second request is told the same run, which has one event of the change, before its first workflow task."""

    async def scenario() -> None:
        async with serving(AT_ONCE) as client:
            first = await client.start("w", "q")
            await step(client, "q")
            operation = change("priority", priority=common.Priority(priority_key=2))
            new = await reset(client, first.run_id, 4, post_reset_operations=[operation])
            assert await reset(client, first.run_id, 4, post_reset_operations=[operation]) == new
            assert await options_of(client, new) == [2]
            events = await client.history("w", run_id=new)
            kinds = [event.WhichOneof("attributes") for event in events]
            assert kinds[-2:] == [
                "workflow_execution_options_updated_event_attributes",
                "workflow_task_scheduled_event_attributes",
            ]
            described = await client.describe("w", run_id=new)
            assert described.workflow_execution_info.priority.priority_key == 2

    run(scenario())


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
def test_a_reset_with_changes_is_one_commit(fault: Fault) -> None:
    """A commit that fails left nothing, one whose answer was lost left all; the request again comes to the same end."""

    async def scenario() -> None:
        store = FaultyStore(MemoryStore())
        server = Server(store, AT_ONCE, SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        first = await client.start("w", "q")
        await step(client, "q")
        operation = change("priority", priority=common.Priority(priority_key=2))
        store.decide = fail_method("commit", fault, store.calls["commit"] + 1)
        with pytest.raises(UnavailableError):
            await reset(client, first.run_id, 4, post_reset_operations=[operation])
        described = await client.describe("w")
        is_done = described.workflow_execution_info.execution.run_id != first.run_id
        assert is_done == (fault is Fault.AFTER)
        new = await reset(client, first.run_id, 4, post_reset_operations=[operation])
        assert await options_of(client, new) == [2]
        old = await client.describe("w", run_id=first.run_id)
        assert old.workflow_execution_info.status == TERMINATED
        assert old.workflow_extended_info.reset_run_id == new
        await server.stop(0)

    run(scenario())


@pytest.mark.parametrize(
    ("operation", "error", "words"),
    [
        (workflow.PostResetOperation(), InvalidArgumentError, "unsupported post reset operation: <nil>"),
        (
            workflow.PostResetOperation(
                signal_workflow=workflow.PostResetOperation.SignalWorkflow(signal_name="s")
            ),
            InvalidArgumentError,
            "unsupported post reset operation",
        ),
        (change("nonsense"), InvalidArgumentError, "invalid path"),
        (change("priority", priority=common.Priority(priority_key=-1)), InvalidArgumentError, "priority"),
        (
            change("priority", time_skipping_config=common.TimeSkippingConfig()),
            UnimplementedError,
            "Time-Skipping",
        ),
        (
            workflow.PostResetOperation(
                update_workflow_options=workflow.PostResetOperation.UpdateWorkflowOptions()
            ),
            InvalidArgumentError,
            "UpdateMask is required",
        ),
    ],
)
def test_a_reset_that_asks_for_the_impossible_does_nothing(
    operation: workflow.PostResetOperation, error: type[Exception], words: str
) -> None:
    """Also behind an operation that is possible: all of it or nothing."""

    async def scenario() -> None:
        async with serving(AT_ONCE) as client:
            first = await client.start("w", "q")
            await step(client, "q")
            possible = change("priority", priority=common.Priority(priority_key=2))
            with pytest.raises(error, match=words):
                await reset(client, first.run_id, 4, post_reset_operations=[possible, operation])
            described = await client.describe("w")
            assert described.workflow_execution_info.execution.run_id == first.run_id
            assert described.workflow_execution_info.status == RUNNING
            assert await options_of(client, first.run_id) == []

    run(scenario())
