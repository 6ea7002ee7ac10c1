"""The raw client against a real gRPC server: replies, errors, big messages, many calls, lost connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from benchmarks.wire import Method, RawChannel, RpcError, connect, literal

BIG = 300_000


async def _echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


async def _big(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return os.urandom(1) * BIG


async def _refuse(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: größer")
    raise AssertionError("abort raises")


async def _never(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    await asyncio.Event().wait()
    return b""


@asynccontextmanager
async def served() -> AsyncIterator[tuple[RawChannel, str, grpc.aio.Server]]:
    """A grpc.aio server and a raw channel to it."""
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(function)
        for name, function in {"Echo": _echo, "Big": _big, "Refuse": _refuse, "Never": _never}.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", handlers),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    channel = await connect(address)
    try:
        yield channel, address, server
    finally:
        channel.close()
        await server.stop(0)


def test_many_calls_at_once_each_get_their_own_reply() -> None:
    async def run() -> list[bytes]:
        async with served() as (channel, address, _):
            echo = Method("/t/Echo", address, 10)
            return await asyncio.gather(*(channel.unary(echo, f"{number}".encode()) for number in range(300)))

    assert asyncio.run(run()) == [f"{number}".encode() for number in range(300)]


def test_more_than_one_window_of_requests_is_sent_whole() -> None:
    """The connection's send window is 64 KiB at first: requests beyond it wait for the server's updates."""

    async def run() -> set[int]:
        async with served() as (channel, address, _):
            echo = Method("/t/Echo", address, 10)
            async with asyncio.timeout(10):
                replies = await asyncio.gather(*(channel.unary(echo, bytes(15_000)) for _ in range(60)))
            return {len(reply) for reply in replies}

    assert asyncio.run(run()) == {15_000}


def test_a_reply_of_many_frames_comes_whole() -> None:
    async def run() -> bytes:
        async with served() as (channel, address, _):
            return await channel.unary(Method("/t/Big", address, 10), b"")

    reply = asyncio.run(run())
    assert reply == reply[:1] * BIG


def test_an_error_status_is_an_error_with_its_words() -> None:
    async def run() -> None:
        async with served() as (channel, address, _):
            await channel.unary(Method("/t/Refuse", address, 10), b"")

    with pytest.raises(RpcError) as caught:
        asyncio.run(run())
    assert caught.value.status == grpc.StatusCode.NOT_FOUND.value[0]
    assert caught.value.message.startswith("no such thing")


def test_an_unknown_method_is_an_error() -> None:
    async def run() -> None:
        async with served() as (channel, address, _):
            await channel.unary(Method("/t/Missing", address, 10), b"")

    with pytest.raises(RpcError) as caught:
        asyncio.run(run())
    assert caught.value.status == grpc.StatusCode.UNIMPLEMENTED.value[0]


def test_a_lost_connection_fails_the_calls_that_wait() -> None:
    async def run() -> None:
        async with served() as (channel, address, server):
            waiting = channel.unary(Method("/t/Never", address, 10), b"")
            await channel.unary(Method("/t/Echo", address, 10), b"")
            await server.stop(0)
            async with asyncio.timeout(5):
                await waiting

    with pytest.raises(RpcError):
        asyncio.run(run())


def test_requests_and_headers_that_do_not_fit_are_refused() -> None:
    async def run() -> None:
        async with served() as (channel, address, _):
            await channel.unary(Method("/t/Echo", address, 10), bytes(20_000))

    with pytest.raises(ValueError, match="does not fit"):
        asyncio.run(run())
    with pytest.raises(ValueError, match="127"):
        literal(b"x", bytes(200))
