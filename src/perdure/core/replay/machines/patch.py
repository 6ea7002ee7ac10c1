"""Patches: a marker, and on new histories the search attribute TemporalChangeVersion with all ids so far.

| history                      | code            | outcome                                            |
| marker                       | no patched call | NondeterminismError                                |
| marker of a deprecated patch | no patched call | marker skipped                                     |
| no marker                    | patched         | the call returned False, no instruction came       |
| marker                       | either call     | they match                                         |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import Command, RecordMarkerCommandAttributes
from perdure.api.common.v1 import SearchAttributes
from perdure.api.enums.v1 import CommandType
from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.events import MARKER_RECORDED, UPSERT_SEARCH_ATTRIBUTES
from perdure.core.replay.flags import UPSERTS_PATCHES
from perdure.core.replay.instructions import SetPatch
from perdure.core.replay.machines.base import Machine
from perdure.core.replay.machines.properties import UpsertMachine
from perdure.core.replay.markers import CHANGE_VERSION, PATCH_MARKER, json_payload, patch_details, read_patch

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

_SEARCH_ATTRIBUTE_LIMIT: Final = 2048


class PatchMachine(Machine):
    """The marker of one patch."""

    __slots__ = ("instruction",)

    can_be_absent = True

    def __init__(self, instruction: SetPatch) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        if read_patch(event.marker_recorded_event_attributes)[0] != self.instruction.patch_id:
            raise ledger.differs(event, self, kind)

    def command(self, ledger: Ledger, kind: int) -> Command:
        details = patch_details(self.instruction.patch_id, self.instruction.is_deprecated)
        return Command(
            command_type=CommandType.COMMAND_TYPE_RECORD_MARKER,
            record_marker_command_attributes=RecordMarkerCommandAttributes(
                marker_name=PATCH_MARKER, details=details
            ),
        )

    def asked(self, kind: int) -> str:
        call = "deprecate_patch" if self.instruction.is_deprecated else "patched"
        return f"workflow.{call}({self.instruction.patch_id!r})"


def set_patch(ledger: Ledger, instruction: SetPatch) -> None:
    """The code called `patched` or `deprecate_patch` for the first time with this id."""
    patch_id, patches = instruction.patch_id, ledger.patches
    if patches.get(patch_id):
        return
    is_in_history = patch_id in patches
    ledger.commands.append((PatchMachine(instruction), MARKER_RECORDED))
    asked_before = [known for known, asked in patches.items() if asked]
    patches[patch_id] = True
    if ledger.replaying and not is_in_history:
        return
    if not ledger.flags.may_use(UPSERTS_PATCHES, not ledger.replaying):
        return
    versions = json_payload(sorted({patch_id, *asked_before}))
    if len(versions.data) >= _SEARCH_ATTRIBUTE_LIMIT:
        return
    versions.metadata["type"] = b"KeywordList"
    attributes = SearchAttributes(indexed_fields={CHANGE_VERSION: versions})
    machine = UpsertMachine(attributes, instruction.source, for_patch=True)
    ledger.commands.append((machine, UPSERT_SEARCH_ATTRIBUTES))
