"""`perdure nexus operation`: Nexus operations that no workflow calls."""

from __future__ import annotations

import json
from typing import Any, Final

from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import listings, payloads, updates, wire
from perdure.cli.command import Flags, Group
from perdure.cli.errors import UnsuccessfulError, WrongUsageError
from perdure.cli.session import Session
from perdure.cli.show import failure_text

nexus = Group("nexus", "Call Nexus operations without a workflow.")
operation = nexus.group_of(
    "operation", "Start Nexus operations without a workflow, and see what became of them."
)

_REFERENCE: Final[f.FlagGroup] = (
    f.text("--operation-id", required=True, metavar="ID", help="Id of the operation."),
    f.text("--run-id", "-r", metavar="ID", help="Id of one run; without it the latest."),
)
_START: Final[f.FlagGroup] = (
    f.text("--endpoint", required=True, metavar="NAME", help="Endpoint to call through."),
    f.text("--service", required=True, metavar="NAME", help="Service of the operation."),
    f.text("--operation", required=True, metavar="NAME", help="Name of the operation."),
    f.text("--operation-id", required=True, metavar="ID", help="Id of the operation."),
    f.duration("--schedule-to-close-timeout", help="Limit of everything together."),
    f.duration("--schedule-to-start-timeout", help="Limit until a handler has begun."),
    f.duration("--start-to-close-timeout", help="Limit from there on."),
    f.choice(
        "--id-conflict-policy",
        of=("Fail", "UseExisting", "TerminateExisting"),
        help="What an open one means.",
    ),
    f.choice("--id-reuse-policy", of=("AllowDuplicate", "RejectDuplicate"), help="What a closed one means."),
    f.texts("--search-attribute", metavar="KEY=JSON", help="Search attribute of the operation."),
    f.text("--static-summary", help="One line for people."),
)
_EXAMPLE: Final = (
    "--endpoint prices --service Prices --operation quote --operation-id quote-1 --input '\"book\"'"
)
_ID_EXAMPLE: Final = "--operation-id quote-1"
_SHOWN: Final = {
    "OperationId": "operation_id", "RunId": "run_id", "Endpoint": "endpoint", "Service": "service",
    "Operation": "operation", "Status": "status", "State": "state", "Attempt": "attempt",
    "ScheduleToCloseTimeout": "schedule_to_close_timeout", "ScheduleTime": "schedule_time",
    "CloseTime": "close_time", "ExpirationTime": "expiration_time", "BlockedReason": "blocked_reason",
    "OperationToken": "operation_token", "Identity": "identity",
}  # fmt: skip


async def _start(session: Session, flags: Flags) -> str:
    given = payloads.input_payloads(flags)
    if given is not None and len(given.payloads) > 1:
        raise WrongUsageError("a Nexus operation takes one input")
    answer = await session.call(
        service.StartNexusOperationExecutionRequest(
            request_id=wire.new_id(),
            operation_id=flags.operation_id,
            endpoint=flags.endpoint,
            service=flags.service,
            operation=flags.operation,
            schedule_to_close_timeout=wire.duration(flags.schedule_to_close_timeout),
            schedule_to_start_timeout=wire.duration(flags.schedule_to_start_timeout),
            start_to_close_timeout=wire.duration(flags.start_to_close_timeout),
            input=given.payloads[0] if given is not None else None,
            id_reuse_policy=wire.enum_value(enums.NexusOperationIdReusePolicy, flags.id_reuse_policy),
            id_conflict_policy=wire.enum_value(
                enums.NexusOperationIdConflictPolicy, flags.id_conflict_policy
            ),
            search_attributes=payloads.search_attributes(flags.search_attribute),
            user_metadata=wire.user_metadata(flags.static_summary, None),
        )
    )
    return str(answer.run_id)


def _show_started(session: Session, flags: Flags, run_id: str) -> None:
    shown = {
        "endpoint": flags.endpoint, "service": flags.service, "operation": flags.operation,
        "operationId": flags.operation_id, "runId": run_id, "namespace": session.namespace,
    }  # fmt: skip
    if session.out.is_json:
        session.out.json(shown)
    session.out.heading("Started operation:")
    session.out.card(shown)


@operation.add("start", _START, f.PAYLOAD_INPUT, example=f"perdure nexus operation start {_EXAMPLE}")
async def start(session: Session, flags: Flags) -> None:
    """Start a Nexus operation and do not wait for it."""
    _show_started(session, flags, await _start(session, flags))


@operation.add("execute", _START, f.PAYLOAD_INPUT, example=f"perdure nexus operation execute {_EXAMPLE}")
async def execute(session: Session, flags: Flags) -> None:
    """Start a Nexus operation and wait for its result.

    The exit code is 6 if it fails.
    """
    run_id = await _start(session, flags)
    if session.out.is_text:
        _show_started(session, flags, run_id)
    await _show_result(session, flags.operation_id, run_id)


@operation.add("result", _REFERENCE, example=f"perdure nexus operation result {_ID_EXAMPLE}")
async def result(session: Session, flags: Flags) -> None:
    """Wait for the result of a Nexus operation.

    The exit code is 6 if it failed.
    """
    await _show_result(session, flags.operation_id, flags.run_id or "")


async def _show_result(session: Session, operation_id: str, run_id: str) -> None:
    answer: Any = None
    with session.out.progress(f"Waiting for {operation_id}"):
        while answer is None or answer.WhichOneof("outcome") is None:
            answer = await session.call(
                service.PollNexusOperationExecutionRequest(
                    operation_id=operation_id,
                    run_id=run_id,
                    wait_stage=enums.NEXUS_OPERATION_WAIT_STAGE_CLOSED,
                ),
                timeout_s=updates.TIMEOUT_S,
            )
    shown: dict[str, Any] = {"operationId": operation_id, "runId": run_id or answer.run_id}
    if answer.HasField("failure"):
        if session.out.is_json:
            session.out.json({**shown, "status": "FAILED", "failure": answer.failure})
        session.out.card({"Status": "Failed", "Failure": failure_text(answer.failure)})
        raise UnsuccessfulError(f"the operation failed: {updates.text_of(answer.failure)}")
    value = payloads.value_of_one(answer.result)
    if session.out.is_json:
        session.out.json(
            {
                **shown,
                "status": "COMPLETED",
                "result": value if session.out.has_short_payloads else answer.result,
            }
        )
    session.out.card({"Status": "Completed", "Result": json.dumps(value, ensure_ascii=False)})


@operation.add(
    "describe", _REFERENCE, f.RAW, f.WATCH, example=f"perdure nexus operation describe {_ID_EXAMPLE}"
)
async def describe(session: Session, flags: Flags) -> bool:
    """Show how a Nexus operation is doing."""
    answer = await session.call(
        service.DescribeNexusOperationExecutionRequest(
            operation_id=flags.operation_id, run_id=flags.run_id or ""
        )
    )
    if session.out.is_json or flags.raw:
        session.out.json(answer.info)
    else:
        session.out.fields(answer.info, _SHOWN)
    return bool(answer.info.status != enums.NEXUS_OPERATION_EXECUTION_STATUS_RUNNING)


_REASON: Final = f.text("--reason", metavar="TEXT", help="Why.")


@operation.add("cancel", _REFERENCE, _REASON, example=f"perdure nexus operation cancel {_ID_EXAMPLE}")
async def cancel(session: Session, flags: Flags) -> None:
    """Ask a Nexus operation to end."""
    await session.call(
        service.RequestCancelNexusOperationExecutionRequest(
            operation_id=flags.operation_id,
            run_id=flags.run_id or "",
            request_id=wire.new_id(),
            reason=flags.reason or "",
        )
    )
    session.out.note("The cancellation was requested")


@operation.add("terminate", _REFERENCE, _REASON, example=f"perdure nexus operation terminate {_ID_EXAMPLE}")
async def terminate(session: Session, flags: Flags) -> None:
    """End a Nexus operation at once; its handler is not asked."""
    await session.call(
        service.TerminateNexusOperationExecutionRequest(
            operation_id=flags.operation_id,
            run_id=flags.run_id or "",
            request_id=wire.new_id(),
            reason=flags.reason or wire.default_reason(),
        )
    )
    session.out.note("The operation was terminated")


_OPERATIONS: Final = listings.Listing(
    request=service.ListNexusOperationExecutionsRequest,
    items="operations",
    columns={
        "Status": "status",
        "OperationId": "operation_id",
        "Endpoint": "endpoint",
        "Service": "service",
        "Operation": "operation",
        "StartTime": "schedule_time",
    },
)


@operation.add(
    "list", f.QUERY, f.LIMIT, f.PAGE_SIZE, f.WATCH,
    example="perdure nexus operation list --query \"Endpoint = 'prices'\"",
)  # fmt: skip
async def list_operations(session: Session, flags: Flags) -> None:
    """List Nexus operations that no workflow called."""
    request = service.ListNexusOperationExecutionsRequest(query=flags.query or "")
    await listings.show(session, flags, _OPERATIONS, request)


@operation.add("count", f.QUERY, f.WATCH, example="perdure nexus operation count")
async def count(session: Session, flags: Flags) -> None:
    """Count Nexus operations that no workflow called."""
    await listings.show_count(session, service.CountNexusOperationExecutionsRequest(query=flags.query or ""))
