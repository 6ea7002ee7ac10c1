"""When a schedule acts: its specification in canonical form, compiled, and asked for the next time.

Source: schedule.v1.ScheduleSpec. Times are nanoseconds since the epoch; matching times are whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

from perdure.api.schedule.v1 import IntervalSpec, ScheduleSpec, StructuredCalendarSpec
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.protos import checked_duration_ns, duration_ns, timestamp_ns
from perdure.core.schedule import cron, ranges
from perdure.core.schedule.calendars import Calendar, compiled, zone
from perdure.core.schedule.month_days import calendars

MAX_TRIES = 2_000
"""Times looked at, whether excluded or not, before others get their turn."""
FOUND_KEPT = 16
"""Actions of a specification that are remembered."""
_END_OF_TIME_S = 4_133_980_800
"""The end of the year 2100."""
_CONFLICTING_ZONES = "conflicting timezone names"


class Action(NamedTuple):
    """One time of a schedule: `nominal_ns` as specified, `time_ns` with jitter."""

    nominal_ns: int
    time_ns: int


class Barren(NamedTuple):
    """There is no action up to `until_ns`; what comes later was not looked at yet."""

    until_ns: int


def canonical(spec: ScheduleSpec) -> ScheduleSpec:
    """The specification with calendars of texts and cron strings turned into ranges and intervals.

    Raises:
        InvalidArgumentError: it is not a valid one.
    """
    result = ScheduleSpec()
    result.CopyFrom(spec)
    result.structured_calendar.extend(chain.from_iterable(map(calendars, spec.calendar)))
    result.exclude_structured_calendar.extend(chain.from_iterable(map(calendars, spec.exclude_calendar)))
    zones = set()
    for text in spec.cron_string:
        found = cron.parse(text)
        zones.add(found.zone)
        result.structured_calendar.extend(found.calendars)
        if found.interval is not None:
            result.interval.append(found.interval)
    for name in ("calendar", "exclude_calendar", "cron_string"):
        result.ClearField(name)
    if len(zones) > 1:
        raise InvalidArgumentError(_CONFLICTING_ZONES)
    for name in sorted(zones - {""}):
        if (spec.timezone_name and spec.timezone_name != name) or spec.timezone_data:
            raise InvalidArgumentError(_CONFLICTING_ZONES)
        result.timezone_name = name
    for calendar in (*result.structured_calendar, *result.exclude_structured_calendar):
        ranges.check(calendar)
    for interval in result.interval:
        _check_interval(interval)
    zone(result.timezone_name, result.timezone_data)
    return result


def _check_interval(interval: IntervalSpec) -> None:
    every_ns = checked_duration_ns(interval.interval, "interval")
    if duration_ns(interval.phase) < 0:
        raise InvalidArgumentError("phase is negative")
    if every_ns < SECOND_NS:
        raise InvalidArgumentError("interval is too small")
    if checked_duration_ns(interval.phase, "phase") >= every_ns:
        raise InvalidArgumentError("phase cannot be greater than Interval")


def shown(spec: ScheduleSpec) -> None:
    """Fills a canonical specification in as descriptions show it."""
    for calendar in (*spec.structured_calendar, *spec.exclude_structured_calendar):
        ranges.fill(calendar)


class CompiledSpec:
    """A canonical specification, ready to be asked.

    Args:
        spec: the specification.
        seed: what else than the time decides about jitter.
    """

    def __init__(self, spec: ScheduleSpec, seed: str) -> None:
        self._zone = zone(spec.timezone_name, spec.timezone_data)
        self._calendars = _with_times(spec.structured_calendar)
        self._excluded = _with_times(spec.exclude_structured_calendar)
        self._intervals = [
            (max(duration_ns(item.interval) // SECOND_NS, 1), duration_ns(item.phase) // SECOND_NS)
            for item in spec.interval
        ]
        self._start_ns = timestamp_ns(spec.start_time)
        self._end_ns = timestamp_ns(spec.end_time) if spec.HasField("end_time") else None
        self._jitter_ns = max(duration_ns(spec.jitter), 0)
        self._seed = seed.encode()
        self._barren_s = (0, 0)
        self._found: dict[int, Action] = {}
        """Actions found lately by the second after which they were looked for: the same few are asked for again."""

    def next(self, after_ns: int) -> Action | Barren | None:
        """The first action after `after_ns`, or up to when there is none; None if there will be none any more."""
        return self._search(after_ns, MAX_TRIES)[0]

    def walk(self, after_ns: int, tries: int = MAX_TRIES) -> Iterator[Action | Barren]:
        """The actions after `after_ns`, each found from the time of the one before.

        Args:
            after_ns: the first one's nominal time is later.
            tries: times that are looked at, at most. A `Barren` comes last when they are used up.
        """
        while tries > 0:
            found, tries = self._search(after_ns, tries)
            if found is None:
                return
            yield found
            if isinstance(found, Barren):
                return
            after_ns = found.time_ns
        yield Barren(after_ns)

    def _search(self, after_ns: int, tries: int) -> tuple[Action | Barren | None, int]:
        """The first action after `after_ns`, None if there will be none; and how many tries are left."""
        after_s = first_s = max(after_ns, self._start_ns - SECOND_NS) // SECOND_NS
        known = self._found.get(after_s)
        if known is not None:
            return known, tries - 1
        barren_s, until_s = self._barren_s
        if barren_s <= after_s < until_s:  # the same question as before
            return Barren(until_s * SECOND_NS), 0
        for left in range(tries - 1, -1, -1):
            found_s = self._next_s(after_s)
            if found_s is None or (self._end_ns is not None and found_s * SECOND_NS > self._end_ns):
                return None, left
            end_s = max(
                (
                    calendar.end_of_block_s(found_s, self._zone)
                    for calendar in self._excluded
                    if calendar.matches(found_s, self._zone)
                ),
                default=None,
            )
            if end_s is None:
                action = self._with_jitter(found_s)
                if len(self._found) >= FOUND_KEPT:
                    self._found.clear()
                self._found[first_s] = action
                return action, left
            after_s = end_s
        if tries >= MAX_TRIES:
            self._barren_s = (first_s, after_s)
        return Barren(after_s * SECOND_NS), 0

    def _next_s(self, after_s: int) -> int | None:
        found = [calendar.next_s(after_s, self._zone) for calendar in self._calendars]
        found += [((after_s - phase) // every + 1) * every + phase for every, phase in self._intervals]
        times = [time_s for time_s in found if time_s is not None and time_s < _END_OF_TIME_S]
        return min(times, default=None)

    def _with_jitter(self, nominal_s: int) -> Action:
        nominal_ns = nominal_s * SECOND_NS
        if not self._jitter_ns:
            return Action(nominal_ns, nominal_ns)
        following_s = self._next_s(nominal_s)
        most_ns = self._jitter_ns
        if following_s is not None:
            most_ns = min(most_ns, (following_s - nominal_s) * SECOND_NS)
        hashed = blake2b(nominal_s.to_bytes(8, "big") + self._seed, digest_size=4).digest()
        jitter_ms = most_ns // 1_000_000 * int.from_bytes(hashed, "big") >> 32
        return Action(nominal_ns, nominal_ns + jitter_ms * 1_000_000)


def _with_times(calendars: Iterable[StructuredCalendarSpec]) -> list[Calendar]:
    return [calendar for calendar in map(compiled, calendars) if calendar.has_times]


@lru_cache(maxsize=2_000)
def compile_spec(spec: bytes, seed: str) -> CompiledSpec:
    """The compiled form of a serialised canonical specification."""
    return CompiledSpec(ScheduleSpec.FromString(spec), seed)
