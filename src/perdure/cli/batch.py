"""`perdure batch`: batch operations, which other commands start when they get a filter."""

from __future__ import annotations

from typing import Final

from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service
from perdure.cli import batches, listings
from perdure.cli import flags as f
from perdure.cli.command import Flags, Group
from perdure.cli.session import Session
from perdure.cli.show import look

batch = Group("batch", "See what batch operations do, and stop them.")

_JOB: Final = f.text("--job-id", required=True, metavar="ID", help="Id of the batch.")
_COLUMNS: Final = {
    "Type": "operation_type",
    "State": "state",
    "StartTime": "start_time",
    "CloseTime": "close_time",
    "Identity": "identity",
    "Reason": "reason",
}
_BAR_WIDTH: Final = 24
_JOBS: Final = listings.Listing(
    request=service.ListBatchOperationsRequest,
    items="operation_info",
    columns={"JobId": "job_id", "State": "state", "StartTime": "start_time", "CloseTime": "close_time"},
)


@batch.add("describe", _JOB, f.WATCH, f.WAIT, example="perdure batch describe --job-id JOB --wait")
async def describe(session: Session, flags: Flags) -> bool:
    """Show how far a batch is; with --wait, until it has ended."""
    if flags.wait:
        await batches.wait(session, flags.job_id)
    answer = await session.call(service.DescribeBatchOperationRequest(job_id=flags.job_id))
    if session.out.is_json:
        session.out.json(answer)
    shown = {name: look(answer, path) for name, path in _COLUMNS.items()}
    session.out.card({"Progress": progress_line(answer), **shown})
    return bool(answer.state != enums.BATCH_OPERATION_STATE_RUNNING)


def progress_line(job: service.DescribeBatchOperationResponse) -> str:
    """A bar, and how many of how many are done and have failed."""
    total, failed = job.total_operation_count, job.failure_operation_count
    full = _BAR_WIDTH * min(job.complete_operation_count + failed, total) // total if total else 0
    words = f"{job.complete_operation_count} of {total} done" + (f", {failed} failed" if failed else "")
    return f"{'█' * full}{'░' * (_BAR_WIDTH - full)} {words}"


@batch.add("list", f.LIMIT, f.WATCH, example="perdure batch list --limit 10")
async def list_batches(session: Session, flags: Flags) -> None:
    """List batches, newest first."""
    await listings.show(session, flags, _JOBS, service.ListBatchOperationsRequest())


@batch.add(
    "terminate", _JOB,
    f.text("--reason", required=True, metavar="TEXT", help="Why."),
    example="perdure batch terminate --job-id JOB --reason 'wrong filter'",
)  # fmt: skip
async def terminate(session: Session, flags: Flags) -> None:
    """Stop a batch; what it has done stays done."""
    await session.call(service.StopBatchOperationRequest(job_id=flags.job_id, reason=flags.reason))
    session.out.note("The batch was stopped")
