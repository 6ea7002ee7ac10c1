"""Commands for activities: those of a workflow, and those that stand alone."""

from __future__ import annotations

from tests.compat.cli_scenarios.model import Scenario, Step, at, settled, there

_OF_WORKFLOW = "-w {wf} --activity-id a"
_START_BUSY = "workflow start --type Busy --task-queue {queue} -w {wf} --input '\"{nobody}\"'"
_DESCRIBE = "workflow describe -w {wf}"
_START = "activity start --type Echo --task-queue {nobody} --activity-id {id} --start-to-close-timeout 60s"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "activity_of_workflow",
        "An activity of a workflow is paused, goes on, is reset and given other options.",
        (
            Step("start", _START_BUSY),
            Step("pending", _DESCRIBE, until=settled("pendingChildren.0.runId"), drop=("pendingChildren",)),
            Step("pause", f"activity pause {_OF_WORKFLOW} --reason 'a break'"),
            Step(
                "paused", _DESCRIBE, until=at("pendingActivities.0.paused", True), drop=("pendingChildren",)
            ),
            Step("unpause", f"activity unpause {_OF_WORKFLOW}"),
            Step("reset", f"activity reset {_OF_WORKFLOW}"),
            Step(
                "update options",
                f"activity update-options {_OF_WORKFLOW} --start-to-close-timeout 30s --retry-maximum-attempts 7",
            ),
            Step("changed", _DESCRIBE, drop=("pendingChildren",)),
            Step("restore", f"activity update-options {_OF_WORKFLOW} --restore-original-options"),
            Step("unknown activity", "activity pause -w {wf} --activity-id nothing"),
            Step("unknown workflow", "activity pause -w {nothing} --activity-id a"),
            Step("unknown reset", "activity reset -w {wf} --activity-id nothing"),
            Step("unknown unpause", "activity unpause -w {wf} --activity-id nothing"),
            Step("unknown options", "activity update-options -w {wf} --activity-id nothing --task-queue x"),
            Step("not started", f"activity complete {_OF_WORKFLOW} --result 1"),
        ),
    ),
    Scenario(
        "activity_completed",
        "An activity that is under way elsewhere is completed or failed by its id.",
        (
            Step("start", "workflow start --type Attended --task-queue {queue} -w {wf}"),
            Step(
                "pending",
                _DESCRIBE,
                until=at("pendingActivities.0.state", "PENDING_ACTIVITY_STATE_STARTED"),
                drop=("pendingActivities.0.lastWorkerDeploymentVersion",),
            ),
            Step("complete", f"activity complete {_OF_WORKFLOW} --result '\"signed\"'"),
            Step("result", "workflow result -w {wf}"),
            Step("complete again", f"activity complete {_OF_WORKFLOW} --result '\"signed\"'"),
            Step("start other", "workflow start --type Attended --task-queue {queue} -w {other}"),
            Step(
                "other pending",
                "workflow describe -w {other}",
                until=at("pendingActivities.0.state", "PENDING_ACTIVITY_STATE_STARTED"),
            ),
            Step("fail", "activity fail -w {other} --activity-id a --reason torn --detail '{\"page\": 3}'"),
            Step("failed", "workflow result -w {other}"),
        ),
    ),
    Scenario(
        "activity_standalone_executed",
        "A standalone activity is executed by a worker, and its result found again.",
        (
            Step(
                "executed",
                "activity execute --type echo --task-queue {queue} --activity-id {id} --start-to-close-timeout 20s "
                "--input '\"hello\"'",
            ),
            Step("result", "activity result --activity-id {id}"),
            Step("described", "activity describe --activity-id {id}"),
            Step(
                "failed",
                "activity execute --type broken --task-queue {queue} --activity-id {failing} "
                "--start-to-close-timeout 20s --retry-maximum-attempts 1",
            ),
            Step("failed result", "activity result --activity-id {failing}"),
            Step("failed described", "activity describe --activity-id {failing}"),
            Step(
                "refused",
                "activity start --type echo --task-queue {queue} --activity-id {id} "
                "--start-to-close-timeout 20s --id-reuse-policy RejectDuplicate",
            ),
        ),
    ),
    Scenario(
        "activity_standalone",
        "A standalone activity is started, described, listed, counted, paused, changed, cancelled, ended, deleted.",
        (
            Step(
                "start",
                f"{_START} --static-summary short --priority-key 3 --search-attribute 'Shade=\"blue\"' "
                "--retry-maximum-attempts 4 --heartbeat-timeout 9s",
                keep={"run": "runId"},
            ),
            Step("start again", _START),
            Step("described", "activity describe --activity-id {id}"),
            Step("listed", "activity list --query \"ActivityId = '{id}'\"", until=there("0")),
            Step("counted", "activity count --query \"ActivityId = '{id}'\""),
            Step("grouped", "activity count --query \"ActivityId = '{id}' GROUP BY ExecutionStatus\""),
            Step("bad query", "activity list --query 'Odd =='"),
            Step("pause", "activity pause --activity-id {id} --reason 'a break'"),
            Step("paused", "activity describe --activity-id {id}"),
            Step("unpause", "activity unpause --activity-id {id}"),
            Step("options", "activity update-options --activity-id {id} --start-to-close-timeout 30s"),
            Step("changed", "activity describe --activity-id {id}"),
            Step("reset", "activity reset --activity-id {id}"),
            Step("cancel", "activity cancel --activity-id {id} --reason changed"),
            Step("cancelled", "activity describe --activity-id {id}"),
            Step("result", "activity result --activity-id {id}"),
            Step(
                "start second",
                "activity start --type Echo --task-queue {nobody} --activity-id {second} "
                "--start-to-close-timeout 60s",
            ),
            Step("terminate", "activity terminate --activity-id {second} --reason enough"),
            Step("terminated", "activity result --activity-id {second}"),
            Step("delete", "activity delete --activity-id {second}"),
            Step("gone", "activity describe --activity-id {second}"),
        ),
    ),
    Scenario(
        "activity_standalone_mistakes",
        "Every verb on a standalone activity that does not exist says so, and bad options are refused.",
        (
            *(
                Step(verb, f"activity {verb} --activity-id {{nothing}} {more}")
                for verb, more in (
                    ("describe", ""),
                    ("result", ""),
                    ("cancel", ""),
                    ("terminate", ""),
                    ("delete", ""),
                    ("pause", ""),
                    ("unpause", ""),
                    ("reset", ""),
                    ("complete", "--result 1"),
                    ("fail", "--reason x"),
                    ("update-options", "--start-to-close-timeout 5s"),
                )
            ),
            Step("no timeout", "activity start --type Echo --task-queue {nobody} --activity-id {id}"),
        ),
    ),
    Scenario(
        "activity_standalone_completed",
        "A standalone activity that is under way elsewhere is completed or failed by its id.",
        (
            Step(
                "start",
                "activity start --type attended --task-queue {queue} --activity-id {id} "
                "--start-to-close-timeout 60s",
            ),
            Step(
                "under way",
                "activity describe --activity-id {id}",
                until=at("info.runState", "PENDING_ACTIVITY_STATE_STARTED"),
            ),
            Step("complete", "activity complete --activity-id {id} --result '\"signed\"'"),
            Step("result", "activity result --activity-id {id}"),
            Step(
                "start other",
                "activity start --type attended --task-queue {queue} --activity-id {other} "
                "--start-to-close-timeout 60s",
            ),
            Step(
                "other under way",
                "activity describe --activity-id {other}",
                until=at("info.runState", "PENDING_ACTIVITY_STATE_STARTED"),
            ),
            Step("fail", "activity fail --activity-id {other} --reason torn"),
            Step("failed", "activity result --activity-id {other}"),
        ),
    ),
)
