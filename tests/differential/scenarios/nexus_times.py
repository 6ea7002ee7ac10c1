"""Nexus: pending operations while time runs out, attempts fail, endpoints change, and their callers are reset."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.callbacks import callback_of, settled
from tests.differential.scenarios.chains import TRANSITIONS
from tests.differential.scenarios.nexus import (
    answer,
    cancel,
    done,
    endpoint,
    handler_failure,
    poll_nexus,
    record,
    refuse,
    schedule,
    scheduled,
    started,
    until_has,
    worker_target,
)
from tests.differential.scenarios.resets import do_reset
from tests.support.builders import (
    application_failure,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    payloads,
)
from tests.support.proto import enums, nexus, operatorservice

EventType = enums.EventType
STARTED = EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED
COMPLETED = EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED
FAILED = EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED
TIMED_OUT = EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT


async def backing_off(run: Run) -> Any:
    """Waits until an attempt to start has failed."""
    return await run.until_described(
        "backing off", lambda found: found.pending_nexus_operations[0].attempt == 1
    )


@slow_scenario
async def nexus_timeouts_in_each_state(ctx: Context) -> None:
    """Timeouts of operations that are scheduled, tried again, and started; each timeout alone and beside the others."""
    kinds = {
        "to close": {"schedule_to_close_timeout": duration(4)},
        "to start": {"schedule_to_start_timeout": duration(4)},
        "start to close": {"start_to_close_timeout": duration(4)},
        "to start before to close": {
            "schedule_to_start_timeout": duration(4),
            "schedule_to_close_timeout": duration(8),
        },
        "start to close before to close": {
            "start_to_close_timeout": duration(2),
            "schedule_to_close_timeout": duration(30),
        },
    }

    async def one(part: Context, label: str) -> None:
        kind, _, state = label.partition(" and ")
        run, task_queue = await scheduled(part, **kinds[kind])
        task = await poll_nexus(part, task_queue)
        if state == "tried again":
            await refuse(part, task, failure=handler_failure("UNAVAILABLE"))
            part.record("backing off", (await backing_off(run)).pending_nexus_operations[0])
        elif state == "started":
            await answer(part, task, **started())
            await until_has(run, STARTED)
            part.record("started", (await run.describe()).pending_nexus_operations[0])
        await until_has(run, TIMED_OUT)
        if state == "asked":
            await part.attempt("late", answer(part, task, **done()))
        await record(run)

    labels = [
        f"{kind} and {state}"
        for kind in kinds
        for state in ("asked", "tried again", "started")
        if ("start" not in kind or (state == "started") == kind.startswith("start to close"))
    ]
    await ctx.side_by_side(labels, one)


@scenario
async def nexus_run_ends_with_pending(ctx: Context) -> None:
    """A run with operations of each state ends in each way: nobody is asked any more, late answers are refused."""
    ends: dict[str, Any] = {
        "failed": fail_workflow(application_failure("broken")),
        "continued": continue_as_new(),
        "terminated": None,
    }

    async def one(part: Context, label: str) -> None:
        name, task_queue = await endpoint(part)
        run = await part.start()
        await run.step(schedule(name), schedule(name, operation="other"))
        await answer(part, await poll_nexus(part, task_queue), **started())
        second = await poll_nexus(part, task_queue)
        await until_has(run, STARTED)
        if label == "terminated":
            await part.client.terminate(run.workflow_id)
        else:
            await run.step(ends[label])
        await part.until("closed", run.events, lambda found: _is_closed(found[-1]))
        await part.attempt("late", answer(part, second, **started()))
        await part.pause(0.3)
        events = await run.events()
        part.record("events", [EventType.Name(event.event_type) for event in events])

    await ctx.side_by_side(ends, one)


def _is_closed(event: Any) -> bool:
    name = EventType.Name(event.event_type)
    return name.startswith("EVENT_TYPE_WORKFLOW_EXECUTION_") and not name.endswith(("STARTED", "SIGNALED"))


@scenario
async def nexus_task_fails_beside(ctx: Context) -> None:
    """A workflow task that fails or is refused while operations report: what waited comes with the next task."""
    run, task_queue = await scheduled(ctx)
    await run.signal()
    held = await run.poll()
    await answer(ctx, await poll_nexus(ctx, task_queue), **done())
    await run.until_described("done", lambda found: not found.pending_nexus_operations)
    await run.fail_task(held)
    task = await run.poll()
    ctx.record("next task", [EventType.Name(event.event_type) for event in task.history.events])
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def nexus_reset_before_and_after(ctx: Context) -> None:
    """Resets before an operation was scheduled, after that, and after its request to cancel; in each state of it."""

    async def one(part: Context, label: str) -> None:
        point, _, state = label.partition(" and ")
        name, task_queue = await endpoint(part)
        run = await part.start()
        await run.step()
        await run.signal("schedule")
        await run.step(schedule(name))
        task = await poll_nexus(part, task_queue)
        if state == "tried again":
            await refuse(part, task, failure=handler_failure("UNAVAILABLE"))
            await backing_off(run)
        elif state == "started":
            await answer(part, task, **started())
            await until_has(run, STARTED)
        elif state == "failed":
            await answer(part, task, failure=application_failure("broken"))
            await until_has(run, FAILED)
        await run.signal("again")
        await run.step()
        events = await run.events()
        finished = [e.event_id for e in events if e.HasField("workflow_task_completed_event_attributes")]
        new = await do_reset(run, finished[{"before": 1, "after": 2}[point]])
        if state == "asked":
            await part.attempt("answered", answer(part, task, **started()))
        await part.pause(0.5)
        await new.record_history("new")
        described = await new.describe()
        part.record("pending", list(described.pending_nexus_operations))

    labels = [
        f"{point} and {state}"
        for point in ("before", "after")
        for state in ("asked", "tried again", "started", "failed")
    ]
    await ctx.side_by_side(labels, one)


@scenario
async def nexus_reset_then_completed(ctx: Context) -> None:
    """The workflow of an operation ends after its caller was reset: the new run is told."""
    caller, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    handler = await ctx.start("handler", completion_callbacks=[callback_of(task)])
    await answer(ctx, task, **started())
    await until_has(caller, STARTED)
    await caller.step()
    new = await do_reset(caller, (await caller.events())[-1].event_id)
    await handler.step(complete_workflow(payloads("late")))
    await settled(handler)
    await ctx.pause(0.5)
    await new.record_history("new")
    ctx.record("states", [int(info.state) for info in (await handler.describe()).callbacks])


async def _registered(ctx: Context, name: str) -> nexus.Endpoint:
    listed = await ctx.client.call(
        operatorservice.ListNexusEndpointsRequest(name=name), operatorservice.ListNexusEndpointsResponse
    )
    return listed.endpoints[0]


@scenario
async def nexus_endpoint_changes(ctx: Context) -> None:
    """An endpoint changes while an operation is to be tried again or cancelled: another queue, name, none at all."""

    async def one(part: Context, label: str) -> None:
        change, _, state = label.partition(" and ")
        run, task_queue = await scheduled(part)
        task = await poll_nexus(part, task_queue)
        found = await _registered(part, task.request.endpoint)
        spec = nexus.EndpointSpec()
        spec.CopyFrom(found.spec)
        other = part.id("other-queue")
        if change == "queue":
            spec.target.CopyFrom(worker_target(part.client.namespace, other))
        elif change == "name":
            spec.name += "-renamed"
        if state == "cancelled":
            await answer(part, task, **started())
            await until_has(run, STARTED)
        if change == "deleted":
            await part.client.invoke(
                operatorservice.DeleteNexusEndpointRequest(id=found.id, version=found.version)
            )
        else:
            await part.client.invoke(
                operatorservice.UpdateNexusEndpointRequest(id=found.id, version=found.version, spec=spec)
            )
        await part.pause(0.5)
        if state == "cancelled":
            await run.step(cancel(5))
        else:
            await refuse(part, task, failure=handler_failure("UNAVAILABLE"))
        if change == "deleted":
            failed = EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED
            await until_has(run, failed if state == "cancelled" else FAILED)
        else:
            again = await poll_nexus(part, other if change == "queue" else task_queue)
            part.record("endpoint", again.request.endpoint)
            part.record("variant", again.request.WhichOneof("variant"))
            if state == "tried again":
                await answer(part, again, **done())
                await until_has(run, COMPLETED)
        await run.record_history()

    labels = [
        f"{change} and {state}"
        for change in ("queue", "name", "deleted")
        for state in ("tried again", "cancelled")
    ]
    await ctx.side_by_side(labels, one)


@scenario
async def nexus_endpoint_unknown(ctx: Context) -> None:
    """Operations at endpoints that there are not, and at one of an address that nobody serves."""
    run = await ctx.start()
    await ctx.attempt("unknown", run.complete(await run.poll(), schedule("nowhere")))
    await ctx.attempt("no name", run.complete(await run.poll(), schedule("")))
    await run.record_history(drop=["workflow_task_failed_event_attributes.failure.stack_trace"])


@scenario
async def nexus_completed_twice(ctx: Context) -> None:
    """Two workflows with the same callback: the second one that ends is refused for good."""
    caller, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    handlers = [await ctx.start(label, completion_callbacks=[callback_of(task)]) for label in ("one", "two")]
    await answer(ctx, task, **started())
    await until_has(caller, STARTED)
    for handler in handlers:
        await handler.step(complete_workflow(payloads("end")))
        await settled(handler)
    await caller.record_history("caller")
    for label, handler in zip(("one", "two"), handlers, strict=True):
        found = (await handler.describe()).callbacks
        ctx.record(f"callback of {label}", [[int(info.state), info.attempt] for info in found])


@scenario
async def nexus_result_of_workflow(ctx: Context) -> None:
    """A workflow with no result, several, or a large one as an operation; and failures with causes."""
    inner = application_failure("inner")
    outer = application_failure("outer")
    outer.cause.CopyFrom(inner)
    ends: dict[str, Any] = {
        "none": complete_workflow(),
        "several": complete_workflow(payloads("one", "two")),
        "large": complete_workflow(payloads("x" * 1_900_000)),
        "failure": fail_workflow(outer),
    }

    async def one(part: Context, label: str) -> None:
        caller, task_queue = await scheduled(part)
        task = await poll_nexus(part, task_queue)
        handler = await part.start("handler", completion_callbacks=[callback_of(task)])
        await answer(part, task, **started())
        await until_has(caller, STARTED)
        await handler.step(ends[label])
        await settled(handler)
        events = await caller.events()
        end = [event for event in events if event.event_type in (COMPLETED, FAILED)]
        large = "nexus_operation_completed_event_attributes.result.data" if label == "large" else "none"
        part.record("end", end, drop=[large])
        part.record("callbacks", [int(c.state) for c in (await handler.describe()).callbacks])

    await ctx.side_by_side(ends, one)


@scenario
async def nexus_described_beside(ctx: Context) -> None:
    """Pending operations in each state at once, as a description shows them."""
    name, task_queue = await endpoint(ctx)
    run = await ctx.start()
    operations = ("waits", "started", "backs off")
    await run.step(*[schedule(name, operation=operation) for operation in operations])
    for _ in operations:
        task = await poll_nexus(ctx, task_queue)
        operation = task.request.start_operation.operation
        if operation == "started":
            await answer(ctx, task, **started())
        elif operation == "backs off":
            await refuse(ctx, task, failure=handler_failure("INTERNAL", cause=application_failure("why")))
    await run.until_described(
        "states",
        lambda found: sorted(int(pending.state) for pending in found.pending_nexus_operations) == [1, 2, 3],
    )
    described = await run.describe()
    described.pending_nexus_operations.sort(key=lambda pending: pending.scheduled_event_id)
    ctx.record("described", described, drop=[TRANSITIONS])
