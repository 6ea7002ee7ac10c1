"""How the Python SDK tests reach a server: one shared process, one event loop, a client for each test.

Scenarios are coroutines that get a `Client`; `on_server` makes each a plain test. Nothing here knows a scenario.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from tests.support.servers import ServerProcess
from tests.support.target import target_server

SCENARIO_TIMEOUT_S: Final = 90.0
CONDITION_TIMEOUT_S: Final = 20.0
CONDITION_INTERVAL_S: Final = 0.02
SYNC_ACTIVITY_THREADS: Final = 8

SEARCH_ATTRIBUTES: Final = {"Colour": "Keyword", "Weight": "Int"}
DYNAMIC_CONFIG: Final = {"system.enableEagerWorkflowStart": "true"}

Scenario = Callable[[Client], Coroutine[Any, Any, None]]


class SharedServer:
    """A running server with an event loop of its own for the scenarios of a whole session."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._server = target_server(search_attributes=SEARCH_ATTRIBUTES, dynamic_config=DYNAMIC_CONFIG)

    @property
    def server(self) -> ServerProcess:
        """The process behind it."""
        return self._server

    def start(self) -> None:
        """Start the process; return when it serves."""
        self._runner.run(self._server.start())

    def stop(self) -> None:
        """End the process and the loop."""
        self._runner.run(self._server.stop())
        self._runner.close()

    def run(self, scenario: Scenario) -> None:
        """Run one scenario with a client of its own; fail it when it takes longer than its bound."""
        self._runner.run(self._bounded(scenario))

    async def _bounded(self, scenario: Scenario) -> None:
        async with asyncio.timeout(SCENARIO_TIMEOUT_S):
            client = await Client.connect(self._server.address)
            await scenario(client)


def on_server(scenario: Scenario) -> Callable[[SharedServer], None]:
    """Make a scenario a test function that runs on the shared server."""

    def test(shared_server: SharedServer) -> None:
        shared_server.run(scenario)

    test.__name__ = scenario.__name__
    test.__qualname__ = scenario.__qualname__
    test.__doc__ = scenario.__doc__
    test.__module__ = scenario.__module__
    return test


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def new_worker(
    client: Client,
    *,
    workflows: Sequence[type] = (),
    activities: Sequence[Callable[..., Any]] = (),
    task_queue: str | None = None,
    **options: Any,
) -> Worker:
    """A worker (not yet running) on a queue of its own unless one is named; `options` go to the SDK's Worker."""
    return Worker(
        client,
        task_queue=task_queue or unique("queue"),
        workflows=workflows,
        activities=activities,
        activity_executor=ThreadPoolExecutor(SYNC_ACTIVITY_THREADS) if activities else None,
        **options,
    )


async def eventually(
    what: str, condition: Callable[[], Awaitable[bool]], timeout_s: float = CONDITION_TIMEOUT_S
) -> None:
    """Return once `condition` holds; raise AssertionError naming `what` after the bound."""
    try:
        async with asyncio.timeout(timeout_s):
            # What is waited for is in another process: nothing here could set an event.
            while not await condition():
                await asyncio.sleep(CONDITION_INTERVAL_S)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:.0f} s: {what}") from None


async def events_of(handle: WorkflowHandle[Any, Any]) -> list[HistoryEvent]:
    """The whole history of the handle's run."""
    return [event async for event in handle.fetch_history_events()]


def event_names(events: Sequence[HistoryEvent]) -> list[str]:
    """The events' types in the usual form, such as ActivityTaskScheduled."""
    return [
        "".join(word.capitalize() for word in EventType.Name(event.event_type).split("_")[2:])
        for event in events
    ]


async def history_names(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """The types of all events of the handle's run."""
    return event_names(await events_of(handle))
