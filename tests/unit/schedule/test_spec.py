"""When schedules act: every way to say it, against tables and against a model that tries every second."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from zoneinfo import ZoneInfo

import pytest

from perdure.api.schedule.v1 import CalendarSpec, Range, ScheduleSpec, StructuredCalendarSpec
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.limits import SECOND_NS
from perdure.core.schedule.calendars import Zone
from perdure.core.schedule.ranges import FIELDS, fill, parse, values
from perdure.core.schedule.spec import MAX_TRIES, Action, Barren, CompiledSpec, canonical, shown

NOW = "2024-01-31T10:20:30+00:00"  # a Wednesday
BY_NAME = {kind.name: kind for kind in FIELDS}
ALL_DAY = {"hour": "*", "minute": "*", "second": "*"}


def ns(text: str) -> int:
    """A time in nanoseconds since the epoch."""
    return int(datetime.datetime.fromisoformat(text).timestamp()) * SECOND_NS


def text(time_ns: int) -> str:
    """A time as text, in UTC."""
    return datetime.datetime.fromtimestamp(time_ns // SECOND_NS, datetime.UTC).isoformat()


def actions(spec: ScheduleSpec, seed: str, after_ns: int) -> Iterator[Action]:
    """Every action, however many times have to be looked at."""
    compiled = CompiledSpec(canonical(spec), seed)
    goes_on = True
    while goes_on:
        goes_on = False
        for found in compiled.walk(after_ns):
            if isinstance(found, Action):
                yield found
            else:
                assert found.until_ns > after_ns, "the search has got on"
                after_ns, goes_on = found.until_ns, True


def times(spec: ScheduleSpec, after: str, count: int) -> list[str]:
    """The first nominal times after `after`."""
    found = islice(actions(spec, "seed", ns(after)), count)
    return [text(action.nominal_ns) for action in found]


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        ("* * * * *", "2024-01-31T10:21:00+00:00"),
        ("*/15 * * * *", "2024-01-31T10:30:00+00:00"),
        ("5/20 * * * *", "2024-01-31T10:25:00+00:00"),
        ("0 9 * * *", "2024-02-01T09:00:00+00:00"),
        ("0 12 * * mon-Fri", "2024-01-31T12:00:00+00:00"),
        ("0 12 * * 7", "2024-02-04T12:00:00+00:00"),
        ("0 0 29 february *", "2024-02-29T00:00:00+00:00"),
        ("0 0 13 * 5", "2024-09-13T00:00:00+00:00"),  # both must hold, unlike in Unix
        ("0 0 1 1 * 2080", "2080-01-01T00:00:00+00:00"),
        ("30 5 10 * * * *", "2024-02-01T10:05:30+00:00"),
        ("@hourly", "2024-01-31T11:00:00+00:00"),
        ("@daily", "2024-02-01T00:00:00+00:00"),
        ("@midnight", "2024-02-01T00:00:00+00:00"),
        ("@weekly", "2024-02-04T00:00:00+00:00"),
        ("@monthly # rent", "2024-02-01T00:00:00+00:00"),
        ("@yearly", "2025-01-01T00:00:00+00:00"),
        ("@annually", "2025-01-01T00:00:00+00:00"),
        ("@every 1h", "2024-01-31T11:00:00+00:00"),
        ("@every 1h/10m", "2024-01-31T11:10:00+00:00"),
        ("@every 1d", "2024-02-01T00:00:00+00:00"),
        ("CRON_TZ=America/New_York 0 9 * * *", "2024-01-31T14:00:00+00:00"),
        ("TZ=Asia/Kolkata 0 0 * * *", "2024-01-31T18:30:00+00:00"),
        ("TZ=UTC @hourly", "2024-01-31T11:00:00+00:00"),
    ],
)
def test_every_form_of_cron_string(cron: str, wanted: str) -> None:
    assert times(ScheduleSpec(cron_string=[cron]), NOW, 1) == [wanted]


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        ("0 9 L * *", ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"]),
        ("0 9 15,l 2 * 2023-2024", ["2024-02-15", "2024-02-29"]),
        ("0 9 L 2 *", ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
        ("0 9 * * 5#2", ["2024-02-09", "2024-03-08", "2024-04-12"]),
        ("0 9 * * FRI#2 # pay day", ["2024-02-09", "2024-03-08", "2024-04-12"]),
        ("0 9 * * 0#5,7#1", ["2024-02-04", "2024-03-03", "2024-03-31", "2024-04-07"]),
        ("0 9 * * 5L", ["2024-02-23", "2024-03-29", "2024-04-26"]),
        (
            "0 9 * * monl,3",
            ["2024-01-31", "2024-02-07", "2024-02-14", "2024-02-21", "2024-02-26", "2024-02-28"],
        ),
        ("0 9 L * 1-5", ["2024-01-31", "2024-02-29", "2024-04-30", "2024-05-31"]),
        ("0 9 8 * 5#2", ["2024-03-08", "2024-11-08", "2025-08-08"]),
        ("0 9 * 2 4#5", ["2024-02-29", "2052-02-29", "2080-02-29"]),
        ("0 9 L 2 * 2100", ["2100-02-28"]),
    ],
)
def test_last_days_and_the_nth_weekday(cron: str, wanted: list[str]) -> None:
    """An addition of Perdure's: what is stored and shown are calendars that the protocol knows."""
    spec = ScheduleSpec(cron_string=[cron])
    assert [time[:10] for time in times(spec, "2024-01-31T00:00:00+00:00", len(wanted))] == wanted
    read = canonical(ScheduleSpec.FromString(canonical(spec).SerializeToString()))
    assert not read.cron_string
    assert [time[:10] for time in times(read, "2024-01-31T00:00:00+00:00", len(wanted))] == wanted


def test_a_hash_begins_a_comment_unless_it_counts_weekdays() -> None:
    for cron, comment in (
        ("0 9 * * 5 #2", "2"),
        ("@monthly #1 rent", "1 rent"),
        ("0 9 * * 5#second", "second"),
    ):
        (calendar,) = canonical(ScheduleSpec(cron_string=[cron])).structured_calendar
        assert calendar.comment == comment


@pytest.mark.parametrize("seed", range(8))
def test_last_days_and_weekdays_against_a_model_that_tries_every_day(seed: int) -> None:
    random = Random(seed)
    last, nth = random.randrange(7), [(random.randrange(7), random.randint(1, 5)) for _ in range(2)]
    weekdays = ",".join([f"{last}L", *(f"{day}#{number}" for day, number in nth)])
    wanted: list[str] = []
    day = datetime.date(2023, 12, 31)
    while len(wanted) < 150:
        day += datetime.timedelta(days=1)
        number, weekday = (day.day + 6) // 7, day.isoweekday() % 7
        is_last = (day + datetime.timedelta(days=7)).month != day.month
        if (weekday, number) in nth or (is_last and weekday == last):
            wanted.append(day.isoformat())
    spec = ScheduleSpec(cron_string=[f"0 0 * * {weekdays}"])
    assert [time[:10] for time in times(spec, "2023-12-31T12:00:00+00:00", 150)] == wanted


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * *", "does not have 5-7 fields"),
        ("* * * * * * * *", "does not have 5-7 fields"),
        ("@never", "does not have 5-7 fields"),
        ("0 9 1 * 5#2", "no day is meant"),
        ("0 9 * * 5#6", "DayOfWeek is not in range"),
        ("0 9 * * xyl", "DayOfWeek xy is no day"),
        ("0 9 L-3 * *", "DayOfMonth"),
        ("0 L * * *", "Hour is not in range"),
        ("60 * * * *", r"Minute is not in range \[0-59\]"),
        ("* * 0 * *", r"DayOfMonth is not in range \[1-31\]"),
        ("* * * * 8", r"DayOfWeek is not in range \[0-7\]"),
        ("5-1 * * * *", r"Minute End is before Start or not in range \[0-59\]"),
        ("x-1 * * * *", r"Minute Start is not in range \[0-59\]"),
        ("1-2-3 * * * *", "Minute has too many dashes"),
        ("1/2/3 * * * *", "Minute has too many slashes"),
        ("*/0 * * * *", "Minute has invalid Step"),
        ("*/ * * * *", "Minute missing step value"),
        ("60 24 * * *", "Minute .*, Hour "),
        ("@every", "does not have interval"),
        ("@every x", "invalid duration"),
        ("@every 0.5s", "interval is too small"),
        ("@every 1m/1m", "phase cannot be greater than Interval"),
        ("TZ=UTC", "has time zone but missing fields"),
        ("TZ=Nowhere/X * * * * *", "unknown time zone Nowhere/X"),
        ("TZ=../x * * * * *", "unknown time zone"),
    ],
)
def test_what_is_no_cron_string(cron: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        canonical(ScheduleSpec(cron_string=[cron]))


def test_cron_strings_agree_on_a_time_zone() -> None:
    for spec in (
        ScheduleSpec(cron_string=["@daily", "TZ=UTC @daily"]),
        ScheduleSpec(cron_string=["TZ=UTC @daily"], timezone_name="Asia/Tokyo"),
        ScheduleSpec(cron_string=["TZ=UTC @daily"], timezone_data=b"TZif"),
    ):
        with pytest.raises(InvalidArgumentError, match="conflicting timezone names"):
            canonical(spec)
    assert canonical(ScheduleSpec(cron_string=["TZ=Asia/Tokyo @daily"])).timezone_name == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("field", "given", "wanted"),
    [
        ("second", "", (0,)),
        ("minute", "1-5/2,8-16/3,2", (1, 2, 3, 5, 8, 11, 14)),
        ("minute", "50/5", (50, 55)),
        ("day_of_week", "3-7", (0, 3, 4, 5, 6)),
        ("day_of_week", "3-7/3", (3, 6)),
        ("day_of_week", "1-7/2", (0, 1, 3, 5)),
        ("day_of_week", "7", (0,)),
        ("day_of_week", "0-7", (0, 1, 2, 3, 4, 5, 6)),
        ("day_of_week", "tu,Thursday", (2, 4)),
        ("month", "jan-mar", (1, 2, 3)),
        ("year", "*", ()),
        ("year", "2000-2010/5", (2000, 2005, 2010)),
    ],
)
def test_ranges_as_text(field: str, given: str, wanted: tuple[int, ...]) -> None:
    assert values(parse(given, BY_NAME[field])) == wanted


def test_the_canonical_form_has_only_ranges_and_descriptions_write_them_out() -> None:
    spec = canonical(
        ScheduleSpec(
            cron_string=["0 12 * * MON # noon"],
            calendar=[CalendarSpec(hour="1-3/2")],
            exclude_calendar=[CalendarSpec(month="5")],
        )
    )
    assert not (spec.cron_string)
    assert not (spec.calendar)
    assert not (spec.exclude_calendar)
    assert [len(spec.structured_calendar), len(spec.exclude_structured_calendar)] == [2, 1]
    shown(spec)
    assert spec.structured_calendar[0].hour == [Range(start=1, end=3, step=2)]
    noon = spec.structured_calendar[1]
    assert noon.comment == "noon"
    assert list(noon.day_of_week) == [Range(start=1, end=1, step=1)]
    assert list(noon.day_of_month) == [Range(start=1, end=31, step=1)]
    fill(noon)
    assert not noon.year


@pytest.mark.parametrize(
    ("calendar", "words"),
    [
        (StructuredCalendarSpec(second=[Range(start=60)]), r"Second Start is not in range \[0-59\]"),
        (StructuredCalendarSpec(day_of_week=[Range(start=1, end=7)]), "DayOfWeek End is before Start"),
        (StructuredCalendarSpec(hour=[Range(start=1, step=-1)]), "Hour has invalid Step"),
        (StructuredCalendarSpec(comment="x" * 201), "comment is too long"),
    ],
)
def test_ranges_are_checked(calendar: StructuredCalendarSpec, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"invalid calendar spec: .*{words}"):
        canonical(ScheduleSpec(structured_calendar=[calendar]))


@pytest.mark.parametrize(
    ("zone", "cron", "after", "wanted"),
    [
        # A local time that is left out does not come, the next day's does.
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00-05:00", ["2026-03-09T02:30:00-04:00"]),
        # One that is repeated comes twice.
        (
            "America/New_York",
            "30 1 * * *",
            "2026-10-31T12:00-04:00",
            ["2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00", "2026-11-02T01:30:00-05:00"],
        ),
        # The end of a day is repeated: at midnight the clock goes back to the day before.
        (
            "Africa/Cairo",
            "30 23 * * *",
            "2026-10-29T12:00+03:00",
            ["2026-10-29T23:30:00+03:00", "2026-10-29T23:30:00+02:00", "2026-10-30T23:30:00+02:00"],
        ),
        # The clock goes back to a day that matches, from one that does not.
        (
            "America/St_Johns",
            "30 23 6 11 *",
            "2010-11-06T12:00-02:30",
            ["2010-11-06T23:30:00-02:30", "2010-11-06T23:30:00-03:30", "2011-11-06T23:30:00-03:30"],
        ),
        # Half an hour only.
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2026-04-04T12:00+11:00",
            ["2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30"],
        ),
        # The day begins at one.
        ("America/Asuncion", "0 0 * * *", "2023-09-30T12:00-04:00", ["2023-10-02T00:00:00-03:00"]),
        ("America/Asuncion", "0 1 * * *", "2023-09-30T12:00-04:00", ["2023-10-01T01:00:00-03:00"]),
        # A whole day is left out.
        ("Pacific/Apia", "0 0 30,31 12 *", "2011-12-29T12:00-10:00", ["2011-12-31T00:00:00+14:00"]),
    ],
)
def test_jumps_of_time_zones(zone: str, cron: str, after: str, wanted: Sequence[str]) -> None:
    spec = ScheduleSpec(cron_string=[f"CRON_TZ={zone} {cron}"])
    assert times(spec, after, len(wanted)) == [text(ns(time)) for time in wanted]


def test_a_time_zone_as_data() -> None:
    with open("/usr/share/zoneinfo/Asia/Tokyo", "rb") as file:
        data = file.read()
    assert times(ScheduleSpec(cron_string=["@daily"], timezone_data=data), NOW, 1) == [
        "2024-01-31T15:00:00+00:00"
    ]
    with pytest.raises(InvalidArgumentError, match="malformed time zone"):
        canonical(ScheduleSpec(timezone_data=b"nonsense"))


def test_start_and_end_bound_the_times_and_belong_to_them() -> None:
    spec = ScheduleSpec(cron_string=["@hourly"])
    spec.start_time.seconds = ns("2024-02-01T05:00:00+00:00") // SECOND_NS
    spec.end_time.seconds = ns("2024-02-01T06:00:00+00:00") // SECOND_NS
    assert times(spec, NOW, 5) == ["2024-02-01T05:00:00+00:00", "2024-02-01T06:00:00+00:00"]


def test_excluded_times_are_passed_over_however_many() -> None:
    spec = ScheduleSpec(
        cron_string=["* * * * * * *"], exclude_calendar=[CalendarSpec(month="1-11", **ALL_DAY)]
    )
    assert times(spec, NOW, 1) == ["2024-12-01T00:00:00+00:00"]
    spec.exclude_calendar[0].month = "*"
    assert times(spec, NOW, 1) == []


def test_a_search_in_vain_ends_and_the_same_question_is_answered_at_once() -> None:
    spec = ScheduleSpec(
        cron_string=["@every 2s"], exclude_calendar=[CalendarSpec(second="*/2", minute="*", hour="*")]
    )
    compiled = CompiledSpec(canonical(spec), "seed")
    barren = list(compiled.walk(ns(NOW)))
    assert barren == [Barren(ns(NOW) + 2 * MAX_TRIES * SECOND_NS)]
    compiled._next_s = None  # type: ignore[assignment, method-assign]  # it is not searched again
    assert list(compiled.walk(ns(NOW) + 1000 * SECOND_NS)) == barren
    with pytest.raises(TypeError):
        list(compiled.walk(barren[0].until_ns))  # type: ignore[union-attr]


def test_a_walk_has_a_limit_over_all_its_actions() -> None:
    compiled = CompiledSpec(canonical(ScheduleSpec(cron_string=["@every 1s"])), "seed")
    found = list(compiled.walk(ns(NOW), 5))
    assert found[-1] == Barren(ns(NOW) + 5 * SECOND_NS)
    assert len(found) == 6


def test_nothing_matches_no_calendar_and_no_time_after_2100() -> None:
    assert times(ScheduleSpec(), NOW, 1) == []
    assert times(ScheduleSpec(cron_string=["0 0 30 2 *"]), NOW, 1) == []
    assert times(ScheduleSpec(cron_string=["@yearly"]), "2100-01-01T00:00:00+00:00", 1) == []
    assert times(ScheduleSpec(cron_string=["@every 1h"]), "2100-12-31T23:00:00+00:00", 1) == []


def test_a_calendar_that_lacks_a_field_is_not_searched_to_the_end_of_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It matches nothing, as messages need every field but the year; each search through it would hold up all else."""
    looks, offset_s = 0, Zone.offset_s

    def counted(zone: Zone, time_s: int) -> int:
        nonlocal looks
        looks += 1
        return offset_s(zone, time_s)

    monkeypatch.setattr(Zone, "offset_s", counted)
    every_minute = StructuredCalendarSpec(
        minute=[Range(end=59)],
        hour=[Range(end=23)],
        day_of_month=[Range(start=1, end=31)],
        month=[Range(start=1, end=12)],
        day_of_week=[Range(end=6)],
    )
    spec = ScheduleSpec(structured_calendar=[every_minute], exclude_structured_calendar=[every_minute])
    assert times(spec, NOW, 1) == []
    spec.cron_string.append("*/10 * * * *")
    assert times(spec, NOW, 2) == ["2024-01-31T10:30:00+00:00", "2024-01-31T10:40:00+00:00"]
    assert looks < 100


def test_jitter_is_the_same_each_time_and_never_reaches_the_next_time() -> None:
    spec = ScheduleSpec(cron_string=["@every 10s"])
    spec.jitter.seconds = 3600

    def found(seed: str) -> list[Action]:
        return list(islice(actions(spec, seed, ns(NOW)), 200))

    jittered = found("a")
    assert jittered == found("a") != found("b")
    late = [action.time_ns - action.nominal_ns for action in jittered]
    assert all(0 <= jitter < 10 * SECOND_NS for jitter in late)
    assert min(late) < SECOND_NS
    assert max(late) > 9 * SECOND_NS
    assert len({action.nominal_ns for action in jittered}) == 200


def _model(spec: ScheduleSpec, first_s: int, last_s: int) -> list[int]:
    """Every matching second of a range, by looking at each of them."""
    zone = ZoneInfo(spec.timezone_name or "UTC")

    def holds(calendar: StructuredCalendarSpec, time: datetime.datetime) -> bool:
        has = {
            "second": time.second,
            "minute": time.minute,
            "hour": time.hour,
            "day_of_month": time.day,
            "month": time.month,
            "day_of_week": time.isoweekday() % 7,
            "year": time.year,
        }
        return all(
            (name == "year" and not getattr(calendar, name)) or value in values(getattr(calendar, name))
            for name, value in has.items()
        )

    found = []
    for second in range(first_s, last_s):
        time = datetime.datetime.fromtimestamp(second, zone)
        is_in = any(holds(calendar, time) for calendar in spec.structured_calendar)
        for interval in spec.interval:
            is_in |= (second - interval.phase.seconds) % interval.interval.seconds == 0
        if is_in and not any(holds(calendar, time) for calendar in spec.exclude_structured_calendar):
            found.append(second)
    return found


_CHOICES = {
    "second": ["0", "*/20", "7,59"],
    "minute": ["0", "*", "30", "1-50/7", "59"],
    "hour": ["*", "1", "2", "0,23", "1-3"],
    "day_of_month": ["*", "*", "1-15", "28/1"],
    "month": ["*", "3,4,10,11"],
    "day_of_week": ["*", "*", "sun", "1-6"],
}


@pytest.mark.parametrize("seed", range(16))
def test_times_are_those_of_a_model_that_tries_every_second(seed: int) -> None:
    random = Random(seed)
    zone = random.choice(
        ["UTC", "America/New_York", "Australia/Lord_Howe", "Europe/Dublin", "America/Asuncion"]
    )
    near = random.choice(["2023-03-26", "2023-03-12", "2023-11-05", "2023-04-02", "2023-10-01", "2023-10-29"])
    first_s = ns(f"{near}T00:00:00+00:00") // SECOND_NS - random.randrange(20_000)
    last_s = first_s + 40_000

    def calendar() -> CalendarSpec:
        return CalendarSpec(**{name: random.choice(choices) for name, choices in _CHOICES.items()})

    given = ScheduleSpec(calendar=[calendar() for _ in range(random.randrange(3))], timezone_name=zone)
    if random.random() < 0.5:
        given.exclude_calendar.append(calendar())
    if random.random() < 0.4:
        interval = given.interval.add()
        interval.interval.seconds = random.randrange(60, 5000)
        interval.phase.seconds = random.randrange(interval.interval.seconds)
    spec = canonical(given)
    found = []
    for action in actions(spec, "", (first_s - 1) * SECOND_NS):
        if action.nominal_ns >= last_s * SECOND_NS:
            break
        found.append(action.nominal_ns // SECOND_NS)
    assert found == _model(spec, first_s, last_s)
