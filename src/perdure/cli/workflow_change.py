"""`perdure workflow cancel`, `terminate`, `delete`, `pause`, `update-options`, `fix-history-json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from perdure.api.batch import v1 as batch
from perdure.api.deployment import v1 as deployment
from perdure.api.enums import v1 as enums
from perdure.api.protobuf import FieldMask
from perdure.api.workflow import v1 as workflow_api
from perdure.api.workflowservice import v1 as service
from perdure.cli import batches, wire
from perdure.cli import flags as f
from perdure.cli.command import Flags, Group
from perdure.cli.errors import CommandError, WrongUsageError
from perdure.cli.session import Session

commands = Group("workflow", "")
_ID = "--workflow-id order-1"

_GLOBAL_WARNING = (
    "in a global namespace all clusters delete it, unless --grpc-meta xdc-redirection=false is given"
)


@commands.add("cancel", f.SINGLE_OR_BATCH, example=f"perdure workflow cancel {_ID}")
async def cancel(session: Session, flags: Flags) -> None:
    """Ask a workflow, or all that a filter finds, to end; it can clean up, or go on."""
    execution, request = await batches.workflow_or_batch(session, flags, allows=("reason",))
    if request is not None:
        request.cancellation_operation.identity = session.identity
        await batches.start(session, flags, request)
        return
    await session.call(
        service.RequestCancelWorkflowExecutionRequest(
            workflow_execution=execution, request_id=wire.new_id(), reason=flags.reason or ""
        )
    )
    session.out.note("The cancellation was requested")


@commands.add(
    "terminate", f.TERMINATED, example=f"perdure workflow terminate {_ID} --reason 'no longer needed'"
)
async def terminate(session: Session, flags: Flags) -> None:
    """End a workflow, or all that a filter finds, at once; its code is not asked."""
    execution, request = await batches.workflow_or_batch(session, flags, allows=("reason",))
    if request is not None:
        request.termination_operation.identity = session.identity
        await batches.start(session, flags, request)
        return
    await session.call(
        service.TerminateWorkflowExecutionRequest(
            workflow_execution=execution, reason=flags.reason or wire.default_reason()
        )
    )
    session.out.note("The workflow was terminated")


async def warn_if_global(session: Session) -> None:
    """Warns before a deletion that other clusters repeat."""
    from perdure.service import RPCError

    try:
        described = await session.call(service.DescribeNamespaceRequest())
    except RPCError:
        # What cannot be known is assumed.
        session.out.warn(_GLOBAL_WARNING)
        return
    if described.is_global_namespace:
        session.out.warn(_GLOBAL_WARNING)


@commands.add("delete", f.SINGLE_OR_BATCH, example=f"perdure workflow delete {_ID} --yes")
async def delete(session: Session, flags: Flags) -> None:
    """Delete a workflow, or all that a filter finds, with its history; an open one is ended first."""
    await warn_if_global(session)
    execution, request = await batches.workflow_or_batch(session, flags, allows=("yes", "reason"))
    if request is not None:
        request.deletion_operation.identity = session.identity
        await batches.start(session, flags, request)
        return
    session.confirm(f"Delete workflow {flags.workflow_id}?", flags.yes)
    await session.call(service.DeleteWorkflowExecutionRequest(workflow_execution=execution))
    session.out.note("The workflow was deleted")


def _pausing(request_type: Any, said: str) -> Any:
    async def body(session: Session, flags: Flags) -> None:
        await session.call(
            request_type(
                workflow_id=flags.workflow_id,
                run_id=flags.run_id or "",
                reason=flags.reason or "",
                request_id=wire.new_id(),
            )
        )
        session.out.note(said)

    return body


for _name, _request, _help, _said in (
    (
        "pause",
        service.PauseWorkflowExecutionRequest,
        "Pause a workflow: nothing new of it is given to workers.",
        "The workflow was paused",
    ),
    (
        "unpause",
        service.UnpauseWorkflowExecutionRequest,
        "Let a paused workflow go on.",
        "The workflow goes on",
    ),
):
    _body = _pausing(_request, _said)
    _body.__doc__ = _help
    commands.add(
        _name,
        f.WORKFLOW_REFERENCE,
        f.text("--reason", help="Why."),
        example=f"perdure workflow {_name} {_ID}",
    )(_body)


OVERRIDE: f.FlagGroup = (
    f.text("--versioning-override-deployment-name", metavar="NAME", help="Deployment to pin to."),
    f.text("--versioning-override-build-id", metavar="ID", help="Build of that deployment."),
)


def versioning_override(flags: Flags) -> workflow_api.VersioningOverride | None:
    """The override that the flags ask for, None to take one back.

    Raises:
        WrongUsageError: behavior and version do not fit.
    """
    behavior = flags.versioning_override_behavior
    name, build = flags.versioning_override_deployment_name, flags.versioning_override_build_id
    if behavior in ("pinned", "one_time"):
        if not name or not build:
            raise WrongUsageError(f"{behavior} needs --versioning-override-deployment-name and -build-id")
        version = deployment.WorkerDeploymentVersion(deployment_name=name, build_id=build)
        override = workflow_api.VersioningOverride
        if behavior == "one_time":
            return override(one_time=override.OneTimeOverride(target_deployment_version=version))
        return override(
            behavior=enums.VERSIONING_BEHAVIOR_PINNED,
            pinned_version=f"{name}.{build}",
            deployment=deployment.Deployment(series_name=name, build_id=build),
            pinned=override.PinnedOverride(
                behavior=override.PINNED_OVERRIDE_BEHAVIOR_PINNED, version=version
            ),
        )
    if name or build:
        raise WrongUsageError(f"{behavior} takes no deployment and no build")
    if behavior == "unspecified":
        return None
    return workflow_api.VersioningOverride(behavior=enums.VERSIONING_BEHAVIOR_AUTO_UPGRADE, auto_upgrade=True)


def options_with(override: workflow_api.VersioningOverride | None) -> dict[str, Any]:
    """The fields of a request that changes nothing but the override."""
    return {
        "workflow_execution_options": workflow_api.WorkflowExecutionOptions(versioning_override=override),
        "update_mask": FieldMask(paths=["versioning_override"]),
    }


@commands.add(
    "update-options", f.SINGLE_OR_BATCH, OVERRIDE,
    f.choice(
        "--versioning-override-behavior", of=("unspecified", "pinned", "one_time", "auto_upgrade"), required=True,
        help="What applies instead of the workflow's own behavior; unspecified takes an override back.",
    ),
    example=f"perdure workflow update-options {_ID} --versioning-override-behavior auto_upgrade",
)  # fmt: skip
async def update_options(session: Session, flags: Flags) -> None:
    """Change which worker version a workflow, or all that a filter finds, runs on."""
    changed = options_with(versioning_override(flags))
    execution, request = await batches.workflow_or_batch(session, flags)
    if request is not None:
        request.update_workflow_options_operation.CopyFrom(
            batch.BatchOperationUpdateWorkflowExecutionOptions(identity=session.identity, **changed)
        )
        await batches.start(session, flags, request)
        return
    await session.call(service.UpdateWorkflowExecutionOptionsRequest(workflow_execution=execution, **changed))
    session.out.note("The options were changed")


@commands.add(
    "fix-history-json",
    f.text("--source", "-s", required=True, metavar="PATH", help="File to read."),
    f.text("--target", "-t", metavar="PATH", help="File to write; stdout without it."),
    example="perdure workflow fix-history-json --source old.json --target new.json",
)
def fix_history_json(session: Session, flags: Flags) -> None:
    """Rewrite a history that an older tool has saved, so that present ones read it."""
    from perdure.client import WorkflowHistory

    try:
        history = WorkflowHistory.from_json("", Path(flags.source).read_text(encoding="utf-8"))
        text = json.dumps(history.to_json_dict(), indent=2)
        if flags.target and flags.target != "-":
            Path(flags.target).write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text + "\n")
    except (OSError, ValueError) as error:
        raise CommandError(f"{flags.source}: {error}") from error
