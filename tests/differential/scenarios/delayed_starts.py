"""Start delays beside retries, schedules, conflict and reuse policies, continue-as-new and resets."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.chains import BACKOFF, next_run
from tests.differential.scenarios.held_back import record
from tests.differential.scenarios.links_over_chains import link
from tests.differential.scenarios.resets import do_reset
from tests.support.builders import (
    application_failure,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    retry_policy,
)
from tests.support.proto import common, enums, workflow, workflowservice

Conflict = enums.WorkflowIdConflictPolicy
Reuse = enums.WorkflowIdReusePolicy
Initiator = enums.ContinueAsNewInitiator


def _signal_with_start(
    ctx: Context, label: str, **fields: Any
) -> workflowservice.SignalWithStartWorkflowExecutionRequest:
    request = workflowservice.SignalWithStartWorkflowExecutionRequest(
        namespace=ctx.client.namespace,
        workflow_id=ctx.id(label),
        workflow_type=common.WorkflowType(name="flow"),
        signal_name="go",
        request_id=ctx.id(f"both {label}"),
        **fields,
    )
    request.task_queue.name = ctx.id(f"{label}-queue")
    return request


@slow_scenario
async def delay_over_a_chain(ctx: Context) -> None:
    """A delayed run is retried, continues as new, and is reset: who is delayed again, what is shown of the delay."""
    policy = retry_policy(initial_s=1, attempts=5)
    run = await ctx.start(
        workflow_start_delay=duration(2), retry_policy=policy, workflow_execution_timeout=duration(60)
    )
    await record(run, "delayed")
    await run.step(fail_workflow(application_failure("no")))
    await record(run, "first")
    run = await next_run(run)
    await record(run, "held back")
    await run.step(continue_as_new(retry_policy=policy))
    run = await next_run(run)
    await run.step()
    await record(run, "continued")
    run = await do_reset(run, 4)
    await record(run, "of the reset")
    await ctx.client.terminate(run.workflow_id)


@slow_scenario
async def delay_and_reset_of_the_first(ctx: Context) -> None:
    """A run that was delayed is reset to its first task: nothing is waited for again."""
    run = await ctx.start(workflow_start_delay=duration(2), workflow_run_timeout=duration(50))
    await run.step()
    first = (await run.describe()).workflow_execution_info
    run = await do_reset(run, 4)
    await record(run, "new")
    info = (await run.describe()).workflow_execution_info
    ctx.record("begins when it starts", info.execution_time == info.start_time)
    ctx.record("begins when the first did", info.execution_time == first.execution_time)
    await run.step(complete_workflow())
    await record(run, "completed")


@scenario
async def delays_refused(ctx: Context) -> None:
    """A delay below zero, beside a schedule, beside an eager start; in each request that has one."""
    cases: dict[str, dict[str, Any]] = {
        "negative": {"workflow_start_delay": duration(-1)},
        "with cron": {"workflow_start_delay": duration(1), "cron_schedule": "@every 1h"},
        "negative with cron": {"workflow_start_delay": duration(-1), "cron_schedule": "@every 1h"},
        "zero with cron": {"workflow_start_delay": duration(0), "cron_schedule": "@every 1h"},
        "very long": {"workflow_start_delay": duration(10**9)},
        "longest": {"workflow_start_delay": duration(315576000000)},
        "out of range": {"workflow_start_delay": duration(315576000001)},
        "longer than its time": {
            "workflow_start_delay": duration(20),
            "workflow_execution_timeout": duration(10),
        },
    }
    drop = ["run_id", "link", "first_execution_run_id", "signal_link"]
    for label, fields in cases.items():
        start = ctx.client.start_request(ctx.id(f"s {label}"), ctx.id("queue"), **fields)
        await ctx.attempt(f"{label}: start", start, drop=drop)
        await ctx.attempt(
            f"{label}: signal with start", _signal_with_start(ctx, f"b {label}", **fields), drop=drop
        )


@scenario
async def delayed_start_over_an_open_run(ctx: Context) -> None:
    """A start with a delay of its own over an open run: used as it is, attached, ended; signals with start."""
    firsts: dict[str, dict[str, Any]] = {"open": {}, "delayed": {"workflow_start_delay": duration(60)}}
    for label, first in firsts.items():
        run = await ctx.start(label, **first)
        cases: dict[str, dict[str, Any]] = {
            "use": {"workflow_id_conflict_policy": Conflict.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING},
            "attach": {
                "workflow_id_conflict_policy": Conflict.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
                "on_conflict_options": workflow.OnConflictOptions(attach_request_id=True, attach_links=True),
                "links": [link("a")],
            },
            "attach without policy": {
                "on_conflict_options": workflow.OnConflictOptions(attach_request_id=True),
            },
            "attach and terminate": {
                "workflow_id_conflict_policy": Conflict.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
                "on_conflict_options": workflow.OnConflictOptions(attach_request_id=True),
            },
        }
        for how, fields in cases.items():
            await ctx.attempt(
                f"{label}: {how}",
                ctx.client.start_request(
                    run.workflow_id,
                    run.task_queue,
                    request_id=ctx.id(how),
                    workflow_start_delay=duration(40),
                    retry_policy=retry_policy(initial_s=1, attempts=2),
                    **fields,
                ),
            )
            await record(run, f"{label}: {how}, old")
        newest = (await ctx.client.describe(run.workflow_id)).workflow_execution_info.execution.run_id
        run = Run(ctx, run.workflow_id, newest, run.task_queue)
        await ctx.attempt(
            f"{label}: signal with start", _signal_with_start(ctx, label, workflow_start_delay=duration(50))
        )
        await record(run, f"{label}: newest")
        await ctx.client.terminate(run.workflow_id)


@scenario
async def delayed_starts_and_reuse(ctx: Context) -> None:
    """Reuse policies over runs that closed before their first task, and the deprecated one that ends a run."""
    run = await ctx.start(workflow_start_delay=duration(60), request_id=ctx.id("first"))
    await ctx.client.terminate(run.workflow_id)
    for name in ("REJECT_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY", "TERMINATE_IF_RUNNING"):
        policy = Reuse.Value(f"WORKFLOW_ID_REUSE_POLICY_{name}")
        answer = await ctx.attempt(
            name,
            ctx.client.start_request(
                run.workflow_id,
                run.task_queue,
                workflow_start_delay=duration(60),
                workflow_id_reuse_policy=policy,
            ),
        )
        if answer is not None:
            await record(Run(ctx, run.workflow_id, answer.run_id, run.task_queue), f"{name}, new")
        await ctx.attempt(
            f"{name}, same request",
            ctx.client.start_request(
                run.workflow_id,
                run.task_queue,
                request_id=ctx.id("first"),
                workflow_id_reuse_policy=policy,
            ),
        )
        if name == "TERMINATE_IF_RUNNING":
            await ctx.attempt(
                f"{name}, conflict",
                ctx.client.start_request(
                    run.workflow_id,
                    run.task_queue,
                    workflow_id_reuse_policy=policy,
                    workflow_id_conflict_policy=Conflict.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
                ),
            )
    await ctx.client.terminate(run.workflow_id)


@slow_scenario
async def continue_as_new_with_initiators(ctx: Context) -> None:
    """A worker says why it continues, with a failure and a last result: what the next run begins with."""
    for name in ("WORKFLOW", "RETRY", "CRON_SCHEDULE"):
        for label, fields in {"plain": {}, "scheduled": {"cron_schedule": "@every 2s"}}.items():
            run = await ctx.start(f"{name} {label}", retry_policy=retry_policy(initial_s=2, attempts=3))
            await run.step(
                continue_as_new(
                    initiator=Initiator.Value(f"CONTINUE_AS_NEW_INITIATOR_{name}"),
                    retry_policy=retry_policy(initial_s=2, attempts=3),
                    failure=application_failure("why"),
                    **fields,
                )
            )
            await run.record_history(
                f"{name} {label}, first",
                drop=[BACKOFF, "workflow_execution_continued_as_new_event_attributes.backoff_start_interval"],
            )
            run = await next_run(run)
            await record(run, f"{name} {label}")
            await ctx.client.terminate(run.workflow_id)
