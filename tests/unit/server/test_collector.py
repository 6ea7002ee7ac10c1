"""While a server runs, the collector runs rarely; what somebody set stays, and the default comes back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from perdure.server import collector
from perdure.server.collector import THRESHOLDS
from perdure.server.lifetime import Server

DEFAULT = (700, 10, 10)


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's are put back, and a server that another test's fixture keeps running does not count."""
    monkeypatch.setattr(collector, "_servers", 0)
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
