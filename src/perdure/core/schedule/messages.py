"""A schedule in messages: the requests that start its workflows, its description, its entry in lists."""

from __future__ import annotations

import datetime
import json
from functools import lru_cache
from itertools import islice

from perdure.api.common.v1 import Payload
from perdure.api.enums.v1 import WorkflowIdReusePolicy
from perdure.api.protobuf import Timestamp
from perdure.api.schedule.v1 import Schedule, ScheduleInfo, ScheduleListEntry
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.run.ids import derived_id
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.protos import set_timestamp, timestamp_ns
from perdure.core.schedule.machine import may_act
from perdure.core.schedule.spec import Action, shown
from perdure.core.schedule.state import ALLOW_ALL, ScheduleState, Start

FUTURE_ACTIONS = 10
LISTED_ACTIONS = 5
LISTED_SPECS = 10
START_TIME_ATTRIBUTE = "TemporalScheduledStartTime"
SCHEDULE_ATTRIBUTE = "TemporalScheduledById"
_TAKEN_OVER = {
    "workflow_type",
    "task_queue",
    "input",
    "workflow_execution_timeout",
    "workflow_run_timeout",
    "workflow_task_timeout",
    "retry_policy",
    "memo",
    "search_attributes",
    "header",
    "user_metadata",
    "versioning_override",
    "priority",
}
_ONCE = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE")
_AGAIN = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE")


def identity(state: ScheduleState) -> str:
    """Who the schedule is to the workflows it starts and ends."""
    return f"temporal-scheduler-{state.namespace}-{state.schedule_id}"


def time_suffix(nominal_ns: int) -> str:
    """What is appended to the id of a workflow: a time to the second, RFC 3339."""
    return _second(nominal_ns // SECOND_NS)


@lru_cache(maxsize=100)  # many schedules are due at one second
def _second(time_s: int) -> str:
    return f"{datetime.datetime.fromtimestamp(time_s, datetime.UTC):%Y-%m-%dT%H:%M:%S}Z"


def start_request(state: ScheduleState, start: Start) -> StartWorkflowExecutionRequest:
    """The request that takes an action. The same start makes the same request id, so it takes it once."""
    request = StartWorkflowExecutionRequest(namespace=state.namespace, identity=identity(state))
    for descriptor, value in state.schedule.action.start_workflow.ListFields():
        if descriptor.name in _TAKEN_OVER:
            getattr(request, descriptor.name).CopyFrom(value)
    fields = request.search_attributes.indexed_fields
    for name in (START_TIME_ATTRIBUTE, SCHEDULE_ATTRIBUTE):
        fields[name].CopyFrom(Payload(metadata={"encoding": b"json/plain"}))
    fields[SCHEDULE_ATTRIBUTE].data = json.dumps(state.schedule_id, ensure_ascii=False).encode()
    _name_action(request, state, start)
    return request


def shared_part(request: StartWorkflowExecutionRequest) -> bytes:
    """What the requests of all of a schedule's actions have in common, from one of them, for `renewed_request`."""
    shared = StartWorkflowExecutionRequest()
    shared.CopyFrom(request)
    for name in ("last_completion_result", "continued_failure"):
        shared.ClearField(name)
    return shared.SerializeToString()


def renewed_request(shared: bytes, state: ScheduleState, start: Start) -> StartWorkflowExecutionRequest:
    """The request that takes an action, from what it shares with one when the conflict token was the same."""
    request = StartWorkflowExecutionRequest.FromString(shared)
    _name_action(request, state, start)
    return request


def _name_action(request: StartWorkflowExecutionRequest, state: ScheduleState, start: Start) -> None:
    """Fills in all that tells the request of one action from that of another."""
    time = time_suffix(start.nominal_ns)
    request.workflow_id = f"{state.schedule.action.start_workflow.workflow_id}-{time}"
    request.request_id = derived_id(state.incarnation, state.schedule_id, start.nominal_ns, start.sequence)
    request.workflow_id_reuse_policy = _AGAIN if start.is_manual else _ONCE
    request.search_attributes.indexed_fields[START_TIME_ATTRIBUTE].data = b'"%b"' % time.encode()
    if start.overlap != ALLOW_ALL:
        if state.last_result is not None:
            request.last_completion_result.CopyFrom(state.last_result)
        if state.last_failure is not None:
            request.continued_failure.CopyFrom(state.last_failure)


def future_actions(state: ScheduleState, most: int, now_ns: int) -> list[Timestamp]:
    """The times of the next actions, at most `most`, and not more than are left."""
    what = state.schedule.state
    after_ns = state.processed_ns if may_act(state) else max(state.processed_ns, now_ns)
    if what.limited_actions:
        most = min(most, max(what.remaining_actions, 0))
    update_ns = timestamp_ns(state.info.update_time)
    times = (found.time_ns for found in state.spec.walk(after_ns) if isinstance(found, Action))
    found = []
    for time_ns in islice((time_ns for time_ns in times if time_ns >= update_ns), most):
        found.append(Timestamp())
        set_timestamp(found[-1], time_ns)
    return found


def description(state: ScheduleState, now_ns: int) -> tuple[Schedule, ScheduleInfo]:
    """The schedule and its info as a description shows them."""
    schedule, info = Schedule(), ScheduleInfo()
    schedule.CopyFrom(state.schedule)
    info.CopyFrom(state.info)
    shown(schedule.spec)
    info.future_action_times.extend(future_actions(state, FUTURE_ACTIONS, now_ns))
    info.buffer_size = len(state.buffer)
    return schedule, info


def list_entry(state: ScheduleState, now_ns: int) -> ScheduleListEntry:
    """The schedule as lists show it."""
    entry = ScheduleListEntry(schedule_id=state.schedule_id)
    if state.memo.fields:
        entry.memo.CopyFrom(state.memo)
    if state.search_attributes.indexed_fields:
        entry.search_attributes.CopyFrom(state.search_attributes)
    info, spec = entry.info, entry.info.spec
    spec.CopyFrom(state.schedule.spec)
    spec.ClearField("timezone_data")
    for items in (spec.structured_calendar, spec.exclude_structured_calendar, spec.interval):
        del items[LISTED_SPECS:]
    shown(spec)
    info.workflow_type.CopyFrom(state.schedule.action.start_workflow.workflow_type)
    info.notes, info.paused = state.schedule.state.notes, state.schedule.state.paused
    info.recent_actions.extend(state.info.recent_actions[-LISTED_ACTIONS:])
    info.future_action_times.extend(future_actions(state, LISTED_ACTIONS, now_ns))
    return entry


def renewed_entry(entry: bytes, state: ScheduleState, now_ns: int) -> ScheduleListEntry:
    """The schedule as lists show it, from how they showed it when its conflict token was the same."""
    renewed = ScheduleListEntry.FromString(entry)
    info = renewed.info
    del info.recent_actions[:]
    info.recent_actions.extend(state.info.recent_actions[-LISTED_ACTIONS:])
    times = info.future_action_times
    over = 0
    for time in times:
        if timestamp_ns(time) > state.processed_ns:
            break
        over += 1
    is_steady = may_act(state) and not state.schedule.state.limited_actions
    if not is_steady or over == len(times) or len(times) < LISTED_ACTIONS:
        del times[:]
        times.extend(future_actions(state, LISTED_ACTIONS, now_ns))
        return renewed
    del times[:over]  # the rest is as it was, and only what comes after it is new
    for found in islice(state.spec.walk(timestamp_ns(times[-1])), over):
        if isinstance(found, Action):
            set_timestamp(times.add(), found.time_ns)
    return renewed
