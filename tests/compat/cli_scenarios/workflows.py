"""Commands for workflows, and the batches they start."""

from __future__ import annotations

from tests.compat.cli_scenarios.model import Scenario, Step, at, ended, find, length, settled

_START = "workflow start --type Everyday --task-queue {queue} -w {wf}"
_START_NOBODY = "workflow start --type Everyday --task-queue {nobody} -w {wf}"
_DESCRIBE = "workflow describe -w {wf}"
_MINE = """--query "TaskQueue = '{nobody}'\""""


def _three(queue: str = "{nobody}") -> tuple[Step, ...]:
    """Three workflows that wait, seen by lists."""
    starts = tuple(
        Step(f"start {name}", f"workflow start --type Everyday --task-queue {queue} -w {{{name}}}")
        for name in ("one", "two", "three")
    )
    return (*starts, Step("all listed", f"workflow count {_MINE}", until=at("count", "3")))


def _batch(verb: str, *, changed: str) -> tuple[Step, ...]:
    return (
        Step("batch", f"workflow {verb} {_MINE} --reason tidying --yes", keep={"job": "batchJobId"}),
        Step(
            "batch described",
            "batch describe --job-id {job}",
            until=at("state", "BATCH_OPERATION_STATE_COMPLETED"),
        ),
        Step(
            "batches listed",
            "batch list",
            only="{job}",
            until=at("0.state", "BATCH_OPERATION_STATE_COMPLETED"),
        ),
        Step(
            "seen",
            f"""workflow count --query "TaskQueue = '{{nobody}}' AND {changed}\"""",
            until=at("count", "3"),
        ),
        Step("history", "workflow show -w {two}"),
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "workflow_execute",
        "A workflow is executed, and its result and history are shown again.",
        (
            Step("executed", "workflow execute --type Echo --task-queue {queue} -w {wf} --input '\"hello\"'"),
            Step("result", "workflow result -w {wf}"),
            Step("shown", "workflow show -w {wf}"),
            Step("described", _DESCRIBE),
            Step(
                "listed",
                "workflow list --query \"WorkflowId = '{wf}'\"",
                until=at("0.status", "WORKFLOW_EXECUTION_STATUS_COMPLETED"),
            ),
            Step(
                "failed",
                "workflow execute --type Broken --task-queue {queue} -w {failing} --input '\"Odd\"' "
                "--static-summary short --static-details 'in *detail*'",
            ),
            Step("failed result", "workflow result -w {failing}"),
            Step("failed described", "workflow describe -w {failing}"),
        ),
    ),
    Scenario(
        "workflow_start_options",
        "What is given at the start is described; a taken id is refused.",
        (
            Step(
                "start",
                f"{_START_NOBODY} --run-timeout 90s --execution-timeout 10m --task-timeout 5s --memo 'note=\"hello\"' "
                "--search-attribute 'Shade=\"red\"' --input 1 --input '{\"two\": 2}' --priority-key 2 "
                "--fairness-key ada --fairness-weight 2 --static-summary short",
                keep={"run": "runId"},
            ),
            Step("described", _DESCRIBE),
            Step("shown", "workflow show -w {wf}"),
            Step("again", _START_NOBODY),
            Step("again refused", f"{_START_NOBODY} --fail-existing"),
            Step("policy", f"{_START_NOBODY} --id-conflict-policy TerminateExisting"),
            Step("first run", "workflow describe -w {wf} -r {run}"),
            Step(
                "delayed", "workflow start --type Everyday --task-queue {nobody} -w {later} --start-delay 1h"
            ),
            Step("delayed shown", "workflow show -w {later}"),
            Step("delayed described", "workflow describe -w {later}"),
            Step("cron", "workflow start --type Everyday --task-queue {nobody} -w {cron} --cron '0 0 1 1 *'"),
            Step("cron described", "workflow describe -w {cron}"),
            Step(
                "bad cron",
                "workflow start --type Everyday --task-queue {nobody} -w {bad} --cron 'now and then'",
            ),
            Step("bad attribute", f"{_START_NOBODY} --search-attribute 'Nothing=\"x\"'"),
            Step("bad type of attribute", f"{_START_NOBODY} --search-attribute 'Count=\"x\"'"),
            Step("bad namespace", f"{_START_NOBODY} --namespace nowhere"),
        ),
    ),
    Scenario(
        "workflow_messages",
        "Signals, queries and updates reach a workflow; the mistakes one can make are told.",
        (
            Step("start", _START),
            Step("signal", "workflow signal -w {wf} --name add --input '\"one\"'"),
            Step("query", "workflow query -w {wf} --type items", until=at("queryResult.0", ["one"])),
            Step("unknown query", "workflow query -w {wf} --type nowhere"),
            Step(
                "update", "workflow update execute -w {wf} --name put --input '\"two\"' --update-id {first}"
            ),
            Step(
                "update repeated",
                "workflow update execute -w {wf} --name put --input '\"x\"' --update-id {first}",
            ),
            Step(
                "update started",
                "workflow update start -w {wf} --name put --input '\"three\"' --update-id {second} "
                "--wait-for-stage accepted",
            ),
            Step("update result", "workflow update result -w {wf} --update-id {second}"),
            Step("update described", "workflow update describe -w {wf} --update-id {second}"),
            Step(
                "update refused",
                "workflow update execute -w {wf} --name put --input '\"\"' --update-id {third}",
            ),
            Step(
                "update failed",
                "workflow update execute -w {wf} --name put --input '\"fail\"' --update-id {fourth}",
            ),
            Step("unknown handler", "workflow update execute -w {wf} --name nowhere --update-id {fifth}"),
            Step("unknown update", "workflow update describe -w {wf} --update-id {nothing}"),
            Step("metadata", "workflow metadata -w {wf}"),
            Step("stack", "workflow stack -w {wf}", drop=("queryResult",)),
            Step("stop", "workflow signal -w {wf} --name stop"),
            Step("result", "workflow result -w {wf}"),
            Step("query closed", "workflow query -w {wf} --type items"),
            Step("query rejected", "workflow query -w {wf} --type items --reject-condition not_open"),
            Step("signal closed", "workflow signal -w {wf} --name add"),
            Step("update closed", "workflow update execute -w {wf} --name put --input '\"x\"'"),
        ),
    ),
    Scenario(
        "workflow_with_start",
        "A workflow is started together with a signal or an update.",
        (
            Step(
                "signal",
                "workflow signal-with-start --type Everyday --task-queue {queue} -w {wf} --signal-name add "
                "--signal-input '\"first\"'",
            ),
            Step("query", "workflow query -w {wf} --type items", until=at("queryResult.0", ["first"])),
            Step(
                "update",
                "workflow execute-update-with-start --type Everyday --task-queue {queue} -w {other} "
                "--update-name put --update-input '\"second\"' --update-id {update} --id-conflict-policy UseExisting",
            ),
            Step(
                "update started",
                "workflow start-update-with-start --type Everyday --task-queue {queue} -w {other} --update-name put "
                "--update-input '\"third\"' --update-id {later} --id-conflict-policy UseExisting "
                "--update-wait-for-stage accepted",
            ),
            Step(
                "both",
                "workflow query -w {other} --type items",
                until=at("queryResult.0", ["second", "third"]),
            ),
            Step(
                "no policy",
                "workflow execute-update-with-start --type Everyday --task-queue {queue} -w {other} "
                "--update-name put --update-input '\"x\"'",
            ),
        ),
    ),
    Scenario(
        "workflow_cancel_terminate",
        "A cancellation is recorded, a termination closes; each is described and shown.",
        (
            Step("start", _START_NOBODY),
            Step("cancel", "workflow cancel -w {wf}"),
            Step("cancel again", "workflow cancel -w {wf}"),
            Step("described", _DESCRIBE),
            Step("terminate", "workflow terminate -w {wf} --reason enough"),
            Step("terminate again", "workflow terminate -w {wf} --reason more"),
            Step("cancel closed", "workflow cancel -w {wf}"),
            Step("result", "workflow result -w {wf}"),
            Step("shown", "workflow show -w {wf}"),
            Step("with a worker", "workflow start --type Everyday --task-queue {queue} -w {live}"),
            Step("cancel live", "workflow cancel -w {live} --reason changed"),
            Step("cancelled", "workflow result -w {live}"),
            Step("cancelled described", "workflow describe -w {live}"),
        ),
    ),
    Scenario(
        "workflow_nobody_there",
        "Every verb on a workflow that does not exist says so.",
        tuple(
            Step(verb, f"workflow {verb} -w {{nothing}} {more}")
            for verb, more in (
                ("describe", ""),
                ("show", ""),
                ("result", ""),
                ("signal", "--name x"),
                ("query", "--type x"),
                ("cancel", ""),
                ("terminate", ""),
                ("delete", ""),
                ("reset", "--event-id 4 --reason x"),
                ("pause", ""),
                ("unpause", ""),
                ("stack", ""),
                ("metadata", ""),
                ("trace", ""),
                ("update execute", "--name x"),
                ("update-options", "--versioning-override-behavior auto_upgrade"),
            )
        ),
    ),
    Scenario(
        "workflow_pause",
        "A workflow is paused, goes on, and says so.",
        (
            Step("start", _START_NOBODY),
            Step("pause", "workflow pause -w {wf} --reason 'a break'"),
            Step("pause again", "workflow pause -w {wf} --reason 'a break'"),
            Step("described", _DESCRIBE),
            Step("unpause", "workflow unpause -w {wf} --reason 'enough rest'"),
            Step("unpause again", "workflow unpause -w {wf}"),
            Step("described again", _DESCRIBE),
            Step("shown", "workflow show -w {wf}"),
        ),
    ),
    Scenario(
        "workflow_reset",
        "A workflow is reset to an event or by kind; the old run ends.",
        (
            Step(
                "executed",
                "workflow execute --type Echo --task-queue {queue} -w {wf} --input '\"again\"'",
                keep={"run": "runId"},
            ),
            Step("reset", "workflow reset -w {wf} --event-id 4 --reason 'once more'", keep={"next": "runId"}),
            Step("result", "workflow result -w {wf} -r {next}"),
            Step("shown", "workflow show -w {wf} -r {next}"),
            Step("old", "workflow describe -w {wf} -r {run}"),
            Step("first task", "workflow reset -w {wf} -t FirstWorkflowTask --reason 'from the start'"),
            Step(
                "last task",
                "workflow reset -w {wf} -t LastWorkflowTask --reason 'the end' --reapply-exclude All",
            ),
            Step("no such event", "workflow reset -w {wf} --event-id 400 --reason 'too far'"),
            Step("in the middle", "workflow reset -w {wf} --event-id 2 --reason 'odd'"),
            Step("by build", "workflow reset -w {wf} -t BuildId --build-id nothing --reason 'odd'"),
            Step("no new run", "workflow reset -w {wf} -t LastContinuedAsNew --reason 'odd'"),
        ),
    ),
    Scenario(
        "workflow_trace",
        "A parent and its child are traced.",
        (
            Step(
                "executed",
                "workflow execute --type Parent --task-queue {queue} -w {wf} --input '\"{child}\"'",
            ),
            Step("traced", "workflow trace -w {wf} --no-fold"),
            Step("child", "workflow describe -w {child}"),
            Step("shown", "workflow show -w {wf}"),
        ),
    ),
    Scenario(
        "workflow_list",
        "Lists and counts by query, pages, groups, mistakes; one is deleted.",
        (
            *_three(),
            Step("terminate", "workflow terminate -w {one} --reason enough"),
            Step(
                "grouped",
                """workflow count --query "TaskQueue = '{nobody}' GROUP BY ExecutionStatus\"""",
                until=lambda output: len(find(output, "groups") or []) == 2,
            ),
            Step("listed", f"workflow list {_MINE}", in_order=False),
            Step("limited", f"workflow list {_MINE} --limit 1", drop=("0",)),
            Step("paged", f"workflow list {_MINE} --page-size 1", in_order=False),
            Step("none", "workflow list --query \"WorkflowId = '{nothing}'\""),
            Step("counted none", "workflow count --query \"WorkflowId = '{nothing}'\""),
            Step("syntax", "workflow list --query 'WorkflowType =='"),
            Step("unknown field", "workflow list --query \"Nothing = 'x'\""),
            Step("unknown status", "workflow count --query \"ExecutionStatus = 'Odd'\""),
            Step("unknown namespace", "workflow list --namespace nowhere"),
            Step("delete", "workflow delete -w {one}"),
        ),
    ),
    Scenario(
        "batch_signal",
        "A query makes a batch of a signal.",
        (*_three(), *_batch("signal --name add --input '\"x\"'", changed="ExecutionStatus = 'Running'")),
    ),
    Scenario(
        "batch_cancel",
        "A query makes a batch of a cancellation.",
        (*_three(), *_batch("cancel", changed="ExecutionStatus = 'Running'")),
    ),
    Scenario(
        "batch_terminate",
        "A query makes a batch of a termination; a job that ended cannot be stopped.",
        (
            *_three(),
            *_batch("terminate", changed="ExecutionStatus = 'Terminated'"),
            Step("ended job", "batch terminate --job-id {job} --reason 'too late'"),
            Step("unknown job", "batch describe --job-id nothing"),
            Step("unknown job stopped", "batch terminate --job-id nothing --reason x"),
            Step("bad query", "workflow terminate --query 'WorkflowType ==' --reason x --yes"),
        ),
    ),
    Scenario(
        "batch_delete_reset_options",
        "A query makes batches of resets, version overrides and deletions.",
        (
            *_three(),
            Step("terminate", f"workflow terminate {_MINE} --reason x --yes", keep={"first": "batchJobId"}),
            Step(
                "ended",
                "batch describe --job-id {first}",
                until=at("state", "BATCH_OPERATION_STATE_COMPLETED"),
            ),
            Step(
                "reset",
                f"workflow reset {_MINE} -t FirstWorkflowTask --reason x --yes",
                keep={"second": "batchJobId"},
            ),
            Step(
                "reset ended",
                "batch describe --job-id {second}",
                until=at("state", "BATCH_OPERATION_STATE_COMPLETED"),
            ),
            Step("delete", f"workflow delete {_MINE} --yes --reason x", keep={"third": "batchJobId"}),
            Step(
                "delete ended",
                "batch describe --job-id {third}",
                until=at("state", "BATCH_OPERATION_STATE_COMPLETED"),
            ),
        ),
    ),
    Scenario(
        "workflow_update_options",
        "A workflow's versioning is overridden, and the override taken back.",
        (
            Step("start", _START_NOBODY),
            Step("upgrade", "workflow update-options -w {wf} --versioning-override-behavior auto_upgrade"),
            Step("described", _DESCRIBE),
            Step("none", "workflow update-options -w {wf} --versioning-override-behavior unspecified"),
            Step("described again", _DESCRIBE),
            Step(
                "pinned to nothing",
                "workflow update-options -w {wf} --versioning-override-behavior pinned "
                "--versioning-override-deployment-name {nothing} --versioning-override-build-id 1",
            ),
            Step("shown", "workflow show -w {wf}"),
        ),
    ),
    Scenario(
        "workflow_pending",
        "A workflow with an activity, a timer and a child describes what is pending.",
        (
            Step("start", "workflow start --type Busy --task-queue {queue} -w {wf} --input '\"{nobody}\"'"),
            Step(
                "described",
                _DESCRIBE,
                until=settled("pendingChildren.0.runId"),
                drop=("pendingChildren.0.runId",),
            ),
            Step("terminate", "workflow terminate -w {wf} --reason enough"),
            Step("closed", _DESCRIBE, until=ended("TERMINATED")),
            Step("children", "workflow list --query \"ParentWorkflowId = '{wf}'\"", until=length(1)),
        ),
    ),
)
