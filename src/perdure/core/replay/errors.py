"""What can go wrong between history and code. Messages are written for the person who changed the workflow."""

from __future__ import annotations

from perdure.core.errors import PerdureError

CODE = "[TMPRL1100]"
"""The public code of a non-determinism error; people search for it."""

HINT = (
    "The code went another way than when this history was written. Usual causes: the workflow was changed while it "
    "ran (put the change behind workflow.patched), or it decides by something that differs between two runs (the wall "
    "clock, random numbers, the environment, the order of a set)."
)


class HistoryError(PerdureError):
    """The events are no workflow history: a wrong first event, a gap, an event that nothing in history started."""


class NondeterminismError(PerdureError):
    """The code asked for something else than what history recorded; `str(error)` shows both side by side.

    Attributes:
        event_id: the first event that differs.
        recorded: what history has there.
        asked: what the code asked for instead.
        source: where in the code ("file:line"), when known.
    """

    def __init__(
        self, event_id: int, recorded: str, asked: str, source: str | None = None, hint: str = HINT
    ) -> None:
        self.event_id = event_id
        self.recorded = recorded
        self.asked = asked
        self.source = source
        where = f" at {source}" if source else ""
        super().__init__(
            f"{CODE} Nondeterminism error: workflow code and history differ at event {event_id}.\n"
            f"  history recorded: {recorded}\n"
            f"  the code asked for: {asked}{where}\n"
            f"{hint}"
        )
