"""What schedules do: due actions, overlap, catch-up, pauses, limits, triggers, backfills, what becomes of workflows."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from perdure.api.common.v1 import Payloads
from perdure.api.enums.v1 import ScheduleOverlapPolicy, WorkflowExecutionStatus
from perdure.api.failure.v1 import Failure
from perdure.api.schedule.v1 import CalendarSpec, Schedule, ScheduleInfo, SchedulePatch
from perdure.core.errors import FailedPreconditionError
from perdure.core.run.limits import SECOND_NS
from perdure.core.schedule import machine, messages, ranges
from perdure.core.schedule.overlap import decide
from perdure.core.schedule.spec import MAX_TRIES, canonical
from perdure.core.schedule.state import Ending, ScheduleState, Start, decode

T0 = 1_700_000_000 * SECOND_NS  # a multiple of ten seconds
STEP = 10 * SECOND_NS
COMPLETED, FAILED = (
    WorkflowExecutionStatus.Value(f"WORKFLOW_EXECUTION_STATUS_{name}") for name in ("COMPLETED", "FAILED")
)


def ns_of(text: str) -> int:
    """A time in UTC, in nanoseconds since the epoch."""
    return int(datetime.datetime.fromisoformat(text + "+00:00").timestamp()) * SECOND_NS


def policy(name: str) -> ScheduleOverlapPolicy.ValueType:
    """An overlap policy by the end of its name."""
    return ScheduleOverlapPolicy.Value(f"SCHEDULE_OVERLAP_POLICY_{name}")


def new(overlap: str = "SKIP", patch: SchedulePatch | None = None, **settings: object) -> ScheduleState:
    """A schedule that acts each ten seconds, created at T0."""
    schedule = Schedule()
    schedule.spec.cron_string.append("@every 10s")
    schedule.spec.CopyFrom(canonical(schedule.spec))
    schedule.action.start_workflow.workflow_id = "w"
    schedule.policies.overlap_policy = policy(overlap)
    for name, value in settings.items():
        part = schedule.policies if hasattr(schedule.policies, name) else schedule.state
        setattr(part, name, value)
    state = ScheduleState("ns-id", "ns", "s", "incarnation", "request", schedule, ScheduleInfo())
    return machine.created(state, patch, T0)


def run_started(state: ScheduleState) -> ScheduleState:
    """Everything that is to be started is."""
    for start in state.starting:
        workflow_id = messages.start_request(state, start).workflow_id
        state = machine.started(state, start, workflow_id, f"run-{start.sequence}", T0)
    return state


def at(state: ScheduleState, steps: float) -> ScheduleState:
    """Advanced to some steps after its creation; what starts is started."""
    return run_started(machine.advanced(state, T0 + int(steps * STEP)))


def close_first(state: ScheduleState, status: int = COMPLETED, **left: object) -> ScheduleState:
    """The oldest running workflow closed."""
    workflow_id = state.info.running_workflows[0].workflow_id
    return machine.closed(state, machine.Closed(workflow_id, status, **left))  # type: ignore[arg-type]


def running(state: ScheduleState) -> list[str]:
    """The runs that are running."""
    return [workflow.run_id for workflow in state.info.running_workflows]


def test_nothing_is_due_before_its_time_and_each_action_once() -> None:
    state = new()
    assert machine.next_ns(state, T0) == T0 + STEP
    assert not machine.advanced(state, T0 + STEP - 1).starting
    due = machine.advanced(state, T0 + STEP)
    assert [start.nominal_ns for start in due.starting] == [T0 + STEP]
    assert not state.starting, "the state given is left as it was"
    assert machine.next_ns(due, T0 + STEP) == T0 + STEP, "what is to be started is to be done now"
    started = run_started(due)
    assert started.info.action_count == 1
    assert not machine.advanced(started, T0 + STEP).starting
    assert machine.next_ns(started, T0 + STEP) == T0 + 2 * STEP


def test_a_state_survives_its_encoding() -> None:
    state = close_first(at(at(new("BUFFER_ALL"), 1), 3), FAILED, failure=Failure(message="no"))
    state = machine.patched(state, SchedulePatch(pause="why"), "", T0 + 4 * STEP)
    assert state.buffer
    assert state.last_failure
    assert decode("ns-id", "s", state.encode()) == state


@pytest.mark.parametrize(
    ("overlap", "waiting", "skipped", "ending"),
    [
        ("SKIP", 0, 3, []),
        ("BUFFER_ONE", 1, 2, []),
        ("BUFFER_ALL", 3, 0, []),
        ("CANCEL_OTHER", 3, 0, [False]),
        ("TERMINATE_OTHER", 3, 0, [True]),
        ("ALLOW_ALL", 0, 0, []),
    ],
)
def test_overlap_while_a_workflow_runs(overlap: str, waiting: int, skipped: int, ending: list[bool]) -> None:
    state = at(new(overlap), 1)
    for step in (2, 3, 4):
        state = at(state, step)
    assert (len(state.buffer), state.info.overlap_skipped) == (waiting, skipped)
    assert [end.terminate for end in state.ending] == ending
    assert state.info.action_count == (4 if overlap == "ALLOW_ALL" else 1)
    if overlap == "ALLOW_ALL":
        assert not running(state), "nothing waits for runs beside others"
    else:
        assert running(state) == ["run-1"]


@pytest.mark.parametrize(
    ("overlap", "sequence", "left"), [("BUFFER_ONE", 2, 0), ("BUFFER_ALL", 2, 1), ("CANCEL_OTHER", 3, 0)]
)
def test_what_waited_starts_when_the_running_workflow_closes(overlap: str, sequence: int, left: int) -> None:
    state = at(at(new(overlap), 1), 3)
    state = run_started(machine.advanced(close_first(state), T0 + 3 * STEP))
    assert running(state) == [f"run-{sequence}"]
    assert len(state.buffer) == left
    assert not state.ending
    statuses = [action.start_workflow_status for action in state.info.recent_actions]
    assert statuses == [COMPLETED, 1]


def test_of_waiting_starts_the_last_that_ends_others_begins_when_nothing_runs() -> None:
    starts = [Start(number, 0, 0, policy("TERMINATE_OTHER")) for number in (1, 2, 3)]
    assert decide(starts, 0, is_running=False).alone == starts[2]
    both = decide([Start(1, 0, 0, policy("ALLOW_ALL")), starts[0]], 0, is_running=True)
    assert both.terminate
    assert not both.beside, "it would be ended at once"


def test_an_ending_stays_until_it_is_done() -> None:
    state = at(at(new("TERMINATE_OTHER"), 1), 2)
    ending = Ending("w-2023-11-14T22:13:30Z", "run-1", True)
    assert state.ending == [ending]
    assert machine.next_ns(state, T0) == T0
    state = machine.ended(state, ending)
    assert machine.next_ns(state, T0 + 2 * STEP) == T0 + 3 * STEP, "it is not asked again"
    state = machine.advanced(state, T0 + 3 * STEP)
    assert [other.done for other in state.ending] == [True]
    assert not close_first(state).ending


def test_late_actions_are_taken_within_the_catch_up_window() -> None:
    state = new("BUFFER_ALL")
    state.schedule.policies.catchup_window.seconds = 25
    state = at(state, 10)
    assert state.info.missed_catchup_window == 7
    assert state.info.action_count + len(state.buffer) == 3
    short = Schedule()
    short.policies.catchup_window.seconds = 1
    assert machine.filled(short).policies.catchup_window.seconds == 10
    assert machine.filled(Schedule()).policies.catchup_window.seconds == 365 * 86_400


def test_a_long_time_is_caught_up_in_bounded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_LATE_ACTIONS", 4)
    state = machine.advanced(new("ALLOW_ALL"), T0 + 10 * STEP)
    assert len(state.starting) == 4
    assert state.processed_ns == T0 + 4 * STEP
    assert len(machine.advanced(machine.advanced(state, T0 + 10 * STEP), T0 + 10 * STEP).starting) == 10


def test_the_buffer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_BUFFER", 5)
    state = at(at(new("BUFFER_ALL"), 1), 9)
    assert (len(state.buffer), state.info.buffer_dropped) == (5, 3)


def test_the_time_of_a_pause_is_passed_over() -> None:
    state = machine.patched(new(), SchedulePatch(pause="lunch"), "", T0)
    assert (state.schedule.state.paused, state.schedule.state.notes, state.conflict_token) == (
        True,
        "lunch",
        2,
    )
    assert machine.next_ns(state, T0) is None
    assert machine.expires_ns(state, None) is None
    state = machine.patched(at(state, 5), SchedulePatch(unpause="back"), "", T0 + 6 * STEP)
    assert not machine.advanced(state, T0 + 6 * STEP).starting
    assert machine.next_ns(state, T0 + 6 * STEP) == T0 + 7 * STEP
    assert at(state, 7).info.action_count == 1
    assert state.info.missed_catchup_window == 0


def test_limited_actions_run_out_and_manual_ones_do_not_count() -> None:
    state = new("ALLOW_ALL", limited_actions=True, remaining_actions=2)
    assert len(messages.future_actions(state, 10, T0)) == 2
    state = at(state, 5)
    assert (state.info.action_count, state.schedule.state.remaining_actions) == (2, 0)
    assert machine.next_ns(state, T0 + 5 * STEP) is None
    patch = SchedulePatch()
    patch.trigger_immediately.SetInParent()
    state = at(machine.patched(state, patch, "", T0 + 6 * STEP), 6)
    assert state.info.action_count == 3
    assert machine.expires_ns(state, None) == T0 + machine.RETENTION_NS


def test_a_failure_pauses_if_it_is_to_and_the_next_run_is_told() -> None:
    state = close_first(at(new(), 1), COMPLETED, result=Payloads())
    assert state.last_result is not None
    state = close_first(at(state, 2), FAILED, failure=Failure(message="broken"))
    assert not state.schedule.state.paused
    request = messages.start_request(state, Start(9, T0, T0))
    assert request.HasField("last_completion_result")
    assert request.continued_failure.message == "broken"
    beside = messages.start_request(state, Start(9, T0, T0, policy("ALLOW_ALL")))
    assert not beside.HasField("continued_failure")
    state = close_first(at(new(pause_on_failure=True), 1), FAILED, failure=Failure(message="broken"))
    assert state.schedule.state.paused
    assert state.conflict_token == 2
    assert state.schedule.state.notes == "paused due to workflow failure: w-2023-11-14T22:13:30Z: broken"


def test_a_trigger_starts_at_once_under_its_own_policy() -> None:
    patch = SchedulePatch()
    patch.trigger_immediately.overlap_policy = policy("ALLOW_ALL")
    state = at(new(patch=patch), 0)
    assert state.info.action_count == 1
    assert not running(state)


def test_a_backfill_takes_every_action_of_its_range_both_ends_included_step_by_step() -> None:
    patch = SchedulePatch()
    request = patch.backfill_request.add(overlap_policy=policy("ALLOW_ALL"))
    request.start_time.seconds = T0 // SECOND_NS - 1000
    request.end_time.seconds = T0 // SECOND_NS - 760
    state = machine.patched(new(), patch, "", T0)
    times: list[int] = []
    for now_ns in range(T0, T0 + 5 * machine.BACKFILL_PAUSE_NS, machine.BACKFILL_PAUSE_NS // 2):
        state = machine.advanced(state, now_ns)
        taken = [start.nominal_ns for start in state.starting]
        times += taken
        state = run_started(state)
        if state.backfills:
            assert len(taken) == (machine.BACKFILL_STEP if now_ns == state.backfilled_ns else 0)
            assert machine.next_ns(state, now_ns) == state.backfilled_ns + machine.BACKFILL_PAUSE_NS
    assert times == [T0 - 1000 * SECOND_NS + number * STEP for number in range(25)]
    assert not state.backfills
    assert state.info.action_count == 25


def test_an_update_needs_the_token_it_saw_and_takes_no_action_of_before() -> None:
    state = machine.patched(new(), SchedulePatch(pause="x"), "", T0)
    with pytest.raises(FailedPreconditionError, match="mismatched conflict token"):
        machine.updated(state, state.schedule, None, None, 1, "", T0)
    schedule = new("BUFFER_ALL").schedule
    schedule.spec.interval[0].interval.seconds = 1
    state = machine.updated(state, schedule, None, None, 2, "", T0 + 5 * STEP)
    assert (state.conflict_token, state.info.update_time.seconds) == (3, T0 // SECOND_NS + 50)
    state = machine.advanced(state, T0 + 5 * STEP + 2 * SECOND_NS)
    assert [start.nominal_ns - T0 - 5 * STEP for start in state.starting + state.buffer] == [
        SECOND_NS,
        2 * SECOND_NS,
    ]


def test_a_start_that_fails_for_good_is_forgotten_and_what_waits_goes_on() -> None:
    state = machine.advanced(at(new("BUFFER_ALL"), 0), T0 + 2 * STEP)
    assert len(state.starting) == len(state.buffer) == 1
    state = machine.advanced(machine.not_started(state, state.starting[0]), T0 + 2 * STEP)
    assert [start.sequence for start in state.starting] == [2]
    assert state.info.action_count == 0


def test_requests_name_their_time_and_their_schedule_and_are_the_same_each_time() -> None:
    state = machine.advanced(new(), T0 + STEP)
    request = messages.start_request(state, state.starting[0])
    assert request == messages.start_request(state, state.starting[0])
    assert request.workflow_id == "w-2023-11-14T22:13:30Z"
    fields = request.search_attributes.indexed_fields
    assert fields["TemporalScheduledStartTime"].data == b'"2023-11-14T22:13:30Z"'
    assert fields["TemporalScheduledById"].data == b'"s"'
    other = messages.start_request(state, Start(2, T0 + STEP, T0 + STEP))
    assert other.request_id != request.request_id


def test_only_ten_actions_are_remembered_and_lists_show_five() -> None:
    state = at(new("ALLOW_ALL"), 25)
    _, info = messages.description(state, T0 + 25 * STEP)
    assert (info.action_count, len(info.recent_actions), len(info.future_action_times)) == (25, 10, 10)
    entry = messages.list_entry(state, T0 + 25 * STEP)
    assert (len(entry.info.recent_actions), len(entry.info.future_action_times)) == (5, 5)
    assert info.future_action_times[0].seconds == (T0 + 26 * STEP) // SECOND_NS


def test_a_request_that_comes_again_changes_nothing() -> None:
    patch = SchedulePatch()
    patch.trigger_immediately.overlap_policy = policy("ALLOW_ALL")
    state = at(machine.patched(new(), patch, "p", T0), 0)
    assert machine.patched(state, patch, "p", T0 + SECOND_NS) is state
    assert at(machine.patched(state, patch, "", T0), 0).info.action_count == 2
    assert at(machine.patched(state, patch, "", T0), 0).request_ids == ["p"]
    schedule = new("BUFFER_ALL").schedule
    state = machine.updated(state, schedule, None, None, state.conflict_token, "u", T0)
    assert machine.updated(state, schedule, None, None, 1, "u", T0) is state
    for number in range(machine.REQUESTS_REMEMBERED):
        state = machine.patched(state, SchedulePatch(pause="x"), f"r{number}", T0)
    assert len(state.request_ids) == machine.REQUESTS_REMEMBERED
    assert machine.patched(state, patch, "p", T0) is not state


def test_states_of_before_are_read() -> None:
    """What was added later may be missing."""
    stored = msgspec.json.decode(at(at(new("CANCEL_OTHER"), 1), 2).encode())
    assert not {"request_ids", "backfilled_ns"} & stored.keys()
    del stored["ending"][0]["done"]
    state = decode("ns-id", "s", msgspec.json.encode(stored))
    assert (state.request_ids, state.backfilled_ns, state.ending[0].done) == ([], 0, False)


def test_the_pace_of_backfills_survives_a_clock_that_is_set_back() -> None:
    patch = SchedulePatch()
    request = patch.backfill_request.add(overlap_policy=policy("ALLOW_ALL"))
    request.start_time.seconds, request.end_time.seconds = 0, 1000
    state = machine.advanced(machine.patched(new(), patch, "", T0), T0)
    early_ns = T0 - 3600 * SECOND_NS
    due_ns = machine.next_ns(run_started(state), early_ns)
    assert due_ns == early_ns + machine.BACKFILL_PAUSE_NS


def test_a_schedule_whose_times_are_nearly_all_excluded_acts_on_the_others() -> None:
    """The search has a limit; where it ended, it goes on in time, and the schedule does not count as over."""
    state = new()
    spec = state.schedule.spec
    spec.exclude_structured_calendar.append(
        ranges.structured(CalendarSpec(second="*/2", minute="*", hour="*"))
    )
    spec.exclude_structured_calendar[0].day_of_month[0].start = 15  # it is the 14th
    spec.exclude_structured_calendar[0].day_of_month[0].end = 20
    state = at(state, 0)
    acted: list[int] = []
    now_ns, looks = T0, 0
    while len(acted) < 1000:
        due_ns = machine.next_ns(state, now_ns)
        assert due_ns is not None
        assert due_ns > now_ns
        assert machine.expires_ns(state, due_ns) is None
        now_ns, looks = due_ns, looks + 1
        state = machine.advanced(state, now_ns)
        acted += [start.nominal_ns for start in state.starting]
        state = run_started(state)
        if running(state):
            state = close_first(state)
    midnight_ns = ns_of("2023-11-15T00:00:00")
    after_ns = ns_of("2023-11-21T00:00:00")
    late = [time_ns for time_ns in acted if time_ns >= midnight_ns]
    assert late[0] == after_ns, "none of six days, then the first one"
    assert looks < len(acted) + 6 * 8640 / MAX_TRIES + 3


@pytest.mark.parametrize("end_step", [None, 8])
@pytest.mark.parametrize("jitter_s", [0, 7])
def test_an_entry_that_is_renewed_is_the_one_made_anew(jitter_s: int, end_step: int | None) -> None:
    """Step by step, over pauses of any length: future actions are taken over from the entry before, not invented."""
    state = new("ALLOW_ALL")
    schedule = Schedule()
    schedule.CopyFrom(state.schedule)
    schedule.spec.jitter.seconds = jitter_s
    if end_step is not None:
        schedule.spec.end_time.FromNanoseconds(T0 + end_step * STEP)
    state.set_schedule(schedule)
    entry = messages.list_entry(state, T0).SerializeToString()
    now_ns = T0
    for steps in (1, 1, 0.3, 2.5, 4, 1, 9, 1):
        now_ns += int(steps * STEP)
        state = run_started(machine.advanced(state, now_ns))
        made = messages.list_entry(state, now_ns)
        renewed = messages.renewed_entry(entry, state, now_ns)
        assert renewed == made
        entry = renewed.SerializeToString()


def test_a_copy_shares_nothing_that_changes() -> None:
    """What is done to a copy leaves the first state as it was."""
    state = at(new("BUFFER_ALL"), 2.5)
    before = state.encode()
    copied = state.copy()
    copied.own_info().action_count += 1
    copied.own_schedule().state.paused = True
    copied.request_ids.append("r")
    for many in (copied.buffer, copied.starting, copied.backfills, copied.ending):
        many.clear()
    assert state.encode() == before
    assert state.copy() == state
