"""Workflow tasks: failures, timeouts, transient attempts, sticky queues, heartbeats, tokens, inline tasks."""

from __future__ import annotations

import asyncio

from tests.differential.context import LATE_S, Context, Run, WorkflowTask
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    cancel_workflow,
    complete_workflow,
    duration,
    fail_workflow,
    payloads,
    queue,
    record_marker,
    start_timer,
)
from tests.support.proto import command, common, enums, sdk, taskqueue, workflowservice

Cause = enums.WorkflowTaskFailedCause
EventType = enums.EventType
UNHANDLED_FAILURE = Cause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE


def _outline(task: WorkflowTask) -> dict[str, object]:
    """What a sticky worker looks at: the ids and the events the task carries."""
    return {
        "previous": task.previous_started_event_id,
        "started": task.started_event_id,
        "attempt": task.attempt,
        "events": [event.event_id for event in task.history.events],
        "more": bool(task.next_page_token),
        "queue": task.workflow_execution_task_queue,
    }


@scenario
async def task_failed_once(ctx: Context) -> None:
    """A failed task writes an event and the next attempt is transient until it completes."""
    run = await ctx.start()
    task = await run.poll()
    await run.fail_task(task, failed=application_failure())
    retry = await run.poll()
    ctx.record("second attempt", retry)
    ctx.record("history while transient", list(await run.events()))
    ctx.record("describe while transient", await run.describe())
    await run.complete(retry, complete_workflow())
    await run.record_history()


@scenario
async def task_completed_in_pages(ctx: Context) -> None:
    """A page of a completion is refused, as pages are off, and not taken for the whole; so is a later page alone."""
    run = await ctx.start()
    task = await run.poll()
    for number, is_intermediate in ((0, True), (1, True), (1, False), (2, False)):
        page = run.complete(task, complete_workflow(), page_number=number, intermediate_page=is_intermediate)
        await ctx.attempt(f"page {number}, intermediate: {is_intermediate}", page)
    await run.complete(task, record_marker("whole"), complete_workflow(), page_number=-1)
    await ctx.attempt("page of a closed run", run.complete(task, complete_workflow(), page_number=1))
    await run.record_history()


@slow_scenario
async def task_failed_twice(ctx: Context) -> None:
    """Failures in a row after the first write nothing; the attempt grows."""
    run = await ctx.start()
    await run.fail_task(await run.poll())
    second = await run.poll()
    await run.fail_task(second)
    ctx.record("history after two failures", list(await run.events()))
    third = await run.poll()
    ctx.record("third attempt", third)
    await run.complete(third, start_timer("t", 60))
    await run.record_history()


@scenario
async def task_failed_then_signal(ctx: Context) -> None:
    """A signal between a failed task and its next attempt makes that attempt a normal one again."""
    run = await ctx.start()
    task = await run.poll()
    await run.signal("during")
    await run.fail_task(task)
    ctx.record("history after failure with a buffered signal", list(await run.events()))
    retry = await run.poll()
    ctx.record("retry", _outline(retry))
    await run.fail_task(retry)
    await run.signal("between")
    ctx.record("history after a signal between attempts", list(await run.events()))
    ctx.record("describe", await run.describe())
    last = await run.poll()
    ctx.record("last", last)
    await run.complete(last, complete_workflow())
    await run.record_history()


@scenario
async def task_signal_during_transient(ctx: Context) -> None:
    """A signal arriving while a transient task is started is buffered and follows its completion."""
    run = await ctx.start()
    await run.fail_task(await run.poll())
    retry = await run.poll()
    await run.signal("during")
    ctx.record("history with the signal buffered", list(await run.events()))
    await run.complete(retry, start_timer("t", 60))
    await run.record_history()


@scenario
async def task_signal_during_transient_then_fail(ctx: Context) -> None:
    """A signal buffered behind a transient task that fails: what is written, which attempt is next."""
    run = await ctx.start()
    await run.fail_task(await run.poll())
    retry = await run.poll()
    await run.signal("during")
    await run.fail_task(retry)
    ctx.record("history after the failure", list(await run.events()))
    third = await run.poll()
    ctx.record("third", _outline(third))
    await run.complete(third, complete_workflow())
    await run.record_history()


@scenario
async def task_failed_causes(ctx: Context) -> None:
    """Causes a worker may send, as recorded in the failed event."""
    causes = (
        Cause.WORKFLOW_TASK_FAILED_CAUSE_UNSPECIFIED,
        Cause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR,
        Cause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
        Cause.WORKFLOW_TASK_FAILED_CAUSE_GRPC_MESSAGE_TOO_LARGE,
        Cause.WORKFLOW_TASK_FAILED_CAUSE_RESET_STICKY_TASK_QUEUE,
    )
    for cause in causes:
        run = await ctx.start(f"cause-{int(cause)}")
        task = await run.poll()
        await ctx.attempt(
            f"answer {int(cause)}",
            ctx.client.fail_workflow_task(task.task_token, cause, application_failure("why")),
        )
        await run.record_history(f"cause {int(cause)}")


@slow_scenario
async def task_timeout(ctx: Context) -> None:
    """A task that is not completed in time times out; its late completion is refused."""
    run = await ctx.start(workflow_task_timeout=duration(1))
    first = await run.poll()
    second = await run.poll()
    ctx.record("second", second)
    await ctx.attempt("late completion", run.complete(first, complete_workflow()))
    await ctx.attempt("late failure", ctx.client.fail_workflow_task(first.task_token, UNHANDLED_FAILURE))
    await run.complete(second, complete_workflow())
    await run.record_history()


@slow_scenario
async def task_timeout_twice(ctx: Context) -> None:
    """A transient task that times out writes nothing; the attempt grows."""
    run = await ctx.start(workflow_task_timeout=duration(1))
    await run.poll()
    await run.poll()
    third = await run.poll()
    ctx.record("third", _outline(third))
    ctx.record("history", list(await run.events()))
    await run.complete(third, complete_workflow())
    await run.record_history("history at the end")


@slow_scenario
async def task_timeout_with_buffered_signal(ctx: Context) -> None:
    """A signal buffered behind a task that times out is written after the timeout."""
    run = await ctx.start(workflow_task_timeout=duration(1))
    await run.poll()
    await run.signal("during")
    second = await run.poll()
    ctx.record("second", _outline(second))
    await run.complete(second, complete_workflow())
    await run.record_history()


@scenario
async def task_force_new(ctx: Context) -> None:
    """force_create_new_workflow_task: the heartbeat of a worker busy with a local activity."""
    run = await ctx.start()
    task = await run.poll()
    response = await run.complete(task, force_create_new_workflow_task=True)
    ctx.record("response without return", response)
    second = await run.poll()
    ctx.record("second", _outline(second))
    response = await run.complete(second, force_create_new_workflow_task=True, return_new_workflow_task=True)
    ctx.record("response with return", response)
    await run.complete(response.workflow_task, complete_workflow())
    await run.record_history()


@scenario
async def task_force_new_sticky(ctx: Context) -> None:
    """Heartbeats of a sticky worker get partial histories inline."""
    run = await ctx.start()
    name = ctx.id("sticky")
    task = await run.poll()
    for number in (1, 2):
        response = await run.complete(
            task,
            record_marker("local", {"data": payloads(str(number))}),
            force_create_new_workflow_task=True,
            return_new_workflow_task=True,
            sticky_attributes=run.sticky(name),
        )
        task = response.workflow_task
        ctx.record(f"inline task {number}", task)
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def task_return_new_inline(ctx: Context) -> None:
    """return_new_workflow_task returns the task that buffered signals cause, or nothing when there is none."""
    run = await ctx.start()
    task = await run.poll()
    await run.signal("one")
    await run.signal("two")
    response = await run.complete(task, start_timer("t", 60), return_new_workflow_task=True)
    ctx.record("with buffered signals", response)
    response = await run.complete(response.workflow_task, return_new_workflow_task=True)
    ctx.record("without anything new", response)
    await run.record_history()


@scenario
async def task_sticky_partial_history(ctx: Context) -> None:
    """Tasks on a sticky queue carry only the events after the previous started event."""
    run = await ctx.start()
    name = ctx.id("sticky")
    await run.step(start_timer("t", 60), sticky_attributes=run.sticky(name))
    polling = await run.poll_in_background(sticky_name=name)
    await run.signal("one")
    task = await polling
    ctx.record("sticky task", task)
    ctx.record("describe", (await run.describe()).execution_config)
    await run.complete(task, sticky_attributes=run.sticky(name))
    polling = await run.poll_in_background(sticky_name=name)
    await run.signal("two")
    second = await polling
    ctx.record("second sticky task", _outline(second))
    # Completing without sticky attributes gives the stickiness up.
    await run.complete(second)
    await run.signal("three")
    ctx.record("normal task again", _outline(await run.poll()))
    await run.record_history()


@scenario
async def task_sticky_failed(ctx: Context) -> None:
    """A task failed on the sticky queue clears the stickiness: full history, normal queue, attempt."""
    run = await ctx.start()
    name = ctx.id("sticky")
    await run.step(sticky_attributes=run.sticky(name))
    polling = await run.poll_in_background(sticky_name=name)
    await run.signal("one")
    task = await polling
    await run.fail_task(task)
    retry = await run.poll()
    ctx.record("retry", retry)
    await run.complete(retry, complete_workflow())
    await run.record_history()


@slow_scenario
async def task_sticky_schedule_to_start_timeout(ctx: Context) -> None:
    """Nobody takes the task from a sticky queue that had a poller: it times out and comes to the normal one."""
    run = await ctx.start()
    name = ctx.id("sticky")
    await run.step(sticky_attributes=run.sticky(name, 1))
    polling = await run.poll_in_background(sticky_name=name)
    await run.signal("one")
    await run.complete(await polling, sticky_attributes=run.sticky(name, 1))
    await run.signal("two")
    await run.until_event(EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
    task = await run.poll()
    ctx.record("normal task", _outline(task))
    await run.complete(task, complete_workflow())
    await run.record_history()


@slow_scenario
async def task_sticky_start_to_close_timeout(ctx: Context) -> None:
    """A task taken from the sticky queue and not completed: timeout event, normal queue, attempt."""
    run = await ctx.start(workflow_task_timeout=duration(1))
    name = ctx.id("sticky")
    await run.step(sticky_attributes=run.sticky(name))
    polling = await run.poll_in_background(sticky_name=name)
    await run.signal("one")
    await polling
    task = await run.poll()
    ctx.record("normal task", task)
    await run.complete(task, complete_workflow())
    await run.record_history()


@slow_scenario
async def task_sticky_without_poller(ctx: Context) -> None:
    """A sticky queue that nobody ever polled: the task falls back to the normal queue."""
    run = await ctx.start()
    await run.step(sticky_attributes=run.sticky(ctx.id("nobody"), 60))
    clock = ctx.clock()
    await run.signal("one")
    task = await run.poll()
    ctx.record_about("fallback", clock, 0, LATE_S)
    ctx.record("task", _outline(task))
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def task_sticky_after_shutdown(ctx: Context) -> None:
    """ShutdownWorker tells that a sticky queue is gone."""
    run = await ctx.start()
    name = ctx.id("sticky")
    await run.step(sticky_attributes=run.sticky(name, 5))
    polling = await run.poll_in_background(sticky_name=name)
    await run.signal("one")
    await run.complete(await polling, sticky_attributes=run.sticky(name, 5))
    await ctx.attempt(
        "shutdown",
        workflowservice.ShutdownWorkerRequest(
            namespace="default", sticky_task_queue=name, identity="differential", reason="bye"
        ),
    )
    await run.signal("two")
    task = await run.poll()
    ctx.record("task", _outline(task))
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def task_reset_sticky(ctx: Context) -> None:
    """ResetStickyTaskQueue sends the following tasks to the normal queue again."""
    run = await ctx.start()
    name = ctx.id("sticky")
    await run.step(sticky_attributes=run.sticky(name))
    await ctx.attempt(
        "reset",
        workflowservice.ResetStickyTaskQueueRequest(namespace="default", execution=run.execution),
    )
    await run.signal("one")
    ctx.record("task", _outline(await run.poll()))
    await run.record_history()


@scenario
async def task_sdk_metadata(ctx: Context) -> None:
    """SDK metadata, binary checksum, metering and worker version of a completion, as recorded."""
    run = await ctx.start()
    await run.step(
        complete_workflow(),
        sdk_metadata=sdk.WorkflowTaskCompletedMetadata(
            core_used_flags=[1, 2, 3], lang_used_flags=[4], sdk_name="test-sdk", sdk_version="1.2.3"
        ),
        binary_checksum="checksum",
        metering_metadata=common.MeteringMetadata(nonfirst_local_activity_execution_attempts=2),
        worker_version_stamp=common.WorkerVersionStamp(build_id="build"),
    )
    await run.record_history()


@scenario
async def task_tokens(ctx: Context) -> None:
    """Empty, garbled, stale and foreign task tokens for each workflow task answer."""
    run = await ctx.start()
    task = await run.poll()
    tokens = {"empty": b"", "garbled": b"garbled token", "truncated": task.task_token[:10]}
    for label, token in tokens.items():
        await ctx.attempt(f"complete {label}", ctx.client.complete_workflow_task(token))
        await ctx.attempt(f"fail {label}", ctx.client.fail_workflow_task(token, UNHANDLED_FAILURE))
    await ctx.attempt(
        "complete in an unknown namespace",
        ctx.client.complete_workflow_task(task.task_token, namespace="no-such-namespace"),
    )
    await run.complete(task)
    await ctx.attempt("complete twice", run.complete(task))
    await ctx.attempt(
        "fail after completion", ctx.client.fail_workflow_task(task.task_token, UNHANDLED_FAILURE)
    )
    await ctx.client.terminate(run.workflow_id)
    await ctx.attempt("complete after termination", run.complete(task))
    await run.record_history()


@scenario
async def task_completed_after_termination(ctx: Context) -> None:
    """A run terminated while its task is started: the completion and the failure are refused."""
    run = await ctx.start()
    task = await run.poll()
    await ctx.client.terminate(run.workflow_id)
    await ctx.attempt("complete", run.complete(task, complete_workflow()))
    await ctx.attempt("fail", ctx.client.fail_workflow_task(task.task_token, UNHANDLED_FAILURE))
    await run.record_history()


async def _unhandled(ctx: Context, label: str, closing: command.Command) -> None:
    run = await ctx.start(label)
    task = await run.poll()
    await run.signal("late")
    await ctx.attempt(f"{label}: answer", run.complete(task, start_timer("t", 60), closing))
    ctx.record(f"{label}: history after", list(await run.events()))
    retry = await run.poll()
    ctx.record(f"{label}: retry", _outline(retry))
    await run.complete(retry, closing)
    await run.record_history(f"{label}: history")


@scenario
async def unhandled_command(ctx: Context) -> None:
    """Closing while a signal is buffered fails the task with UNHANDLED_COMMAND, for each way to close."""
    await _unhandled(ctx, "complete", complete_workflow(payloads("done")))
    await _unhandled(ctx, "fail", fail_workflow(application_failure()))
    await _unhandled(ctx, "cancel", cancel_workflow(payloads("details")))


@scenario
async def unhandled_command_closing(ctx: Context) -> None:
    """After UNHANDLED_COMMAND the run counts as closing: what signals and others get until its next completion."""
    run = await ctx.start()
    task = await run.poll()
    await run.signal("one")
    await ctx.attempt("first", run.complete(task, complete_workflow()))
    task = await run.poll()
    ctx.record("second task", _outline(task))
    await ctx.attempt("signal while closing", ctx.client.signal(run.workflow_id, "two"))
    await ctx.attempt("cancel while closing", ctx.client.request_cancel(run.workflow_id))
    # The caller's clock or the server's ends it; which is first is chance, and each has its own words.
    query = ctx.client.query(run.workflow_id, timeout_s=3)
    await ctx.attempt("query while closing", query, drop=("message",))
    await ctx.attempt("start over it", ctx.client.start(run.workflow_id, run.task_queue))
    await ctx.attempt("second", run.complete(task, start_timer("t", 60)))
    await ctx.attempt("signal afterwards", ctx.client.signal(run.workflow_id, "three"))
    task = await run.poll()
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def unhandled_command_transient(ctx: Context) -> None:
    """UNHANDLED_COMMAND on a transient task."""
    run = await ctx.start()
    await run.fail_task(await run.poll())
    task = await run.poll()
    await run.signal("one")
    await ctx.attempt("answer", run.complete(task, complete_workflow()))
    ctx.record("history after", list(await run.events()))
    task = await run.poll()
    ctx.record("next task", _outline(task))
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def unhandled_command_inline(ctx: Context) -> None:
    """UNHANDLED_COMMAND with return_new_workflow_task: is the retry inline?"""
    run = await ctx.start()
    task = await run.poll()
    await run.signal("one")
    await ctx.attempt("answer", run.complete(task, complete_workflow(), return_new_workflow_task=True))
    await run.record_history()


@scenario
async def task_poll_validation(ctx: Context) -> None:
    """Polls that are refused: no queue, no deadline, too short a deadline, over-long names, bad kinds."""
    client = ctx.client
    await ctx.attempt(
        "no queue", client.invoke(workflowservice.PollWorkflowTaskQueueRequest(namespace="default"))
    )
    await ctx.attempt("empty queue", client.poll_workflow_task("", timeout_s=5))
    await ctx.attempt("long queue", client.poll_workflow_task("q" * 1001, timeout_s=5))
    await ctx.attempt("reserved queue", client.poll_workflow_task("/_sys/x", timeout_s=5))
    await ctx.attempt(
        "long identity", client.poll_workflow_task(ctx.id("q"), identity="i" * 1001, timeout_s=5)
    )
    await ctx.attempt(
        "sticky without normal name",
        client.poll_workflow_task(
            taskqueue.TaskQueue(name=ctx.id("s"), kind=enums.TaskQueueKind.TASK_QUEUE_KIND_STICKY),
            timeout_s=5,
        ),
    )
    await ctx.attempt(
        "unknown namespace",
        client.poll_workflow_task(ctx.id("q"), namespace="no-such-namespace", timeout_s=5),
    )
    await ctx.attempt("no namespace", client.poll_workflow_task(ctx.id("q"), namespace="", timeout_s=5))
    await ctx.attempt("no deadline", client.poll_workflow_task(ctx.id("q"), timeout_s=None))
    await ctx.attempt("short deadline", client.poll_workflow_task(ctx.id("q"), timeout_s=1))
    await ctx.attempt("activity: empty queue", client.poll_activity_task("", timeout_s=5))
    await ctx.attempt("activity: short deadline", client.poll_activity_task(ctx.id("q"), timeout_s=1))
    await ctx.attempt("activity: no deadline", client.poll_activity_task(ctx.id("q"), timeout_s=None))


@slow_scenario
async def task_poll_empty(ctx: Context) -> None:
    """A long poll with nothing to give answers empty shortly before the caller's deadline."""
    clock = ctx.clock()
    await ctx.attempt("workflow poll", ctx.client.poll_workflow_task(ctx.id("q"), timeout_s=4))
    ctx.record_about("workflow poll took", clock, 2, LATE_S)
    clock = ctx.clock()
    await ctx.attempt("activity poll", ctx.client.poll_activity_task(ctx.id("q"), timeout_s=4))
    ctx.record_about("activity poll took", clock, 2, LATE_S)


@scenario
async def task_poll_before_start(ctx: Context) -> None:
    """A poller that waits gets the task of a run started afterwards."""
    poll = await Run(ctx, ctx.id("wf"), "", ctx.id("queue")).poll_in_background()
    run = await ctx.start(task_queue=ctx.id("queue"))
    task = await poll
    ctx.record("task", task)
    await run.complete(task, complete_workflow())
    await run.record_history()


async def _all_pages(run: Run, task: WorkflowTask) -> list[int]:
    """The ids of a task's events, with the pages that its token leads to."""
    ids = [event.event_id for event in task.history.events]
    token = task.next_page_token
    while token:
        page = await run.client.history_page(run.workflow_id, run_id=run.run_id, next_page_token=token)
        ids += [event.event_id for event in page.history.events]
        token = page.next_page_token
    return ids


@slow_scenario
async def task_history_paging(ctx: Context) -> None:
    """A task whose history needs several pages: they make up the history, without gap or repetition."""
    run = await ctx.start()
    for number in range(300):
        await run.signal(f"s{number}")
    task = await run.poll()
    ctx.record("more", bool(task.next_page_token))
    ids = await _all_pages(run, task)
    ctx.record("complete", ids == list(range(1, task.started_event_id + 1)))
    ctx.record("started", task.started_event_id)


@slow_scenario
async def task_history_paging_retry(ctx: Context) -> None:
    """The same for a transient task: its uncommitted events come once, at the end."""
    run = await ctx.start()
    for number in range(300):
        await run.signal(f"s{number}")
    await run.fail_task(await run.poll())
    task = await run.poll()
    ctx.record("more", bool(task.next_page_token))
    ids = await _all_pages(run, task)
    ctx.record("complete", ids == list(range(1, task.started_event_id + 1)))
    ctx.record("attempt and started", [task.attempt, task.started_event_id])


@slow_scenario
async def task_buffer_overflow(ctx: Context) -> None:
    """More events than the buffer holds fail the started task, and everything is written."""
    run = await ctx.start()
    task = await run.poll()
    for number in range(105):
        await run.signal(f"s{number}")
    await ctx.attempt("completion", run.complete(task, complete_workflow()))
    events = await run.events()
    others = [event for event in events if not event.HasField("workflow_execution_signaled_event_attributes")]
    ctx.record("events that are no signals", others)
    next_task = await run.poll()
    ctx.record("next task", [next_task.attempt, next_task.previous_started_event_id])


@scenario
async def task_sequence_after_close(ctx: Context) -> None:
    """Commands after a closing command."""
    run = await ctx.start()
    task = await run.poll()
    await ctx.attempt("timer after complete", run.complete(task, complete_workflow(), start_timer("t", 1)))
    await run.record_history("timer after complete: history")
    other = await ctx.start("twice")
    task = await other.poll()
    await ctx.attempt(
        "two closing commands",
        other.complete(task, complete_workflow(), fail_workflow(application_failure())),
    )
    await other.record_history("two closing commands: history")


@scenario
async def task_on_another_queue(ctx: Context) -> None:
    """A worker of another queue gets nothing; describe of the queue shows the poller."""
    run = await ctx.start()
    task = await run.poll()
    await run.complete(task, complete_workflow())
    response = await ctx.client.call(
        workflowservice.DescribeTaskQueueRequest(
            namespace="default",
            task_queue=queue(run.task_queue),
            task_queue_type=enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        ),
        workflowservice.DescribeTaskQueueResponse,
    )
    ctx.record("describe queue", response)
    await ctx.attempt(
        "describe without name",
        workflowservice.DescribeTaskQueueRequest(namespace="default", task_queue=queue("")),
    )
    await ctx.attempt("describe without queue", workflowservice.DescribeTaskQueueRequest(namespace="default"))


@scenario
async def task_poll_cancelled(ctx: Context) -> None:
    """A poll that its client gave up takes no task away: the next poll gets it."""
    run = Run(ctx, ctx.id("wf"), "", ctx.id("queue"))
    poll = await run.poll_in_background()
    poll.cancel()
    await asyncio.wait({poll})
    run = await ctx.start(task_queue=ctx.id("queue"))
    task = await run.poll()
    ctx.record("task", _outline(task))
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def task_transient_seen_by_clients(ctx: Context) -> None:
    """Whether the history shows the uncommitted events of a transient task, by kind of client."""
    run = await ctx.start()
    await run.fail_task(await run.poll())
    await run.until_described(
        "transient task scheduled", lambda described: described.pending_workflow_task.attempt == 2
    )
    request = workflowservice.GetWorkflowExecutionHistoryRequest(namespace="default", execution=run.execution)
    for client_name in ("", "temporal-python", "temporal-go", "temporal-cli", "temporal-ui"):
        metadata = (("client-name", client_name), ("client-version", "1.30.0")) if client_name else ()
        page = await ctx.client.invoke(request, metadata=metadata)
        ctx.record(f"client {client_name!r}", page)


@scenario
async def task_sticky_history_paging(ctx: Context) -> None:
    """A sticky task after more events than a page holds: first page, token, next page."""
    run = await ctx.start()
    name = ctx.id("sticky")
    await run.step(sticky_attributes=run.sticky(name))
    polling = await run.poll_in_background(sticky_name=name)
    await run.signal("wake")
    task = await polling
    markers = [record_marker(f"m{number}") for number in range(300)]
    for number in range(3):
        await run.signal(f"s{number}")
    polling = await run.poll_in_background(sticky_name=name)
    await run.complete(task, *markers, sticky_attributes=run.sticky(name))
    task = await polling
    ctx.record("first event", task.history.events[0].event_id)
    ctx.record("task", _outline(task))


@scenario
async def task_bad_sticky_attributes(ctx: Context) -> None:
    """Bad sticky attributes on a completion."""
    run = await ctx.start()
    task = await run.poll()
    attributes = run.sticky("s" * 1001)
    await ctx.attempt("long sticky queue", run.complete(task, sticky_attributes=attributes))
    await run.record_history()


async def _problems(run: Run) -> list[str]:
    described = await run.describe()
    fields = described.workflow_execution_info.search_attributes.indexed_fields
    name = "TemporalReportedProblems"
    return [fields[name].data.decode(), fields[name].metadata["type"].decode()] if name in fields else []


@scenario
async def task_problems_reported(ctx: Context) -> None:
    """Workflow tasks that fail in a row show in the run's search attributes, and no longer once one succeeds."""
    run = await ctx.start(workflow_task_timeout=duration(1))
    task = await run.poll()
    ctx.record("before", await _problems(run))
    await run.fail_task(task)
    await run.until_described("first failure", lambda info: info.pending_workflow_task.attempt == 2)
    ctx.record("after one", await _problems(run))
    await run.fail_task(await run.poll())
    await run.until_described("second failure", lambda info: info.pending_workflow_task.attempt == 3)
    ctx.record("after two", await _problems(run))
    await run.poll()  # and lets it time out
    await run.until_described("timed out", lambda info: info.pending_workflow_task.attempt == 4)
    ctx.record("timed out", await _problems(run))
    await run.complete(await run.poll())
    ctx.record("solved", await _problems(run))
