"""Our client with workers of the official SDK, on our server and on the official one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client as OfficialClient
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure.client import (
    AsyncActivityCancelledError,
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    WithStartWorkflowOperation,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHistory,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from perdure.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
)
from perdure.exceptions import ActivityError, ApplicationError, CancelledError, WorkflowAlreadyStartedError
from tests.e2e.python_sdk import eventually, unique
from tests.support.servers import PerdureServer, RealServer, ServerProcess

LIMIT_S = 90.0
SEARCH_ATTRIBUTES = {"Colour": "Keyword"}


@activity.defn
async def completed_outside() -> str:
    activity.raise_complete_async()


@workflow.defn
class Everything:
    """Counts down by continue-as-new, then waits to be told how to end."""

    def __init__(self) -> None:
        self.ending = ""

    @workflow.run
    async def run(self, runs_before: int) -> str:
        if runs_before:
            workflow.continue_as_new(runs_before - 1)
        await workflow.wait_condition(lambda: bool(self.ending))
        if self.ending == "fail":
            raise workflow_failure()
        if self.ending == "activity":
            return await workflow.execute_activity(
                completed_outside,
                activity_id="outside",
                start_to_close_timeout=timedelta(seconds=30),
                heartbeat_timeout=timedelta(seconds=30),
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
        return self.ending

    @workflow.signal
    def end(self, ending: str) -> None:
        self.ending = ending

    @workflow.query
    def state(self, prefix: str) -> str:
        return f"{prefix}{self.ending}"

    @workflow.update
    async def double(self, number: int) -> int:
        if number < 0:
            raise workflow_failure()
        return 2 * number


def workflow_failure() -> Exception:
    """What the workflow fails with."""
    from temporalio.exceptions import ApplicationError as OfficialApplicationError

    return OfficialApplicationError("on purpose", {"why": 1}, type="Purpose")


async def _workflows(client: Client, queue: str) -> None:
    colour = SearchAttributePair(SearchAttributeKey.for_keyword("Colour"), unique("red"))
    options: dict[str, Any] = {"task_queue": queue, "search_attributes": TypedSearchAttributes([colour])}
    first_id = unique("w")
    first = await client.start_workflow("Everything", 2, id=first_id, memo={"m": 1}, **options)
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.start_workflow("Everything", 2, id=first_id, **options)
    handle = client.get_workflow_handle(first_id)

    async def last_run_answers() -> bool:
        description = await handle.describe()
        return description.run_id != first.result_run_id and await handle.query("state", "x") == "x"

    await eventually("the workflow continued as new", last_run_answers)
    with pytest.raises(WorkflowQueryFailedError, match="nonsense"):
        await handle.query("nonsense")
    assert await handle.execute_update("double", 4) == 8
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update("double", -1)
    assert isinstance(refused.value.cause, ApplicationError)
    await handle.signal("end", "done")
    assert await first.result() == "done"
    with pytest.raises(WorkflowContinuedAsNewError):
        await client.get_workflow_handle(first_id, run_id=first.result_run_id).result(follow_runs=False)
    description = await handle.describe()
    assert description.status is WorkflowExecutionStatus.COMPLETED
    assert await description.memo() == {"m": 1}
    assert description.typed_search_attributes[colour.key] == colour.value

    history = await handle.fetch_history()
    assert history.run_id == description.run_id
    assert WorkflowHistory.from_json(first_id, history.to_json()) == history

    failing = await client.start_workflow(
        "Everything", 0, id=unique("w"), start_signal="end", start_signal_args=["fail"], **options
    )
    with pytest.raises(WorkflowFailureError) as failed:
        await failing.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert (failed.value.cause.type, list(failed.value.cause.details)) == ("Purpose", [{"why": 1}])

    query = f"Colour = '{colour.value}'"

    async def all_listed() -> bool:
        return len([run async for run in client.list_workflows(query, page_size=2)]) == 4

    await eventually("all runs are listed", all_listed)
    assert (await client.count_workflows(query)).count == 4


async def _cancelled(client: Client, queue: str) -> None:
    handle = await client.start_workflow("Everything", 0, id=unique("w"), task_queue=queue)
    await handle.cancel(reason="enough")
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)


async def _update_with_start(client: Client, queue: str) -> None:
    workflow_id = unique("w")
    operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        "Everything", 0, id=workflow_id, task_queue=queue, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )
    result = await client.execute_update_with_start_workflow("double", 5, start_workflow_operation=operation)
    assert result == 10
    assert (await operation.workflow_handle()).id == workflow_id
    await client.get_workflow_handle(workflow_id).terminate()


async def _activity_completed_outside(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        "Everything", 0, id=unique("w"), task_queue=queue, start_signal="end", start_signal_args=["activity"]
    )

    async def activity_started() -> bool:
        pending = (await handle.describe()).raw_description.pending_activities
        return any(activity.state == 2 for activity in pending)

    await eventually("the activity is started", activity_started)
    outside = client.get_async_activity_handle(workflow_id=handle.id, activity_id="outside")
    await outside.heartbeat("still there")
    await outside.complete("from outside")
    assert await handle.result() == "from outside"

    handle = await client.start_workflow(
        "Everything", 0, id=unique("w"), task_queue=queue, start_signal="end", start_signal_args=["activity"]
    )
    await eventually("the activity is started", activity_started)
    outside = client.get_async_activity_handle(workflow_id=handle.id, activity_id="outside")
    await handle.cancel()

    async def told_to_cancel() -> bool:
        try:
            await outside.heartbeat()
        except AsyncActivityCancelledError as error:
            return error.details is not None and error.details.cancel_requested
        return False

    await eventually("the heartbeat tells of the cancellation", told_to_cancel)
    await outside.report_cancellation("cleaned up")
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, (CancelledError, ActivityError))


async def _schedules(client: Client, queue: str) -> None:
    schedule_id = unique("s")
    action = ScheduleActionStartWorkflow("Everything", 0, id=unique("w"), task_queue=queue)
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1))])
    schedule = Schedule(action, spec, state=ScheduleState(paused=True, note="quiet"))
    handle = await client.create_schedule(schedule_id, schedule, memo={"m": [1]})
    description = await handle.describe()
    assert (description.schedule.spec, description.schedule.state) == (spec, schedule.state)
    assert await description.memo() == {"m": [1]}
    await handle.update(lambda now: ScheduleUpdate(_with_note(now.description.schedule, "changed")))
    assert (await handle.describe()).schedule.state.note == "changed"
    await handle.trigger()

    async def acted() -> bool:
        return (await handle.describe()).info.num_actions == 1

    await eventually("the schedule acted", acted)

    async def listed() -> bool:
        return any([entry.id == schedule_id async for entry in await client.list_schedules()])

    await eventually("the schedule is listed", listed)
    await handle.delete()


def _with_note(schedule: Schedule, note: str) -> Schedule:
    schedule.state.note = note
    return schedule


def _run(server: ServerProcess, *scenarios: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S), server:
            official = await OfficialClient.connect(server.address)
            queue = unique("queue")
            async with (
                Worker(
                    official,
                    task_queue=queue,
                    workflows=[Everything],
                    activities=[completed_outside],
                    workflow_runner=UnsandboxedWorkflowRunner(),
                ),
                await Client.connect(server.address) as client,
            ):
                for scenario in scenarios:
                    await scenario(client, queue)

    asyncio.run(bounded())


def test_on_our_server() -> None:
    """Everything the server has so far."""
    server = PerdureServer(search_attributes=SEARCH_ATTRIBUTES)
    _run(server, _workflows, _cancelled, _update_with_start, _activity_completed_outside, _schedules)


def test_on_the_official_server() -> None:
    """The same."""
    server = RealServer(search_attributes=SEARCH_ATTRIBUTES)
    _run(server, _workflows, _cancelled, _update_with_start, _activity_completed_outside, _schedules)
