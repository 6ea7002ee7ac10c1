"""When telemetry of workflow code counts, and the room it needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import perdure.workflow


def is_replay() -> bool:
    """Tell whether workflow code runs that has run before; queries and validators are news even then."""
    return perdure.workflow.in_workflow() and perdure.workflow.unsafe.is_replaying_history_events()


def outside_guards() -> AbstractContextManager[None]:
    """Lift the guards of workflow code: telemetry reads the clock and writes to files and sockets."""
    if perdure.workflow.in_workflow():
        return perdure.workflow.unsafe.sandbox_unrestricted()
    return nullcontext()
