"""The RPC that changes the options of an open workflow execution: its priority and its versioning override."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor

from perdure.api.protobuf import FieldMask
from perdure.api.workflow.v1 import WorkflowExecutionOptions
from perdure.api.workflowservice.v1 import (
    UpdateWorkflowExecutionOptionsRequest,
    UpdateWorkflowExecutionOptionsResponse,
)
from perdure.core.errors import InvalidArgumentError, NotFoundError, UnimplementedError
from perdure.core.run import activity, options, priorities, versioning
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.engine import Engine, RunNotFoundError
from perdure.server.engine.histories import Histories, not_found
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.server.service.worker_versions import check_override


class ExecutionOptions:
    """The handler.

    Args:
        engine: the runs.
        histories: finds runs by workflow id.
    """

    def __init__(self, engine: Engine, histories: Histories) -> None:
        self._engine = engine
        self._histories = histories

    async def update_workflow_execution_options(
        self, request: UpdateWorkflowExecutionOptionsRequest, call: Call
    ) -> UpdateWorkflowExecutionOptionsResponse:
        """UpdateWorkflowExecutionOptions: workers need not hear of it, so it makes no workflow task."""
        namespace = self._engine.namespaces.get(request.namespace)
        named = request.workflow_execution
        if not named.workflow_id:
            raise InvalidArgumentError("WorkflowId is not set on request.")
        if not request.HasField("update_mask"):
            raise InvalidArgumentError("UpdateMask is required")
        if not request.HasField("workflow_execution_options"):
            raise InvalidArgumentError("WorkflowExecutionOptions is required")
        paths = set(request.update_mask.paths)
        check_paths(request.update_mask, "error parsing UpdateMask: proto:\u00a0")
        wanted = request.workflow_execution_options
        priorities.check(wanted.priority)
        check_time_skipping(wanted)
        if named.run_id and not checks.is_uuid(named.run_id):
            raise InvalidArgumentError("RunId is not valid UUID.")
        run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)

        def apply(state: RunState, now_ns: int) -> tuple[Transition, WorkflowExecutionOptions]:
            if not state.header.is_open:
                raise NotFoundError(activity.RUN_CLOSED)
            changes = WorkflowExecutionOptions()
            changes.CopyFrom(wanted)
            if wanted.HasField("versioning_override"):
                override = versioning.with_present_version(
                    wanted.versioning_override, state.header, run.workflow_id
                )
                changes.versioning_override.CopyFrom(override)
                check_override(override, self._engine.routes(run.namespace_id), state.header.task_queue)
            tx = Transition(state, now_ns)
            return tx, options.update(tx, changes, paths, request.identity)

        try:
            changed = await self._engine.transact(run, apply)
        except RunNotFoundError as error:
            raise not_found(run) from error
        return UpdateWorkflowExecutionOptionsResponse(workflow_execution_options=changed)


def check_time_skipping(wanted: WorkflowExecutionOptions) -> None:
    """Raises UnimplementedError if a workflow is to skip time by itself, as no namespace allows by default."""
    if wanted.HasField("time_skipping_config"):
        raise UnimplementedError("The Time-Skipping feature is not enabled for namespace.")


def check_paths(mask: FieldMask, context: str) -> None:
    """Checks that each path of a field mask leads to a field of the options.

    Args:
        mask: the mask.
        context: how the message of the error begins.

    Raises:
        InvalidArgumentError: one does not.
    """
    for path in mask.paths:
        descriptor: Descriptor | None = WorkflowExecutionOptions.DESCRIPTOR
        for name in path.split("."):
            field = None if descriptor is None else descriptor.fields_by_name.get(name)
            if field is None:
                raise InvalidArgumentError(
                    f'{context}invalid path "{path}" for message "{WorkflowExecutionOptions.DESCRIPTOR.full_name}"'
                )
            descriptor = field.message_type
