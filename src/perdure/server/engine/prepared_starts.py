"""The start requests of schedules, checked and filled in: prepared for the first action, reused for those that follow.

A bounded cache of what would come out again. May not be here: what is checked, and what tells one action from another.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.schedule import messages
from perdure.core.schedule.state import ScheduleState
from perdure.server.namespaces import Namespace
from perdure.store.protocol import ScheduleKey

CAPACITY: Final = 20_000
"""Schedules whose request is kept, least recently used out first."""
MAX_BYTES: Final = 2_048
"""A larger request is not kept: most of its cost is its size."""


class _Basis(NamedTuple):
    """All that the outcome of checking a schedule's request follows from, beside what the process was started with."""

    incarnation: str
    conflict_token: int
    namespace_version: int


class PreparedStarts:
    """What the checked requests of each schedule's actions have in common."""

    def __init__(self) -> None:
        self._kept: OrderedDict[ScheduleKey, tuple[_Basis, bytes]] = OrderedDict()

    def get(self, state: ScheduleState, namespace: Namespace) -> bytes | None:
        """The shared part of the schedule's requests, see `messages.renewed_request`; None if it is not known."""
        key = _key(state)
        found = self._kept.get(key)
        if found is None or found[0] != _basis(state, namespace):
            return None
        self._kept.move_to_end(key)
        return found[1]

    def keep(
        self, state: ScheduleState, namespace: Namespace, request: StartWorkflowExecutionRequest
    ) -> None:
        """Keeps what a checked request of the schedule has in common with those that follow."""
        if request.HasField("versioning_override"):
            return  # whether there is such a version may change at any time
        shared = messages.shared_part(request)
        if len(shared) > MAX_BYTES:
            return
        self._kept[_key(state)] = (_basis(state, namespace), shared)
        if len(self._kept) > CAPACITY:
            self._kept.popitem(last=False)

    def forget(self, key: ScheduleKey) -> None:
        """The schedule was deleted."""
        self._kept.pop(key, None)


def _key(state: ScheduleState) -> ScheduleKey:
    return ScheduleKey(state.namespace_id, state.schedule_id)


def _basis(state: ScheduleState, namespace: Namespace) -> _Basis:
    return _Basis(state.incarnation, state.conflict_token, namespace.version)
