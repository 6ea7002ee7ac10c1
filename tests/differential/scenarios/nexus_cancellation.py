"""Nexus: requests to cancel an operation in each of its states, and what a handler may answer to them."""

from __future__ import annotations

import time
from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.chains import TRANSITIONS
from tests.differential.scenarios.nexus import (
    ENDED,
    NexusTask,
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
)
from tests.support.builders import (
    application_failure,
    canceled_failure,
    complete_workflow,
    continue_as_new,
    duration,
)
from tests.support.proto import enums, nexus, workflowservice

EventType = enums.EventType
SCHEDULED = EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED
STARTED = EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED
CANCEL_COMPLETED = EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED
CANCEL_FAILED = EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED
TIMED_OUT = EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT
Behavior = enums.NexusHandlerErrorRetryBehavior


async def running(ctx: Context, **fields: Any) -> tuple[Run, str]:
    """A caller whose operation has started, told of it, and the handlers' queue."""
    run, task_queue = await scheduled(ctx, **fields)
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    await until_has(run, STARTED)
    return run, task_queue


async def confirm(ctx: Context, task: NexusTask) -> None:
    """Answers a task to cancel."""
    response = nexus.Response(cancel_operation=nexus.CancelOperationResponse())
    await ctx.client.invoke(
        workflowservice.RespondNexusTaskCompletedRequest(
            namespace=ctx.client.namespace, task_token=task.task_token, response=response
        )
    )


async def backing_off(run: Run) -> Any:
    """Waits until a request to cancel was refused for now."""
    return await run.until_described(
        "cancellation tried",
        lambda found: found.pending_nexus_operations[0].cancellation_info.attempt == 1,
    )


@scenario
async def nexus_cancel_answers(ctx: Context) -> None:
    """Errors in both forms, and with each retry behaviour, as the answer to a request to cancel."""
    kinds = ("BAD_REQUEST", "NOT_FOUND", "RESOURCE_EXHAUSTED", "INTERNAL", "UPSTREAM_TIMEOUT", "")
    answers: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        name = kind.lower().replace("_", " ") or "no type"
        answers[name] = {"failure": handler_failure(kind)}
        old = nexus.HandlerError(error_type=kind, failure=nexus.Failure(message="no"))
        answers[f"older {name}"] = {"error": old}
    answers["internal never"] = {
        "failure": handler_failure(
            "INTERNAL", behavior=Behavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE
        )
    }
    answers["not found again"] = {
        "failure": handler_failure(
            "NOT_FOUND",
            behavior=Behavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE,
            cause=application_failure("why"),
        )
    }

    async def one(part: Context, label: str) -> None:
        # Each at an endpoint of its own: the official server stops asking one that has refused a few times in a row.
        run, task_queue = await running(part)
        await run.step(cancel(5))
        await refuse(part, await poll_nexus(part, task_queue), **answers[label])
        described = await backing_off(run)
        part.record("pending", list(described.pending_nexus_operations))
        await run.record_history()

    await ctx.side_by_side(answers, one)


@scenario
async def nexus_cancel_odd_answers(ctx: Context) -> None:
    """Answers to a request to cancel that are none: nothing, or the answer to a start."""
    answers: dict[str, nexus.Response] = {
        "empty": nexus.Response(),
        "no response": nexus.Response(),
        "started": nexus.Response(start_operation=nexus.StartOperationResponse(**started())),
        "done": nexus.Response(start_operation=nexus.StartOperationResponse(**done())),
    }

    async def one(part: Context, label: str) -> None:
        run, task_queue = await running(part)
        await run.step(cancel(5))
        task = await poll_nexus(part, task_queue)
        request = workflowservice.RespondNexusTaskCompletedRequest(
            namespace=part.client.namespace, task_token=task.task_token
        )
        if label != "no response":
            request.response.CopyFrom(answers[label])
        await part.attempt("answered", request)
        described = await backing_off(run)
        part.record("pending", described.pending_nexus_operations[0])
        await run.record_history()

    await ctx.side_by_side(answers, one)


@scenario
async def nexus_cancel_when_scheduled(ctx: Context) -> None:
    """The task that schedules an operation asks it to cancel, too; the operation then ends in each way at its start."""
    ends: dict[str, dict[str, Any]] = {
        "done": done(),
        "failed": {"failure": application_failure("broken")},
        "cancelled": {"failure": canceled_failure("no")},
        "started": started(),
    }

    async def one(part: Context, label: str) -> None:
        name, task_queue = await endpoint(part)
        run = await part.start()
        await run.step(schedule(name), cancel(5))
        part.record("described before", await run.describe(), drop=[TRANSITIONS])
        await answer(part, await poll_nexus(part, task_queue), **ends[label])
        if label == "started":
            await confirm(part, await poll_nexus(part, task_queue))
            await until_has(run, CANCEL_COMPLETED)
        else:
            await part.until("end", run.events, lambda found: any(e.event_type in ENDED for e in found))
        await record(run)

    await ctx.side_by_side(ends, one)


@scenario
async def nexus_cancel_while_start_backs_off(ctx: Context) -> None:
    """A request to cancel comes while the start is to be tried again, and waits for that."""
    run, task_queue = await scheduled(ctx)
    await refuse(ctx, await poll_nexus(ctx, task_queue), failure=handler_failure("UNAVAILABLE"))
    await run.until_described("backing off", lambda found: found.pending_nexus_operations[0].attempt == 1)
    await run.signal()
    await run.step(cancel(5))
    pending = (await run.describe()).pending_nexus_operations[0]
    ctx.record("cancellation", pending.cancellation_info)
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    await confirm(ctx, await poll_nexus(ctx, task_queue))
    await until_has(run, CANCEL_COMPLETED)
    await record(run)


@scenario
async def nexus_cancel_meanwhile(ctx: Context) -> None:
    """The caller closes while a handler has the request to cancel, or refused it for now."""

    async def one(part: Context, label: str) -> None:
        run, task_queue = await running(part)
        await run.step(cancel(5))
        task = await poll_nexus(part, task_queue)
        if "refused" in label:
            await refuse(part, task, failure=handler_failure("UNAVAILABLE"))
            await backing_off(run)
        if "terminated" in label:
            await part.client.terminate(run.workflow_id)
        else:
            await run.signal()
            await run.step(complete_workflow() if "completes" in label else continue_as_new())
        if "refused" not in label:
            await part.attempt("late", confirm(part, task))
        await part.pause(0.3)
        await run.record_history()

    labels = [
        f"{what} {how}" for what in ("completes", "continues", "terminated") for how in ("asked", "refused")
    ]
    await ctx.side_by_side(labels, one)


@scenario
async def nexus_cancel_after_asked(ctx: Context) -> None:
    """Once a handler took the request or refused it for good: described, and asked again in vain."""

    async def one(part: Context, label: str) -> None:
        run, task_queue = await running(part)
        await run.step(cancel(5))
        task = await poll_nexus(part, task_queue)
        if label == "taken":
            await confirm(part, task)
        else:
            await refuse(part, task, failure=handler_failure("NOT_FOUND"))
        await until_has(run, CANCEL_COMPLETED if label == "taken" else CANCEL_FAILED)
        await part.attempt("again", run.complete(await run.poll(), cancel(5)))
        await record(run)

    await ctx.side_by_side(("taken", "refused"), one)


@scenario
async def nexus_cancel_without_time(ctx: Context) -> None:
    """A request to cancel with too little time left before each timeout of an operation."""
    timeout_s, left_s = 3.0, 1.4

    async def one(part: Context, label: str) -> None:
        run, _ = await running(part, **{f"{label}_timeout": duration(timeout_s)})
        task = await run.poll()
        since = SCHEDULED if label == "schedule_to_close" else STARTED
        began = next(event for event in await run.events() if event.event_type == since).event_time
        await part.pause(max(began.ToNanoseconds() / 1e9 + timeout_s - left_s - time.time(), 0))
        await run.complete(task, cancel(5))
        await until_has(run, CANCEL_FAILED, TIMED_OUT)
        await run.record_history()

    await ctx.side_by_side(("schedule_to_close", "start_to_close"), one)
