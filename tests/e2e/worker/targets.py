"""Where the tests of this folder run: four kinds of servers, each started once, with one event loop for its tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from tempfile import TemporaryDirectory
from typing import Any, Final

from perdure.client import Client
from tests.support.servers import PerdureServer, RealServer, ServerProcess

SCENARIO_TIMEOUT_S: Final = 60.0
KINDS: Final = ("embedded", "process", "perdure", "official")

Scenario = Callable[[Client], Coroutine[Any, Any, None]]


class Target:
    """A server of one kind, and an event loop.

    Args:
        kind: One of `KINDS`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._runner = asyncio.Runner()
        config = {
            "system.enableEagerWorkflowStart": "true",
            "nexusoperation.enableStandalone": "true",
            "activity.enableCallbacks": "true",
        }
        self._server: ServerProcess | None = None
        self._folder = TemporaryDirectory()
        self._kept: Client | None = None
        """Keeps an engine in a process of its own from one test to the next."""
        if kind == "perdure":
            self._server = PerdureServer(dynamic_config=config)
        elif kind == "official":
            self._server = RealServer(dynamic_config=config)

    def start(self) -> None:
        """Start the server."""
        if self._server is not None:
            self._runner.run(self._server.start())
        if self.kind == "process":
            self._kept = self._runner.run(Client.connect(self.address))

    def stop(self) -> None:
        """End the server and the loop."""
        if self._server is not None:
            self._runner.run(self._server.stop())
        if self._kept is not None:
            self._runner.run(self._kept.service_client.close())
        self._runner.close()
        self._folder.cleanup()

    @property
    def address(self) -> str:
        """What a client connects to."""
        if self._server is not None:
            return self._server.address
        return (
            f"sqlite:///{self._folder.name}/test.db?engine=process" if self.kind == "process" else "sqlite://"
        )

    def run(self, scenario: Scenario) -> None:
        """Run a scenario with a client of its own; fail it when it takes longer than its bound."""
        self._runner.run(self._bounded(scenario))

    async def _bounded(self, scenario: Scenario) -> None:
        async with asyncio.timeout(SCENARIO_TIMEOUT_S):
            async with await Client.connect(self.address) as client:
                await scenario(client)


def on_every_target(scenario: Scenario) -> Callable[[Target], None]:
    """Make a scenario a test that runs on every kind of server."""

    def test(target: Target) -> None:
        target.run(scenario)

    test.__name__ = scenario.__name__
    test.__qualname__ = scenario.__qualname__
    test.__doc__ = scenario.__doc__
    test.__module__ = scenario.__module__
    return test
