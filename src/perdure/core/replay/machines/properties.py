"""Search attributes and memo: commands that nothing answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.api.command.v1 import (
    Command,
    ModifyWorkflowPropertiesCommandAttributes,
    UpsertWorkflowSearchAttributesCommandAttributes,
)
from perdure.api.common.v1 import SearchAttributes
from perdure.api.enums.v1 import CommandType
from perdure.core.replay.events import PROPERTIES_MODIFIED, UPSERT_SEARCH_ATTRIBUTES
from perdure.core.replay.flags import UPSERTS_PATCHES
from perdure.core.replay.instructions import ModifyMemo, UpsertSearchAttributes
from perdure.core.replay.machines.base import Machine
from perdure.core.replay.markers import CHANGE_VERSION

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger


class UpsertMachine(Machine):
    """A change of search attributes, by the code or on behalf of a patch."""

    __slots__ = ("can_be_absent", "search_attributes")

    def __init__(
        self, search_attributes: SearchAttributes, source: str | None, for_patch: bool = False
    ) -> None:
        super().__init__(source)
        self.search_attributes = search_attributes
        self.can_be_absent = for_patch

    def command(self, ledger: Ledger, kind: int) -> Command:
        return Command(
            command_type=CommandType.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
            upsert_workflow_search_attributes_command_attributes=UpsertWorkflowSearchAttributesCommandAttributes(
                search_attributes=self.search_attributes
            ),
        )

    def asked(self, kind: int) -> str:
        return f"UpsertSearchAttributes({', '.join(sorted(self.search_attributes.indexed_fields))})"


class MemoMachine(Machine):
    """A change of the memo."""

    __slots__ = ("instruction",)

    def __init__(self, instruction: ModifyMemo) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction

    def command(self, ledger: Ledger, kind: int) -> Command:
        return Command(
            command_type=CommandType.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES,
            modify_workflow_properties_command_attributes=ModifyWorkflowPropertiesCommandAttributes(
                upserted_memo=self.instruction.upserted_memo
            ),
        )

    def asked(self, kind: int) -> str:
        return f"UpsertMemo({', '.join(sorted(self.instruction.upserted_memo.fields))})"


def upsert_search_attributes(ledger: Ledger, instruction: UpsertSearchAttributes) -> None:
    """The code changes search attributes."""
    changes = instruction.search_attributes
    ledger.upserted.update(changes.indexed_fields)
    if CHANGE_VERSION in changes.indexed_fields and ledger.flags.may_use(
        UPSERTS_PATCHES, not ledger.replaying
    ):
        # That attribute belongs to patches. The command stays, empty, for histories of code that tried it before.
        changes = SearchAttributes()
    ledger.commands.append((UpsertMachine(changes, instruction.source), UPSERT_SEARCH_ATTRIBUTES))


def modify_memo(ledger: Ledger, instruction: ModifyMemo) -> None:
    """The code changes the memo."""
    ledger.commands.append((MemoMachine(instruction), PROPERTIES_MODIFIED))
