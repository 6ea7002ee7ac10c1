"""What the tests of handlers share: an in-memory store with one namespace, and a way to run a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from perdure.api.namespace.v1 import NamespaceInfo
from perdure.server.namespaces import REGISTERED, Namespace, Namespaces
from perdure.server.runtime import SystemRuntime
from perdure.server.service.call import Call
from perdure.server.service.namespace_rpcs import new_config
from perdure.store.memory import MemoryStore

TIMEOUT_S = 20.0
CALL = Call()
DAY_S = 86_400

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result], timeout_s: float = TIMEOUT_S) -> Result:
    """Runs a coroutine to its end, within a bound."""

    async def bounded() -> Result:
        async with asyncio.timeout(timeout_s):
            return await work

    return asyncio.run(bounded())


async def make_namespaces(*names: str) -> tuple[MemoryStore, Namespaces]:
    """An open store with these namespaces (and always `default`)."""
    store = MemoryStore()
    await store.open()
    namespaces = Namespaces(store)
    await namespaces.load()
    for name in ("default", *names):
        await namespaces.create(
            Namespace(SystemRuntime().new_id(), name, NamespaceInfo(state=REGISTERED), new_config(DAY_S))
        )
    return store, namespaces
