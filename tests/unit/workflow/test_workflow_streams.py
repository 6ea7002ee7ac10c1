"""The stream inside a workflow, with activations made by hand: log, offsets, pages, publishers, the next run."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure.api.common.v1 import Payload
from perdure.api.failure.v1 import Failure
from perdure.contrib.workflow_streams import (
    PollInput,
    PollResult,
    PublishEntry,
    PublishInput,
    WorkflowStream,
    WorkflowStreamState,
)
from perdure.core.replay.instructions import ContinueAsNew, UpdateAccepted, UpdateCompleted, UpdateRejected

from .driver import CONVERTER, Driver, only, payloads, signal, update, value_of

PUBLISH, POLL, OFFSET = (f"__temporal_workflow_stream_{name}" for name in ("publish", "poll", "offset"))


@workflow.defn
class Streaming:
    """Publishes what it is told to, truncates, and goes on as new."""

    @workflow.init
    def __init__(
        self, state: WorkflowStreamState | None = None, max_log_bytes: int | None = None, ttl_s: float = 900
    ) -> None:
        self.stream = WorkflowStream(state, max_log_bytes=max_log_bytes)
        self.max_log_bytes = max_log_bytes
        self.publisher_ttl = timedelta(seconds=ttl_s)
        self.is_over = False

    @workflow.run
    async def run(
        self, state: WorkflowStreamState | None = None, max_log_bytes: int | None = None, ttl_s: float = 900
    ) -> None:
        """Waits to be told to go on as a new run."""
        await workflow.wait_condition(lambda: self.is_over)
        await self.stream.continue_as_new(
            lambda carried: [carried, self.max_log_bytes, 900], publisher_ttl=self.publisher_ttl
        )

    @workflow.signal
    def say(self, topic: str, *values: Any) -> None:
        """Publishes."""
        for value in values:
            self.stream.topic(topic).publish(value)

    @workflow.signal
    def say_and_forget(self, topic: str, value: str, up_to_offset: int) -> None:
        """Publishes and truncates in one go."""
        self.stream.topic(topic).publish(value)
        self.stream.truncate(up_to_offset)

    @workflow.update
    def forget(self, up_to_offset: int) -> None:
        """Truncates."""
        self.stream.truncate(up_to_offset)

    @workflow.query
    def remembered(self) -> list[str]:
        """The topics that the stream keeps something of, in the order in which they came."""
        return list(self.stream._newest)

    @workflow.signal
    def detach(self) -> None:
        """Lets the readers go."""
        self.stream.detach_pollers()

    @workflow.signal
    def end(self) -> None:
        """Goes on as new."""
        self.is_over = True


def started(*args: Any) -> Driver:
    """A run."""
    run = Driver(Streaming, *args)
    run.start()
    return run


def wire(value: Any) -> str:
    """An item's data."""
    payload = CONVERTER.payload_converter.to_payloads([value])[0]
    return base64.b64encode(payload.SerializeToString()).decode()


def batch(*values: Any, topic: str = "t", publisher: str = "", sequence: int = 0) -> Any:
    """The signal of a publisher."""
    return signal(
        PUBLISH, PublishInput([PublishEntry(topic, wire(value)) for value in values], publisher, sequence)
    )


def poll(from_offset: int = 0, *topics: str, id: str = "update-1") -> Any:
    """A reader's update."""
    return update(POLL, PollInput(list(topics), from_offset), id=id)


def page_of(instruction: object) -> PollResult:
    """What a reader gets."""
    assert isinstance(instruction, UpdateCompleted), instruction
    assert instruction.result is not None, instruction.failure
    page = CONVERTER.payload_converter.from_payload(instruction.result.payloads[0], PollResult)
    assert isinstance(page, PollResult)
    return page


def items_of(page: PollResult) -> list[tuple[int, str, Any]]:
    """Offset, topic and value of each item."""
    return [
        (item.offset, item.topic, value_of(Payload.FromString(base64.b64decode(item.data))))
        for item in page.items
    ]


def read(run: Driver, from_offset: int = 0, *topics: str) -> list[tuple[int, str, Any]]:
    """What a reader gets at once."""
    _, completed = run.send(poll(from_offset, *topics))
    return items_of(page_of(completed))


def error_type(failure: Failure | None) -> str:
    """The type of an application's error."""
    assert failure is not None
    return failure.application_failure_info.type


def test_items_of_the_workflow_and_of_others_are_one_list() -> None:
    """In the order in which they came, with text, bytes and structures as they were."""
    run = started()
    run.send(signal("say", "naïve-主题", "größer 😀", {"a": [1, None]}))
    run.send(batch(b"\x00\xff", topic="bytes"), signal("say", "t", 7))
    expected = [
        (0, "naïve-主题", "größer 😀"),
        (1, "naïve-主题", {"a": [1, None]}),
        (2, "bytes", b"\x00\xff"),
        (3, "t", 7),
    ]
    assert read(run) == expected
    assert read(run, 2) == expected[2:]
    assert read(run, 0, "t", "naïve-主题") == [expected[0], expected[1], expected[3]]
    assert value_of(run.query(OFFSET).result) == 4


def test_a_batch_that_is_repeated_is_left_out() -> None:
    """Also an older one; another publisher's number is another number; who has no id is never repeated."""
    run = started()
    run.send(batch("a", publisher="p", sequence=1), batch("b", publisher="p", sequence=2))
    run.send(batch("b", publisher="p", sequence=2), batch("a", publisher="p", sequence=1))
    run.send(batch("c", publisher="q", sequence=1), batch("d"), batch("d"))
    assert [value for _, _, value in read(run)] == ["a", "b", "c", "d", "d"]


@pytest.mark.parametrize("data", ["no base64!", "é", base64.b64encode(b"\xff\xff").decode()])
def test_a_batch_that_no_reader_could_read_is_dropped_whole(data: str) -> None:
    """The workflow task does not fail, and the publisher's number is not used up."""
    run = started()
    entries = [PublishEntry("t", wire("good")), PublishEntry("t", data)]
    run.send(signal(PUBLISH, PublishInput(entries, "p", 1)), batch("repaired", publisher="p", sequence=1))
    assert read(run) == [(0, "t", "repaired")]


def test_a_reader_waits_for_its_topics_and_for_its_offset() -> None:
    """What is of other topics, or before the offset, wakes nobody."""
    run = started()
    waiting = run.send(poll(2, "wanted"))
    assert isinstance(only(waiting, UpdateAccepted), UpdateAccepted)
    assert run.send(signal("say", "wanted", "0"), signal("say", "other", "1", "2")) == []
    completed = only(run.send(signal("say", "wanted", "3")), UpdateCompleted)
    page = page_of(completed)
    assert (items_of(page), page.next_offset, page.more_ready) == ([(3, "wanted", "3")], 4, False)


def test_a_page_ends_before_a_megabyte() -> None:
    """By what items take in the message, so that many small ones do not add up; the reader sees that there is more."""
    run = started()
    count = 12_000
    run.send(signal("say", "t", *["x"] * count))
    offset, seen = 0, 0
    for _ in range(count):
        _, completed = run.send(poll(offset))
        assert isinstance(completed, UpdateCompleted)
        assert completed.result is not None
        assert completed.result.ByteSize() <= 1_050_000
        page = page_of(completed)
        assert [item.offset for item in page.items] == list(range(offset, page.next_offset))
        seen, offset = seen + len(page.items), page.next_offset
        if not page.more_ready:
            break
    assert (seen, offset) == (count, count)


def test_an_item_larger_than_a_page_goes_alone() -> None:
    """And does not stop the stream."""
    run = started()
    run.send(signal("say", "t", "small", "x" * 1_200_000, "last"))
    sizes = []
    offset, more = 0, True
    while more:
        _, completed = run.send(poll(offset))
        page = page_of(completed)
        sizes.append(len(page.items))
        offset, more = page.next_offset, page.more_ready
    assert sizes == [1, 1, 1]


def test_truncation_keeps_offsets_and_refuses_what_is_gone_or_not_there() -> None:
    """From 0 one reads the oldest there is; the workflow goes on after each refusal."""
    run = started()
    run.send(signal("say", "t", "0", "1", "2", "3"))
    run.send(update("forget", 2))
    assert read(run, 0) == read(run, 2) == [(2, "t", "2"), (3, "t", "3")]
    for gone in (1, -1):
        _, refused = run.send(poll(gone))
        assert isinstance(refused, UpdateCompleted)
        assert error_type(refused.failure) == "TruncatedOffset"
    _, beyond = run.send(update("forget", 5))
    assert isinstance(beyond, UpdateCompleted)
    assert error_type(beyond.failure) == "TruncateOutOfRange"
    run.send(update("forget", 1))
    assert read(run, 3) == [(3, "t", "3")]
    run.send(update("forget", 4))
    assert value_of(run.query(OFFSET).result) == 4


def test_a_waiting_reader_is_told_when_its_offset_goes() -> None:
    """It would otherwise wait for an item that never comes."""
    run = started()
    run.send(poll(0), poll(1, id="update-2"))
    results = run.send(signal("say", "t", "0"), signal("say_and_forget", "t", "1", 2))
    first, second = sorted(
        (each for each in results if isinstance(each, UpdateCompleted)),
        key=lambda each: each.protocol_instance_id,
    )
    assert items_of(page_of(first)) == []
    assert page_of(first).next_offset == 2
    assert error_type(second.failure) == "TruncatedOffset"


def test_a_bounded_log_drops_the_oldest() -> None:
    """Never the newest, however large it is; a restarted stream is bounded as well."""
    run = started(None, 1_000)
    for number in range(100):
        run.send(signal("say", "t", number))
    kept = read(run)
    assert [value for _, _, value in kept] == [offset for offset, _, _ in kept]
    assert kept[-1][0] == 99
    assert 3 < len(kept) < 15
    run.send(signal("say", "t", "x" * 5_000))
    assert [offset for offset, _, _ in read(run)] == [100]


def test_topics_whose_items_are_gone_are_forgotten() -> None:
    """A topic for each customer does not add up; one that has items still is answered from them."""
    run = started(None, 1_000)
    for number in range(100):
        run.send(signal("say", f"customer-{number}", number))
    kept = read(run)
    assert read(run, kept[0][0], kept[0][1]) == kept[:1]
    assert value_of(run.query("remembered").result) == [topic for _, topic, _ in kept]


def carried_state(run: Driver) -> WorkflowStreamState:
    """What the next run gets, when no reader waits."""
    instructions = run.send(signal("end"))
    command = next(each for each in instructions if isinstance(each, ContinueAsNew))
    state = CONVERTER.payload_converter.from_payload(
        command.attributes.input.payloads[0], WorkflowStreamState
    )
    assert isinstance(state, WorkflowStreamState)
    return state


def test_the_next_run_goes_on_with_log_offsets_and_publishers() -> None:
    """Readers that wait are let go before it, with an offset that is theirs; repetitions are known after it."""
    run = started()
    run.send(signal("say", "t", "0", "1"), batch("2", publisher="p", sequence=4), update("forget", 1))
    run.send(poll(9))
    instructions = run.send(signal("end"))
    completed = next(each for each in instructions if isinstance(each, UpdateCompleted))
    assert (page_of(completed).items, page_of(completed).next_offset) == ([], 9)
    command = next(each for each in instructions if isinstance(each, ContinueAsNew))

    following = Driver(Streaming)
    following.started.input.CopyFrom(command.attributes.input)
    following.start()
    following.send(batch("2", publisher="p", sequence=4), batch("3", publisher="p", sequence=5))
    assert read(following, 0) == [(1, "t", "1"), (2, "t", "2"), (3, "t", "3")]


def test_a_quiet_publisher_is_forgotten_and_a_recent_one_is_not() -> None:
    """By workflow time."""
    run = started(None, None, 60.0)
    run.send(batch("0", publisher="quiet", sequence=1))
    run.now_ns += 61 * 1_000_000_000
    run.send(batch("1", publisher="recent", sequence=1))
    assert set(carried_state(run).publishers) == {"recent"}


def test_a_stream_that_moves_refuses_readers_and_takes_items() -> None:
    """The refusal has the type by which a reader knows to come back."""
    run = started()
    run.send(signal("detach"))
    rejected = only(run.send(poll(0)), UpdateRejected)
    assert error_type(rejected.failure) == "StreamDraining"
    run.send(batch("late"))
    assert [item.topic for item in carried_state(run).log] == ["t"]


def made_in_run() -> WorkflowStream:
    """A stream that is not made by `__init__`."""
    return WorkflowStream()


@workflow.defn
class Misuse:
    """Makes streams in all the wrong ways."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.attempt(RuntimeError, made_in_run)
        self.stream = WorkflowStream()
        for error, make in self.wrong_ways():
            self.attempt(error, make)

    def attempt(self, error: type[Exception], make: Callable[[], object]) -> None:
        """Notes the error."""
        with pytest.raises(error) as raised:
            make()
        self.errors.append(str(raised.value))

    def wrong_ways(self) -> list[tuple[type[Exception], Callable[[], object]]]:
        """Each with the error that it must raise."""
        topic = self.stream.topic("t", type=str)
        assert (topic.name, topic.type, self.stream.topic("t", type=str).name) == ("t", str, "t")
        return [
            (RuntimeError, lambda: self.stream.topic("t", type=int)),
            (RuntimeError, lambda: self.stream.topic("p", type=Payload)),
            (TypeError, lambda: self.stream.topic("any").publish(object())),
        ]

    @workflow.run
    async def run(self) -> list[str]:
        """The errors, and those of constructors with wrong arguments."""
        return self.errors


@workflow.defn
class Twice:
    """Makes a second stream with other arguments."""

    def __init__(self) -> None:
        WorkflowStream()
        WorkflowStream()

    @workflow.run
    async def run(self) -> None:
        """Is never reached."""


@workflow.defn
class WrongState:
    """Has a field without a type."""

    @workflow.init
    def __init__(self, state: Any) -> None:
        WorkflowStream(state)

    @workflow.run
    async def run(self, state: Any) -> None:
        """Is never reached."""


def test_mistakes_are_said_at_once() -> None:
    """Where the stream or the topic is made, in words that say what to do instead."""
    run = Driver(Misuse)
    completed = run.start()[0]
    outside, rebound, payload, no_converter = value_of(completed.result)  # type: ignore[union-attr]
    assert "must be constructed directly" in outside
    assert "'made_in_run'" in outside
    assert "already bound to type" in rebound
    assert "type=Payload" in payload
    assert "object" in no_converter
    twice, state = Driver(Twice), Driver(WrongState, {"log": []})
    assert "already registered" in twice.task_failure(twice.first_job).message
    assert "WorkflowStreamState | None" in state.task_failure(state.first_job).message
    negative = Driver(Streaming, None, 0)
    assert "max_log_bytes" in negative.task_failure(negative.first_job).message


def test_messages_are_those_of_the_official_module() -> None:
    """Names of fields, as JSON."""
    sent = payloads(
        PublishInput([PublishEntry("t", "d")], "p", 3), PollInput(["t"], 2), PollResult([], 5, True)
    )
    assert [json.loads(payload.data) for payload in sent.payloads] == [
        {"items": [{"topic": "t", "data": "d"}], "publisher_id": "p", "sequence": 3},
        {"topics": ["t"], "from_offset": 2},
        {"items": [], "next_offset": 5, "more_ready": True},
    ]
