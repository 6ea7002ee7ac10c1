"""Resets: the new run's history, what is done once more, what becomes of the run that was reset, and refusals."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.chains import BACKOFF, TRANSITIONS, next_run
from tests.differential.scenarios.children import ENDED, START_FAILED, parent_and_child, until_has
from tests.support.builders import (
    complete_workflow,
    continue_as_new,
    duration,
    keyword,
    memo,
    modify_memo,
    payload,
    payloads,
    queue,
    record_marker,
    schedule_activity,
    start_child,
    start_timer,
    upsert_search_attributes,
)
from tests.support.proto import common, enums, workflowservice

Exclude = enums.ResetReapplyExcludeType
Reapply = enums.ResetReapplyType
NOWHERE = "0190c7a8-0000-7000-8000-000000000001"
FORK = "workflow_task_failed_event_attributes.fork_event_version"


def reset(run: Run, event_id: int, **fields: Any) -> workflowservice.ResetWorkflowExecutionRequest:
    """A request to reset a run to an event."""
    values = {"reason": "why", "request_id": run.context.id("reset")} | fields
    return workflowservice.ResetWorkflowExecutionRequest(
        namespace=run.client.namespace,
        workflow_execution=run.execution,
        workflow_task_finish_event_id=event_id,
        **values,
    )


async def do_reset(run: Run, event_id: int, label: str = "reset", **fields: Any) -> Run:
    """Resets a run; returns the new one."""
    answer = await run.context.attempt(label, reset(run, event_id, **fields))
    return Run(run.context, run.workflow_id, answer.run_id, run.task_queue)


async def _record(run: Run, new: Run) -> None:
    await run.record_history("old")
    run.context.record("old described", await run.describe(), drop=[TRANSITIONS])
    await new.record_history("new")
    run.context.record("new described", await new.describe(), drop=[TRANSITIONS])


@scenario
async def reset_open_run(ctx: Context) -> None:
    """Reset to the first workflow task: memo, attributes, signals before and after, an activity that had completed."""
    run = await ctx.start(
        memo=memo({"a": "b"}),
        input=payloads("in"),
        workflow_run_timeout=duration(100),
        request_id=ctx.id("start"),
    )
    await run.signal("before", request_id=ctx.id("s1"))
    await run.step(
        schedule_activity("a", run.task_queue, start_to_close_s=30),
        record_marker("m"),
        upsert_search_attributes({"Shade": keyword("red")}),
        modify_memo({"c": payload("d")}),
    )
    task = await run.poll_activity()
    await ctx.client.complete_activity(task.task_token)
    await run.step()
    await run.signal("after", input=payloads("x"), request_id=ctx.id("s2"))
    events = await run.events()
    finish = next(e.event_id for e in events if e.HasField("workflow_task_completed_event_attributes"))
    new = await do_reset(run, finish)
    await _record(run, new)
    await new.step(complete_workflow())
    await new.record_history("new, closed")


@scenario
async def reset_with_work_pending(ctx: Context) -> None:
    """A pending activity, one asked to cancel, a timer; to the second workflow task."""
    run = await ctx.start()
    await run.step(
        schedule_activity("a", run.task_queue, start_to_close_s=30),
        start_timer("t", 60),
        start_timer("soon", 0.2),
    )
    await run.poll_activity()
    await run.step(schedule_activity("b", run.task_queue, start_to_close_s=30))
    events = await run.events()
    finish = [e.event_id for e in events if e.HasField("workflow_task_completed_event_attributes")][-1]
    new = await do_reset(run, finish)
    await _record(run, new)
    task = await new.poll_activity()
    ctx.record("activity again", {"id": task.activity_id, "attempt": task.attempt})


@scenario
async def reset_closed_run(ctx: Context) -> None:
    """A completed run, reset by its last workflow task; then the same request again, then the first run once more."""
    run = await ctx.start()
    await run.step()
    await run.signal()
    await run.step(complete_workflow(payloads("done")))
    new = await do_reset(run, 8)
    await _record(run, new)
    await ctx.attempt("same request", reset(run, 8))
    await new.step(complete_workflow())
    again = await do_reset(run, 4, "once more", request_id=ctx.id("other"))
    await again.record_history("again")


@scenario
async def reset_exclusions(ctx: Context) -> None:
    """Signals that are not to be received again, said in both ways; a request to cancel never is."""
    cases: dict[str, dict[str, Any]] = {
        "signal": {"reset_reapply_exclude_types": [Exclude.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL]},
        "none": {"reset_reapply_type": Reapply.RESET_REAPPLY_TYPE_NONE},
        "only signals": {"reset_reapply_type": Reapply.RESET_REAPPLY_TYPE_SIGNAL},
        "update": {"reset_reapply_exclude_types": [Exclude.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE]},
    }
    for label, fields in cases.items():
        run = await ctx.start(label.replace(" ", "-"))
        await run.step()
        await run.signal("one")
        await run.step()
        await ctx.client.request_cancel(run.workflow_id)
        await run.signal("two")
        new = await do_reset(run, 4, label, request_id=ctx.id(f"r {label}"), **fields)
        await new.record_history(f"{label}: new")


@scenario
async def reset_over_a_chain(ctx: Context) -> None:
    """The first run of a chain is reset: signals of the later run come again, the later run is terminated."""
    run = await ctx.start()
    await run.step(start_timer("t", 60))
    await run.signal("one")
    await run.step(continue_as_new(backoff_start_interval=duration(60)))
    later = await next_run(run)
    await run.signal("two")
    new = await do_reset(run, 4)
    await new.record_history("new")
    await later.record_history("later", drop=[BACKOFF])
    ctx.record("later described", await later.describe(), drop=[TRANSITIONS])
    ctx.record("base described", await run.describe(), drop=[TRANSITIONS])


@scenario
async def reset_with_children(ctx: Context) -> None:
    """A child that was started before the point goes on and tells the new run; so does one that has ended."""
    parent, child = await parent_and_child(ctx)
    events = await parent.events()
    finish = [e.event_id for e in events if e.HasField("workflow_task_completed_event_attributes")][-1]
    new = await do_reset(parent, finish)
    await child.step(complete_workflow(payloads("done")))
    await until_has(new, ENDED["COMPLETED"])
    await new.record_history("new")
    await parent.record_history("old")
    await child.record_history("child")
    again = await do_reset(new, finish, "once more", request_id=ctx.id("other"))
    await again.record_history("again")


@scenario
async def reset_starts_children_again(ctx: Context) -> None:
    """A child that was started after the point runs on when the code starts it again: its id is in use."""
    parent, child = await parent_and_child(ctx)
    new = await do_reset(parent, 4)
    await new.step(start_child(child.workflow_id, task_queue=queue(child.task_queue)))
    await until_has(new, START_FAILED)
    await new.record_history("new")
    await child.record_history("first child")


@scenario
async def reset_errors(ctx: Context) -> None:
    """Requests to reset that are refused."""
    run = await ctx.start()
    await run.step(start_timer("t", 60), start_timer("u", 60))
    cases: dict[str, tuple[int, dict[str, Any]]] = {
        "no request id": (4, {"request_id": ""}),
        "long request id": (4, {"request_id": "x" * 1001}),
        "first event": (1, {}),
        "beyond": (7, {}),
        "negative": (-1, {}),
        "before the task": (2, {}),
        "after the task": (6, {}),
        "no workflow id": (4, {"workflow_execution": common.WorkflowExecution()}),
        "no execution": (4, {"workflow_execution": None}),
        "no such run": (
            4,
            {"workflow_execution": common.WorkflowExecution(workflow_id=run.workflow_id, run_id=NOWHERE)},
        ),
        "no such workflow": (4, {"workflow_execution": common.WorkflowExecution(workflow_id="nobody")}),
    }
    for label, (event_id, fields) in cases.items():
        request = reset(run, event_id, **{k: v for k, v in fields.items() if k != "workflow_execution"})
        if "workflow_execution" in fields:
            request.ClearField("workflow_execution")
            if fields["workflow_execution"] is not None:
                request.workflow_execution.CopyFrom(fields["workflow_execution"])
        await ctx.attempt(label, request)
    scheduled = await do_reset(run, 3, "to the scheduled task", request_id=ctx.id("scheduled"))
    await scheduled.record_history("scheduled")
