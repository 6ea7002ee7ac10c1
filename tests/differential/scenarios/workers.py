"""Workers: heartbeats, lists, counts, descriptions."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.context import Context
from tests.differential.registry import scenario
from tests.support.builders import queue, schedule_activity
from tests.support.proto import Timestamp, enums, worker, workflowservice

Status = enums.WorkerStatus


def _heartbeat(ctx: Context, number: int, **fields: Any) -> worker.WorkerHeartbeat:
    values: dict[str, Any] = {
        "worker_instance_key": ctx.id(f"worker-{number}"),
        "worker_identity": f"identity-{number}",
        "host_info": worker.WorkerHostInfo(host_name="host", process_id="7", worker_grouping_key="group"),
        "task_queue": ctx.id(f"queue-{number % 2}"),
        "sdk_name": "sdk",
        "sdk_version": f"1.{number}",
        "status": Status.WORKER_STATUS_RUNNING,
        "start_time": Timestamp(seconds=1_700_000_000 + number),
    }
    return worker.WorkerHeartbeat(**(values | fields))


async def _record(ctx: Context, *heartbeats: worker.WorkerHeartbeat) -> None:
    await ctx.client.invoke(
        workflowservice.RecordWorkerHeartbeatRequest(
            namespace=ctx.client.namespace, identity="me", worker_heartbeat=heartbeats
        )
    )


@scenario
async def workers_listed(ctx: Context) -> None:
    """Workers that sent heartbeats are listed, filtered, counted, described, and gone when they shut down."""
    namespace = ctx.client.namespace
    await _record(ctx, *(_heartbeat(ctx, number) for number in range(4)))
    queue = ctx.id("queue-0")
    mine = f"TaskQueue = '{queue}'"
    for label, query in {
        "by queue": mine,
        "by queue and version": f"{mine} AND SdkVersion = '1.2'",
        "by either": f"WorkerInstanceKey = '{ctx.id('worker-1')}' OR WorkerInstanceKey = '{ctx.id('worker-3')}'",
        "by status": f"{mine} AND WorkerStatus = 'Running'",
        "by other status": f"{mine} AND WorkerStatus = 'ShuttingDown'",
        "by time": f"{mine} AND StartTime > '2023-11-14T22:13:21Z'",
        "by beginning": f"{mine} AND SdkVersion STARTS_WITH '1.'",
        "by nothing there": f"{mine} AND BuildId IS NULL",
        "by difference": f"{mine} AND SdkVersion != '1.2'",
    }.items():
        found = await ctx.client.call(
            workflowservice.ListWorkersRequest(namespace=namespace, query=query),
            workflowservice.ListWorkersResponse,
        )
        workers = sorted(found.workers, key=lambda one: one.worker_instance_key)
        ctx.record(label, workers)
        ctx.record(f"{label}: heartbeats", len(found.workers_info))
        await ctx.attempt(
            f"{label}: count", workflowservice.CountWorkersRequest(namespace=namespace, query=query)
        )
    describe = workflowservice.DescribeWorkerRequest(
        namespace=namespace, worker_instance_key=ctx.id("worker-0")
    )
    await ctx.attempt("described", describe)
    await _record(ctx, _heartbeat(ctx, 0, status=Status.WORKER_STATUS_SHUTTING_DOWN))
    await ctx.attempt("described while it shuts down", describe)
    await ctx.client.invoke(
        workflowservice.ShutdownWorkerRequest(
            namespace=namespace,
            sticky_task_queue=ctx.id("sticky"),
            worker_heartbeat=_heartbeat(ctx, 0, status=Status.WORKER_STATUS_SHUTDOWN),
        )
    )
    await ctx.attempt("described after it shut down", describe)
    await ctx.attempt("the rest", workflowservice.CountWorkersRequest(namespace=namespace, query=mine))


@scenario
async def workers_in_pages(ctx: Context) -> None:
    """Pages of a list of workers."""
    await _record(ctx, *(_heartbeat(ctx, number, task_queue=ctx.id("queue")) for number in range(5)))
    request = workflowservice.ListWorkersRequest(
        namespace=ctx.client.namespace, query=f"TaskQueue = '{ctx.id('queue')}'", page_size=2
    )
    sizes = []
    while True:
        page = await ctx.client.call(request, workflowservice.ListWorkersResponse)
        sizes.append(len(page.workers))
        if not page.next_page_token:
            break
        request.next_page_token = page.next_page_token
    ctx.record("sizes of pages", sizes)
    request.next_page_token = b"nonsense"
    await ctx.attempt("bad token", request)


@scenario
async def workers_refused(ctx: Context) -> None:
    """Requests that make no sense."""
    nowhere, here = "no-such-namespace", ctx.client.namespace
    await ctx.attempt("record nowhere", workflowservice.RecordWorkerHeartbeatRequest(namespace=nowhere))
    await ctx.attempt("list nowhere", workflowservice.ListWorkersRequest(namespace=nowhere))
    await ctx.attempt("count nowhere", workflowservice.CountWorkersRequest(namespace=nowhere))
    await ctx.attempt("describe nowhere", workflowservice.DescribeWorkerRequest(namespace=nowhere))
    unknown = workflowservice.DescribeWorkerRequest(namespace=here, worker_instance_key=ctx.id("unknown"))
    await ctx.attempt("describe unknown", unknown)
    bad = workflowservice.ListWorkersRequest(namespace=here, query="not a query")
    await ctx.attempt("bad query", bad)


@scenario
async def worker_shutdown_ends_its_polls(ctx: Context) -> None:
    """A worker that leaves gets no more tasks: its polls end, new ones too; others go on."""
    namespace, key = ctx.client.namespace, ctx.id("leaving")
    run = await ctx.start()
    await run.step(schedule_activity("a", run.task_queue))
    goodbye = workflowservice.ShutdownWorkerRequest(
        namespace=namespace, identity="leaving", worker_instance_key=key, task_queue=ctx.id("elsewhere"),
        sticky_task_queue=ctx.id("sticky"),
        task_queue_types=[enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW],
    )  # fmt: skip
    leaving: dict[str, Any] = {"identity": "leaving", "worker_instance_key": key, "timeout_s": 30.0}
    polls: list[asyncio.Task[Any]] = [
        asyncio.create_task(ctx.client.poll_workflow_task(ctx.id("elsewhere"), **leaving)),
        asyncio.create_task(ctx.client.poll_activity_task(ctx.id("elsewhere"), **leaving)),
        asyncio.create_task(ctx.client.poll_activity_task(ctx.id("not-named"), **leaving)),
    ]
    described = workflowservice.DescribeTaskQueueRequest(
        namespace=namespace,
        task_queue=queue(ctx.id("not-named")),
        task_queue_type=enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )
    while not (await ctx.client.call(described, workflowservice.DescribeTaskQueueResponse)).pollers:
        await asyncio.sleep(
            0
        )  # the last of the polls has not arrived; the scenario's time limit is the bound
    await ctx.attempt("shut down", goodbye)
    for number, poll in enumerate(polls):
        ctx.record(f"poll {number}", bool((await poll).task_token))
    late = await ctx.client.poll_activity_task(run.task_queue, **leaving)
    ctx.record("a poll that arrives late", bool(late.task_token))
    ctx.record("another worker", bool((await run.poll_activity()).task_token))
