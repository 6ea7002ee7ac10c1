"""RPCs on updates: send one to a workflow and wait for it, ask how far one is."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.api.common.v1 import Link
from perdure.api.enums.v1 import EventType
from perdure.api.workflowservice.v1 import (
    PollWorkflowExecutionUpdateRequest,
    PollWorkflowExecutionUpdateResponse,
    UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
)
from perdure.core.errors import InvalidArgumentError, PermissionDeniedError
from perdure.server.callback_addresses import AddressRule
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.updates import ACCEPTED, ADMITTED, COMPLETED, UNSPECIFIED, Updates, UpdateStatus
from perdure.server.service import callback_checks, checks
from perdure.server.service.call import Call

_UPDATE_ACCEPTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED")


class UpdateRpcs:
    """Handlers of the RPCs on updates.

    Args:
        engine: the runs.
        histories: finds runs by workflow id.
        updates: lets updates in and waits for them.
        callback_rules: addresses that callbacks may have.
    """

    def __init__(
        self,
        engine: Engine,
        histories: Histories,
        updates: Updates,
        callback_rules: Sequence[AddressRule] = (),
    ) -> None:
        self._engine = engine
        self._callback_rules = callback_rules
        self._namespaces = engine.namespaces
        self._histories = histories
        self._updates = updates

    async def update_workflow_execution(
        self, request: UpdateWorkflowExecutionRequest, call: Call
    ) -> UpdateWorkflowExecutionResponse:
        """UpdateWorkflowExecution: sends an update, once per update id, and waits until it is accepted or completed."""
        namespace = self._namespaces.get(request.namespace)
        prepare_update(request, self._engine, self._callback_rules)
        named = request.workflow_execution
        status = await self._updates.update(
            namespace.namespace_id,
            named.workflow_id,
            named.run_id,
            request.first_execution_run_id,
            request.request,
            request.wait_policy.lifecycle_stage,
            call.deadline_s,
        )
        return update_response(namespace.name, status, request)

    async def poll_workflow_execution_update(
        self, request: PollWorkflowExecutionUpdateRequest, call: Call
    ) -> PollWorkflowExecutionUpdateResponse:
        """PollWorkflowExecutionUpdate: waits for a known update; answers how far it is when that takes long."""
        namespace = self._namespaces.get(request.namespace)
        if not request.HasField("update_ref"):
            raise InvalidArgumentError("UpdateRef is not set on request.")
        reference = request.update_ref
        named = reference.workflow_execution
        run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)
        status = await self._updates.poll(
            run, reference.update_id, request.wait_policy.lifecycle_stage, call.deadline_s
        )
        response = PollWorkflowExecutionUpdateResponse()
        response.stage = status.stage  # type: ignore[assignment]  # a lifecycle stage's number
        if status.outcome is not None:
            response.outcome.CopyFrom(status.outcome)
        response.update_ref.update_id = reference.update_id
        response.update_ref.workflow_execution.workflow_id = run.workflow_id
        response.update_ref.workflow_execution.run_id = run.run_id
        return response


def prepare_update(
    request: UpdateWorkflowExecutionRequest, engine: Engine, callback_rules: Sequence[AddressRule]
) -> None:
    """Checks an update request and fills in what it leaves open: an update id, the stage to wait for.

    Callbacks that nobody will call are not looked at.
    """
    checks.execution(request)
    limits = engine.limits.run
    if not request.request.HasField("meta"):
        raise InvalidArgumentError("Update meta is not set on request.")
    meta = request.request.meta
    if checks.too_long(meta.update_id, limits):
        raise InvalidArgumentError("UpdateId length exceeds limit.")
    if not meta.update_id:
        meta.update_id = engine.runtime.new_id()
    if not request.request.HasField("input"):
        raise InvalidArgumentError("Update input is not set on request.")
    if not request.request.input.name:
        raise InvalidArgumentError("Update name is not set on request.")
    policy = request.wait_policy
    if policy.lifecycle_stage == UNSPECIFIED:
        policy.lifecycle_stage = COMPLETED
    if policy.lifecycle_stage == ADMITTED:
        raise PermissionDeniedError(
            "UpdateWorkflowExecution issued asynchronously and waiting on update admitted is not supported."
        )
    if limits.update_callbacks:
        callback_checks.check(request.request.completion_callbacks, callback_rules, limits)
    checks.links(request.request.links)


def update_response(
    namespace: str, status: UpdateStatus, request: UpdateWorkflowExecutionRequest
) -> UpdateWorkflowExecutionResponse:
    """The answer to an update request."""
    response = UpdateWorkflowExecutionResponse()
    response.stage = status.stage  # type: ignore[assignment]  # a lifecycle stage's number
    if status.outcome is not None:
        response.outcome.CopyFrom(status.outcome)
    response.update_ref.update_id = request.request.meta.update_id
    response.update_ref.workflow_execution.workflow_id = status.run.workflow_id
    response.update_ref.workflow_execution.run_id = status.run.run_id
    if status.stage >= ACCEPTED:
        _link(response.link, namespace, status, request.request.request_id)
    return response


def _link(link: Link, namespace: str, status: UpdateStatus, request_id: str) -> None:
    if status.outcome is not None and status.outcome.HasField("failure"):
        # As the official server does: a failed update counts as rejected here, whether an event says so or not.
        link.workflow.namespace = namespace
        link.workflow.workflow_id = status.run.workflow_id
        link.workflow.run_id = status.run.run_id
        link.workflow.reason = "Update rejected"
        return
    event = link.workflow_event
    event.namespace = namespace
    event.workflow_id = status.run.workflow_id
    event.run_id = status.run.run_id
    event.request_id_ref.request_id = request_id
    event.request_id_ref.event_type = _UPDATE_ACCEPTED
