"""Queries: questions to a workflow's worker, with its next workflow task or directly through matching.

Nothing is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from perdure.api.common.v1 import Payloads
from perdure.api.enums.v1 import QueryResultType
from perdure.api.query.v1 import WorkflowQuery, WorkflowQueryResult
from perdure.api.workflowservice.v1 import RespondQueryTaskCompletedRequest
from perdure.core.deployment.routes import queue_name
from perdure.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    NotFoundError,
    QueryFailedError,
    UnavailableError,
    WorkflowNotReadyError,
)
from perdure.core.run import versioning
from perdure.core.run.completion import Completion
from perdure.core.run.records import QueueKey, RunKey, TaskKind
from perdure.core.run.state import RunHeader
from perdure.server.engine.deliveries import QueryDelivery
from perdure.server.engine.engine import Compute, Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.runs import RunSlot

FAILING_ATTEMPT = 3
"""From this attempt of a workflow task on, queries fail at once."""
NO_POLLER_BUDGET_S = 1.0
"""How long before its end a query that nobody took is refused, if nobody seems to be there."""
POLLER_SEEN_NS = 20 * 1_000_000_000
"""Somebody is there if a poll waited within this time."""
CLOSED_UNSEEN = "Workflow execution closed before WorkflowTaskStarted event"
NO_POLLER = "no poller seen for task queue recently, worker may be down"
_ANSWERED = QueryResultType.Value("QUERY_RESULT_TYPE_ANSWERED")
_FAILED = QueryResultType.Value("QUERY_RESULT_TYPE_FAILED")


@dataclass(frozen=True, slots=True)
class _Answer:
    result: Payloads | None
    failed: QueryFailedError | None = None


class RunPaused(Exception):
    """The run is paused: what its workflow has not heard of yet, an answer could not know."""


class Queries:
    """Asks workflows.

    Args:
        engine: the runs.
        histories: for their states.
    """

    def __init__(self, engine: Engine, histories: Histories) -> None:
        self._engine = engine
        self._histories = histories
        self._asked: dict[str, asyncio.Future[_Answer]] = {}

    async def ask(self, run: RunKey, query: WorkflowQuery, timeout_s: float) -> Payloads | None:
        """Asks a run and waits for the answer.

        Args:
            run: which run.
            query: what to ask.
            timeout_s: how long to wait.

        Raises:
            RunPaused: the run is paused, or was while the query waited.
            QueryFailedError: the workflow's handler failed.
            WorkflowNotReadyError: the run cannot answer now.
            FailedPreconditionError: no worker is there to answer.
            UnavailableError: what the worker answered from did not become durable.
            DeadlineExceededError: no answer in time.
        """
        slot = self._engine.runs.pin(run)
        generation = slot.generation
        try:
            answer = await self._ask(run, query, timeout_s)
            if slot.in_flight:  # a worker of this process may have seen what is not durable yet
                await slot.settle()
            if slot.generation != generation:
                raise UnavailableError("what the workflow was asked about was not committed; try again")
            return answer
        finally:
            self._engine.runs.unpin(slot)

    async def _ask(self, run: RunKey, query: WorkflowQuery, timeout_s: float) -> Payloads | None:
        header = await self._histories.header(run)
        if header.paused_ns:
            raise RunPaused
        answered_before = header.last_completed_task_started_event_id > 0
        if not header.is_open and not answered_before:
            raise WorkflowNotReadyError(CLOSED_UNSEEN)
        if header.first_task_at_ns > self._engine.runtime.now_ns() + int(timeout_s * 1e9):
            raise WorkflowNotReadyError("Workflow task is not scheduled yet.")
        if header.task_attempt >= FAILING_ATTEMPT:
            raise WorkflowNotReadyError("Unable to query workflow due to Workflow Task in failed state.")
        try:
            async with asyncio.timeout(timeout_s) as limit:
                if header.has_pending_task or not answered_before:
                    result = await self._ask_with_task(run, query)
                    if result is not None:
                        return _answer(result)
                    header = await self._histories.header(run)
                    if header.paused_ns:
                        raise RunPaused
                    if not header.last_completed_task_started_event_id:
                        raise WorkflowNotReadyError(CLOSED_UNSEEN)
                return await self._ask_directly(run, header, query, limit.when())
        except TimeoutError as error:
            raise DeadlineExceededError from error

    # --- with a workflow task ---

    async def _ask_with_task(self, run: RunKey, query: WorkflowQuery) -> WorkflowQueryResult | None:
        """Waits for the run's next workflow task to carry the query; None when it may be asked directly instead."""
        slot = self._engine.runs.pin(run)
        query_id = self._engine.runtime.new_id()
        future: asyncio.Future[WorkflowQueryResult | None] = asyncio.get_running_loop().create_future()
        try:
            slot.queries.add(query_id, query, self._engine.limits.run.buffered_queries)
            slot.query_futures[query_id] = future
            return await future
        finally:
            slot.queries.remove(query_id)
            slot.query_futures.pop(query_id, None)
            self._engine.runs.unpin(slot)

    async def transact_completion(
        self,
        run: RunKey,
        compute: Compute[Completion],
        results: Mapping[str, WorkflowQueryResult],
        on_commit: Callable[[RunSlot], None],
    ) -> Completion:
        """Commits a completed workflow task, and gives its query answers to their askers.

        Args:
            run: which run.
            compute: the completion.
            results: the answers.
            on_commit: called with the run's slot once it is committed.
        """

        def answer(slot: RunSlot) -> None:
            on_commit(slot)
            for query_id, result in slot.queries.answer(dict(results)).items():
                future = slot.query_futures.get(query_id)
                if future is not None and not future.done():
                    future.set_result(result)

        return await self._engine.transact(run, compute, answer)

    # --- directly ---

    async def _ask_directly(
        self, run: RunKey, header: RunHeader, query: WorkflowQuery, deadline: float | None
    ) -> Payloads | None:
        sticky = QueueKey(run.namespace_id, header.sticky_queue, TaskKind.WORKFLOW)
        if header.sticky_queue and self._engine.matching.is_alive(sticky):
            try:
                async with asyncio.timeout(header.sticky_timeout_ns / 1e9 or None):
                    return await self._offer(run, header, query, sticky, partial_history=True)
            except TimeoutError:
                pass  # the worker that has the run in its cache does not answer: any worker may
        version = versioning.workflow_task_version(
            header, run.workflow_id, self._engine.routes(run.namespace_id)
        )
        normal = QueueKey(run.namespace_id, queue_name(header.task_queue, version), TaskKind.WORKFLOW)
        return await self._offer(run, header, query, normal, partial_history=False, deadline=deadline)

    async def _offer(
        self,
        run: RunKey,
        header: RunHeader,
        query: WorkflowQuery,
        queue: QueueKey,
        *,
        partial_history: bool,
        deadline: float | None = None,
    ) -> Payloads | None:
        """Asks through a queue's pollers; with a deadline (in the loop's time) it is noticed when there are none."""
        query_id = self._engine.runtime.new_id()
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        delivery = QueryDelivery(run, header, queue, partial_history, query_id, query, 0, future)
        self._asked[query_id] = future
        timer = None
        if deadline is not None:
            timer = asyncio.get_running_loop().call_at(
                deadline - NO_POLLER_BUDGET_S, self._check_poller, future, delivery
            )
        try:
            self._engine.matching.give_back(delivery)
            answer = await future
        finally:
            if timer is not None:
                timer.cancel()
            del self._asked[query_id]
            self._engine.matching.withdraw(delivery)
        if answer.failed is not None:
            raise answer.failed
        return answer.result

    def _check_poller(self, future: asyncio.Future[_Answer], delivery: QueryDelivery) -> None:
        matching = self._engine.matching
        if future.done() or matching.is_alive(delivery.queue, POLLER_SEEN_NS):
            return
        if matching.withdraw(delivery):
            future.set_exception(FailedPreconditionError(NO_POLLER))

    def answer(self, query_id: str, request: RespondQueryTaskCompletedRequest) -> None:
        """A worker answers a directly asked query.

        Raises:
            NotFoundError: nobody waits for it any more.
        """
        future = self._asked.get(query_id)
        if future is None or future.done():
            raise NotFoundError("query task not found, or already expired")
        if request.completed_type == _FAILED:
            failure = request.failure.SerializeToString() if request.HasField("failure") else b""
            future.set_result(_Answer(None, QueryFailedError(request.error_message, failure)))
        else:
            future.set_result(_Answer(request.query_result if request.HasField("query_result") else None))


def _answer(result: WorkflowQueryResult) -> Payloads | None:
    if result.result_type == _ANSWERED:
        return result.answer if result.HasField("answer") else None
    failure = result.failure.SerializeToString() if result.HasField("failure") else b""
    raise QueryFailedError(result.error_message, failure)
