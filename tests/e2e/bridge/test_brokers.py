"""One suite for every broker, each a real process: what is sent is acted on once, whoever dies in between.

Nobody works on the task queues here: what the server has is what the bridge did.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.ports import free_port
from examples.queues.brokers import BROKERS, Broker, BrokerMissingError
from perdure.api.enums.v1 import EventType
from perdure.client import Client
from perdure.contrib.bridge import Bridge, Decision, Message, Source
from tests.e2e.bridge.decisions import decide, message_id
from tests.e2e.python_sdk import eventually, unique
from tests.support.servers import PerdureServer

REPOSITORY = Path(__file__).resolve().parents[3]
SCENARIO_TIMEOUT_S = 200
KILLS = 4
LIVES = 3
CLAIM_AFTER_S = 30
"""Long enough that a busy machine does not make one bridge take from another what it still works on."""

KEEP_ORDER = ("redis", "rabbitmq")
_SIGNALED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")

# Kills processes and starts brokers that are not small.
pytestmark = [pytest.mark.serial, pytest.mark.timeout(400)]


class Stage:
    """A broker, a server and a client, on one event loop."""

    def __init__(self, kind: str, broker: Broker, server: PerdureServer, runner: asyncio.Runner) -> None:
        self.kind = kind
        self.broker = broker
        self.server = server
        self._runner = runner
        self.client: Client

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """Run a scenario with a client of its own."""

        async def bounded() -> None:
            async with asyncio.timeout(SCENARIO_TIMEOUT_S):
                self.client = await Client.connect(self.server.address)
                await scenario()
                await self.client.close()

        self._runner.run(bounded())

    async def queue(self) -> str:
        """A queue of its own."""
        name = unique("queue")
        await self.broker.make(name)
        return name

    async def send(self, queue: str, count: int, kind: str = "start", **more: Any) -> list[str]:
        """Send messages, each about something of its own."""
        about = [unique("what") for _ in range(count)]
        messages = [(json.dumps({"kind": kind, "what": what, **more}), what) for what in about]
        await self.broker.send(queue, *messages)
        return about

    def bridge(self, queue: str, **options: Any) -> Bridge:
        """A bridge that is not running yet."""
        source = options.pop("source", None) or self.broker.source(queue, claim_after_s=CLAIM_AFTER_S)
        return Bridge(self.client, source, handler=decide, longest_pause_s=0.3, **options)

    async def started(self, queue: str) -> list[str]:
        """What the workflows that were started for a queue are about, sorted."""
        runs = self.client.list_workflows("WorkflowType = 'Order'")
        found = [await self._input(run.id) async for run in runs if run.id.startswith(f"{queue}-")]
        return sorted(found)

    async def _input(self, workflow_id: str) -> str:
        async for event in self.client.get_workflow_handle(workflow_id).fetch_history_events():
            payloads = event.workflow_execution_started_event_attributes.input.payloads
            return str(json.loads(payloads[0].data))
        raise AssertionError(f"{workflow_id} has no history")

    async def signalled(self, workflow_id: str) -> list[str]:
        """The arguments of all signals that a workflow got, in their order."""
        return [
            json.loads(event.workflow_execution_signaled_event_attributes.input.payloads[0].data)
            async for event in self.client.get_workflow_handle(workflow_id).fetch_history_events()
            if event.event_type == _SIGNALED
        ]


@pytest.fixture(scope="module", params=list(BROKERS))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Each broker in turn, with a server whose database outlives its process."""
    with asyncio.Runner() as runner:
        broker = BROKERS[request.param]()
        server = PerdureServer(port=free_port(), db_path=tmp_path_factory.mktemp("server") / "perdure.db")
        try:
            runner.run(broker.__aenter__())
        except BrokerMissingError as error:
            pytest.skip(str(error))
        try:
            runner.run(server.start())
            yield Stage(request.param, broker, server, runner)
        finally:
            runner.run(server.stop())
            runner.run(broker.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def running(*bridges: Bridge) -> AsyncIterator[None]:
    """Runs bridges, and stops them."""
    tasks = [asyncio.create_task(bridge.run()) for bridge in bridges]
    try:
        yield
    finally:
        for bridge in bridges:
            bridge.stop()
        await asyncio.gather(*tasks)


async def until(what: str, condition: Callable[[], bool]) -> None:
    """Returns once a condition holds that the bridge's own counters make true."""

    async def asked() -> bool:
        return condition()

    await eventually(what, asked, timeout_s=60)


def test_each_message_is_acted_on_once_and_poison_is_set_aside(stage: Stage) -> None:
    async def scenario() -> None:
        queue, collector = await stage.queue(), unique("collector")
        starts = await stage.send(queue, 10)
        signals = await stage.send(queue, 5, "signal", to=collector)
        await stage.send(queue, 2, "nothing")
        await stage.broker.send(queue, ("no JSON", unique("what")))
        (lost,) = await stage.send(queue, 1, "signal-nobody")
        bridge = stage.bridge(queue)
        counters = bridge.counters
        async with running(bridge):
            await until("19 taken", lambda: counters.acted + counters.ignored + counters.set_aside == 19)
        assert await stage.started(queue) == sorted(starts)
        signalled = await stage.signalled(collector)
        assert sorted(signalled) == sorted(signals)
        if stage.kind in KEEP_ORDER:
            assert signalled == signals
        assert (counters.taken, counters.acted, counters.ignored, counters.set_aside) == (19, 15, 2, 2)
        assert (counters.repeated, counters.waiting, counters.source_failures) == (0, 0, 0)
        (unreadable, refused) = sorted(await stage.broker.dead(queue))
        assert unreadable[0] == "no JSON"
        assert unreadable[1].startswith("JSONDecodeError")
        assert json.loads(refused[0])["what"] == lost
        assert refused[1].startswith("NOT_FOUND")
        assert await stage.broker.left(queue) == 0

    stage.run(scenario)


def test_a_message_that_its_producer_sends_twice_is_acted_on_once(stage: Stage) -> None:
    async def scenario() -> None:
        queue = await stage.queue()
        message = (json.dumps({"kind": "start", "what": "x"}), "the same")
        await stage.broker.send(queue, message, message)
        bridge = stage.bridge(queue, message_id=message_id, concurrency=1)
        async with running(bridge):
            await until("both taken", lambda: bridge.counters.acted + bridge.counters.repeated == 2)
        assert await stage.started(queue) == ["x"]

    stage.run(scenario)


def test_killed_between_act_and_acknowledge_nothing_is_lost_or_doubled(stage: Stage) -> None:
    async def scenario() -> None:
        queue, collector = await stage.queue(), unique("collector")
        starts = await stage.send(queue, 3 * KILLS)
        signals = await stage.send(queue, KILLS, "signal", to=collector)
        await stage.broker.send(queue, ("no JSON", unique("what")))
        command = [
            *("--broker", stage.kind, "--port", str(stage.broker.port), "--queue", queue),
            *("--way", "bridge", "--handler", "tests.e2e.bridge.decisions:decide"),
            *("--server", stage.server.address, "--kills", str(KILLS), "--chance", "0.5", "--at", "acted"),
        ]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.queues.lives", *command),
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        assert process.returncode == 0, errors.decode()
        assert json.loads(output)["killed"] == KILLS
        assert await stage.started(queue) == sorted(starts)
        assert sorted(await stage.signalled(collector)) == sorted(signals)
        dead = [body for body, _ in await stage.broker.dead(queue)]
        # Only Redis sets aside and acknowledges in one step.
        assert dead == ["no JSON"] if stage.kind == "redis" else set(dead) == {"no JSON"}
        assert await stage.broker.left(queue) == 0

    stage.run(scenario)


def test_two_bridges_on_one_queue_share_the_work(stage: Stage) -> None:
    async def scenario() -> None:
        queue = await stage.queue()
        starts = await stage.send(queue, 30)
        bridges = [stage.bridge(queue, concurrency=4) for _ in range(2)]
        async with running(*bridges):
            await until("all acted", lambda: sum(bridge.counters.acted for bridge in bridges) >= 30)
        assert await stage.started(queue) == sorted(starts)
        assert await stage.broker.left(queue) == 0

    stage.run(scenario)


def test_a_server_that_is_down_is_waited_for_and_nothing_more_is_taken(stage: Stage) -> None:
    async def scenario() -> None:
        queue = await stage.queue()
        bridge = stage.bridge(queue, concurrency=4, rpc_timeout_s=1.0)
        counters = bridge.counters
        async with running(bridge):
            before = await stage.send(queue, 3)
            await until("the first ones", lambda: counters.acted == 3)
            await stage.server.kill()
            behind = await stage.send(queue, 12)
            await until("waits", lambda: counters.waiting > 0)
            assert counters.taken <= 3 + 4
            assert counters.set_aside == 0
            await stage.server.start()
            await until(
                "all acted", lambda: counters.acted + counters.repeated >= 15 and counters.waiting == 0
            )
        assert await stage.started(queue) == sorted(before + behind)
        assert await stage.broker.left(queue) == 0

    stage.run(scenario)


def test_a_broker_that_is_down_is_waited_for(stage: Stage) -> None:
    async def scenario() -> None:
        queue = await stage.queue()
        bridge = stage.bridge(queue)
        counters = bridge.counters
        async with running(bridge):
            before = await stage.send(queue, 3)
            await until("the first ones", lambda: counters.acted == 3)
            await stage.broker.kill()
            await until("noticed", lambda: counters.source_failures > 0)
            await stage.broker.start()
            behind = await stage.send(queue, 3)
            await until("all acted", lambda: counters.acted >= 6)
        assert await stage.started(queue) == sorted(before + behind)

    stage.run(scenario)


class Killed(BaseException):
    """Stands for the end of the process: nothing that could answer for a message comes behind it."""


def test_a_message_that_ends_the_process_is_set_aside_in_the_end_and_no_other(stage: Stage) -> None:
    """The broker counts its deliveries; what was in the works beside it is acted on by the next bridge."""

    def crash(message: Message) -> Decision:
        if message.body == b"crash":
            raise Killed
        return decide(message)

    async def scenario() -> None:
        queue = unique("queue")
        source = stage.broker.source(queue, claim_after_s=1)
        if stage.kind == "rabbitmq":
            # The bridge's own, which counts; the broker of these tests makes a classic one.
            await source.open(1)
            await source.close()
        else:
            await stage.broker.make(queue)
        before = await stage.send(queue, 3)
        await stage.broker.send(queue, ("crash", unique("what")))
        behind = await stage.send(queue, 3)
        for _ in range(LIVES):
            source = stage.broker.source(queue, claim_after_s=1)
            with pytest.raises(Killed):
                await Bridge(stage.client, source, handler=crash, max_deliveries=LIVES).run()
        source = stage.broker.source(queue, claim_after_s=1)
        last = Bridge(stage.client, source, handler=crash, max_deliveries=LIVES)
        async with running(last):
            await until("the message is set aside", lambda: last.counters.set_aside == 1)

            async def all_started() -> bool:
                return await stage.started(queue) == sorted(before + behind)

            await eventually("all others are acted on", all_started, timeout_s=60)
        (found,) = await stage.broker.dead(queue)
        assert found[0] == "crash"
        assert f"delivered for the {LIVES + 1}th time" in found[1]

    stage.run(scenario)


class Slow:
    """A source that holds back acknowledgements until it is told to go on."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.go_on = asyncio.Event()
        self.reached = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    async def acknowledge(self, delivery: Any) -> None:
        """As the real one, later."""
        self.reached += 1
        await self.go_on.wait()
        await self._source.acknowledge(delivery)


def test_a_stop_waits_for_what_is_in_the_works_and_the_next_bridge_does_the_rest(stage: Stage) -> None:
    async def scenario() -> None:
        queue = await stage.queue()
        starts = await stage.send(queue, 8)
        slow = Slow(stage.broker.source(queue, claim_after_s=CLAIM_AFTER_S))
        first = stage.bridge(queue, source=slow, concurrency=3)
        task = asyncio.create_task(first.run())
        await until("three in the works", lambda: slow.reached == 3)
        first.stop()
        slow.go_on.set()
        await task
        assert (first.counters.taken, first.counters.acted) == (3, 3)
        second = stage.bridge(queue)
        async with running(second):
            await until("the rest", lambda: second.counters.acted == 5)
        assert second.counters.repeated == 0
        assert await stage.started(queue) == sorted(starts)
        assert await stage.broker.left(queue) == 0

    stage.run(scenario)
