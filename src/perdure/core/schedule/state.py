"""The state of a schedule: what its users set, what it has done, what it has yet to do; and its encoding as JSON.

Only plain data here; `machine` decides what changes. Decoding is strict, as that of runs is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from perdure.api.common.v1 import Memo, Payloads, SearchAttributes
from perdure.api.enums.v1 import ScheduleOverlapPolicy
from perdure.api.failure.v1 import Failure
from perdure.api.schedule.v1 import Schedule, ScheduleInfo
from perdure.core.schedule.spec import CompiledSpec, compile_spec

ALLOW_ALL = ScheduleOverlapPolicy.Value("SCHEDULE_OVERLAP_POLICY_ALLOW_ALL")
FIRST_TOKEN = 1


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A workflow to start.

    Attributes:
        sequence: counts the starts of a schedule; its request id follows from it.
        nominal_ns, time_ns: when it is due by the specification, and with jitter.
        overlap: the policy that whoever asked for it wants; 0 for the schedule's own.
        is_manual: triggered or backfilled: pauses, limits and the catch-up window do not count.
        overlaps: started beside others; nothing waits for it.
    """

    sequence: int
    nominal_ns: int
    time_ns: int
    overlap: int = 0
    is_manual: bool = False
    overlaps: bool = False


class Backfill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A range of times whose actions are still to be taken: after `after_ns`, up to and including `end_ns`."""

    after_ns: int
    end_ns: int
    overlap: int = 0


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A running workflow to cancel or to terminate; `done` once it was asked, until it closes."""

    workflow_id: str
    run_id: str
    terminate: bool = False
    done: bool = False


class _Document(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What is stored."""

    incarnation: str
    request_id: str
    namespace: str
    schedule: bytes
    info: bytes
    memo: bytes = b""
    search_attributes: bytes = b""
    conflict_token: int = FIRST_TOKEN
    processed_ns: int = 0
    next_sequence: int = 1
    buffer: list[Start] = []
    backfills: list[Backfill] = []
    starting: list[Start] = []
    ending: list[Ending] = []
    last_result: bytes | None = None
    last_failure: bytes | None = None
    backfilled_ns: int = 0
    request_ids: list[str] = []


_DECODER = msgspec.json.Decoder(_Document)


@dataclass(slots=True)
class ScheduleState:
    """A schedule.

    Attributes:
        namespace_id, namespace, schedule_id: where it is and its name.
        incarnation: tells it from others that had its name before.
        request_id: of the request that created it.
        schedule: as its users set it, in canonical form, with defaults filled in.
        info: what it has done.
        memo, search_attributes: its users' own.
        conflict_token: counts changes of `schedule`.
        processed_ns: actions up to then have been taken or passed over.
        next_sequence: of the next start.
        buffer: starts that wait for running workflows, or were not looked at yet.
        backfills: ranges to be worked off.
        starting: what is to be started now.
        ending: workflows that are to end, or were asked to and have not closed yet.
        last_result, last_failure: what the next run is told of those before.
        backfilled_ns: when actions of backfills were taken last.
        request_ids: of the newest requests that changed it; one that comes again does nothing.
    """

    namespace_id: str
    namespace: str
    schedule_id: str
    incarnation: str
    request_id: str
    schedule: Schedule
    info: ScheduleInfo
    memo: Memo = field(default_factory=Memo)
    search_attributes: SearchAttributes = field(default_factory=SearchAttributes)
    conflict_token: int = FIRST_TOKEN
    processed_ns: int = 0
    next_sequence: int = 1
    buffer: list[Start] = field(default_factory=list)
    backfills: list[Backfill] = field(default_factory=list)
    starting: list[Start] = field(default_factory=list)
    ending: list[Ending] = field(default_factory=list)
    last_result: Payloads | None = None
    last_failure: Failure | None = None
    backfilled_ns: int = 0
    request_ids: list[str] = field(default_factory=list)
    _spec: CompiledSpec | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def spec(self) -> CompiledSpec:
        """When it acts."""
        if self._spec is None:
            spec = self.schedule.spec
            # Only jitter asks for the seed: without it, schedules that are due at the same times share one.
            seed = f"{self.namespace_id}-{self.schedule_id}" if spec.HasField("jitter") else ""
            self._spec = compile_spec(spec.SerializeToString(deterministic=True), seed)
        return self._spec

    def set_schedule(self, schedule: Schedule) -> None:
        """Replaces what its users set."""
        self.schedule, self._spec = schedule, None

    def own_schedule(self) -> Schedule:
        """What its users set, to be changed in its `state`: a copy, because states of one schedule share it."""
        own = Schedule()
        own.CopyFrom(self.schedule)
        self.schedule = own
        return own

    def own_info(self) -> ScheduleInfo:
        """What it has done, to be changed: a copy, because states of one schedule share it."""
        own = ScheduleInfo()
        own.CopyFrom(self.info)
        self.info = own
        return own

    def copy(self) -> ScheduleState:
        """A copy that shares only what is replaced as a whole and never changed."""
        copied = ScheduleState(
            self.namespace_id,
            self.namespace,
            self.schedule_id,
            self.incarnation,
            self.request_id,
            self.schedule,
            self.info,
            self.memo,
            self.search_attributes,
            self.conflict_token,
            self.processed_ns,
            self.next_sequence,
            list(self.buffer),
            list(self.backfills),
            list(self.starting),
            list(self.ending),
            self.last_result,
            self.last_failure,
            self.backfilled_ns,
            list(self.request_ids),
        )
        copied._spec = self._spec
        return copied

    def encode(self) -> bytes:
        """As it is stored."""
        result, failure = self.last_result, self.last_failure
        return msgspec.json.encode(
            _Document(
                self.incarnation,
                self.request_id,
                self.namespace,
                self.schedule.SerializeToString(),
                self.info.SerializeToString(),
                self.memo.SerializeToString(),
                self.search_attributes.SerializeToString(),
                self.conflict_token,
                self.processed_ns,
                self.next_sequence,
                self.buffer,
                self.backfills,
                self.starting,
                self.ending,
                None if result is None else result.SerializeToString(),
                None if failure is None else failure.SerializeToString(),
                self.backfilled_ns,
                self.request_ids,
            )
        )


def decode(namespace_id: str, schedule_id: str, data: bytes) -> ScheduleState:
    """A schedule from what was stored of it."""
    found = _DECODER.decode(data)
    return ScheduleState(
        namespace_id,
        found.namespace,
        schedule_id,
        found.incarnation,
        found.request_id,
        Schedule.FromString(found.schedule),
        ScheduleInfo.FromString(found.info),
        Memo.FromString(found.memo),
        SearchAttributes.FromString(found.search_attributes),
        found.conflict_token,
        found.processed_ns,
        found.next_sequence,
        found.buffer,
        found.backfills,
        found.starting,
        found.ending,
        None if found.last_result is None else Payloads.FromString(found.last_result),
        None if found.last_failure is None else Failure.FromString(found.last_failure),
        found.backfilled_ns,
        found.request_ids,
    )
