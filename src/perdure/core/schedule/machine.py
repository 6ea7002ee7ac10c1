"""What a schedule does: inputs and the time turn a state into the next one; effects follow from the state.

Every function returns a new state and leaves the one it was given as it is. What has to be done to workflows stands in
the state (`starting`, `ending`) until it is known to be done, so it survives whatever happens in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from perdure.api.common.v1 import Memo, Payloads, SearchAttributes
from perdure.api.enums.v1 import WorkflowExecutionStatus
from perdure.api.failure.v1 import Failure
from perdure.api.schedule.v1 import Schedule, SchedulePatch
from perdure.core.errors import FailedPreconditionError
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.protos import duration_ns, set_duration, set_timestamp, timestamp_ns
from perdure.core.schedule.overlap import SKIP, decide
from perdure.core.schedule.spec import Barren
from perdure.core.schedule.state import Backfill, Ending, ScheduleState, Start

DAY_NS = 24 * 3600 * SECOND_NS
DEFAULT_CATCHUP_NS = 365 * DAY_NS
LEAST_CATCHUP_NS = 10 * SECOND_NS
RETENTION_NS = 7 * DAY_NS
"""How long a schedule that has nothing left to do is kept."""
MAX_BUFFER = 1000
RECENT_ACTIONS = 10
BACKFILL_STEP = 10
"""Actions of backfills taken at a time..."""
BACKFILL_PAUSE_NS = SECOND_NS
"""...and the time between two of those."""
MAX_LATE_ACTIONS = 2_000
"""Actions of the past looked at before the state is written and others get their turn."""
REQUESTS_REMEMBERED = 20
"""Requests of a schedule that are recognised when they come again."""
_RUNNING = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_RUNNING")
_FAILED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_FAILED")
_TIMED_OUT = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_TIMED_OUT")


@dataclass(frozen=True, slots=True)
class Closed:
    """A workflow that the schedule started is not running any more.

    Attributes:
        workflow_id: its id.
        status: temporal.api.enums.v1.WorkflowExecutionStatus number.
        result, failure: what it left, if anything.
    """

    workflow_id: str
    status: int
    result: Payloads | None = None
    failure: Failure | None = None


# --- what users do


def filled(schedule: Schedule) -> Schedule:
    """A schedule with its policies' defaults, as descriptions show them."""
    result = Schedule()
    result.CopyFrom(schedule)
    for name in ("spec", "action", "policies", "state"):
        getattr(result, name).SetInParent()
    policies = result.policies
    policies.overlap_policy = policies.overlap_policy or SKIP
    window_ns = max(duration_ns(policies.catchup_window), LEAST_CATCHUP_NS)
    set_duration(
        policies.catchup_window, window_ns if policies.HasField("catchup_window") else DEFAULT_CATCHUP_NS
    )
    return result


def created(state: ScheduleState, patch: SchedulePatch | None, now_ns: int) -> ScheduleState:
    """A schedule that begins now; what its creator wants at once is begun."""
    state = state.copy()
    state.set_schedule(filled(state.schedule))
    state.processed_ns = now_ns
    set_timestamp(state.own_info().create_time, now_ns)
    if patch is not None:
        _patch(state, patch, now_ns)
    return state


def updated(
    state: ScheduleState,
    schedule: Schedule,
    attributes: SearchAttributes | None,
    memo: Memo | None,
    token: int,
    request_id: str,
    now_ns: int,
) -> ScheduleState:
    """Replaces what users set.

    Args:
        state: the schedule's.
        schedule: the new one, in canonical form.
        attributes, memo: replace those there; None leaves them.
        token: what the schedule must not have changed since; 0 for whatever it is.
        request_id: of the request, or empty; one that was here before changes nothing.
        now_ns: the time.

    Raises:
        FailedPreconditionError: it has changed.
    """
    if request_id in state.request_ids:
        return state
    if token and token != state.conflict_token:
        raise FailedPreconditionError("mismatched conflict token")
    state = state.copy()
    _remember(state, request_id)
    _take_due(state, now_ns)
    state.set_schedule(filled(schedule))
    if attributes is not None:
        state.search_attributes = attributes
    if memo is not None:
        state.memo = memo
    set_timestamp(state.own_info().update_time, now_ns)
    state.conflict_token += 1
    return state


def patched(state: ScheduleState, patch: SchedulePatch, request_id: str, now_ns: int) -> ScheduleState:
    """Triggers, backfills, pauses or unpauses; once per request id, if there is one."""
    if request_id in state.request_ids:
        return state
    state = state.copy()
    _remember(state, request_id)
    _take_due(state, now_ns)
    _patch(state, patch, now_ns)
    return state


def _remember(state: ScheduleState, request_id: str) -> None:
    if request_id:
        state.request_ids = [*state.request_ids, request_id][-REQUESTS_REMEMBERED:]


def _patch(state: ScheduleState, patch: SchedulePatch, now_ns: int) -> None:
    if patch.HasField("trigger_immediately"):
        trigger = patch.trigger_immediately
        time_ns = timestamp_ns(trigger.scheduled_time) or now_ns
        _add(state, time_ns, time_ns, trigger.overlap_policy, is_manual=True)
    for request in patch.backfill_request:
        if len(state.backfills) >= MAX_BUFFER:
            state.own_info().buffer_dropped += 1
            continue
        after_ns = timestamp_ns(request.start_time) - 1_000_000  # the start belongs to the range
        state.backfills.append(Backfill(after_ns, timestamp_ns(request.end_time), request.overlap_policy))
    for note, paused in ((patch.pause, True), (patch.unpause, False)):
        if note:
            what = state.own_schedule().state
            what.paused, what.notes = paused, note
            state.conflict_token += 1


# --- what time does


def advanced(state: ScheduleState, now_ns: int) -> ScheduleState:
    """Takes the actions that are due, as far as policies allow now. The same state if nothing changes."""
    if not may_change(state, now_ns):
        return state
    before, state = state, state.copy()
    if may_act(state):
        _take_due(state, now_ns)
    _take_backfills(state, now_ns)
    while _begin(state):
        pass
    return before if state.processed_ns == before.processed_ns and state == before else state


def may_change(state: ScheduleState, now_ns: int) -> bool:
    """Whether `advanced` has to look; if not, it changes nothing."""
    if state.buffer or state.backfills:
        return True
    if not may_act(state):
        return False
    found = state.spec.next(state.processed_ns)
    if found is None:
        return False
    return (found.until_ns if isinstance(found, Barren) else found.time_ns) <= now_ns


def next_ns(state: ScheduleState, now_ns: int) -> int | None:
    """When `advanced` will have something to do, if nothing else happens; None for never."""
    times = []
    if state.starting or not all(ending.done for ending in state.ending):
        times.append(now_ns)
    if state.backfills and len(state.buffer) < MAX_BUFFER // 2:
        times.append(_backfill_ns(state, now_ns))
    if may_act(state):
        found = state.spec.next(state.processed_ns)
        if found is not None:
            times.append(found.until_ns if isinstance(found, Barren) else found.time_ns)
    return min(times, default=None)


def expires_ns(state: ScheduleState, next_action_ns: int | None) -> int | None:
    """When a schedule that has nothing left to do is to be deleted; None while it has, or is paused."""
    is_busy = state.buffer or state.backfills or state.starting or state.info.running_workflows
    if is_busy or state.schedule.state.paused or next_action_ns is not None:
        return None
    times = [timestamp_ns(state.info.create_time), timestamp_ns(state.info.update_time)]
    times += [timestamp_ns(action.actual_time) for action in state.info.recent_actions]
    return max(times) + RETENTION_NS


def may_act(state: ScheduleState) -> bool:
    """Whether the schedule takes its actions: it is not paused and has some left."""
    what = state.schedule.state
    return not what.paused and (not what.limited_actions or what.remaining_actions > 0)


def is_far_behind(state: ScheduleState, now_ns: int) -> bool:
    """Whether more is due than one step takes in. It is to be worked off before anything is changed: a change would
    pass over the rest, as it does over what was due before the schedule was as it is."""
    if not may_act(state):
        return False
    for found in state.spec.walk(state.processed_ns, MAX_LATE_ACTIONS):
        if isinstance(found, Barren):
            return found.until_ns <= now_ns
        if found.time_ns > now_ns:
            return False
    return False


def _take_due(state: ScheduleState, now_ns: int) -> None:
    """Puts the actions that are due into the buffer; passes over those of a time in which it may not act."""
    if not may_act(state):
        state.processed_ns = max(state.processed_ns, now_ns)
        return
    window_ns = duration_ns(state.schedule.policies.catchup_window)
    update_ns = timestamp_ns(state.info.update_time)
    missed = 0
    for found in state.spec.walk(state.processed_ns, MAX_LATE_ACTIONS):
        if isinstance(found, Barren):
            state.processed_ns = max(state.processed_ns, min(found.until_ns, now_ns))
            break
        if found.time_ns > now_ns:
            break
        state.processed_ns = found.time_ns
        if found.time_ns < update_ns:
            continue
        if now_ns - found.time_ns > window_ns:
            missed += 1
            continue
        _add(state, found.nominal_ns, found.time_ns)
    if missed:
        state.own_info().missed_catchup_window += missed


def _backfill_ns(state: ScheduleState, now_ns: int) -> int:
    """When the next actions of backfills are taken; not later than a pause from now if the clock was set back."""
    return min(state.backfilled_ns, now_ns) + BACKFILL_PAUSE_NS


def _take_backfills(state: ScheduleState, now_ns: int) -> None:
    if not state.backfills or _backfill_ns(state, now_ns) > now_ns:
        return
    state.backfilled_ns = now_ns
    left = BACKFILL_STEP
    while state.backfills and left > 0 and len(state.buffer) < MAX_BUFFER // 2:
        backfill, *others = state.backfills
        after_ns, is_over = backfill.after_ns, True
        for found in state.spec.walk(after_ns):
            if isinstance(found, Barren):
                after_ns, is_over, left = found.until_ns, found.until_ns >= backfill.end_ns, 0
                break
            if found.time_ns > backfill.end_ns:
                break
            if left == 0:
                is_over = False
                break
            _add(state, found.nominal_ns, found.time_ns, backfill.overlap, is_manual=True)
            after_ns = found.time_ns
            left -= 1
        rest = [] if is_over else [Backfill(after_ns, backfill.end_ns, backfill.overlap)]
        state.backfills = rest + others


def _add(
    state: ScheduleState, nominal_ns: int, time_ns: int, overlap: int = 0, *, is_manual: bool = False
) -> None:
    if len(state.buffer) >= MAX_BUFFER:
        state.own_info().buffer_dropped += 1
        return
    state.buffer.append(Start(state.next_sequence, nominal_ns, time_ns, overlap, is_manual))
    state.next_sequence += 1


def _begin(state: ScheduleState) -> bool:
    """Lets starts of the buffer begin. Returns whether there may be more to do at once."""
    if not state.schedule.action.HasField("start_workflow"):
        state.buffer = []
    if not state.buffer:
        return False
    is_running = bool(state.info.running_workflows) or any(not start.overlaps for start in state.starting)
    decision = decide(state.buffer, state.schedule.policies.overlap_policy, is_running)
    state.buffer = decision.waiting
    if decision.skipped:
        state.own_info().overlap_skipped += decision.skipped
    again = False
    chosen = [(start, True) for start in decision.beside]
    chosen += [(decision.alone, False)] if decision.alone is not None else []
    for start, overlaps in chosen:
        if start.is_manual or _use_up(state):
            state.starting.append(replace(start, overlaps=True) if overlaps else start)
        else:
            again = bool(state.buffer)
    if decision.cancel or decision.terminate:
        _end_running(state, terminate=decision.terminate)
    return again


def _use_up(state: ScheduleState) -> bool:
    """Whether the schedule may act; if so, that is one action less."""
    if not may_act(state):
        return False
    if state.schedule.state.limited_actions:
        state.own_schedule().state.remaining_actions -= 1
        state.conflict_token += 1
    return True


def _end_running(state: ScheduleState, *, terminate: bool) -> None:
    known = {
        (ending.run_id, ending.terminate) for ending in state.ending
    }  # done ones stay until the run closes
    for running in state.info.running_workflows:
        if (running.run_id, terminate) not in known:
            state.ending.append(Ending(running.workflow_id, running.run_id, terminate))


# --- what becomes of workflows


def started(
    state: ScheduleState, start: Start, workflow_id: str, run_id: str, actual_ns: int
) -> ScheduleState:
    """A workflow was started."""
    state = not_started(state, start)
    info = state.own_info()
    info.action_count += 1
    action = info.recent_actions.add(start_workflow_status=_RUNNING)
    set_timestamp(action.schedule_time, start.time_ns)
    set_timestamp(action.actual_time, actual_ns)
    action.start_workflow_result.workflow_id = workflow_id
    action.start_workflow_result.run_id = run_id
    del info.recent_actions[:-RECENT_ACTIONS]
    if not start.overlaps:
        info.running_workflows.add(workflow_id=workflow_id, run_id=run_id)
    return state


def not_started(state: ScheduleState, start: Start) -> ScheduleState:
    """A workflow cannot be started, now or ever: its action is lost."""
    state = state.copy()
    state.starting = [other for other in state.starting if other.sequence != start.sequence]
    return state


def ended(state: ScheduleState, ending: Ending) -> ScheduleState:
    """A workflow was asked to end or was terminated, or is gone. It is not asked again while it goes on."""
    state = state.copy()
    state.ending = [replace(other, done=True) if other == ending else other for other in state.ending]
    return state


def closed(state: ScheduleState, news: Closed) -> ScheduleState:
    """A workflow that was started closed."""
    state = state.copy()
    info = state.own_info()
    for number, running in enumerate(info.running_workflows):
        if running.workflow_id == news.workflow_id:
            state.ending = [ending for ending in state.ending if ending.run_id != running.run_id]
            del info.running_workflows[number]
            break
    for action in info.recent_actions:
        if action.start_workflow_result.workflow_id == news.workflow_id:
            action.start_workflow_status = news.status  # type: ignore[assignment]  # a number
            break
    if news.status in (_FAILED, _TIMED_OUT):
        _pause_on_failure(state, news)
    if news.result is not None:
        state.last_result, state.last_failure = news.result, None
    elif news.failure is not None:
        state.last_failure = news.failure
    return state


def _pause_on_failure(state: ScheduleState, news: Closed) -> None:
    if not state.schedule.policies.pause_on_failure or state.schedule.state.paused:
        return
    what = state.own_schedule().state
    what.paused = True
    what.notes = f"paused due to workflow timeout: {news.workflow_id}"
    if news.status == _FAILED:
        message = news.failure.message if news.failure is not None else ""
        what.notes = f"paused due to workflow failure: {news.workflow_id}: {message}"
    state.conflict_token += 1
