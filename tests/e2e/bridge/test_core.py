"""The bridge without a broker: what it makes of repeated, refused and awkward messages, and of a source that fails."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from perdure import workflow
from perdure.api.enums.v1 import EventType
from perdure.client import Client
from perdure.common import WorkflowIDReusePolicy
from perdure.contrib.bridge import (
    Bridge,
    Decision,
    Delivery,
    Message,
    SignalWorkflow,
    SourceDownError,
    StartWorkflow,
)
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

SCENARIO_TIMEOUT_S = 60
TASK_QUEUE = "bridge"
_SIGNALED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")


class Queue:
    """A source in memory. Stops its bridge when all its messages have been answered for."""

    name = "queue"
    keep_every_s: float | None = None

    def __init__(self, *messages: Message) -> None:
        self.waiting = list(messages)
        self.bridge: Bridge | None = None
        self.answers: list[tuple[str, str]] = []
        self.opened = 0
        self.limits: list[int] = []
        self.holds_answers = False
        self.fails: list[tuple[str, Exception]] = []
        self._unanswered = len(messages)

    def _step(self, name: str) -> None:
        if self.fails and self.fails[0][0] == name:
            raise self.fails.pop(0)[1]

    def _answered(self, delivery: Delivery, how: str) -> None:
        self.answers.append((delivery.message.id, how))
        self._unanswered -= 1
        if not self._unanswered and self.bridge is not None:
            self.bridge.stop()

    async def open(self, limit: int) -> None:
        self.opened += 1
        self._step("open")

    async def take(self, limit: int) -> Sequence[Delivery]:
        self._step("take")
        self.limits.append(limit)
        if not self.waiting:
            await asyncio.Event().wait()
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return [Delivery(message, None) for message in taken]

    async def acknowledge(self, delivery: Delivery) -> None:
        if self.holds_answers:
            await asyncio.Event().wait()
        try:
            self._step("acknowledge")
        except SourceDownError:
            self.waiting.insert(0, _again(delivery.message))
            raise
        self._answered(delivery, "acknowledged")

    async def set_aside(self, delivery: Delivery, reason: str) -> None:
        self._answered(delivery, reason)

    async def give_back(self, delivery: Delivery) -> None:
        self.answers.append((delivery.message.id, "given back"))

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        self._step("keep")

    async def close(self) -> None:
        pass


def _again(message: Message) -> Message:
    return Message(
        message.id, message.body, message.headers, message.source, message.sent_at, redelivered=True
    )


def message(id: str, body: str = "", *, redelivered: bool = False) -> Message:
    """A message of `Queue`, sent now."""
    return Message(id, body.encode(), {}, "queue", datetime.now(UTC), redelivered)


def start(message: Message) -> StartWorkflow:
    """The simplest decision."""
    return StartWorkflow("Order", message.body.decode(), task_queue=TASK_QUEUE)


async def drained(
    client: Client, queue: Queue, handler: Callable[[Message], Decision], *, concurrency: int = 8
) -> Bridge:
    """Runs a bridge until every message of the queue has been answered for."""
    bridge = queue.bridge = Bridge(
        client, queue, handler=handler, longest_pause_s=0.05, concurrency=concurrency
    )
    await bridge.run()
    return bridge


def embedded(scenario: Callable[[WorkflowEnvironment], Awaitable[None]]) -> None:
    """Runs a scenario with a server of its own."""

    async def run() -> None:
        async with (
            asyncio.timeout(SCENARIO_TIMEOUT_S),
            await WorkflowEnvironment.start_time_skipping() as env,
        ):
            await scenario(env)

    asyncio.run(run())


async def signals_of(client: Client, workflow_id: str, run_id: str | None = None) -> int:
    """How many signals a run has got."""
    events = client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history_events()
    return len([event async for event in events if event.event_type == _SIGNALED])


def test_a_redelivered_start_is_recognised_and_counted() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        first = await drained(env.client, Queue(message("1")), start)
        second = await drained(env.client, Queue(message("1", redelivered=True)), start)
        assert (first.counters.acted, second.counters.acted, second.counters.repeated) == (1, 0, 1)
        assert (await env.client.get_workflow_handle("queue-1").describe()).id == "queue-1"

    embedded(scenario)


def test_one_workflow_for_all_messages_that_name_it() -> None:
    """An id from the business: another message with it is a repetition, whatever its own id is."""

    async def scenario(env: WorkflowEnvironment) -> None:
        def decide(message: Message) -> Decision:
            return StartWorkflow("Order", task_queue=TASK_QUEUE, id="order-7")

        bridge = await drained(env.client, Queue(message("1"), message("2")), decide)
        assert (bridge.counters.acted, bridge.counters.repeated) == (1, 1)

    embedded(scenario)


def test_a_broker_lost_before_the_acknowledgement_changes_nothing() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        queue = Queue(message("1"), message("2"))
        queue.fails = [("open", SourceDownError("refused")), ("acknowledge", SourceDownError("reset"))]
        bridge = await drained(env.client, queue, start, concurrency=1)
        assert (bridge.counters.acted, bridge.counters.repeated, bridge.counters.source_failures) == (2, 1, 2)
        assert queue.opened == 3
        assert sorted(queue.answers) == [("1", "acknowledged"), ("2", "acknowledged")]

    embedded(scenario)


@pytest.mark.parametrize("step", ["open", "take", "acknowledge"])
def test_a_mistake_of_the_set_up_ends_the_bridge(step: str) -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        queue = Queue(message("1"))
        queue.fails = [(step, PermissionError("no rights"))]
        with pytest.raises(PermissionError, match="no rights"):
            await drained(env.client, queue, start)
        assert queue.answers == []

    embedded(scenario)


def test_messages_in_the_works_are_kept_and_a_failure_to_keep_them_ends_the_bridge() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        queue = Queue(message("1"))
        queue.keep_every_s = 0.001
        queue.holds_answers = True
        queue.fails = [("keep", PermissionError("no rights"))]
        with pytest.raises(PermissionError, match="no rights"):
            await drained(env.client, queue, start)

    embedded(scenario)


def test_poison_of_every_kind_is_set_aside_with_its_reason() -> None:
    def decide(message: Message) -> Decision:
        match message.body:
            case b"raises":
                raise KeyError("customer")
            case b"no decision":
                return "start it"  # type: ignore[return-value]
            case b"no converter":
                return StartWorkflow("Order", object(), task_queue=TASK_QUEUE)
            case b"refused":
                return StartWorkflow("Order", task_queue="")
            case b"nobody":
                return SignalWorkflow("nobody", "paid")
        return start(message)

    async def scenario(env: WorkflowEnvironment) -> None:
        bodies = ["raises", "no decision", "no converter", "refused", "nobody"]
        queue = Queue(*[message(body, body) for body in bodies], message(""), message("good"))
        bridge = await drained(env.client, queue, decide)
        reasons = dict(queue.answers)
        assert reasons["raises"] == "KeyError: 'customer'"
        assert reasons["no decision"].startswith("TypeError: the handler returned 'start it'")
        assert reasons["no converter"].startswith("TypeError: ")
        assert reasons["refused"].startswith("INVALID_ARGUMENT: ")
        assert reasons["nobody"].startswith("NOT_FOUND: ")
        assert reasons[""].startswith("ValueError: the message has no id")
        assert reasons["good"] == "acknowledged"
        assert (bridge.counters.set_aside, bridge.counters.acted) == (6, 1)

    embedded(scenario)


@workflow.defn
class Restarts:
    """Ends its run at every signal: by going on as a new run, or for good."""

    def __init__(self) -> None:
        self._got: list[str] = []

    @workflow.signal
    def hear(self, what: str) -> None:
        """Something has happened."""
        self._got.append(what)

    @workflow.run
    async def run(self) -> None:
        """Waits for the next signal."""
        await workflow.wait_condition(lambda: bool(self._got))
        if self._got[0] != "end":
            workflow.continue_as_new()


async def _newest_run_after(client: Client, run_id: str) -> str:
    """Follows the chain: the result of a run that went on is asked for until the next one is there."""
    handle = client.get_workflow_handle("w", run_id=run_id)
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.HasField("workflow_execution_continued_as_new_event_attributes"):
            return str(event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id)
    raise AssertionError("the run did not go on")


def test_what_was_delivered_too_often_is_set_aside_and_what_comes_again_is_handled_alone() -> None:
    """Behind new messages, with nothing else in the works; the handler never sees what is over the limit."""

    async def scenario(env: WorkflowEnvironment) -> None:
        given = [message("new"), *(replace(message(f"{count}"), deliveries=count) for count in (3, 4, 2))]
        queue = Queue(*given)
        seen: list[tuple[str, int]] = []

        def seeing(message: Message) -> Decision:
            seen.append((message.id, len(bridge._works)))
            return start(message)

        bridge = queue.bridge = Bridge(env.client, queue, handler=seeing, max_deliveries=3)
        await bridge.run()
        assert seen == [("new", 0), ("2", 0), ("3", 0)]
        assert bridge.counters.set_aside == 1
        assert dict(queue.answers)["4"].startswith("TooManyDeliveriesError: delivered for the 4th time")

    embedded(scenario)


def test_messages_are_taken_one_by_one_until_one_comes_that_nobody_had_before() -> None:
    """What ended an earlier process is alone in the works when it ends the next one."""

    async def scenario(env: WorkflowEnvironment) -> None:
        again = [message(f"again {number}", redelivered=True) for number in range(3)]
        queue = Queue(*again, message("new"), message("newer"))
        await drained(env.client, queue, start)
        assert queue.limits[:4] == [1] * 4
        assert queue.limits[4] > 1

    embedded(scenario)


def test_a_redelivered_signal_is_recognised_after_a_continue_as_new() -> None:
    """The new run does not know the old one's request ids: without the look into the chain it would get the signal."""

    async def scenario(env: WorkflowEnvironment) -> None:
        def decide(message: Message) -> Decision:
            return SignalWorkflow("w", Restarts.hear, "again")

        async with Worker(env.client, task_queue=TASK_QUEUE, workflows=[Restarts]):
            started = await env.client.start_workflow(Restarts.run, id="w", task_queue=TASK_QUEUE)
            assert started.first_execution_run_id is not None
            first = await drained(env.client, Queue(message("1")), decide)
            newest = await _newest_run_after(env.client, started.first_execution_run_id)
            second = await drained(env.client, Queue(message("1", redelivered=True)), decide)
            assert (first.counters.acted, second.counters.acted, second.counters.repeated) == (1, 0, 1)
            assert await signals_of(env.client, "w", newest) == 0

    embedded(scenario)


def test_a_redelivered_signal_with_start_starts_no_second_workflow() -> None:
    """Nor when the first one is over, and even if its id may be used again."""

    async def scenario(env: WorkflowEnvironment) -> None:
        def decide(message: Message) -> Decision:
            begin = StartWorkflow(
                Restarts.run, task_queue=TASK_QUEUE, id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE
            )
            return SignalWorkflow("w", Restarts.hear, "end", start=begin)

        async with Worker(env.client, task_queue=TASK_QUEUE, workflows=[Restarts]):
            await drained(env.client, Queue(message("1")), decide)
            await env.client.get_workflow_handle("w").result()
            # Another message uses the id, so the run of the first is no longer the newest.
            await drained(env.client, Queue(message("2")), decide)
            await env.client.get_workflow_handle("w").result()
            again = await drained(env.client, Queue(message("1", redelivered=True)), decide)
            assert (again.counters.acted, again.counters.repeated) == (0, 1)
            runs = [run async for run in env.client.list_workflows("WorkflowId = 'w'")]
            assert len(runs) == 2

    embedded(scenario)


def test_a_namespace_that_is_not_there_is_no_fault_of_the_message() -> None:
    """It may be made later: the message waits, and is given back when the bridge stops."""

    async def scenario(env: WorkflowEnvironment) -> None:
        config = env.client.config()
        config["namespace"] = "not-made-yet"
        queue = Queue(message("1"))
        bridge = Bridge(Client(**config), queue, handler=start, longest_pause_s=0.01)
        running = asyncio.create_task(bridge.run())
        while not bridge.counters.waiting:
            assert not running.done()
            await asyncio.wait({running}, timeout=0.01)
        bridge.stop()
        await running
        assert queue.answers == [("1", "given back")]
        assert (bridge.counters.set_aside, bridge.counters.waiting) == (0, 0)

    embedded(scenario)


def test_a_bridge_runs_once_at_a_time_and_takes_a_sensible_concurrency() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        bridge = Bridge(env.client, Queue(), handler=start)
        running = asyncio.create_task(bridge.run())
        await asyncio.wait({running}, timeout=0)
        with pytest.raises(RuntimeError, match="running already"):
            await bridge.run()
        bridge.stop()
        await running
        with pytest.raises(ValueError, match="concurrency"):
            Bridge(env.client, Queue(), handler=start, concurrency=0)
        with pytest.raises(ValueError, match="leave out the start's id"):
            SignalWorkflow("a", "s", start=StartWorkflow("Order", task_queue="q", id="b"))

    embedded(scenario)


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("redis", "redis", "redis"), ("rabbitmq", "aio_pika", "rabbitmq"), ("sqs", "aiobotocore", "sqs")],
)
def test_a_missing_library_is_named_with_what_to_install(module: str, library: str, extra: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; import perdure.contrib.bridge.{module}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"pip install 'perdure[{extra}]'" in ended.stderr
