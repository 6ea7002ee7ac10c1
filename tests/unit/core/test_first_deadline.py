"""The earliest deadline of an activity, which is worked out by itself because it is asked for so often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.core.run import activity, attempts
from perdure.core.run.state import Activity

SPANS = st.sampled_from((0, 0, 1, 5, 30))
TIMES = st.sampled_from((10, 12, 40))


@given(
    st.builds(
        Activity,
        first_scheduled_ns=TIMES,
        scheduled_ns=TIMES,
        schedule_to_close_ns=SPANS,
        schedule_to_start_ns=SPANS,
        start_to_close_ns=SPANS,
        heartbeat_ns=SPANS,
        backing_off=st.booleans(),
        started_ns=st.sampled_from((0, 12, 41)),
        last_heartbeat_ns=st.sampled_from((0, 20)),
        paused_ns=st.sampled_from((0, 0, 15)),
    )
)
def test_it_is_the_least_of_all_deadlines(pending: Activity) -> None:
    """Whatever state the activity is in and whatever limits it has; 0 when it has none."""
    assert activity.first_deadline_ns(pending) == min(
        (time for time, _ in activity.deadlines(pending)), default=0
    )
    assert attempts.first_deadline_ns(pending) == min(
        (time for time, _ in attempts.deadlines(pending)), default=0
    )
