"""Replaying what is not all there: what is missing is named, and does not keep others from being replayed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from perdure import workflow
from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.client import WorkflowHistory
from perdure.converter import DataConverter, ExternalStorage
from perdure.worker import Replayer
from perdure.worker._replayer import ReplayFailedError
from tests.unit.sdk_data.drivers import MemoryDriver


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


def test_a_stored_payload_that_is_gone_is_named_with_its_driver() -> None:
    """The driver's own error is a bare key."""

    def converter() -> DataConverter:
        return DataConverter(external_storage=ExternalStorage([MemoryDriver()], payload_size_threshold=0))

    started = HistoryEvent(event_id=1, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    attributes = started.workflow_execution_started_event_attributes
    attributes.workflow_type.name = "Empty"
    attributes.input.payloads.extend(asyncio.run(converter().encode(["large"])))
    replayer = Replayer(workflows=[Empty], data_converter=converter())
    with pytest.raises(ReplayFailedError) as failed:
        asyncio.run(replayer.replay_workflow(WorkflowHistory("id", [started])))
    assert str(failed.value).startswith(
        "'memory-0' Storage driver 'memory' raised this in `retrieve`, asked for "
    )
