"""Single values: what is accepted and what it becomes."""

from __future__ import annotations

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility.values import (
    EXECUTION_STATUSES,
    INT64_MAX,
    INT64_MIN,
    parse_datetime,
    parse_duration,
    parse_number,
)

SECOND = 1_000_000_000
HOUR = 3600 * SECOND


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-01-01T00:00:00Z", 1_704_067_200 * SECOND),
        ("2024-01-01T02:00:00+02:00", 1_704_067_200 * SECOND),
        ("2023-12-31T18:30:00-05:30", 1_704_067_200 * SECOND),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:00.0000000019Z", 1),
        ("1970-01-01T00:00:00,5Z", SECOND // 2),
        ("1969-12-31T23:59:59.5Z", -SECOND // 2),
        ("1970-01-01T1:00:00Z", HOUR),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * SECOND),
        ("0000-02-29T00:00:00Z", INT64_MIN),
        ("0001-01-01T00:00:00Z", INT64_MIN),
        ("9999-12-31T23:59:59Z", INT64_MAX),
    ],
)
def test_datetime_becomes_nanoseconds(text: str, nanoseconds: int) -> None:
    assert parse_datetime(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2024-01-01",
        "2024-01-01 00:00:00Z",
        "2024-01-01T00:00:00",
        "2024-01-01T00:00Z",
        "2024-01-01t00:00:00z",
        "2024-13-01T00:00:00Z",
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+02:60",
        "2024-01-01T00:00:00.Z",
        "\u0662\u0660\u0662\u0664-01-01T00:00:00Z",
        "1704067200000000000",
        " 2024-01-01T00:00:00Z",
    ],
)
def test_what_is_no_datetime_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="unable to parse datetime"):
        parse_datetime(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("100", 100),
        ("-100", -100),
        ("1ns", 1),
        ("1us", 1_000),
        ("1\u00b5s", 1_000),
        ("1\u03bcs", 1_000),
        ("1ms", 1_000_000),
        ("1s", SECOND),
        ("1m", 60 * SECOND),
        ("1h", HOUR),
        ("1d", 24 * HOUR),
        ("1h30m", HOUR + 1800 * SECOND),
        ("1.5d2h", 38 * HOUR),
        (".5h", HOUR // 2),
        ("1.h", HOUR),
        ("+1h", HOUR),
        ("-1h30m", -HOUR - 1800 * SECOND),
        ("00:10:00", 600 * SECOND),
        ("0:1:1", 61 * SECOND),
        ("100:00:00", 100 * HOUR),
    ],
)
def test_duration_becomes_nanoseconds(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1x",
        "1h ",
        "h",
        ".h",
        "-",
        "00:10",
        "00:60:00",
        "00:00:60",
        "1:2:3:4",
        "10000000h",
        "1e3s",
        "9" * 5000,
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("0" * 9000, 0),
        ("9223372036854775807", INT64_MAX),
        ("9223372036854775808", 2.0**63),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.5E-1", 0.15),
    ],
)
def test_number_is_an_integer_if_it_is_written_as_one_and_fits(text: str, number: float) -> None:
    assert parse_number(text) == number
    assert type(parse_number(text)) is type(number)


def test_the_least_integer_is_read_with_its_sign() -> None:
    assert parse_number("9223372036854775808", negative=True) == INT64_MIN


@pytest.mark.parametrize("text", ["", ".", "e1", "1e", "1e400", "9" * 5000, "\u0663", "\u00b2", "1_0", "0x1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="unable to parse value"):
        parse_number(text)


def test_statuses_are_those_of_the_protocol() -> None:
    from perdure.api.enums.v1 import WorkflowExecutionStatus

    prefix = "WORKFLOW_EXECUTION_STATUS_"
    protocol = {
        name.removeprefix(prefix).replace("_", "").lower(): n for name, n in WorkflowExecutionStatus.items()
    }
    assert {name.lower(): number for name, number in EXECUTION_STATUSES.items()} == protocol
