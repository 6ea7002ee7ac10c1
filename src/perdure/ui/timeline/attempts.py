"""The attempts of an activity: what the history records of them, and what the retry policy says of the others."""

from __future__ import annotations

import math
from typing import Final

from perdure.api.common.v1 import RetryPolicy
from perdure.ui.timeline.model import Phase, Segment, State

_SECOND_NS: Final = 1_000_000_000
_MAX_DRAWN: Final = 30
"""More attempts than this are drawn as the last ones and one stretch for those before."""


def _terms(policy: RetryPolicy) -> tuple[int, float, int]:
    """First interval in nanoseconds, factor, longest interval in nanoseconds; histories of others may hold any."""
    first_ns = max(policy.initial_interval.ToNanoseconds(), 0) or _SECOND_NS
    most_ns = max(policy.maximum_interval.ToNanoseconds(), 0) or 100 * first_ns
    factor = policy.backoff_coefficient or 2.0
    return first_ns, factor if 1.0 <= factor < math.inf else 1.0, most_ns


def _growing(first_ns: int, factor: float, most_ns: int) -> int:
    """How many intervals are shorter than the longest one; -1 if all are."""
    if most_ns <= first_ns:
        return 0
    return math.ceil(math.log(most_ns / first_ns) / math.log(factor)) if factor > 1 else -1


def interval_ns(policy: RetryPolicy, attempt: int) -> int:
    """Nanoseconds between the failure of an attempt (from 1 on) and the next one, as the policy has it."""
    first_ns, factor, most_ns = _terms(policy)
    growing = _growing(first_ns, factor, most_ns)
    if growing < 0 or attempt <= growing:
        return min(int(first_ns * factor ** (attempt - 1)), most_ns)
    return most_ns


def waited_ns(policy: RetryPolicy, attempts: int) -> int:
    """Nanoseconds of the intervals after so many attempts together, without going through them."""
    first_ns, factor, most_ns = _terms(policy)
    growing = _growing(first_ns, factor, most_ns)
    if growing < 0:
        return first_ns * attempts
    grown = min(growing, attempts)
    # The sum of a geometric series; `expm1` keeps it exact enough for factors next to one.
    total_ns = int(first_ns * (math.expm1(grown * math.log(factor)) / (factor - 1))) if grown else 0
    return total_ns + most_ns * (attempts - grown)


def earlier_attempts(
    policy: RetryPolicy, scheduled_ns: int, last_start_ns: int, last_attempt: int, failure: str
) -> list[Segment]:
    """Segments before the last attempt began; at most as many as are drawn, whatever the number of attempts.

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
    last_start_ns = max(last_start_ns, scheduled_ns)
    span_ns = last_start_ns - scheduled_ns
    if last_attempt <= 1:
        return [Segment(Phase.WAIT, scheduled_ns, last_start_ns, 1, State.OK)] if span_ns else []
    total_ns = waited_ns(policy, last_attempt - 1)
    # What the waits leave is shared by the attempts; if the waits were shorter than the policy says, they shrink.
    each_ns = max(span_ns - total_ns, 0) // (last_attempt - 1)
    if each_ns == 0:
        each_ns = span_ns // (20 * (last_attempt - 1))
    left_ns = max(span_ns - each_ns * (last_attempt - 1), 0)

    def begin_ns(attempt: int) -> int:
        """When an attempt began."""
        if attempt == last_attempt:
            return last_start_ns
        passed_ns = waited_ns(policy, attempt - 1)
        waited = left_ns * passed_ns // total_ns if total_ns else 0
        return min(scheduled_ns + each_ns * (attempt - 1) + waited, last_start_ns)

    first = max(1, last_attempt - _MAX_DRAWN)
    at_ns = begin_ns(first)
    segments = []
    if first > 1:
        text = f"attempts 1 to {first - 1}"
        segments.append(Segment(Phase.BACKOFF, scheduled_ns, at_ns, first - 1, State.FAILED, text, True))
    for attempt in range(first, last_attempt):
        next_ns = max(begin_ns(attempt + 1), at_ns)
        run_end_ns = min(at_ns + each_ns, next_ns)
        said = failure if attempt == last_attempt - 1 else "its failure is not recorded"
        segments.append(Segment(Phase.ATTEMPT, at_ns, run_end_ns, attempt, State.FAILED, said, True))
        segments.append(Segment(Phase.BACKOFF, run_end_ns, next_ns, attempt, State.OK, "", True))
        at_ns = next_ns
    return segments
