"""The timeline's model, layout and picture: right for one thing, for thousands, and for any history at all."""

from __future__ import annotations

import math
from html import escape
from itertools import pairwise

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.api.common.v1 import ActivityType, Payload, RetryPolicy, WorkflowExecution, WorkflowType
from perdure.api.enums.v1 import EventType, PendingActivityState
from perdure.api.failure.v1 import ApplicationFailureInfo, Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protobuf import Duration, Timestamp
from perdure.api.workflow.v1 import PendingActivityInfo
from perdure.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from perdure.ui.timeline.attempts import earlier_attempts, interval_ns, waited_ns
from perdure.ui.timeline.build import build, words
from perdure.ui.timeline.layout import MAX_LANES, View, lay_out, merged, pack
from perdure.ui.timeline.model import Item, Kind, Phase, State, Timeline
from perdure.ui.timeline.scale import DAY, HOUR, MINUTE, MS, SECOND, distance, folded, linear, round_step
from perdure.ui.timeline.svg import draw, legend, shorten

START = 1_700_000_000 * SECOND


def at(offset_ns: int) -> Timestamp:
    """A moment after the start."""
    stamp = Timestamp()
    stamp.FromNanoseconds(START + offset_ns)
    return stamp


def lasting(span_ns: int) -> Duration:
    """A duration."""
    duration = Duration()
    duration.FromNanoseconds(span_ns)
    return duration


class Story:
    """A history as it is told: each call adds an event."""

    def __init__(self) -> None:
        self.events: list[HistoryEvent] = []

    def add(self, name: str, offset_ns: int, **attributes: object) -> int:
        """Adds an event; returns its id."""
        event = HistoryEvent(
            event_id=len(self.events) + 1,
            event_time=at(offset_ns),
            event_type=EventType.Value(f"EVENT_TYPE_{name}"),
        )
        target: Message = getattr(event, f"{name.lower()}_event_attributes")
        target.SetInParent()
        for key, value in attributes.items():
            if isinstance(value, Message):
                getattr(target, key).CopyFrom(value)
            else:
                setattr(target, key, value)
        self.events.append(event)
        return event.event_id

    def start(self) -> None:
        """The run starts."""
        self.add("WORKFLOW_EXECUTION_STARTED", 0, workflow_type=WorkflowType(name="Order"))

    def activity(self, name: str, begin_ns: int, start_ns: int, end_ns: int | None, attempt: int = 1) -> int:
        """An activity that completes; one that stays open without an end."""
        scheduled = self.add(
            "ACTIVITY_TASK_SCHEDULED",
            begin_ns,
            activity_id=str(len(self.events)),
            activity_type=ActivityType(name=name),
            retry_policy=RetryPolicy(initial_interval=lasting(SECOND), backoff_coefficient=2.0),
        )
        if end_ns is not None:
            failure = Failure(
                message="declined", application_failure_info=ApplicationFailureInfo(type="Card")
            )
            more = {"last_failure": failure} if attempt > 1 else {}
            self.add("ACTIVITY_TASK_STARTED", start_ns, scheduled_event_id=scheduled, attempt=attempt, **more)
            self.add("ACTIVITY_TASK_COMPLETED", end_ns, scheduled_event_id=scheduled, started_event_id=1)
        return scheduled

    def model(self, now_ns: int = 0, described: DescribeWorkflowExecutionResponse | None = None) -> Timeline:
        """The model of what was told."""
        return build(self.events, described, START + now_ns)


def only(timeline: Timeline, kind: Kind) -> Item:
    """The one item of a kind."""
    (item,) = [item for item in timeline.items if item.kind is kind]
    return item


# --- the model ---


def test_an_activity_waits_runs_and_ends() -> None:
    story = Story()
    story.start()
    story.activity("charge", SECOND, 3 * SECOND, 5 * SECOND)
    item = only(story.model(), Kind.ACTIVITY)
    assert (item.name, item.state) == ("charge", State.OK)
    assert [(one.phase, one.end_ns) for one in item.segments] == [
        (Phase.WAIT, START + 3 * SECOND),
        (Phase.ATTEMPT, START + 5 * SECOND),
    ]


@pytest.mark.parametrize(
    ("data", "encoding", "note"),
    [
        (b'"confirm the  order\\n"', b"json/plain", "confirm the order"),
        (b'"\\u0001\\ud800<b>"', b"json/plain", "<b>"),
        (b'{"not": "text"}', b"json/plain", "0"),
        (b"[1", b"json/plain", "[1"),
        (b"secret", b"binary/encrypted", "0"),
    ],
)
def test_a_row_says_what_the_code_says_it_is_for(data: bytes, encoding: bytes, note: str) -> None:
    """The summary stands beside the name, in one line; what is none, or cannot be read, leaves the id there."""
    story = Story()
    story.activity("charge", 0, 1 * SECOND, 3 * SECOND)
    summary = Payload(metadata={"encoding": encoding}, data=data)
    story.events[0].user_metadata.summary.CopyFrom(summary)
    drawing = lay_out(story.model(5 * SECOND), View())
    [row] = [row for row in drawing.rows if row.label == "charge"]
    assert row.note == note
    assert f"charge {escape(note)}</title>" in draw(drawing, str, lambda workflow_id, run_id: workflow_id)


def test_earlier_attempts_are_apart_estimated_and_follow_the_policy() -> None:
    story = Story()
    story.start()
    story.activity("charge", 0, 4 * SECOND, 5 * SECOND, attempt=3)
    item = only(story.model(), Kind.ACTIVITY)
    attempts = [one for one in item.segments if one.phase is Phase.ATTEMPT]
    assert [one.attempt for one in attempts] == [1, 2, 3]
    assert [one.is_estimated for one in attempts] == [True, True, False]
    assert attempts[1].failure == "Card: declined"
    waits = [one for one in item.segments if one.phase is Phase.BACKOFF]
    assert [((one.end_ns or 0) - one.start_ns) // SECOND for one in waits] == [1, 2]


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (12, 100), (1010, 100), (5000, 100)]
)
def test_intervals_grow_up_to_the_most(attempt: int, seconds: int) -> None:
    assert interval_ns(RetryPolicy(), attempt) == seconds * SECOND


@pytest.mark.parametrize("coefficient", [0.0, 1.0, 1.0000001, 1.5, 2.0, 1e300, -3.0, math.inf, math.nan])
def test_the_waits_together_are_the_sum_of_the_waits(coefficient: float) -> None:
    """The sum is not gone through: it has to be the same as if it were, for policies of others, too."""
    policy = RetryPolicy(initial_interval=lasting(3 * SECOND), backoff_coefficient=coefficient)
    summed = sum(interval_ns(policy, attempt) for attempt in range(1, 400))
    assert waited_ns(policy, 399) == pytest.approx(summed, rel=1e-9)


@given(
    st.integers(2, 200) | st.integers(2, 2**31 - 1),
    st.integers(0, 400 * SECOND),
    st.integers(1, 60),
    st.sampled_from([1.0, 1.5, 2.0, 10.0]) | st.floats(1.0, 3.0) | st.floats(),
)
def test_estimated_attempts_fill_the_time_in_order(
    last: int, span_ns: int, first_s: int, coefficient: float
) -> None:
    """Whatever the policy says, however many: segments touch each other, up to the start of the last attempt."""
    policy = RetryPolicy(initial_interval=lasting(first_s * SECOND), backoff_coefficient=coefficient)
    segments = earlier_attempts(policy, START, START + span_ns, last, "no")
    assert segments[0].start_ns == START
    assert segments[-1].end_ns == START + span_ns
    assert all(one.end_ns is not None and one.start_ns <= one.end_ns for one in segments)
    assert all(before.end_ns == after.start_ns for before, after in pairwise(segments))
    assert len(segments) <= 61


def test_a_retrying_activity_shows_attempts_the_history_does_not_hold_yet() -> None:
    story = Story()
    story.start()
    story.activity("charge", 0, 0, None)
    pending = PendingActivityInfo(
        activity_id="1",
        state=PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED,
        attempt=4,
        last_started_time=at(3 * SECOND),
        last_attempt_complete_time=at(4 * SECOND),
        next_attempt_schedule_time=at(12 * SECOND),
        last_failure=Failure(message="no answer"),
    )
    timeline = story.model(5 * SECOND, DescribeWorkflowExecutionResponse(pending_activities=[pending]))
    item = only(timeline, Kind.ACTIVITY)
    assert item.segments[-1].phase is Phase.BACKOFF
    assert item.segments[-1].end_ns is None
    assert item.segments[-2].failure == "no answer"
    assert not item.segments[-2].is_estimated
    (waits,) = timeline.waiting_for
    assert waits == (
        f"activity charge (between attempts, attempt 4, next try at \x01{START + 12 * SECOND}, last failure: no answer)"
    )


def test_a_run_that_waits_for_nothing_scheduled_waits_for_a_message() -> None:
    story = Story()
    story.start()
    assert story.model(SECOND).waiting_for == ("a signal or an update: nothing is scheduled",)


def test_a_workflow_task_without_a_worker_is_what_a_run_waits_for() -> None:
    story = Story()
    story.start()
    story.add("WORKFLOW_TASK_SCHEDULED", 0, attempt=1)
    assert story.model(SECOND).waiting_for == ("a worker for its workflow task",)


def test_a_run_whose_code_fails_says_what_failed() -> None:
    story = Story()
    story.start()
    scheduled = story.add("WORKFLOW_TASK_SCHEDULED", 0, attempt=1)
    story.add("WORKFLOW_TASK_STARTED", 0, scheduled_event_id=scheduled)
    failure = Failure(
        message="no such item", application_failure_info=ApplicationFailureInfo(type="KeyError")
    )
    story.add("WORKFLOW_TASK_FAILED", SECOND, scheduled_event_id=scheduled, failure=failure)
    described = DescribeWorkflowExecutionResponse()
    described.pending_workflow_task.attempt = 4
    (text,) = story.model(MINUTE, described).waiting_for
    assert text.endswith("(attempt 4: the workflow task before it failed: KeyError: no such item)")


def test_a_patch_is_called_by_its_name() -> None:
    story = Story()
    story.add("MARKER_RECORDED", 0, marker_name="core_patch")
    data = Payload(metadata={"encoding": b"json/plain"}, data=b'{"id":"new-terms","deprecated":false}')
    story.events[0].marker_recorded_event_attributes.details["patch-data"].payloads.append(data)
    assert only(story.model(), Kind.MARKER).name == "patch new-terms"


def test_only_the_colours_of_the_picture_are_explained() -> None:
    story = Story()
    story.start()
    story.activity("charge", 0, 0, SECOND)
    assert [text for _, text in legend(lay_out(story.model(SECOND), View()))] == ["completed"]


def test_what_is_open_when_the_run_closes_ends_with_it() -> None:
    story = Story()
    story.start()
    story.activity("charge", 0, 0, None)
    story.add("TIMER_STARTED", 0, timer_id="t", start_to_fire_timeout=lasting(DAY))
    story.add("WORKFLOW_EXECUTION_TERMINATED", 2 * SECOND, reason="enough")
    timeline = story.model(100 * SECOND)
    assert not timeline.is_open
    assert timeline.end_ns == START + 2 * SECOND
    assert {only(timeline, kind).state for kind in (Kind.ACTIVITY, Kind.TIMER)} == {State.CANCELED}


def test_children_signals_updates_and_markers_are_items() -> None:
    story = Story()
    story.start()
    child = story.add(
        "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
        SECOND,
        workflow_type=WorkflowType(name="Ship"),
        workflow_id="c",
    )
    story.add(
        "CHILD_WORKFLOW_EXECUTION_STARTED", 2 * SECOND, initiated_event_id=child,
        workflow_execution=WorkflowExecution(workflow_id="c", run_id="r"),
    )  # fmt: skip
    story.add(
        "CHILD_WORKFLOW_EXECUTION_FAILED",
        3 * SECOND,
        initiated_event_id=child,
        failure=Failure(message="sunk"),
    )
    story.add("WORKFLOW_EXECUTION_SIGNALED", SECOND, signal_name="go")
    story.add("MARKER_RECORDED", SECOND, marker_name="Version")
    timeline = story.model()
    ship = only(timeline, Kind.CHILD)
    assert (ship.state, ship.detail, ship.target) == (State.FAILED, "sunk", ("c", "r"))
    assert only(timeline, Kind.SIGNAL).is_moment
    assert only(timeline, Kind.MARKER).name == "Version"


def test_an_end_without_its_beginning_begins_where_the_part_does() -> None:
    story = Story()
    story.add("ACTIVITY_TASK_COMPLETED", 7 * SECOND, scheduled_event_id=3)
    item = only(story.model(), Kind.ACTIVITY)
    assert (item.start_ns, item.detail) == (START + 7 * SECOND, "began before this part")


def test_a_failure_is_told_with_its_cause() -> None:
    cause = Failure(message="declined", application_failure_info=ApplicationFailureInfo(type="Card"))
    assert (
        words(Failure(message="Activity task failed", cause=cause)) == "Activity task failed ← Card: declined"
    )
    assert words(Failure()) == ""


_NAMES = [name.removeprefix("EVENT_TYPE_") for name in EventType.keys() if name != "EVENT_TYPE_UNSPECIFIED"]  # noqa: SIM118 - no dictionary


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(_NAMES), st.integers(0, 10**6)), max_size=40),
    st.booleans(),
    st.sampled_from([320, 640, 1180, 4000]),
)
def test_any_events_at_all_make_a_picture_within_its_bounds(
    told: list[tuple[str, int]], is_folded: bool, width: int
) -> None:
    """Also histories that no server writes: nothing raises, and nothing is drawn outside."""
    story = Story()
    story.start()
    for name, offset_us in told:
        story.add(name, offset_us * 1000)
    timeline = story.model(10**9)
    drawing = lay_out(timeline, View(is_folded=is_folded, width=width))
    for row in drawing.rows:
        assert 0 <= row.y <= row.y + row.height <= drawing.height
        for bar in row.bars:
            assert drawing.plot_x <= bar.x <= drawing.end_x
            assert bar.width >= 0
    assert draw(drawing, str, lambda workflow_id, run_id: workflow_id).startswith("<svg")


# --- the axis ---


@given(st.integers(1, 100 * 365 * DAY))
def test_steps_are_round_and_not_too_small(least_ns: int) -> None:
    step = round_step(least_ns)
    assert step >= least_ns or step == round_step(10**30)
    unit = next(unit for unit in (DAY, HOUR, MINUTE, SECOND, MS, 1000, 1) if step >= unit)
    assert step % unit == 0


@pytest.mark.parametrize(
    ("span_ns", "text"),
    [
        (0, "0"),
        (1_500 * MS, "1.5 s"),
        (250 * MS, "250 ms"),
        (90 * SECOND, "1 min 30 s"),
        (54 * HOUR, "2 d 6 h"),
        (-SECOND, "-1 s"),
    ],
)
def test_distances_are_written_as_people_do(span_ns: int, text: str) -> None:
    assert distance(span_ns) == text


@given(st.integers(1, 10**18), st.integers(320, 4000))
def test_ticks_are_apart_and_inside(span_ns: int, width: int) -> None:
    ticks = linear(START, START + span_ns, 0, width).ticks(START)
    assert all(0 <= tick.x <= width for tick in ticks)
    assert all(after.x - before.x >= 60 for before, after in pairwise(ticks))
    assert len({tick.label for tick in ticks}) == len(ticks)


@given(st.lists(st.integers(0, 30 * DAY), min_size=1, max_size=30))
def test_a_folded_axis_keeps_the_order_of_time(offsets: list[int]) -> None:
    scale = folded(START, START + 30 * DAY, 100, 1100, [START + offset for offset in offsets])
    places = [scale.x(START + offset) for offset in sorted(offsets)]
    assert places == sorted(places)
    assert scale.x(START) == 100
    assert scale.x(START + 30 * DAY) == pytest.approx(1100)


def test_a_month_of_sleep_leaves_room_for_the_work() -> None:
    moments = [START, START + SECOND, START + 2 * SECOND, START + 30 * DAY]
    straight = linear(START, START + 30 * DAY, 0, 1000)
    bent = folded(START, START + 30 * DAY, 0, 1000, moments)
    assert straight.x(START + 2 * SECOND) < 1
    assert bent.folds


@pytest.mark.parametrize("months", [1, 9])
def test_a_run_that_mostly_waited_is_folded_unless_somebody_says_otherwise(months: int) -> None:
    """Every wait that leaves no room for the work; and each says how long it is."""
    story = Story()
    story.start()
    at_ns = 0
    for _ in range(months):
        story.activity("charge", at_ns, at_ns, at_ns + SECOND)
        at_ns += 30 * DAY
    story.activity("charge", at_ns + 20 * MINUTE, at_ns + 20 * MINUTE, at_ns + 20 * MINUTE + SECOND)
    model = story.model(at_ns + 20 * MINUTE + SECOND)
    drawing = lay_out(model, View(is_folded=None))
    assert len(drawing.folds) == months
    assert all(row.bars[0].width > 10 for row in drawing.rows if row.label == "charge")
    picture = draw(drawing, str, lambda workflow_id, run_id: workflow_id)
    assert picture.count('text-anchor="middle">30 d</text>') == months
    assert not lay_out(model, View(is_folded=False)).folds


def test_a_busy_run_is_not_folded_by_itself() -> None:
    story = Story()
    story.start()
    for number in range(10):
        story.activity("charge", 2 * number * SECOND, 2 * number * SECOND, (2 * number + 1) * SECOND)
    assert not lay_out(story.model(20 * SECOND), View(is_folded=None)).folds


@pytest.mark.parametrize(
    ("waited_ns", "folds"), [(5 * SECOND, False), (9 * MINUTE, False), (11 * MINUTE, True)]
)
def test_the_waits_of_a_short_run_are_shown_as_they_went(waited_ns: int, folds: bool) -> None:
    """A retry that takes seconds is what somebody wants to see, and not worth a fold; the button still folds it."""
    story = Story()
    story.start()
    story.activity("charge", 0, 0, 10 * MS)
    story.activity("charge", waited_ns, waited_ns, waited_ns + 10 * MS)
    model = story.model(waited_ns + 10 * MS)
    assert bool(lay_out(model, View(is_folded=None)).folds) is folds
    assert lay_out(model, View(is_folded=True)).folds


def test_behind_a_fold_the_axis_counts_from_its_end() -> None:
    """A distance from the beginning would be days, hours, minutes and milliseconds."""
    moments = [START, START + SECOND, START + 3 * DAY + 17 * MINUTE, START + 3 * DAY + 17 * MINUTE + SECOND]
    labels = [tick.label for tick in folded(moments[0], moments[-1], 0, 1000, moments, 4).ticks(START)]
    assert labels[:2] == ["0", "500 ms"]
    assert "+500 ms" in labels[2:]
    assert max(map(len, labels)) < 10


# --- rows ---


def _item(begin: int, end: int | None, state: State = State.OK) -> Item:
    return Item(Kind.ACTIVITY, "quick", "", begin, begin, end, state)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=60))
def test_items_of_a_lane_do_not_overlap(spans: list[tuple[int, int]]) -> None:
    lanes, left_out = pack([_item(begin, begin + span) for begin, span in spans], 200)
    assert sum(map(len, lanes)) + left_out == len(spans)
    for lane in lanes:
        assert all(before.end_or(0) <= after.start_ns for before, after in pairwise(lane))


def test_of_too_many_at_once_those_that_failed_are_drawn() -> None:
    items = [_item(0, 100, State.FAILED if number % 100 == 99 else State.OK) for number in range(1000)]
    lanes, left_out = pack(items, 200)
    drawn = [item for lane in lanes for item in lane]
    assert (len(lanes), left_out) == (MAX_LANES, 1000 - MAX_LANES)
    assert sum(item.state is State.FAILED for item in drawn) == 10


def test_thousands_of_bars_become_as_many_as_there_is_room_for() -> None:
    story = Story()
    story.start()
    for number in range(1600):
        story.activity("quick", number * MS, number * MS, number * MS + 100_000)
    drawing = lay_out(story.model(2 * SECOND), View())
    (row,) = [row for row in drawing.rows if row.label == "quick"]
    assert len(row.bars) < 1000
    assert sum(bar.count for bar in row.bars) == 1600
    assert merged([]) == []


def test_few_items_have_a_row_each_with_what_they_took() -> None:
    story = Story()
    story.start()
    story.activity("charge", 0, 0, 5 * SECOND)
    story.activity("ship", 5 * SECOND, 5 * SECOND, 8 * SECOND)
    drawing = lay_out(story.model(9 * SECOND), View())
    assert [(row.label, row.text) for row in drawing.rows] == [
        ("Workflow", "9.00 s"),
        ("charge", "5.00 s"),
        ("ship", "3.00 s"),
    ]


def test_names_are_escaped_and_cut_in_the_middle() -> None:
    story = Story()
    story.start()
    story.activity("<script>&" + "x" * 80, 0, 0, SECOND)
    picture = draw(lay_out(story.model(), View()), str, lambda workflow_id, run_id: workflow_id)
    assert "<script>" not in picture
    assert "&lt;script&gt;&amp;" in picture
    assert shorten("abcdefghij", 7) == "abcd…ij"
