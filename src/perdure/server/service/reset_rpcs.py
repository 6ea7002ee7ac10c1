"""The RPC that resets a workflow execution."""

from __future__ import annotations

from functools import partial

from perdure.api.workflowservice.v1 import ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import priorities
from perdure.core.run.state import RunState
from perdure.server.engine.engine import Engine, RunNotFoundError
from perdure.server.engine.histories import Histories, not_found
from perdure.server.engine.resets import Resets
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.server.service.execution_options import check_paths, check_time_skipping
from perdure.server.service.worker_versions import check_override

_NAMES = {"signal_workflow": "*workflow.PostResetOperation_SignalWorkflow_"}


class ResetRpcs:
    """Handler of ResetWorkflowExecution."""

    def __init__(self, engine: Engine, histories: Histories, resets: Resets) -> None:
        self._engine = engine
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
        for operation in request.post_reset_operations:
            check_time_skipping(operation.update_workflow_options.workflow_execution_options)
        run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)
        try:
            run_id = await self._resets.reset(namespace, run, request, partial(self._check, request))
        except RunNotFoundError as error:
            raise not_found(run) from error
        return ResetWorkflowExecutionResponse(run_id=run_id)

    def _check(self, request: ResetWorkflowExecutionRequest, base: RunState) -> None:
        """Checks what is to be done to the new run; signals are refused, as by the official server."""
        routes = self._engine.routes(base.run.namespace_id)
        for operation in request.post_reset_operations:
            kind = operation.WhichOneof("variant")
            if kind != "update_workflow_options":
                raise InvalidArgumentError(
                    f"unsupported post reset operation: {_NAMES.get(str(kind), '<nil>')}"
                )
            change = operation.update_workflow_options
            wanted = change.workflow_execution_options
            if not change.HasField("update_mask"):
                raise InvalidArgumentError("UpdateMask is required")
            check_paths(change.update_mask, "error applying update_options: proto:\u00a0")
            priorities.check(wanted.priority)
            if wanted.HasField("versioning_override"):
                check_override(wanted.versioning_override, routes, base.header.task_queue)
