"""A simulated operator: pauses and unpauses runs and activities, resets activities, changes options, runs batches.

It never changes what a workflow comes to, so whatever it does, the clients' predictions hold. What a late copy of a
request pauses again is let go by its rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, TypeVar

from google.protobuf.message import Message

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.workflowservice.v1 import (
    DescribeBatchOperationRequest,
    DescribeBatchOperationResponse,
    PauseActivityRequest,
    PauseActivityResponse,
    PauseWorkflowExecutionRequest,
    PauseWorkflowExecutionResponse,
    ResetActivityRequest,
    ResetActivityResponse,
    StartBatchOperationRequest,
    StartBatchOperationResponse,
    UnpauseActivityRequest,
    UnpauseActivityResponse,
    UnpauseWorkflowExecutionRequest,
    UnpauseWorkflowExecutionResponse,
    UpdateActivityOptionsRequest,
    UpdateActivityOptionsResponse,
    UpdateWorkflowExecutionOptionsRequest,
    UpdateWorkflowExecutionOptionsResponse,
)
from perdure.core.batch.state import COMPLETED, RUNNING
from perdure.core.run.records import RunKey
from perdure.core.run.state import Activity, RunState
from tests.simulation.context import Context
from tests.simulation.loop import Node
from tests.simulation.model import BATCH_SIGNAL, check
from tests.simulation.network import CallFailed
from tests.simulation.runtime import new_uuid

Response = TypeVar("Response", bound=Message)
Holds = Callable[[RunState], bool]
_OVER = ("NotFoundError", "FailedPreconditionError")
"""Errors of operations on what has ended, or is not paused any more."""
_ROUNDS_S = 20.0
_LAST_S = 60.0
"""Simulated seconds in which the operator begins something..."""
_LAST_BATCH_S = 40.0
"""...and in which it begins batches: as long as many runs are open, and faults are to come while one is at work."""


class OperatorClient:
    """An operator's process.

    Args:
        context: the world.
        node: the process.
    """

    def __init__(self, context: Context, node: Node) -> None:
        self._context = context
        self._loop = context.loop
        self._node = node
        self._random: Random = context.stream("operator")
        self._busy: set[RunKey] = set()
        self.unfinished = 0
        for _ in range(self._random.randint(2, 8)):
            self._begin(self._control(self._random.uniform(1, _LAST_S)))
        for _ in range(self._random.randint(1, 2)):
            self._begin(self._batch(self._random.uniform(5, _LAST_BATCH_S)))
        context.start(node, self._go_round())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.unfinished += 1
        self._context.start(self._node, work).add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self.unfinished -= 1

    # --- calls

    async def _call(self, request: Message, response: type[Response], *allowed: str) -> Response | CallFailed:
        """Calls until there is an answer; errors whose names are allowed are answers too."""
        while True:
            try:
                return await self._context.network.call(request, response)
            except CallFailed as error:
                self._context.accept(error, *allowed)
                if not error.is_unknown:
                    return error
                await self._loop.sleep(self._random.uniform(0.05, 2.0))

    async def _ask(
        self, run: RunKey, request: Message, response: type[Response], holds: Holds, name: str
    ) -> Response | None:
        """Asks for a change of a run. Once that is acknowledged, it must hold of a state that was committed meanwhile.

        Returns:
            the answer; None when there was nothing left to change.
        """
        seen = False

        def look(state: RunState) -> None:
            nonlocal seen
            seen = seen or not state.header.is_open or holds(state)

        with self._context.oracle.controls.looking(run, look):
            answer = await self._call(request, response, *_OVER)
        if isinstance(answer, CallFailed):
            return None
        check(seen or run not in self._context.oracle.states, name, run)
        self._context.trace.reach(f"operator: {type(request).__name__.removesuffix('Request')}")
        return answer

    def _name(self, run: RunKey) -> str:
        names = {namespace_id: name for name, namespace_id in self._context.namespace_ids.items()}
        return names[run.namespace_id]

    def _open(self) -> list[RunKey]:
        models = self._context.oracle.models
        return [run for run, model in models.items() if model.status == 1 and run not in self._busy]

    # --- one thing

    async def _control(self, at_s: float) -> None:
        await self._loop.sleep(at_s)
        runs = self._open()
        if not runs:
            return
        run = self._random.choice(runs)
        pending = sorted(item.activity_id for item in self._context.oracle.states[run].activities.values())
        if pending and self._random.random() < 0.75:
            activity_id = self._random.choice(pending)
            chosen = self._random.choice((self._pause_activity, self._reset_activity, self._change_activity))
            act = chosen(run, activity_id)
        else:
            act = self._random.choice((self._pause, self._change_options))(run)
        self._busy.add(run)
        await act
        self._busy.discard(run)

    def _about(self, run: RunKey) -> dict[str, Any]:
        return {"namespace": self._name(run), "workflow_id": run.workflow_id, "run_id": run.run_id}

    async def _pause(self, run: RunKey) -> None:
        request_id = new_uuid(self._random)
        request = PauseWorkflowExecutionRequest(**self._about(run), request_id=request_id, reason="planned")
        await self._ask(
            run,
            request,
            PauseWorkflowExecutionResponse,
            lambda state: state.header.paused_ns > 0 and state.header.pause_request_id == request_id,
            "an acknowledged pause is durable",
        )
        await self._loop.sleep(self._random.uniform(0, 10))
        await self._unpause(run)

    async def _unpause(self, run: RunKey) -> None:
        request = UnpauseWorkflowExecutionRequest(**self._about(run), request_id=new_uuid(self._random))
        await self._ask(
            run,
            request,
            UnpauseWorkflowExecutionResponse,
            lambda state: not state.header.paused_ns,
            "an acknowledged end of a pause is durable",
        )

    async def _change_options(self, run: RunKey) -> None:
        request = UpdateWorkflowExecutionOptionsRequest(
            namespace=self._name(run),
            workflow_execution=WorkflowExecution(workflow_id=run.workflow_id, run_id=run.run_id),
        )
        request.workflow_execution_options.priority.priority_key = self._random.randint(1, 5)
        request.update_mask.paths.append("priority")
        wanted = request.workflow_execution_options.priority
        if self._context.oracle.states[run].header.priority == wanted.SerializeToString():
            return  # nothing is written when nothing changes
        answer = await self._ask(
            run,
            request,
            UpdateWorkflowExecutionOptionsResponse,
            lambda state: state.header.priority == wanted.SerializeToString(),
            "acknowledged options of a run are durable",
        )
        if answer is not None:
            told = answer.workflow_execution_options.priority
            check(told == wanted, "options are what was asked for", f"{run} {told}")

    # --- activities

    def _activity(self, run: RunKey, activity_id: str) -> dict[str, Any]:
        execution = WorkflowExecution(workflow_id=run.workflow_id, run_id=run.run_id)
        return {"namespace": self._name(run), "execution": execution, "id": activity_id}

    async def _pause_activity(self, run: RunKey, activity_id: str) -> None:
        request_id = new_uuid(self._random)
        request = PauseActivityRequest(**self._activity(run, activity_id), request_id=request_id)
        await self._ask(
            run,
            request,
            PauseActivityResponse,
            _has(activity_id, lambda item: item.pause_request_id == request_id),
            "an acknowledged pause of an activity is durable",
        )
        await self._loop.sleep(self._random.uniform(0, 10))
        await self._unpause_activity(run, activity_id, resets=self._random.random() < 0.3)

    async def _unpause_activity(self, run: RunKey, activity_id: str, *, resets: bool) -> None:
        if not self._is_paused(run, activity_id):
            return
        request = UnpauseActivityRequest(**self._activity(run, activity_id), reset_attempts=resets)
        if resets:
            self._context.oracle.controls.restarted.add(run)
        await self._ask(
            run,
            request,
            UnpauseActivityResponse,
            _has(activity_id, lambda item: not item.paused_ns),
            "an acknowledged end of an activity's pause is durable",
        )

    def _is_paused(self, run: RunKey, activity_id: str) -> bool:
        state = self._context.oracle.states.get(run)
        items = state.activities.values() if state is not None else ()
        return any(item.activity_id == activity_id and item.paused_ns for item in items)

    async def _reset_activity(self, run: RunKey, activity_id: str) -> None:
        request = ResetActivityRequest(**self._activity(run, activity_id))
        request.reset_heartbeat = self._random.random() < 0.5
        controls = self._context.oracle.controls
        controls.restarted.add(run)
        if request.reset_heartbeat:
            controls.heartbeats_dropped.add((run.run_id, activity_id))
        await self._ask(
            run,
            request,
            ResetActivityResponse,
            _has(activity_id, lambda item: item.is_adjusted and (item.is_reset or item.attempt == 1)),
            "an acknowledged reset of an activity is durable",
        )

    async def _change_activity(self, run: RunKey, activity_id: str) -> None:
        request = UpdateActivityOptionsRequest(**self._activity(run, activity_id))
        seconds = 4  # less than any activity begins with, and enough for each
        request.activity_options.start_to_close_timeout.seconds = seconds
        request.update_mask.paths.append("start_to_close_timeout")
        answer = await self._ask(
            run,
            request,
            UpdateActivityOptionsResponse,
            _has(activity_id, lambda item: item.start_to_close_ns <= seconds * 1_000_000_000),
            "acknowledged options of an activity are durable",
        )
        if answer is not None:
            told = answer.activity_options.start_to_close_timeout.seconds
            check(told <= seconds, "options are what was asked for", f"{run} {activity_id} {told}")

    # --- rounds

    async def _go_round(self) -> None:
        """Lets go what is paused although nobody means it to be: a late copy of a request did that."""
        while True:
            await self._loop.sleep(_ROUNDS_S)
            for run in self._open():
                state = self._context.oracle.states.get(run)
                if state is None:
                    continue
                if state.header.paused_ns:
                    await self._unpause(run)
                for activity in [item for item in state.activities.values() if item.paused_ns]:
                    await self._unpause_activity(run, activity.activity_id, resets=False)

    # --- batches

    async def _batch(self, at_s: float) -> None:
        """A batch that signals open runs of one namespace: those that it lists, or all, which a query finds."""
        await self._loop.sleep(at_s)
        namespace = self._random.choice(sorted(self._context.namespace_ids))
        namespace_id = self._context.namespace_ids[namespace]
        job_id = f"job {new_uuid(self._random)}"
        request = StartBatchOperationRequest(namespace=namespace, job_id=job_id, reason="planned")
        request.signal_operation.signal = f"{BATCH_SIGNAL} {job_id}"
        request.max_operations_per_second = self._random.choice((0.0, 0.5, 0.5, 5.0))
        wanted = [run for run in self._open() if run.namespace_id == namespace_id]
        if not wanted or self._random.random() < 0.5:
            request.visibility_query = "ExecutionStatus IN ('Running', 'Paused')"
        else:
            wanted = self._random.sample(wanted, min(len(wanted), 4))
            for run in wanted:
                request.executions.add(workflow_id=run.workflow_id, run_id=run.run_id)
        await self._call(request, StartBatchOperationResponse, "WorkflowAlreadyStartedError")
        if self._context.faults.store_outage_every_s:
            # A batch that is at work meets few outages by chance.
            await self._context.take_the_store_down(self._random.uniform(0, 6))
        await self._follow(request, wanted)

    async def _follow(self, batch: StartBatchOperationRequest, wanted: Sequence[RunKey]) -> None:
        request = DescribeBatchOperationRequest(namespace=batch.namespace, job_id=batch.job_id)
        while True:
            job = await self._call(request, DescribeBatchOperationResponse)
            assert isinstance(job, DescribeBatchOperationResponse)
            done = job.complete_operation_count + job.failure_operation_count
            check(done <= job.total_operation_count, "a batch does what it counted", job)
            if job.state != RUNNING:
                break
            await self._loop.sleep(2.0)
        check(job.state == COMPLETED, "a batch completes", job)
        self._context.trace.reach("operator: batch")
        if batch.executions:
            check(done == len(wanted), "a batch is over when all is done", f"{job} {wanted}")
        missing = sum(not self._context.oracle.has_batch_signal(run, batch.job_id) for run in wanted)
        check(
            missing <= job.failure_operation_count,
            "a batch reaches everything that is open",
            f"{job} {wanted}",
        )


def _has(activity_id: str, holds: Callable[[Activity], bool]) -> Holds:
    """Whether something holds of a pending activity, or it is over."""

    def look(state: RunState) -> bool:
        return all(holds(item) for item in state.activities.values() if item.activity_id == activity_id)

    return look
