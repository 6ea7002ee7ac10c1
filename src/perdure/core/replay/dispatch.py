"""Which machine takes which instruction: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from perdure.api.sdk.v1 import EventGroupMarker
from perdure.core.replay import instructions as asked
from perdure.core.replay.flags import CLOSES_LAST
from perdure.core.replay.instructions import Instruction
from perdure.core.replay.ledger import Ledger
from perdure.core.replay.machines import (
    activity,
    cancel_external,
    child_workflow,
    completion,
    local_activity,
    nexus,
    patch,
    properties,
    signal_external,
    timer,
    update,
)

CLOSING: Final = frozenset(
    {asked.CompleteWorkflow, asked.FailWorkflow, asked.CancelWorkflowExecution, asked.ContinueAsNew}
)

_TAKERS: Final[dict[type, Callable[[Ledger, Any], None]]] = {
    asked.StartTimer: timer.start_timer,
    asked.CancelTimer: timer.cancel_timer,
    asked.ScheduleActivity: activity.schedule_activity,
    asked.RequestCancelActivity: activity.request_cancel_activity,
    asked.ScheduleLocalActivity: local_activity.schedule_local_activity,
    asked.RequestCancelLocalActivity: local_activity.request_cancel_local_activity,
    asked.StartChildWorkflow: child_workflow.start_child_workflow,
    asked.CancelChildWorkflow: child_workflow.cancel_child_workflow,
    asked.SignalExternalWorkflow: signal_external.signal_external_workflow,
    asked.CancelSignalExternalWorkflow: signal_external.cancel_signal_external_workflow,
    asked.CancelExternalWorkflow: cancel_external.cancel_external_workflow,
    asked.ScheduleNexusOperation: nexus.schedule_nexus_operation,
    asked.CancelNexusOperation: nexus.cancel_nexus_operation,
    asked.SetPatch: patch.set_patch,
    asked.UpsertSearchAttributes: properties.upsert_search_attributes,
    asked.ModifyMemo: properties.modify_memo,
    asked.UpdateAccepted: update.update_accepted,
    asked.UpdateRejected: update.update_rejected,
    asked.UpdateCompleted: update.update_completed,
    asked.CompleteWorkflow: completion.close,
    asked.FailWorkflow: completion.close,
    asked.CancelWorkflowExecution: completion.close,
    asked.ContinueAsNew: completion.close,
}


def take(
    ledger: Ledger,
    instructions: Sequence[Instruction],
    markers: Mapping[int, Sequence[EventGroupMarker]] | None = None,
) -> None:
    """Hands each instruction to its machine; those that close the run come last, and only the first of them counts."""
    for instruction in instructions:
        if type(instruction) in CLOSING:
            instructions = _closing_last(ledger, instructions)
            break
    for instruction in instructions:
        taker = _TAKERS.get(type(instruction))
        if taker is not None:
            known = len(ledger.commands)
            taker(ledger, instruction)
            if markers and id(instruction) in markers:
                _mark(ledger, instruction, known, markers[id(instruction)])


def _mark(ledger: Ledger, instruction: Instruction, known: int, markers: Sequence[EventGroupMarker]) -> None:
    """Tells the machines that an instruction made to which event groups their commands belong."""
    for machine, _ in islice(ledger.commands, known, None):
        machine.markers = markers
    if isinstance(instruction, asked.ScheduleLocalActivity):
        local = ledger.local_activities.get(instruction.seq)  # its command comes with its result
        if local is not None:
            local.markers = markers


def _closing_last(ledger: Ledger, instructions: Sequence[Instruction]) -> Sequence[Instruction]:
    closing = [index for index, instruction in enumerate(instructions) if type(instruction) in CLOSING]
    if ledger.replaying and not ledger.flags.may_use(CLOSES_LAST, is_new=False):
        return instructions[: closing[0] + 1]  # as workers did that wrote histories without the flag
    others = [instruction for instruction in instructions if type(instruction) not in CLOSING]
    return [*others, instructions[closing[0]]]
