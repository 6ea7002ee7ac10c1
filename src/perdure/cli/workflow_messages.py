"""`perdure workflow signal`, `query`, `update` and what else talks to a workflow that is there."""

from __future__ import annotations

import json
from typing import Any

from perdure.api.batch import v1 as batch
from perdure.api.enums import v1 as enums
from perdure.api.query import v1 as query_api
from perdure.api.sdk.v1 import WorkflowMetadata
from perdure.api.update import v1 as update_api
from perdure.api.workflowservice import v1 as service
from perdure.cli import batches, payloads, unserved, updates, wire
from perdure.cli import flags as f
from perdure.cli.command import Flags, Group
from perdure.cli.errors import CommandError, UnsuccessfulError
from perdure.cli.session import Session
from perdure.cli.show import to_json

commands = Group("workflow", "")
update = commands.group_of("update", "Send updates to workflows, and ask what became of them.")

_METADATA_QUERY = "__temporal_workflow_metadata"
_STACK_QUERY = "__stack_trace"
_ID = "--workflow-id order-1"


@commands.add(
    "signal", f.SINGLE_OR_BATCH, f.PAYLOAD_INPUT,
    f.text("--name", "--type", required=True, metavar="NAME", help="Name of the signal."),
    example=f"perdure workflow signal {_ID} --name add --input '\"book\"'",
)  # fmt: skip
async def signal(session: Session, flags: Flags) -> None:
    """Send a signal to a workflow, or to all that a filter finds."""
    arguments = payloads.input_payloads(flags)
    header = payloads.header(flags.headers)
    execution, request = await batches.workflow_or_batch(session, flags)
    if request is not None:
        request.signal_operation.CopyFrom(
            batch.BatchOperationSignal(
                signal=flags.name, input=arguments, header=header, identity=session.identity
            )
        )
        await batches.start(session, flags, request)
        return
    await session.call(
        service.SignalWorkflowExecutionRequest(
            workflow_execution=execution,
            signal_name=flags.name,
            input=arguments,
            header=header,
            request_id=wire.new_id(),
        )
    )
    session.out.note("The signal was sent")


async def _query(session: Session, flags: Flags, query_type: str) -> Any:
    """Asks a query; the answer, which has a result.

    Raises:
        CommandError: the workflow's state is one that was to be refused.
    """
    arguments = payloads.input_payloads(flags) if flags.get("input") is not None else None
    asked = service.QueryWorkflowRequest(
        execution=wire.execution(flags),
        query=query_api.WorkflowQuery(
            query_type=query_type,
            query_args=arguments,
            header=payloads.header(flags.get("headers", ())),
        ),
        query_reject_condition=wire.enum_value(enums.QueryRejectCondition, flags.reject_condition),
    )
    async with unserved.told(session, asked.execution):
        answer = await session.call(asked)
    if answer.HasField("query_rejected"):
        state = enums.WorkflowExecutionStatus.Name(answer.query_rejected.status).partition("_STATUS_")[2]
        raise CommandError(f"the query was rejected: the workflow is {state}")
    return answer


def _show_result(session: Session, answer: Any) -> None:
    if session.out.is_json:
        session.out.json(answer)
        return
    result = payloads.friendly(answer.query_result if answer.HasField("query_result") else None, True)
    session.out.line(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, indent=2))


@commands.add(
    "query", f.PAYLOAD_INPUT, f.WORKFLOW_REFERENCE, f.QUERY_MODIFIERS,
    f.text("--name", "--type", required=True, metavar="NAME", help="Name of the query."),
    example=f"perdure workflow query {_ID} --name getStatus",
)  # fmt: skip
async def query(session: Session, flags: Flags) -> None:
    """Ask a workflow, open or closed, something that it answers from its state."""
    _show_result(session, await _query(session, flags, flags.name))


@commands.add("stack", f.WORKFLOW_REFERENCE, f.STACK_MODIFIERS, example=f"perdure workflow stack {_ID}")
async def stack(session: Session, flags: Flags) -> None:
    """Show where a workflow's code stands: its call stacks."""
    _show_result(session, await _query(session, flags, _STACK_QUERY))


@commands.add("metadata", f.WORKFLOW_REFERENCE, f.QUERY_MODIFIERS, example=f"perdure workflow metadata {_ID}")
async def metadata(session: Session, flags: Flags) -> None:
    """Show which signals, queries and updates a workflow handles, and what it says of itself."""
    answer = await _query(session, flags, _METADATA_QUERY)
    if session.out.is_json:
        session.out.json(answer)
        return
    from perdure.server.doors.http.messages import read_request

    found: Any = read_request(WorkflowMetadata.DESCRIPTOR, answer.query_result.payloads[0].data, {}, ())
    for heading, definitions in (
        ("Queries:", found.definition.query_definitions),
        ("Signals:", found.definition.signal_definitions),
        ("Updates:", found.definition.update_definitions),
    ):
        if definitions:
            session.out.heading(heading)
            session.out.card({each.name: each.description or "-" for each in definitions})
    if found.current_details:
        session.out.heading("Current details:")
        session.out.line(found.current_details)


def _request(session: Session, flags: Flags, stage: Any) -> service.UpdateWorkflowExecutionRequest:
    return updates.request(
        session,
        flags,
        name=flags.name,
        workflow_id=flags.workflow_id,
        run_id=flags.run_id or "",
        update_id=flags.update_id or wire.new_id(),
        first_run_id=flags.first_execution_run_id or "",
        stage=stage,
        headers=flags.headers,
    )


def _show(session: Session, shown: dict[str, Any]) -> None:
    if session.out.is_json:
        session.out.json(shown)
    session.out.card(shown)


@update.add(
    "start", f.UPDATE_START, f.PAYLOAD_INPUT,
    f.choice("--wait-for-stage", of=("accepted",), required=True, help="Wait until the update is this far."),
    example=f"perdure workflow update start {_ID} --name put --input 1 --wait-for-stage accepted",
)  # fmt: skip
async def update_start(session: Session, flags: Flags) -> None:
    """Send an update and wait until the workflow has accepted it."""
    stage = enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
    answer = await updates.send(session, _request(session, flags, stage))
    updates.check(answer.outcome)
    _show(session, {"name": flags.name, "updateId": answer.update_ref.update_id})


@update.add(
    "execute", f.UPDATE_START, f.PAYLOAD_INPUT,
    example=f"perdure workflow update execute {_ID} --name put --input 1",
)  # fmt: skip
async def update_execute(session: Session, flags: Flags) -> None:
    """Send an update and wait for its result."""
    stage = enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
    answer = await updates.send(session, _request(session, flags, stage))
    found = await updates.outcome(session, answer.update_ref, answer)
    updates.check(found)
    result = payloads.value_of(found.success)
    _show(session, {"name": flags.name, "updateId": answer.update_ref.update_id, "result": result})


def _reference(flags: Flags) -> update_api.UpdateRef:
    return update_api.UpdateRef(workflow_execution=wire.execution(flags), update_id=flags.update_id)


@update.add("result", f.UPDATE_REFERENCE, example=f"perdure workflow update result {_ID} --update-id put-1")
async def update_result(session: Session, flags: Flags) -> None:
    """Wait for the result of an update that was sent before.

    The exit code is 6 if the update failed.
    """
    found = await updates.outcome(session, _reference(flags))
    if found.HasField("failure"):
        text = updates.text_of(found.failure)
        info = found.failure.application_failure_info
        details = payloads.value_of(info.details) if info.HasField("details") else None
        structured = {"message": text, "type": info.type, "details": details}
        failure = (
            {name: value for name, value in structured.items() if value} if session.out.is_json else text
        )
        _show(session, {"updateId": flags.update_id, "failure": failure})
        raise UnsuccessfulError("the update failed")
    result = payloads.value_of(found.success)
    _show(session, {"updateId": flags.update_id} | ({} if result is None else {"result": result}))


@update.add(
    "describe",
    f.UPDATE_REFERENCE,
    f.WATCH,
    example=f"perdure workflow update describe {_ID} --update-id put-1",
)
async def update_describe(session: Session, flags: Flags) -> bool:
    """Show how far an update is, without waiting."""
    answer = await session.call(service.PollWorkflowExecutionUpdateRequest(update_ref=_reference(flags)))
    shown: dict[str, Any] = {"updateId": flags.update_id}
    if answer.outcome.HasField("failure"):
        shown["failure"] = (
            to_json(answer.outcome.failure) if session.out.is_json else answer.outcome.failure.message
        )
    elif answer.outcome.HasField("success"):
        result = payloads.value_of(answer.outcome.success)
        shown |= {} if result is None else {"result": result}
    stage = enums.UpdateWorkflowExecutionLifecycleStage.Name(answer.stage)
    label = "".join(part.capitalize() for part in stage.partition("_STAGE_")[2].split("_"))
    _show(session, {**shown, "stage": label})
    return bool(answer.HasField("outcome"))
