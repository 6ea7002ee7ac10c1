"""Commands for task queues and workers."""

from __future__ import annotations

from tests.compat.cli_scenarios.model import Scenario, Step, there

_CONFIG = "task-queue config"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "task_queue_describe",
        "A task queue names its pollers and what waits in it.",
        (
            Step("polled", "task-queue describe -t {queue}", until=there("pollers.1"), in_order=False),
            Step(
                "polled of activities",
                "task-queue describe -t {queue} --task-queue-type activity",
                until=there("pollers.0"),
            ),
            Step(
                "polled in the old form",
                "task-queue describe -t {queue} --legacy-mode",
                until=there("pollers.0"),
            ),
            Step("empty", "task-queue describe -t {nobody}"),
            Step("start", "workflow start --type Everyday --task-queue {nobody} -w {wf}"),
            Step(
                "waiting",
                "task-queue describe -t {nobody}",
                until=lambda output: 1 in {each["approximateBacklogCount"] for each in output["stats"]},
                drop=("stats.0.backlogIncreaseRate", "stats.1.backlogIncreaseRate"),
            ),
            Step("reachable", "task-queue describe -t {nobody} --report-reachability --disable-stats"),
            Step("partitions", "task-queue list-partition -t {queue}"),
        ),
    ),
    Scenario(
        "task_queue_config",
        "Limits and weights of a task queue are set, read and taken back.",
        (
            Step("none", f"{_CONFIG} get -t {{nobody}} --task-queue-type activity"),
            Step(
                "set",
                f"{_CONFIG} set -t {{nobody}} --task-queue-type activity --queue-rps-limit 10 "
                "--queue-rps-limit-reason busy",
            ),
            Step(
                "weights",
                f"{_CONFIG} set -t {{nobody}} --task-queue-type activity "
                "--fairness-key-rps-limit-default 2 --fairness-key-rps-limit-reason fair --fairness-key-weight ada=3",
            ),
            Step("get", f"{_CONFIG} get -t {{nobody}} --task-queue-type activity"),
            Step(
                "back",
                f"{_CONFIG} set -t {{nobody}} --task-queue-type activity --queue-rps-limit default "
                "--fairness-key-weight-clear-all",
            ),
            Step("get again", f"{_CONFIG} get -t {{nobody}} --task-queue-type activity"),
            Step(
                "of workflows", f"{_CONFIG} set -t {{nobody}} --task-queue-type workflow --queue-rps-limit 1"
            ),
        ),
    ),
    Scenario(
        "workers",
        "Workers that send heartbeats are listed, counted and described.",
        (
            Step(
                "listed",
                "worker list --query \"TaskQueue = '{queue}'\"",
                until=there("0"),
                keep={"worker": "0.workerInstanceKey"},
            ),
            Step("counted", "worker count --query \"TaskQueue = '{queue}'\""),
            Step("described", "worker describe --worker-instance-key {worker}"),
            Step("unknown", "worker describe --worker-instance-key nothing"),
            Step("bad query", "worker list --query 'Odd =='"),
        ),
    ),
)
