"""Updates on the wire: requests from clients, and a worker's messages about them with the commands that place them."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from tests.support.builders import payloads
from tests.support.proto import command, common, enums, failure, protocol, update, workflowservice

Stage = enums.UpdateWorkflowExecutionLifecycleStage
ACCEPTED = Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
COMPLETED = Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED


def update_request(
    namespace: str,
    execution: common.WorkflowExecution,
    update_id: str = "u",
    *,
    stage: Stage.ValueType = COMPLETED,
    name: str = "set",
    **fields: Any,
) -> workflowservice.UpdateWorkflowExecutionRequest:
    """An update of a run, with the wait stage a client asks for."""
    return workflowservice.UpdateWorkflowExecutionRequest(
        namespace=namespace,
        workflow_execution=execution,
        wait_policy=update.WaitPolicy(lifecycle_stage=stage),
        request=update.Request(
            meta=update.Meta(update_id=update_id, identity="updater"),
            input=update.Input(name=name, args=payloads("new")),
        ),
        **fields,
    )


def poll_request(
    namespace: str,
    execution: common.WorkflowExecution,
    update_id: str = "u",
    stage: Stage.ValueType = COMPLETED,
) -> workflowservice.PollWorkflowExecutionUpdateRequest:
    """A question how far an update is."""
    return workflowservice.PollWorkflowExecutionUpdateRequest(
        namespace=namespace,
        update_ref=update.UpdateRef(workflow_execution=execution, update_id=update_id),
        wait_policy=update.WaitPolicy(lifecycle_stage=stage),
    )


def _message(request: protocol.Message, suffix: str, body: Message) -> protocol.Message:
    message = protocol.Message(
        id=f"{request.protocol_instance_id}/{suffix}", protocol_instance_id=request.protocol_instance_id
    )
    message.body.Pack(body)
    return message


def acceptance(request: protocol.Message, *, with_request: bool = True) -> protocol.Message:
    """A worker accepts the update that a request message brought."""
    asked = update.Request()
    request.body.Unpack(asked)
    return _message(
        request,
        "accept",
        update.Acceptance(
            accepted_request_message_id=request.id,
            accepted_request_sequencing_event_id=request.event_id,
            accepted_request=asked if with_request else None,
        ),
    )


def rejection(request: protocol.Message, reason: str = "no") -> protocol.Message:
    """A worker rejects the update that a request message brought."""
    return _message(
        request,
        "reject",
        update.Rejection(
            rejected_request_message_id=request.id,
            rejected_request_sequencing_event_id=request.event_id,
            failure=failure.Failure(message=reason, source="test"),
        ),
    )


def response(request: protocol.Message, result: str = "done") -> protocol.Message:
    """A worker's outcome of the update that a request message brought."""
    return _message(
        request,
        "complete",
        update.Response(
            meta=update.Meta(update_id=request.protocol_instance_id, identity="updater"),
            outcome=update.Outcome(success=payloads(result)),
        ),
    )


def place(message: protocol.Message) -> command.Command:
    """The command that says where among the others a message belongs."""
    return command.Command(
        command_type=enums.CommandType.COMMAND_TYPE_PROTOCOL_MESSAGE,
        protocol_message_command_attributes=command.ProtocolMessageCommandAttributes(message_id=message.id),
    )


DISCARDS = workflowservice.RespondWorkflowTaskCompletedRequest.Capabilities(
    discard_speculative_workflow_task_with_events=True
)
"""What current SDKs say with every completion."""
