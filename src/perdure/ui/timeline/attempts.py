"""The attempts of an activity: what the history records of them, and what the retry policy says of the others."""

from __future__ import annotations

from typing import Final

from perdure.api.common.v1 import RetryPolicy
from perdure.ui.timeline.model import Phase, Segment, State

_SECOND_NS: Final = 1_000_000_000
_MAX_DRAWN: Final = 30
"""More attempts than this are drawn as the last ones and one stretch for those before."""


def interval_ns(policy: RetryPolicy, attempt: int) -> int:
    """Nanoseconds between the failure of an attempt (from 1 on) and the next one, as the policy has it."""
    first_ns = policy.initial_interval.ToNanoseconds() or _SECOND_NS
    most_ns = policy.maximum_interval.ToNanoseconds() or 100 * first_ns
    factor = policy.backoff_coefficient or 2.0
    try:
        waited = first_ns * factor ** (attempt - 1)
    except OverflowError:
        return most_ns
    return min(int(waited), most_ns)


def earlier_attempts(
    policy: RetryPolicy, scheduled_ns: int, last_start_ns: int, last_attempt: int, failure: str
) -> list[Segment]:
    """Segments before the last attempt began.

    Args:
        policy: of the activity.
        scheduled_ns: when it was scheduled.
        last_start_ns: when its last attempt began.
        last_attempt: the number of that attempt.
        failure: of the attempt before it, the only one that is recorded.

    Returns:
        the wait for a worker if there was one attempt only; else the earlier attempts and the waits between, scaled so
        that they fill the time: how long each attempt took is recorded nowhere.
    """
    span_ns = max(last_start_ns - scheduled_ns, 0)
    if last_attempt <= 1:
        return [Segment(Phase.WAIT, scheduled_ns, last_start_ns, 1, State.OK)] if span_ns else []
    first = max(1, last_attempt - _MAX_DRAWN)
    waits_ns = [interval_ns(policy, attempt) for attempt in range(1, last_attempt)]
    total_ns = sum(waits_ns)
    # What the waits leave is shared by the attempts; if the waits were shorter than the policy says, they shrink.
    each_ns = max(span_ns - total_ns, 0) // (last_attempt - 1)
    if each_ns == 0:
        each_ns = span_ns // (20 * (last_attempt - 1))
    left_ns = max(span_ns - each_ns * (last_attempt - 1), 0)
    segments = []
    at_ns = scheduled_ns
    passed_ns = 0
    for attempt in range(1, last_attempt):
        passed_ns += waits_ns[attempt - 1]
        run_end_ns = at_ns + each_ns
        next_ns = scheduled_ns + each_ns * attempt + (left_ns * passed_ns // total_ns if total_ns else 0)
        if attempt == last_attempt - 1:
            next_ns = last_start_ns
        if attempt >= first:
            said = failure if attempt == last_attempt - 1 else "its failure is not recorded"
            run_end_ns = min(run_end_ns, next_ns)
            segments.append(Segment(Phase.ATTEMPT, at_ns, run_end_ns, attempt, State.FAILED, said, True))
            segments.append(Segment(Phase.BACKOFF, run_end_ns, next_ns, attempt, State.OK, "", True))
        at_ns = next_ns
    if first > 1:
        begun_ns = segments[0].start_ns
        text = f"attempts 1 to {first - 1}"
        segments.insert(
            0, Segment(Phase.BACKOFF, scheduled_ns, begun_ns, first - 1, State.FAILED, text, True)
        )
    return segments
