"""Batch operations on a whole server: every kind, progress, stops, pace, crashes, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from perdure.api.batch.v1 import (
    BatchOperationCancelActivities,
    BatchOperationCancellation,
    BatchOperationDeleteActivities,
    BatchOperationDeletion,
    BatchOperationReset,
    BatchOperationSignal,
    BatchOperationTerminateActivities,
    BatchOperationTermination,
    BatchOperationUnpauseActivities,
    BatchOperationUpdateWorkflowExecutionOptions,
)
from perdure.api.common.v1 import ActivityType, Execution, WorkflowExecution
from perdure.api.enums.v1 import BatchOperationType, ExecutionType, ResetType
from perdure.api.protobuf import Duration, FieldMask
from perdure.api.workflow.v1 import WorkflowExecutionOptions
from perdure.api.workflowservice.v1 import (
    CountActivityExecutionsRequest,
    CountWorkflowExecutionsRequest,
    DescribeBatchOperationRequest,
    DescribeBatchOperationResponse,
    ListBatchOperationsRequest,
    ListBatchOperationsResponse,
    StartActivityExecutionRequest,
    StartBatchOperationRequest,
    StopBatchOperationRequest,
)
from perdure.core.batch.state import COMPLETED, FAILED, RUNNING
from perdure.core.errors import (
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
    WorkflowAlreadyStartedError,
)
from perdure.server.config import ServerConfig
from perdure.server.engine import batches
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.faults import Fault, FaultyStore, fail_method
from perdure.store.memory import MemoryStore
from perdure.store.protocol import BatchKey, StoredBatch
from tests.support.builders import queue
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

QUEUE = "batched"
TERMINATE = BatchOperationType.Value("BATCH_OPERATION_TYPE_TERMINATE_WORKFLOW")
FAST = 1_000.0


class _LastingStore(MemoryStore):
    """A store in memory that outlives its server."""

    async def close(self) -> None:
        """The next server goes on with it."""


@asynccontextmanager
async def served(store: Any) -> AsyncIterator[LocalClient]:
    """A server over this store."""
    server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
    await server.start()
    try:
        yield LocalClient(server)
    finally:
        await server.stop(0)


def start(job_id: str = "job", **fields: Any) -> StartBatchOperationRequest:
    """A request to terminate every open workflow, unless told otherwise."""
    given: dict[str, Any] = {"reason": "tidying", "max_operations_per_second": FAST, **fields}
    if not {"executions", "target_executions", "visibility_query"} & given.keys():
        given["visibility_query"] = f"TaskQueue = '{QUEUE}'"
    if not any(name.endswith("_operation") for name in given):
        given["termination_operation"] = BatchOperationTermination(identity="me")
    return StartBatchOperationRequest(namespace="default", job_id=job_id, **given)


async def describe(client: LocalClient, job_id: str = "job") -> DescribeBatchOperationResponse:
    """A job's description."""
    request = DescribeBatchOperationRequest(namespace="default", job_id=job_id)
    response: Any = await client.invoke(request)
    return response  # type: ignore[no-any-return]


async def closed(client: LocalClient, job_id: str = "job") -> DescribeBatchOperationResponse:
    """A job's description once it is closed."""
    while (described := await describe(client, job_id)).state == RUNNING:
        await asyncio.sleep(0)
    return described


async def workflows(client: LocalClient, count: int) -> list[str]:
    """Starts workflows; returns their ids."""
    ids = [f"w{number:03}" for number in range(count)]
    for workflow_id in ids:
        await client.start(workflow_id, QUEUE)
    return ids


async def count(client: LocalClient, query: str) -> int:
    """How many workflows match."""
    response: Any = await client.invoke(CountWorkflowExecutionsRequest(namespace="default", query=query))
    return int(response.count)


def counts(described: DescribeBatchOperationResponse) -> tuple[int, int, int]:
    """(total, completed, failed)."""
    return (
        described.total_operation_count,
        described.complete_operation_count,
        described.failure_operation_count,
    )


async def events(client: LocalClient, workflow_id: str, kind: str) -> list[Any]:
    """The events of a kind in the history of a workflow."""
    return [event for event in await client.history(workflow_id) if event.WhichOneof("attributes") == kind]


def test_a_query_is_worked_off_page_by_page_and_leaves_others_alone() -> None:
    """More executions than a page has; those that closed before are not counted."""

    async def scenario() -> None:
        async with serving() as client:
            await workflows(client, 2 * batches.PAGE + 5)
            await client.terminate("w000")
            await client.start("other", "other queue")
            await client.invoke(start(max_operations_per_second=100_000))
            described = await closed(client)
            assert described.state == COMPLETED
            assert counts(described) == (2 * batches.PAGE + 4, 2 * batches.PAGE + 4, 0)
            assert (described.identity, described.reason, described.operation_type) == (
                "me",
                "tidying",
                TERMINATE,
            )
            assert described.query == f"TaskQueue = '{QUEUE}'"
            assert described.start_time.ToNanoseconds() < described.close_time.ToNanoseconds()
            assert await count(client, "ExecutionStatus = 'Running'") == 1
            (event,) = await events(client, "w007", "workflow_execution_terminated_event_attributes")
            assert event.workflow_execution_terminated_event_attributes.reason == "tidying"
            assert event.workflow_execution_terminated_event_attributes.identity == "me"

    run(scenario())


def test_listed_executions_are_done_and_what_is_gone_counts_as_done() -> None:
    async def scenario() -> None:
        async with serving() as client:
            ids = await workflows(client, 3)
            executions = [WorkflowExecution(workflow_id=workflow_id) for workflow_id in [*ids, "never was"]]
            await client.invoke(start(executions=executions))
            described = await closed(client)
            assert (described.state, counts(described)) == (COMPLETED, (4, 4, 0))
            assert [execution.business_id for execution in described.executions] == [*ids, "never was"]
            assert await count(client, "ExecutionStatus = 'Terminated'") == 3

    run(scenario())


def test_each_operation_does_what_its_rpc_does() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await workflows(client, 2)
            await client.invoke(
                start("s", signal_operation=BatchOperationSignal(signal="go", identity="me")), timeout_s=None
            )
            assert counts(await closed(client, "s")) == (2, 2, 0)
            assert len(await events(client, "w001", "workflow_execution_signaled_event_attributes")) == 1

            task = await client.poll_workflow_task(queue(QUEUE))
            await client.complete_workflow_task(task.task_token, [])
            reset = BatchOperationReset(
                identity="me", reset_type=ResetType.Value("RESET_TYPE_LAST_WORKFLOW_TASK")
            )
            await client.invoke(start("r", reset_operation=reset))
            assert counts(await closed(client, "r")) == (2, 2, 0)
            assert await count(client, "ExecutionStatus = 'Terminated'") == 2

            await client.invoke(start("c", cancellation_operation=BatchOperationCancellation(identity="me")))
            assert counts(await closed(client, "c")) == (2, 2, 0)
            for workflow_id in ("w000", "w001"):
                kind = "workflow_execution_cancel_requested_event_attributes"
                assert len(await events(client, workflow_id, kind)) == 1

            everything = BatchOperationUnpauseActivities(identity="me", match_all=True)
            await client.invoke(start("u", unpause_activities_operation=everything))
            assert (await closed(client, "u")).state == COMPLETED

            await client.invoke(start("d", deletion_operation=BatchOperationDeletion(identity="me")))
            assert counts(await closed(client, "d")) == (4, 4, 0)
            assert await count(client, "") == 0

    run(scenario())


def test_standalone_activities_are_found_cancelled_terminated_and_deleted() -> None:
    """By their own lists; a workflow of the same queue is left alone."""

    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", QUEUE)
            for number in range(3):
                await client.invoke(
                    StartActivityExecutionRequest(
                        namespace="default",
                        activity_id=f"a{number}",
                        activity_type=ActivityType(name="A"),
                        task_queue=queue(QUEUE),
                        start_to_close_timeout=Duration(seconds=60),
                        request_id=f"start {number}",
                    )
                )
            cancel = BatchOperationCancelActivities(identity="me", reason="enough")
            one = [Execution(type=ExecutionType.Value("EXECUTION_TYPE_ACTIVITY"), business_id="a0")]
            await client.invoke(start("c", target_executions=one, cancel_activities_operation=cancel))
            assert counts(await closed(client, "c")) == (1, 1, 0)
            terminate = BatchOperationTerminateActivities(identity="me", reason="enough")
            await client.invoke(start("t", terminate_activities_operation=terminate))
            described = await closed(client, "t")
            assert described.failure_operation_count == 0
            assert described.complete_operation_count in (2, 3)
            delete = BatchOperationDeleteActivities()
            await client.invoke(start("d", delete_activities_operation=delete))
            assert counts(await closed(client, "d")) == (3, 3, 0)
            left: Any = await client.invoke(CountActivityExecutionsRequest(namespace="default"))
            assert left.count == 0
            assert await count(client, "ExecutionStatus = 'Running'") == 1

    run(scenario())


def test_a_refusal_counts_as_a_failure_and_the_rest_is_done() -> None:
    """A workflow that cannot be reset to an event that it does not have."""

    async def scenario() -> None:
        async with serving() as client:
            await workflows(client, 2)
            reset = BatchOperationReset(identity="me")
            reset.options.workflow_task_id = 77
            await client.invoke(start(reset_operation=reset))
            described = await closed(client)
            assert (described.state, counts(described)) == (COMPLETED, (2, 0, 2))

    run(scenario())


def test_a_job_keeps_to_its_pace_and_stops_when_it_is_told_to() -> None:
    """At one in a thousand seconds the second execution is not reached; a stop does not wait for it."""

    async def scenario() -> None:
        async with serving() as client:
            await workflows(client, 5)
            await client.invoke(start(max_operations_per_second=0.001))
            while counts(await describe(client)) != (5, 1, 0):
                await asyncio.sleep(0)
            with pytest.raises(ResourceExhaustedError, match="Max concurrent batch operations is reached"):
                await client.invoke(start("another"))
            with pytest.raises(WorkflowAlreadyStartedError):
                await client.invoke(start())
            stop = StopBatchOperationRequest(namespace="default", job_id="job", reason="enough")
            await client.invoke(stop)
            described = await describe(client)
            assert (described.state, counts(described)) == (FAILED, (5, 1, 0))
            assert await count(client, "ExecutionStatus = 'Running'") == 4
            with pytest.raises(NotFoundError, match="already completed"):
                await client.invoke(stop)
            await client.invoke(start("another"))
            assert counts(await closed(client, "another")) == (4, 4, 0)

    run(scenario())


def test_a_job_goes_on_where_it_was_after_a_crash_and_does_nothing_twice() -> None:
    """The process ends in the middle of the second page: its signals are sent again, and taken once."""

    async def scenario() -> None:
        store = _LastingStore()
        many = batches.PAGE + 20
        async with served(store) as client:
            await workflows(client, many)
            serve, sent = client.server.batches.serve, 0

            async def dying(name: str, request: Any) -> Any:
                nonlocal sent
                answer = await serve(name, request)
                if name == "SignalWorkflowExecution":
                    sent += 1
                    if sent > batches.PAGE + 10:
                        await asyncio.get_running_loop().create_future()
                return answer

            client.server.batches.serve = dying
            signal = BatchOperationSignal(signal="go", identity="me")
            await client.invoke(start(signal_operation=signal, max_operations_per_second=100_000))
            while sent <= batches.PAGE + 10:
                await asyncio.sleep(0)
            assert (await describe(client)).state == RUNNING
        async with served(store) as client:
            described = await closed(client)
            assert (described.state, counts(described)) == (COMPLETED, (many, many, 0))
            for workflow_id in ("w000", f"w{many - 1:03}", "w010"):
                kind = "workflow_execution_signaled_event_attributes"
                assert len(await events(client, workflow_id, kind)) == 1

    run(scenario())


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_commit_that_fails_is_made_good(monkeypatch: pytest.MonkeyPatch, fault: Fault, number: int) -> None:
    """Whether the commit of a page came about or not, each execution is counted once."""
    monkeypatch.setattr(batches, "RETRY_S", 0.001)

    async def scenario() -> None:
        store = FaultyStore(MemoryStore(), fail_method("put_batch", fault, number))
        many = batches.PAGE + 5
        async with served(store) as client:
            await workflows(client, many)
            await client.invoke(start(max_operations_per_second=100_000))
            described = await closed(client)
            assert described.state == COMPLETED
            assert counts(described) == (many, many, 0)
            assert await count(client, "ExecutionStatus = 'Terminated'") == many

    run(scenario())


def test_a_start_whose_outcome_is_unknown_runs_once() -> None:
    """The caller is told to try again, and then that the job is there; it goes on."""

    async def scenario() -> None:
        store = FaultyStore(MemoryStore(), fail_method("put_batch", Fault.AFTER, 1))
        async with served(store) as client:
            await workflows(client, 3)
            with pytest.raises(UnavailableError):
                await client.invoke(start())
            with pytest.raises(WorkflowAlreadyStartedError):
                await client.invoke(start())
            assert counts(await closed(client)) == (3, 3, 0)

    run(scenario())


def test_what_is_unavailable_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FIRST_PAUSE_S", 0.001)

    async def scenario() -> None:
        async with serving() as client:
            await workflows(client, 2)
            serve, failed = client.server.batches.serve, 0

            async def failing(name: str, request: Any) -> Any:
                nonlocal failed
                if name == "TerminateWorkflowExecution" and failed < 3:
                    failed += 1
                    raise UnavailableError("not now")
                return await serve(name, request)

            client.server.batches.serve = failing
            await client.invoke(start())
            assert (counts(await closed(client)), failed) == ((2, 2, 0), 3)

    run(scenario())


def test_a_list_that_can_never_be_read_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job fails instead of standing in the way of others for ever."""
    monkeypatch.setattr(batches, "RETRY_S", 0.001)

    async def scenario() -> None:
        async with serving() as client:
            await workflows(client, 2)
            serve = client.server.batches.serve

            async def refusing(name: str, request: Any) -> Any:
                if name == "ListWorkflowExecutions":
                    raise InvalidArgumentError("the attribute is gone")
                return await serve(name, request)

            client.server.batches.serve = refusing
            await client.invoke(start())
            assert (await closed(client)).state == FAILED
            await client.invoke(start("next", executions=[WorkflowExecution(workflow_id="w000")]))
            assert (await closed(client, "next")).state == COMPLETED

    run(scenario())


@pytest.mark.parametrize("for_good", [True, False])
def test_a_page_counts_although_the_list_of_the_next_one_fails(
    monkeypatch: pytest.MonkeyPatch, for_good: bool
) -> None:
    """What was done is neither forgotten nor done again, whether the list comes back or not."""
    monkeypatch.setattr(batches, "RETRY_S", 0.001)

    async def scenario() -> None:
        async with serving() as client:
            many = batches.PAGE + 5
            await workflows(client, many)
            serve, listed, ended = client.server.batches.serve, 0, 0

            async def failing(name: str, request: Any) -> Any:
                nonlocal listed, ended
                listed += name == "ListWorkflowExecutions"
                ended += name == "TerminateWorkflowExecution"
                if name == "ListWorkflowExecutions" and (listed == 2 or (for_good and listed > 2)):
                    raise (
                        InvalidArgumentError("no such attribute") if for_good else UnavailableError("not now")
                    )
                return await serve(name, request)

            client.server.batches.serve = failing
            await client.invoke(start(max_operations_per_second=100_000))
            described = await closed(client)
            done = batches.PAGE if for_good else many
            assert described.state == (FAILED if for_good else COMPLETED)
            assert described.complete_operation_count == ended == done
            assert described.failure_operation_count == 0

    run(scenario())


def test_jobs_are_listed_in_pages_and_go_when_closed_workflows_do() -> None:
    async def scenario() -> None:
        async with serving() as client:
            for number in range(3):
                await client.invoke(start(f"job {number}"))
                await closed(client, f"job {number}")
            found: list[str] = []
            token = b""
            while True:
                page: ListBatchOperationsResponse = await client.call(
                    ListBatchOperationsRequest(namespace="default", page_size=2, next_page_token=token),
                    ListBatchOperationsResponse,
                )
                found += [info.job_id for info in page.operation_info]
                token = page.next_page_token
                if not token:
                    break
            assert found == ["job 2", "job 1", "job 0"]
            assert {info.operation_type for info in page.operation_info} == {TERMINATE}

            store = client.server.engine.store
            namespace_id = client.server.namespaces.get("default").namespace_id
            stored = await store.load_batch(BatchKey(namespace_id, "job 0"))
            assert isinstance(stored, StoredBatch)
            await store.put_batch(replace(stored, version=stored.version + 1, close_time_ns=1))
            await client.invoke(start("later"))
            await closed(client, "later")
            with pytest.raises(NotFoundError):
                await describe(client, "job 0")

    run(scenario())


_SIGNAL = BatchOperationSignal(identity="me")
_BY_ID = [WorkflowExecution(workflow_id="w")]
_ACTIVITY = [Execution(type=ExecutionType.Value("EXECUTION_TYPE_ACTIVITY"), business_id="a")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reason": ""}, "must provide required parameters"),
        ({"job_id": ""}, "JobId is not set"),
        ({"visibility_query": "", "executions": []}, "must provide required parameters"),
        ({"visibility_query": "RunId = 'r'", "executions": _BY_ID}, "mutually exclusive"),
        ({"visibility_query": "Nothing = 'r'"}, "invalid search attribute: Nothing"),
        ({"visibility_query": "RunId ="}, "invalid query"),
        ({"signal_operation": _SIGNAL}, "must provide signal name"),
        ({"reset_operation": BatchOperationReset()}, "unknown batch reset type Unspecified"),
        ({"unpause_activities_operation": BatchOperationUnpauseActivities()}, "activity filter must be set"),
        ({"target_executions": _ACTIVITY}, "has type Activity"),
        ({"executions": _BY_ID * 1001}, "too many executions"),
        ({"job_id": "x" * 1001}, "JobId length exceeds limit"),
    ],
)
def test_what_can_never_be_done_is_refused(fields: dict[str, Any], message: str) -> None:
    async def scenario() -> None:
        async with serving() as client:
            with pytest.raises(InvalidArgumentError, match=message):
                await client.invoke(start(**{"job_id": "job", **fields}))
            page: Any = await client.invoke(ListBatchOperationsRequest(namespace="default"))
            assert not page.operation_info

    run(scenario())


def test_an_operation_that_this_release_does_not_have_is_refused_at_once() -> None:
    """It would fail for every execution."""

    async def scenario() -> None:
        async with serving() as client:
            has = client.server.batches.has
            client.server.batches.has = lambda name: name != "UpdateWorkflowExecutionOptions" and has(name)
            operation = BatchOperationUpdateWorkflowExecutionOptions(
                workflow_execution_options=WorkflowExecutionOptions(),
                update_mask=FieldMask(paths=["versioning_override"]),
            )
            with pytest.raises(UnimplementedError, match="UpdateWorkflowExecutionOptions"):
                await client.invoke(start(update_workflow_options_operation=operation))

    run(scenario())


def test_jobs_that_are_not_there_are_not_found() -> None:
    async def scenario() -> None:
        async with serving() as client:
            with pytest.raises(NotFoundError, match="workflow not found for ID: job"):
                await describe(client)
            with pytest.raises(NotFoundError):
                await client.invoke(
                    StopBatchOperationRequest(namespace="default", job_id="job", reason="enough")
                )
            with pytest.raises(InvalidArgumentError, match="Reason is not set"):
                await client.invoke(StopBatchOperationRequest(namespace="default", job_id="job"))
            with pytest.raises(InvalidArgumentError, match="JobId is not set"):
                await client.invoke(StopBatchOperationRequest(namespace="default", reason="enough"))

    run(scenario())
