"""`perdure workflow start` and the other verbs that can make a workflow begin."""

from __future__ import annotations

import time
from typing import Any

from perdure.api.common import v1 as common
from perdure.api.enums import v1 as enums
from perdure.api.errordetails import v1 as errordetails
from perdure.api.update import v1 as update
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import histories, payloads, unserved, updates, wire
from perdure.cli.command import Flags, Group
from perdure.cli.errors import WrongUsageError
from perdure.cli.session import Session

commands = Group("workflow", "")


def fill_start(request: Any, flags: Flags) -> None:
    """Fills a request that starts a workflow from the flags that all starting commands have."""
    request.workflow_id = flags.workflow_id or wire.new_id()
    request.request_id = wire.new_id()
    fill_definition(request, flags)
    request.workflow_id_reuse_policy = wire.enum_value(enums.WorkflowIdReusePolicy, flags.id_reuse_policy)
    request.workflow_id_conflict_policy = wire.enum_value(
        enums.WorkflowIdConflictPolicy, flags.id_conflict_policy
    )
    request.cron_schedule = flags.cron or ""
    _set(request, "workflow_start_delay", wire.duration(flags.start_delay))


def fill_definition(request: Any, flags: Flags) -> None:
    """Fills what a start and a schedule's action have in common."""
    request.workflow_type.name = flags.type
    for name, value in {
        "task_queue": wire.queue(flags.task_queue),
        "input": payloads.input_payloads(flags),
        "workflow_execution_timeout": wire.duration(flags.execution_timeout),
        "workflow_run_timeout": wire.duration(flags.run_timeout),
        "workflow_task_timeout": wire.duration(flags.task_timeout),
        "memo": payloads.memo(flags.memo),
        "search_attributes": payloads.search_attributes(flags.search_attribute),
        "header": payloads.header(flags.headers),
        "user_metadata": wire.user_metadata(flags.static_summary, flags.static_details),
        "priority": wire.priority(flags),
    }.items():
        _set(request, name, value)


def _set(request: Any, name: str, value: Any) -> None:
    if value is not None:
        getattr(request, name).CopyFrom(value)


async def start_workflow(session: Session, flags: Flags) -> tuple[str, str]:
    """Starts a workflow; the id and run id of it, or of the one that runs already."""
    from perdure.service import RPCError
    from perdure.service._errors import detail_of

    request = service.StartWorkflowExecutionRequest()
    fill_start(request, flags)
    try:
        response = await session.call(request)
    except RPCError as error:
        running = detail_of(error, errordetails.WorkflowExecutionAlreadyStartedFailure)
        if running is None or flags.fail_existing:
            raise
        session.out.note(f"The workflow {request.workflow_id} runs already")
        return request.workflow_id, running.run_id
    return request.workflow_id, response.run_id


def _show_started(session: Session, flags: Flags, workflow_id: str, run_id: str, **more: Any) -> None:
    shown = {
        "workflowId": workflow_id,
        "runId": run_id,
        "type": flags.type,
        "namespace": session.namespace,
        **more,
    }
    if session.out.is_json:
        session.out.json(shown)
    session.out.heading("Running execution:")
    session.out.card(shown)


_EXAMPLE_START = "--type Order --task-queue orders --workflow-id order-1 --input '\"book\"'"


@commands.add(
    "start",
    f.SHARED_START,
    f.WORKFLOW_START,
    f.PAYLOAD_INPUT,
    example=f"perdure workflow start {_EXAMPLE_START}",
)
async def start(session: Session, flags: Flags) -> None:
    """Start a workflow and do not wait for it.

    Shows the id and the run id. If a workflow of this id runs already, its run id is shown instead, unless
    --fail-existing or a policy says otherwise.
    """
    workflow_id, run_id = await start_workflow(session, flags)
    _show_started(session, flags, workflow_id, run_id, taskQueue=flags.task_queue)


@commands.add(
    "execute", f.SHARED_START, f.WORKFLOW_START, f.PAYLOAD_INPUT,
    f.switch("--detailed", help="Show all of each event; with JSON, the whole history."),
    example=f"perdure workflow execute {_EXAMPLE_START}",
)  # fmt: skip
async def execute(session: Session, flags: Flags) -> None:
    """Start a workflow, show what happens and wait for its result.

    The exit code is 6 if the workflow does not complete.
    """
    began_s = time.monotonic()
    workflow_id, run_id = await start_workflow(session, flags)
    if session.out.is_text:
        _show_started(session, flags, workflow_id, run_id, taskQueue=flags.task_queue)
        session.out.blank()
        session.out.heading("Progress:")
    async with unserved.told(session, common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id)):
        if session.out.is_text:
            coming = histories.events(session, workflow_id, run_id, follows=True)
            await histories.show_events(session, coming, is_detailed=flags.detailed)
        closed = await histories.close_event(session, workflow_id, run_id, waits=True)
    shown = histories.outcome(session, closed)
    if session.out.is_json:
        more: dict[str, Any] = {}
        if flags.detailed:
            found = [event async for event in histories.events(session, workflow_id, run_id)]
            more["history"] = histories.as_json(found)
        session.out.json(
            {
                "workflowId": workflow_id,
                "runId": run_id,
                "type": flags.type,
                "namespace": session.namespace,
                "taskQueue": flags.task_queue,
                "durationMillis": int((time.monotonic() - began_s) * 1000),
                **shown,
                **more,
            }
        )
    histories.show_outcome(session, closed)
    histories.check_completed(closed)


@commands.add(
    "signal-with-start", f.SHARED_START, f.WORKFLOW_START, f.PAYLOAD_INPUT,
    f.text("--signal-name", "--signal-type", required=True, metavar="NAME", help="Name of the signal."),
    f.prefixed_input("signal", "signal"),
    example=f"perdure workflow signal-with-start {_EXAMPLE_START} --signal-name add --signal-input 1",
)  # fmt: skip
async def signal_with_start(session: Session, flags: Flags) -> None:
    """Send a signal to a workflow, and start the workflow if it does not run."""
    if not flags.workflow_id:
        raise WrongUsageError("--workflow-id is needed")
    request = service.SignalWithStartWorkflowExecutionRequest(
        signal_name=flags.signal_name, signal_input=payloads.input_payloads(flags.under("signal_"))
    )
    fill_start(request, flags)
    response = await session.call(request)
    _show_started(session, flags, flags.workflow_id, response.run_id)


_UPDATE_WITH_START: f.FlagGroup = (
    *f.SHARED_START,
    *f.WORKFLOW_START,
    *f.PAYLOAD_INPUT,
    f.text("--update-name", "--update-type", required=True, metavar="NAME", help="Name of the update."),
    f.text("--update-first-execution-run-id", metavar="ID", help="Only to this chain of runs."),
    f.text("--update-id", metavar="ID", help="Id of the update; a random one without it."),
    f.text("--run-id", "-r", metavar="ID", help="Only to this run."),
    *f.prefixed_input("update", "update"),
)
_EXAMPLE_UPDATE = f"{_EXAMPLE_START} --id-conflict-policy UseExisting --update-name put --update-input 1"


async def _update_with_start(session: Session, flags: Flags, stage: Any) -> tuple[str, update.UpdateRef, Any]:
    """Start and update in one call; repeated until the update has come as far as asked.

    Returns:
        the run id, the update's reference, its outcome.
    """
    if not flags.workflow_id:
        raise WrongUsageError("--workflow-id is needed")
    if not flags.id_conflict_policy:
        raise WrongUsageError("--id-conflict-policy is needed: say what an open workflow of this id means")
    start_request = service.StartWorkflowExecutionRequest(
        namespace=session.namespace, identity=session.identity
    )
    fill_start(start_request, flags)
    update_request = updates.request(
        session,
        flags.under("update_"),
        name=flags.update_name,
        workflow_id=flags.workflow_id,
        run_id=flags.run_id or "",
        update_id=flags.update_id or wire.new_id(),
        first_run_id=flags.update_first_execution_run_id or "",
        stage=stage,
    )
    operation = service.ExecuteMultiOperationRequest.Operation
    request = service.ExecuteMultiOperationRequest(
        operations=[operation(start_workflow=start_request), operation(update_workflow=update_request)]
    )
    while True:
        response = await session.call(request, timeout_s=updates.TIMEOUT_S)
        started, updated = response.responses[0].start_workflow, response.responses[1].update_workflow
        if updated.stage >= enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED:
            return started.run_id, updated.update_ref, updated


@commands.add(
    "start-update-with-start", _UPDATE_WITH_START,
    f.choice("--update-wait-for-stage", of=("accepted",), required=True, help="Wait until the update is this far."),
    example=f"perdure workflow start-update-with-start {_EXAMPLE_UPDATE} --update-wait-for-stage accepted",
)  # fmt: skip
async def start_update_with_start(session: Session, flags: Flags) -> None:
    """Send an update to a workflow, which is started if it does not run, and wait until it is accepted."""
    stage = enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
    run_id, reference, updated = await _update_with_start(session, flags, stage)
    updates.check(updated.outcome)
    _show_started(
        session, flags, flags.workflow_id, run_id, updateName=flags.update_name, updateId=reference.update_id
    )


@commands.add(
    "execute-update-with-start", _UPDATE_WITH_START,
    example=f"perdure workflow execute-update-with-start {_EXAMPLE_UPDATE}",
)  # fmt: skip
async def execute_update_with_start(session: Session, flags: Flags) -> None:
    """Send an update to a workflow, which is started if it does not run, and wait for its result."""
    stage = enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
    run_id, reference, updated = await _update_with_start(session, flags, stage)
    outcome = await updates.outcome(session, reference, updated)
    updates.check(outcome)
    result = payloads.value_of(outcome.success)
    _show_started(
        session, flags, flags.workflow_id, run_id,
        updateName=flags.update_name, updateId=reference.update_id, updateResult=result,
    )  # fmt: skip
