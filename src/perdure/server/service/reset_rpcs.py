"""The RPC that resets a workflow execution."""

from __future__ import annotations

from perdure.api.workflowservice.v1 import ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse
from perdure.core.errors import InvalidArgumentError, UnimplementedError
from perdure.server.engine.engine import Engine, RunNotFoundError
from perdure.server.engine.histories import Histories, not_found
from perdure.server.engine.resets import Resets
from perdure.server.service import checks
from perdure.server.service.call import Call


class ResetRpcs:
    """Handler of ResetWorkflowExecution."""

    def __init__(self, engine: Engine, histories: Histories, resets: Resets) -> None:
        self._namespaces = engine.namespaces
        self._limits = engine.limits.run
        self._histories = histories
        self._resets = resets

    async def reset_workflow_execution(
        self, request: ResetWorkflowExecutionRequest, call: Call
    ) -> ResetWorkflowExecutionResponse:
        """ResetWorkflowExecution: a new run from a copy of the history up to a workflow task."""
        namespace = self._namespaces.get(request.namespace)
        if not request.request_id:
            raise InvalidArgumentError("RequestId is not set on request.")
        checks.request_id(request.request_id, self._limits)
        named = checks.execution(request)
        if request.post_reset_operations:
            raise UnimplementedError(
                "operations after a reset are not supported by this release of Perdure; reset, then change the new run"
            )
        run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)
        try:
            run_id = await self._resets.reset(namespace, run, request)
        except RunNotFoundError as error:
            raise not_found(run) from error
        return ResetWorkflowExecutionResponse(run_id=run_id)
