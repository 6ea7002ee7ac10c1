"""Overlap policies: which of the waiting starts begin now, which wait on, and what that means for those that run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perdure.api.enums.v1 import ScheduleOverlapPolicy
from perdure.core.schedule.state import ALLOW_ALL, Start

SKIP = ScheduleOverlapPolicy.Value("SCHEDULE_OVERLAP_POLICY_SKIP")
BUFFER_ONE = ScheduleOverlapPolicy.Value("SCHEDULE_OVERLAP_POLICY_BUFFER_ONE")
BUFFER_ALL = ScheduleOverlapPolicy.Value("SCHEDULE_OVERLAP_POLICY_BUFFER_ALL")
CANCEL_OTHER = ScheduleOverlapPolicy.Value("SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER")
TERMINATE_OTHER = ScheduleOverlapPolicy.Value("SCHEDULE_OVERLAP_POLICY_TERMINATE_OTHER")


@dataclass(slots=True)
class Decision:
    """What becomes of waiting starts.

    Attributes:
        beside: those that begin whatever runs.
        alone: the one that begins because nothing else runs.
        waiting: those that wait on, in their order.
        skipped: how many will never begin.
        cancel, terminate: what runs is to be ended that way.
    """

    beside: list[Start] = field(default_factory=list)
    alone: Start | None = None
    waiting: list[Start] = field(default_factory=list)
    skipped: int = 0
    cancel: bool = False
    terminate: bool = False


def decide(buffer: Sequence[Start], default: int, is_running: bool) -> Decision:
    """Applies overlap policies to waiting starts.

    Args:
        buffer: the starts, oldest first.
        default: the schedule's policy, for starts without one of their own.
        is_running: whether a workflow runs that the schedule started, other than beside others.
    """
    result = Decision()
    for start in buffer:
        policy = start.overlap or default or SKIP
        if policy == ALLOW_ALL:
            result.beside.append(start)
        elif not is_running and result.alone is None:
            result.alone = start
        elif policy == BUFFER_ALL or (policy == BUFFER_ONE and not result.waiting):
            result.waiting.append(start)
        elif policy in (CANCEL_OTHER, TERMINATE_OTHER):
            if is_running:
                result.cancel |= policy == CANCEL_OTHER
                result.terminate |= policy == TERMINATE_OTHER
                result.waiting.append(start)
            else:
                result.alone = start  # what it would have ended has not begun yet
        else:
            result.skipped += 1
    if result.cancel or result.terminate:
        result.beside.clear()  # they would be ended at once
    return result
