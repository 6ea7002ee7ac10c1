"""Answers to polls: deliveries turned into the messages that workers read, with tokens and the first history page."""

from __future__ import annotations

from perdure.api.common.v1 import Payloads
from perdure.api.history.v1 import History
from perdure.api.query.v1 import WorkflowQuery
from perdure.api.workflowservice.v1 import PollActivityTaskQueueResponse, PollWorkflowTaskQueueResponse
from perdure.core.errors import InvariantViolation
from perdure.core.run import activity_control
from perdure.core.run.priorities import merged_priority
from perdure.core.run.protos import set_duration, set_timestamp
from perdure.core.run.records import RunKey
from perdure.core.run.state import Activity
from perdure.server.engine.deliveries import (
    ActivityDelivery,
    Delivery,
    QueryDelivery,
    StandaloneActivityDelivery,
    WorkflowTaskDelivery,
)
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories

WORKFLOW_TASK = "workflow-task"
ACTIVITY_TASK = "activity-task"
STANDALONE_TASK = "standalone-activity-task"
QUERY_TASK = "query-task"
HISTORY_PAGE = "history-page"


class TaskResponses:
    """Builds answers to polls."""

    def __init__(self, engine: Engine, histories: Histories) -> None:
        self._engine = engine
        self._histories = histories

    async def workflow_task_queue(self, delivery: Delivery) -> PollWorkflowTaskQueueResponse:
        """The answer to a poll of a workflow task queue."""
        if isinstance(delivery, QueryDelivery):
            return await self._query_task(delivery)
        if not isinstance(delivery, WorkflowTaskDelivery):
            raise InvariantViolation("an activity on a workflow queue", delivery=delivery)
        return await self.workflow_task(delivery)

    async def workflow_task(self, delivery: WorkflowTaskDelivery) -> PollWorkflowTaskQueueResponse:
        """A started workflow task."""
        header = delivery.header
        response = PollWorkflowTaskQueueResponse(
            task_token=self._engine.tokens.seal(
                WORKFLOW_TASK,
                *delivery.run[:3],
                header.task_scheduled_event_id,
                header.task_started_event_id,
                header.task_started_ns,
                header.task_attempt,
            ),
            previous_started_event_id=header.last_completed_task_started_event_id,
            started_event_id=header.task_started_event_id,
            attempt=header.task_attempt,
        )
        _name(response, delivery.run, header.workflow_type)
        set_timestamp(response.scheduled_time, header.task_scheduled_ns)
        set_timestamp(response.started_time, header.task_started_ns)
        _name_queue(response, delivery)
        for query_id, query in delivery.queries.items():
            response.queries[query_id].CopyFrom(query)
        response.messages.extend(delivery.messages)
        end = header.task_started_event_id + 1
        written_end = header.task_scheduled_event_id if delivery.transient_events else end
        await self._first_page(response, delivery.run, self._first_event(delivery), written_end, end)
        if not response.next_page_token:
            response.history.events.extend(delivery.transient_events)
        return response

    def _first_event(self, delivery: WorkflowTaskDelivery | QueryDelivery) -> int:
        return delivery.header.last_completed_task_started_event_id + 1 if delivery.partial_history else 1

    async def _query_task(self, delivery: QueryDelivery) -> PollWorkflowTaskQueueResponse:
        header = delivery.header
        response = PollWorkflowTaskQueueResponse(
            task_token=self._engine.tokens.seal(
                QUERY_TASK, delivery.run.namespace_id, delivery.queue.name, delivery.query_id
            ),
            previous_started_event_id=header.last_completed_task_started_event_id,
            attempt=1,
        )
        _name(response, delivery.run, header.workflow_type)
        _name_queue(response, delivery)
        query: WorkflowQuery = response.query
        query.CopyFrom(delivery.query)
        if delivery.partial_history:
            # A worker refuses a task without a history, even where it has the run in its cache.
            response.history.SetInParent()
        else:
            end = header.next_event_id
            await self._first_page(response, delivery.run, 1, end, end)
        return response

    async def _first_page(
        self,
        response: PollWorkflowTaskQueueResponse,
        run: RunKey,
        first: int,
        end: int,
        last_page_end: int,
    ) -> None:
        """Puts the events of [first, end) into a response, or as many as fit on a page.

        The pages that follow end before `last_page_end`: the events of a speculative task may be written by then.
        """
        batches = await self._histories.read(run, first, end)
        history = History.FromString(b"".join(batch.data for batch in batches))
        while history.events and history.events[-1].event_id >= end:
            del history.events[-1]
        skip = next((i for i, event in enumerate(history.events) if event.event_id >= first), 0)
        del history.events[:skip]
        response.history.CopyFrom(history)
        last = history.events[-1].event_id if history.events else first - 1
        if last + 1 < end:
            response.next_page_token = self._engine.tokens.seal(
                HISTORY_PAGE, *run[:3], last + 1, last_page_end, 0
            )

    async def activity_task(self, delivery: Delivery) -> PollActivityTaskQueueResponse:
        """A started activity attempt."""
        if isinstance(delivery, StandaloneActivityDelivery):
            return self._standalone_task(delivery)
        if not isinstance(delivery, ActivityDelivery):
            raise InvariantViolation("no activity on an activity queue", delivery=delivery)
        return await self._activity_task(delivery)

    async def _activity_task(self, delivery: ActivityDelivery) -> PollActivityTaskQueueResponse:
        activity, header, run = delivery.activity, delivery.header, delivery.run
        event = delivery.scheduled_event or await self._histories.event(run, activity.scheduled_event_id)
        attributes = event.activity_task_scheduled_event_attributes
        response = PollActivityTaskQueueResponse(
            task_token=self._engine.tokens.seal(
                ACTIVITY_TASK,
                *run[:3],
                activity.scheduled_event_id,
                activity.activity_id,
                activity.attempt,
                activity.started_ns,
            ),
            workflow_namespace=header.namespace,
            activity_id=activity.activity_id,
            attempt=activity.attempt,
        )
        response.workflow_type.name = header.workflow_type
        response.workflow_execution.workflow_id = run.workflow_id
        response.workflow_execution.run_id = run.run_id
        for name in ("header", "input", "retry_policy", "priority"):
            if attributes.HasField(name):
                getattr(response, name).CopyFrom(getattr(attributes, name))
        if activity.is_adjusted:
            _take_options(response, activity)
        if header.priority:
            response.priority.CopyFrom(merged_priority(activity.priority, header.priority))
        set_timestamp(response.scheduled_time, activity.first_scheduled_ns)
        _show_attempt(response, activity)
        return response

    def _standalone_task(self, delivery: StandaloneActivityDelivery) -> PollActivityTaskQueueResponse:
        state = delivery.state
        attempt, request = state.header.attempt, state.request
        run = state.run
        response = PollActivityTaskQueueResponse(
            task_token=self._engine.tokens.seal(
                STANDALONE_TASK, *run[:3], attempt.attempt, attempt.started_ns
            ),
            workflow_namespace=state.header.namespace,
            activity_id=run.workflow_id,
            activity_run_id=run.run_id,
            attempt=attempt.attempt,
        )
        response.workflow_execution.SetInParent()
        for name in ("header", "input"):
            if request.HasField(name):
                getattr(response, name).CopyFrom(getattr(request, name))
        _take_options(response, attempt)
        set_timestamp(response.scheduled_time, state.header.schedule_ns)
        _show_attempt(response, attempt)
        return response


def _name(response: PollWorkflowTaskQueueResponse, run: RunKey, workflow_type: str) -> None:
    response.workflow_execution.workflow_id = run.workflow_id
    response.workflow_execution.run_id = run.run_id
    response.workflow_type.name = workflow_type


def _show_attempt(response: PollActivityTaskQueueResponse, activity: Activity) -> None:
    response.activity_type.name = activity.activity_type
    if activity.heartbeat_details:
        response.heartbeat_details.CopyFrom(Payloads.FromString(activity.heartbeat_details))
    set_timestamp(response.current_attempt_scheduled_time, activity.scheduled_ns)
    set_timestamp(response.started_time, activity.started_ns)
    set_duration(response.schedule_to_close_timeout, activity.schedule_to_close_ns)
    set_duration(response.start_to_close_timeout, activity.start_to_close_ns)
    set_duration(response.heartbeat_timeout, activity.heartbeat_ns)


def _take_options(response: PollActivityTaskQueueResponse, activity: Activity) -> None:
    """Shows options that an operator changed, instead of those that the activity was scheduled with."""
    options = activity_control.options(activity)
    response.retry_policy.CopyFrom(options.retry_policy)
    response.retry_policy.non_retryable_error_types.extend(activity.non_retryable_types)
    response.ClearField("priority")
    if options.HasField("priority"):
        response.priority.CopyFrom(options.priority)


def _name_queue(
    response: PollWorkflowTaskQueueResponse, delivery: WorkflowTaskDelivery | QueryDelivery
) -> None:
    response.workflow_execution_task_queue.name = delivery.header.task_queue
    response.workflow_execution_task_queue.kind = "TASK_QUEUE_KIND_NORMAL"  # type: ignore[assignment]  # by name
