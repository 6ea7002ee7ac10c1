"""Local activities: executed in this worker, recorded as a marker, and known ahead from that marker on replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import Command, RecordMarkerCommandAttributes
from perdure.api.common.v1 import ActivityType
from perdure.api.enums.v1 import CommandType, RetryState
from perdure.api.failure.v1 import ActivityFailureInfo, CanceledFailureInfo, Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.activation import ResolveActivity
from perdure.core.replay.errors import NondeterminismError
from perdure.core.replay.events import MARKER_RECORDED
from perdure.core.replay.flags import COMPARES_IDS
from perdure.core.replay.instructions import (
    ActivityCancellation,
    RequestCancelLocalActivity,
    ScheduleLocalActivity,
)
from perdure.core.replay.machines.base import Machine
from perdure.core.replay.markers import (
    LOCAL_ACTIVITY_MARKER,
    LocalActivityMarker,
    local_activity_details,
    read_local_activity,
)
from perdure.core.replay.steps import LocalActivity, LocalActivityOutcome

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

_REQUESTED: Final = 0
"""Queued or running in this worker."""
_WAITS_FOR_MARKER: Final = 1
"""Asked for on replay; history is expected to have its marker."""
_RESOLVED_AHEAD: Final = 2
"""Asked for on replay, its marker was already seen ahead."""
_RESOLVED: Final = 3
"""Resolved in this worker; its marker is a command."""
_RECORDED: Final = 4

_SECOND_NS: Final = 1_000_000_000


class LocalActivityMachine(Machine):
    """One local activity.

    Attributes:
        schedule_time_ns: workflow time when the code asked for it.
        was_replayed: it was asked for on replay, so this worker writes no marker.
    """

    __slots__ = ("instruction", "is_told", "marker", "schedule_time_ns", "state", "was_replayed")

    def __init__(self, instruction: ScheduleLocalActivity, schedule_time_ns: int, is_replaying: bool) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction
        self.schedule_time_ns = schedule_time_ns
        self.was_replayed = is_replaying
        self.is_told = False
        self.state = _WAITS_FOR_MARKER if is_replaying else _REQUESTED
        self.marker: LocalActivityMarker | None = None

    @property
    def original_schedule_time_ns(self) -> int:
        return self.instruction.original_schedule_time_ns or self.schedule_time_ns

    def work(self) -> LocalActivity:
        """What the worker has to execute."""
        instruction = self.instruction
        return LocalActivity(
            instruction.seq,
            instruction.attributes,
            max(instruction.attempt, 1),
            self.schedule_time_ns,
            self.original_schedule_time_ns,
            instruction.local_retry_threshold_s,
        )

    def resolve(self, ledger: Ledger, marker: LocalActivityMarker, is_canceled: bool) -> None:
        """The code gets its answer; a marker is written unless history has it."""
        self.is_told = True
        self.marker = marker
        if not self.was_replayed:
            marker.activation_index = ledger.activation_index
        ledger.local_jobs.append(self._job(marker, is_canceled))
        if marker.complete_time_ns is not None:
            ledger.local_time_ns = max(ledger.local_time_ns, marker.complete_time_ns)
        if not self.was_replayed:
            self.state = _RESOLVED
            ledger.commands.append((self, MARKER_RECORDED))

    def _job(self, marker: LocalActivityMarker, is_canceled: bool) -> ResolveActivity:
        seq = self.instruction.seq
        if marker.backoff_ns is not None:
            return ResolveActivity(
                seq,
                backoff_s=marker.backoff_ns / _SECOND_NS,
                attempt=marker.attempt + 1,
                original_schedule_time_ns=marker.original_schedule_time_ns or self.original_schedule_time_ns,
            )
        failure = marker.failure
        if failure is None:
            return ResolveActivity(seq, marker.result)
        if failure.HasField("timeout_failure_info"):
            failure = self._wrap("Local Activity timed out", failure)
        elif failure.HasField("canceled_failure_info"):
            failure = self._wrap("Local Activity cancelled", failure)
        return ResolveActivity(seq, failure=failure, is_canceled=is_canceled)

    def _wrap(self, message: str, cause: Failure) -> Failure:
        own = self.instruction.attributes
        return Failure(
            message=message,
            cause=cause,
            activity_failure_info=ActivityFailureInfo(
                activity_type=ActivityType(name=own.activity_type.name),
                activity_id=own.activity_id,
                retry_state=RetryState.RETRY_STATE_CANCEL_REQUESTED,
            ),
        )

    def new_marker(self, attempt: int, complete_time_ns: int | None) -> LocalActivityMarker:
        """A marker without an outcome."""
        own = self.instruction
        return LocalActivityMarker(
            own.seq,
            attempt,
            own.attributes.activity_id,
            own.attributes.activity_type.name,
            complete_time_ns,
            None,
            self.original_schedule_time_ns,
        )

    def resolve_canceled(self, ledger: Ledger) -> None:
        """Ends it for the code without waiting for what becomes of it."""
        marker = self.new_marker(max(self.instruction.attempt, 1), None)
        marker.failure = Failure(message="Activity cancelled", canceled_failure_info=CanceledFailureInfo())
        self.resolve(ledger, marker, is_canceled=True)

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        attributes = event.marker_recorded_event_attributes
        if attributes.marker_name != LOCAL_ACTIVITY_MARKER:
            raise ledger.differs(event, self, kind)
        self.seen(ledger, event, read_local_activity(attributes))

    def seen(self, ledger: Ledger, event: HistoryEvent, marker: LocalActivityMarker) -> None:
        """Its marker is in history at its place."""
        own = self.instruction
        is_same = (
            marker.activity_id == own.attributes.activity_id
            and marker.activity_type == own.attributes.activity_type.name
        )
        if marker.seq != own.seq or (
            not is_same and ledger.flags.may_use(COMPARES_IDS, not self.was_replayed)
        ):
            raise NondeterminismError(
                event.event_id, _recorded(marker), self.asked(MARKER_RECORDED), self.source
            )
        if not self.is_told:
            self.resolve(ledger, marker, _is_canceled(marker))
        self.state = _RECORDED
        ledger.local_activities.pop(own.seq, None)

    def cancel(self, ledger: Ledger) -> None:
        """The code asks for cancellation."""
        cancellation, seq = self.instruction.cancellation, self.instruction.seq
        if self.state == _WAITS_FOR_MARKER:
            known = ledger.local_markers.pop(seq, None)
            if known is not None:
                self.resolve(ledger, known, _is_canceled(known))
        elif self.state == _REQUESTED:
            if cancellation == ActivityCancellation.ABANDON:
                self.resolve_canceled(ledger)
                _forget(ledger, seq)
            elif seq in ledger.local_queue:
                ledger.local_queue.remove(seq)
                self.resolve_canceled(ledger)
            else:
                ledger.local_cancels.append(seq)
                if cancellation == ActivityCancellation.TRY_CANCEL:
                    self.resolve_canceled(ledger)

    def command(self, ledger: Ledger, kind: int) -> Command:
        marker = self.marker or self.new_marker(1, None)
        return Command(
            command_type=CommandType.COMMAND_TYPE_RECORD_MARKER,
            record_marker_command_attributes=RecordMarkerCommandAttributes(
                marker_name=LOCAL_ACTIVITY_MARKER,
                details=local_activity_details(marker),
                failure=marker.failure,
            ),
            user_metadata=self.instruction.metadata,
        )

    def asked(self, kind: int) -> str:
        own = self.instruction.attributes
        return f"ScheduleLocalActivity(activity_type {own.activity_type.name!r}, activity_id {own.activity_id!r})"


def _recorded(marker: LocalActivityMarker) -> str:
    return f"local activity (activity_type {marker.activity_type!r}, activity_id {marker.activity_id!r})"


def _is_canceled(marker: LocalActivityMarker) -> bool:
    failure = marker.failure
    if failure is None:
        return False
    return failure.HasField("canceled_failure_info") or failure.cause.HasField("canceled_failure_info")


def _forget(ledger: Ledger, seq: int) -> None:
    """It is waited for no more, whether it runs or not."""
    if seq in ledger.local_queue:
        ledger.local_queue.remove(seq)
    elif seq in ledger.local_running:
        ledger.local_running.remove(seq)
        ledger.local_abandoned.add(seq)


def schedule_local_activity(ledger: Ledger, instruction: ScheduleLocalActivity) -> None:
    """The code asks for a local activity."""
    machine = LocalActivityMachine(instruction, ledger.now_ns, ledger.replaying)
    ledger.local_activities[instruction.seq] = machine
    ledger.has_local_activities = True
    known = ledger.local_markers.pop(instruction.seq, None)
    if known is not None:
        machine.state = _RESOLVED_AHEAD
        machine.was_replayed = True
        machine.resolve(ledger, known, _is_canceled(known))
    elif machine.state == _REQUESTED:
        ledger.local_queue.append(instruction.seq)


def request_cancel_local_activity(ledger: Ledger, instruction: RequestCancelLocalActivity) -> None:
    """The code cancels a local activity; one that has ended is left alone."""
    machine = ledger.local_activities.get(instruction.seq)
    if machine is not None:
        machine.cancel(ledger)


def run_unresolved(ledger: Ledger) -> None:
    """Replay is over: local activities whose marker did not come are executed here."""
    for seq, machine in ledger.local_activities.items():
        if machine.state == _WAITS_FOR_MARKER and not machine.is_told:
            machine.state = _REQUESTED
            machine.was_replayed = False
            ledger.local_queue.append(seq)


def first_unrecorded(ledger: Ledger) -> LocalActivityMachine | None:
    """The first local activity that was asked for on replay and whose marker did not come."""
    for machine in ledger.local_activities.values():
        if machine.state == _WAITS_FOR_MARKER and not machine.is_told:
            return machine
    return None


def known_from_history(ledger: Ledger, marker: LocalActivityMarker) -> None:
    """A marker was seen ahead: it resolves the local activity that waits for it, or the one to be asked for."""
    if marker.activation_index is not None:
        ledger.local_due.append(marker)
        return
    ledger.local_places[marker.seq] = len(ledger.local_places)
    machine = ledger.local_activities.get(marker.seq)
    if machine is None:
        ledger.local_markers[marker.seq] = marker
    elif machine.state == _WAITS_FOR_MARKER:
        if not machine.is_told:
            machine.resolve(ledger, marker, _is_canceled(marker))


def tell_due(ledger: Ledger) -> None:
    """Adds to the next activation the outcomes that history says were told in it.

    When nothing else is left to tell, the next activation is that of the next outcome whatever its number: what was
    told before may have left no trace in history (a rejected update).
    """
    due, last_index = ledger.local_due, ledger.activation_index
    if not (ledger.jobs or ledger.local_jobs):
        last_index = max(last_index, due[0].activation_index or 0)
    while due and (due[0].activation_index or 0) <= last_index:
        marker = due.popleft()
        machine = ledger.local_activities.get(marker.seq)
        if machine is not None and machine.state == _WAITS_FOR_MARKER and not machine.is_told:
            machine.resolve(ledger, marker, _is_canceled(marker))


def recorded_out_of_order(ledger: Ledger, event: HistoryEvent, marker: LocalActivityMarker) -> bool:
    """A marker that was not written by this worker stands for itself; False: it is this worker's next command.

    Raises: NondeterminismError when the code did not ask for it.
    """
    machine = ledger.local_activities.get(marker.seq)
    if machine is None:
        front = ledger.front()
        asked = "no local activity with that number" if front is None else front[0].asked(front[1])
        raise NondeterminismError(
            event.event_id, _recorded(marker), asked, front[0].source if front else None
        )
    if machine.state == _RESOLVED:
        return False
    machine.seen(ledger, event, marker)
    return True


def resolved(ledger: Ledger, seq: int, outcome: LocalActivityOutcome) -> bool:
    """The worker executed it.

    Returns: False when the code does not wait for it any more.
    """
    ledger.local_running.discard(seq)
    ledger.local_abandoned.discard(seq)
    machine = ledger.local_activities.get(seq)
    if machine is None or machine.state != _REQUESTED:
        return False
    marker = machine.new_marker(outcome.attempt, machine.schedule_time_ns + outcome.elapsed_ns)
    marker.original_schedule_time_ns = outcome.original_schedule_time_ns or machine.original_schedule_time_ns
    marker.result, marker.failure = outcome.result, outcome.failure
    if outcome.backoff_s is not None:
        marker.backoff_ns = round(outcome.backoff_s * _SECOND_NS)
    if outcome.is_canceled and outcome.failure is None:
        marker.failure = Failure(message="Activity cancelled", canceled_failure_info=CanceledFailureInfo())
    machine.resolve(ledger, marker, outcome.is_canceled)
    return True
