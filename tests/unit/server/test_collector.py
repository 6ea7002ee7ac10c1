"""While a server or worker runs, the collector runs rarely; what somebody set stays, and the default comes back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.client import Client
from perdure.server import collector
from perdure.server.collector import THRESHOLDS
from perdure.server.lifetime import Server
from perdure.worker import Worker

DEFAULT = (700, 10, 10)


@activity.defn
async def look() -> list[int]:
    """The thresholds while a worker runs."""
    return list(gc.get_threshold())


@workflow.defn
class Look:
    """Looks once."""

    @workflow.run
    async def run(self) -> list[int]:
        """Asks the activity."""
        return await workflow.execute_activity(look, start_to_close_timeout=timedelta(seconds=30))


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's are put back, and a server that another test's fixture keeps running does not count."""
    monkeypatch.setattr(collector, "_running", 0)
    monkeypatch.setattr(collector, "_before", None)
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_the_default_is_changed_while_any_server_runs() -> None:
    async def scenario() -> None:
        gc.set_threshold(*DEFAULT)
        async with Server():
            async with Server("sqlite://?name=second"):
                assert gc.get_threshold() == THRESHOLDS
            assert gc.get_threshold() == THRESHOLDS
        assert gc.get_threshold() == DEFAULT

    asyncio.run(scenario())


@pytest.mark.parametrize("chosen", [(1234, 5, 6), (0, 10, 10)])
def test_what_somebody_chose_stays(chosen: tuple[int, int, int]) -> None:
    async def scenario() -> None:
        gc.set_threshold(*chosen)
        async with Server():
            assert gc.get_threshold() == chosen
        assert gc.get_threshold() == chosen
        gc.set_threshold(*DEFAULT)
        async with Server():
            gc.set_threshold(*chosen)
        assert gc.get_threshold() == chosen

    asyncio.run(scenario())


def test_a_worker_does_so_too_wherever_its_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        client = await Client.connect("sqlite://?name=collected")
        # As if the server were in another process.
        monkeypatch.setattr(collector, "_running", 0)
        gc.set_threshold(*DEFAULT)
        async with Worker(client, task_queue="collected", workflows=[Look], activities=[look]):
            seen = await client.execute_workflow(Look.run, id="look", task_queue="collected")
        assert tuple(seen) == THRESHOLDS
        assert gc.get_threshold() == DEFAULT

    asyncio.run(scenario())
