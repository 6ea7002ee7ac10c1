"""Where a subscription's pages come from: a workflow that runs, its next run, or one that has ended.

Here: one subscription's place, and what a failed poll means. Not here: offsets, and what is done with the items.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from perdure.api.errordetails.v1 import WorkflowNotReadyFailure
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
from perdure.service._errors import detail_of

_NOT_READY_PAUSE_S: Final = 0.5


class Reader:
    """Brings one subscription its pages.

    Args:
        handle: The workflow; a handle of one run stays with it, unless there is a client.
        client: Makes handles that follow the workflow.
        pause_s: Before a poll that could not be answered is repeated.
        sees_gaps: An offset that is gone is told of also when the workflow has ended, at the price that items of other
            topics are read then, too.
    """

    def __init__(
        self, handle: WorkflowHandle[Any, Any], client: Client | None, pause_s: float, *, sees_gaps: bool
    ) -> None:
        self._handle = handle
        self._client = client
        self._pause_s = pause_s
        self._sees_gaps = sees_gaps
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
        return await self._rest(poll)

    async def _rest(self, poll: PollInput) -> PollResult | None:
        """A page of a workflow that has ended, whose query answers with what it has, gap or not."""
        asked = PollInput([], poll.from_offset) if self._sees_gaps else poll
        page: PollResult = await self._handle.query(POLL, asked, result_type=PollResult)
        if self._sees_gaps:
            first = page.items[0].offset if page.items else page.next_offset
            if first > poll.from_offset > 0:
                return None
            page.items = [item for item in page.items if not poll.topics or item.topic in poll.topics]
        return page

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
        if isinstance(error, WorkflowUpdateFailedError):
            return False
        if not isinstance(error, RPCError) or error.status is RPCStatusCode.NOT_FOUND:
            # The wait took too long; or the poll met a run in the moment in which the next one followed it.
            await asyncio.sleep(self._pause_s)
            return True
        if detail_of(error, WorkflowNotReadyFailure) is not None:
            # The workflow task failed that was to answer: something was published as the run was to go on as new, or
            # the code is broken, and readers wait for its repair as they wait for a worker.
            await asyncio.sleep(max(self._pause_s, _NOT_READY_PAUSE_S))
            return True
        return False

    async def _describe(self, run_id: str | None) -> WorkflowExecutionDescription:
        if run_id is None:
            return await self._handle.describe()
        return await self._handle._client.get_workflow_handle(self._handle.id, run_id=run_id).describe()
