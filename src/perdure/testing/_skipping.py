"""Time skips while somebody waits for a workflow's result: unlocked with the first who waits, locked with the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

from perdure.api.testservice.v1 import LockTimeSkippingRequest, UnlockTimeSkippingRequest
from perdure.client import Interceptor, OutboundInterceptor, WorkflowHandle
from perdure.client._inputs_workflow import StartWorkflowInput
from perdure.service import TestService


class AutoSkipping:
    """Unlocks a server's clock while it is in use.

    Args:
        service: the server's test service.
    """

    def __init__(self, service: TestService) -> None:
        self.service = service
        self._forbidding = 0
        self._waiting = 0
        self._is_unlocked = False
        self._turn = asyncio.Lock()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Whoever begins to wait in this block does not unlock the clock."""
        # Counted: blocks of several tasks need not end in the order in which they began.
        self._forbidding += 1
        try:
            yield
        finally:
            self._forbidding -= 1

    @asynccontextmanager
    async def unlocked(self) -> AsyncIterator[None]:
        """The clock may skip in this block. Several may be in such a block at the same time."""
        if self._forbidding:
            yield
            return
        self._waiting += 1
        try:
            await self._settle()
            yield
        finally:
            self._waiting -= 1
            await self._settle()

    async def _settle(self) -> None:
        async with self._turn:
            if self._waiting and not self._is_unlocked:
                await self.service.unlock_time_skipping(UnlockTimeSkippingRequest())
                self._is_unlocked = True
            elif not self._waiting and self._is_unlocked:
                await self.service.lock_time_skipping(LockTimeSkippingRequest())
                self._is_unlocked = False


class SkippingInterceptor(Interceptor):
    """Gives out handles whose `result` lets time skip.

    Args:
        skipping: what to let skip.
    """

    def __init__(self, skipping: AutoSkipping) -> None:
        self._skipping = skipping

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """See the base class."""
        return _Outbound(next, self._skipping)


class _Outbound(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, skipping: AutoSkipping) -> None:
        super().__init__(next)
        self._skipping = skipping

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        handle = await super().start_workflow(input)
        skipping_handle = _Handle.__new__(_Handle)
        skipping_handle.__dict__.update(handle.__dict__)
        skipping_handle._skipping = self._skipping
        return skipping_handle


class _Handle(WorkflowHandle[Any, Any]):
    _skipping: AutoSkipping

    async def result(
        self,
        *,
        follow_runs: bool = True,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        async with self._skipping.unlocked():
            return await super().result(
                follow_runs=follow_runs, rpc_metadata=rpc_metadata, rpc_timeout=rpc_timeout
            )
