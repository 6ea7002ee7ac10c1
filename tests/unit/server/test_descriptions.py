"""What descriptions leave to a second question: the event behind a status, kinds of tasks that were not named."""

from __future__ import annotations

from tests.support.builders import queue
from tests.support.proto import common, enums, history, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

CLOSE_EVENT = enums.HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
ENHANCED = enums.DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED
PAUSED = enums.EventType.EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED


async def _close_event(client: LocalClient) -> list[history.HistoryEvent]:
    answer = await client.call(
        workflowservice.GetWorkflowExecutionHistoryRequest(
            namespace="default",
            execution=common.WorkflowExecution(workflow_id="w"),
            history_event_filter_type=CLOSE_EVENT,
        ),
        workflowservice.GetWorkflowExecutionHistoryResponse,
    )
    return list(answer.history.events)


def test_the_event_behind_the_status_of_a_paused_run_is_its_newest() -> None:
    """An open run has no such event; a paused one has, because its status is not that of a running one."""

    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", "q")
            assert await _close_event(client) == []
            pause = workflowservice.PauseWorkflowExecutionRequest(
                namespace="default", workflow_id="w", reason="a break", request_id="r"
            )
            await client.call(pause, workflowservice.PauseWorkflowExecutionResponse)
            assert [event.event_type for event in await _close_event(client)] == [PAUSED]

    run(scenario())


def test_a_queue_is_described_for_workflows_and_activities_unless_kinds_are_named() -> None:
    """Nexus tasks are described when they are asked for."""

    async def described(client: LocalClient, *kinds: int) -> set[int]:
        answer = await client.call(
            workflowservice.DescribeTaskQueueRequest(
                namespace="default",
                task_queue=queue("q"),
                api_mode=ENHANCED,
                task_queue_types=kinds,  # type: ignore[arg-type]  # numbers of the enum
            ),
            workflowservice.DescribeTaskQueueResponse,
        )
        return set(answer.versions_info[""].types_info)

    async def scenario() -> None:
        async with serving() as client:
            kinds = enums.TaskQueueType
            both = {kinds.TASK_QUEUE_TYPE_WORKFLOW, kinds.TASK_QUEUE_TYPE_ACTIVITY}
            assert await described(client) == both
            nexus = kinds.TASK_QUEUE_TYPE_NEXUS
            assert await described(client, nexus) == {nexus}

    run(scenario())
