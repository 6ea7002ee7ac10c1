"""Links, user metadata and request ids over chains: who gets them, where they are shown, what a reset brings again."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.chains import BACKOFF, TRANSITIONS, next_run
from tests.differential.scenarios.reset_updates import message_brought_again
from tests.differential.scenarios.resets import do_reset
from tests.support.builders import (
    application_failure,
    cancel_external,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    fail_workflow,
    queue,
    retry_policy,
    signal_external,
    start_child,
    start_timer,
    user_metadata,
)
from tests.support.proto import common, enums, workflow, workflowservice
from tests.support.updates import ACCEPTED, DISCARDS, acceptance, place, response, update_request

USE_EXISTING = enums.WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
SIGNALS = enums.ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL
TERMINATE_EXISTING = enums.WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING


def link(workflow_id: str) -> common.Link:
    """A link to another workflow's event."""
    event = common.Link.WorkflowEvent
    return common.Link(
        workflow_event=event(
            namespace="default",
            workflow_id=workflow_id,
            run_id="0190c7a8-0000-7000-8000-000000000001",
            event_ref=event.EventReference(
                event_id=3, event_type=enums.EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
            ),
        )
    )


def by_request(workflow_id: str) -> common.Link:
    """A link to another workflow's event by the request that made it."""
    event = common.Link.WorkflowEvent
    return common.Link(
        workflow_event=event(
            namespace="default",
            workflow_id=workflow_id,
            run_id="0190c7a8-0000-7000-8000-000000000001",
            request_id_ref=event.RequestIdReference(
                request_id="some", event_type=enums.EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
            ),
        )
    )


async def _record(run: Run, label: str) -> None:
    await run.record_history(label, drop=[BACKOFF])
    run.context.record(f"{label}, described", await run.describe(), drop=[BACKOFF, TRANSITIONS])


def _fields() -> dict[str, Any]:
    return {"user_metadata": user_metadata("summary", "details"), "links": [link("starter")]}


@slow_scenario
async def metadata_over_mixed_chains(ctx: Context) -> None:
    """Metadata and links over retry, then continue-as-new, then retry; and cron, then retry, then cron."""
    policy = retry_policy(initial_s=1, attempts=3)
    run = await ctx.start("retried", retry_policy=policy, **_fields(), request_id=ctx.id("first"))
    await run.step(fail_workflow(application_failure("no")))
    run = await next_run(run)
    await run.step(continue_as_new(retry_policy=policy))
    await _record(run, "retried")
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("no")))
    await _record(run, "continued")
    run = await next_run(run)
    await _record(run, "retried again")
    await ctx.client.terminate(run.workflow_id)
    run = await ctx.start("cron", cron_schedule="@every 1s", retry_policy=policy, **_fields())
    await run.step(complete_workflow())
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("no")))
    await _record(run, "cron")
    run = await next_run(run)
    await run.step(complete_workflow())
    await _record(run, "cron, retried")
    run = await next_run(run)
    await _record(run, "cron again")
    await ctx.client.terminate(run.workflow_id)


@scenario
async def metadata_of_closing_commands(ctx: Context) -> None:
    """Metadata of the command that ends a run stands at its event, and not with the run that follows."""
    closing = {
        "continued": continue_as_new(),
        "completed": complete_workflow(),
        "failed": fail_workflow(application_failure("no")),
        "cancelled": cancel_workflow(),
    }
    for label, one in closing.items():
        run = await ctx.start(label)
        one.user_metadata.CopyFrom(user_metadata("of the command", "its details"))
        await run.step(one)
        await _record(run, label)
        if label == "continued":
            await _record(await next_run(run), "next")


@scenario
async def metadata_of_a_child(ctx: Context) -> None:
    """Metadata of the command that starts a child: the parent's event, the child's, over the child's chain."""
    run = await ctx.start(**_fields())
    command = start_child(ctx.id("child"), task_queue=queue(ctx.id("child-queue")))
    command.user_metadata.CopyFrom(user_metadata("child", "its details"))
    await run.step(command)
    await run.step()
    started = next(
        event.child_workflow_execution_started_event_attributes.workflow_execution
        for event in await run.events()
        if event.HasField("child_workflow_execution_started_event_attributes")
    )
    child = Run(ctx, started.workflow_id, started.run_id, ctx.id("child-queue"))
    await _record(run, "parent")
    await child.step(continue_as_new())
    await _record(child, "child")
    child = await next_run(child)
    await child.step()
    await _record(child, "child continued")
    child = await do_reset(child, 4)
    await _record(child, "child reset")


@slow_scenario
async def metadata_over_resets(ctx: Context) -> None:
    """Metadata, links and request ids of a run that was reset: of a first run, a continued, a retried one; the next."""
    policy = retry_policy(initial_s=1, attempts=5)
    run = await ctx.start("wf", retry_policy=policy, **_fields())
    await run.step()
    run = await do_reset(run, 4, "first")
    await run.step(continue_as_new(retry_policy=policy))
    await _record(run, "reset")
    run = await next_run(run)
    await run.step()
    run = await do_reset(run, 4, "second", request_id=ctx.id("second"))
    await run.step(fail_workflow(application_failure("no")))
    await _record(run, "continued, reset")
    run = await next_run(run)
    await _record(run, "continued, reset, retried")
    await run.step()
    run = await do_reset(run, 4, "third", request_id=ctx.id("third"))
    await _record(run, "retried, reset")
    await ctx.client.terminate(run.workflow_id)


@scenario
async def links_of_requests(ctx: Context) -> None:
    """Links of each request to an open run, and what describe shows of their ids; again while a task is started."""
    for label in ("idle", "busy"):
        run = await ctx.start(label, **_fields(), request_id=ctx.id(f"{label} start"))
        if label == "idle":
            await run.step()
            task = None
        else:
            task = await run.poll()
        await run.signal(links=[link("a"), by_request("b")], request_id=ctx.id(f"{label} signal"))
        await ctx.attempt(
            f"{label}: signal with start",
            workflowservice.SignalWithStartWorkflowExecutionRequest(
                namespace=ctx.client.namespace,
                workflow_id=run.workflow_id,
                workflow_type=common.WorkflowType(name="flow"),
                task_queue=queue(run.task_queue),
                signal_name="go",
                request_id=ctx.id(f"{label} both"),
                links=[link("with start"), link("with start")],
                user_metadata=user_metadata("ignored", "ignored"),
            ),
        )
        await ctx.attempt(
            f"{label}: cancel",
            ctx.client.request_cancel(
                run.workflow_id, links=[link("canceller")], request_id=ctx.id(f"{label} cancel"), reason="why"
            ),
        )
        await ctx.attempt(
            f"{label}: cancel again",
            ctx.client.request_cancel(
                run.workflow_id, links=[link("another")], request_id=ctx.id(f"{label} cancel 2")
            ),
        )
        await _record(run, f"{label}: written")
        if task is not None:
            await run.complete(task)
            await _record(run, "busy: after the task")
        await ctx.attempt(
            f"{label}: terminate", ctx.client.terminate(run.workflow_id, links=[link("terminator")])
        )
        await _record(run, f"{label}: closed")


@scenario
async def links_of_signal_with_start(ctx: Context) -> None:
    """A signal with start that starts: which of its events has the links, whose the request id is."""
    response = await ctx.attempt(
        "start",
        workflowservice.SignalWithStartWorkflowExecutionRequest(
            namespace=ctx.client.namespace,
            workflow_id=ctx.id("wf"),
            workflow_type=common.WorkflowType(name="flow"),
            task_queue=queue(ctx.id("wf-queue")),
            signal_name="go",
            request_id=ctx.id("both"),
            links=[link("with start")],
            user_metadata=user_metadata("kept", "kept, too"),
        ),
    )
    run = Run(ctx, ctx.id("wf"), response.run_id, ctx.id("wf-queue"))
    await run.step()
    await _record(run, "started")
    await run.signal(links=[link("plain")], request_id=ctx.id("plain"))
    await run.step(start_timer("t", 60))
    new = await do_reset(run, 5)
    await _record(new, "new")
    await new.step(continue_as_new())
    await _record(await next_run(new), "continued")


@scenario
async def links_of_updates_over_a_reset(ctx: Context) -> None:
    """An update with links and a request id, accepted, and then brought again by a reset; the chain behind it."""
    run = await ctx.start(**_fields())
    await run.step()
    request = update_request(ctx.client.namespace, run.execution, stage=ACCEPTED)
    request.request.request_id = ctx.id("update")
    request.request.links.extend([link("updater"), by_request("updater")])
    asking = asyncio.create_task(ctx.attempt("update", request))
    task = await run.poll()
    accepted = acceptance(task.messages[0])
    await run.complete(task, place(accepted), messages=[accepted], capabilities=DISCARDS)
    await asking
    await _record(run, "accepted")
    new = await do_reset(run, 4)
    await _record(new, "new")
    task = await new.poll()
    message = await message_brought_again(new, "u")
    accepted, done = acceptance(message), response(message)
    await new.complete(task, place(accepted), place(done), messages=[accepted, done], capabilities=DISCARDS)
    await _record(new, "done")
    await new.signal()
    await new.step(continue_as_new())
    await _record(await next_run(new), "continued")


@scenario
async def links_over_a_reset(ctx: Context) -> None:
    """Signals, a request to cancel and an attached request, with links and ids, before and behind the reset's point."""
    run = await ctx.start(**_fields(), request_id=ctx.id("start"))
    for label in ("before", "after"):
        await run.signal(label, links=[link(label)], request_id=ctx.id(f"signal {label}"))
        await ctx.attempt(
            f"attach {label}",
            ctx.client.start_request(
                run.workflow_id,
                run.task_queue,
                request_id=ctx.id(f"attached {label}"),
                workflow_id_conflict_policy=USE_EXISTING,
                links=[link(f"attached {label}")],
                user_metadata=user_metadata("ignored", "ignored"),
                on_conflict_options=workflow.OnConflictOptions(attach_request_id=True, attach_links=True),
            ),
        )
        await run.step(start_timer(label, 60))
    await ctx.client.request_cancel(run.workflow_id, links=[link("canceller")], request_id=ctx.id("cancel"))
    await _record(run, "old")
    new = await do_reset(run, 6)
    await _record(new, "new")
    await ctx.attempt(
        "the request that was attached behind the point",
        ctx.client.start_request(
            run.workflow_id,
            run.task_queue,
            request_id=ctx.id("attached after"),
            workflow_id_conflict_policy=USE_EXISTING,
            on_conflict_options=workflow.OnConflictOptions(attach_request_id=True),
        ),
    )
    await ctx.attempt(
        "the request that started the first",
        ctx.client.start_request(run.workflow_id, run.task_queue, request_id=ctx.id("start")),
    )


@scenario
async def signals_sent_again_after_a_reset(ctx: Context) -> None:
    """Requests of signals that the new run has already, and of one that the reset left out."""
    for label, excluded in (("kept", []), ("left out", [SIGNALS])):
        run = await ctx.start(label.replace(" ", "-"))
        for when in ("before", "after"):
            await run.signal(when, request_id=when)
            await run.step(start_timer(when, 60))
        new = await do_reset(run, 5, label, request_id=ctx.id(label), reset_reapply_exclude_types=excluded)
        for when in ("before", "after"):
            await new.signal(when, request_id=when)
        names = [
            event.workflow_execution_signaled_event_attributes.signal_name for event in await new.events()
        ]
        ctx.record(f"{label}: signals", [name for name in names if name])


@scenario
async def links_of_a_run_that_gives_way(ctx: Context) -> None:
    """A start that ends the run before it: links of either, and their metadata."""
    run = await ctx.start(**_fields())
    response = await ctx.client.start(
        run.workflow_id,
        run.task_queue,
        workflow_id_conflict_policy=TERMINATE_EXISTING,
        links=[link("second")],
        user_metadata=user_metadata("second", "its details"),
    )
    await _record(run, "first")
    await _record(Run(ctx, run.workflow_id, response.run_id, run.task_queue), "second")


@scenario
async def signals_of_a_workflow_have_links(ctx: Context) -> None:
    """A workflow signals and cancels another: the links and request ids at the other's events."""
    other = await ctx.start("other")
    await other.step()
    run = await ctx.start()
    signal = signal_external(other.workflow_id)
    signal.user_metadata.CopyFrom(user_metadata("signal", "its details"))
    cancel = cancel_external(other.workflow_id)
    cancel.user_metadata.CopyFrom(user_metadata("cancel", "its details"))
    await run.step(signal)
    await run.step(cancel)
    await run.step()
    await _record(run, "sender")
    await _record(other, "other")


@scenario
async def links_refused_by_each_request(ctx: Context) -> None:
    """Links without a run, and too many of them, in each request that brings any."""
    run = await ctx.start()
    await run.step()
    cases = {
        "no run": [common.Link(workflow_event=common.Link.WorkflowEvent(namespace="n", workflow_id="w"))],
        "many": [link(str(number)) for number in range(11)],
        "at the limit": [link(str(number)) for number in range(10)],
        "nothing": [common.Link()],
        "of a batch": [common.Link(batch_job=common.Link.BatchJob(job_id="j"))],
        "activity without run": [common.Link(activity=common.Link.Activity(namespace="n", activity_id="a"))],
        "operation": [common.Link(nexus_operation=common.Link.NexusOperation(namespace="n"))],
        "workflow": [common.Link(workflow=common.Link.Workflow(namespace="n", workflow_id="w"))],
    }
    for label, links in cases.items():
        await ctx.attempt(f"{label}: cancel", ctx.client.request_cancel(run.workflow_id, links=links))
        await ctx.attempt(f"{label}: signal", ctx.client.signal(run.workflow_id, links=links))
        await ctx.attempt(
            f"{label}: attach",
            ctx.client.start_request(
                run.workflow_id,
                run.task_queue,
                request_id=f"attached {label}",
                workflow_id_conflict_policy=USE_EXISTING,
                links=links,
                on_conflict_options=workflow.OnConflictOptions(attach_request_id=True, attach_links=True),
            ),
        )
        await ctx.attempt(
            f"{label}: start",
            ctx.client.start(ctx.id(f"s {label}"), run.task_queue, links=links),
            drop=["run_id"],
        )
        await ctx.attempt(f"{label}: terminate", ctx.client.terminate(ctx.id(f"s {label}"), links=links))
    await _record(run, "at the end")
    request = update_request(ctx.client.namespace, run.execution)
    request.request.links.extend(cases["no run"])
    await ctx.attempt("no run: update", request, timeout_s=1)
