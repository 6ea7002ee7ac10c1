"""What can go wrong between history and code. Messages are written for the person who changed the workflow."""

from __future__ import annotations

from perdure.core.errors import PerdureError


class HistoryError(PerdureError):
    """The events are no workflow history: a wrong first event, a gap, an event that nothing in history started."""


class NondeterminismError(PerdureError):
    """The code asked for something else than what history recorded."""
