"""What happens to calls and connections when things happen at the same time: deadlines, cancellation, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, ItemsView, Iterator, Mapping
from typing import Any

import pytest

from perdure.api.workflowservice.v1 import GetSystemInfoRequest, GetSystemInfoResponse
from perdure.client import Client, ClientConfig, Plugin
from perdure.service import ClientClosedError, ClientConnectError, ConnectConfig, RPCError, RPCStatusCode
from perdure.service import ServiceClient as Service
from perdure.service import _client as service_client
from perdure.service.http2.connection import Connection, Stream
from perdure.service.http2.transport import Http2Transport, address_of
from perdure.service.transport import Transport
from tests.unit.client.fakes import FakeTransport, fake_service

LIMIT_S = 10.0
SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
PATH = f"/{SERVICE}/GetSystemInfo"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""What a server says first."""


def _run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario

    asyncio.run(bounded())


class Silent:
    """A server that says `greeting` to everybody, and then nothing any more."""

    def __init__(self, greeting: bytes = SETTINGS) -> None:
        self.greeting = greeting
        self.connected = asyncio.Event()
        self._over = asyncio.Event()

    async def __aenter__(self) -> Http2Transport:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.transport = _transport(f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}")
        return self.transport

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self.transport.close()
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting)
        self.connected.set()
        await self._over.wait()
        writer.close()


def _transport(target: str = "127.0.0.1:1") -> Http2Transport:
    settings = ConnectConfig(target)._to_bridge_config()
    address = address_of(settings)
    assert address is not None
    return Http2Transport(settings, address)


async def _call(transport: Transport, timeout_s: float | None = None) -> GetSystemInfoResponse:
    return await transport.call(
        SERVICE, PATH, GetSystemInfoRequest(), GetSystemInfoResponse, metadata={}, timeout=timeout_s
    )


async def _ask(service: Service) -> GetSystemInfoResponse:
    answer: GetSystemInfoResponse = await service.workflow_service.get_system_info(GetSystemInfoRequest())
    return answer


def test_a_deadline_that_passes_just_when_the_connection_is_ready_is_kept() -> None:
    """The timer may fire between the end of what was waited for and the caller's next step."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        timers: list[Callable[[], object]] = []
        later = loop.call_later

        def call_later(delay: float, callback: Callable[..., Any], *args: Any, **more: Any) -> Any:
            timers.append(callback)
            return later(delay, callback, *args, **more)

        async with Silent() as transport:
            real = transport._connection

            async def connection(loop: asyncio.AbstractEventLoop) -> Connection:
                made = await real(loop)
                # Before what wakes the caller.
                loop.call_soon(timers[0])
                return made

            transport._connection = connection  # type: ignore[method-assign]  # with a timer in the middle
            loop.call_later = call_later  # type: ignore[assignment]  # the first one is the deadline's
            with pytest.raises(RPCError) as caught:
                await _call(transport, 60)
            assert caught.value.status is RPCStatusCode.DEADLINE_EXCEEDED

    _run(scenario())


def test_a_caller_cancelled_just_when_its_call_begins_leaves_no_call() -> None:
    """There was no room for the call at first; as there is, the caller has gone."""

    class Full:
        """A connection without room; the call waits, and begins as its caller is cancelled."""

        is_usable = True
        has_room = False
        caller: asyncio.Task[None]
        abandoned: tuple[Stream, ...] = ()

        async def open_stream(self, headers: bytes, body: bytes) -> Stream:
            loop = asyncio.get_running_loop()
            loop.call_soon(self.caller.cancel)
            return Stream(1, 0, loop.create_future())

        def abandon(self, stream: Stream) -> None:
            self.abandoned += (stream,)

    async def begin(connection: Full) -> None:
        transport = _transport()
        transport._current = (asyncio.get_running_loop(), connection)  # type: ignore[assignment]
        await _call(transport)

    async def scenario() -> None:
        full = Full()
        full.caller = asyncio.create_task(begin(full))
        with pytest.raises(asyncio.CancelledError):
            await full.caller
        assert len(full.abandoned) == 1

    _run(scenario())


def test_a_deadline_in_the_clean_up_of_a_cancelled_task_is_a_deadline() -> None:
    """The task was cancelled long ago; this call was not."""

    async def clean_up(transport: Http2Transport, cancelled: asyncio.Event) -> RPCStatusCode:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
        with pytest.raises(RPCError) as caught:
            await _call(transport, 0.02)
        return caught.value.status

    async def scenario() -> None:
        async with Silent() as transport:
            cancelled = asyncio.Event()
            task = asyncio.create_task(clean_up(transport, cancelled))
            await asyncio.sleep(0)
            task.cancel()
            assert await task is RPCStatusCode.DEADLINE_EXCEEDED
            assert cancelled.is_set()

    _run(scenario())


def test_closing_while_connecting_is_an_error_and_no_cancellation() -> None:
    """Nobody cancelled the caller."""

    async def scenario() -> None:
        silent = Silent(b"")
        async with silent as transport:
            call = asyncio.create_task(_call(transport, 60))
            await silent.connected.wait()
            await transport.close()
            with pytest.raises(RPCError, match="closed") as caught:
                await call
            assert caught.value.status is RPCStatusCode.CANCELLED

    _run(scenario())


@pytest.mark.parametrize("address", ["foo..bar:7233", "127.0.0.1:99999", f"{'a' * 70}.x:7233"])
def test_what_cannot_be_an_address_is_the_documented_error(address: str) -> None:
    """Names that no resolver takes, and ports that there are not."""
    with pytest.raises(ClientConnectError, match="(cannot be an|is no) address"):
        asyncio.run(Service.connect(ConnectConfig(address)))


def test_metadata_of_calls_in_several_threads_is_not_mixed_up() -> None:
    """Between two steps of one call, another thread may make another call."""
    transport = _transport()
    others = {"authorization": "b" * 20}

    class Interrupted(Mapping[str, str | bytes]):
        """Metadata during whose reading the other thread's call is made."""

        def __getitem__(self, key: str) -> str:
            return {"authorization": "a" * 20}[key]

        def __iter__(self) -> Iterator[str]:
            return iter(("authorization",))

        def __len__(self) -> int:
            return 1

        def items(self) -> ItemsView[str, str | bytes]:
            transport._headers(PATH, others, False)
            return super().items()

    expected = transport._headers(PATH, others, False)
    assert transport._headers(PATH, Interrupted(), False) != expected
    assert transport._headers(PATH, others, False) == expected


# --- a service client that connects with its first call


def _opener(
    monkeypatch: pytest.MonkeyPatch, open_transport: Callable[[str], Coroutine[Any, Any, FakeTransport]]
) -> Service:
    monkeypatch.setattr(service_client, "opener_for", lambda address: open_transport)
    return asyncio.run(Service.connect(ConnectConfig("fake:1", lazy=True)))


def test_closing_while_the_first_call_connects_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call and all later ones are told; what was being opened is closed."""
    opened: list[FakeTransport] = []
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slowly(address: str) -> FakeTransport:
        begun.set()
        await may_end.wait()
        opened.append(FakeTransport())
        return opened[-1]

    service = _opener(monkeypatch, slowly)

    async def scenario() -> None:
        call = asyncio.create_task(_ask(service))
        await begun.wait()
        waiting = asyncio.create_task(_ask(service))
        await asyncio.sleep(0)
        await service.close()
        may_end.set()
        for told in (call, waiting, _ask(service)):
            with pytest.raises(ClientClosedError):
                await told
        assert [transport.closed for transport in opened] == [True]

    _run(scenario())


def test_calls_of_several_event_loops_may_connect_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a loop that has ended nor one that runs beside is in the way."""

    async def fails(address: str) -> FakeTransport:
        await asyncio.sleep(0)
        raise ClientConnectError("nobody there")

    service = _opener(monkeypatch, fails)

    async def two_at_once() -> list[BaseException | GetSystemInfoResponse]:
        return list(await asyncio.gather(_ask(service), _ask(service), return_exceptions=True))

    for _ in range(2):
        assert [type(error) for error in asyncio.run(two_at_once())] == [ClientConnectError] * 2


def test_of_two_transports_opened_at_once_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is closed, and both threads use the same."""
    opened: list[FakeTransport] = []

    async def opens(address: str) -> FakeTransport:
        transport = FakeTransport()
        opened.append(transport)
        if len(opened) == 1:
            await asyncio.to_thread(lambda: asyncio.run(_ask(service)))
        return transport

    service = _opener(monkeypatch, opens)

    async def scenario() -> None:
        await _ask(service)
        assert [transport.closed for transport in opened] == [True, False]

    _run(scenario())


def test_a_plugin_that_refuses_after_connecting_leaves_no_connection() -> None:
    """Nobody else could close it."""
    service, transport = fake_service()

    class Refuses(Plugin):
        def configure_client(self, config: ClientConfig) -> ClientConfig:
            raise RuntimeError("the plugin says no")

        async def connect_service_client(self, config: ConnectConfig, next: Any) -> Service:
            return service

    with pytest.raises(RuntimeError, match="says no"):
        asyncio.run(Client.connect("fake:1", plugins=[Refuses()]))
    assert transport.closed
