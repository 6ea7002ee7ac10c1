"""Workflows and updates under test fail when an `assert` in them fails; otherwise their task would be tried again for
ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import perdure.client
from perdure.exceptions import ApplicationError
from perdure.worker._interceptor import Interceptor, WorkflowInterceptorClassInput
from perdure.worker.interceptor_workflow import (
    ExecuteWorkflowInput,
    HandleSignalInput,
    HandleUpdateInput,
    WorkflowInboundInterceptor,
)


class AssertionInterceptor(perdure.client.Interceptor, Interceptor):
    """For a client; workers of the client take it over."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """See the base class."""
        return _InboundInterceptor


class _InboundInterceptor(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        with _failing():
            return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        with _failing():
            await super().handle_signal(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        # It is the update that fails, and whoever waits for it hears why.
        with _failing():
            return await super().handle_update_handler(input)


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        failure = ApplicationError(str(error), type="AssertionError", non_retryable=True)
        raise failure.with_traceback(error.__traceback__) from None
