"""The bytes of a transition's events are those of a History message that holds them."""

from __future__ import annotations

import pytest

from perdure.api.history.v1 import History, HistoryEvent
from perdure.core.run.protos import varint
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunHeader, RunState
from perdure.core.run.transition import Transition

_SIGNALED = 26


@pytest.mark.parametrize("size", [0, 1, 100, 110, 127, 128, 300, 16_000, 16_384, 2_100_000])
def test_a_batch_is_a_history_message(size: int) -> None:
    """Events of any size, where lengths of one to four bytes stand before them."""
    tx = Transition(RunState(RunKey("n", "w", "r"), 0, RunHeader()), 1_700_000_000_123_456_789)
    expected = History()
    for name in ("", "x" * size):
        event = tx.new_event(_SIGNALED)
        event.workflow_execution_signaled_event_attributes.signal_name = name
        event.event_id = len(expected.events) + 1
        tx.copy_event(event)
        expected.events.append(event)
    tx.settle()
    batch = tx.finish(None, None).events[0]
    assert batch.data == expected.SerializeToString()
    assert tx.header.history_size_bytes == len(batch.data)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 300, 16_383, 16_384, 2_097_151, 2_097_152, 2**40])
def test_a_varint_reads_back(value: int) -> None:
    """As protobuf reads it: in the field event_id, which is number 1 of an event."""
    assert HistoryEvent.FromString(b"\x08" + varint(value)).event_id == value
