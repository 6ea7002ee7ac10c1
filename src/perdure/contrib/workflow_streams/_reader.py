"""Where a subscription's pages come from: a workflow that runs, its next run, or one that has ended.

Here: one subscription's place, and what a failed poll means. Not here: offsets, and what is done with the items.
"""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from perdure.contrib.workflow_streams._types import (
    POLL,
    STREAM_DRAINING,
    TRUNCATED_OFFSET,
    PollInput,
    PollResult,
)
from perdure.exceptions import ApplicationError
from perdure.service import RPCError, RPCStatusCode


class Reader:
    """Brings one subscription its pages.

    Args:
        handle: The workflow; a handle of one run stays with it, unless there is a client.
        client: Makes handles that follow the workflow.
        pause_s: Before a poll that could not be answered is repeated.
    """

    def __init__(self, handle: WorkflowHandle[Any, Any], client: Client | None, pause_s: float) -> None:
        self._handle = handle
        self._client = client
        self._pause_s = pause_s
        self._has_ended = False

    @property
    def has_ended(self) -> bool:
        """Whether the workflow has, so that the last page is the last."""
        return self._has_ended

    async def page(self, poll: PollInput) -> PollResult | None:
        """Wait for the next page; None: the offset is gone.

        Raises:
            WorkflowUpdateFailedError: The workflow refuses.
            WorkflowQueryFailedError: The workflow has ended, and what is left of it cannot be read.
            RPCError: The server does not answer, or knows no such workflow.
            asyncio.CancelledError: Nobody waits any more.
        """
        while not self._has_ended:
            run_id = None
            try:
                # Accepted first, so that it is known which run ended if the answer does not come.
                update = await self._handle.start_update(
                    POLL, poll, wait_for_stage=WorkflowUpdateStage.ACCEPTED, result_type=PollResult
                )
                run_id = update.workflow_run_id
                page: PollResult = await update.result()
            except (WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError, RPCError) as error:
                if isinstance(error.__cause__, asyncio.CancelledError):
                    raise error.__cause__ from None
                kind = error.cause.type if isinstance(error.cause, ApplicationError) else None
                if kind == TRUNCATED_OFFSET:
                    return None
                if kind == STREAM_DRAINING:
                    await asyncio.sleep(self._pause_s)
                elif not await self._goes_on(run_id, error):
                    raise
            else:
                return page
        rest: PollResult = await self._handle.query(POLL, poll, result_type=PollResult)
        return rest

    async def _goes_on(self, run_id: str | None, error: Exception) -> bool:
        """Whether there is something to read yet after a poll failed that was this run's, or nobody's."""
        try:
            description = await self._describe(run_id)
        except RPCError:
            return False
        continued = description.status is WorkflowExecutionStatus.CONTINUED_AS_NEW
        if continued and (self._client is not None or self._handle.run_id is None):
            self._handle = (self._client or self._handle._client).get_workflow_handle(self._handle.id)
            return True
        if description.close_time is not None:
            self._handle = self._handle._client.get_workflow_handle(
                self._handle.id, run_id=description.run_id
            )
            self._has_ended = True
            return True
        if isinstance(error, WorkflowUpdateFailedError) or (
            isinstance(error, RPCError) and error.status is not RPCStatusCode.NOT_FOUND
        ):
            return False
        # The wait took too long; or the poll met a run in the moment in which the next one followed it.
        await asyncio.sleep(self._pause_s)
        return True

    async def _describe(self, run_id: str | None) -> WorkflowExecutionDescription:
        if run_id is None:
            return await self._handle.describe()
        return await self._handle._client.get_workflow_handle(self._handle.id, run_id=run_id).describe()
