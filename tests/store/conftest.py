"""The implementations that the conformance suite runs on, and tests that are coroutines.

A test function that is a coroutine gets its `store` opened before and closed after it, on one event loop.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.store.faults import FaultyStore
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore

IMPLEMENTATIONS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / "conformance.db"),
    "wrapped": lambda folder: FaultyStore(MemoryStore()),
}


@pytest.fixture(params=IMPLEMENTATIONS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each implementation, empty; coroutine tests find it open."""
    return IMPLEMENTATIONS[request.param](tmp_path)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine tests."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    arguments: dict[str, Any] = {
        name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters
    }
    store: Store | None = arguments.get("store")

    async def run() -> None:
        if store is not None:
            await store.open()
        try:
            await function(**arguments)
        finally:
            if store is not None:
                await store.close()

    asyncio.run(run())
    return True
