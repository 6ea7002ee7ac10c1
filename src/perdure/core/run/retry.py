"""Retry policies: defaults, validation, which failures are retried, and when. Shared by all that retries.

Source: temporal.api.common.v1.RetryPolicy and the server's documented defaults.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.api.common.v1 import RetryPolicy
from perdure.api.enums.v1 import RetryState, TimeoutType
from perdure.api.failure.v1 import Failure
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.protos import MAX_DURATION_NS, cap_duration, duration_ns, set_duration

_TIMEOUT_PREFIX = "TemporalTimeout:"
IN_PROGRESS = RetryState.Value("RETRY_STATE_IN_PROGRESS")
NON_RETRYABLE = RetryState.Value("RETRY_STATE_NON_RETRYABLE_FAILURE")
TIMEOUT = RetryState.Value("RETRY_STATE_TIMEOUT")
MAXIMUM_ATTEMPTS = RetryState.Value("RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED")
CANCEL_REQUESTED = RetryState.Value("RETRY_STATE_CANCEL_REQUESTED")
POLICY_NOT_SET = RetryState.Value("RETRY_STATE_RETRY_POLICY_NOT_SET")
START_TO_CLOSE = TimeoutType.Value("TIMEOUT_TYPE_START_TO_CLOSE")
SCHEDULE_TO_START = TimeoutType.Value("TIMEOUT_TYPE_SCHEDULE_TO_START")
SCHEDULE_TO_CLOSE = TimeoutType.Value("TIMEOUT_TYPE_SCHEDULE_TO_CLOSE")
HEARTBEAT = TimeoutType.Value("TIMEOUT_TYPE_HEARTBEAT")
TIMEOUT_NAMES: dict[int, str] = {
    START_TO_CLOSE: "StartToClose",
    SCHEDULE_TO_START: "ScheduleToStart",
    SCHEDULE_TO_CLOSE: "ScheduleToClose",
    HEARTBEAT: "Heartbeat",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether there is another attempt (`state` is IN_PROGRESS) and after how long."""

    state: int
    delay_ns: int = 0


def fill_defaults(policy: RetryPolicy) -> None:
    """Fills unset fields: 1 s, doubling, at most 100 times the first interval, without end."""
    if not duration_ns(policy.initial_interval):
        set_duration(policy.initial_interval, SECOND_NS)
    if not duration_ns(policy.maximum_interval):
        maximum_ns = 100 * duration_ns(policy.initial_interval)
        set_duration(policy.maximum_interval, min(max(maximum_ns, -MAX_DURATION_NS), MAX_DURATION_NS))
    if policy.backoff_coefficient == 0:
        policy.backoff_coefficient = 2.0


def validate(policy: RetryPolicy) -> None:
    """Checks a filled policy; intervals are cut to a hundred years.

    Raises:
        InvalidArgumentError: a field no policy can have; the message names it.
    """
    coefficient = policy.backoff_coefficient
    if math.isinf(coefficient):  # JSON, in which this is kept, cannot say it
        raise InvalidArgumentError("BackoffCoefficient must be a finite number on retry policy.")
    if policy.maximum_attempts == 1 and not math.isnan(coefficient):
        return  # no retries: the rest does not matter
    cap_duration(policy.initial_interval, "InitialInterval set on retry policy")
    if not coefficient >= 1:
        raise InvalidArgumentError("BackoffCoefficient cannot be less than 1 on retry policy.")
    cap_duration(policy.maximum_interval, "MaximumInterval set on retry policy")
    if 0 < duration_ns(policy.maximum_interval) < duration_ns(policy.initial_interval):
        raise InvalidArgumentError("MaximumInterval cannot be less than InitialInterval on retry policy.")
    if policy.maximum_attempts < 0:
        raise InvalidArgumentError("MaximumAttempts cannot be negative on retry policy.")
    for name in policy.non_retryable_error_types:
        if (
            name.startswith(_TIMEOUT_PREFIX)
            and name.removeprefix(_TIMEOUT_PREFIX) not in TIMEOUT_NAMES.values()
        ):
            raise InvalidArgumentError(f"Invalid timeout type value: {name.removeprefix(_TIMEOUT_PREFIX)}.")


def is_retryable(failure: Failure | None, non_retryable_types: Sequence[str]) -> bool:
    """Whether the kind of failure allows another attempt."""
    if failure is None:
        return True
    kind = failure.WhichOneof("failure_info")
    if kind in ("terminated_failure_info", "canceled_failure_info"):
        return False
    if kind == "timeout_failure_info":
        timeout_type = failure.timeout_failure_info.timeout_type
        if timeout_type in (START_TO_CLOSE, HEARTBEAT):
            return _TIMEOUT_PREFIX + TIMEOUT_NAMES[timeout_type] not in non_retryable_types
        return False
    if kind == "server_failure_info":
        return not failure.server_failure_info.non_retryable
    if kind == "application_failure_info":
        info = failure.application_failure_info
        return not info.non_retryable and info.type not in non_retryable_types
    return True


def next_attempt(
    *,
    now_ns: int,
    attempt: int,
    maximum_attempts: int,
    initial_interval_ns: int,
    maximum_interval_ns: int,
    backoff_coefficient: float,
    expiration_ns: int,
    failure: Failure | None,
) -> Decision:
    """When the attempt after `attempt` is due, if there is one.

    Args:
        now_ns: the moment the attempt failed.
        attempt: the failed attempt, counted from 1.
        maximum_attempts: 0 for no limit.
        initial_interval_ns, maximum_interval_ns, backoff_coefficient: the policy.
        expiration_ns: the next attempt must not start after this; 0 for no limit.
        failure: an application failure may carry its own `next_retry_delay`, which overrides the policy.
    """
    if 0 < maximum_attempts <= attempt:
        return Decision(MAXIMUM_ATTEMPTS)
    delay_ns = _application_delay_ns(failure)
    if delay_ns is None:
        delay_ns = interval_ns(initial_interval_ns, backoff_coefficient, attempt, maximum_interval_ns)
        if delay_ns <= 0:
            return Decision(TIMEOUT)
    if expiration_ns and now_ns + delay_ns > expiration_ns:
        return Decision(TIMEOUT)
    return Decision(IN_PROGRESS, delay_ns)


def _application_delay_ns(failure: Failure | None) -> int | None:
    if failure is None or failure.WhichOneof("failure_info") != "application_failure_info":
        return None
    if not failure.application_failure_info.HasField("next_retry_delay"):
        return None
    delay_ns = duration_ns(failure.application_failure_info.next_retry_delay)
    return min(max(delay_ns, 0), MAX_DURATION_NS)


def interval_ns(initial_ns: int, coefficient: float, attempt: int, maximum_ns: int) -> int:
    """How long a policy waits after attempt `attempt`, counted from 1; 0 when that is longer than anything."""
    try:
        interval = initial_ns * coefficient ** (attempt - 1)
    except OverflowError:
        interval = float("inf")
    if maximum_ns and not 0 < interval <= maximum_ns:
        return maximum_ns
    return int(interval) if interval < 2**63 else 0
