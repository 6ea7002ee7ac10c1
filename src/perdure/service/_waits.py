"""What the description of a run says it waits for a worker at. Only reading of messages lives here."""

from __future__ import annotations

from perdure.api.enums.v1 import PendingActivityState, TaskQueueType
from perdure.api.workflowservice.v1 import DescribeWorkflowExecutionResponse


def queues_waited_at(
    described: DescribeWorkflowExecutionResponse,
) -> list[tuple[str, TaskQueueType.ValueType]]:
    """Task queues in which a task of the run lies ready for a worker, and the kind of the task; sorted.

    Retries that are not yet due and paused activities wait for no worker.
    """
    waits = set()
    if described.HasField("pending_workflow_task") and not described.pending_workflow_task.HasField(
        "started_time"
    ):
        waits.add((described.execution_config.task_queue.name, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW))
    for activity in described.pending_activities:
        is_waiting = activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        if is_waiting and not activity.HasField("next_attempt_schedule_time") and not activity.paused:
            waits.add((activity.activity_options.task_queue.name, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY))
    return sorted(wait for wait in waits if wait[0])
