"""Plugins: they change how clients are configured and connected.

May live here: the class a plugin derives from. May not: plugins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.client._config import ClientConfig
    from perdure.service import ConnectConfig, ServiceClient


class Plugin(ABC):
    """Changes how clients are configured and connected. Give instances to `Client.connect`."""

    def name(self) -> str:
        """Return the plugin's name: by default its class's full name."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @abstractmethod
    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Return the configuration a client is made with.

        Args:
            config: The configuration so far; it may be changed and returned.
        """

    @abstractmethod
    async def connect_service_client(
        self, config: ConnectConfig, next: Callable[[ConnectConfig], Awaitable[ServiceClient]]
    ) -> ServiceClient:
        """Return a connected service client.

        Args:
            config: How to connect; it may be changed.
            next: Connects; call it with the configuration.
        """
