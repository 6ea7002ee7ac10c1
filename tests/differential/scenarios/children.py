"""Children, parents, and workflows that signal and cancel each other."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.chains import BACKOFF, TRANSITIONS, next_run
from tests.support.builders import (
    application_failure,
    cancel_external,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    header,
    keyword,
    memo,
    payloads,
    queue,
    retry_policy,
    signal_external,
    start_child,
    start_timer,
    user_metadata,
)
from tests.support.proto import common, enums

EventType = enums.EventType
Policy = enums.ParentClosePolicy
Reuse = enums.WorkflowIdReusePolicy
NOWHERE = "0190c7a8-0000-7000-8000-000000000001"
STARTED = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
START_FAILED = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED
ENDED = {
    name: EventType.Value(f"EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_{name}")
    for name in ("COMPLETED", "FAILED", "CANCELED", "TIMED_OUT", "TERMINATED")
}


async def until_has(run: Run, *types: int) -> None:
    """Waits until the run's history has an event of each of these types (outside of a workflow task)."""
    await run.context.until(
        f"events {types}",
        run.events,
        lambda events: set(types) <= {int(event.event_type) for event in events},
    )


async def child_of(run: Run, workflow_id: str, task_queue: str = "") -> Run:
    """The child's first run, once its parent knows of it."""
    await until_has(run, STARTED)
    started = [
        event.child_workflow_execution_started_event_attributes.workflow_execution
        for event in await run.events()
        if event.event_type == STARTED
    ]
    run_id = next(named.run_id for named in started if named.workflow_id == workflow_id)
    return Run(run.context, workflow_id, run_id, task_queue or run.task_queue)


async def parent_and_child(ctx: Context, label: str = "wf", **fields: Any) -> tuple[Run, Run]:
    """A parent whose child runs; the parent has seen that it does."""
    parent = await ctx.start(label)
    child_queue = ctx.id(f"{label}-child-queue")
    fields.setdefault("task_queue", queue(child_queue))
    await parent.step(start_child(ctx.id(f"{label}-child"), **fields))
    child = await child_of(parent, ctx.id(f"{label}-child"), child_queue)
    await parent.step()
    return parent, child


async def record_pair(parent: Run, child: Run) -> None:
    """Records both histories and descriptions."""
    await parent.record_history("parent")
    parent.context.record("parent described", await parent.describe(), drop=[TRANSITIONS])
    await child.record_history("child")
    parent.context.record("child described", await child.describe(), drop=[TRANSITIONS])


@scenario
async def child_completes(ctx: Context) -> None:
    """A child with everything left out completes; pending children, parent and root shown."""
    parent, child = await parent_and_child(ctx)
    ctx.record("pending", await parent.describe(), drop=[TRANSITIONS])
    ctx.record("child pending", await child.describe(), drop=[TRANSITIONS])
    await child.step(complete_workflow(payloads("result")))
    await until_has(parent, ENDED["COMPLETED"])
    await parent.step(complete_workflow())
    await record_pair(parent, child)


@scenario
async def child_full(ctx: Context) -> None:
    """A child with every field of its command."""
    parent = await ctx.start(
        priority=common.Priority(priority_key=2, fairness_key="p"), workflow_execution_timeout=duration(200)
    )
    command = start_child(
        ctx.id("child"),
        namespace="default",
        task_queue=queue(ctx.id("other")),
        input=payloads("in"),
        workflow_execution_timeout=duration(100),
        workflow_run_timeout=duration(150),
        workflow_task_timeout=duration(5),
        parent_close_policy=Policy.PARENT_CLOSE_POLICY_ABANDON,
        control="control",
        workflow_id_reuse_policy=Reuse.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
        retry_policy=retry_policy(attempts=3),
        header=header({"h": "v"}),
        memo=memo({"m": "n"}),
        search_attributes=common.SearchAttributes(indexed_fields={"Shade": keyword("red")}),
        priority=common.Priority(priority_key=4),
    )
    command.user_metadata.CopyFrom(user_metadata("summary", "details"))
    await parent.step(command)
    child = await child_of(parent, ctx.id("child"), ctx.id("other"))
    await parent.step(complete_workflow())
    await record_pair(parent, child)


@scenario
async def child_other_ends(ctx: Context) -> None:
    """Children that fail, are cancelled, terminated, and time out."""
    for name, command in {
        "failed": fail_workflow(application_failure("no")),
        "canceled": cancel_workflow(payloads("details")),
    }.items():
        parent, child = await parent_and_child(ctx, name)
        await child.step(command)
        await until_has(parent, ENDED[name.upper()])
        await parent.record_history(name)
    parent, child = await parent_and_child(ctx, "terminated")
    await ctx.client.terminate(child.workflow_id)
    await until_has(parent, ENDED["TERMINATED"])
    await parent.record_history("terminated")
    parent, child = await parent_and_child(ctx, "timeout", workflow_run_timeout=duration(1))
    await until_has(parent, ENDED["TIMED_OUT"])
    await parent.record_history("timed out")


@scenario
async def child_ends_while_parent_works(ctx: Context) -> None:
    """Started and completed wait in the buffer of the parent's workflow task, with a signal between."""
    parent = await ctx.start()
    await parent.step(start_timer("t", 60))
    await parent.signal()
    task = await parent.poll()
    await parent.complete(
        task,
        start_child(ctx.id("child"), task_queue=queue(ctx.id("q"))),
        force_create_new_workflow_task=True,
    )
    task = await parent.poll()
    child_run = Run(ctx, ctx.id("child"), "", ctx.id("q"))
    polled = await child_run.poll()
    await parent.signal("between")
    await child_run.complete(polled, complete_workflow(payloads("done")))
    await child_run.until_closed()
    await ctx.pause(1)
    await parent.complete(task)
    await until_has(parent, ENDED["COMPLETED"])
    await parent.record_history()


@scenario
async def child_start_fails(ctx: Context) -> None:
    """The child's workflow id is in use, or was and may not be again."""
    other = await ctx.start("other")
    parent = await ctx.start("running")
    await parent.step(start_child(other.workflow_id, control="c"))
    await until_has(parent, START_FAILED)
    await parent.record_history("running")
    await other.step(complete_workflow())
    for name in ("REJECT_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY"):
        parent = await ctx.start(name)
        policy = Reuse.Value(f"WORKFLOW_ID_REUSE_POLICY_{name}")
        await parent.step(start_child(other.workflow_id, workflow_id_reuse_policy=policy))
        await until_has(parent, START_FAILED)
        await parent.record_history(name)
    parent = await ctx.start("allowed")
    await parent.step(start_child(other.workflow_id))
    await until_has(parent, STARTED)
    await parent.record_history("allowed")


@scenario
async def child_terminates_running(ctx: Context) -> None:
    """TERMINATE_IF_RUNNING of a child."""
    other = await ctx.start("other")
    parent = await ctx.start("parent")
    policy = Reuse.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING
    await parent.step(start_child(other.workflow_id, workflow_id_reuse_policy=policy))
    await until_has(parent, STARTED if await _replaced(other) else START_FAILED)
    await parent.record_history("parent")
    await other.record_history("other")


async def _replaced(other: Run) -> bool:
    await other.context.pause(0.5)
    running = enums.WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
    return (await other.describe()).workflow_execution_info.status != running


@scenario
async def parent_close_policies(ctx: Context) -> None:
    """The parent completes: each policy, for a child and for one that has continued as new."""
    policies = {
        "terminate": Policy.PARENT_CLOSE_POLICY_TERMINATE,
        "cancel": Policy.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
        "abandon": Policy.PARENT_CLOSE_POLICY_ABANDON,
    }
    for name, policy in policies.items():
        parent, child = await parent_and_child(ctx, name, parent_close_policy=policy)
        await parent.signal()
        await parent.step(complete_workflow())
        await _close_event(child, name)
        await child.record_history(name)
        ctx.record(f"{name}: described", await child.describe(), drop=[TRANSITIONS])
    for name, policy in policies.items():
        parent, child = await parent_and_child(ctx, f"chain-{name}", parent_close_policy=policy)
        await child.step(continue_as_new())
        following = await next_run(child)
        # Its first task comes a little later, and what the parent's end does must not overtake it.
        await until_has(following, EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
        await ctx.client.terminate(parent.workflow_id)
        await _close_event(following, name)
        await following.record_history(f"chain: {name}", drop=[BACKOFF])


async def _close_event(child: Run, name: str) -> None:
    if name == "terminate":
        await child.until_closed()
    elif name == "cancel":
        await until_has(child, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)


@scenario
async def parent_continues_as_new(ctx: Context) -> None:
    """What becomes of children when the parent continues as new."""
    for name in ("TERMINATE", "ABANDON", "REQUEST_CANCEL"):
        policy = Policy.Value(f"PARENT_CLOSE_POLICY_{name}")
        parent, child = await parent_and_child(ctx, name.lower(), parent_close_policy=policy)
        await parent.signal()
        await parent.step(continue_as_new())
        await ctx.pause(1)
        await child.record_history(name)


@scenario
async def child_chain(ctx: Context) -> None:
    """A child continues as new and is retried; the parent hears of the last run only."""
    parent, child = await parent_and_child(ctx, retry_policy=retry_policy(initial_s=1, attempts=2))
    await child.step(continue_as_new(retry_policy=retry_policy(initial_s=1, attempts=2)))
    child = await next_run(child)
    await child.step(fail_workflow(application_failure("first")))
    await child.record_history("second run", drop=[BACKOFF])
    child = await next_run(child)
    await child.until_event(EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
    await child.record_history("third run", drop=[BACKOFF])
    ctx.record("described", await child.describe(), drop=[TRANSITIONS])
    await child.step(fail_workflow(application_failure("last")))
    await until_has(parent, ENDED["FAILED"])
    await parent.record_history("parent")


@scenario
async def grandchild(ctx: Context) -> None:
    """Root and parent over two levels."""
    _parent, child = await parent_and_child(ctx)
    grand_queue = ctx.id("grand-queue")
    await child.step(start_child(ctx.id("grand"), task_queue=queue(grand_queue)))
    grand = await child_of(child, ctx.id("grand"), grand_queue)
    await grand.record_history("grand")
    ctx.record("described", await grand.describe(), drop=[TRANSITIONS])


@scenario
async def child_command_errors(ctx: Context) -> None:
    """Start child commands that are refused."""
    bad: dict[str, dict[str, Any]] = {
        "no id": {"workflow_id": ""},
        "no type": {"workflow_type": common.WorkflowType()},
        "long id": {"workflow_id": "x" * 1001},
        "long type": {"workflow_type": common.WorkflowType(name="x" * 1001)},
        "execution timeout": {"workflow_execution_timeout": duration(-1)},
        "run timeout": {"workflow_run_timeout": duration(-1)},
        "task timeout": {"workflow_task_timeout": duration(-1)},
        "retry": {"retry_policy": retry_policy(initial_s=1, coefficient=0.5)},
        "cron": {"cron_schedule": "nonsense"},
        "queue": {"task_queue": queue("/_sys/x")},
        "search attribute": {
            "search_attributes": common.SearchAttributes(indexed_fields={"No": keyword("x")})
        },
        "priority": {"priority": common.Priority(priority_key=-1)},
        "namespace": {"namespace": "temporal-system"},
    }
    for label, fields in bad.items():
        run = await ctx.start(label.replace(" ", "-"))
        task = await run.poll()
        values = {"workflow_id": "child"} | fields
        command = start_child(values.pop("workflow_id"), **values)
        await ctx.attempt(label, run.complete(task, command))
        await run.record_history(f"{label}: history")


# --- signals and cancellations ---


@scenario
async def external_signal(ctx: Context) -> None:
    """One workflow signals another, by id and by run."""
    other = await ctx.start("other")
    run = await ctx.start("sender")
    await run.step(
        signal_external(other.workflow_id, input=payloads("in"), header=header({"h": "v"}), control="c")
    )
    await until_has(run, EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED)
    # One after the other: the official server sends both at once, and either may be first.
    await run.step(signal_external(other.workflow_id, other.run_id, namespace="default"))
    await ctx.until("second", run.events, lambda events: len(events) >= 12)
    await run.record_history("sender")
    await other.record_history("other")


@scenario
async def external_cancel(ctx: Context) -> None:
    """One workflow asks another to cancel, twice; then one that is closed."""
    other = await ctx.start("other")
    run = await ctx.start("sender")
    await run.step(cancel_external(other.workflow_id, reason="why", control="c"))
    await until_has(run, EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
    await run.step(cancel_external(other.workflow_id, other.run_id))
    await ctx.until("second", run.events, lambda events: len(events) >= 12)
    await other.step(cancel_workflow())
    # One after the other: the official server does both at once, and either may be first.
    await run.step(cancel_external(other.workflow_id))
    await ctx.until("third", run.events, lambda events: len(events) >= 17)
    await run.step(signal_external(other.workflow_id))
    await until_has(run, EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
    await run.record_history("sender")
    await other.record_history("other")


@scenario
async def external_nobody(ctx: Context) -> None:
    """Targets that do not exist, itself, and runs that are no children."""
    other = await ctx.start("other")
    for label, command in {
        "signal nobody": signal_external(ctx.id("nobody"), control="c"),
        "signal no run": signal_external(other.workflow_id, NOWHERE),
        "signal itself": signal_external(ctx.id("signal-itself")),
        "signal no child": signal_external(other.workflow_id, child_workflow_only=True),
        "cancel nobody": cancel_external(ctx.id("nobody"), control="c"),
        "cancel no run": cancel_external(other.workflow_id, NOWHERE),
        "cancel itself": cancel_external(ctx.id("cancel-itself")),
        "cancel no child": cancel_external(other.workflow_id, child_workflow_only=True),
    }.items():
        run = await ctx.start(label.replace(" ", "-"))
        await run.step(command)
        await until_has(
            run,
            EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED
            if label.startswith("signal")
            else EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
        )
        await run.record_history(label)
    await other.record_history("other")


@scenario
async def external_to_child(ctx: Context) -> None:
    """A parent signals and cancels its child, and no other workflow may with `child_workflow_only`."""
    parent, child = await parent_and_child(ctx)
    await parent.signal()
    await parent.step(signal_external(child.workflow_id, child_workflow_only=True))
    await until_has(parent, EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED)
    await parent.step(cancel_external(child.workflow_id, child_workflow_only=True))
    await until_has(parent, EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
    await child.step(cancel_workflow())
    await until_has(parent, ENDED["CANCELED"])
    await parent.record_history("parent")
    await child.record_history("child")


@scenario
async def external_command_errors(ctx: Context) -> None:
    """Commands to other workflows that are refused."""
    bad = {
        "signal: no id": [signal_external("")],
        "signal: long id": [signal_external("x" * 1001)],
        "signal: run id": [signal_external("w", "nonsense")],
        "signal: no name": [signal_external("w", signal_name="")],
        "signal: namespace": [signal_external("w", namespace="temporal-system")],
        "cancel: no id": [cancel_external("")],
        "cancel: long id": [cancel_external("x" * 1001)],
        "cancel: run id": [cancel_external("w", "nonsense")],
        "cancel: namespace": [cancel_external("w", namespace="temporal-system")],
        "cancel: same task": [start_child("w"), cancel_external("w")],
    }
    for label, commands in bad.items():
        run = await ctx.start(label.replace(": ", "-").replace(" ", "-"))
        task = await run.poll()
        await ctx.attempt(label, run.complete(task, *commands))
        await run.record_history(f"{label}: history")
