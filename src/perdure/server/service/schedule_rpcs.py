"""RPCs on schedules: create, describe, update, patch, delete, list, count, preview of times.

What a schedule does is decided in `core/schedule` and done by `engine/schedules.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import TaskQueueKind, WorkflowExecutionStatus, WorkflowIdReusePolicy
from perdure.api.protobuf import Timestamp
from perdure.api.schedule.v1 import Schedule, ScheduleInfo, ScheduleListEntry, SchedulePatch
from perdure.api.workflowservice.v1 import (
    CountSchedulesRequest,
    CountSchedulesResponse,
    CreateScheduleRequest,
    CreateScheduleResponse,
    DeleteScheduleRequest,
    DeleteScheduleResponse,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    ListScheduleMatchingTimesRequest,
    ListScheduleMatchingTimesResponse,
    ListSchedulesRequest,
    ListSchedulesResponse,
    PatchScheduleRequest,
    PatchScheduleResponse,
    UpdateScheduleRequest,
    UpdateScheduleResponse,
)
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import attributes
from perdure.core.run.protos import checked_timestamp_ns, set_timestamp, timestamp_ns
from perdure.core.run.state import RUNNING
from perdure.core.schedule import machine, messages
from perdure.core.schedule.spec import Barren, canonical
from perdure.core.schedule.state import ScheduleState, Start
from perdure.core.visibility import Query, QueryCache, matches
from perdure.server.engine.engine import Engine
from perdure.server.engine.schedules import Schedules
from perdure.server.namespaces import STARTABLE_STATES, Namespace
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.server.service.execution_info import typed
from perdure.store.protocol import ScheduleKey

MAX_NOTES_BYTES = 1000
MAX_MATCHING_TIMES = 1000
MATCHING_STEP = 500
"""Times that a preview looks at before others get their turn..."""
MAX_MATCHING_STEPS = 100
"""...and how often it goes on."""
MAX_PAGE = 1000
SCAN_PAGE = 200
QUERY_CACHE_SIZE = 64
_ID_PREFIX = "temporal-sys-scheduler:"
"""What the official server puts before a schedule's id; it counts for the limit of its length."""
_DIVISION = "TemporalScheduler"
_REUSE = (0, WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE"))
_NORMAL_QUEUE = TaskQueueKind.Value("TASK_QUEUE_KIND_NORMAL")
_RUNNING = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_RUNNING")


class ScheduleRpcs:
    """Handlers of the RPCs on schedules.

    Args:
        engine: for namespaces, limits, ids and the clock.
        schedules: the schedules.
    """

    def __init__(self, engine: Engine, schedules: Schedules) -> None:
        self._engine = engine
        self._namespaces = engine.namespaces
        self._limits = engine.limits.run
        self._schedules = schedules
        self._queries = QueryCache(QUERY_CACHE_SIZE)

    async def create_schedule(self, request: CreateScheduleRequest, call: Call) -> CreateScheduleResponse:
        """CreateSchedule: once per request id."""
        namespace = self._namespaces.get(request.namespace, STARTABLE_STATES)
        if not request.schedule_id:
            raise InvalidArgumentError("ScheduleId is not set on request.")
        if checks.too_long(_ID_PREFIX + request.schedule_id, self._limits):
            length = len((_ID_PREFIX + request.schedule_id).encode())
            raise InvalidArgumentError(
                f"WorkflowId exceeds maximum allowed length ({length}/{self._limits.id_bytes})"
            )
        if not request.request_id:
            raise InvalidArgumentError("RequestId is not set on request.")
        checks.request_id(request.request_id, self._limits)
        schedule = self._checked(request.schedule, namespace, request.schedule_id)
        self._check_properties(request, namespace)
        now_ns = self._engine.runtime.now_ns()
        state = ScheduleState(
            namespace.namespace_id,
            namespace.name,
            request.schedule_id,
            self._engine.runtime.new_id(),
            request.request_id,
            schedule,
            ScheduleInfo(),
            request.memo,
            request.search_attributes,
        )
        patch = request.initial_patch if request.HasField("initial_patch") else None
        _check_patch(request.initial_patch)
        state = await self._schedules.create(machine.created(state, patch, now_ns))
        return CreateScheduleResponse(conflict_token=_token(state))

    async def describe_schedule(
        self, request: DescribeScheduleRequest, call: Call
    ) -> DescribeScheduleResponse:
        """DescribeSchedule: running workflows that have closed meanwhile are left out."""
        namespace = self._namespaces.get(request.namespace)
        state = await self._schedules.load(_key(namespace, request.schedule_id))
        schedule, info = messages.description(state, self._engine.runtime.now_ns())
        attributes.mark_types(schedule.action.start_workflow.search_attributes, namespace.search_attributes)
        running = list(info.running_workflows)
        del info.running_workflows[:]
        for workflow in running:
            current = await self._engine.reading(
                self._engine.store.current_run(namespace.namespace_id, workflow.workflow_id)
            )
            if current is not None and (current.status, current.first_run_id) == (RUNNING, workflow.run_id):
                info.running_workflows.append(workflow)
        response = DescribeScheduleResponse(schedule=schedule, info=info, conflict_token=_token(state))
        if state.memo.fields:
            response.memo.CopyFrom(state.memo)
        if state.search_attributes.indexed_fields:
            data = state.search_attributes.SerializeToString()
            response.search_attributes.CopyFrom(typed(data, namespace.search_attributes))
        return response

    async def update_schedule(self, request: UpdateScheduleRequest, call: Call) -> UpdateScheduleResponse:
        """UpdateSchedule: replaces everything that users set; the conflict token guards it if given."""
        namespace = self._namespaces.get(request.namespace)
        checks.request_id(request.request_id, self._limits)
        schedule = self._checked(request.schedule, namespace, request.schedule_id)
        self._check_properties(request, namespace)
        token = int.from_bytes(request.conflict_token[:8], "big") if len(request.conflict_token) >= 8 else 0
        fields = request.search_attributes if request.HasField("search_attributes") else None
        memo = request.memo if request.HasField("memo") else None

        def change(state: ScheduleState, now_ns: int) -> ScheduleState:
            return machine.updated(state, schedule, fields, memo, token, request.request_id, now_ns)

        await self._schedules.change(_key(namespace, request.schedule_id), change)
        return UpdateScheduleResponse()

    async def patch_schedule(self, request: PatchScheduleRequest, call: Call) -> PatchScheduleResponse:
        """PatchSchedule: triggers, backfills, pauses, unpauses."""
        namespace = self._namespaces.get(request.namespace)
        if not request.HasField("patch"):
            raise InvalidArgumentError("Patch is not set on request.")
        checks.request_id(request.request_id, self._limits)
        _check_patch(request.patch)
        await self._schedules.change(
            _key(namespace, request.schedule_id),
            lambda state, now_ns: machine.patched(state, request.patch, request.request_id, now_ns),
        )
        return PatchScheduleResponse()

    async def delete_schedule(self, request: DeleteScheduleRequest, call: Call) -> DeleteScheduleResponse:
        """DeleteSchedule: running workflows stay."""
        namespace = self._namespaces.get(request.namespace)
        await self._schedules.delete(_key(namespace, request.schedule_id))
        return DeleteScheduleResponse()

    async def list_schedule_matching_times(
        self, request: ListScheduleMatchingTimesRequest, call: Call
    ) -> ListScheduleMatchingTimesResponse:
        """ListScheduleMatchingTimes: the times in a range, with jitter, at most a thousand.

        Fewer come if most of what the specification names is excluded again: the search has a limit, too.
        """
        namespace = self._namespaces.get(request.namespace)
        state = await self._schedules.load(_key(namespace, request.schedule_id))
        if not request.HasField("start_time") or not request.HasField("end_time"):
            raise InvalidArgumentError("missing or invalid query")
        response = ListScheduleMatchingTimesResponse()
        after_ns, end_ns = timestamp_ns(request.start_time), timestamp_ns(request.end_time)
        for _ in range(MAX_MATCHING_STEPS):
            is_over = True
            for found in state.spec.walk(after_ns, MATCHING_STEP):
                if isinstance(found, Barren):
                    after_ns, is_over = found.until_ns, found.until_ns >= end_ns
                    break
                if found.time_ns > end_ns or len(response.start_time) >= MAX_MATCHING_TIMES:
                    break
                time = Timestamp()
                set_timestamp(time, found.time_ns)
                response.start_time.append(time)
            if is_over:
                break
            await asyncio.sleep(0)  # others get their turn
        return response

    # --- lists

    async def list_schedules(self, request: ListSchedulesRequest, call: Call) -> ListSchedulesResponse:
        """ListSchedules: in the order of their ids."""
        namespace = self._namespaces.get(request.namespace)
        query = self._query(request.query, namespace)
        size = request.maximum_page_size if 0 < request.maximum_page_size <= MAX_PAGE else MAX_PAGE
        try:
            after_id = request.next_page_token.decode()
        except UnicodeDecodeError as error:
            raise InvalidArgumentError("Invalid NextPageToken.") from error
        response = ListSchedulesResponse()
        async for entry in self._matching(namespace, query, after_id):
            if len(response.schedules) == size:
                response.next_page_token = response.schedules[-1].schedule_id.encode()
                break
            if entry.HasField("search_attributes"):
                data = entry.search_attributes.SerializeToString()
                entry.search_attributes.CopyFrom(typed(data, namespace.search_attributes))
            response.schedules.append(entry)
        return response

    async def count_schedules(self, request: CountSchedulesRequest, call: Call) -> CountSchedulesResponse:
        """CountSchedules: all that match; grouped by status they are all running."""
        namespace = self._namespaces.get(request.namespace)
        query = self._query(request.query, namespace)
        response = CountSchedulesResponse()
        async for _ in self._matching(namespace, query, ""):
            response.count += 1
        if query.group_by is not None and response.count:
            value = "Running" if query.group_by == "ExecutionStatus" else _DIVISION
            payload = Payload(metadata={"encoding": b"json/plain"}, data=f'"{value}"'.encode())
            payload.metadata["type"] = b"Keyword"
            response.groups.add(group_values=[payload], count=response.count)
        return response

    def _query(self, text: str, namespace: Namespace) -> Query:
        schema = (namespace.namespace_id, namespace.version)
        return self._queries.parse(schema, text, namespace.search_attributes)

    async def _matching(
        self, namespace: Namespace, query: Query, after_id: str
    ) -> AsyncIterator[ScheduleListEntry]:
        store, custom = self._engine.store, namespace.search_attributes
        while rows := await self._engine.reading(
            store.list_schedules(namespace.namespace_id, after_id, SCAN_PAGE)
        ):
            for schedule_id, data in rows:
                entry = ScheduleListEntry.FromString(data)
                record: dict[str, object] = {
                    **attributes.decode_all(entry.search_attributes, custom),
                    "WorkflowId": schedule_id,
                    "ExecutionStatus": _RUNNING,
                    "TemporalNamespaceDivision": _DIVISION,
                    "TemporalSchedulePaused": entry.info.paused,
                }
                if matches(query.where, record):
                    yield entry
            after_id = rows[-1][0]
            await asyncio.sleep(0)  # others get their turn: small reads do not wait for anything

    # --- checks

    def _checked(self, given: Schedule, namespace: Namespace, schedule_id: str) -> Schedule:
        """The schedule in canonical form. One whose actions could not start is refused: they name the schedule too.

        Raises:
            InvalidArgumentError: it cannot be done as it is.
        """
        schedule = Schedule()
        schedule.CopyFrom(given)
        try:
            schedule.spec.CopyFrom(canonical(given.spec))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"Invalid schedule spec: {error}") from error
        if not schedule.action.HasField("start_workflow"):
            raise InvalidArgumentError("Only StartWorkflow action is supported for schedules")
        template = schedule.action.start_workflow
        if template.cron_schedule:
            raise InvalidArgumentError("Scheduled workflow must not contain CronSchedule")
        if template.workflow_id_reuse_policy not in _REUSE:
            raise InvalidArgumentError("Scheduled workflow must not contain WorkflowIDReusePolicy")
        if len(schedule.state.notes.encode()) > MAX_NOTES_BYTES:
            raise InvalidArgumentError("Schedule notes exceeds limit.")
        where = (namespace.namespace_id, namespace.name, schedule_id)
        probe = ScheduleState(*where, "", "", schedule, ScheduleInfo())
        start = messages.start_request(probe, Start(0, 1_257_894_000 * 1_000_000_000, 0))
        self._schedules.prepare(start, namespace)
        template.task_queue.kind = template.task_queue.kind or _NORMAL_QUEUE
        return schedule

    def _check_properties(
        self, request: CreateScheduleRequest | UpdateScheduleRequest, namespace: Namespace
    ) -> None:
        custom = namespace.search_attributes
        attributes.validate(request.search_attributes, custom, namespace.name, self._limits)
        attributes.mark_types(request.search_attributes, custom)
        attributes.validate_size(request.search_attributes, self._limits)
        checks.memo(request.memo.fields, self._limits)
        size = request.memo.ByteSize() + request.schedule.action.start_workflow.input.ByteSize()
        checks.blob(size, self._limits)


def _check_patch(patch: SchedulePatch) -> None:
    """Checks the lengths of notes, and times: workflows are named after them.

    Raises:
        InvalidArgumentError: the message names the field.
    """
    for note in (patch.pause, patch.unpause):
        if len(note.encode()) > MAX_NOTES_BYTES:
            raise InvalidArgumentError("Schedule notes exceeds limit.")
    checked_timestamp_ns(patch.trigger_immediately.scheduled_time, "trigger_immediately.scheduled_time")
    for backfill in patch.backfill_request:
        checked_timestamp_ns(backfill.start_time, "backfill_request.start_time")
        checked_timestamp_ns(backfill.end_time, "backfill_request.end_time")


def _key(namespace: Namespace, schedule_id: str) -> ScheduleKey:
    return ScheduleKey(namespace.namespace_id, schedule_id)


def _token(state: ScheduleState) -> bytes:
    return state.conflict_token.to_bytes(8, "big")
