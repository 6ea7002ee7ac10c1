"""Who shares an engine, what ends it, and that its file is let go of then."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from google.protobuf.message import Message

from perdure.core.errors import StoreOpenError
from perdure.server import Server, embedding
from perdure.server.embedding import DRAIN_S
from perdure.server.service.call import Call
from perdure.server.service.service import HandlerFunction
from perdure.service import ConnectConfig, ServiceClient, embedded
from perdure.service._errors import ClientConnectError, RPCError, RPCStatusCode
from perdure.service.embedded import open_embedded
from perdure.store.sqlite.lock import FileLock
from tests.support.embedded import EmbeddedClient
from tests.support.rpc import RawClient
from tests.unit.server.support import run

QUEUE = "embedded-queue"


def _is_free(path: Path) -> bool:
    try:
        FileLock(path).release()
    except StoreOpenError:
        return False
    return True


@pytest.fixture
def address(tmp_path: Path) -> str:
    """The address of a file that is not there yet."""
    return f"sqlite:///{tmp_path}/orders.db"


def test_clients_of_one_file_share_one_engine(tmp_path: Path, address: str) -> None:
    """What one starts the other sees; the file is let go of when the last one closes, and not before."""

    async def scenario() -> None:
        one = await EmbeddedClient.connect(address)
        two = await EmbeddedClient.connect(f"sqlite:///{tmp_path}/./orders.db")
        started = await one.start("wf", QUEUE)
        await one.close()
        await one.close()
        described = await two.describe("wf")
        assert described.workflow_execution_info.execution.run_id == started.run_id
        assert not _is_free(tmp_path / "orders.db")
        await two.close()
        assert _is_free(tmp_path / "orders.db")

    run(scenario())


def test_connecting_at_the_same_time_opens_one_engine(tmp_path: Path, address: str) -> None:
    """Nobody meets a half-open engine or a second one."""

    async def scenario() -> None:
        transports = await asyncio.gather(*(open_embedded(address) for _ in range(8)))
        assert len({transport._engine for transport in transports}) == 1
        await asyncio.gather(*(transport.close() for transport in transports))
        assert _is_free(tmp_path / "orders.db")

    run(scenario())


def test_connecting_while_the_last_one_closes_opens_it_anew(address: str) -> None:
    """The new engine waits for the file and finds what the old one acknowledged."""

    async def scenario() -> None:
        one = await EmbeddedClient.connect(address)
        await one.start("wf", QUEUE)
        closing = asyncio.create_task(one.close())
        await asyncio.sleep(0)
        two = await EmbeddedClient.connect(address)
        assert (await two.describe("wf")).workflow_execution_info.execution.workflow_id == "wf"
        await closing
        await two.describe("wf")
        await two.close()

    run(scenario())


def test_engines_in_memory_are_told_apart_by_name_and_end_with_their_last_client() -> None:
    """Nothing of an engine in memory is left for the next one."""

    async def scenario() -> None:
        one, two = (
            await EmbeddedClient.connect("sqlite://?name=a"),
            await EmbeddedClient.connect("sqlite://?name=b"),
        )
        await one.start("wf", QUEUE)
        with pytest.raises(RPCError, match="not found"):
            await two.describe("wf")
        await one.close()
        three = await EmbeddedClient.connect("sqlite://?name=a")
        with pytest.raises(RPCError, match="not found"):
            await three.describe("wf")
        await two.close()
        await three.close()
        assert not embedding._engines

    run(scenario())


def test_the_last_to_close_lets_calls_finish_and_ends_polls_empty(address: str) -> None:
    """Draining: no answer is lost, no poll waits on, nothing new is taken."""

    async def scenario() -> None:
        client = await EmbeddedClient.connect(address)
        poll = asyncio.create_task(client.poll_workflow_task(QUEUE, timeout_s=60))
        while not client.transport._engine._in_flight:
            await asyncio.sleep(0)
        starts = [asyncio.create_task(client.start(f"wf-{i}", "other")) for i in range(5)]
        await asyncio.sleep(0)
        async with asyncio.timeout(DRAIN_S / 2):
            await client.close()
        assert (await poll).task_token == b""
        assert all(start.run_id for start in await asyncio.gather(*starts))
        with pytest.raises(RPCError) as caught:
            await client.describe("wf-0")
        assert caught.value.status is RPCStatusCode.CANCELLED
        again = await EmbeddedClient.connect(address)
        await asyncio.gather(*(again.describe(f"wf-{i}") for i in range(5)))
        await again.close()

    run(scenario())


def test_a_call_that_needs_the_store_is_waited_for(address: str) -> None:
    """The store closes after the last call, however long that takes within the limit."""

    async def scenario() -> None:
        client = await EmbeddedClient.connect(address)
        await client.start("wf", QUEUE)
        engine = client.transport._engine
        handler, may_go_on = engine._handler, asyncio.Event()

        def slowed(path: str) -> HandlerFunction:
            async def slow(request: Message, call: Call) -> Message:
                await may_go_on.wait()
                return await handler(path)(request, call)

            return slow

        engine._handler = slowed
        describing = asyncio.create_task(client.describe("wf"))
        while not engine._in_flight:
            await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        while not engine.is_closing:
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, may_go_on.set)
        await closing
        assert (await describing).workflow_execution_info.execution.workflow_id == "wf"

    run(scenario())


class _DeafLoop:
    """A loop that takes a call on its way to its end and never runs it."""

    def __init__(self) -> None:
        self.has_ended = False

    def is_running(self) -> bool:
        return not self.has_ended

    def is_closed(self) -> bool:
        return self.has_ended

    def call_soon_threadsafe(self, *_: object) -> None:
        self.has_ended = True


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_call_swallowed_by_a_loop_that_ends_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller on another loop looks after it."""
    monkeypatch.setattr(embedding, "LOOP_CHECK_S", 0.01)

    async def scenario() -> None:
        client = await EmbeddedClient.connect("sqlite://")
        engine = client.transport._engine
        loop, engine.loop = engine.loop, _DeafLoop()  # type: ignore[assignment]  # stands for a loop
        with pytest.raises(embedding.LoopEndedError):
            await engine.on_loop(engine.close)
        engine.loop = loop
        await client.close()

    run(scenario())


def test_closing_one_of_several_ends_its_own_calls_only(address: str) -> None:
    """Its polls end with CANCELLED; a poll of another client goes on and gets its task."""

    async def scenario() -> None:
        one, two = await EmbeddedClient.connect(address), await EmbeddedClient.connect(address)
        engine = one.transport._engine
        own = asyncio.create_task(one.poll_workflow_task(QUEUE, timeout_s=60))
        other = asyncio.create_task(two.poll_workflow_task(QUEUE, timeout_s=60))
        while engine._in_flight < 2:
            await asyncio.sleep(0)
        await one.close()
        with pytest.raises(RPCError) as caught:
            await own
        assert caught.value.status is RPCStatusCode.CANCELLED
        await two.start("wf", QUEUE)
        assert (await other).workflow_execution.workflow_id == "wf"
        await two.close()

    run(scenario())


def test_a_loop_that_ends_without_closing_lets_go_of_the_file(tmp_path: Path, address: str) -> None:
    """`asyncio.run` ends: the file is free, the next run finds what was acknowledged; so does an old transport."""

    async def begin() -> EmbeddedClient:
        client = await EmbeddedClient.connect(address)
        await client.start("wf", QUEUE)
        return client

    client = asyncio.run(begin())
    assert _is_free(tmp_path / "orders.db")

    async def go_on() -> None:
        other = await EmbeddedClient.connect(address)
        await other.describe("wf")
        await client.describe("wf")
        await other.close()
        await client.describe("wf")
        await client.close()

    run(go_on())
    assert _is_free(tmp_path / "orders.db")


def test_a_transport_closed_while_it_opens_the_file_anew_lets_go_of_it(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that was opening it is told; nobody keeps the file."""
    client = asyncio.run(EmbeddedClient.connect(address))

    async def opened_and_closed(address: str) -> embedding.EmbeddedEngine:
        engine = await embedding.open_engine(address)
        await client.close()
        return engine

    monkeypatch.setattr(embedded, "_open", opened_and_closed)

    async def go_on() -> None:
        with pytest.raises(RPCError, match="closed"):
            await client.describe("wf")
        assert _is_free(tmp_path / "orders.db")

    run(go_on())


def test_a_loop_closed_by_force_is_noticed_at_the_next_connect(tmp_path: Path, address: str) -> None:
    """Even a loop that shut nothing down leaves nothing that keeps the next engine from opening."""

    async def begin() -> None:
        await (await EmbeddedClient.connect(address)).start("wf", QUEUE)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # left on purpose
    loop.close()
    assert not _is_free(tmp_path / "orders.db")

    async def go_on() -> None:
        client = await EmbeddedClient.connect(address)
        await client.describe("wf")
        await client.close()

    run(go_on())
    assert _is_free(tmp_path / "orders.db")


def test_an_engine_in_memory_ends_with_its_loop(address: str) -> None:
    """An old transport says so; a new connection gets a fresh engine."""

    async def begin() -> EmbeddedClient:
        client = await EmbeddedClient.connect("sqlite://")
        await client.start("wf", QUEUE)
        return client

    client = asyncio.run(begin())

    async def go_on() -> None:
        with pytest.raises(RPCError, match="Connect again"):
            await client.describe("wf")
        fresh = await EmbeddedClient.connect("sqlite://")
        with pytest.raises(RPCError, match="not found"):
            await fresh.describe("wf")
        await fresh.close()
        await client.close()

    run(go_on())


def test_another_thread_uses_the_engine_through_its_loop(address: str) -> None:
    """Calls, errors, polls and their cancellation cross over; the engine stays where it was opened."""
    ready, done = threading.Event(), threading.Event()
    found: list[object] = []

    async def elsewhere() -> None:
        client = await EmbeddedClient.connect(address)
        await client.start("from-thread", QUEUE)
        found.append((await client.poll_workflow_task(QUEUE)).workflow_execution.workflow_id)
        with pytest.raises(RPCError) as caught:
            await client.describe("nobody")
        found.append(caught.value.status)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.poll_workflow_task(QUEUE, timeout_s=60)
        await client.close()

    def work() -> None:
        ready.wait(10)
        asyncio.run(elsewhere())
        done.set()

    thread = threading.Thread(target=work)
    thread.start()

    async def scenario() -> None:
        client = await EmbeddedClient.connect(address)
        ready.set()
        assert await asyncio.to_thread(done.wait, 10)
        assert client.transport._engine._in_flight == 0
        await client.describe("from-thread")
        await client.close()

    run(scenario())
    thread.join()
    assert found == ["from-thread", RPCStatusCode.NOT_FOUND]


def test_a_loop_that_ends_under_others_lets_them_go_on_with_the_file(address: str) -> None:
    """What they were waiting for is worth another try, and that opens the file on their own loop."""
    polling, ended = threading.Event(), threading.Event()
    found: list[object] = []

    async def elsewhere() -> None:
        client = await EmbeddedClient.connect(address)
        poll = asyncio.create_task(client.poll_workflow_task(QUEUE, timeout_s=60))
        while not client.transport._engine._in_flight:
            await asyncio.sleep(0)
        polling.set()
        try:
            found.append((await poll).task_token)
        except RPCError as error:
            found.append(error.status)
        assert await asyncio.to_thread(ended.wait, 10)
        await client.describe("wf")
        await client.close()

    thread = threading.Thread(target=lambda: (opened.wait(10), asyncio.run(elsewhere())))
    opened = threading.Event()
    thread.start()

    async def scenario() -> None:
        await (await EmbeddedClient.connect(address)).start("wf", "other")
        opened.set()
        assert await asyncio.to_thread(polling.wait, 10)

    asyncio.run(scenario())
    ended.set()
    thread.join(20)
    assert not thread.is_alive()
    assert found == [RPCStatusCode.UNAVAILABLE]


def test_an_engine_whose_loop_stands_still_says_so(address: str) -> None:
    """Nobody waits for ever for a loop that does not run."""
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(EmbeddedClient.connect(address))

    async def scenario() -> None:
        with pytest.raises(RPCError, match="does not run at the moment"):
            await client.describe("wf")
        with pytest.raises(ClientConnectError, match="does not run at the moment"):
            await EmbeddedClient.connect(address)

    run(scenario())
    loop.run_until_complete(client.close())
    loop.close()


_HOLD = """
import asyncio, sys
from perdure.service import embedded
from perdure.service.embedded import open_embedded
async def main():
    await open_embedded(sys.argv[1])
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def test_a_second_process_on_a_file_is_refused_and_told_who_has_it(address: str) -> None:
    """The error is typed and names the holder's process id."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(ClientConnectError, match=f"in use by another process \\(pid {holder.pid}\\)"):
            run(EmbeddedClient.connect(address))
        with pytest.raises(StoreOpenError, match=f"pid {holder.pid}"):
            run(Server(address).start())
    finally:
        holder.communicate("")
    assert holder.returncode == 0
    run(_connect_and_close(address))


async def _connect_and_close(address: str) -> None:
    await (await EmbeddedClient.connect(address)).close()


def test_a_forked_child_holds_nothing(tmp_path: Path, address: str) -> None:
    """A process pool's worker must not keep its parent's file, nor use the parent's engine."""

    async def parent() -> int:
        await EmbeddedClient.connect(address)
        child = os.fork()
        if child == 0:
            held = any("orders.db.lock" in os.readlink(f"/proc/self/fd/{fd}") for fd in _open_files())
            os._exit(1 if held or embedding._engines else 0)
        return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1])

    assert asyncio.run(parent()) == 0


def test_a_forked_child_cannot_use_its_parents_client(address: str) -> None:
    """It is told, as it is by clients over gRPC, rather than waiting for a loop that is not there."""

    async def parent() -> bytes:
        client = await EmbeddedClient.connect(address)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio._set_running_loop(None)
            try:
                asyncio.new_event_loop().run_until_complete(client.describe("wf"))
            except AssertionError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        os.close(write)
        return os.read(read, 1000)

    assert b"Cannot use client across forks" in asyncio.run(parent())


def test_a_forked_child_that_closes_its_parents_client_closes_nothing(address: str) -> None:
    """It waited for ever, for a loop that runs in the parent; over a socket it would have ended the parent's calls."""

    async def parent() -> int:
        async with await ServiceClient.connect(ConnectConfig(address)) as service:
            child = os.fork()
            if child == 0:
                asyncio._set_running_loop(None)
                try:
                    asyncio.new_event_loop().run_until_complete(asyncio.wait_for(service.close(), 10))
                except BaseException:
                    os._exit(1)
                os._exit(0)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert await service.check_health()
            return status

    assert asyncio.run(parent()) == 0


def _open_files() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]


def test_a_server_gives_the_engine_a_lifetime_and_a_port(address: str) -> None:
    """Clients join it by address, others by its port; when it stops, they are told."""

    async def scenario() -> None:
        async with Server(address, grpc="127.0.0.1:0", namespaces=["shop"]) as server:
            client = await EmbeddedClient.connect(server.address)
            await client.start("wf", QUEUE)
            async with RawClient(server.grpc_address) as outside:
                assert (await outside.describe("wf")).workflow_execution_info.execution.workflow_id == "wf"
            await client.close()
            kept = EmbeddedClient((await EmbeddedClient.connect(server.address)).transport, "shop")
            await kept.start("in-shop", QUEUE)
            with pytest.raises(StoreOpenError, match="open in this process already"):
                await Server(address).start()
        with pytest.raises(RPCError, match="closed") as caught:
            await kept.describe("in-shop")
        assert caught.value.status is RPCStatusCode.FAILED_PRECONDITION
        await kept.close()

    run(scenario())


def test_namespaces_in_an_address_are_made(address: str) -> None:
    """Also when the engine is open already."""

    async def scenario() -> None:
        one = await EmbeddedClient.connect(address)
        two = EmbeddedClient((await EmbeddedClient.connect(f"{address}?namespace=shop")).transport, "shop")
        await two.start("wf", QUEUE)
        await one.close()
        await two.close()

    run(scenario())


def test_what_cannot_be_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    """The folder is missing: the error says so, and the next try is a fresh one."""
    address = f"sqlite:///{tmp_path}/missing/orders.db"
    with pytest.raises(ClientConnectError, match="does not exist"):
        run(EmbeddedClient.connect(address))
    assert not embedding._engines
    (tmp_path / "missing").mkdir()
    run(_connect_and_close(address))
