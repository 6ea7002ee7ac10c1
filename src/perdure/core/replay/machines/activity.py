"""Activities on a task queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import Command, RequestCancelActivityTaskCommandAttributes
from perdure.api.common.v1 import ActivityType, Payloads
from perdure.api.enums.v1 import CommandType, RetryState
from perdure.api.failure.v1 import ActivityFailureInfo, CanceledFailureInfo, Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.activation import ResolveActivity
from perdure.core.replay.events import (
    ACTIVITY_TASK_CANCEL_REQUESTED,
    ACTIVITY_TASK_CANCELED,
    ACTIVITY_TASK_COMPLETED,
    ACTIVITY_TASK_FAILED,
    ACTIVITY_TASK_SCHEDULED,
    ACTIVITY_TASK_TIMED_OUT,
)
from perdure.core.replay.flags import COMPARES_IDS
from perdure.core.replay.instructions import ActivityCancellation, RequestCancelActivity, ScheduleActivity
from perdure.core.replay.machines.base import Machine

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

# Names of an enumeration are looked up by name each time.
_SCHEDULE: Final = CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK
_REQUEST_CANCEL: Final = CommandType.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK
_CREATED: Final = 0
_SCHEDULED: Final = 1
_CANCELLING: Final = 2
_RESOLVED: Final = 3


class ActivityMachine(Machine):
    """One activity.

    `_RESOLVED` means that the code has its answer; the activity itself may still run (try-cancel, abandon), and what
    history says of it then is of no interest.
    """

    __slots__ = ("instruction", "scheduled_event_id", "state")

    def __init__(self, instruction: ScheduleActivity) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction
        self.scheduled_event_id = 0
        self.state = _CREATED

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        if kind == ACTIVITY_TASK_SCHEDULED:
            attributes, own = event.activity_task_scheduled_event_attributes, self.instruction.attributes
            if (
                attributes.activity_id != own.activity_id
                or attributes.activity_type.name != own.activity_type.name
            ) and ledger.flags.may_use(COMPARES_IDS, ledger.is_last_task):
                raise ledger.differs(event, self, kind)
            self.state = _SCHEDULED
            self.scheduled_event_id = event.event_id
            ledger.by_event_id[event.event_id] = self
        elif (
            event.activity_task_cancel_requested_event_attributes.scheduled_event_id
            != self.scheduled_event_id
        ):
            raise ledger.differs(event, self, kind)

    def on_event(self, ledger: Ledger, event: HistoryEvent, event_type: int) -> None:
        del ledger.by_event_id[self.scheduled_event_id]
        if self.state == _RESOLVED:
            return
        seq = self.instruction.seq
        if event_type == ACTIVITY_TASK_COMPLETED:
            completed = event.activity_task_completed_event_attributes
            result = completed.result if completed.HasField("result") else None
            job = ResolveActivity(seq, result)
        elif event_type == ACTIVITY_TASK_FAILED:
            failed = event.activity_task_failed_event_attributes
            job = ResolveActivity(
                seq,
                failure=self._failure(
                    "Activity task failed",
                    failed.failure,
                    failed.retry_state,
                    failed.started_event_id,
                    failed.identity,
                ),
            )
        elif event_type == ACTIVITY_TASK_TIMED_OUT:
            timed_out = event.activity_task_timed_out_event_attributes
            job = ResolveActivity(
                seq,
                failure=self._failure(
                    "Activity task timed out",
                    timed_out.failure,
                    timed_out.retry_state,
                    timed_out.started_event_id,
                ),
            )
        elif event_type == ACTIVITY_TASK_CANCELED:
            canceled = event.activity_task_canceled_event_attributes
            details = canceled.details if canceled.HasField("details") else None
            job = self._canceled(details, canceled.started_event_id, canceled.identity)
        else:
            raise ledger.unexpected(event, self, ACTIVITY_TASK_SCHEDULED)
        self._resolve(ledger, job)

    def cancel(self, ledger: Ledger) -> None:
        """The code asks for cancellation."""
        if self.state == _CREATED:
            self.dropped = True
            self._resolve(ledger, self._canceled())
        elif self.state == _SCHEDULED:
            cancellation = self.instruction.cancellation
            if cancellation != ActivityCancellation.ABANDON:
                self.state = _CANCELLING
                ledger.commands.append((self, ACTIVITY_TASK_CANCEL_REQUESTED))
            if cancellation != ActivityCancellation.WAIT_CANCELLATION_COMPLETED:
                self._resolve(ledger, self._canceled())

    def _resolve(self, ledger: Ledger, job: ResolveActivity) -> None:
        self.state = _RESOLVED
        ledger.activities.pop(self.instruction.seq, None)
        ledger.jobs.append(job)

    def _canceled(
        self, details: Payloads | None = None, started_event_id: int = 0, identity: str = ""
    ) -> ResolveActivity:
        cause = Failure(canceled_failure_info=CanceledFailureInfo(details=details))
        retry_state = RetryState.RETRY_STATE_CANCEL_REQUESTED
        failure = self._failure("Activity cancelled", cause, retry_state, started_event_id, identity)
        return ResolveActivity(self.instruction.seq, failure=failure, is_canceled=True)

    def _failure(
        self,
        message: str,
        cause: Failure,
        retry_state: RetryState.ValueType,
        started_event_id: int,
        identity: str = "",
    ) -> Failure:
        own = self.instruction.attributes
        return Failure(
            message=message,
            cause=cause,
            activity_failure_info=ActivityFailureInfo(
                scheduled_event_id=self.scheduled_event_id,
                started_event_id=started_event_id,
                identity=identity,
                activity_type=ActivityType(name=own.activity_type.name),
                activity_id=own.activity_id,
                retry_state=retry_state,
            ),
        )

    def command(self, ledger: Ledger, kind: int) -> Command:
        if kind == ACTIVITY_TASK_CANCEL_REQUESTED:
            return Command(
                command_type=_REQUEST_CANCEL,
                request_cancel_activity_task_command_attributes=RequestCancelActivityTaskCommandAttributes(
                    scheduled_event_id=self.scheduled_event_id
                ),
            )
        return Command(
            command_type=_SCHEDULE,
            schedule_activity_task_command_attributes=self.instruction.attributes,
            user_metadata=self.instruction.metadata,
        )

    def asked(self, kind: int) -> str:
        own = self.instruction.attributes
        verb = "ScheduleActivity" if kind == ACTIVITY_TASK_SCHEDULED else "RequestCancelActivity"
        return f"{verb}(activity_type {own.activity_type.name!r}, activity_id {own.activity_id!r})"


def schedule_activity(ledger: Ledger, instruction: ScheduleActivity) -> None:
    """The code schedules an activity."""
    machine = ledger.activities[instruction.seq] = ActivityMachine(instruction)
    ledger.commands.append((machine, ACTIVITY_TASK_SCHEDULED))


def request_cancel_activity(ledger: Ledger, instruction: RequestCancelActivity) -> None:
    """The code cancels an activity; one that has ended is left alone."""
    machine = ledger.activities.get(instruction.seq)
    if machine is not None:
        machine.cancel(ledger)
