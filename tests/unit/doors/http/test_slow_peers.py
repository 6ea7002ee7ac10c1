"""What a slow, silent or numerous peer gets at the HTTP door: its connection ends, and others are served.

The time is not waited for: `check` is told a later one.
"""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from perdure.server.doors.http import connection
from perdure.server.doors.http.connection import BoundedConnection
from perdure.server.doors.http.door import HttpDoor
from perdure.server.lifetime import Server
from tests.unit.doors.http.test_http_door import START, connect, request, send, with_server

HEAD = b"POST /namespaces/default/workflows/w HTTP/1.1\r\nHost: localhost\r\n"
WITH_LENGTH = HEAD + b"Content-Length: 54\r\n\r\n"
WITH_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
GET = request("GET", "/system-info", Connection="keep-alive")
POLL = request("GET", "/namespaces/default/workflows/w/history?waitNewEvent=true", Connection="keep-alive")


def door_of(server: Server) -> HttpDoor:
    """Its HTTP door."""
    assert server._engine is not None
    return cast(HttpDoor, server._engine.server._http_door)


def connections(server: Server) -> list[BoundedConnection]:
    """Those that are open."""
    uvicorn_server = door_of(server)._server
    assert uvicorn_server is not None
    return uvicorn_server.bounded_connections()


async def has_received(server: Server, count: int) -> BoundedConnection:
    """Waits until the door's only connection got so many bytes, and returns it."""
    while True:
        for each in connections(server):
            if each.received_bytes >= count:
                return each
        await asyncio.sleep(0)


def check(each: BoundedConnection, later_s: float) -> None:
    """What the door's next look finds, `later_s` seconds from now."""
    each.check(asyncio.get_running_loop().time() + later_s)


@pytest.mark.parametrize(
    ("sent", "limit_s"),
    [
        (b"P", connection.HEAD_S),
        (HEAD, connection.HEAD_S),
        (WITH_LENGTH, connection.REQUEST_S),
        (WITH_LENGTH + b"{", connection.REQUEST_S),
        (WITH_CHUNKS, connection.REQUEST_S),
    ],
    ids=["a byte", "half a head", "no body", "half a body", "half a chunked body"],
)
@pytest.mark.parametrize("earlier", [b"", GET], ids=["first", "second"])
def test_a_request_that_does_not_come_to_its_end_is_answered_408(
    earlier: bytes, sent: bytes, limit_s: float
) -> None:
    """However it is not complete, and whether or not others came before on the connection."""

    async def scenario(server: Server) -> None:
        reader, writer = await connect(server)
        if earlier:
            writer.write(earlier)
            await reader.readuntil(b"}")
        writer.write(sent)
        each = await has_received(server, len(earlier) + len(sent))
        check(each, limit_s - 1)
        assert not each.transport.is_closing()
        check(each, limit_s + 1)
        assert b"HTTP/1.1 408 " in await reader.read()
        assert (await send(server, "GET", "/system-info")).status == 200
        writer.close()

    with_server(scenario)


@pytest.mark.parametrize("earlier", [b"", GET], ids=["new", "used"])
def test_a_connection_without_a_request_is_closed_without_an_answer_and_a_used_one_is_kept(
    earlier: bytes,
) -> None:
    """An answer to nothing would be taken for that of the next request. For a used one there is a limit of its own."""

    async def scenario(server: Server) -> None:
        reader, writer = await connect(server)
        if earlier:
            writer.write(earlier)
            await reader.readuntil(b"}")
        each = await has_received(server, len(earlier))
        check(each, connection.REQUEST_S)
        assert each.transport.is_closing() is (not earlier)
        if not earlier:
            assert await reader.read() == b""
        writer.close()

    with_server(scenario)


def test_the_door_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CHECK_S", 0.0)
    monkeypatch.setattr(connection, "HEAD_S", 0.0)

    async def scenario(server: Server) -> None:
        reader, writer = await connect(server)
        assert await reader.read() == b""
        writer.close()

    with_server(scenario)


@pytest.mark.parametrize("begun", [HEAD, WITH_LENGTH], ids=["head", "body"])
def test_a_peer_that_dribbles_has_no_longer(begun: bytes) -> None:
    """Each byte is a sign of life, and still the request has one limit as a whole."""

    async def scenario(server: Server) -> None:
        reader, writer = await connect(server)
        writer.write(begun)
        each = await has_received(server, len(begun))
        asked_at_s = each.asked_at_s
        writer.write(b"a")
        await has_received(server, len(begun) + 1)
        assert each.asked_at_s == asked_at_s is not None
        check(each, connection.REQUEST_S)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()

    with_server(scenario)


def test_a_request_that_was_answered_before_its_end_has_the_same_limit() -> None:
    """Nobody reads what still comes of it."""
    refused = b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab"

    async def scenario(server: Server) -> None:
        reader, writer = await connect(server)
        writer.write(refused)
        each = await has_received(server, len(refused))
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 404 ")
        check(each, connection.REQUEST_S)
        assert each.transport.is_closing()
        assert b"408" not in await reader.read()
        writer.close()

    with_server(scenario)


def test_a_caller_that_waits_for_the_server_is_not_slow() -> None:
    """A long poll lasts far longer than a request may take to come."""

    async def scenario(server: Server) -> None:
        assert (await send(server, "POST", "/namespaces/default/workflows/w", START)).status == 200
        reader, writer = await connect(server)
        writer.write(POLL)
        each = await has_received(server, len(POLL))
        check(each, 10 * connection.REQUEST_S)
        assert not each.transport.is_closing()
        await server.stop()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()

    with_server(scenario)


class _Full:
    """A transport of which a given number of bytes has not been taken."""

    def __init__(self) -> None:
        self.unsent = 0
        self.is_cut = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.is_cut

    def abort(self) -> None:
        self.is_cut = True


@pytest.mark.parametrize(
    ("unsent_at_each_check", "is_cut"),
    [([5, 5, 5], True), ([5, 9, 9], True), ([5, 4, 4], False), ([5, 0, 5], False), ([0, 0, 0], False)],
)
def test_a_peer_that_takes_nothing_of_an_answer_is_cut_off_and_a_slow_one_is_not(
    unsent_at_each_check: list[int], is_cut: bool
) -> None:
    async def scenario(server: Server) -> None:
        _, writer = await connect(server)
        writer.write(POLL)
        each = await has_received(server, len(POLL))
        transport, each.transport = each.transport, cast(asyncio.Transport, full := _Full())
        for number, unsent in enumerate(unsent_at_each_check):
            full.unsent = unsent
            check(each, number * 0.6 * connection.STALL_S)
        each.transport = transport
        assert full.is_cut is is_cut
        writer.close()

    with_server(scenario)


def test_more_connections_than_allowed_are_closed_and_a_free_place_is_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 2)

    async def scenario(server: Server) -> None:
        (_, first), (second_reader, second) = await connect(server), await connect(server)
        second.write(GET)
        assert (await second_reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        third_reader, third = await connect(server)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await third_reader.readexactly(1)
        for each in (first, second, third):
            each.close()
        while connections(server):
            await asyncio.sleep(0)
        assert (await send(server, "GET", "/system-info")).status == 200

    with_server(scenario)


def test_an_incomplete_request_does_not_outlive_the_door() -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await connect(server)
        writer.write(WITH_LENGTH + b"{")
        each = await has_received(server, len(WITH_LENGTH) + 1)
        await door_of(server).stop(grace_s=0.0)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert not each.tasks
        writer.close()

    with_server(scenario)
