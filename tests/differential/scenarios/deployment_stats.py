"""Worker versions in numbers: what waits for their workers, and how the older description of a queue shows them."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.deployments import (
    PATIENCE_S,
    WORKFLOWS,
    _make_current,
    _registered,
    _version,
)
from tests.differential.scenarios.task_queues import ENHANCED, RATES
from tests.support.builders import queue
from tests.support.proto import common, taskqueue
from tests.support.proto import workflowservice as service


def _cleared(stats: Any) -> Any:
    for rate in RATES:
        stats.ClearField(rate)
    return stats


async def _waiting(ctx: Context, label: str) -> Run:
    """A run whose first workflow task waits for the workers of the current version."""
    run = Run(ctx, ctx.id(label), "", ctx.id(f"{label}-queue"))
    await _registered(ctx, run, "1")
    await _make_current(ctx, run.task_queue, "1")
    return await ctx.start(label, task_queue=run.task_queue)


async def _enhanced(ctx: Context, label: str, task_queue: str, **versions: Any) -> None:
    request = service.DescribeTaskQueueRequest(
        namespace="default",
        task_queue=queue(task_queue),
        api_mode=ENHANCED,
        versions=taskqueue.TaskQueueVersionSelection(**versions),
        task_queue_types=[WORKFLOWS],
        report_stats=True,
        report_pollers=True,
        report_task_reachability=True,
    )
    answer = await ctx.client.call(request, service.DescribeTaskQueueResponse)
    shown = {}
    for build_id, info in sorted(answer.versions_info.items()):
        types = {
            number: (sorted(poller.identity for poller in known.pollers), _cleared(known.stats))
            for number, known in info.types_info.items()
        }
        shown[build_id] = (info.task_reachability, types)
    ctx.record(label, shown)


async def _counted(ctx: Context, described: service.DescribeTaskQueueRequest) -> None:
    await ctx.until(
        "counted",
        lambda: ctx.client.call(described, service.DescribeTaskQueueResponse),
        lambda answer: answer.stats.approximate_backlog_count == 1,
        timeout_s=PATIENCE_S,
    )


@slow_scenario
async def deployment_stats_enhanced(ctx: Context) -> None:
    """A version that is current and a task that waits for it, in the description of a queue by build id."""
    shop = ctx.id("shop")
    chosen: dict[str, dict[str, Any]] = {
        "active": {"all_active": True},
        "unversioned": {"unversioned": True},
        "unversioned and active": {"unversioned": True, "all_active": True},
        "build": {"build_ids": ["1"]},
        "build and active": {"build_ids": ["1"], "all_active": True},
        "dotted": {"build_ids": [f"{shop}.1"]},
        "colon": {"build_ids": [f"{shop}:1"]},
        "other": {"build_ids": [f"{shop}:2"]},
        "both": {"build_ids": ["1"], "unversioned": True},
    }
    for label, versions in chosen.items():
        run = await _waiting(ctx, label)
        described = service.DescribeTaskQueueRequest(
            namespace="default",
            task_queue=queue(run.task_queue),
            task_queue_type=WORKFLOWS,
            report_stats=True,
        )
        await _counted(ctx, described)
        await _enhanced(ctx, label, run.task_queue, **versions)


@scenario
async def deployment_stats_of_version(ctx: Context) -> None:
    """What waits for a version's workers, in whole and by priority."""
    run = await _waiting(ctx, "first")
    await ctx.start("second", task_queue=run.task_queue, priority=common.Priority(priority_key=1))
    request = service.DescribeWorkerDeploymentVersionRequest(
        namespace="default", deployment_version=_version(ctx, "1"), report_task_queue_stats=True
    )
    answer = await ctx.until(
        "counted",
        lambda: ctx.client.call(request, service.DescribeWorkerDeploymentVersionResponse),
        lambda answer: (
            sum(known.stats.approximate_backlog_count for known in answer.version_task_queues) == 2
        ),
        timeout_s=PATIENCE_S,
    )
    for known in answer.version_task_queues:
        for stats in (known.stats, *known.stats_by_priority_key.values()):
            _cleared(stats)
    ctx.record("queues", list(answer.version_task_queues))
