"""Retry policies: defaults, what is refused, which failures are retried, and when."""

from __future__ import annotations

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.run import retry
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.protos import MAX_DURATION_NS
from tests.support.builders import application_failure, canceled_failure, duration, retry_policy
from tests.support.proto import common, enums, failure

YEARS_100_S = MAX_DURATION_NS // SECOND_NS


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        (retry_policy(), (1, 2.0, 100, 0)),
        (retry_policy(initial_s=3), (3, 2.0, 300, 0)),
        (retry_policy(initial_s=3, maximum_s=5, coefficient=1.5, attempts=7), (3, 1.5, 5, 7)),
        (retry_policy(initial_s=2 * 365 * 24 * 3600), (2 * 365 * 24 * 3600, 2.0, YEARS_100_S, 0)),
    ],
    ids=["nothing", "initial", "everything", "a hundred times more than a hundred years"],
)
def test_unset_fields_get_defaults(
    given: common.RetryPolicy, filled: tuple[float, float, float, int]
) -> None:
    retry.fill_defaults(given)
    initial, coefficient, maximum, attempts = filled
    assert given.initial_interval == duration(initial)
    assert given.backoff_coefficient == coefficient
    assert given.maximum_interval == duration(maximum)
    assert given.maximum_attempts == attempts


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (retry_policy(initial_s=-1), "invalid InitialInterval set on retry policy: negative duration"),
        (retry_policy(coefficient=0.5), "BackoffCoefficient cannot be less than 1 on retry policy."),
        (retry_policy(coefficient=float("nan")), "BackoffCoefficient cannot be less than 1 on retry policy."),
        (retry_policy(maximum_s=-1), "invalid MaximumInterval set on retry policy: negative duration"),
        (
            retry_policy(initial_s=5, maximum_s=2),
            "MaximumInterval cannot be less than InitialInterval on retry policy.",
        ),
        (retry_policy(attempts=-1), "MaximumAttempts cannot be negative on retry policy."),
        (
            retry_policy(non_retryable=("TemporalTimeout:Sometimes",)),
            "Invalid timeout type value: Sometimes.",
        ),
    ],
)
def test_impossible_policies_are_refused(policy: common.RetryPolicy, message: str) -> None:
    retry.fill_defaults(policy)
    with pytest.raises(InvalidArgumentError) as caught:
        retry.validate(policy)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "policy",
    [
        retry_policy(initial_s=-1, attempts=1),
        retry_policy(coefficient=1),
        retry_policy(non_retryable=("Boom", "TemporalTimeout:StartToClose")),
    ],
    ids=["one attempt: nothing else matters", "no growth", "types"],
)
def test_possible_policies_are_accepted(policy: common.RetryPolicy) -> None:
    retry.fill_defaults(policy)
    retry.validate(policy)


@pytest.mark.parametrize("seconds", [2**62, 315_576_000_001, -(2**62)])
def test_intervals_out_of_all_bounds_are_cut_or_refused_never_an_accident(seconds: int) -> None:
    policy = common.RetryPolicy()
    policy.initial_interval.seconds = seconds
    retry.fill_defaults(policy)
    if seconds < 0:
        with pytest.raises(InvalidArgumentError, match="negative duration"):
            retry.validate(policy)
    else:
        retry.validate(policy)
        assert policy.initial_interval.seconds == policy.maximum_interval.seconds == YEARS_100_S


def _timeout(kind: enums.TimeoutType.ValueType) -> failure.Failure:
    return failure.Failure(timeout_failure_info=failure.TimeoutFailureInfo(timeout_type=kind))


_TIMEOUTS = ("Fatal", "TemporalTimeout:StartToClose", "TemporalTimeout:Heartbeat")


@pytest.mark.parametrize(
    ("cause", "types", "retryable"),
    [
        (None, (), True),
        (failure.Failure(), (), True),
        (application_failure(), (), True),
        (application_failure(type="Fatal"), _TIMEOUTS, False),
        (application_failure(non_retryable=True), (), False),
        (canceled_failure(), (), False),
        (failure.Failure(terminated_failure_info=failure.TerminatedFailureInfo()), (), False),
        (failure.Failure(server_failure_info=failure.ServerFailureInfo()), (), True),
        (failure.Failure(server_failure_info=failure.ServerFailureInfo(non_retryable=True)), (), False),
        (_timeout(enums.TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE), (), True),
        (_timeout(enums.TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE), _TIMEOUTS, False),
        (_timeout(enums.TimeoutType.TIMEOUT_TYPE_HEARTBEAT), (), True),
        (_timeout(enums.TimeoutType.TIMEOUT_TYPE_HEARTBEAT), _TIMEOUTS, False),
        (_timeout(enums.TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START), (), False),
        (_timeout(enums.TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE), (), False),
        (failure.Failure(activity_failure_info=failure.ActivityFailureInfo()), (), True),
    ],
)
def test_which_failures_are_retried(
    cause: failure.Failure | None, types: tuple[str, ...], retryable: bool
) -> None:
    assert retry.is_retryable(cause, types) is retryable


def _next(**changes: object) -> retry.Decision:
    values: dict[str, object] = {
        "now_ns": 1000 * SECOND_NS,
        "attempt": 1,
        "maximum_attempts": 0,
        "initial_interval_ns": SECOND_NS,
        "maximum_interval_ns": 100 * SECOND_NS,
        "backoff_coefficient": 2.0,
        "expiration_ns": 0,
        "failure": None,
    }
    return retry.next_attempt(**(values | changes))  # type: ignore[arg-type]  # named values


@pytest.mark.parametrize(
    ("changes", "delay_s"),
    [
        ({}, 1),
        ({"attempt": 2}, 2),
        ({"attempt": 7}, 64),
        ({"attempt": 8}, 100),
        ({"attempt": 5000}, 100),
        ({"attempt": 5, "backoff_coefficient": 1.0}, 1),
        ({"attempt": 3, "backoff_coefficient": 1.5}, 2.25),
        ({"attempt": 2, "backoff_coefficient": float("inf")}, 100),
        ({"attempt": 3, "maximum_interval_ns": 0}, 4),
        ({"maximum_attempts": 2}, 1),
        ({"failure": application_failure(next_retry_delay_s=7)}, 7),
        ({"failure": application_failure(next_retry_delay_s=700)}, 700),
        ({"failure": application_failure(next_retry_delay_s=0)}, 0),
        ({"failure": application_failure()}, 1),
        ({"expiration_ns": 1001 * SECOND_NS}, 1),
    ],
)
def test_when_the_next_attempt_is_due(changes: dict[str, object], delay_s: float) -> None:
    assert _next(**changes) == retry.Decision(retry.IN_PROGRESS, int(delay_s * SECOND_NS))


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"maximum_attempts": 1}, retry.MAXIMUM_ATTEMPTS),
        ({"maximum_attempts": 3, "attempt": 3}, retry.MAXIMUM_ATTEMPTS),
        ({"maximum_attempts": 3, "attempt": 4}, retry.MAXIMUM_ATTEMPTS),
        ({"expiration_ns": 1001 * SECOND_NS - 1}, retry.TIMEOUT),
        (
            {
                "expiration_ns": 1001 * SECOND_NS,
                "failure": application_failure(next_retry_delay_s=2),
            },
            retry.TIMEOUT,
        ),
        ({"maximum_interval_ns": 0, "attempt": 5000}, retry.TIMEOUT),
    ],
)
def test_when_there_is_no_next_attempt(changes: dict[str, object], state: int) -> None:
    assert _next(**changes).state == state


@pytest.mark.parametrize(("seconds", "delay_ns"), [(2**62, MAX_DURATION_NS), (-5, 0)])
def test_a_delay_out_of_all_bounds_is_cut(seconds: int, delay_ns: int) -> None:
    """Else the wake-up would not fit into the store's 64 bits."""
    cause = application_failure()
    cause.application_failure_info.next_retry_delay.seconds = seconds
    assert _next(failure=cause).delay_ns == delay_ns
