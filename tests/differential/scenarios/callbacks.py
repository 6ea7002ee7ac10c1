"""Completion callbacks: operations that are workflows of the same server, how they end, and who is told."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.chains import TRANSITIONS
from tests.differential.scenarios.nexus import (
    ENDED,
    NexusTask,
    answer,
    done,
    poll_nexus,
    refuse,
    schedule,
    scheduled,
    started,
    until_has,
)
from tests.differential.scenarios.nexus import handler_failure as refusal
from tests.support.builders import (
    application_failure,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    payloads,
    retry_policy,
)
from tests.support.proto import common, enums, workflow

EventType = enums.EventType
State = enums.CallbackState
_USE_EXISTING = enums.WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
TOKEN = "callbacks.callback.nexus.header.temporal-callback-token"
ATTRIBUTES = "workflow_execution_started_event_attributes.completion_callbacks"
ATTACHED = "workflow_execution_options_updated_event_attributes.attached_completion_callbacks"


def callback_of(task: NexusTask, *, links: bool = True) -> common.Callback:
    """The callback that a handler attaches to the workflow that it starts."""
    start = task.request.start_operation
    made = common.Callback(nexus=common.Callback.Nexus(url=start.callback))
    made.nexus.header.update(start.callback_header)
    made.nexus.header["Nexus-Operation-Token"] = "token"
    if links:
        link = made.links.add().workflow_event
        link.namespace, link.workflow_id, link.run_id = "n", "w", "r"
        link.event_ref.event_id = 5
        link.event_ref.event_type = EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED
    return made


async def backed(ctx: Context, **fields: Any) -> tuple[Run, Run]:
    """A caller whose operation is a workflow, and that workflow; the caller was told that it started."""
    caller, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    handler = await ctx.start("handler", completion_callbacks=[callback_of(task)], **fields)
    await answer(ctx, task, **started())
    await until_has(caller, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    return caller, handler


async def settled(run: Run) -> None:
    """Waits until every callback of the run is delivered, or will never be."""
    ends = (State.CALLBACK_STATE_SUCCEEDED, State.CALLBACK_STATE_FAILED)
    await run.until_described("callbacks", lambda found: all(info.state in ends for info in found.callbacks))


async def record_both(caller: Run, handler: Run, label: str = "") -> None:
    """Records the caller's history, and the handler's with its description."""
    await caller.record_history(f"{label}caller")
    drop = [f"{ATTRIBUTES}.nexus.header.temporal-callback-token"]
    drop.append(f"{ATTACHED}.nexus.header.temporal-callback-token")
    await handler.record_history(f"{label}handler", drop=drop)
    handler.context.record(f"{label}described", await handler.describe(), drop=[TRANSITIONS, TOKEN])


@scenario
async def callback_each_end(ctx: Context) -> None:
    """An operation ends as its workflow does: with a result or none, failed, cancelled, terminated, timed out."""
    ends: dict[str, Any] = {
        "completed": complete_workflow(payloads("result", "second")),
        "nothing": complete_workflow(),
        "failed": fail_workflow(application_failure("broken", type="Broken")),
        "cancelled": cancel_workflow(payloads("details")),
        "terminated": None,
        "timed out": None,
    }
    caller, task_queue = await scheduled(ctx)
    name = (await caller.events())[4].nexus_operation_scheduled_event_attributes.endpoint
    for label, end in ends.items():
        if label != "completed":
            caller = await ctx.start(f"{label.replace(' ', '-')}-caller")
            await caller.step(schedule(name))
        task = await poll_nexus(ctx, task_queue)
        fields: dict[str, Any] = {"workflow_run_timeout": duration(1)} if label == "timed out" else {}
        handler = await ctx.start(
            f"{label.replace(' ', '-')}-handler", completion_callbacks=[callback_of(task)], **fields
        )
        await answer(ctx, task, **started())
        await until_has(caller, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
        if end is not None:
            await handler.step(end)
        elif label == "terminated":
            await ctx.client.terminate(handler.workflow_id)
        await ctx.until("end", caller.events, lambda events: any(e.event_type in ENDED for e in events))
        await settled(handler)
        await record_both(caller, handler, f"{label} ")


@scenario
async def callback_while_open(ctx: Context) -> None:
    """A callback waits while its workflow runs."""
    _, handler = await backed(ctx)
    ctx.record("described", await handler.describe(), drop=[TRANSITIONS, TOKEN])


@scenario
async def callback_before_answer(ctx: Context) -> None:
    """A workflow that ends before its handler has answered: the caller is told of start and end together."""
    caller, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    handler = await ctx.start("handler", completion_callbacks=[callback_of(task)])
    await handler.step(complete_workflow(payloads("early")))
    await until_has(caller, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    await ctx.attempt("answer", answer(ctx, task, **started()))
    await settled(handler)
    await record_both(caller, handler)


@scenario
async def callback_after_failed_answer(ctx: Context) -> None:
    """The handler's answer was lost on the way: the operation is tried again, and its workflow ends meanwhile."""
    caller, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    handler = await ctx.start("handler", completion_callbacks=[callback_of(task)])
    await refuse(ctx, task, failure=refusal("UNAVAILABLE"))
    await caller.until_described("backing off", lambda found: found.pending_nexus_operations[0].attempt == 1)
    await handler.step(complete_workflow(payloads("early")))
    await until_has(caller, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    await settled(handler)
    await record_both(caller, handler)


@scenario
async def callback_of_a_chain(ctx: Context) -> None:
    """Continue-as-new and a retry take the callback over; the last run of the chain delivers it."""
    caller, handler = await backed(ctx)
    await handler.step(continue_as_new(retry_policy=retry_policy(attempts=2, initial_s=1)))
    second = Run(ctx, handler.workflow_id, "", handler.task_queue)
    await second.step(fail_workflow(application_failure()))
    await second.step(complete_workflow(payloads("last")))
    await until_has(caller, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    await settled(second)
    await record_both(caller, handler, "first ")
    ctx.record("last described", await second.describe(), drop=[TRANSITIONS, TOKEN])


@scenario
async def callback_attached(ctx: Context) -> None:
    """A second operation attaches to the workflow of the first: both are told, each with its own link."""
    caller, handler = await backed(ctx)
    name = (await caller.events())[4].nexus_operation_scheduled_event_attributes.endpoint
    other = await ctx.start("other")
    await other.step(schedule(name))
    task = await poll_nexus(ctx, ctx.id("endpoint-queue"))
    options = workflow.OnConflictOptions(
        attach_request_id=True, attach_completion_callbacks=True, attach_links=True
    )
    for _ in range(2):  # the second time it is known
        await ctx.client.start(
            handler.workflow_id,
            handler.task_queue,
            request_id=task.request.start_operation.request_id,
            workflow_id_conflict_policy=_USE_EXISTING,
            on_conflict_options=options,
            completion_callbacks=[callback_of(task)],
        )
    await handler.step(complete_workflow(payloads("both")))
    for run in (caller, other):
        await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    await settled(handler)
    await record_both(caller, handler)
    await other.record_history("other")


@scenario
async def callback_to_nobody(ctx: Context) -> None:
    """The operation is gone before its workflow ends: the callback fails for good."""
    caller, handler = await backed(ctx)
    await ctx.client.terminate(caller.workflow_id)
    await handler.step(complete_workflow())
    await settled(handler)
    described = await handler.describe()
    ctx.record("state", [int(info.state) for info in described.callbacks])


@scenario
async def callback_of_done(ctx: Context) -> None:
    """The operation ended otherwise: its workflow's callback fails for good."""
    caller, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    handler = await ctx.start("handler", completion_callbacks=[callback_of(task)])
    await answer(ctx, task, **done())
    await until_has(caller, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    await handler.step(complete_workflow())
    await settled(handler)
    described = await handler.describe()
    ctx.record("callbacks", list(described.callbacks), drop=[TOKEN.removeprefix("callbacks.")])


@scenario
async def callback_refused(ctx: Context) -> None:
    """Callbacks that cannot be attached."""

    def nexus(url: str, **header: str) -> common.Callback:
        return common.Callback(nexus=common.Callback.Nexus(url=url, header=header))

    system = "temporal://system"
    internal = common.Callback(internal=common.Callback.Internal(data=b"x"))
    bad = {
        "not allowed": [nexus("http://localhost:1/x")],
        "https": [nexus("https://localhost/x")],
        "odd scheme": [nexus("ftp://localhost")],
        "no host": [nexus("http:///x")],
        "long": [nexus("http://localhost/" + "x" * 1000)],
        "large header": [nexus(system, k="v" * 8192)],
        "nothing": [common.Callback()],
        "internal": [internal],
        "internal and nothing": [internal, common.Callback()],
        "internal and odd": [internal, nexus("ftp://localhost")],
        "too many": [nexus(system) for _ in range(2001)],
    }
    for label, callbacks in bad.items():
        request = ctx.client.start_request(
            ctx.id(label.replace(" ", "-")), ctx.id("queue"), completion_callbacks=callbacks
        )
        await ctx.attempt(label, request)
