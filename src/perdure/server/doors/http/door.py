"""The HTTP door: an application of routes, served on one port beside the gRPC door."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from perdure.server.addresses import host_and_port
from perdure.server.doors.http import connection
from perdure.server.doors.http.connection import BoundedConnection
from perdure.server.doors.http.hosts import AllowedHosts
from perdure.server.doors.ports import PortError, why

BACKLOG = 1024
IDLE_S = 120
"""How long a connection without requests is kept."""

CLOSE_S = 1.0
"""How long requests have to end when the connections of a stopped server are cut."""


class _Quiet(uvicorn.Server):
    """A server that leaves signals to whoever runs the process, and parts with peers that are too slow."""

    _next_check_s = 0.0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; looks at slow peers now and then."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._next_check_s:
            self._next_check_s = now_s + connection.CHECK_S
            for each in self.bounded_connections():
                each.check(now_s)
        return await super().on_tick(counter)

    def bounded_connections(self) -> list[BoundedConnection]:
        """Those that are open."""
        return [each for each in self.server_state.connections if isinstance(each, BoundedConnection)]


class HttpDoor:
    """Serves routes by HTTP/1.1.

    Args:
        routes: what is served.
        host, port: where; port 0 takes a free one.
        allowed_hosts: patterns of what the Host header may be.
    """

    def __init__(
        self, routes: Sequence[BaseRoute], host: str, port: int, allowed_hosts: Sequence[str] = ("*",)
    ) -> None:
        self._app = AllowedHosts(Starlette(routes=list(routes)), allowed_hosts)
        self._host = host
        self._asked_port = port
        self._server: _Quiet | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Binds the address and serves.

        Raises:
            PortError: it cannot be bound; the message says why.
        """
        try:
            bound = socket.create_server((self._host, self._asked_port), backlog=BACKLOG)
        except (OSError, OverflowError, UnicodeError) as error:
            raise PortError(
                f"cannot listen for HTTP on {host_and_port(self._host, self._asked_port)}: {why(error)}"
            ) from error
        self.port = bound.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE_S,
            http=BoundedConnection,
            ws="none",
        )
        server = self._server = _Quiet(config)
        self._serving = asyncio.create_task(server.serve([bound]), name="http door")

    def turn_away(self) -> None:
        """Takes no new connections; requests under way go on."""
        if self._server is not None:
            self._server.should_exit = True

    async def stop(self, grace_s: float) -> None:
        """Lets requests under way finish for `grace_s` seconds, then ends them."""
        server, serving = self._server, self._serving
        self._server = self._serving = None
        if server is None or serving is None:
            return
        server.should_exit = True
        done, _ = await asyncio.wait((serving,), timeout=max(grace_s, 0.0))
        if not done:
            server.force_exit = True
            serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        for each in server.bounded_connections():
            each.transport.abort()
        # Their requests hear of it, and end by themselves; what does not is ended.
        if server.server_state.tasks:
            _, left = await asyncio.wait(server.server_state.tasks, timeout=CLOSE_S)
            for request in left:
                request.cancel()
