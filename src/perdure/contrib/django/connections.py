"""Database connections around work in threads: stale ones are closed before and after, as around a request."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from perdure.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor


class ConnectionInterceptor(Interceptor):
    """Add it to a worker whose activities use the ORM; `manage.py perdure_worker` does."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """See `Interceptor`."""
        return _Connections(next)


class _Connections(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if inspect.iscoroutinefunction(input.fn):
            # The ORM's async methods work in one thread of asgiref's, so that is where the connections are.
            await sync_to_async(close_old_connections)()
            try:
                return await self.next.execute_activity(input)
            finally:
                await sync_to_async(close_old_connections)()
        return await self.next.execute_activity(replace(input, fn=with_connections(input.fn)))


def with_connections(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function, in whose thread connections are looked after: they belong to threads."""

    @functools.wraps(work)
    def run(*args: Any, **kwargs: Any) -> Any:
        close_old_connections()
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    return run
