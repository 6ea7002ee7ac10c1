"""Requests by HTTP/1.1 to addresses outside, on the event loop: a connection for each, nothing kept or followed.

Lives here: connecting, sending, reading, and their limits. May not: what is said, and what an answer means.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import h11

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
NAME_THREADS: Final = 8
"""Host names that are looked up at once: the system's resolver blocks its thread. Each name takes one at most."""
_READ_BYTES: Final = 64 * 1024
_AGENT: Final = "perdure"
_PORTS: Final = {"http": 80, "https": 443}
_OWN_HEADERS: Final = frozenset(("host", "connection", "content-length", "transfer-encoding", "user-agent"))
"""Headers that are this module's to say, whoever asks for others."""

Headers = Sequence[tuple[str, str]]


class Answer(NamedTuple):
    """An answer, read whole. Header names are in lower case, values of one name joined by commas."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpCalls:
    """Makes requests. Belongs to one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(NAME_THREADS, thread_name_prefix="perdure-names")
        self._names: dict[tuple[str, int], asyncio.Future[list[str]]] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._is_closed = False

    def close(self) -> None:
        """Takes no more requests; those under way end as if their peers had gone."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for writer in self._open:
            writer.transport.abort()

    async def post(self, url: str, headers: Headers, body: bytes) -> Answer:
        """Posts to an address. Redirections are not followed: addresses were checked, others were not.

        Args:
            url: `http` or `https`.
            headers: beside those that every request has.
            body: what is sent.

        Raises:
            OSError: the peer cannot be reached, or went away.
            ValueError: the address or a header is none, or the peer says something else than HTTP, or too much.
        """
        parts = urlsplit(url)
        default_port = _PORTS.get(parts.scheme)
        if default_port is None or not parts.hostname:
            raise ValueError("the address has no host")
        if self._is_closed:
            raise ConnectionAbortedError("the server stops")
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._connect(parts, parts.port or default_port)
            self._open.add(writer)
            if self._is_closed:
                raise ConnectionAbortedError("the server stops")
            return await _exchange(reader, writer, parts, headers, body)
        except h11.ProtocolError as error:
            raise ValueError(str(error)) from error
        finally:
            if writer is not None:
                self._open.discard(writer)
                writer.transport.abort()

    async def _connect(
        self, parts: SplitResult, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host = str(parts.hostname)
        context = _context() if parts.scheme == "https" else None
        failed: OSError = OSError(f"{host} has no address")
        for address in await self._addresses(host, port):
            try:
                return await asyncio.open_connection(
                    address, port, ssl=context, server_hostname=host if context is not None else None
                )
            except OSError as error:
                failed = error
        raise failed

    async def _addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host. Everybody who asks for it at the same time waits for one look-up."""
        key = (host, port)
        asked = self._names.get(key)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(self._threads, _look_up, host, port)
            self._names[key] = asked
            asked.add_done_callback(lambda _: self._names.pop(key, None))
        return await asyncio.shield(asked)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@functools.cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    parts: SplitResult,
    headers: Headers,
    body: bytes,
) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    own = [
        ("Host", parts.netloc.rpartition("@")[2]),
        ("User-Agent", _AGENT),
        ("Connection", "close"),
        ("Content-Length", str(len(body))),
    ]
    given = [(name, value) for name, value in headers if name.lower() not in _OWN_HEADERS]
    asked = h11.Request(method="POST", target=target, headers=[*own, *given])
    sent = (asked, h11.Data(data=body), h11.EndOfMessage())
    writer.write(b"".join(connection.send(event) or b"" for event in sent))
    await writer.drain()
    status, found, data = 0, dict[str, str](), bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            more = await reader.read(_READ_BYTES)
            if not more and not status:
                raise ConnectionResetError("the peer closed the connection without an answer")
            connection.receive_data(more)
        elif isinstance(event, h11.Response):
            status = event.status_code
            for raw_name, raw_value in event.headers:
                name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
                found[name] = f"{found[name]},{value}" if name in found else value
        elif isinstance(event, h11.Data):
            data += event.data
            if len(data) > MAX_ANSWER_BYTES:
                raise ValueError("http: response body too large")
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, found, bytes(data))
        elif not isinstance(event, h11.InformationalResponse):
            raise ConnectionResetError("the peer closed the connection")
