"""RPCs that read one workflow execution: history forward and reverse, query, describe."""

from __future__ import annotations

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.enums.v1 import (
    HistoryEventFilterType,
    PendingActivityState,
    PendingWorkflowTaskState,
    QueryRejectCondition,
)
from perdure.api.history.v1 import History
from perdure.api.workflow.v1 import PendingActivityInfo, PendingChildExecutionInfo
from perdure.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
    GetWorkflowExecutionHistoryReverseRequest,
    GetWorkflowExecutionHistoryReverseResponse,
    QueryWorkflowRequest,
    QueryWorkflowResponse,
)
from perdure.core.deployment.routes import split_version, version_message
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import callback, lifecycle, listing, nexus_operation, versioning, workflow_task
from perdure.core.run.protos import set_duration, set_timestamp
from perdure.core.run.records import RunKey
from perdure.core.run.state import RUNNING, Activity, Child, RunHeader, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories, events
from perdure.server.engine.queries import Queries, RunPaused
from perdure.server.engine.runs import CLOSE_EVENT
from perdure.server.namespaces import Namespace
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.server.service.execution_info import execution_info
from perdure.server.service.task_responses import HISTORY_PAGE

_CLOSE_EVENT = HistoryEventFilterType.Value("HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT")
_NOT_OPEN = QueryRejectCondition.Value("QUERY_REJECT_CONDITION_NOT_OPEN")
_NOT_CLEAN = QueryRejectCondition.Value("QUERY_REJECT_CONDITION_NOT_COMPLETED_CLEANLY")
_SCHEDULED = PendingActivityState.Value("PENDING_ACTIVITY_STATE_SCHEDULED")
_STARTED = PendingActivityState.Value("PENDING_ACTIVITY_STATE_STARTED")
_CANCEL_REQUESTED = PendingActivityState.Value("PENDING_ACTIVITY_STATE_CANCEL_REQUESTED")
_PAUSED = PendingActivityState.Value("PENDING_ACTIVITY_STATE_PAUSED")
_PAUSE_REQUESTED = PendingActivityState.Value("PENDING_ACTIVITY_STATE_PAUSE_REQUESTED")
_TASK_SCHEDULED = PendingWorkflowTaskState.Value("PENDING_WORKFLOW_TASK_STATE_SCHEDULED")
_TASK_STARTED = PendingWorkflowTaskState.Value("PENDING_WORKFLOW_TASK_STATE_STARTED")
_WITHOUT_TRANSIENT_EVENTS = ("temporal-cli", "temporal-ui", "perdure-cli", "perdure-ui")
BAD_PAGE_TOKEN = "Invalid NextPageToken."
_REVERSE_PAGE = "reverse-page"
_NO_TIME_S = -62_135_596_800
"""The first second of the year 1: what clients of Temporal's server get, and recognise, as 'no time'."""


class Readings:
    """Handlers of the RPCs that read executions.

    Args:
        engine, histories, queries: what is read.
        long_poll_s: how long GetWorkflowExecutionHistory waits for news at most.
        query_s: how long a query waits for its answer when the caller sets no deadline.
    """

    def __init__(
        self,
        engine: Engine,
        histories: Histories,
        queries: Queries,
        long_poll_s: float = 20.0,
        query_s: float = 30.0,
    ) -> None:
        self._engine = engine
        self._namespaces = engine.namespaces
        self._histories = histories
        self._queries = queries
        self._long_poll_s = long_poll_s
        self._query_s = query_s

    # --- history ---

    async def get_workflow_execution_history(
        self, request: GetWorkflowExecutionHistoryRequest, call: Call
    ) -> GetWorkflowExecutionHistoryResponse:
        """GetWorkflowExecutionHistory: pages of whole batches; may wait for news or show the close event only."""
        namespace = self._namespaces.get(request.namespace)
        run, first, end, version = await self._position(request, namespace)
        wait = request.wait_new_event
        close_only = request.history_event_filter_type == _CLOSE_EVENT
        header = await self._histories.header(run)
        if end > header.next_event_id or (call.is_local and not wait):
            # The pages of a workflow task whose start is still on its way to the disk.
            header = (await self._histories.state(run)).header
        if wait and header.is_open and version and (close_only or first >= header.next_event_id):
            awaited = CLOSE_EVENT if close_only else first
            header = await self._histories.wait_for_news(run, awaited, self._patience_s(call))
        if close_only:
            return await self._close_event(run, header, wait=wait)
        if wait:
            end = header.next_event_id
        elif not end:
            # Events that are not written yet may be when the last page is read.
            end = header.next_event_id + (2 if header.task_is_speculative else 0)
        return await self._page(request, call, run, header, first, end)

    def _patience_s(self, call: Call) -> float:
        if call.deadline_s is None:
            return self._long_poll_s
        return max(min(self._long_poll_s, call.deadline_s - 1.0), 0.0)

    async def _position(
        self, request: GetWorkflowExecutionHistoryRequest, namespace: Namespace
    ) -> tuple[RunKey, int, int, int]:
        """The run, first event, end and 'not the first call' of a request, from its token if it has one."""
        named = checks.execution(request, "execution")
        if not request.next_page_token:
            run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)
            first_wait = request.history_event_filter_type == _CLOSE_EVENT
            return run, 1, 0, int(first_wait)
        fields = self._engine.tokens.open(HISTORY_PAGE, request.next_page_token, BAD_PAGE_TOKEN)
        run = RunKey(*fields[:3])
        _check_token(run, namespace, named)
        return run, fields[3], fields[4], 1

    async def _close_event(
        self, run: RunKey, header: RunHeader, *, wait: bool
    ) -> GetWorkflowExecutionHistoryResponse:
        response = GetWorkflowExecutionHistoryResponse()
        response.history.SetInParent()
        if not header.is_open:
            last = await self._histories.event(run, header.close_event_id)
            response.history.events.append(last)
        elif header.paused_ns and not wait:
            # Whoever sees a status other than running asks for the event behind it: of a pause, the newest event.
            response.history.events.append(await self._histories.event(run, header.next_event_id - 1))
        elif wait:
            response.next_page_token = self._token(run, 1, 0)
        return response

    async def _page(
        self,
        request: GetWorkflowExecutionHistoryRequest,
        call: Call,
        run: RunKey,
        header: RunHeader,
        first: int,
        end: int,
    ) -> GetWorkflowExecutionHistoryResponse:
        written_end = min(end, header.next_event_id)
        batches = await self._histories.read(run, first, written_end, max_batches=request.maximum_page_size)
        response = GetWorkflowExecutionHistoryResponse()
        response.history.SetInParent()
        if batches:
            response.history.MergeFromString(b"".join(batch.data for batch in batches))
            _trim(response.history, first, written_end)
        following = batches[-1].last_event_id + 1 if batches else first
        if following < written_end:
            response.next_page_token = self._token(run, following, end)
            return response
        if request.wait_new_event and header.is_open:
            response.next_page_token = self._token(run, following, 0)
        elif header.is_open and written_end == header.next_event_id:
            self._add_transient(response.history, call, header)
        return response

    def _add_transient(self, history: History, call: Call, header: RunHeader) -> None:
        """Shows the pending transient or speculative task's events to SDKs, which expect them in a history that they
        fetch. `header` is that of the moment whose events were read."""
        if call.metadata.get("client-name") not in _WITHOUT_TRANSIENT_EVENTS:
            history.events.extend(workflow_task.transient_events(header))

    def _token(self, run: RunKey, first: int, end: int) -> bytes:
        return self._engine.tokens.seal(HISTORY_PAGE, *run[:3], first, end, 0)

    async def get_workflow_execution_history_reverse(
        self, request: GetWorkflowExecutionHistoryReverseRequest, call: Call
    ) -> GetWorkflowExecutionHistoryReverseResponse:
        """GetWorkflowExecutionHistoryReverse: newest first."""
        namespace = self._namespaces.get(request.namespace)
        named = checks.execution(request, "execution")
        if request.next_page_token:
            fields = self._engine.tokens.open(_REVERSE_PAGE, request.next_page_token, BAD_PAGE_TOKEN)
            run, end = RunKey(*fields[:3]), fields[3]
            _check_token(run, namespace, named)
        else:
            run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)
            end = (await self._histories.header(run)).next_event_id
        batches = await self._histories.read(run, 1, end, max_batches=request.maximum_page_size, reverse=True)
        response = GetWorkflowExecutionHistoryReverseResponse()
        response.history.SetInParent()
        for batch in batches:
            for event in reversed(events([batch])):
                if event.event_id < end:
                    response.history.events.append(event)
        if batches and batches[-1].first_event_id > 1:
            response.next_page_token = self._engine.tokens.seal(
                _REVERSE_PAGE, *run[:3], batches[-1].first_event_id
            )
        return response

    # --- query ---

    async def query_workflow(self, request: QueryWorkflowRequest, call: Call) -> QueryWorkflowResponse:
        """QueryWorkflow: asks the workflow through a worker."""
        namespace = self._namespaces.get(request.namespace)
        named = checks.execution(request, "execution")
        if not request.HasField("query"):
            raise InvalidArgumentError("WorkflowQuery is not set on request.")
        if not request.query.query_type:
            raise InvalidArgumentError("QueryType is not set on request.")
        checks.blob(request.query.query_args.ByteSize(), self._engine.limits.run)
        run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)
        status = (await self._histories.header(run)).status
        response = QueryWorkflowResponse()
        condition = request.query_reject_condition
        if status != RUNNING and (
            condition == _NOT_OPEN or (condition == _NOT_CLEAN and status != lifecycle.STATUS_COMPLETED)
        ):
            response.query_rejected.status = status  # type: ignore[assignment]  # a WorkflowExecutionStatus number
            return response
        timeout_s = self._query_s if call.deadline_s is None else call.deadline_s
        try:
            result = await self._queries.ask(run, request.query, timeout_s)
        except RunPaused:
            response.query_rejected.status = "WORKFLOW_EXECUTION_STATUS_PAUSED"  # type: ignore[assignment]  # by name
            return response
        if result is not None:
            response.query_result.CopyFrom(result)
        return response

    # --- describe ---

    async def describe_workflow_execution(
        self, request: DescribeWorkflowExecutionRequest, call: Call
    ) -> DescribeWorkflowExecutionResponse:
        """DescribeWorkflowExecution: what the run is doing now."""
        namespace = self._namespaces.get(request.namespace)
        named = checks.execution(request, "execution")
        run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)
        state = await self._histories.state(run)
        header = state.header
        tx = Transition(state, self._engine.runtime.now_ns())
        response = DescribeWorkflowExecutionResponse()
        config = response.execution_config
        config.task_queue.name = header.task_queue
        config.task_queue.kind = "TASK_QUEUE_KIND_NORMAL"  # type: ignore[assignment]  # by name
        if header.execution_timeout_ns:
            set_duration(config.workflow_execution_timeout, header.execution_timeout_ns)
        if header.run_timeout_ns:
            set_duration(config.workflow_run_timeout, header.run_timeout_ns)
        set_duration(config.default_workflow_task_timeout, header.default_task_timeout_ns)
        if header.user_metadata:
            config.user_metadata.ParseFromString(header.user_metadata)
        record = listing.record(tx, namespace.search_attributes)
        response.workflow_execution_info.CopyFrom(execution_info(run, record, namespace.search_attributes))
        info = response.workflow_execution_info
        info.first_run_id = header.first_run_id
        if header.parent_run_id:
            info.parent_namespace_id = run.namespace_id
        info.history_length = header.next_event_id - 1
        info.history_size_bytes = header.history_size_bytes
        info.state_transition_count = header.transition_count
        if header.priority:
            info.priority.ParseFromString(header.priority)
        versions = versioning.info(header)
        if versions is not None:
            info.versioning_info.CopyFrom(versions)
        if header.versioning is not None:
            info.worker_deployment_name = header.versioning.deployment_name
        self._extended(response, state)
        for pending in state.activities.values():
            response.pending_activities.append(_pending_activity(pending))
        if header.is_open:
            response.pending_children.extend(_pending_child(child) for child in state.children.values())
            response.pending_nexus_operations.extend(
                nexus_operation.described(item, tx.now_ns) for item in state.nexus_operations.values()
            )
        if state.callbacks:
            response.callbacks.extend(callback.described(tx))
        if header.is_open and header.has_pending_task:
            task = response.pending_workflow_task
            task.state = _TASK_STARTED if header.has_started_task else _TASK_SCHEDULED
            task.attempt = header.task_attempt
            set_timestamp(task.scheduled_time, header.task_scheduled_ns)
            set_timestamp(task.original_scheduled_time, header.task_first_scheduled_ns)
            set_timestamp(task.started_time, header.task_started_ns)
        return response

    def _extended(self, response: DescribeWorkflowExecutionResponse, state: RunState) -> None:
        header = state.header
        extended = response.workflow_extended_info
        if header.execution_timeout_ns:
            set_timestamp(
                extended.execution_expiration_time, header.execution_ns + header.execution_timeout_ns
            )
        if header.run_expiration_ns:
            set_timestamp(extended.run_expiration_time, header.run_expiration_ns)
        else:
            extended.run_expiration_time.seconds = _NO_TIME_S
        extended.cancel_requested = header.cancel_requested
        if header.paused_ns:
            set_timestamp(extended.pause_info.paused_time, header.paused_ns)
            extended.pause_info.identity = header.pause_identity
            extended.pause_info.reason = header.pause_reason
        extended.reset_run_id = header.reset_run_id
        set_timestamp(extended.last_reset_time, header.reset_ns)
        set_timestamp(extended.original_start_time, header.start_ns)
        info = extended.request_id_infos[header.start_request_id]
        info.event_id = 1
        info.event_type = "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"  # type: ignore[assignment]  # by name
        for update in state.updates.values():
            if update.request_id:
                info = extended.request_id_infos[update.request_id]
                how = "ADMITTED" if update.admitted_event_id else "ACCEPTED"
                info.event_type = f"EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_{how}"  # type: ignore[assignment]  # by name
                info.event_id = update.admitted_event_id or update.accepted_event_id
        for request_id, event_id in state.attached_requests.items():
            info = extended.request_id_infos[request_id]
            info.event_type = "EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED"  # type: ignore[assignment]  # by name
            info.event_id = event_id
            info.buffered = not event_id


def _check_token(run: RunKey, namespace: Namespace, named: WorkflowExecution) -> None:
    """A page token is of one run: that of the request."""
    if named.run_id and named.run_id != run.run_id:
        raise InvalidArgumentError("RunId in the request does not match the NextPageToken.")
    if run.namespace_id != namespace.namespace_id or run.workflow_id != named.workflow_id:
        raise InvalidArgumentError(BAD_PAGE_TOKEN)


def _trim(history: History, first: int, end: int) -> None:
    while history.events and history.events[-1].event_id >= end:
        del history.events[-1]
    skip = next((i for i, event in enumerate(history.events) if event.event_id >= first), 0)
    del history.events[:skip]


def _pending_child(child: Child) -> PendingChildExecutionInfo:
    return PendingChildExecutionInfo(
        workflow_id=child.workflow_id,
        run_id=child.run_id,
        workflow_type_name=child.workflow_type,
        initiated_id=child.initiated_event_id,
        parent_close_policy=child.close_policy,  # type: ignore[arg-type]  # an enum number
    )


def _pending_activity(activity: Activity) -> PendingActivityInfo:
    info = PendingActivityInfo(activity_id=activity.activity_id, attempt=activity.attempt)
    info.activity_type.name = activity.activity_type
    if activity.cancel_requested_event_id:
        info.state = _CANCEL_REQUESTED
    elif activity.paused_ns:
        info.state = _PAUSE_REQUESTED if activity.started_ns else _PAUSED
    else:
        info.state = _STARTED if activity.started_ns else _SCHEDULED
    if activity.paused_ns:
        info.paused = True
        set_timestamp(info.pause_info.pause_time, activity.paused_ns)
        info.pause_info.manual.identity = activity.pause_identity
        info.pause_info.manual.reason = activity.pause_reason
    info.maximum_attempts = activity.maximum_attempts
    if activity.heartbeat_details:
        info.heartbeat_details.ParseFromString(activity.heartbeat_details)
    if activity.last_failure:
        info.last_failure.ParseFromString(activity.last_failure)
    if activity.priority:
        info.priority.ParseFromString(activity.priority)
    info.last_worker_identity = activity.worker_identity
    if activity.worker_version:
        info.last_deployment_version.CopyFrom(version_message(activity.worker_version))
        info.last_worker_deployment_version = ".".join(split_version(activity.worker_version))
    set_timestamp(info.scheduled_time, activity.scheduled_ns)
    set_timestamp(info.last_started_time, activity.started_ns)
    set_timestamp(info.last_heartbeat_time, activity.last_heartbeat_ns)
    set_timestamp(info.expiration_time, activity.expiration_ns)
    set_timestamp(info.last_attempt_complete_time, activity.last_attempt_complete_ns)
    if activity.backing_off and not activity.paused_ns:
        set_timestamp(info.next_attempt_schedule_time, activity.scheduled_ns)
        set_duration(info.current_retry_interval, activity.scheduled_ns - activity.last_attempt_complete_ns)
    options = info.activity_options
    options.task_queue.name = options.task_queue.normal_name = activity.task_queue
    set_duration(options.schedule_to_close_timeout, activity.schedule_to_close_ns)
    set_duration(options.schedule_to_start_timeout, activity.schedule_to_start_ns)
    set_duration(options.start_to_close_timeout, activity.start_to_close_ns)
    set_duration(options.heartbeat_timeout, activity.heartbeat_ns)
    policy = options.retry_policy
    set_duration(policy.initial_interval, activity.initial_interval_ns)
    set_duration(policy.maximum_interval, activity.maximum_interval_ns)
    policy.backoff_coefficient = activity.backoff_coefficient
    policy.maximum_attempts = activity.maximum_attempts
    if activity.priority:
        options.priority.ParseFromString(activity.priority)
    return info
