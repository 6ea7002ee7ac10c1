"""`perdure workflow reset`: to an event, or to a point by kind; one workflow, or all that a filter finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from perdure.api.batch import v1 as batch
from perdure.api.common import v1 as common
from perdure.api.enums import v1 as enums
from perdure.api.protobuf import Empty
from perdure.api.workflow import v1 as workflow_api
from perdure.api.workflowservice import v1 as service
from perdure.cli import batches, histories, wire
from perdure.cli import flags as f
from perdure.cli.command import Body, Command, Flags, Group
from perdure.cli.errors import CommandError, WrongUsageError
from perdure.cli.session import Session
from perdure.cli.settings import user
from perdure.cli.workflow_change import OVERRIDE, options_with, versioning_override

commands = Group("workflow", "")
_COMPLETED = enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_SCHEDULED = enums.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
_NO_TASK = "the run has no workflow task to reset to"

_FLAGS: f.FlagGroup = (
    f.text("--workflow-id", "-w", **f.WORKFLOW_ID),
    f.text("--run-id", "-r", metavar="ID", help="Id of one run; without it the latest."),
    f.integer("--event-id", "-e", help="Event to reset to: the end of a workflow task."),
    f.text("--reason", metavar="TEXT", help="Why; needed."),
    f.choice("--reapply-type", of=("All", "Signal", "None"), help="What comes again.", default="All"),
    f.choices("--reapply-exclude", of=("All", "Signal", "Update"), help="What does not come again."),
    f.choice(
        "--type", "-t", of=("FirstWorkflowTask", "LastWorkflowTask", "LastContinuedAsNew", "BuildId"),
        help="Point to reset to.",
    ),
    f.text("--build-id", metavar="ID", help="For the type BuildId: before the first task of this build."),
    f.text("--query", "-q", metavar="FILTER", help="Do it as a batch to all workflows that this finds."),
    f.YES,
    f.WAIT,
)  # fmt: skip


def _reapply(flags: Flags) -> tuple[list[Any], Any]:
    """What is excluded, and what comes again."""
    known = [value for value in enums.ResetReapplyExcludeType.values() if value]
    excluded: Iterable[Any] = (
        known
        if "All" in flags.reapply_exclude
        else [wire.enum_value(enums.ResetReapplyExcludeType, name) for name in flags.reapply_exclude]
    )
    if flags.reapply_type == "All":
        return list(excluded), enums.RESET_REAPPLY_TYPE_ALL_ELIGIBLE
    if flags.reapply_exclude:
        raise WrongUsageError(
            "--reapply-type cannot be used with --reapply-exclude, which says the same better"
        )
    return [], wire.enum_value(enums.ResetReapplyType, flags.reapply_type)


def _check(flags: Flags) -> None:
    if not flags.reason:
        raise WrongUsageError("--reason is needed")
    if flags.workflow_id:
        if not flags.type and not flags.event_id:
            raise WrongUsageError("either --event-id or --type is needed")
        return
    if not flags.type:
        raise WrongUsageError("--workflow-id with --event-id or --type, or --query with --type is needed")
    for name in ("run_id", "event_id"):
        if getattr(flags, name):
            raise WrongUsageError(f"--{name.replace('_', '-')} cannot be used with a batch")
    if flags.type == "LastContinuedAsNew":
        raise WrongUsageError("--type LastContinuedAsNew is for one workflow, not for a batch")
    if flags.type == "BuildId" and not flags.build_id:
        raise WrongUsageError("--type BuildId needs --build-id")


async def _reset(
    session: Session, flags: Flags, after: Iterable[workflow_api.PostResetOperation] = ()
) -> None:
    _check(flags)
    excluded, reapplied = _reapply(flags)
    if not flags.workflow_id:
        await _reset_batch(session, flags, excluded, reapplied, after)
        return
    run_id, event_id = flags.run_id or "", flags.event_id or 0
    if flags.type:
        run_id, event_id = await _point(session, flags)
    session.out.note(f"Resetting workflow {flags.workflow_id} to event {event_id}")
    answer = await session.call(
        service.ResetWorkflowExecutionRequest(
            workflow_execution=common.WorkflowExecution(workflow_id=flags.workflow_id, run_id=run_id),
            reason=f"{user()}: {flags.reason}",
            workflow_task_finish_event_id=event_id,
            request_id=wire.new_id(),
            reset_reapply_type=reapplied,
            reset_reapply_exclude_types=excluded,
            post_reset_operations=after,
        )
    )
    if session.out.is_json:
        session.out.json(answer)
    session.out.card({"RunId": answer.run_id})


async def _reset_batch(session: Session, flags: Flags, excluded: Any, reapplied: Any, after: Any) -> None:
    if not flags.query:
        raise WrongUsageError("either --workflow-id or --query is needed")
    options = common.ResetOptions(reset_reapply_exclude_types=excluded, reset_reapply_type=reapplied)
    if flags.type == "BuildId":
        options.build_id = flags.build_id
    elif flags.type == "FirstWorkflowTask":
        options.first_workflow_task.CopyFrom(Empty())
    else:
        options.last_workflow_task.CopyFrom(Empty())
    await batches.confirm(
        session, flags, "workflows", service.CountWorkflowExecutionsRequest(query=flags.query)
    )
    request = batches.new_batch(flags)
    request.reset_operation.CopyFrom(
        batch.BatchOperationReset(identity=session.identity, options=options, post_reset_operations=after)
    )
    await batches.start(session, flags, request)


async def _point(session: Session, flags: Flags) -> tuple[str, int]:
    """The run and event that a point by kind means."""
    workflow_id, run_id = flags.workflow_id, flags.run_id or ""
    if flags.type == "FirstWorkflowTask":
        scheduled = 0
        async for event in histories.events(session, workflow_id, run_id):
            if event.event_type == _COMPLETED:
                return run_id, event.event_id
            if event.event_type == _SCHEDULED and not scheduled:
                scheduled = event.event_id + 1
        return run_id, _found(scheduled, _NO_TASK)
    if flags.type == "LastWorkflowTask":
        scheduled = 0
        async for event in histories.events(session, workflow_id, run_id, is_reversed=True):
            if event.event_type == _COMPLETED:
                return run_id, event.event_id
            if event.event_type == _SCHEDULED:
                scheduled = event.event_id + 1
        return run_id, _found(scheduled, _NO_TASK)
    if flags.type == "LastContinuedAsNew":
        return await _before_this_run(session, workflow_id, run_id)
    raise WrongUsageError("--type BuildId is for batches; use --query")


async def _before_this_run(session: Session, workflow_id: str, run_id: str) -> tuple[str, int]:
    before = ""
    async for event in histories.events(session, workflow_id, run_id):
        before = event.workflow_execution_started_event_attributes.continued_execution_run_id
        break
    if not before:
        raise CommandError("the workflow was not continued from another run")
    completed = 0
    async for event in histories.events(session, workflow_id, before):
        completed = event.event_id if event.event_type == _COMPLETED else completed
    return before, _found(completed, "the run before has no completed workflow task")


def _found(event_id: int, otherwise: str) -> int:
    if not event_id:
        raise CommandError(otherwise)
    return event_id


class _Resetting(Group):
    """A group that is a command as well: `workflow reset` and `workflow reset with-workflow-update-options`."""

    def __init__(self, body: Body, example: str) -> None:
        super().__init__(
            "reset", body.__doc__ or "", params=_FLAGS, invoke_without_command=True, no_args_is_help=True
        )
        self.example = example
        self.body = body

    def invoke(self, ctx: click.Context) -> Any:
        """Resets, unless a command of the group says more."""
        ctx.meta["perdure.cli.reset"] = dict(ctx.params)
        if ctx._protected_args or ctx.args:
            return super().invoke(ctx)
        from perdure.cli.session import run

        return run(ctx, Command("reset", self.body, (), self.example), Flags(ctx.params))


async def _reset_plain(session: Session, flags: Flags) -> None:
    """Let a workflow, or all that a filter finds, go on from an earlier point in a new run.

    Events before the point are copied, the rest happens anew; signals and updates come again unless excluded.
    """
    await _reset(session, flags)


reset = _Resetting(
    _reset_plain,
    "perdure workflow reset --workflow-id order-1 --event-id 4 --reason 'wrong price'\n"
    "perdure workflow reset --query \"WorkflowType = 'Order'\" --type LastWorkflowTask --reason 'bad build' --yes",
)
commands.add_command(reset)


@reset.add(
    "with-workflow-update-options", OVERRIDE,
    f.choice(
        "--versioning-override-behavior", of=("pinned", "one_time", "auto_upgrade"), required=True,
        help="What applies to the new run instead of the workflow's own behavior.",
    ),
    example="perdure workflow reset --workflow-id order-1 --type LastWorkflowTask --reason 'new build' "
    "with-workflow-update-options --versioning-override-behavior auto_upgrade",
)  # fmt: skip
async def reset_with_options(session: Session, flags: Flags) -> None:
    """Reset, and change at once which worker version the new run uses."""
    operation = workflow_api.PostResetOperation
    update = operation.UpdateWorkflowOptions(**options_with(versioning_override(flags)))
    await _reset(
        session, Flags(session.ctx.meta["perdure.cli.reset"]), [operation(update_workflow_options=update)]
    )
