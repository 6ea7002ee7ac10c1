"""RPCs that pause and unpause whole workflow executions."""

from __future__ import annotations

from perdure.api.workflowservice.v1 import (
    PauseWorkflowExecutionRequest,
    PauseWorkflowExecutionResponse,
    UnpauseWorkflowExecutionRequest,
    UnpauseWorkflowExecutionResponse,
)
from perdure.core.errors import InvalidArgumentError, NotFoundError
from perdure.core.run import activity, pause
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.engine import Compute, Engine, RunNotFoundError
from perdure.server.engine.histories import Histories, not_found
from perdure.server.service import checks
from perdure.server.service.call import Call

Request = PauseWorkflowExecutionRequest | UnpauseWorkflowExecutionRequest


class Pauses:
    """Handlers of the RPCs.

    Args:
        engine: the runs.
        histories: finds runs by workflow id.
    """

    def __init__(self, engine: Engine, histories: Histories) -> None:
        self._engine = engine
        self._histories = histories

    async def pause_workflow_execution(
        self, request: PauseWorkflowExecutionRequest, call: Call
    ) -> PauseWorkflowExecutionResponse:
        """PauseWorkflowExecution: nothing of the run is handed to workers until it is unpaused."""

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            tx = _open(state, now_ns)
            changed = pause.pause(
                tx, identity=request.identity, reason=request.reason, request_id=request.request_id
            )
            return tx if changed else None, None

        await self._transact(request, apply)
        return PauseWorkflowExecutionResponse()

    async def unpause_workflow_execution(
        self, request: UnpauseWorkflowExecutionRequest, call: Call
    ) -> UnpauseWorkflowExecutionResponse:
        """UnpauseWorkflowExecution: the run goes on, beginning with a workflow task."""

        def apply(state: RunState, now_ns: int) -> tuple[Transition, None]:
            tx = _open(state, now_ns)
            pause.unpause(tx, identity=request.identity, reason=request.reason, request_id=request.request_id)
            return tx, None

        await self._transact(request, apply)
        return UnpauseWorkflowExecutionResponse()

    async def _transact(self, request: Request, apply: Compute[None]) -> None:
        run = await self._run(request)
        try:
            await self._engine.transact(run, apply)
        except RunNotFoundError as error:
            raise not_found(run) from error

    async def _run(self, request: Request) -> RunKey:
        namespace = self._engine.namespaces.get(request.namespace)
        for label, value in (
            ("reason", request.reason),
            ("request id", request.request_id),
            ("identity", request.identity),
        ):
            if checks.too_long(value, self._engine.limits.run):
                raise InvalidArgumentError(f"{label} is too long.")
        if not request.workflow_id:
            raise InvalidArgumentError("WorkflowId is not set on request.")
        if request.run_id and not checks.is_uuid(request.run_id):
            raise InvalidArgumentError("Invalid RunId.")
        return await self._histories.resolve(namespace.namespace_id, request.workflow_id, request.run_id)


def _open(state: RunState, now_ns: int) -> Transition:
    if not state.header.is_open:
        raise NotFoundError(activity.RUN_CLOSED)
    return Transition(state, now_ns)
