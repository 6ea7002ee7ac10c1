"""What every machine can do, seen from the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure.api.command.v1 import Command
from perdure.api.history.v1 import HistoryEvent
from perdure.api.sdk.v1 import EventGroupMarker

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger


class Machine:
    """One thing that the code asked for.

    A machine has one command or more. Each waits in `Ledger.commands` as a pair (machine, event type that records it)
    until that event is seen; nothing is built on the way, so a replay makes no commands.

    Attributes:
        source: where the code asked ("file:line"), when known.
        dropped: taken back before its first command was sent: the command is not sent.
        can_be_absent: history need not have its command (patches, whose markers may be left out).
        markers: event groups that its commands belong to; None for no group.
        is_message: its commands carry protocol messages (updates).
    """

    __slots__ = ("dropped", "markers", "source")

    can_be_absent = False
    is_message = False

    def __init__(self, source: str | None) -> None:
        self.source = source
        self.markers: Sequence[EventGroupMarker] | None = None
        self.dropped = False

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        """History has the event that records the command of `kind`; raises NondeterminismError if it is another one."""

    def on_event(self, ledger: Ledger, event: HistoryEvent, event_type: int) -> None:
        """A later event refers to the event that recorded this machine's command."""

    def command(self, ledger: Ledger, kind: int) -> Command:
        """The wire command that is recorded by an event of type `kind`."""
        raise NotImplementedError

    def asked(self, kind: int) -> str:
        """What the code asked for, as one line that a person understands."""
        raise NotImplementedError
