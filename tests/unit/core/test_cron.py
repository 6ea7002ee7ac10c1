"""Cron schedules: every form, and which time comes next."""

from __future__ import annotations

import datetime

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.run import cron
from perdure.core.run.limits import SECOND_NS

NOW = "2024-01-31T10:20:30+00:00"  # a Wednesday


def ns(text: str) -> int:
    """A time in nanoseconds since the epoch."""
    return int(datetime.datetime.fromisoformat(text).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("* * * * *", "2024-01-31T10:21:00+00:00"),
        ("*/15 * * * *", "2024-01-31T10:30:00+00:00"),
        ("5/20 * * * *", "2024-01-31T10:25:00+00:00"),
        ("0 9 * * *", "2024-02-01T09:00:00+00:00"),
        ("0 0 1,15 * *", "2024-02-01T00:00:00+00:00"),
        ("0 12 * * MON-fri", "2024-01-31T12:00:00+00:00"),
        ("0 12 * * 0", "2024-02-04T12:00:00+00:00"),
        ("0 0 29 feb ?", "2024-02-29T00:00:00+00:00"),
        ("0 0 13 * 5", "2024-02-02T00:00:00+00:00"),  # the 13th or a Friday
        # A star leaves the other field alone to say which days; one with a step restricts, and either may hold.
        ("0 0 13 * */1", "2024-02-13T00:00:00+00:00"),
        ("0 0 13 * */5", "2024-02-02T00:00:00+00:00"),
        ("0 0 */15 * 5", "2024-02-01T00:00:00+00:00"),
        ("0 0 13,*/1 * 5", "2024-02-02T00:00:00+00:00"),
        ("CRON_TZ= 0 9 * * *", "2024-02-01T09:00:00+00:00"),
        ("@hourly", "2024-01-31T11:00:00+00:00"),
        ("@daily", "2024-02-01T00:00:00+00:00"),
        ("@midnight", "2024-02-01T00:00:00+00:00"),
        ("@weekly", "2024-02-04T00:00:00+00:00"),
        ("@monthly", "2024-02-01T00:00:00+00:00"),
        ("@yearly", "2025-01-01T00:00:00+00:00"),
        ("@annually", "2025-01-01T00:00:00+00:00"),
        ("@every 1h30m", "2024-01-31T11:50:30+00:00"),
        ("@every 0.2s", "2024-01-31T10:20:31+00:00"),
        ("CRON_TZ=America/New_York 0 9 * * *", "2024-01-31T14:00:00+00:00"),
        ("TZ=Asia/Kolkata 0 0 * * *", "2024-01-31T18:30:00+00:00"),
    ],
)
def test_the_next_time(schedule: str, wanted: str) -> None:
    cron.validate(schedule, ns(NOW))
    assert cron.parse(schedule).next_ns(ns(NOW)) == ns(wanted)


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7", "a * * * *",
        "5-1 * * * *", "*/0 * * * *", "@every", "@every x", "@every 5", "@never", "TZ=Nowhere/X * * * * *", "nonsense",
        "1- * * * *", "-1 * * * *", ", * * * *", "TZ=../x * * * * *",
    ],
)  # fmt: skip
def test_what_is_no_schedule(schedule: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid CronSchedule."):
        cron.validate(schedule, ns(NOW))


def test_a_schedule_that_never_comes() -> None:
    with pytest.raises(InvalidArgumentError, match="no time can be found"):
        cron.validate("0 0 31 feb *", ns(NOW))


def test_an_hour_that_does_not_exist_is_left_out() -> None:
    """New York, the night of 10 March 2024: 2:30 does not come."""
    after = ns("2024-03-09T12:00:00-05:00")
    schedule = cron.parse("CRON_TZ=America/New_York 30 2 * * *")
    assert schedule.next_ns(after) == ns("2024-03-11T02:30:00-04:00")


def test_an_hour_that_comes_twice_counts_twice() -> None:
    """New York, the night of 3 November 2024: 1:30 comes twice."""
    schedule = cron.parse("CRON_TZ=America/New_York 30 1 * * *")
    first = schedule.next_ns(ns("2024-11-03T00:00:00-04:00"))
    assert first == ns("2024-11-03T01:30:00-04:00")
    assert schedule.next_ns(first) == ns("2024-11-03T01:30:00-05:00")


@pytest.mark.parametrize(
    ("schedule", "scheduled_s", "now_s", "wanted_s"),
    [
        ("@every 10s", 0, 0, 10),
        ("@every 10s", 0, 3, 7),
        ("@every 10s", 0, 3.4, 7),
        ("@every 10s", 0, 10, 0),
        ("@every 10s", 0, 34, 6),
        ("@every 10s", 0, 10_000_003, 7),
        ("@every 10s", 20, 5, 15),
        ("* * * * *", 0, 61, 29),
        ("* * * * *", 0, 3600.5, 30),
    ],
)
def test_how_long_until_the_next_run(schedule: str, scheduled_s: float, now_s: float, wanted_s: int) -> None:
    base = ns(NOW)
    delay = cron.delay_ns(schedule, base + int(scheduled_s * SECOND_NS), base + int(now_s * SECOND_NS))
    assert delay == wanted_s * SECOND_NS
