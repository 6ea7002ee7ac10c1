"""What a start leaves on a run that was open already (on_conflict_options), and which links requests may carry."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.support.builders import complete_workflow
from tests.support.proto import common, enums, workflow, workflowservice

USE_EXISTING = enums.WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
LINK = common.Link(
    workflow_event=common.Link.WorkflowEvent(
        namespace="default",
        workflow_id="caller",
        run_id="0190c7a8-0000-7000-8000-000000000001",
        event_ref=common.Link.WorkflowEvent.EventReference(
            event_id=3, event_type=enums.EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
        ),
    )
)


def _start(run: Run, request_id: str, **fields: Any) -> workflowservice.StartWorkflowExecutionRequest:
    options = workflow.OnConflictOptions(**fields)
    return run.client.start_request(
        run.workflow_id,
        run.task_queue,
        request_id=run.context.id(request_id),
        workflow_id_conflict_policy=USE_EXISTING,
        on_conflict_options=options,
        links=[LINK],
    )


@scenario
async def attach_during_a_task(ctx: Context) -> None:
    """An attachment waits in the buffer while a workflow task is started; describe before, after and when closed."""
    run = await ctx.start()
    task = await run.poll()
    attaching = _start(run, "attached", attach_request_id=True, attach_links=True)
    await ctx.attempt("attach", attaching)
    ctx.record("buffered", (await run.describe()).workflow_extended_info)
    await ctx.attempt("same request while buffered", attaching)
    await run.complete(task)
    ctx.record("written", (await run.describe()).workflow_extended_info)
    await run.step(complete_workflow())
    await ctx.attempt("same request once closed", attaching)
    ctx.record("closed", (await run.describe()).workflow_extended_info)
    await run.record_history()


@scenario
async def attach_parts(ctx: Context) -> None:
    """Only links, nothing at all, callbacks without request id; the request that started the run comes again."""
    run = await ctx.start(request_id=ctx.id("first"))
    await ctx.attempt("only links", _start(run, "links", attach_links=True))
    await ctx.attempt("nothing", _start(run, "nothing"))
    await ctx.attempt("callbacks only", _start(run, "callbacks", attach_completion_callbacks=True))
    await ctx.attempt("the starting request", _start(run, "first", attach_request_id=True))
    ctx.record("described", (await run.describe()).workflow_extended_info)
    await run.record_history()


@scenario
async def link_errors(ctx: Context) -> None:
    """Links that do not say what they point to, that are too large, or of no kind."""
    run = await ctx.start()
    run_id = "0190c7a8-0000-7000-8000-000000000001"
    event = common.Link.WorkflowEvent
    links = {
        "nothing": common.Link(),
        "event: namespace": common.Link(workflow_event=event(workflow_id="w", run_id=run_id)),
        "event: workflow": common.Link(workflow_event=event(namespace="n", run_id=run_id)),
        "event: run": common.Link(workflow_event=event(namespace="n", workflow_id="w")),
        "event: type": common.Link(
            workflow_event=event(
                namespace="n", workflow_id="w", run_id=run_id, event_ref=event.EventReference(event_id=3)
            )
        ),
        "event: too large": common.Link(
            workflow_event=event(namespace="n" * 4000, workflow_id="w", run_id=run_id)
        ),
        "job": common.Link(batch_job=common.Link.BatchJob()),
    }
    for label, link in links.items():
        await ctx.attempt(label, ctx.client.signal(run.workflow_id, links=[link]))
    start = ctx.client.start(ctx.id("other"), run.task_queue, links=[links["event: run"]])
    await ctx.attempt("start", start)
    signal_with_start = workflowservice.SignalWithStartWorkflowExecutionRequest(
        namespace=ctx.client.namespace,
        workflow_id=ctx.id("other"),
        workflow_type=common.WorkflowType(name="flow"),
        task_queue=ctx.client.start_request("", run.task_queue).task_queue,
        signal_name="go",
        links=[links["event: run"]],
    )
    await ctx.attempt("signal with start", signal_with_start)
