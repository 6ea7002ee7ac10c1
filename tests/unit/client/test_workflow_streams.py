"""Publishers and readers of a workflow stream before a workflow made of answers: batches, repetition, failures."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.api.common.v1 import GrpcStatus, Payload
from perdure.api.errordetails.v1 import WorkflowNotReadyFailure
from perdure.client import (
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from perdure.common import RawValue
from perdure.contrib.workflow_streams import (
    PollInput,
    PollResult,
    PublishBufferFullError,
    PublishInput,
    TruncatedOffsetError,
    WorkflowStreamClient,
)
from perdure.contrib.workflow_streams._types import WireItem
from perdure.converter import DataConverter
from perdure.exceptions import ApplicationError
from perdure.service import RPCError, RPCStatusCode
from tests.unit.server.support import run


def _not_ready_status() -> bytes:
    status = GrpcStatus(code=9)
    status.details.add().Pack(WorkflowNotReadyFailure())
    return status.SerializeToString()


POLL = "__temporal_workflow_stream_poll"
CONVERTER = DataConverter.default.payload_converter
UNAVAILABLE = RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
NOT_FOUND = RPCError("none", RPCStatusCode.NOT_FOUND, b"")
FULL = RPCError("limit on updates", RPCStatusCode.FAILED_PRECONDITION, b"")
INVALID = RPCError("too large", RPCStatusCode.INVALID_ARGUMENT, b"")
NOT_READY = RPCError("failed", RPCStatusCode.FAILED_PRECONDITION, _not_ready_status())
NOW = timedelta(0)
NEVER = timedelta(hours=1)
RUNNING = (WorkflowExecutionStatus.RUNNING, None)
CONTINUED = (WorkflowExecutionStatus.CONTINUED_AS_NEW, datetime(2030, 1, 1, tzinfo=UTC))
COMPLETED = (WorkflowExecutionStatus.COMPLETED, datetime(2030, 1, 1, tzinfo=UTC))


def refused(type: str) -> WorkflowUpdateFailedError:
    """An update that failed with an error of this type."""
    return WorkflowUpdateFailedError(ApplicationError("no", type=type))


def stopped() -> WorkflowUpdateRPCTimeoutOrCancelledError:
    """A wait that took longer than a call may."""
    error = WorkflowUpdateRPCTimeoutOrCancelledError()
    error.__cause__ = RPCError("late", RPCStatusCode.DEADLINE_EXCEEDED, b"")
    return error


def page(next_offset: int, *values: Any, more_ready: bool = False, topic: str = "t") -> PollResult:
    """Items that end before an offset."""
    first = next_offset - len(values)
    payloads = CONVERTER.to_payloads(values)
    data = [base64.b64encode(payload.SerializeToString()).decode() for payload in payloads]
    items = [WireItem(topic, each, first + index) for index, each in enumerate(data)]
    return PollResult(items, next_offset, more_ready)


@dataclass
class Script:
    """Handles and clients of one workflow: answers to signals and polls, and what its runs say of themselves."""

    signals: list[Exception | None] = field(default_factory=list)
    """What each signal meets; those beyond arrive."""
    polls: list[PollResult | Exception] = field(default_factory=list)
    """What each poll meets; the workflow has ended for those beyond."""
    rest: list[PollResult] = field(default_factory=list)
    """What queries answer."""
    runs: Mapping[str | None, tuple[WorkflowExecutionStatus, datetime | None]] = field(default_factory=dict)
    """Status and end of each run; that of the newest is None's."""
    sent: list[PublishInput] = field(default_factory=list)
    """All signals, also those that failed."""
    offsets: list[int] = field(default_factory=list)
    """Of the polls."""
    queried: list[tuple[str | None, int]] = field(default_factory=list)
    """Run and offset of each query."""
    polled: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    id: str = "w"
    data_converter: DataConverter = DataConverter.default

    def get_workflow_handle(self, workflow_id: str, *, run_id: str | None = None) -> Any:
        """As a client: a handle of a run."""

        async def describe() -> Any:
            if not self.runs:
                raise NOT_FOUND
            status, close_time = self.runs[run_id]
            return SimpleNamespace(status=status, close_time=close_time, run_id=run_id or "newest")

        async def query(name: str, poll: PollInput, **_: Any) -> PollResult:
            assert name == POLL
            self.queried.append((run_id, poll.from_offset))
            return self.rest.pop(0)

        return SimpleNamespace(
            describe=describe,
            query=query,
            id=self.id,
            run_id=run_id,
            signal=self.signal,
            start_update=self.start_update,
            _client=self,
        )

    async def signal(self, name: str, batch: PublishInput) -> None:
        """As a handle."""
        assert name == "__temporal_workflow_stream_publish"
        self.sent.append(batch)
        outcome = self.signals.pop(0) if self.signals else None
        if outcome is not None:
            raise outcome
        self.arrived.set()

    async def start_update(self, name: str, poll: PollInput, **_: Any) -> Any:
        """As a handle."""
        assert name == POLL
        self.offsets.append(poll.from_offset)
        outcome = self.polls.pop(0) if self.polls else NOT_FOUND
        if isinstance(outcome, RPCError):
            raise outcome
        self.polled += 1

        async def result() -> PollResult:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return SimpleNamespace(workflow_run_id=f"run-{self.polled}", result=result)

    def client(self, **options: Any) -> WorkflowStreamClient:
        """What is tested."""
        return WorkflowStreamClient.create(self, self.id, **options)  # type: ignore[arg-type]

    def arrivals(self) -> list[Any]:
        """The values that the workflow keeps: each publisher's number once."""
        kept: dict[int, PublishInput] = {}
        for batch in self.sent:
            kept.setdefault(batch.sequence, batch)
        return [
            CONVERTER.from_payload(Payload.FromString(base64.b64decode(item.data)))
            for batch in kept.values()
            for item in batch.items
        ]


def test_a_batch_whose_answer_was_lost_comes_again_under_its_number() -> None:
    """And what was published meanwhile comes after it."""

    async def scenario() -> None:
        script = Script(signals=[UNAVAILABLE, UNAVAILABLE])
        stream = script.client()
        topic = stream.topic("t", type=str)
        topic.publish("a")
        for value in ("b", "c"):
            with pytest.raises(RPCError):
                await stream.flush()
            topic.publish(value)
        await stream.flush()
        await stream.flush()
        assert [batch.sequence for batch in script.sent] == [1, 1, 1, 2]
        assert script.sent[0] == script.sent[1] == script.sent[2]
        assert len({batch.publisher_id for batch in script.sent} - {""}) == 1
        assert script.arrivals() == ["a", "b", "c"]

    run(scenario())


@pytest.mark.parametrize("options", [{"max_batch_size": 2}, {"batch_interval": NOW}, {}])
def test_what_makes_a_batch_go(options: dict[str, Any]) -> None:
    """Its size, the time, or the publisher's word; nobody flushes here."""

    async def scenario() -> None:
        script = Script()
        async with script.client(**{"batch_interval": NEVER} | options) as stream:
            topic = stream.topic("t")
            topic.publish(1)
            topic.publish(2, force_flush=not options)
            await script.arrived.wait()
            assert script.arrivals() == [1, 2]

    run(scenario())


def test_leaving_the_context_sends_everything_and_outlives_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches end before a megabyte; an item that is larger goes alone."""
    monkeypatch.setattr("perdure.contrib.workflow_streams._client._EXIT_RETRY_PAUSE_S", 0)

    async def scenario() -> None:
        script = Script(signals=[UNAVAILABLE] * 5)
        values = ["x" * 300_000] * 5 + ["y" * 2_000_000, "z"]
        async with script.client(batch_interval=NEVER) as stream:
            for value in values:
                stream.topic("t").publish(value)
        assert script.arrivals() == values
        assert [len(batch.items) for batch in script.sent[5:]] == [2, 2, 1, 1, 1]

    run(scenario())


def test_the_flusher_goes_on_after_a_failure() -> None:
    """Whatever it was."""

    async def scenario() -> None:
        script = Script(signals=[UNAVAILABLE, RuntimeError("a codec")])
        async with script.client(batch_interval=NOW) as stream:
            stream.topic("t").publish("a")
            await script.arrived.wait()
        assert script.arrivals() == ["a"]
        assert len(script.sent) == 3

    run(scenario())


def test_what_is_refused_for_good_is_dropped_and_raised_at_the_end() -> None:
    """Later items are sent all the same, under a number of their own."""

    async def scenario() -> None:
        script = Script(signals=[INVALID])

        async def publish() -> None:
            async with script.client(batch_interval=NOW) as stream:
                stream.topic("t").publish("bad")
                while not script.sent:
                    await asyncio.sleep(0)
                stream.topic("t").publish("good")
                await script.arrived.wait()

        with pytest.raises(RPCError, match="too large"):
            await publish()
        assert [batch.sequence for batch in script.sent] == [1, 2]

    run(scenario())


def test_a_batch_that_was_tried_for_too_long_is_dropped() -> None:
    """Its number is not used again, because the stream may have it."""

    async def scenario() -> None:
        script = Script(signals=[UNAVAILABLE])
        stream = script.client(max_retry_duration=timedelta(seconds=-1))
        stream.topic("t").publish("lost")
        with pytest.raises(RPCError):
            await stream.flush()
        with pytest.raises(TimeoutError, match="1 items .* max_retry_duration"):
            await stream.flush()
        stream.topic("t").publish("kept")
        await stream.flush()
        assert [batch.sequence for batch in script.sent] == [1, 2]

    run(scenario())


def test_the_error_of_the_block_is_the_one_that_is_raised() -> None:
    """What is left is tried once."""

    async def scenario() -> None:
        script = Script(signals=[UNAVAILABLE] * 9)

        async def publish() -> None:
            async with script.client(batch_interval=NEVER) as stream:
                stream.topic("t").publish("a")
                raise KeyError

        with pytest.raises(KeyError):
            await publish()
        assert len(script.sent) == 1

    run(scenario())


def test_publish_refuses_what_it_cannot_keep() -> None:
    """Too much at once, and values that no converter takes; a payload goes as it is."""

    async def scenario() -> None:
        script = Script()
        stream = script.client()
        topic = stream.topic("t")
        with pytest.raises(TypeError):
            topic.publish(object())
        topic.publish(CONVERTER.to_payloads([b"\x00raw"])[0])
        half = "x" * 7_000_000
        topic.publish(half)
        with pytest.raises(PublishBufferFullError):
            topic.publish(half)
        await stream.flush()
        topic.publish(half)
        await stream.flush()
        assert script.arrivals() == [b"\x00raw", half, half]

    run(scenario())


def test_a_topic_has_one_type() -> None:
    """Without one it takes anything; a client is a context manager once at a time."""

    async def scenario() -> None:
        stream = Script().client()
        stream.topic("t", type=str)
        with pytest.raises(RuntimeError, match="already bound to type"):
            stream.topic("t", type=int)
        with pytest.raises(RuntimeError, match="type=Payload"):
            stream.topic("p", type=Payload)
        async with stream:
            with pytest.raises(RuntimeError, match="in use"):
                await stream.__aenter__()

    run(scenario())


async def read(script: Script, **options: Any) -> list[tuple[int, Any]]:
    """All that a subscription brings, to its end."""
    subscription = script.client().subscribe(poll_cooldown=NOW, **options)
    return [(item.offset, item.data) async for item in subscription]


@pytest.mark.parametrize("end", [NOT_FOUND, refused("AcceptedUpdateCompletedWorkflow"), stopped()])
def test_what_is_left_when_the_workflow_has_ended_is_read_from_its_last_run(end: Exception) -> None:
    """To the last page; also when it ends under a poll, which is then known to be that run's."""
    pages = [page(2, "a", {"b": 1}, more_ready=True), page(4), page(5, "c")]
    rest = [page(6, "d", more_ready=True), page(7, "e")]
    runs = {None: COMPLETED, "run-4": COMPLETED}
    script = Script(polls=[*pages, end], rest=rest, runs=runs)
    assert run(read(script)) == [(0, "a"), (1, {"b": 1}), (4, "c"), (5, "d"), (6, "e")]
    assert script.offsets == [0, 2, 4, 5]
    last = "newest" if end is NOT_FOUND else "run-4"
    assert script.queried == [(last, 5), (last, 6)]


@pytest.mark.parametrize(
    ("failure", "status", "next_offset"),
    [
        (refused("StreamDraining"), RUNNING, 1),
        (refused("TruncatedOffset"), RUNNING, 0),
        (stopped(), RUNNING, 1),
        (refused("AcceptedUpdateCompletedWorkflow"), CONTINUED, 1),
    ],
    ids=["draining", "truncated", "timeout", "continued"],
)
def test_what_a_subscription_outlives(failure: Exception, status: Any, next_offset: int) -> None:
    """The stream's move, a gap, a wait that was too long, the next run."""
    polls: list[PollResult | Exception] = [page(1, "a"), failure, page(2, "b")]
    script = Script(polls=polls, rest=[page(2)], runs={"run-2": status, None: COMPLETED})
    assert run(read(script)) == [(0, "a"), (1, "b")]
    assert script.offsets == [0, 1, next_offset, 2]


def test_a_subscription_outlives_a_workflow_task_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does when an item comes in the moment in which the workflow goes on as new."""
    monkeypatch.setattr("perdure.contrib.workflow_streams._reader._NOT_READY_PAUSE_S", 0)

    async def scenario() -> None:
        script = Script(polls=[page(1, "a"), NOT_READY, NOT_READY, page(2, "b")], runs={None: RUNNING})
        subscription = script.client().subscribe(poll_cooldown=NOW)
        assert [(await anext(subscription)).data for _ in range(2)] == ["a", "b"]
        assert script.offsets == [0, 1, 1, 1]

    run(scenario())


def test_a_handle_of_one_run_stays_with_it() -> None:
    """Unless there is a client to follow the workflow with."""

    async def scenario() -> None:
        continued = refused("AcceptedUpdateCompletedWorkflow")
        for client in (True, False):
            script = Script(
                polls=[continued, page(1, "next")],
                rest=[page(1, "left")],
                runs={"run-1": CONTINUED, None: COMPLETED},
            )
            stream = WorkflowStreamClient(
                script.get_workflow_handle("w", run_id="run-1"),
                client=script if client else None,  # type: ignore[arg-type]
            )
            item = await anext(stream.subscribe())
            assert item.data == ("next" if client else "left")

    run(scenario())


@pytest.mark.parametrize(
    "failure",
    [UNAVAILABLE, NOT_FOUND, FULL, refused("Other")],
    ids=["away", "no-workflow", "full", "no-stream"],
)
def test_what_a_subscription_raises(failure: Exception) -> None:
    """What it cannot say to be the end."""
    runs = {} if failure is NOT_FOUND else {None: RUNNING, "run-1": RUNNING}
    script = Script(polls=[failure], runs=runs)
    with pytest.raises(type(failure)):
        run(read(script))


def test_a_gap_is_an_error_for_who_allows_none() -> None:
    """A typed one; also in what a workflow left."""
    script = Script(polls=[page(1, "a"), refused("TruncatedOffset")])
    with pytest.raises(TruncatedOffsetError, match="Offset 1"):
        run(read(script, allow_gaps=False))
    for rest in (page(9, "b"), page(9)):
        script = Script(polls=[page(1, "a")], rest=[rest], runs={None: COMPLETED})
        with pytest.raises(TruncatedOffsetError, match="Offset 1"):
            run(read(script, allow_gaps=False))


def test_a_reader_of_a_topic_knows_a_gap_in_what_is_left_from_a_quiet_topic() -> None:
    """Other topics say what is there still; their items are not the reader's."""

    async def read_topic(script: Script) -> list[Any]:
        topic = script.client().topic("t", type=str)
        return [item.data async for item in topic.subscribe(1, poll_cooldown=NOW, allow_gaps=False)]

    def left(*items: PollResult) -> PollResult:
        return PollResult([item for each in items for item in each.items], items[-1].next_offset)

    others = page(3, "x", "y", topic="other")
    script = Script(rest=[left(others, page(4, "mine"))], runs={None: COMPLETED})
    assert run(read_topic(script)) == ["mine"]
    script = Script(rest=[left(page(6, "x", topic="other"), page(7, "mine"))], runs={None: COMPLETED})
    with pytest.raises(TruncatedOffsetError, match="Offset 1"):
        run(read_topic(script))


def test_types_of_values() -> None:
    """A payload is got as a raw value, and not by its own type."""
    script = Script(rest=[page(1, b"\x00")], runs={None: COMPLETED})
    ((_, raw),) = run(read(script, result_type=RawValue))
    assert raw.payload.data == b"\x00"
    with pytest.raises(RuntimeError, match="result_type=Payload"):
        run(read(Script(), result_type=Payload))


def test_a_slow_reader_has_one_page_and_a_cancelled_one_is_cancelled() -> None:
    """No page is asked for before the last one is used up; a time limit around the loop is a TimeoutError."""

    async def scenario() -> None:
        script = Script(polls=[page(2, "a", "b"), page(3, "c")])
        subscription = script.client().subscribe(poll_cooldown=NEVER)
        first, second = await anext(subscription), await anext(subscription)
        assert (first.data, second.data, len(script.offsets)) == ("a", "b", 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(subscription)

        cancelled = WorkflowUpdateRPCTimeoutOrCancelledError()
        cancelled.__cause__ = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await anext(Script(polls=[cancelled]).client().subscribe())

    run(scenario())


def test_an_activity_is_needed_where_its_workflow_is_meant() -> None:
    """It says so."""
    with pytest.raises(RuntimeError):
        WorkflowStreamClient.from_within_activity()
