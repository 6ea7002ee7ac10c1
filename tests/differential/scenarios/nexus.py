"""Nexus: the registry of endpoints, and operations of workflows whose handler is played by hand."""

from __future__ import annotations

from typing import Any

from tests.differential.context import POLL_TIMEOUT_S, Context, Run, ScenarioError
from tests.differential.registry import scenario
from tests.differential.scenarios.chains import TRANSITIONS
from tests.differential.scenarios.resets import do_reset
from tests.support.builders import (
    any_command,
    application_failure,
    canceled_failure,
    complete_workflow,
    duration,
    payload,
    payloads,
    queue,
    user_metadata,
)
from tests.support.proto import enums, failure, nexus, operatorservice, workflowservice

EventType = enums.EventType
STARTED = EventType.Value("EVENT_TYPE_NEXUS_OPERATION_STARTED")
COMPLETED = EventType.Value("EVENT_TYPE_NEXUS_OPERATION_COMPLETED")
ENDED = tuple(
    EventType.Value(f"EVENT_TYPE_NEXUS_OPERATION_{name}")
    for name in ("COMPLETED", "FAILED", "CANCELED", "TIMED_OUT")
)
RetryBehavior = enums.NexusHandlerErrorRetryBehavior
NexusTask = workflowservice.PollNexusTaskQueueResponse


# --- the handler, played by hand ---


def worker_target(namespace: str, task_queue: str) -> nexus.EndpointTarget:
    """An endpoint's target: workers that poll a task queue."""
    return nexus.EndpointTarget(
        worker=nexus.EndpointTarget.Worker(namespace=namespace, task_queue=task_queue)
    )


def dashed(ctx: Context, label: str) -> str:
    """A name of its own in the letters that an endpoint's may have."""
    return ctx.id(label).replace("_", "-")


async def endpoint(ctx: Context, label: str = "endpoint") -> tuple[str, str]:
    """Registers an endpoint of its own; returns its name and the queue of its handlers."""
    name, task_queue = dashed(ctx, label), ctx.id(f"{label}-queue")
    spec = nexus.EndpointSpec(name=name, target=worker_target(ctx.client.namespace, task_queue))
    await ctx.client.invoke(operatorservice.CreateNexusEndpointRequest(spec=spec))
    return name, task_queue


async def poll_nexus(ctx: Context, task_queue: str, *, timeout_s: float = POLL_TIMEOUT_S) -> NexusTask:
    """The next task of a handler."""
    request = workflowservice.PollNexusTaskQueueRequest(
        namespace=ctx.client.namespace, task_queue=queue(task_queue), identity=ctx.client.identity
    )
    task = await ctx.client.call(request, NexusTask, timeout_s=timeout_s)
    if not task.task_token:
        raise ScenarioError(f"no Nexus task on {task_queue} within {timeout_s} s")
    return task


async def answer(ctx: Context, task: NexusTask, **start: Any) -> None:
    """Answers a task to start an operation."""
    response = nexus.Response(start_operation=nexus.StartOperationResponse(**start))
    await ctx.client.invoke(
        workflowservice.RespondNexusTaskCompletedRequest(
            namespace=ctx.client.namespace, identity="handler", task_token=task.task_token, response=response
        )
    )


async def refuse(ctx: Context, task: NexusTask, **fields: Any) -> None:
    """Answers a task with an error of the handler."""
    await ctx.client.invoke(
        workflowservice.RespondNexusTaskFailedRequest(
            namespace=ctx.client.namespace, identity="handler", task_token=task.task_token, **fields
        )
    )


def started(token: str = "token", **fields: Any) -> dict[str, Any]:
    """An answer: the operation runs."""
    return {"async_success": nexus.StartOperationResponse.Async(operation_token=token, **fields)}


def done(text: str = "result", **fields: Any) -> dict[str, Any]:
    """An answer: the operation is done."""
    return {"sync_success": nexus.StartOperationResponse.Sync(payload=payload(text), **fields)}


def handler_failure(
    kind: str, message: str = "refused", behavior: int = 0, cause: failure.Failure | None = None
) -> failure.Failure:
    """An error of the handler itself."""
    info = failure.NexusHandlerFailureInfo(type=kind, retry_behavior=behavior)  # type: ignore[arg-type]
    return failure.Failure(message=message, nexus_handler_failure_info=info, cause=cause)


# --- the caller ---


def schedule(name: str, **fields: Any) -> Any:
    """A command: schedule an operation."""
    values: dict[str, Any] = {
        "endpoint": name,
        "service": "service",
        "operation": "operation",
        "input": payload("input"),
    }
    return any_command("schedule_nexus_operation", **(values | fields))


def cancel(scheduled_event_id: int) -> Any:
    """A command: ask an operation to cancel."""
    return any_command("request_cancel_nexus_operation", scheduled_event_id=scheduled_event_id)


async def scheduled(ctx: Context, **fields: Any) -> tuple[Run, str]:
    """A run that has scheduled an operation (event 5), and the handlers' queue."""
    name, task_queue = await endpoint(ctx)
    run = await ctx.start()
    await run.step(schedule(name, **fields))
    return run, task_queue


async def until_has(run: Run, *types: int) -> None:
    """Waits until the run's history has an event of each of these types."""
    await run.context.until(
        f"events {types}",
        run.events,
        lambda events: set(types) <= {int(event.event_type) for event in events},
    )


async def record(run: Run, label: str = "") -> None:
    """Records history and description."""
    await run.record_history(f"{label}history")
    run.context.record(f"{label}described", await run.describe(), drop=[TRANSITIONS])


def record_task(ctx: Context, label: str, task: NexusTask) -> None:
    """Records what a handler got, but for how much time is left, the token of the callback, and headers that the
    official server's own requests by HTTP leave behind."""
    request = nexus.Request()
    request.CopyFrom(task.request)
    start = request.start_operation
    for fields in (request.header, start.callback_header):
        for key in list(fields):
            if key.lower() in ("request-timeout", "operation-timeout", "temporal-callback-token"):
                fields[key] = "<set>"
            elif key in ("nexus-link", "nexus-request-id", "user-agent", "content-length"):
                del fields[key]
    ctx.record(label, request)


# --- scenarios ---


@scenario
async def nexus_sync(ctx: Context) -> None:
    """An operation that is done at once: what the handler gets, and the caller's history."""
    name, task_queue = await endpoint(ctx)
    run = await ctx.start()
    fields = {"nexus_header": {"Some-Header": "value"}}
    command = schedule(name, schedule_to_close_timeout=duration(60), **fields)
    command.user_metadata.CopyFrom(user_metadata("summary", "details"))
    await run.step(command)
    task = await poll_nexus(ctx, task_queue)
    record_task(ctx, "task", task)
    ctx.record("described pending", await run.describe(), drop=[TRANSITIONS])
    link = nexus.Link(
        url="temporal:///namespaces/n/workflows/w/r/history?referenceType=EventReference&eventID=3&"
        "eventType=WorkflowExecutionStarted",
        type="temporal.api.common.v1.Link.WorkflowEvent",
    )
    await answer(ctx, task, **done(links=[link]))
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    await run.step(complete_workflow(payloads("end")))
    await record(run)


@scenario
async def nexus_async_pending(ctx: Context) -> None:
    """An operation that runs, with links of its handler; the caller is told that it has started."""
    run, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    record_task(ctx, "task", task)
    link = nexus.Link(
        url="temporal:///namespaces/n/workflows/w/r/history?referenceType=RequestIdReference&requestID=q&"
        "eventType=WorkflowExecutionOptionsUpdated",
        type="temporal.api.common.v1.Link.WorkflowEvent",
    )
    await answer(ctx, task, **started(links=[link, nexus.Link(url="http://elsewhere/x", type="else")]))
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    await run.step()
    await record(run)


@scenario
async def nexus_cancel(ctx: Context) -> None:
    """An operation that runs is asked to cancel: the handler hears of it, the caller that it has."""
    run, task_queue = await scheduled(ctx, nexus_header={"Some-Header": "value"})
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    await run.step(cancel(5))
    task = await poll_nexus(ctx, task_queue)
    record_task(ctx, "task", task)
    ctx.record("described asking", await run.describe(), drop=[TRANSITIONS])
    response = nexus.Response(cancel_operation=nexus.CancelOperationResponse())
    await ctx.client.invoke(
        workflowservice.RespondNexusTaskCompletedRequest(
            namespace=ctx.client.namespace, task_token=task.task_token, response=response
        )
    )
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED)
    await record(run)


@scenario
async def nexus_cancel_refused(ctx: Context) -> None:
    """The handler refuses to cancel for good: the caller is told so, and the operation goes on."""
    run, task_queue = await scheduled(ctx)
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    await run.step(cancel(5))
    await refuse(ctx, await poll_nexus(ctx, task_queue), failure=handler_failure("BAD_REQUEST"))
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED)
    await record(run)


@scenario
async def nexus_cancel_tried_again(ctx: Context) -> None:
    """The handler cannot cancel now: it is asked again."""
    run, task_queue = await scheduled(ctx)
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    await run.step(cancel(5))
    await refuse(ctx, await poll_nexus(ctx, task_queue), failure=handler_failure("UNAVAILABLE"))
    described = await run.until_described(
        "backing off", lambda found: found.pending_nexus_operations[0].cancellation_info.attempt == 1
    )
    ctx.record("described backing off", described, drop=[TRANSITIONS])
    task = await poll_nexus(ctx, task_queue)
    response = nexus.Response(cancel_operation=nexus.CancelOperationResponse())
    await ctx.client.invoke(
        workflowservice.RespondNexusTaskCompletedRequest(
            namespace=ctx.client.namespace, task_token=task.task_token, response=response
        )
    )
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED)
    await record(run)


@scenario
async def nexus_cancel_before_start(ctx: Context) -> None:
    """A request to cancel that comes before the operation has started waits until it has."""
    run, task_queue = await scheduled(ctx)
    await run.signal()
    await run.step(cancel(5))
    task = await poll_nexus(ctx, task_queue)
    ctx.record("described before", await run.describe(), drop=[TRANSITIONS])
    await answer(ctx, task, **started())
    cancelling = await poll_nexus(ctx, task_queue)
    record_task(ctx, "task", cancelling)
    response = nexus.Response(cancel_operation=nexus.CancelOperationResponse())
    await ctx.client.invoke(
        workflowservice.RespondNexusTaskCompletedRequest(
            namespace=ctx.client.namespace, task_token=cancelling.task_token, response=response
        )
    )
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED)
    await record(run)


@scenario
async def nexus_cancel_twice(ctx: Context) -> None:
    """What cannot be cancelled: an operation that was asked already, one that is not there."""
    run, task_queue = await scheduled(ctx)
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    task = await run.poll()
    await ctx.attempt("twice", run.complete(task, cancel(5), cancel(5)))
    task = await run.poll()
    await ctx.attempt("not there", run.complete(task, cancel(3)))
    await run.record_history()


@scenario
async def nexus_cancel_of_done(ctx: Context) -> None:
    """An operation that ends while a workflow task runs can still be cancelled by it, and no more by the next."""
    run, task_queue = await scheduled(ctx)
    await run.signal()
    task = await run.poll()
    await answer(ctx, await poll_nexus(ctx, task_queue), **done())
    await run.until_described("done", lambda found: not found.pending_nexus_operations)
    await run.complete(task, cancel(5))
    task = await run.poll()
    await ctx.attempt("too late", run.complete(task, cancel(5)))
    await run.record_history()


@scenario
async def nexus_operation_failed(ctx: Context) -> None:
    """The operation ends with a failure, or as cancelled, in its own words."""
    name, task_queue = await endpoint(ctx)
    ends = {
        "failed": application_failure("broken", type="Broken"),
        "cancelled": canceled_failure("was cancelled"),
        "with a cause": failure.Failure(
            message="outer",
            stack_trace="here",
            application_failure_info=failure.ApplicationFailureInfo(type="Outer", non_retryable=True),
            cause=application_failure("inner"),
        ),
    }
    for label, end in ends.items():
        run = await ctx.start(label.replace(" ", "-"))
        await run.step(schedule(name))
        await answer(ctx, await poll_nexus(ctx, task_queue), failure=end)
        await ctx.until("end", run.events, lambda events: any(e.event_type in ENDED for e in events))
        await run.record_history(label)


@scenario
async def nexus_operation_error(ctx: Context) -> None:
    """The older way of a worker to say that the operation failed or was cancelled."""
    name, task_queue = await endpoint(ctx)
    for state in ("failed", "canceled"):
        run = await ctx.start(state)
        await run.step(schedule(name))
        error = nexus.UnsuccessfulOperationError(
            operation_state=state,
            failure=nexus.Failure(message="no", metadata={"k": "v"}, details=b'{"d": 1}'),
        )
        await answer(ctx, await poll_nexus(ctx, task_queue), operation_error=error)
        await ctx.until("end", run.events, lambda events: any(e.event_type in ENDED for e in events))
        await run.record_history(state)


@scenario
async def nexus_handler_refuses(ctx: Context) -> None:
    """Errors of the handler that are final end the operation."""
    name, task_queue = await endpoint(ctx)
    never = RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE
    errors: dict[str, dict[str, Any]] = {
        "bad": {"failure": handler_failure("BAD_REQUEST")},
        "missing": {"failure": handler_failure("NOT_FOUND", cause=application_failure("why"))},
        "never": {"failure": handler_failure("INTERNAL", behavior=never)},
        "older": {
            "error": nexus.HandlerError(
                error_type="BAD_REQUEST",
                failure=nexus.Failure(message="no", metadata={"k": "v"}, details=b'{"d": 1}'),
            )
        },
        "older plain": {
            "error": nexus.HandlerError(error_type="NOT_IMPLEMENTED", failure=nexus.Failure(message="no"))
        },
    }
    for label, error in errors.items():
        run = await ctx.start(label.replace(" ", "-"))
        await run.step(schedule(name))
        await refuse(ctx, await poll_nexus(ctx, task_queue), **error)
        await ctx.until("end", run.events, lambda events: any(e.event_type in ENDED for e in events))
        await run.record_history(label)


@scenario
async def nexus_handler_tries_again(ctx: Context) -> None:
    """Errors of the handler that may pass: the operation is started again, with the same request id."""
    name, task_queue = await endpoint(ctx)
    always = RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE
    errors: dict[str, dict[str, Any]] = {
        "unavailable": {"failure": handler_failure("UNAVAILABLE")},
        "unknown": {"failure": handler_failure("WHATEVER")},
        "always": {"failure": handler_failure("BAD_REQUEST", behavior=always)},
        "older": {"error": nexus.HandlerError(error_type="INTERNAL", failure=nexus.Failure(message="no"))},
    }
    for label, error in errors.items():
        run = await ctx.start(label)
        await run.step(schedule(name))
        task = await poll_nexus(ctx, task_queue)
        request_id = task.request.start_operation.request_id
        await refuse(ctx, task, **error)
        described = await run.until_described(
            "backing off", lambda found: found.pending_nexus_operations[0].attempt == 1
        )
        ctx.record(f"{label} backing off", described.pending_nexus_operations[0])
        task = await poll_nexus(ctx, task_queue)
        ctx.record(f"{label} same request", task.request.start_operation.request_id == request_id)
        await answer(ctx, task, **done())
        await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
        await run.record_history(label)


@scenario
async def nexus_empty_answer(ctx: Context) -> None:
    """A worker that answers nothing: the operation is tried again."""
    run, task_queue = await scheduled(ctx)
    await answer(ctx, await poll_nexus(ctx, task_queue))
    described = await run.until_described(
        "backing off", lambda found: found.pending_nexus_operations[0].attempt == 1
    )
    ctx.record("described", described, drop=[TRANSITIONS])


@scenario
async def nexus_timeouts(ctx: Context) -> None:
    """Each of the three timeouts of an operation."""
    name, task_queue = await endpoint(ctx)
    for label, is_started in (
        ("schedule_to_close", False),
        ("schedule_to_start", False),
        ("start_to_close", True),
    ):
        run = await ctx.start(label)
        await run.step(schedule(name, **{f"{label}_timeout": duration(2)}))
        if is_started:
            await answer(ctx, await poll_nexus(ctx, task_queue), **started())
        await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT)
        await run.record_history(label)


@scenario
async def nexus_no_time_left(ctx: Context) -> None:
    """An operation with less time than a request needs times out at once."""
    run, _ = await scheduled(ctx, schedule_to_close_timeout=duration(1.4))
    clock = ctx.clock()
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT)
    ctx.record_about("at once", clock, 0, 1.3)
    await run.record_history()


@scenario
async def nexus_handler_is_slow(ctx: Context) -> None:
    """Nobody answers in time: the attempt fails, and the operation is tried again."""
    run, task_queue = await scheduled(ctx)
    await poll_nexus(ctx, task_queue)
    described = await run.until_described(
        "timed out", lambda found: found.pending_nexus_operations[0].attempt == 1
    )
    ctx.record("described", described, drop=[TRANSITIONS])


@scenario
async def nexus_closed_caller(ctx: Context) -> None:
    """A caller that closes leaves its operations; what becomes of them, nobody is told."""
    run, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    await run.signal()
    await run.step(complete_workflow())
    ctx.record("described", await run.describe(), drop=[TRANSITIONS])
    await ctx.attempt("answer", answer(ctx, task, **started()))
    await run.record_history()


@scenario
async def nexus_closed_right_after_scheduling(ctx: Context) -> None:
    """A caller that schedules an operation and closes at once."""
    name, task_queue = await endpoint(ctx)
    run = await ctx.start()
    await run.step(schedule(name), complete_workflow())
    request = workflowservice.PollNexusTaskQueueRequest(
        namespace=ctx.client.namespace, task_queue=queue(task_queue)
    )
    task = await ctx.client.call(request, NexusTask, timeout_s=4)
    ctx.record("a task", bool(task.task_token))
    await record(run)


@scenario
async def nexus_cancel_and_close(ctx: Context) -> None:
    """A caller that asks its operation to cancel and closes at once: the handler still hears of it."""
    run, task_queue = await scheduled(ctx)
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    await run.step(cancel(5), complete_workflow())
    request = workflowservice.PollNexusTaskQueueRequest(
        namespace=ctx.client.namespace, task_queue=queue(task_queue)
    )
    task = await ctx.client.call(request, NexusTask, timeout_s=4)
    ctx.record("a task", bool(task.task_token))
    if task.task_token:
        response = nexus.Response(cancel_operation=nexus.CancelOperationResponse())
        await ctx.client.invoke(
            workflowservice.RespondNexusTaskCompletedRequest(
                namespace=ctx.client.namespace, task_token=task.task_token, response=response
            )
        )
    await ctx.pause(0.3)
    await record(run)


@scenario
async def nexus_bad_commands(ctx: Context) -> None:
    """Commands to schedule that fail their workflow task."""
    name, _ = await endpoint(ctx)
    bad = {
        "no endpoint": schedule(""),
        "unknown endpoint": schedule(ctx.id("nowhere")),
        "long service": schedule(name, service="s" * 1001),
        "long operation": schedule(name, operation="o" * 1001),
        "negative timeout": schedule(name, schedule_to_close_timeout=duration(-1)),
        "negative start timeout": schedule(name, schedule_to_start_timeout=duration(-1)),
        "negative close timeout": schedule(name, start_to_close_timeout=duration(-1)),
        "forbidden header": schedule(name, nexus_header={"Request-Timeout": "1s"}),
        "long header": schedule(name, nexus_header={"k": "v" * 8192}),
        "nothing": any_command("schedule_nexus_operation"),
        "nothing to cancel": any_command("request_cancel_nexus_operation"),
        "large input": schedule(name, input=payload("x" * (2 * 1024 * 1024 + 1))),
    }
    for label, command in bad.items():
        run = await ctx.start(label.replace(" ", "-"))
        task = await run.poll()
        await ctx.attempt(label, run.complete(task, command))
        await run.record_history(f"{label} history")


@scenario
async def nexus_empty_names(ctx: Context) -> None:
    """An operation without service or name."""
    name, _ = await endpoint(ctx)
    run = await ctx.start()
    task = await run.poll()
    await ctx.attempt("completed", run.complete(task, schedule(name, service="", operation="")))
    await ctx.pause(0.5)
    await record(run)


@scenario
async def nexus_limit(ctx: Context) -> None:
    """More pending operations than a workflow may have."""
    name, _ = await endpoint(ctx)
    run = await ctx.start()
    task = await run.poll()
    await ctx.attempt("too many", run.complete(task, *[schedule(name) for _ in range(31)]))
    await run.record_history()


@scenario
async def nexus_timeouts_are_trimmed(ctx: Context) -> None:
    """An operation has no more time than its workflow's run, and its other timeouts no more than it has."""
    name, _ = await endpoint(ctx)
    run = await ctx.start(workflow_run_timeout=duration(100))
    long = {
        f"{which}_timeout": duration(500)
        for which in ("schedule_to_close", "schedule_to_start", "start_to_close")
    }
    await run.step(schedule(name), schedule(name, **long))
    await run.record_history()
    described = await run.describe()
    described.pending_nexus_operations.sort(key=lambda pending: pending.scheduled_event_id)
    ctx.record("described", list(described.pending_nexus_operations))


@scenario
async def nexus_endpoint_removed(ctx: Context) -> None:
    """An endpoint that is removed while an operation waits to be tried again: the operation fails."""
    name, task_queue = await endpoint(ctx)
    run = await ctx.start()
    await run.step(schedule(name))
    task = await poll_nexus(ctx, task_queue)
    listed = await ctx.client.call(
        operatorservice.ListNexusEndpointsRequest(name=name), operatorservice.ListNexusEndpointsResponse
    )
    found = listed.endpoints[0]
    await ctx.client.invoke(operatorservice.DeleteNexusEndpointRequest(id=found.id, version=found.version))
    await refuse(ctx, task, failure=handler_failure("UNAVAILABLE"))
    await until_has(run, EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED)
    await run.record_history()


@scenario
async def nexus_responses_checked(ctx: Context) -> None:
    """Answers of a worker that are refused."""
    _, task_queue = await scheduled(ctx)
    task = await poll_nexus(ctx, task_queue)
    namespace = ctx.client.namespace

    def completed(token: bytes, **start: Any) -> Any:
        response = nexus.Response(start_operation=nexus.StartOperationResponse(**start))
        return workflowservice.RespondNexusTaskCompletedRequest(
            namespace=namespace, task_token=token, response=response
        )

    def failed(**fields: Any) -> Any:
        return workflowservice.RespondNexusTaskFailedRequest(
            namespace=namespace, task_token=task.task_token, **fields
        )

    await ctx.attempt("no token", completed(b"", **done()))
    await ctx.attempt("bad token", completed(b"nonsense", **done()))
    await ctx.attempt("no operation token", completed(task.task_token, **started("")))
    await ctx.attempt("long operation token", completed(task.task_token, **started("t" * 4097)))
    error = nexus.UnsuccessfulOperationError(
        operation_state="failed", failure=nexus.Failure(message="m", details=b"{")
    )
    await ctx.attempt("details are no JSON", completed(task.task_token, operation_error=error))
    await ctx.attempt("no failure", failed())
    await ctx.attempt("failure of another kind", failed(failure=application_failure("x")))
    bad = nexus.HandlerError(error_type="INTERNAL", failure=nexus.Failure(message="m", details=b"{"))
    await ctx.attempt("details of an error are no JSON", failed(error=bad))
    await ctx.attempt("accepted", completed(task.task_token, **done()))
    await ctx.attempt("again", completed(task.task_token, **done()))
    await ctx.attempt("failed afterwards", failed(failure=handler_failure("INTERNAL")))


@scenario
async def nexus_polls_checked(ctx: Context) -> None:
    """Polls that are refused, and one that nothing comes to."""
    request = workflowservice.PollNexusTaskQueueRequest

    async def poll(timeout_s: float, **fields: Any) -> Any:
        return await ctx.client.invoke(request(**fields), timeout_s=timeout_s)

    namespace = ctx.client.namespace
    await ctx.attempt("no queue", poll(10, namespace=namespace))
    await ctx.attempt("no namespace", poll(10, task_queue=queue(ctx.id("q"))))
    await ctx.attempt("unknown namespace", poll(10, namespace="nowhere", task_queue=queue(ctx.id("q"))))
    await ctx.attempt("empty", poll(3, namespace=namespace, task_queue=queue(ctx.id("q"))))
    await ctx.attempt("short", poll(1, namespace=namespace, task_queue=queue(ctx.id("q"))))


@scenario
async def nexus_buffered(ctx: Context) -> None:
    """Events that come while a workflow task runs wait, and are put in order."""
    name, task_queue = await endpoint(ctx)
    run = await ctx.start()
    await run.step(schedule(name), schedule(name, operation="other"))
    await run.signal()
    held = await run.poll()
    for _ in range(2):
        task = await poll_nexus(ctx, task_queue)
        is_done = task.request.start_operation.operation == "operation"
        await answer(ctx, task, **(done() if is_done else started()))
    await run.until_described(
        "one done, one started",
        lambda found: [int(pending.state) for pending in found.pending_nexus_operations] == [3],
    )
    await run.complete(held)
    await record(run)


@scenario
async def nexus_reset(ctx: Context) -> None:
    """What became of operations that the copied part scheduled is told to the new run, too, unless it must not."""
    name, task_queue = await endpoint(ctx)
    run = await ctx.start()
    await run.step(schedule(name), schedule(name, operation="other"))
    await run.signal()
    await run.step()
    for _ in range(2):
        task = await poll_nexus(ctx, task_queue)
        is_done = task.request.start_operation.operation == "operation"
        await answer(ctx, task, **(done() if is_done else started()))
    await until_has(run, STARTED, COMPLETED)
    events = await run.events()
    finish = [e.event_id for e in events if e.HasField("workflow_task_completed_event_attributes")][1]
    new = await do_reset(run, finish)
    await new.record_history("new")
    found = await new.describe()
    ctx.record("states", [[p.operation, int(p.state)] for p in found.pending_nexus_operations])
    excluded = [enums.ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_NEXUS]
    third = await do_reset(
        run, finish, "reset once more", request_id=ctx.id("other"), reset_reapply_exclude_types=excluded
    )
    await third.record_history("without")


@scenario
async def nexus_endpoints(ctx: Context) -> None:
    """The registry: create, get, list, update and delete, each with what it refuses."""
    create, update = operatorservice.CreateNexusEndpointRequest, operatorservice.UpdateNexusEndpointRequest
    get, delete = operatorservice.GetNexusEndpointRequest, operatorservice.DeleteNexusEndpointRequest
    listing = operatorservice.ListNexusEndpointsRequest
    namespace, name = ctx.client.namespace, dashed(ctx, "endpoint")
    target = worker_target(namespace, ctx.id("queue"))
    spec = nexus.EndpointSpec(name=name, target=target, description=payload("about"))
    external = nexus.EndpointTarget.External
    created = await ctx.attempt("created", create(spec=spec))
    await ctx.attempt("created again", create(spec=spec))
    found = created.endpoint
    await ctx.attempt("got", get(id=found.id))
    await ctx.attempt("listed", listing(name=name))
    await ctx.attempt("listed nothing", listing(name="nobody"))
    spec.description.CopyFrom(payload("about it"))
    await ctx.attempt("updated", update(id=found.id, version=found.version, spec=spec))
    await ctx.attempt("updated old", update(id=found.id, version=found.version, spec=spec))
    nobody = "0190c7a8-0000-4000-8000-000000000001"
    specs = {
        "no spec": None,
        "no name": nexus.EndpointSpec(target=target),
        "bad name": nexus.EndpointSpec(name="no spaces", target=target),
        "digit first": nexus.EndpointSpec(name="1name", target=target),
        "long name": nexus.EndpointSpec(name="n" * 201, target=target),
        "no target": nexus.EndpointSpec(name=dashed(ctx, "other")),
        "no namespace": nexus.EndpointSpec(name=dashed(ctx, "other"), target=worker_target("", "q")),
        "unknown namespace": nexus.EndpointSpec(
            name=dashed(ctx, "other"), target=worker_target("nowhere", "q")
        ),
        "no queue": nexus.EndpointSpec(name=dashed(ctx, "other"), target=worker_target(namespace, "")),
        "reserved queue": nexus.EndpointSpec(
            name=dashed(ctx, "other"), target=worker_target(namespace, "/_sys/q")
        ),
        "no URL": nexus.EndpointSpec(name=dashed(ctx, "o"), target=nexus.EndpointTarget(external=external())),
        "odd URL": nexus.EndpointSpec(
            name=dashed(ctx, "o"), target=nexus.EndpointTarget(external=external(url="ftp://a"))
        ),
        "large description": nexus.EndpointSpec(
            name=dashed(ctx, "o"), target=target, description=payload("x" * 20_001)
        ),
    }
    for label, bad in specs.items():
        await ctx.attempt(label, create(spec=bad))
    await ctx.attempt("update nobody", update(id=nobody, version=1, spec=spec))
    await ctx.attempt("update no id", update(spec=spec))
    await ctx.attempt("get nobody", get(id=nobody))
    await ctx.attempt("get odd id", get(id="odd"))
    await ctx.attempt("get no id", get())
    await ctx.attempt("delete nobody", delete(id=nobody, version=1))
    await ctx.attempt("delete odd id", delete(id="odd", version=1))
    await ctx.attempt("delete no version", delete(id=found.id))
    await ctx.attempt("negative page", listing(page_size=-1))
    await ctx.attempt("large page", listing(page_size=1001))
    await ctx.attempt("deleted", delete(id=found.id, version=1))
    await ctx.attempt("got no more", get(id=found.id))
