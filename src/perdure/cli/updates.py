"""Updates of workflows as commands send them and wait for them."""

from __future__ import annotations

from typing import Any, Final

from perdure.api.common import v1 as common
from perdure.api.enums import v1 as enums
from perdure.api.failure import v1 as failure
from perdure.api.update import v1 as update
from perdure.api.workflowservice import v1 as service
from perdure.cli import payloads, unserved
from perdure.cli.command import Flags
from perdure.cli.errors import UnsuccessfulError
from perdure.cli.session import Session

TIMEOUT_S: Final = 70.0
"""Longer than a server waits before it answers a long poll without a result."""


def request(
    session: Session,
    inputs: Flags,
    *,
    name: str,
    workflow_id: str,
    run_id: str,
    update_id: str,
    first_run_id: str,
    stage: Any,
    headers: tuple[str, ...] = (),
) -> service.UpdateWorkflowExecutionRequest:
    """A request for an update.

    Args:
        session: the call's.
        inputs: flags of `PAYLOAD_INPUT`.
        name, workflow_id, run_id, update_id, first_run_id: what to update; empty ids mean any.
        stage: how far it is waited for.
        headers: texts `KEY=JSON`.
    """
    return service.UpdateWorkflowExecutionRequest(
        namespace=session.namespace,
        workflow_execution=common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        first_execution_run_id=first_run_id,
        wait_policy=update.WaitPolicy(lifecycle_stage=stage),
        request=update.Request(
            meta=update.Meta(update_id=update_id, identity=session.identity),
            input=update.Input(
                name=name, args=payloads.input_payloads(inputs), header=payloads.header(headers)
            ),
        ),
    )


async def send(session: Session, asked: service.UpdateWorkflowExecutionRequest) -> Any:
    """Sends an update until it has been accepted or refused; the answer."""
    async with unserved.told(session, asked.workflow_execution):
        while True:
            answer = await session.call(asked, timeout_s=TIMEOUT_S)
            if answer.stage >= enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED:
                return answer


async def outcome(session: Session, reference: update.UpdateRef, answer: Any = None) -> update.Outcome:
    """The outcome of an update, waited for if an answer does not have it yet."""
    stage = enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
    with session.out.progress("Waiting for the update"):
        while answer is None or not answer.HasField("outcome"):
            answer = await session.call(
                service.PollWorkflowExecutionUpdateRequest(
                    update_ref=reference, wait_policy=update.WaitPolicy(lifecycle_stage=stage)
                ),
                timeout_s=TIMEOUT_S,
            )
    found: update.Outcome = answer.outcome
    return found


def check(found: update.Outcome) -> None:
    """Refuses a failed outcome.

    Raises:
        UnsuccessfulError: the update failed or was rejected.
    """
    if found.HasField("failure"):
        raise UnsuccessfulError(f"the update failed: {text_of(found.failure)}")


def text_of(found: failure.Failure) -> str:
    """A failure in one line: its message, and type and kind if it is an application's."""
    text = found.message
    if found.HasField("application_failure_info"):
        info = found.application_failure_info
        if info.type:
            text += f" (type: {info.type}, retryable: {'false' if info.non_retryable else 'true'})"
    if found.HasField("cause"):
        text += f": {text_of(found.cause)}"
    return text
