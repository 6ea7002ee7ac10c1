"""`Server`: an engine of this process with an explicit lifetime, and a gRPC port where it is wanted.

May live here: what a person who starts a server in code says and gets. May not: anything of the client, which finds the
engine by its address (`Client.connect(server.address)`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from perdure.core.errors import FailedPreconditionError
from perdure.server.addresses import AddressError, host_and_port, parse_address
from perdure.server.config import ServerConfig
from perdure.server.embedding import DRAIN_S, EmbeddedEngine, EngineOptions, own_engine


class Server:
    """A server inside this process.

        async with Server("sqlite:///orders.db", grpc="127.0.0.1:7233") as server:
            client = await Client.connect(server.address)

    It runs on the event loop that starts it. Clients that connect to its address in this process reach it without a
    network; with `grpc`, the command line, workers in other languages and other processes reach it too. When it stops,
    calls under way finish and long polls end empty.

    Args:
        address: where its data is, such as `sqlite:///orders.db`; in memory by default.
        grpc: `host:port` to listen on, port 0 for a free one; None opens no port (see `listen`).
        http: `host:port` of the HTTP/JSON API, in the same way.
        namespaces: created when they are missing, beside `default`.
        search_attributes: name to type number (`temporal.api.enums.v1.IndexedValueType`), added to those namespaces.
        config: everything else that a server can be told.
        time_skipping: serve TestService, by whose locks the clock skips to the next deadline; for tests.
        drain_s: how long calls under way may take when it stops, seconds.

    Raises:
        AddressError: `address` is no address of an engine, or `grpc` or `http` no `host:port`.
    """

    def __init__(
        self,
        address: str = "sqlite://",
        *,
        grpc: str | None = None,
        http: str | None = None,
        namespaces: Sequence[str] = (),
        search_attributes: Mapping[str, int] | None = None,
        config: ServerConfig | None = None,
        time_skipping: bool = False,
        drain_s: float = DRAIN_S,
    ) -> None:
        config = config or ServerConfig()
        self._address = address
        self._place = parse_address(address)
        if self._place.in_own_process:
            raise AddressError(
                f"{address}: a Server runs in this process; leave engine=process out. For one in a process of its own, "
                "run perdure server start-dev, or let Client.connect start it."
            )
        self._grpc = None if grpc is None else _host_and_port(grpc)
        self._http = None if http is None else _host_and_port(http)
        self._host = ""
        self._options = EngineOptions(
            replace(
                config,
                namespaces=(*config.namespaces, *namespaces),
                search_attributes={**config.search_attributes, **(search_attributes or {})},
                time_skipping=time_skipping or config.time_skipping,
            ),
            drain_s,
        )
        self._engine: EmbeddedEngine | None = None

    @property
    def address(self) -> str:
        """What clients in this process connect to."""
        return self._address

    @property
    def port(self) -> int:
        """The port it listens on; 0 when it does not."""
        return self._engine.server.port if self._engine is not None else 0

    @property
    def grpc_address(self) -> str:
        """The `host:port` it listens on; empty when it does not."""
        return host_and_port(self._host, self.port) if self.port else ""

    @property
    def http_address(self) -> str:
        """The `host:port` of the HTTP/JSON API; empty without one."""
        port = self._engine.server.http_port if self._engine is not None else 0
        return host_and_port(self._http[0], port) if port and self._http is not None else ""

    async def start(self) -> None:
        """Open the data and, if asked for, the port.

        Raises:
            StoreOpenError: the data cannot be used: another process has it (the message names that), or it is open in
                this one already.
            PortError: the port cannot be listened on.
            InvalidArgumentError: a namespace or search attribute is not possible.
        """
        if self._engine is not None:
            raise FailedPreconditionError("the server is started already")
        self._engine = await own_engine(self._place, self._options)
        try:
            if self._grpc is not None:
                await self.listen(*self._grpc)
            if self._http is not None:
                await self._engine.server.listen_http(*self._http)
        except BaseException:  # also when cancelled: nobody else would close it
            await self.stop()
            raise

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Open the gRPC port of a started server; one that listens already goes on as it is.

        Args:
            host: address to listen on.
            port: 0 takes a free one.

        Returns:
            `grpc_address`.

        Raises:
            PortError: the address cannot be listened on.
            FailedPreconditionError: the server is not started.
        """
        if self._engine is None:
            raise FailedPreconditionError("the server is not started")
        if not self.port:
            await self._engine.server.listen(host, port)
            self._host = host
        return self.grpc_address

    async def stop(self) -> None:
        """End long polls empty, let calls under way finish, close port and data. Stopping twice is fine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.on_loop(engine.close)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()


def _host_and_port(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise AddressError(f"grpc={text!r}: it must be host:port, such as 127.0.0.1:7233.")
    return host.strip("[]"), int(port)
