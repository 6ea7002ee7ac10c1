"""Updates through the service: what is written and what is not, what survives, who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from perdure.core.errors import (
    DeadlineExceededError,
    MultiOperationError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StoreUnavailableError,
    UnavailableError,
)
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunWrite
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.server.service.multi_operations import _UpdateWithStart
from perdure.store.memory import MemoryStore
from perdure.store.protocol import StoredSchedule
from tests.support.builders import complete_workflow, continue_as_new, duration, queue, start_timer
from tests.support.proto import common, workflowservice
from tests.support.updates import (
    ACCEPTED,
    COMPLETED,
    DISCARDS,
    Stage,
    acceptance,
    place,
    poll_request,
    rejection,
    response,
    update_request,
)
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run
from tests.unit.server.test_namespace_removal import HeldStore

NO_STAGE = Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_UNSPECIFIED
Task = workflowservice.PollWorkflowTaskQueueResponse
SHORT_WAIT = ServerConfig(port=0, history_wait_s=0.05)


class CountingStore(MemoryStore):
    """Counts commits; the next one fails after it was done, if asked."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self.fails_after = False

    async def commit(self, unit: Sequence[RunWrite], schedule: StoredSchedule | None = None) -> None:
        """Commits, and perhaps says that it did not."""
        self.commits += 1
        await super().commit(unit, schedule)
        if self.fails_after:
            self.fails_after = False
            raise StoreUnavailableError("its answer was lost")


async def begun(client: LocalClient, workflow_id: str = "w") -> common.WorkflowExecution:
    """A run whose first workflow task is completed."""
    started = await client.start(workflow_id, "q")
    task = await client.poll_workflow_task("q")
    await client.complete_workflow_task(task.task_token, [start_timer("t", 600)])
    return common.WorkflowExecution(workflow_id=workflow_id, run_id=started.run_id)


def send(
    client: LocalClient, execution: common.WorkflowExecution, update_id: str = "u", **fields: Any
) -> asyncio.Task[Any]:
    """Sends an update in the background."""
    request = update_request(client.namespace, execution, update_id, **fields)
    return asyncio.create_task(client.invoke(request, timeout_s=15))


async def answer(client: LocalClient, task: Task, *messages: Any, commands: Sequence[Any] = ()) -> Any:
    """Completes a workflow task with messages about updates."""
    placed = [place(message) for message in messages if not message.id.endswith("reject")]
    return await client.complete_workflow_task(
        task.task_token, [*placed, *commands], messages=messages, capabilities=DISCARDS
    )


def test_a_rejected_update_costs_no_write() -> None:
    async def scenario() -> None:
        store = CountingStore()
        server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        execution = await begun(client)
        before = store.commits
        for number in range(3):
            sent = send(client, execution, f"u{number}")
            task = await client.poll_workflow_task("q")
            done = await answer(client, task, rejection(task.messages[0]))
            assert done.reset_history_event_id == 3
            assert (await sent).outcome.failure.message == "no"
        assert store.commits == before
        await server.stop(0)

    run(scenario())


def test_an_accepted_update_survives_a_restart_and_a_waiting_one_is_asked_again() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        execution = await begun(client)
        sent = send(client, execution, "kept", stage=ACCEPTED)
        task = await client.poll_workflow_task("q")
        kept = task.messages[0]
        await answer(client, task, acceptance(kept))
        await sent
        lost = send(client, execution, "lost")
        stale = await client.poll_workflow_task("q")
        await server.stop(0)
        assert (await lost).stage < ACCEPTED  # told how far it is when the server stops

        server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        with pytest.raises(NotFoundError, match="Workflow task not found"):
            await answer(client, stale, rejection(stale.messages[0]))
        again = send(client, execution, "lost")
        task = await client.poll_workflow_task("q")
        assert [message.protocol_instance_id for message in task.messages] == ["lost"]
        brought = task.messages[0]
        await answer(client, task, acceptance(brought), response(brought), response(kept))
        assert (await again).outcome.HasField("success")
        polled: Any = await client.invoke(poll_request(client.namespace, execution, "kept"))
        assert polled.outcome.HasField("success")
        await server.stop(0)

    run(scenario())


def test_a_commit_of_unknown_outcome_does_not_bring_an_accepted_update_twice() -> None:
    async def scenario() -> None:
        store = CountingStore()
        server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        execution = await begun(client)
        sent = send(client, execution)
        task = await client.poll_workflow_task("q")
        store.fails_after = True
        with pytest.raises(UnavailableError):
            await answer(client, task, acceptance(task.messages[0]), response(task.messages[0]))
        assert (await sent).outcome.HasField("success")
        other = send(client, execution, "v")
        task = await client.poll_workflow_task("q")
        assert [message.protocol_instance_id for message in task.messages] == ["v"]
        await answer(client, task, rejection(task.messages[0]))
        await other
        await server.stop(0)

    run(scenario())


def test_a_lost_speculative_task_is_made_again() -> None:
    """A write of something else fails: the run is dropped from memory, and with it the task."""

    async def scenario() -> None:
        store = CountingStore()
        server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        execution = await begun(client)
        sent = send(client, execution)
        await client.poll_workflow_task("q")
        slot = next(slot for slot in server.engine.runs.slots() if slot.key.workflow_id == "w")
        slot.forget()
        task = await client.poll_workflow_task("q")
        assert [message.protocol_instance_id for message in task.messages] == ["u"]
        await answer(client, task, rejection(task.messages[0]))
        assert (await sent).outcome.failure.message == "no"
        await server.stop(0)

    run(scenario())


def test_a_speculative_task_in_an_answer_times_out_like_any_other() -> None:
    """The worker that gets it with its answer is gone: another one gets the update when its time is over."""

    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", "q", workflow_task_timeout=duration(1))
            task = await client.poll_workflow_task("q")
            execution = common.WorkflowExecution(workflow_id="w")
            sent = send(client, execution)
            while not await is_known(client, execution):
                await asyncio.sleep(0)  # gives way, as any await would
            commands = [start_timer("t", 600)]
            done = await client.complete_workflow_task(
                task.task_token, commands, return_new_workflow_task=True, capabilities=DISCARDS
            )
            assert len(done.workflow_task.messages) == 1
            task = await client.poll_workflow_task("q")
            assert [message.protocol_instance_id for message in task.messages] == ["u"]
            await answer(client, task, rejection(task.messages[0]))
            assert (await sent).outcome.failure.message == "no"

    run(scenario())


async def is_known(client: LocalClient, execution: common.WorkflowExecution) -> bool:
    """Whether the server knows the update."""
    try:
        await client.invoke(poll_request(client.namespace, execution, stage=NO_STAGE))
    except NotFoundError:
        return False
    return True


def test_a_waiting_caller_is_told_how_far_his_update_is() -> None:
    async def scenario() -> None:
        async with serving(SHORT_WAIT) as client:
            execution = await begun(client)
            waiting: Any = await client.invoke(update_request(client.namespace, execution))
            assert (waiting.stage, waiting.HasField("outcome")) == (1, False)
            polled: Any = await client.invoke(poll_request(client.namespace, execution))
            assert polled.stage == 1
            task = await client.poll_workflow_task("q")
            await answer(client, task, acceptance(task.messages[0]))
            accepted: Any = await client.invoke(update_request(client.namespace, execution))
            assert (accepted.stage, accepted.HasField("outcome")) == (ACCEPTED, False)

    run(scenario())


def test_a_caller_without_time_is_told_so() -> None:
    async def scenario() -> None:
        async with serving() as client:
            execution = await begun(client)
            request = update_request(client.namespace, execution)
            with pytest.raises(DeadlineExceededError):
                await client.invoke(request, timeout_s=0.05)

    run(scenario())


@pytest.mark.parametrize("names_run", [False, True])
def test_an_update_follows_its_workflow_to_the_next_run(names_run: bool) -> None:
    async def scenario() -> None:
        async with serving() as client:
            execution = await begun(client)
            if not names_run:
                execution.run_id = ""
            sent = send(client, execution)
            task = await client.poll_workflow_task("q")
            again = continue_as_new(workflow_type=common.WorkflowType(name="flow"), task_queue=queue("q"))
            await answer(client, task, commands=[again])
            if names_run:
                with pytest.raises(ResourceExhaustedError, match="workflow is closing"):
                    await sent
                return
            task = await client.poll_workflow_task("q")
            if not task.messages:  # it came after the first task was handed out
                await client.complete_workflow_task(task.task_token, [start_timer("t", 600)])
                task = await client.poll_workflow_task("q")
            await answer(client, task, acceptance(task.messages[0]), response(task.messages[0]))
            done = await sent
            assert done.outcome.HasField("success")
            assert done.update_ref.workflow_execution.run_id == task.workflow_execution.run_id

    run(scenario())


def test_a_closed_run_knows_its_updates_and_takes_no_others() -> None:
    async def scenario() -> None:
        async with serving() as client:
            execution = await begun(client)
            sent = send(client, execution)
            task = await client.poll_workflow_task("q")
            message = task.messages[0]
            await answer(client, task, acceptance(message), response(message), commands=[complete_workflow()])
            assert (await sent).outcome.HasField("success")
            again: Any = await client.invoke(update_request(client.namespace, execution))
            assert (again.stage, again.outcome.HasField("success")) == (COMPLETED, True)
            with pytest.raises(NotFoundError, match="already completed"):
                await client.invoke(update_request(client.namespace, execution, "other"))

    run(scenario())


def test_waiting_for_admission_alone_is_refused() -> None:
    async def scenario() -> None:
        async with serving() as client:
            execution = await begun(client)
            request = update_request(client.namespace, execution)
            request.wait_policy.lifecycle_stage = "UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED"  # type: ignore[assignment]
            with pytest.raises(PermissionDeniedError, match="waiting on update admitted"):
                await client.invoke(request)

    run(scenario())


def multi(client: LocalClient, workflow_id: str = "w") -> workflowservice.ExecuteMultiOperationRequest:
    """Update-with-start, as a client sends it."""
    operation = workflowservice.ExecuteMultiOperationRequest.Operation
    execution = common.WorkflowExecution(workflow_id=workflow_id)
    return workflowservice.ExecuteMultiOperationRequest(
        namespace=client.namespace,
        operations=[
            operation(start_workflow=client.start_request(workflow_id, "q")),
            operation(update_workflow=update_request(client.namespace, execution)),
        ],
    )


def test_update_with_start_brings_the_update_with_the_first_task() -> None:
    async def scenario() -> None:
        async with serving() as client:
            sent = asyncio.create_task(client.invoke(multi(client)))
            task = await client.poll_workflow_task("q")
            assert (task.started_event_id, len(task.messages)) == (3, 1)
            await answer(client, task, acceptance(task.messages[0]), response(task.messages[0]))
            both: Any = await sent
            start, update = both.responses
            assert start.start_workflow.started
            assert update.update_workflow.outcome.HasField("success")

    run(scenario())


def test_update_with_start_says_what_became_of_each_half() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await begun(client)
            request = multi(client)
            request.operations[
                0
            ].start_workflow.workflow_id_conflict_policy = "WORKFLOW_ID_CONFLICT_POLICY_FAIL"  # type: ignore[assignment]
            with pytest.raises(
                MultiOperationError, match="Update-with-Start could not be executed"
            ) as caught:
                await client.invoke(request)
            kinds = [type(error).__name__ for error in caught.value.errors]
            assert kinds == ["WorkflowAlreadyStartedError", "OperationAbortedError"]

    run(scenario())


@pytest.mark.parametrize("is_checked_before", [True, False])
def test_an_update_that_no_run_takes_is_refused_and_nobody_is_left_waiting(
    is_checked_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything is started; if only the new run refuses it, its first task still comes."""
    limits = replace(Limits(), updates_in_flight_bytes=10)
    if not is_checked_before:
        monkeypatch.setattr(_UpdateWithStart, "_check_first_update", lambda self: None)

    async def scenario() -> None:
        async with serving(ServerConfig(port=0, limits=limits)) as client:
            polling = asyncio.create_task(client.poll_workflow_task("q", timeout_s=5))
            with pytest.raises(MultiOperationError) as caught:
                await client.invoke(multi(client))
            kinds = [type(error).__name__ for error in caught.value.errors]
            if is_checked_before:
                assert kinds == ["OperationAbortedError", "ResourceExhaustedError"]
                with pytest.raises(NotFoundError):
                    await client.describe("w")
                await client.start("w", "q")
            else:
                assert kinds == ["NoneType", "ResourceExhaustedError"]
            assert (await polling).task_token

    run(scenario())


def test_update_with_start_does_not_wait_for_the_start_delay_of_the_run_that_is_there() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", "q", workflow_start_delay=duration(3600))
            request = multi(client)
            start = request.operations[0].start_workflow
            start.workflow_id_conflict_policy = "WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING"  # type: ignore[assignment]
            sent = asyncio.create_task(client.invoke(request))
            task = await client.poll_workflow_task("q", timeout_s=5)
            assert len(task.messages) == 1
            await answer(client, task, acceptance(task.messages[0]), response(task.messages[0]))
            await sent

    run(scenario())


def test_an_update_that_finds_its_run_continuing_goes_to_the_next_run() -> None:
    """It names no run, and asks for the newest one before that has ended durably."""

    async def scenario() -> None:
        store = HeldStore()
        server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        started = await client.start("w", "q")
        task = await client.poll_workflow_task("q")
        store.held_method = "commit"
        ends = asyncio.create_task(client.complete_workflow_task(task.task_token, [continue_as_new()]))
        await store.has_come.wait()
        sent = send(client, common.WorkflowExecution(workflow_id="w"), stage=ACCEPTED)
        named = send(client, common.WorkflowExecution(workflow_id="w", run_id=started.run_id), stage=ACCEPTED)
        for _ in range(
            100
        ):  # both wait for the run by then, or are asked for it too late, which changes nothing
            await asyncio.sleep(0)
        store.may_go.set()
        await ends
        with pytest.raises(NotFoundError, match="already completed"):
            await named
        task = await client.poll_workflow_task("q")
        await answer(client, task, acceptance(task.messages[0]))
        assert (await sent).update_ref.workflow_execution.run_id == task.workflow_execution.run_id
        assert task.workflow_execution.run_id != started.run_id
        await server.stop(0)

    run(scenario())
