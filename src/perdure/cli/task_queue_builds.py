"""`perdure task-queue get-build-ids`, `update-build-ids`, `versioning`: older forms of worker versioning.

Worker deployments have taken their place (`perdure worker deployment`); servers that know them still do what these ask.
"""

from __future__ import annotations

from typing import Any, Final

from perdure.api.enums import v1 as enums
from perdure.api.taskqueue import v1 as taskqueue
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import go_json, wire
from perdure.cli.command import Flags, Group
from perdure.cli.errors import WrongUsageError
from perdure.cli.session import Session
from perdure.cli.show import enum_label

commands = Group("task-queue", "")
update_build_ids = commands.group_of(
    "update-build-ids", "Change sets of compatible builds (older versioning)."
)
versioning = Group(
    "versioning",
    "Change which build gets tasks by rules (older versioning).",
    params=(f.text("--task-queue", "-t", metavar="NAME", help="Name of the task queue."),),
)
commands.add_command(versioning)

_BUILD: Final = f.text("--build-id", required=True, metavar="ID", help="Id of the build.")


@commands.add(
    "get-build-ids", f.TASK_QUEUE,
    f.integer("--max-sets", help="Show so many sets; 0 means all.", default=0),
    example="perdure task-queue get-build-ids --task-queue orders",
)  # fmt: skip
async def get_build_ids(session: Session, flags: Flags) -> None:
    """Show the sets of compatible builds of a task queue (older versioning)."""
    answer = await session.call(
        service.GetWorkerBuildIdCompatibilityRequest(task_queue=flags.task_queue, max_sets=flags.max_sets)
    )
    sets = list(answer.major_version_sets)
    rows = [
        {
            "buildIds": list(each.build_ids),
            "defaultForSet": each.build_ids[-1],
            "isDefaultSet": each is sets[-1],
        }
        for each in sets
    ]
    if session.out.is_json:
        session.out.json(go_json.or_null(rows))
    session.out.table(rows, ["buildIds", "defaultForSet", "isDefaultSet"])


@commands.add(
    "get-build-id-reachability",
    f.texts("--build-id", metavar="ID", help="Id of a build."),
    f.choice("--reachability-type", of=("open", "closed", "existing"), help="Which workflows count.",
             default="existing"),
    f.texts("--task-queue", "-t", metavar="NAME", help="Name of a task queue."),
    example="perdure task-queue get-build-id-reachability --build-id 1 --task-queue orders",
)  # fmt: skip
async def get_reachability(session: Session, flags: Flags) -> None:
    """Show which builds workflows can still reach (older versioning)."""
    answer = await session.call(
        service.GetWorkerTaskReachabilityRequest(
            build_ids=flags.build_id,
            task_queues=flags.task_queue,
            reachability=wire.enum_value(enums.TaskReachability, f"{flags.reachability_type}_workflows"),
        )
    )
    rows = [
        {
            "buildId": each.build_id,
            "taskQueue": queue.task_queue,
            "reachability": [
                enum_label(enums.TaskReachability.Name(value), "TaskReachability")
                for value in queue.reachability
            ],
        }
        for each in answer.build_id_reachability
        for queue in each.task_queue_reachability
    ]
    if session.out.is_json:
        session.out.json(go_json.or_null(rows))
    session.out.table(rows, ["buildId", "taskQueue", "reachability"])


_SETS: Final[tuple[tuple[str, str, str, f.FlagGroup], ...]] = (
    (
        "add-new-default",
        "add_new_build_id_in_new_default_set",
        "Add a build in a set of its own, the new default.",
        (),
    ),
    ("promote-set", "promote_set_by_build_id", "Make the set of a build the default.", ()),
    ("promote-id-in-set", "promote_build_id_within_set", "Make a build the default of its set.", ()),
    (
        "add-new-compatible",
        "add_new_compatible_build_id",
        "Add a build to the set of one that it is compatible with.",
        (
            f.text("--existing-compatible-build-id", required=True, metavar="ID", help="Build that it fits."),
            f.switch("--set-as-default", help="Make its set the default."),
        ),
    ),
)
"""Verb, field of the request, help, flags besides task queue and build."""


def _changing_sets(field: str) -> Any:
    async def body(session: Session, flags: Flags) -> None:
        value: Any = flags.build_id
        if flags.get("existing_compatible_build_id"):
            value = service.UpdateWorkerBuildIdCompatibilityRequest.AddNewCompatibleVersion(
                new_build_id=flags.build_id,
                existing_compatible_build_id=flags.existing_compatible_build_id,
                make_set_default=flags.set_as_default,
            )
        request = {"task_queue": flags.task_queue, field: value}
        await session.call(service.UpdateWorkerBuildIdCompatibilityRequest(**request))
        session.out.note("The sets of builds were changed")

    return body


for _verb, _field, _help, _more in _SETS:
    _body = _changing_sets(_field)
    _body.__doc__ = _help
    _example = f"perdure task-queue update-build-ids {_verb} --task-queue orders --build-id 2"
    if _more:
        _example += " --existing-compatible-build-id 1"
    update_build_ids.add(_verb, f.TASK_QUEUE, _BUILD, *_more, example=_example)(_body)


_SOURCE: Final = f.text(
    "--source-build-id", required=True, metavar="ID", help="Build that tasks are taken from."
)
_TARGET: Final = f.text("--target-build-id", required=True, metavar="ID", help="Build that gets them.")
_INDEX: Final = f.integer("--rule-index", "-i", required=True, help="Number of the rule, from 0.")
_AT: Final = f.integer("--rule-index", "-i", help="Number of the rule, from 0.", default=0)
_PERCENTAGE: Final = f.integer("--percentage", help="Share of new workflows.", default=100, show_default=True)
_FORCE: Final = f.switch("--force", help="Do it although it could leave workflows without workers.")
_Request = service.UpdateWorkerVersioningRulesRequest


def _assigned(flags: Flags) -> taskqueue.BuildIdAssignmentRule:
    ramp = None
    if flags.percentage != 100:
        ramp = taskqueue.RampByPercentage(ramp_percentage=flags.percentage)
    return taskqueue.BuildIdAssignmentRule(target_build_id=flags.build_id, percentage_ramp=ramp)


def _redirected(flags: Flags) -> taskqueue.CompatibleBuildIdRedirectRule:
    return taskqueue.CompatibleBuildIdRedirectRule(
        source_build_id=flags.source_build_id, target_build_id=flags.target_build_id
    )


_RULES: Final[tuple[tuple[str, str, f.FlagGroup, str, Any], ...]] = (
    (
        "insert-assignment-rule", "Insert a rule for new workflows.", (_BUILD, _AT, _PERCENTAGE, f.YES),
        "insert_assignment_rule",
        lambda flags: _Request.InsertBuildIdAssignmentRule(rule_index=flags.rule_index, rule=_assigned(flags)),
    ),
    (
        "replace-assignment-rule", "Replace a rule for new workflows.",
        (_BUILD, _INDEX, _PERCENTAGE, f.YES, _FORCE), "replace_assignment_rule",
        lambda flags: _Request.ReplaceBuildIdAssignmentRule(
            rule_index=flags.rule_index, rule=_assigned(flags), force=flags.force
        ),
    ),
    (
        "delete-assignment-rule", "Delete a rule for new workflows.", (_INDEX, f.YES, _FORCE),
        "delete_assignment_rule",
        lambda flags: _Request.DeleteBuildIdAssignmentRule(rule_index=flags.rule_index, force=flags.force),
    ),
    (
        "add-redirect-rule", "Add a rule that leads from a build to another.", (_SOURCE, _TARGET, f.YES),
        "add_compatible_redirect_rule",
        lambda flags: _Request.AddCompatibleBuildIdRedirectRule(rule=_redirected(flags)),
    ),
    (
        "replace-redirect-rule", "Replace the rule that leads away from a build.", (_SOURCE, _TARGET, f.YES),
        "replace_compatible_redirect_rule",
        lambda flags: _Request.ReplaceCompatibleBuildIdRedirectRule(rule=_redirected(flags)),
    ),
    (
        "delete-redirect-rule", "Delete the rule that leads away from a build.", (_SOURCE, f.YES),
        "delete_compatible_redirect_rule",
        lambda flags: _Request.DeleteCompatibleBuildIdRedirectRule(source_build_id=flags.source_build_id),
    ),
    (
        "commit-build-id", "Give all new workflows to a build, and delete what says otherwise.",
        (_BUILD, f.YES, _FORCE), "commit_build_id",
        lambda flags: _Request.CommitBuildId(target_build_id=flags.build_id, force=flags.force),
    ),
)  # fmt: skip
"""Verb, help, flags, field of the request, and what is in it."""

_TQ: Final = f.text("--task-queue", "-t", metavar="NAME", help="Name of the task queue.")
_RULE_FLAGS: Final = {
    "--build-id": "--build-id 2", "--rule-index": "--rule-index 0", "--source-build-id": "--source-build-id 1",
    "--target-build-id": "--target-build-id 2",
}  # fmt: skip


def _queue_name(session: Session, flags: Flags) -> str:
    """The task queue, which may stand before or after the verb."""
    parent = session.ctx.parent
    name = flags.task_queue or (parent.params.get("task_queue") if parent is not None else None)
    if not name:
        raise WrongUsageError("--task-queue is needed")
    return str(name)


def _show_rules(session: Session, answer: Any) -> None:
    assigned = [
        {
            "targetBuildID": each.rule.target_build_id,
            "rampPercentage": each.rule.percentage_ramp.ramp_percentage
            if each.rule.HasField("percentage_ramp")
            else 100,
            "createTime": go_json.time(each, "create_time"),
        }
        for each in answer.assignment_rules
    ]
    redirected = [
        {
            "sourceBuildID": each.rule.source_build_id,
            "targetBuildID": each.rule.target_build_id,
            "createTime": go_json.time(each, "create_time"),
        }
        for each in answer.compatible_redirect_rules
    ]
    if session.out.is_json:
        session.out.json(
            {"assignmentRules": go_json.or_null(assigned), "redirectRules": go_json.or_null(redirected)}
        )
        return
    session.out.heading("Assignment rules:")
    session.out.table(assigned, ["targetBuildID", "rampPercentage", "createTime"])
    session.out.heading("Redirect rules:")
    session.out.table(redirected, ["sourceBuildID", "targetBuildID", "createTime"])


def _changing_rules(field: str, make: Any) -> Any:
    async def body(session: Session, flags: Flags) -> None:
        name = _queue_name(session, flags)
        before = await session.call(service.GetWorkerVersioningRulesRequest(task_queue=name))
        if session.out.is_text and not flags.yes:
            _show_rules(session, before)
        session.confirm("Change these rules?", flags.yes)
        request: dict[str, Any] = {
            "task_queue": name,
            "conflict_token": before.conflict_token,
            field: make(flags),
        }
        _show_rules(session, await session.call(_Request(**request)))
        session.out.note("The rules were changed")

    return body


for _verb, _help, _params, _field, _make in _RULES:
    _body = _changing_rules(_field, _make)
    _body.__doc__ = f"{_help[:-1]} (older versioning)."
    _needed = " ".join(
        _RULE_FLAGS[param.opts[0]] for param in _params if param.required and param.opts[0] in _RULE_FLAGS
    )
    versioning.add(
        _verb,
        _TQ,
        _params,
        example=f"perdure task-queue versioning {_verb} --task-queue orders {_needed} --yes",
    )(_body)


@versioning.add("get-rules", _TQ, example="perdure task-queue versioning get-rules --task-queue orders")
async def get_rules(session: Session, flags: Flags) -> None:
    """Show the rules by which builds get tasks (older versioning)."""
    name = _queue_name(session, flags)
    _show_rules(session, await session.call(service.GetWorkerVersioningRulesRequest(task_queue=name)))
