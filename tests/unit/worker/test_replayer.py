"""Replaying what is no whole history: it is named, and does not keep the others from being replayed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from perdure import workflow
from perdure.api.history.v1 import HistoryEvent
from perdure.client import WorkflowHistory
from perdure.worker import Replayer


@workflow.defn
class Empty:
    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("events", [[], [HistoryEvent(event_id=2)]], ids=["empty", "without its start"])
def test_a_history_without_its_start_says_so(events: list[HistoryEvent]) -> None:
    """It names no run, so that its failure goes by the workflow's id."""

    async def histories() -> AsyncIterator[WorkflowHistory]:
        yield WorkflowHistory("first", events)
        yield WorkflowHistory("second", events)

    results = asyncio.run(
        Replayer(workflows=[Empty]).replay_workflows(histories(), raise_on_replay_failure=False)
    )
    assert list(results.replay_failures) == ["first", "second"]
    for failure in results.replay_failures.values():
        assert "does not begin with the start of a workflow: save it again" in str(failure)
