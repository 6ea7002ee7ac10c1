"""Serves the web UI on a port of this process: beside a development server, or for any server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from starlette.routing import Mount

from perdure.server.addresses import host_and_port
from perdure.server.doors.http.door import HttpDoor
from perdure.service import ConnectConfig, ServiceClient
from perdure.ui import UiApp, UiConfig
from perdure.ui.security import host_name

_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class UiPlace:
    """Where the UI listens, and what it is told.

    Attributes:
        host, port: where; port 0 takes a free one.
        names: more names that it may be reached by.
        codec_endpoint: decodes payloads for every user.
        public_path: what its addresses begin with, behind a proxy.
        namespace: where it begins.
        is_port_chosen: somebody chose the port, so that it is an error if it cannot be had.
    """

    host: str
    port: int
    names: tuple[str, ...] = ()
    codec_endpoint: str = ""
    public_path: str = ""
    namespace: str = "default"
    is_port_chosen: bool = True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def reachable(host: str, port: int) -> str:
    """The address of a server that listens on a host, for a client on this machine."""
    return host_and_port(_ANY_ADDRESS.get(host, host), port)


class UiDoor:
    """The UI on a port.

    Args:
        place: where.
        connect: how it reaches the server; it connects with the first page.
        shown_address: the server's, as users see it.
    """

    def __init__(self, place: UiPlace, connect: ConnectConfig, shown_address: str) -> None:
        connect.lazy = True
        self._connect = connect
        self._config = UiConfig(
            hosts=tuple(name.lower() for name in (place.host, host_name(place.host), *place.names)),
            # With a name or a path of its own, it is behind a proxy, which lets others in.
            is_local=is_loopback(place.host) and not place.names and not place.public_path,
            public_path=place.public_path.rstrip("/"),
            codec_endpoint=place.codec_endpoint,
            default_namespace=place.namespace,
            address=shown_address,
        )
        self._place = place
        self._client: ServiceClient | None = None
        self._door: HttpDoor | None = None

    @property
    def port(self) -> int:
        """Its port, once started."""
        return self._door.port if self._door is not None else 0

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{reachable(self._place.host, self.port)}{self._config.public_path}"

    async def start(self) -> None:
        """Listens.

        Raises:
            PortError: it cannot.
        """
        client = await ServiceClient.connect(self._connect)
        door = HttpDoor([Mount("/", app=UiApp(client, self._config))], self._place.host, self._place.port)
        await door.start()
        self._client, self._door = client, door

    async def stop(self, grace_s: float) -> None:
        """Lets pages under way finish, then closes the connection."""
        if self._door is not None:
            await self._door.stop(grace_s)
        if self._client is not None:
            await asyncio.shield(self._client.close())
        self._door = self._client = None
