"""What a schedule is: when it acts, how, and in what state it is.

May live here: values and their messages, both ways. May not: what a schedule starts (`_schedule_action`), or what a
server says about one (`_schedule_description`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

from perdure.api.enums import v1 as enums
from perdure.api.schedule import v1 as schedule_api
from perdure.client._schedule_action import ScheduleAction
from perdure.client._wire import duration, enum_value, optional_timedelta, optional_utc, timestamp

if TYPE_CHECKING:
    from perdure.client._client import Client


@dataclass(frozen=True)
class ScheduleRange:
    """Numbers from `start` to `end`, both included, every `step`.

    An `end` below `start` means `start` alone; a `step` of 0 means 1.
    """

    start: int
    end: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        """Fill in what was left out, as a server does, so that what comes back is equal."""
        if self.end < self.start:
            object.__setattr__(self, "end", self.start)
        if self.step == 0:
            object.__setattr__(self, "step", 1)

    @staticmethod
    def _from_protos(ranges: Sequence[schedule_api.Range]) -> Sequence[ScheduleRange]:
        return tuple(ScheduleRange(start=r.start, end=r.end, step=r.step) for r in ranges)

    @staticmethod
    def _to_protos(ranges: Sequence[ScheduleRange]) -> Sequence[schedule_api.Range]:
        return tuple(schedule_api.Range(start=r.start, end=r.end, step=r.step) for r in ranges)


_CALENDAR_FIELDS = ("second", "minute", "hour", "day_of_month", "month", "year", "day_of_week")


@dataclass
class ScheduleCalendarSpec:
    """Times at which all fields match. The defaults are midnight of every day."""

    second: Sequence[ScheduleRange] = (ScheduleRange(0),)
    """0 to 59."""

    minute: Sequence[ScheduleRange] = (ScheduleRange(0),)
    """0 to 59."""

    hour: Sequence[ScheduleRange] = (ScheduleRange(0),)
    """0 to 23."""

    day_of_month: Sequence[ScheduleRange] = (ScheduleRange(1, 31),)
    """1 to 31."""

    month: Sequence[ScheduleRange] = (ScheduleRange(1, 12),)
    """1 to 12."""

    year: Sequence[ScheduleRange] = ()
    """The years; empty means all."""

    day_of_week: Sequence[ScheduleRange] = (ScheduleRange(0, 6),)
    """0 (Sunday) to 6."""

    comment: str | None = None
    """A note about it."""

    @staticmethod
    def _from_proto(spec: schedule_api.StructuredCalendarSpec) -> ScheduleCalendarSpec:
        ranges = {name: ScheduleRange._from_protos(getattr(spec, name)) for name in _CALENDAR_FIELDS}
        return ScheduleCalendarSpec(**ranges, comment=spec.comment or None)

    def _to_proto(self) -> schedule_api.StructuredCalendarSpec:
        message = schedule_api.StructuredCalendarSpec(comment=self.comment or "")
        for name in _CALENDAR_FIELDS:
            getattr(message, name).extend(ScheduleRange._to_protos(getattr(self, name)))
        return message


@dataclass
class ScheduleIntervalSpec:
    """Times in equal distance: all multiples of `every` since the epoch, plus `offset`."""

    every: timedelta
    """The distance."""

    offset: timedelta | None = None
    """Less than `every`."""

    @staticmethod
    def _from_proto(spec: schedule_api.IntervalSpec) -> ScheduleIntervalSpec:
        return ScheduleIntervalSpec(
            every=spec.interval.ToTimedelta(), offset=optional_timedelta(spec, "phase")
        )

    def _to_proto(self) -> schedule_api.IntervalSpec:
        return schedule_api.IntervalSpec(interval=duration(self.every), phase=duration(self.offset or None))


@dataclass
class ScheduleSpec:
    """When a schedule acts: at the times of all calendars, intervals and cron expressions together, except `skip`."""

    calendars: Sequence[ScheduleCalendarSpec] = field(default_factory=list)
    """Times by calendar."""

    intervals: Sequence[ScheduleIntervalSpec] = field(default_factory=list)
    """Times in equal distances."""

    cron_expressions: Sequence[str] = field(default_factory=list)
    """Times by cron expression; a description shows them as calendars."""

    skip: Sequence[ScheduleCalendarSpec] = field(default_factory=list)
    """Times left out."""

    start_at: datetime | None = None
    """Nothing before this."""

    end_at: datetime | None = None
    """Nothing after this."""

    jitter: timedelta | None = None
    """Each time is moved by a random time up to this."""

    time_zone_name: str | None = None
    """Time zone of calendars and cron expressions, such as `Europe/Berlin`; None means UTC."""

    @staticmethod
    def _from_proto(spec: schedule_api.ScheduleSpec) -> ScheduleSpec:
        return ScheduleSpec(
            calendars=[ScheduleCalendarSpec._from_proto(c) for c in spec.structured_calendar],
            intervals=[ScheduleIntervalSpec._from_proto(i) for i in spec.interval],
            cron_expressions=spec.cron_string,
            skip=[ScheduleCalendarSpec._from_proto(c) for c in spec.exclude_structured_calendar],
            start_at=optional_utc(spec, "start_time"),
            end_at=optional_utc(spec, "end_time"),
            jitter=optional_timedelta(spec, "jitter"),
            time_zone_name=spec.timezone_name or None,
        )

    def _to_proto(self) -> schedule_api.ScheduleSpec:
        return schedule_api.ScheduleSpec(
            structured_calendar=[calendar._to_proto() for calendar in self.calendars],
            cron_string=self.cron_expressions,
            interval=[interval._to_proto() for interval in self.intervals],
            exclude_structured_calendar=[calendar._to_proto() for calendar in self.skip],
            start_time=timestamp(self.start_at),
            end_time=timestamp(self.end_at),
            jitter=duration(self.jitter or None),
            timezone_name=self.time_zone_name or "",
        )


class ScheduleOverlapPolicy(IntEnum):
    """What happens when a schedule would act while what it started before still runs."""

    SKIP = int(enums.SCHEDULE_OVERLAP_POLICY_SKIP)
    """Nothing."""
    BUFFER_ONE = int(enums.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE)
    """It acts once that is over; further times are left out."""
    BUFFER_ALL = int(enums.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL)
    """It acts for every time, one after the other."""
    CANCEL_OTHER = int(enums.SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER)
    """That is cancelled, and once it is over the schedule acts."""
    TERMINATE_OTHER = int(enums.SCHEDULE_OVERLAP_POLICY_TERMINATE_OTHER)
    """That is terminated, and the schedule acts."""
    ALLOW_ALL = int(enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL)
    """It acts all the same."""


@dataclass
class ScheduleBackfill:
    """Lets a schedule act for times in the past."""

    start_at: datetime
    """From here."""

    end_at: datetime
    """To here."""

    overlap: ScheduleOverlapPolicy | None = None
    """What happens while something runs; None means the schedule's own policy."""

    def _to_proto(self) -> schedule_api.BackfillRequest:
        return schedule_api.BackfillRequest(
            start_time=timestamp(self.start_at),
            end_time=timestamp(self.end_at),
            overlap_policy=enum_value(self.overlap),
        )


@dataclass
class SchedulePolicy:
    """How a schedule acts."""

    overlap: ScheduleOverlapPolicy = ScheduleOverlapPolicy.SKIP
    """What happens while something runs."""

    catchup_window: timedelta | None = None
    """Times missed longer ago than this are left out after an outage; None means the server's default."""

    pause_on_failure: bool = False
    """Pause once a workflow fails or times out."""

    @staticmethod
    def _from_proto(pol: schedule_api.SchedulePolicies) -> SchedulePolicy:
        return SchedulePolicy(
            overlap=ScheduleOverlapPolicy(int(pol.overlap_policy)),
            catchup_window=optional_timedelta(pol, "catchup_window"),
            pause_on_failure=pol.pause_on_failure,
        )

    def _to_proto(self) -> schedule_api.SchedulePolicies:
        return schedule_api.SchedulePolicies(
            overlap_policy=enum_value(self.overlap),
            catchup_window=duration(self.catchup_window),
            pause_on_failure=self.pause_on_failure,
        )


@dataclass
class ScheduleState:
    """In what state a schedule is."""

    note: str | None = None
    """A note for people; pausing and unpausing change it."""

    paused: bool = False
    """Whether it acts at its times."""

    limited_actions: bool = False
    """Whether `remaining_actions` counts."""

    remaining_actions: int = 0
    """How often it acts still, if that is limited."""

    @staticmethod
    def _from_proto(state: schedule_api.ScheduleState) -> ScheduleState:
        return ScheduleState(
            note=state.notes or None,
            paused=state.paused,
            limited_actions=state.limited_actions,
            remaining_actions=state.remaining_actions,
        )

    def _to_proto(self) -> schedule_api.ScheduleState:
        return schedule_api.ScheduleState(
            notes=self.note or "",
            paused=self.paused,
            limited_actions=self.limited_actions,
            remaining_actions=self.remaining_actions,
        )


@dataclass
class Schedule:
    """A schedule: what it does, when, and how."""

    action: ScheduleAction
    """What it does."""

    spec: ScheduleSpec
    """When."""

    policy: SchedulePolicy = field(default_factory=SchedulePolicy)
    """How."""

    state: ScheduleState = field(default_factory=ScheduleState)
    """Its state."""

    @staticmethod
    def _from_proto(sched: schedule_api.Schedule) -> Schedule:
        return Schedule(
            action=ScheduleAction._from_proto(sched.action),
            spec=ScheduleSpec._from_proto(sched.spec),
            policy=SchedulePolicy._from_proto(sched.policies),
            state=ScheduleState._from_proto(sched.state),
        )

    async def _to_proto(self, client: Client) -> schedule_api.Schedule:
        return schedule_api.Schedule(
            spec=self.spec._to_proto(),
            action=await self.action._to_proto(client),
            policies=self.policy._to_proto(),
            state=self.state._to_proto(),
        )
