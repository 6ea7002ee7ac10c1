"""Batches that commands for one workflow or activity start when they get a filter instead of an id."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from perdure.api.common import v1 as common
from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service
from perdure.cli import wire
from perdure.cli.command import Flags
from perdure.cli.errors import UnsuccessfulError, WrongUsageError
from perdure.cli.session import Session

POLL_S: Final = 0.5


async def workflow_or_batch(
    session: Session, flags: Flags, *, allows: tuple[str, ...] = ()
) -> tuple[common.WorkflowExecution | None, service.StartBatchOperationRequest | None]:
    """The one run that flags of `SINGLE_OR_BATCH` name, or a request for a batch that only lacks its operation.

    Args:
        session: the call's.
        flags: the command's.
        allows: flags of batches that make sense with one workflow, too: `reason`, `yes`.

    Raises:
        WrongUsageError: the flags name neither, or both.
        CommandError: somebody said no.
    """
    if flags.workflow_id:
        for name in ("query", "reason", "yes", "rps"):
            if getattr(flags, name) and name not in allows:
                raise WrongUsageError(f"--{name} is for batches and cannot be used with --workflow-id")
        return wire.execution(flags), None
    if not flags.query:
        raise WrongUsageError("either --workflow-id or --query is needed")
    if flags.run_id:
        raise WrongUsageError("--run-id cannot be used with --query")
    await confirm(session, flags, "workflows", service.CountWorkflowExecutionsRequest(query=flags.query))
    return None, new_batch(flags)


async def confirm(session: Session, flags: Flags, what: str, count: Any) -> None:
    """Asks whether a batch is to start, with the number of what it finds."""
    if flags.yes:
        return
    session.confirm("", True) if session.out.is_text else session.confirm("", False)
    found = (await session.call(count)).count
    session.confirm(f"Start a batch against about {found} {what}?", False)


def new_batch(flags: Flags) -> service.StartBatchOperationRequest:
    """A request for a batch of what --query finds."""
    return service.StartBatchOperationRequest(
        job_id=wire.new_id(),
        visibility_query=flags.query,
        reason=flags.get("reason") or wire.default_reason(),
        max_operations_per_second=flags.get("rps") or 0.0,
    )


async def start(session: Session, flags: Flags, request: service.StartBatchOperationRequest) -> None:
    """Starts a batch, and waits for its end if --wait says so.

    Raises:
        UnsuccessfulError: it was waited for, and did not do all it should.
    """
    await session.call(request)
    if session.out.is_json:
        session.out.json({"batchJobId": request.job_id})
    session.out.line(f"Started batch {request.job_id}")
    if flags.get("wait"):
        await wait(session, request.job_id)


async def wait(session: Session, job_id: str) -> None:
    """Waits until a batch has ended.

    Raises:
        UnsuccessfulError: it failed, or some of its operations did.
    """
    with session.out.progress("Batch", is_counted=True) as progress:
        while True:
            job = await session.call(service.DescribeBatchOperationRequest(job_id=job_id))
            done = job.complete_operation_count + job.failure_operation_count
            progress.update(done, job.total_operation_count or None)
            if job.state != enums.BATCH_OPERATION_STATE_RUNNING:
                break
            await asyncio.sleep(POLL_S)
    summary = f"{job.complete_operation_count} of {job.total_operation_count} done"
    if job.state != enums.BATCH_OPERATION_STATE_COMPLETED or job.failure_operation_count:
        raise UnsuccessfulError(
            f"the batch {job_id} ended with {job.failure_operation_count} failures, {summary}"
        )
    session.out.note(f"The batch has ended: {summary}")
