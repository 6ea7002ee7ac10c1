"""Task queues as operators see and configure them: descriptions, limits, weights of fairness keys."""

from __future__ import annotations

from typing import Any

from perdure.api.deployment.v1 import WorkerDeploymentOptions
from tests.differential.context import IDLE_POLL_S, Context
from tests.differential.registry import scenario
from tests.support.builders import complete_workflow, queue, schedule_activity, sticky_queue
from tests.support.proto import common, enums, taskqueue, workflowservice

WORKFLOW, ACTIVITY, NEXUS = (
    enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    enums.TaskQueueType.TASK_QUEUE_TYPE_NEXUS,
)
ENHANCED = enums.DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED
UpdateConfig = workflowservice.UpdateTaskQueueConfigRequest
RATES = ("tasks_add_rate", "tasks_dispatch_rate", "approximate_backlog_age", "rate_limiting_active")
"""Of the last seconds: compared by tests of each server, not between them."""


def _describe(name: str, **fields: Any) -> workflowservice.DescribeTaskQueueRequest:
    values: dict[str, Any] = {"namespace": "default", "task_queue": queue(name), "task_queue_type": ACTIVITY}
    return workflowservice.DescribeTaskQueueRequest(**(values | fields))


def _limit(per_second: float | None, reason: str = "") -> UpdateConfig.RateLimitUpdate:
    update = UpdateConfig.RateLimitUpdate(reason=reason)
    if per_second is not None:
        update.rate_limit.requests_per_second = per_second
    return update


def _update(name: str, **fields: Any) -> UpdateConfig:
    values: dict[str, Any] = {"namespace": "default", "task_queue": name, "task_queue_type": ACTIVITY}
    return UpdateConfig(**(values | fields))


async def _waiting(ctx: Context, name: str, levels: tuple[int, ...]) -> None:
    """A run whose activities wait on a queue that nobody polls, one of each given priority."""
    run = await ctx.start()
    commands = []
    for number, level in enumerate(levels):
        command = schedule_activity(str(number), name)
        command.schedule_activity_task_command_attributes.priority.priority_key = level
        commands.append(command)
    await run.complete(await run.poll(), *commands)


@scenario
async def queue_stats(ctx: Context) -> None:
    """The backlog of a queue in whole and by priority, and the fields of earlier releases."""
    name = ctx.id("activities")
    await _waiting(ctx, name, (0, 1, 1, 5, 3))
    described = _describe(name, report_stats=True, include_task_queue_status=True)
    answer = await ctx.until(
        "all counted",
        lambda: ctx.client.call(described, workflowservice.DescribeTaskQueueResponse),
        lambda answer: answer.stats.approximate_backlog_count == 5,
    )
    for stats in (answer.stats, *answer.stats_by_priority_key.values()):
        for rate in RATES:
            stats.ClearField(rate)  # type: ignore[arg-type]  # one of the fields above
    ctx.record("described", answer, drop=("effective_rate_limit", "task_queue_status.rate_per_second"))
    silent = await ctx.client.call(_describe(name), workflowservice.DescribeTaskQueueResponse)
    ctx.record("without asking", sorted(field.name for field, _ in silent.ListFields()))


@scenario
async def queue_enhanced(ctx: Context) -> None:
    """The mode of earlier releases: by build id and type, with reachability."""
    requests: dict[str, dict[str, Any]] = {
        "nothing asked": {},
        "everything": {"report_stats": True, "report_pollers": True, "report_task_reachability": True},
        "one type": {"task_queue_types": [NEXUS], "report_stats": True},
        "build ids": {
            "versions": taskqueue.TaskQueueVersionSelection(build_ids=["one", "two"], unversioned=True),
            "report_task_reachability": True,
        },
        "all active": {"versions": taskqueue.TaskQueueVersionSelection(all_active=True)},
        "too many": {
            "versions": taskqueue.TaskQueueVersionSelection(build_ids=[str(number) for number in range(9)]),
            "report_task_reachability": True,
        },
        "sticky": {"task_queue": sticky_queue(ctx.id("sticky"), ctx.id("queue"))},
    }
    for number, (label, fields) in enumerate(requests.items()):
        # The official server remembers its answer for a queue, whatever the next request asks for.
        await ctx.attempt(label, _describe(ctx.id(f"queue-{number}"), api_mode=ENHANCED, **fields))


@scenario
async def queue_pollers(ctx: Context) -> None:
    """What a queue tells of its pollers: rates that they ask for, versions that they are of."""
    name = ctx.id("queue")
    request = workflowservice.PollActivityTaskQueueRequest(
        namespace="default", task_queue=queue(name), identity="limited"
    )
    request.task_queue_metadata.max_tasks_per_second.value = 7
    await ctx.client.invoke(request, timeout_s=IDLE_POLL_S)
    answer = await ctx.client.call(_describe(name), workflowservice.DescribeTaskQueueResponse)
    ctx.record("limited", answer)
    versioned = workflowservice.PollActivityTaskQueueRequest(
        namespace="default",
        task_queue=queue(name),
        identity="with a build id",
        worker_version_capabilities=common.WorkerVersionCapabilities(build_id="build"),
        deployment_options=WorkerDeploymentOptions(
            deployment_name=ctx.id("deployment"),
            build_id="build",
            worker_versioning_mode=enums.WorkerVersioningMode.WORKER_VERSIONING_MODE_UNVERSIONED,
        ),
    )
    await ctx.client.invoke(versioned, timeout_s=IDLE_POLL_S)
    answer = await ctx.client.call(_describe(name), workflowservice.DescribeTaskQueueResponse)
    ctx.record("pollers", sorted(answer.pollers, key=lambda poller: poller.identity))


@scenario
async def queue_configured(ctx: Context) -> None:
    """Limits and weights are set, replaced and taken away, each with who and why; and are reported."""
    name = ctx.id("queue")
    updates: dict[str, dict[str, Any]] = {
        "nothing": {},
        "both limits": {
            "update_queue_rate_limit": _limit(20, "why"),
            "update_fairness_key_rate_limit_default": _limit(5, "keys"),
            "identity": "me",
        },
        "another limit": {"update_queue_rate_limit": _limit(0.5), "identity": "you"},
        "no limit": {"update_queue_rate_limit": _limit(None, "gone")},
        "weights": {"set_fairness_weight_overrides": {"a": 2.0, "b": 0.5}},
        "other weights": {
            "set_fairness_weight_overrides": {"b": 4.0, "c": 1.0},
            "unset_fairness_weight_overrides": ["a", "never set"],
        },
    }
    for label, fields in updates.items():
        await ctx.attempt(label, _update(name, **fields))
    described = await ctx.client.call(
        _describe(name, report_config=True), workflowservice.DescribeTaskQueueResponse
    )
    ctx.record("config", described.config)
    await ctx.attempt("of workflows", _describe(name, task_queue_type=WORKFLOW, report_config=True))
    limited = await ctx.client.call(
        _update(name, update_queue_rate_limit=_limit(3, "limited")),
        workflowservice.UpdateTaskQueueConfigResponse,
    )
    ctx.record("limited", limited.config.queue_rate_limit)
    answer = await ctx.until(
        "in force",
        lambda: ctx.client.call(_describe(name), workflowservice.DescribeTaskQueueResponse),
        lambda answer: answer.effective_rate_limit.requests_per_second == 3,
    )
    ctx.record("effective", answer.effective_rate_limit)


@scenario
async def queue_config_refused(ctx: Context) -> None:
    """What a queue cannot be configured to."""
    name = ctx.id("queue")
    updates: dict[str, dict[str, Any]] = {
        "nowhere": {"namespace": "no-such-namespace"},
        "no queue": {"task_queue": ""},
        "no type": {"task_queue_type": 0, "identity": "me"},
        "workflows limited": {"task_queue_type": WORKFLOW, "update_queue_rate_limit": _limit(1)},
        "workflow keys limited": {
            "task_queue_type": WORKFLOW,
            "update_fairness_key_rate_limit_default": _limit(1),
        },
        "negative": {"update_queue_rate_limit": _limit(-1)},
        "negative for keys": {"update_fairness_key_rate_limit_default": _limit(-1)},
        "long reason": {"update_queue_rate_limit": _limit(1, "x" * 1001)},
        "long identity": {"identity": "x" * 1001},
        "empty key": {"set_fairness_weight_overrides": {"": 1.0}},
        "long key": {"set_fairness_weight_overrides": {"x" * 65: 1.0}},
        "weight of nothing": {"set_fairness_weight_overrides": {"a": 0.0}},
        "empty key unset": {"unset_fairness_weight_overrides": [""]},
        "long key unset": {"unset_fairness_weight_overrides": ["x" * 65]},
        "set and unset": {
            "set_fairness_weight_overrides": {"a": 1.0},
            "unset_fairness_weight_overrides": ["a"],
        },
        "too many": {"set_fairness_weight_overrides": {str(number): 1.0 for number in range(1001)}},
    }
    for label, fields in updates.items():
        await ctx.attempt(label, _update(name, **fields))


@scenario
async def queue_priorities_inherited(ctx: Context) -> None:
    """Each field of a priority that an activity does not give is its workflow's; workers are told."""
    given = common.Priority(priority_key=2, fairness_key="tenant", fairness_weight=2.5)
    run = await ctx.start(priority=given)
    commands = []
    for number, own in enumerate(
        (
            common.Priority(),
            common.Priority(priority_key=4),
            common.Priority(fairness_key="mine"),
            common.Priority(fairness_weight=0.5),
        )
    ):
        command = schedule_activity(str(number), run.task_queue)
        if own != common.Priority():
            command.schedule_activity_task_command_attributes.priority.CopyFrom(own)
        commands.append(command)
    await run.complete(await run.poll(), *commands)
    told = {}
    for _ in commands:
        task = await ctx.client.poll_activity_task(run.task_queue)
        told[task.activity_id] = task.priority
        await ctx.client.complete_activity(task.task_token)
    for activity_id, priority in sorted(told.items()):
        ctx.record(f"activity {activity_id}", priority)
    await run.complete(await run.poll(), complete_workflow())
