"""Updates: accepted, rejected, ignored; the workflow tasks that only bring them; everything that may come between."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.context import Context, Run, WorkflowTask
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import complete_workflow, continue_as_new, duration, payloads, start_timer
from tests.support.proto import command, common, enums, protocol, query, update, workflowservice
from tests.support.rpc import RpcError
from tests.support.updates import (
    ACCEPTED,
    DISCARDS,
    Stage,
    acceptance,
    place,
    poll_request,
    rejection,
    response,
    update_request,
)

_NO_STAGE = Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_UNSPECIFIED
Request = workflowservice.UpdateWorkflowExecutionRequest
Response = workflowservice.UpdateWorkflowExecutionResponse


async def _waiting(ctx: Context, **fields: Any) -> Run:
    """A run whose first workflow task is completed."""
    run = await ctx.start(**fields)
    await run.step(start_timer("t", 600))
    return run


def _send(run: Run, update_id: str = "u", **fields: Any) -> asyncio.Task[Response]:
    """Sends an update in the background."""
    request = update_request(run.client.namespace, run.execution, update_id, **fields)
    return asyncio.create_task(run.client.call(request, Response))


async def _admitted(run: Run, update_id: str = "u") -> None:
    """Waits until the server knows the update."""
    question = poll_request(run.client.namespace, run.execution, update_id, _NO_STAGE)

    async def is_known() -> bool:
        try:
            await run.client.invoke(question)
        except RpcError:
            return False
        return True

    await run.context.until(f"update {update_id} is known", is_known, bool)


async def _answer(
    run: Run,
    task: WorkflowTask,
    *messages: protocol.Message,
    commands: tuple[command.Command, ...] = (),
    **fields: Any,
) -> workflowservice.RespondWorkflowTaskCompletedResponse:
    """Completes a task with messages; those that are no rejections are placed first of all commands."""
    placed = [place(message) for message in messages if not message.id.endswith("/reject")]
    values: dict[str, Any] = {"capabilities": DISCARDS, "messages": messages} | fields
    return await run.complete(task, *placed, *commands, **values)


async def _brought(
    run: Run, update_id: str = "u", **fields: Any
) -> tuple[asyncio.Task[Response], WorkflowTask]:
    """Sends an update, and polls the task that brings it."""
    sent = _send(run, update_id, **fields)
    return sent, await run.poll()


@scenario
async def update_completed(ctx: Context) -> None:
    """Accepted and completed with one workflow task that was speculative."""
    run = await _waiting(ctx)
    sent, task = await _brought(run)
    ctx.record("task", task)
    ctx.record("history meanwhile", list(await run.events()))
    ctx.record("describe meanwhile", await run.describe())
    (message,) = task.messages
    ctx.record("completion", await _answer(run, task, acceptance(message), response(message)))
    ctx.record("answer", await sent)
    await run.record_history()


@scenario
async def update_with_request_id(ctx: Context) -> None:
    """A request id and links of an update are kept with its acceptance, and shown."""
    run = await _waiting(ctx)
    request = update_request(run.client.namespace, run.execution)
    request.request.request_id = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    link = request.request.links.add().workflow_event
    link.namespace, link.workflow_id, link.run_id = (
        "default",
        "caller",
        "3f2504e0-4f89-41d3-9a0c-0305e82c3302",
    )
    sent = asyncio.create_task(run.client.call(request, Response))
    task = await run.poll()
    (message,) = task.messages
    await _answer(run, task, acceptance(message))
    described = await run.describe()
    infos = described.workflow_extended_info.request_id_infos
    ctx.record("shown", infos[request.request.request_id])
    task = await _signaled(run)
    await _answer(run, task, response(message))
    ctx.record("answer", await sent)
    await run.record_history()


async def _signaled(run: Run) -> WorkflowTask:
    """The workflow task that a signal makes."""
    await run.signal()
    return await run.poll()


@scenario
async def update_rejected(ctx: Context) -> None:
    """A rejected update leaves nothing, and the worker is told where to go back to."""
    run = await _waiting(ctx)
    sent, task = await _brought(run)
    ctx.record("completion", await _answer(run, task, rejection(task.messages[0])))
    ctx.record("answer", await sent)
    await run.record_history()
    again, task = await _brought(run, "u")
    ctx.record("the id is free again", task)
    await _answer(run, task, rejection(task.messages[0], "again"))
    ctx.record("second answer", await again)
    await ctx.attempt("poll rejected", poll_request(run.client.namespace, run.execution))


@scenario
async def update_ignored(ctx: Context) -> None:
    """A worker that knows no updates: the server rejects what it says nothing about."""
    run = await _waiting(ctx)
    sent, task = await _brought(run)
    ctx.record("completion", await run.complete(task))
    ctx.record("answer", await sent)
    sent, task = await _brought(run, "v")
    ctx.record("completion with a command", await run.complete(task, start_timer("w", 600)))
    ctx.record("second answer", await sent)
    await run.record_history()


@scenario
async def update_accepted_then_completed(ctx: Context) -> None:
    """Accepted with one workflow task, completed with another; polled and repeated meanwhile."""
    run = await _waiting(ctx)
    sent, task = await _brought(run, stage=ACCEPTED)
    (message,) = task.messages
    await _answer(run, task, acceptance(message))
    ctx.record("accepted", await sent)
    ctx.record(
        "poll accepted",
        await run.client.invoke(poll_request(run.client.namespace, run.execution, stage=ACCEPTED)),
    )
    repeated = _send(run, stage=ACCEPTED)
    ctx.record("repeated", await repeated)
    await run.signal()
    task = await run.poll()
    ctx.record("next task brings nothing", len(task.messages))
    await _answer(run, task, response(message))
    ctx.record("poll completed", await run.client.invoke(poll_request(run.client.namespace, run.execution)))
    ctx.record(
        "poll without a stage",
        await run.client.invoke(poll_request(run.client.namespace, run.execution, stage=_NO_STAGE)),
    )
    ctx.record("repeated when completed", await _send(run))
    await run.record_history()
    ctx.record("describe", await run.describe())


@scenario
async def update_with_first_task(ctx: Context) -> None:
    """An update that comes before the first workflow task started comes with it."""
    run = await ctx.start()
    sent = _send(run)
    await _admitted(run)
    task = await run.poll()
    ctx.record("task", task)
    (message,) = task.messages
    await _answer(run, task, acceptance(message), response(message))
    ctx.record("answer", await sent)
    await run.record_history()


@scenario
async def update_two_at_once(ctx: Context) -> None:
    """Two updates with one task: one accepted, one rejected."""
    run = await ctx.start()
    first = _send(run, "a")
    await _admitted(run, "a")
    second = _send(run, "b")
    await _admitted(run, "b")
    task = await run.poll()
    ctx.record("messages", [message.protocol_instance_id for message in task.messages])
    one, two = task.messages
    await _answer(run, task, rejection(two), acceptance(one), response(one))
    ctx.record("first", await first)
    ctx.record("second", await second)
    await run.record_history()


@scenario
async def update_while_task_started(ctx: Context) -> None:
    """An update that comes while a task is started comes with a speculative one right after, in its answer."""
    run = await _waiting(ctx)
    await run.signal()
    task = await run.poll()
    sent = _send(run)
    await _admitted(run)
    done = await run.complete(task, return_new_workflow_task=True, capabilities=DISCARDS)
    ctx.record("answer with the next task", done)
    ctx.record("history meanwhile", list(await run.events()))
    following = done.workflow_task
    (message,) = following.messages
    ctx.record("completion", await _answer(run, following, rejection(message), return_new_workflow_task=True))
    ctx.record("answer", await sent)
    await run.record_history()


@scenario
async def update_while_task_started_no_inline(ctx: Context) -> None:
    """The same for a worker that does not take the next task with its answer: a normal task follows."""
    run = await _waiting(ctx)
    await run.signal()
    task = await run.poll()
    sent = _send(run)
    await _admitted(run)
    await run.complete(task, capabilities=DISCARDS)
    ctx.record("history meanwhile", list(await run.events()))
    following = await run.poll()
    (message,) = following.messages
    ctx.record("completion", await _answer(run, following, rejection(message)))
    ctx.record("answer", await sent)
    await run.record_history()


@scenario
async def update_then_signal_before_start(ctx: Context) -> None:
    """A signal makes a speculative task that nobody has taken yet a normal one."""
    run = await _waiting(ctx)
    sent = _send(run)
    await _admitted(run)
    await run.signal()
    ctx.record("history after the signal", list(await run.events()))
    task = await run.poll()
    ctx.record("task", task)
    ctx.record("completion", await _answer(run, task, rejection(task.messages[0])))
    ctx.record("answer", await sent)
    await run.record_history()


@scenario
async def update_then_signal_while_started(ctx: Context) -> None:
    """A signal makes a speculative task that a worker has a normal one, with the ids the worker knows."""
    run = await _waiting(ctx)
    sent, task = await _brought(run)
    await run.signal()
    ctx.record("history after the signal", list(await run.events()))
    ctx.record("completion", await _answer(run, task, rejection(task.messages[0])))
    ctx.record("answer", await sent)
    following = await run.poll()
    await run.complete(following, complete_workflow())
    await run.record_history()


@scenario
async def update_then_terminate(ctx: Context) -> None:
    """A run that is terminated over a waiting update, before and after its task started."""
    for label, started in (("scheduled", False), ("started", True)):
        run = await ctx.start(label)
        await run.step(start_timer("t", 600))
        sent = _send(run)
        if started:
            await run.poll()
        else:
            await _admitted(run)
        await run.client.terminate(run.workflow_id)
        await ctx.attempt(f"{label} answer", sent)
        await run.record_history(f"{label} history")
        await ctx.attempt(f"{label} afterwards", update_request(run.client.namespace, run.execution, "late"))


@scenario
async def update_accepted_then_closed(ctx: Context) -> None:
    """A run that ends over an accepted update gives it a failure for an outcome; who comes later sees it, too."""
    run = await _waiting(ctx)
    sent, task = await _brought(run)
    (message,) = task.messages
    await _answer(run, task, acceptance(message))
    polled = asyncio.create_task(run.client.invoke(poll_request(run.client.namespace, run.execution)))
    await run.signal()
    await run.complete(await run.poll(), complete_workflow())
    ctx.record("answer", await sent)
    ctx.record("poll", await polled)
    await ctx.attempt("late poll", poll_request(run.client.namespace, run.execution))
    await ctx.attempt("late repetition", update_request(run.client.namespace, run.execution))
    await run.record_history()


@scenario
async def update_closed_in_same_task(ctx: Context) -> None:
    """A worker that accepts, completes or ignores an update and ends the workflow with the same task."""
    for label in ("accepted", "completed", "ignored", "rejected"):
        run = await ctx.start(label)
        await run.step(start_timer("t", 600))
        sent, task = await _brought(run)
        (message,) = task.messages
        answers = {
            "accepted": [acceptance(message)],
            "completed": [acceptance(message), response(message)],
            "ignored": [],
            "rejected": [rejection(message)],
        }[label]
        await _answer(run, task, *answers, commands=(complete_workflow(),))
        await ctx.attempt(f"{label} answer", sent)
        await run.record_history(f"{label} history")


@scenario
async def update_and_a_close_that_is_refused(ctx: Context) -> None:
    """A worker answers an update and ends the run in one task, but a signal has come: what does the caller hear?"""
    for label, close in (("complete", complete_workflow()), ("continue", continue_as_new())):
        for answer in ("accepted", "completed", "ignored", "rejected"):
            name = f"{label} {answer}"
            run = await ctx.start(name.replace(" ", "-"))
            await run.step(start_timer("t", 600))
            sent, task = await _brought(run)
            (message,) = task.messages
            answers = {
                "accepted": [acceptance(message)],
                "completed": [acceptance(message), response(message)],
                "ignored": [],
                "rejected": [rejection(message)],
            }[answer]
            await run.signal()
            await ctx.attempt(f"{name} completion", _answer(run, task, *answers, commands=(close,)))
            retry = await run.poll()
            ctx.record(f"{name} retry", retry)
            again = {
                "accepted": [acceptance(each) for each in retry.messages],
                "rejected": [rejection(each) for each in retry.messages],
            }.get(answer, [made for each in retry.messages for made in (acceptance(each), response(each))])
            await ctx.attempt(
                f"{name} second completion", _answer(run, retry, *again, commands=(complete_workflow(),))
            )
            await ctx.attempt(f"{name} answer", sent)
            await run.record_history(f"{name} history")


@scenario
async def update_task_failed(ctx: Context) -> None:
    """A worker that fails the speculative task: its events are written, the update comes again with the next one."""
    run = await _waiting(ctx)
    sent, task = await _brought(run)
    await run.fail_task(task)
    ctx.record("history after the failure", list(await run.events()))
    retry = await run.poll()
    ctx.record("retry", retry)
    (message,) = retry.messages
    ctx.record("completion", await _answer(run, retry, rejection(message)))
    ctx.record("answer", await sent)
    await run.record_history()


@scenario
async def update_bad_messages(ctx: Context) -> None:
    """Messages that make no sense fail the workflow task."""

    def broken(message: protocol.Message, kind: str) -> tuple[list[command.Command], list[protocol.Message]]:
        accepted, done = acceptance(message), response(message)
        unknown = acceptance(message, with_request=False)
        unknown.protocol_instance_id = "unknown"
        no_id = acceptance(message)
        no_id.body.Pack(update.Acceptance(accepted_request=update.Request()))
        foreign = protocol.Message(id="f", protocol_instance_id=message.protocol_instance_id)
        foreign.body.Pack(common.Payloads())
        cases: dict[str, tuple[list[command.Command], list[protocol.Message]]] = {
            "no message": ([place(accepted)], []),
            "no message id": ([place(protocol.Message())], []),
            "response first": ([place(done)], [done]),
            "unknown update": ([place(unknown)], [unknown]),
            "acceptance without ids": ([place(no_id)], [no_id]),
            "accepted twice": ([place(accepted), place(accepted)], [accepted]),
            "foreign": ([], [foreign]),
        }
        return cases[kind]

    for kind in (
        "no message",
        "no message id",
        "response first",
        "unknown update",
        "acceptance without ids",
        "accepted twice",
        "foreign",
    ):
        run = await ctx.start(kind.replace(" ", "-"))
        await run.step(start_timer("t", 600))
        sent, task = await _brought(run)
        commands, messages = broken(task.messages[0], kind)
        await ctx.attempt(
            f"{kind}: completion", run.complete(task, *commands, messages=messages, capabilities=DISCARDS)
        )
        await ctx.attempt(f"{kind}: answer", sent)
        await run.record_history(f"{kind}: history")


@scenario
async def update_messages_without_commands(ctx: Context) -> None:
    """Acceptance and response without the commands that place them are applied after the commands."""
    run = await _waiting(ctx)
    sent, task = await _brought(run)
    (message,) = task.messages
    await run.complete(
        task, start_timer("w", 600), messages=[acceptance(message), response(message)], capabilities=DISCARDS
    )
    ctx.record("answer", await sent)
    await run.record_history()


@slow_scenario
async def update_nobody_polls(ctx: Context) -> None:
    """A speculative task that nobody takes within five seconds becomes a normal one."""
    run = await _waiting(ctx)
    sent = _send(run)
    await run.until_event(enums.EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
    await ctx.until("the task timed out", run.events, lambda events: len(events) >= 8)
    ctx.record("history after the timeout", list(await run.events()))
    task = await run.poll()
    (message,) = task.messages
    await _answer(run, task, acceptance(message), response(message))
    ctx.record("answer", await sent)
    await run.record_history()


@slow_scenario
async def update_task_times_out(ctx: Context) -> None:
    """A worker that takes a speculative task and says nothing: it times out, the update comes again."""
    run = await _waiting(ctx, workflow_task_timeout=duration(2))
    sent, task = await _brought(run)
    retry = await run.poll()
    ctx.record("retry", retry)
    (message,) = retry.messages
    await ctx.attempt("late answer", _answer(run, task, rejection(message)))
    await _answer(run, retry, acceptance(message), response(message))
    ctx.record("answer", await sent)
    await run.record_history()


@scenario
async def update_on_sticky_queue(ctx: Context) -> None:
    """A speculative task on a worker's own queue carries what the worker has not seen."""
    run = await ctx.start()
    first = await run.poll()
    name = ctx.id("sticky")
    await run.complete(first, start_timer("t", 600), sticky_attributes=run.sticky(name))
    poll = await run.poll_in_background(sticky_name=name)
    sent = _send(run)
    task = await poll
    ctx.record("task", task)
    (message,) = task.messages
    ctx.record("completion", await _answer(run, task, rejection(message), sticky_attributes=run.sticky(name)))
    ctx.record("answer", await sent)
    poll = await run.poll_in_background(sticky_name=name)
    sent = _send(run, "v")
    task = await poll
    ctx.record("second task", task)
    (message,) = task.messages
    await _answer(run, task, acceptance(message), response(message), sticky_attributes=run.sticky(name))
    ctx.record("second answer", await sent)
    await run.record_history()


@slow_scenario
async def update_too_many(ctx: Context) -> None:
    """More updates at once than a run takes."""
    run = await _waiting(ctx)
    for number in range(10):
        sent, task = await _brought(run, f"u{number}", stage=ACCEPTED)
        await _answer(run, task, acceptance(task.messages[0]))
        await sent
    await ctx.attempt("one too many", update_request(run.client.namespace, run.execution, "more"))
    ctx.record("a known one", await _send(run, "u0", stage=ACCEPTED))


@scenario
async def update_validation(ctx: Context) -> None:
    """Requests that are refused as they are."""
    run = await ctx.start()
    namespace, execution = run.client.namespace, run.execution

    def changed(**fields: Any) -> Request:
        request = update_request(namespace, execution)
        for name, value in fields.items():
            if value is None:
                request.ClearField(name)  # type: ignore[arg-type]
            elif isinstance(value, str):
                setattr(request, name, value)
            else:
                getattr(request, name).CopyFrom(value)
        return request

    ids = update.Meta(update_id="u")
    cases = {
        "no execution": changed(workflow_execution=None),
        "no workflow id": changed(workflow_execution=common.WorkflowExecution()),
        "bad run id": changed(workflow_execution=common.WorkflowExecution(workflow_id="x", run_id="y")),
        "unknown workflow": changed(workflow_execution=common.WorkflowExecution(workflow_id="unknown")),
        "no request": changed(request=None),
        "no meta": changed(request=update.Request(input=update.Input(name="x"))),
        "no input": changed(request=update.Request(meta=ids)),
        "no name": changed(request=update.Request(meta=ids, input=update.Input())),
        "long id": changed(
            request=update.Request(meta=update.Meta(update_id="x" * 1001), input=update.Input(name="x"))
        ),
        "wait for admitted": update_request(
            namespace, execution, stage=Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED
        ),
        "other chain": changed(first_execution_run_id="3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
        "unknown namespace": changed(namespace="no-such-namespace"),
    }
    for label, request in cases.items():
        await ctx.attempt(label, request)
    polls = {
        "poll nothing": workflowservice.PollWorkflowExecutionUpdateRequest(namespace=namespace),
        "poll unknown update": poll_request(namespace, execution, "unknown"),
        "poll unknown workflow": poll_request(namespace, common.WorkflowExecution(workflow_id="unknown")),
        "poll nowhere": poll_request("no-such-namespace", execution),
    }
    for label, poll in polls.items():
        await ctx.attempt(label, poll)


@scenario
async def update_while_tasks_fail(ctx: Context) -> None:
    """A run whose workflow tasks keep failing takes no updates."""
    run = await ctx.start()
    for _ in range(2):
        await run.fail_task(await run.poll())
    await ctx.attempt("answer", update_request(run.client.namespace, run.execution))


@scenario
async def update_and_query(ctx: Context) -> None:
    """A query that comes while a speculative task waits is answered with it."""
    run = await _waiting(ctx)
    sent = _send(run)
    await _admitted(run)
    asked = asyncio.create_task(run.client.query(run.workflow_id, "state"))
    await ctx.pause(1)
    task = await run.poll()
    ctx.record("queries", len(task.queries))
    results = {
        query_id: query.WorkflowQueryResult(
            result_type=enums.QueryResultType.QUERY_RESULT_TYPE_ANSWERED, answer=payloads("fine")
        )
        for query_id in task.queries
    }
    await _answer(run, task, rejection(task.messages[0]), query_results=results)
    ctx.record("answer", await sent)
    ctx.record("asked", await asked)
    await run.record_history()
