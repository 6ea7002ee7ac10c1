"""Activities: defaults filled in, retries, the four timeouts, heartbeats, cancellation, by-id calls, eager."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import Message

from tests.differential.context import IDLE_POLL_S, LATE_S, ActivityTask, Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    cancel_activity,
    canceled_failure,
    complete_workflow,
    duration,
    header,
    payloads,
    retry_policy,
    schedule_activity,
    start_timer,
    user_metadata,
)
from tests.support.proto import command, common, enums, failure, workflowservice

FIRST_ACTIVITY_EVENT = 5  # started, scheduled, started, completed, then the first command's event


async def _run_with(ctx: Context, label: str = "wf", **fields: Any) -> Run:
    """A run whose first task scheduled one activity `a` with these fields (see `schedule_activity`)."""
    run = await ctx.start(label)
    await run.step(schedule_activity("a", run.task_queue, **fields))
    return run


async def _finish(run: Run) -> None:
    """Complete the run on its next workflow task and record its history."""
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def activity_completes(ctx: Context) -> None:
    """The plain path: the task as polled, describe while scheduled and started, the history."""
    run = await _run_with(ctx, input=payloads("in"), header=header({"h": "x"}))
    ctx.record("history once scheduled", list(await run.events()))
    ctx.record("describe scheduled", await run.describe())
    task = await run.poll_activity()
    ctx.record("task", task)
    ctx.record("describe started", await run.describe())
    ctx.record("history while started", list(await run.events()))
    ctx.record("completion", await ctx.client.complete_activity(task.task_token, payloads("out")))
    await _finish(run)


@scenario
async def activity_every_field(ctx: Context) -> None:
    """Metadata, priority, header, retry policy and timeouts of an activity are preserved."""
    run = await _run_with(
        ctx,
        start_to_close_s=5,
        schedule_to_close_s=20,
        schedule_to_start_s=10,
        heartbeat_s=3,
        retry=retry_policy(initial_s=2, coefficient=3, maximum_s=9, attempts=4, non_retryable=("A", "B")),
        priority=common.Priority(priority_key=4, fairness_key="k", fairness_weight=2),
        user_metadata=user_metadata("sum", "det"),
        header=header({"h": "x"}),
    )
    ctx.record("task", await run.poll_activity())
    ctx.record("describe", await run.describe())
    await run.record_history()


@scenario
async def activity_timeout_defaults(ctx: Context) -> None:
    """Which timeouts are filled in from which, and capped by what."""
    cases: dict[str, tuple[float | None, dict[str, Any]]] = {
        "start to close only": (None, {"start_to_close_s": 5}),
        "schedule to close only": (None, {"start_to_close_s": None, "schedule_to_close_s": 7}),
        "start above schedule to close": (None, {"start_to_close_s": 20, "schedule_to_close_s": 7}),
        "schedule to start above": (
            None,
            {"start_to_close_s": 2, "schedule_to_close_s": 7, "schedule_to_start_s": 30},
        ),
        "heartbeat above start to close": (None, {"start_to_close_s": 2, "heartbeat_s": 9}),
        "run timeout, start to close only": (60, {"start_to_close_s": 5}),
        "run timeout caps": (
            60,
            {
                "start_to_close_s": 600,
                "schedule_to_close_s": 900,
                "schedule_to_start_s": 700,
                "heartbeat_s": 800,
            },
        ),
        "run timeout, schedule to close only": (60, {"start_to_close_s": None, "schedule_to_close_s": 90}),
        "run timeout, schedule to start": (60, {"start_to_close_s": 5, "schedule_to_start_s": 90}),
        "zero heartbeat": (None, {"start_to_close_s": 5, "heartbeat_s": 0}),
    }
    for label, (run_timeout_s, timeouts) in cases.items():
        run = await ctx.start(label.replace(" ", "-"), workflow_run_timeout=duration(run_timeout_s))
        await run.step(schedule_activity("a", run.task_queue, **timeouts))
        ctx.record(label, list((await run.events())[4:]))
        task = await run.poll_activity()
        ctx.record(f"{label}: task", task)


@scenario
async def activity_retry_defaults(ctx: Context) -> None:
    """A partly given retry policy is completed with the defaults."""
    cases = {
        "initial": retry_policy(initial_s=3),
        "coefficient": retry_policy(coefficient=1.5),
        "maximum": retry_policy(maximum_s=4),
        "attempts": retry_policy(attempts=1),
        "empty": retry_policy(),
    }
    for label, policy in cases.items():
        run = await _run_with(ctx, label, retry=policy)
        ctx.record(label, list((await run.events())[4:]))


@scenario
async def activity_on_another_queue(ctx: Context) -> None:
    """An activity on a queue that is not the run's."""
    run = await ctx.start()
    await run.step(schedule_activity("b", ctx.id("other")))
    await run.record_history()
    ctx.record("other", (await ctx.poll_activity(ctx.id("other"))).activity_id)


@slow_scenario
async def activity_retries(ctx: Context) -> None:
    """Fails twice, succeeds on the third attempt: backoff, attempt numbers, last failure, one event pair."""
    run = await _run_with(ctx, retry=retry_policy(initial_s=1, coefficient=1.5))
    first = await run.poll_activity()
    clock = ctx.clock()
    ctx.record("failed once", await ctx.client.fail_activity(first.task_token, application_failure("first")))
    ctx.record("describe in backoff", await run.describe())
    second = await run.poll_activity()
    ctx.record_about("first backoff", clock, 0.95, LATE_S)
    ctx.record("second attempt", second)
    clock = ctx.clock()
    await ctx.client.fail_activity(second.task_token, application_failure("second"))
    third = await run.poll_activity()
    ctx.record_about("second backoff", clock, 1.45, LATE_S)
    ctx.record("describe during third", await run.describe())
    await ctx.client.complete_activity(third.task_token, payloads("out"))
    await _finish(run)


@slow_scenario
async def activity_max_attempts(ctx: Context) -> None:
    """Attempts run out: the final failure and its retry state."""
    run = await _run_with(ctx, retry=retry_policy(initial_s=0.1, attempts=2))
    for _ in range(2):
        task = await run.poll_activity()
        await ctx.client.fail_activity(task.task_token, application_failure(f"attempt {task.attempt}"))
    await _finish(run)


@scenario
async def activity_non_retryable(ctx: Context) -> None:
    """Non-retryable by flag, by listed type, by having no retries; other failure kinds."""
    listed = retry_policy(initial_s=60, non_retryable=("Boom",))
    cases: dict[str, tuple[common.RetryPolicy | None, failure.Failure]] = {
        "flag": (None, application_failure(non_retryable=True)),
        "listed type": (listed, application_failure(type="Boom")),
        "one attempt": (retry_policy(attempts=1), application_failure()),
        "canceled failure": (None, canceled_failure()),
        "terminated failure": (
            None,
            failure.Failure(message="t", terminated_failure_info=failure.TerminatedFailureInfo()),
        ),
        "server failure": (
            None,
            failure.Failure(message="s", server_failure_info=failure.ServerFailureInfo(non_retryable=True)),
        ),
        "no failure info, one attempt": (retry_policy(attempts=1), failure.Failure(message="bare")),
    }
    for label, (policy, failed) in cases.items():
        run = await _run_with(ctx, label.replace(" ", "-").replace(",", ""), retry=policy)
        task = await run.poll_activity()
        await ctx.attempt(f"{label}: answer", ctx.client.fail_activity(task.task_token, failed))
        ctx.record(label, list((await run.events())[4:]))


@scenario
async def activity_failed_without_failure(ctx: Context) -> None:
    """RespondActivityTaskFailed with no failure at all."""
    run = await _run_with(ctx, retry=retry_policy(attempts=1))
    task = await run.poll_activity()
    await ctx.attempt(
        "answer",
        workflowservice.RespondActivityTaskFailedRequest(namespace="default", task_token=task.task_token),
    )
    await run.record_history()


@slow_scenario
async def activity_next_retry_delay(ctx: Context) -> None:
    """A failure's next_retry_delay replaces the backoff."""
    run = await _run_with(ctx, retry=retry_policy(initial_s=60))
    task = await run.poll_activity()
    clock = ctx.clock()
    await ctx.client.fail_activity(task.task_token, application_failure(next_retry_delay_s=1))
    ctx.record("describe", await run.describe())
    second = await run.poll_activity()
    ctx.record_about("delay", clock, 0.95, LATE_S)
    await ctx.client.complete_activity(second.task_token)
    await _finish(run)


@scenario
async def activity_retry_beyond_schedule_to_close(ctx: Context) -> None:
    """The next attempt would start after schedule-to-close: the activity ends at once."""
    run = await _run_with(ctx, schedule_to_close_s=5, retry=retry_policy(initial_s=30))
    task = await run.poll_activity()
    await ctx.client.fail_activity(task.task_token, application_failure())
    await _finish(run)


@slow_scenario
async def activity_schedule_to_start_timeout(ctx: Context) -> None:
    """No worker takes the activity in time."""
    run = await _run_with(ctx, schedule_to_start_s=1)
    await _finish(run)


@slow_scenario
async def activity_schedule_to_close_timeout(ctx: Context) -> None:
    """The whole life of the activity ends, once unstarted, once started, once in backoff."""
    unstarted = await _run_with(ctx, "unstarted", start_to_close_s=None, schedule_to_close_s=1)
    started = await _run_with(ctx, "started", start_to_close_s=None, schedule_to_close_s=1)
    task = await started.poll_activity()
    for label, run in (("unstarted", unstarted), ("started", started)):
        await run.step(complete_workflow())
        await run.record_history(label)
    await ctx.attempt("late completion", ctx.client.complete_activity(task.task_token))


@slow_scenario
async def activity_schedule_to_close_with_a_waiting_worker(ctx: Context) -> None:
    """The worker takes the activity at once, so that its own limits are as long as the activity's: the latter count."""
    runs = {}
    for label, attempts in (("one attempt", 1), ("more", 0)):
        run = await ctx.start(label.replace(" ", "-"))
        poll = asyncio.create_task(run.poll_activity())
        policy = retry_policy(attempts=attempts)
        limits: dict[str, Any] = {"start_to_close_s": None, "schedule_to_close_s": 1, "heartbeat_s": 1}
        await run.step(schedule_activity("a", run.task_queue, retry=policy, **limits))
        await poll
        runs[label] = run
    for label, run in runs.items():
        await run.step(complete_workflow())
        await run.record_history(label)


@slow_scenario
async def activity_start_to_close_timeout(ctx: Context) -> None:
    """A start-to-close timeout is retried, then final; the late answers are refused."""
    run = await _run_with(ctx, start_to_close_s=1, retry=retry_policy(initial_s=0.1, attempts=2))
    first = await run.poll_activity()
    second = await run.poll_activity()
    ctx.record("second attempt", second)
    ctx.record("describe", await run.describe())
    await ctx.attempt("late completion", ctx.client.complete_activity(first.task_token))
    await ctx.attempt("late heartbeat", ctx.client.heartbeat_activity(first.task_token))
    await ctx.attempt("late failure", ctx.client.fail_activity(first.task_token, application_failure()))
    await _finish(run)


@slow_scenario
async def activity_start_to_close_non_retryable(ctx: Context) -> None:
    """Timeouts named among the non-retryable types are final."""
    listed = ("TemporalTimeout:StartToClose", "TemporalTimeout:Heartbeat")
    one = await _run_with(ctx, "start-to-close", start_to_close_s=1, retry=retry_policy(non_retryable=listed))
    two = await _run_with(ctx, "heartbeat", heartbeat_s=1, retry=retry_policy(non_retryable=listed))
    await one.poll_activity()
    await two.poll_activity()
    for label, run in (("start to close", one), ("heartbeat", two)):
        await run.step(complete_workflow())
        await run.record_history(label)


@slow_scenario
async def activity_heartbeat_timeout(ctx: Context) -> None:
    """A heartbeat timeout is retried with the last details; the final one carries them in its failure."""
    run = await _run_with(ctx, heartbeat_s=1, retry=retry_policy(initial_s=0.1, attempts=2))
    first = await run.poll_activity()
    ctx.record("heartbeat", await ctx.client.heartbeat_activity(first.task_token, payloads("progress")))
    second = await run.poll_activity()
    ctx.record("second attempt", second)
    ctx.record("describe", await run.describe())
    await _finish(run)


@slow_scenario
async def activity_heartbeat_keeps_alive(ctx: Context) -> None:
    """Heartbeats push the heartbeat timeout away."""
    run = await _run_with(ctx, heartbeat_s=3, retry=retry_policy(attempts=1))
    task = await run.poll_activity()
    for number in range(4):
        await ctx.pause(1)
        await ctx.client.heartbeat_activity(task.task_token, payloads(str(number)))
    ctx.record("describe", await run.describe())
    await ctx.client.complete_activity(task.task_token, payloads("out"))
    await _finish(run)


@slow_scenario
async def activity_heartbeat_details_carried(ctx: Context) -> None:
    """Details go to the next attempt after a failure; last_heartbeat_details of the failure win."""
    run = await _run_with(ctx, retry=retry_policy(initial_s=0.1))
    task = await run.poll_activity()
    await ctx.client.heartbeat_activity(task.task_token, payloads("one"))
    await ctx.client.fail_activity(task.task_token, application_failure())
    second = await run.poll_activity()
    ctx.record("second", second.heartbeat_details)
    await ctx.client.fail_activity(
        second.task_token, application_failure(), last_heartbeat_details=payloads("two", "three")
    )
    third = await run.poll_activity()
    ctx.record("third", third.heartbeat_details)
    await ctx.client.fail_activity(third.task_token, application_failure())
    fourth = await run.poll_activity()
    ctx.record("fourth", fourth.heartbeat_details)
    await ctx.client.complete_activity(fourth.task_token)
    await _finish(run)


@scenario
async def activity_cancel_before_start(ctx: Context) -> None:
    """Cancelled before any worker took it: canceled at once, one new task; the queue gives nothing."""
    run = await _run_with(ctx)
    await run.signal()
    task = await run.poll()
    await run.complete(task, cancel_activity(FIRST_ACTIVITY_EVENT))
    ctx.record("history", list(await run.events()))
    await run.step(complete_workflow())
    await run.record_history("history at the end")


@scenario
async def activity_cancel_in_same_task(ctx: Context) -> None:
    """Scheduled and cancelled by commands of the same workflow task."""
    run = await ctx.start()
    task = await run.poll()
    await run.complete(
        task,
        schedule_activity("a", run.task_queue),
        start_timer("t", 60),
        cancel_activity(FIRST_ACTIVITY_EVENT),
    )
    await _finish(run)


async def _cancel_requested(ctx: Context, **fields: Any) -> tuple[Run, ActivityTask]:
    """A run whose activity `a` is started and has a cancel request."""
    run = await _run_with(ctx, **fields)
    task = await run.poll_activity()
    await run.signal()
    await run.step(cancel_activity(FIRST_ACTIVITY_EVENT))
    return run, task


@scenario
async def activity_cancel_after_start(ctx: Context) -> None:
    """Cancelled while a worker has it: the heartbeat says so, the worker reports canceled."""
    run, task = await _cancel_requested(ctx)
    ctx.record("describe", await run.describe())
    ctx.record("heartbeat", await ctx.client.heartbeat_activity(task.task_token))
    ctx.record("canceled", await ctx.client.cancel_activity(task.task_token, payloads("details")))
    await _finish(run)


@scenario
async def activity_completes_in_spite_of_cancel(ctx: Context) -> None:
    """A worker may complete an activity that was asked to cancel."""
    run, task = await _cancel_requested(ctx)
    await ctx.client.complete_activity(task.task_token, payloads("out"))
    await _finish(run)


@scenario
async def activity_fails_after_cancel_request(ctx: Context) -> None:
    """A failure after a cancel request is not retried."""
    run, task = await _cancel_requested(ctx)
    await ctx.client.fail_activity(task.task_token, application_failure())
    await _finish(run)


@slow_scenario
async def activity_times_out_after_cancel_request(ctx: Context) -> None:
    """A timeout after a cancel request is not retried."""
    run, _ = await _cancel_requested(ctx, start_to_close_s=1)
    await _finish(run)


@scenario
async def activity_cancel_in_backoff(ctx: Context) -> None:
    """Cancelled between two attempts: canceled at once."""
    run = await _run_with(ctx, retry=retry_policy(initial_s=60))
    task = await run.poll_activity()
    await ctx.client.fail_activity(task.task_token, application_failure())
    await run.signal()
    await run.step(cancel_activity(FIRST_ACTIVITY_EVENT))
    await _finish(run)


@scenario
async def activity_cancel_after_finish(ctx: Context) -> None:
    """Cancel command for an activity whose completion is buffered behind the same task, then for a finished one."""
    run = await _run_with(ctx)
    task = await run.poll_activity()
    await run.signal()
    workflow_task = await run.poll()
    await ctx.client.complete_activity(task.task_token, payloads("out"))
    await ctx.attempt(
        "buffered completion", run.complete(workflow_task, cancel_activity(FIRST_ACTIVITY_EVENT))
    )
    ctx.record("history", list(await run.events()))
    workflow_task = await run.poll()
    await ctx.attempt("finished", run.complete(workflow_task, cancel_activity(FIRST_ACTIVITY_EVENT)))
    await run.record_history("history at the end")


@scenario
async def activity_cancel_twice(ctx: Context) -> None:
    """Two cancel commands for the same started activity."""
    run, _ = await _cancel_requested(ctx)
    await run.signal()
    task = await run.poll()
    await ctx.attempt("second", run.complete(task, cancel_activity(FIRST_ACTIVITY_EVENT)))
    await run.record_history()


@scenario
async def activity_canceled_without_request(ctx: Context) -> None:
    """RespondActivityTaskCanceled with no cancel request."""
    run = await _run_with(ctx)
    task = await run.poll_activity()
    await ctx.attempt("answer", ctx.client.cancel_activity(task.task_token, payloads("x")))
    await run.record_history()


@scenario
async def activity_two_at_once(ctx: Context) -> None:
    """Two activities finish while a workflow task is started: order of the buffered pairs."""
    run = await ctx.start()
    await run.step(schedule_activity("a", run.task_queue), schedule_activity("b", run.task_queue))
    tasks = {task.activity_id: task for task in [await run.poll_activity(), await run.poll_activity()]}
    await run.signal("first")
    workflow_task = await run.poll()
    await ctx.client.complete_activity(tasks["b"].task_token, payloads("b"))
    await run.signal("between")
    await ctx.client.fail_activity(tasks["a"].task_token, application_failure(non_retryable=True))
    await run.complete(workflow_task)
    ctx.record("history after", list(await run.events()))
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def activity_duplicate_id(ctx: Context) -> None:
    """An activity id that is still in use, in the same task and in a later one; free again when finished."""
    run = await ctx.start()
    task = await run.poll()
    twice = (schedule_activity("a", run.task_queue), schedule_activity("a", run.task_queue))
    await ctx.attempt("same task", run.complete(task, *twice))
    await run.record_history("after the same task")
    await run.step(schedule_activity("a", run.task_queue))
    activity = await run.poll_activity()
    await ctx.client.complete_activity(activity.task_token)
    await run.step(schedule_activity("a", run.task_queue))
    await run.record_history()


@scenario
async def activity_tokens(ctx: Context) -> None:
    """Stale and garbled tokens for each activity answer: after completion and after the run closed."""
    run = await _run_with(ctx)
    task = await run.poll_activity()

    async def each(label: str, token: bytes) -> None:
        await ctx.attempt(f"{label}: complete", ctx.client.complete_activity(token))
        await ctx.attempt(f"{label}: fail", ctx.client.fail_activity(token, application_failure()))
        await ctx.attempt(f"{label}: cancel", ctx.client.cancel_activity(token))
        await ctx.attempt(f"{label}: heartbeat", ctx.client.heartbeat_activity(token))

    await each("empty", b"")
    await each("garbled", b"garbled token")
    await ctx.client.complete_activity(task.task_token)
    await each("finished", task.task_token)
    await ctx.client.terminate(run.workflow_id)
    await each("closed run", task.task_token)


@scenario
async def activity_answers_after_termination(ctx: Context) -> None:
    """A run terminated while its activity is started."""
    run = await _run_with(ctx)
    task = await run.poll_activity()
    await ctx.client.terminate(run.workflow_id)
    await ctx.attempt("heartbeat", ctx.client.heartbeat_activity(task.task_token))
    await ctx.attempt("complete", ctx.client.complete_activity(task.task_token))
    await run.record_history()


def _by_id(run: Run, activity_id: str = "a", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "namespace": "default",
        "workflow_id": run.workflow_id,
        "run_id": run.run_id,
        "activity_id": activity_id,
        "identity": "by-id",
    }
    return values | changes


def _requests_by_id(values: dict[str, Any]) -> dict[str, Message]:
    """One request of each by-id call with these fields."""
    service = workflowservice
    return {
        "heartbeat": service.RecordActivityTaskHeartbeatByIdRequest(**values),
        "complete": service.RespondActivityTaskCompletedByIdRequest(**values),
        "fail": service.RespondActivityTaskFailedByIdRequest(
            **values,
            failure=application_failure(non_retryable=True),
        ),
        "cancel": service.RespondActivityTaskCanceledByIdRequest(**values),
    }


@scenario
async def activity_by_id(ctx: Context) -> None:
    """Heartbeat, complete, fail and cancel a started activity by its id."""
    for verb in ("complete", "fail", "cancel"):
        run = await _run_with(ctx, verb)
        await run.poll_activity()
        requests = _requests_by_id(_by_id(run))
        if verb == "cancel":
            await run.signal()
            await run.step(cancel_activity(FIRST_ACTIVITY_EVENT))
        await ctx.attempt(f"{verb}: heartbeat", requests["heartbeat"])
        await ctx.attempt(f"{verb}: answer", requests[verb])
        await run.record_history(verb)


@scenario
async def activity_by_id_errors(ctx: Context) -> None:
    """By-id calls for an activity not started, unknown, in an unknown run, with fields missing."""
    run = await _run_with(ctx)
    cases = {
        "unknown activity": _by_id(run, "nope"),
        "unknown workflow": _by_id(run, workflow_id="no-such-workflow", run_id=""),
        "unknown run": _by_id(run, run_id="0190c7a8-0000-7000-8000-000000000001"),
        "bad run id": _by_id(run, run_id="not-a-uuid"),
        "no workflow id": _by_id(run, workflow_id=""),
        "no activity id": _by_id(run, activity_id=""),
        "unknown namespace": _by_id(run, namespace="no-such-namespace"),
        "not canceled": _by_id(run),
    }
    for label, values in cases.items():
        requests = _requests_by_id(values)
        verbs = ("cancel",) if label == "not canceled" else requests
        for verb in verbs:
            await ctx.attempt(f"{label}: {verb}", requests[verb])


@scenario
async def activity_by_id_before_start(ctx: Context) -> None:
    """Heartbeat and complete by id while no worker has the activity."""
    run = await _run_with(ctx)
    requests = _requests_by_id(_by_id(run, run_id=""))
    await ctx.attempt("heartbeat", requests["heartbeat"])
    await ctx.attempt("complete", requests["complete"])
    await run.record_history()


@scenario
async def activity_result_too_big(ctx: Context) -> None:
    """Result, failure and heartbeat details above the limit."""
    big = payloads("x" * (2 * 1024 * 1024))
    run = await ctx.start()
    await run.step(
        *(schedule_activity(name, run.task_queue, retry=retry_policy(attempts=1)) for name in "abc")
    )
    tasks = {task.activity_id: task for task in [await run.poll_activity() for _ in range(3)]}
    await ctx.attempt("result", ctx.client.complete_activity(tasks["a"].task_token, big))
    await ctx.attempt(
        "failure", ctx.client.fail_activity(tasks["b"].task_token, application_failure("x" * 2_200_000))
    )
    await ctx.attempt("heartbeat", ctx.client.heartbeat_activity(tasks["c"].task_token, big))
    events = await run.events()
    by_schedule: dict[str, Any] = {}
    for event in events[7:]:
        by_schedule[f"{event.event_type}-{len(by_schedule)}"] = event
    ctx.record("events", by_schedule)


@scenario
async def activity_details_too_big(ctx: Context) -> None:
    """Details above the limit: of a cancellation, beside a failure, by id."""
    big = payloads("x" * (2 * 1024 * 1024))
    run = await ctx.start()
    retry = retry_policy(attempts=1)
    await run.step(*(schedule_activity(name, run.task_queue, retry=retry) for name in "abcd"))
    tasks = {task.activity_id: task for task in [await run.poll_activity() for _ in range(4)]}
    await run.signal()
    await run.step(cancel_activity(FIRST_ACTIVITY_EVENT))
    await ctx.attempt("cancellation", ctx.client.cancel_activity(tasks["a"].task_token, big))
    failing = ctx.client.fail_activity(
        tasks["b"].task_token, application_failure(), last_heartbeat_details=big
    )
    await ctx.attempt("beside a failure", failing)
    named = {"namespace": ctx.client.namespace, "workflow_id": run.workflow_id, "identity": "by id"}
    await ctx.attempt(
        "result by id",
        workflowservice.RespondActivityTaskCompletedByIdRequest(activity_id="c", result=big, **named),
    )
    await ctx.attempt(
        "heartbeat by id",
        workflowservice.RecordActivityTaskHeartbeatByIdRequest(activity_id="d", details=big, **named),
    )
    await _finish(run)


@scenario
async def activity_eager(ctx: Context) -> None:
    """An activity asked for eagerly comes with the workflow task's answer; its history."""
    run = await ctx.start()
    task = await run.poll()
    response = await run.complete(
        task,
        schedule_activity("a", run.task_queue, eager=True),
        schedule_activity("b", run.task_queue),
    )
    ctx.record("response", response)
    ctx.record("describe", await run.describe())
    await ctx.client.complete_activity(response.activity_tasks[0].task_token, payloads("out"))
    await run.record_history()


@scenario
async def activity_eager_with_inline_task(ctx: Context) -> None:
    """Eager activity and an inline workflow task in one answer."""
    run = await ctx.start()
    task = await run.poll()
    await run.signal("buffered")
    response = await run.complete(
        task, schedule_activity("a", run.task_queue, eager=True), return_new_workflow_task=True
    )
    ctx.record("response", response)
    await run.record_history()


@scenario
async def activity_started_after_close(ctx: Context) -> None:
    """Closing a run with pending activities: events, and describe afterwards."""
    run = await _run_with(ctx)
    await run.signal()
    await run.step(complete_workflow())
    await run.record_history()
    ctx.record("describe", await run.describe())
    ctx.record("poll", await run.poll_activity(timeout_s=IDLE_POLL_S, expect=False))


async def _bad_activity(ctx: Context, label: str, bad: command.Command) -> None:
    run = await ctx.start(label.replace(" ", "-").replace(":", ""))
    task = await run.poll()
    await ctx.attempt(f"{label}: answer", run.complete(task, bad))
    events = await run.events()
    ctx.record(f"{label}: events", list(events[3:]))


@scenario
async def activity_bad_attributes(ctx: Context) -> None:
    """Each way the attributes of an activity command can be wrong: answer and failed event."""
    queue_name = ctx.id("queue")
    long_text = "x" * 1001
    cases = {
        "no attributes": command.Command(command_type=enums.CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK),
        "no id": schedule_activity("", queue_name),
        "no queue": schedule_activity("a", ""),
        "long id": schedule_activity(long_text, queue_name),
        "no type": schedule_activity("a", queue_name, type=""),
        "long type": schedule_activity("a", queue_name, type=long_text),
        "long queue": schedule_activity("a", long_text),
        "no timeout": schedule_activity("a", queue_name, start_to_close_s=None),
        "negative start to close": schedule_activity("a", queue_name, start_to_close_s=-1),
        "negative schedule to close": schedule_activity("a", queue_name, schedule_to_close_s=-1),
        "negative schedule to start": schedule_activity("a", queue_name, schedule_to_start_s=-1),
        "negative heartbeat": schedule_activity("a", queue_name, heartbeat_s=-1),
        "retry: initial": schedule_activity("a", queue_name, retry=retry_policy(initial_s=-1)),
        "retry: coefficient": schedule_activity("a", queue_name, retry=retry_policy(coefficient=0.5)),
        "retry: maximum": schedule_activity("a", queue_name, retry=retry_policy(initial_s=5, maximum_s=1)),
        "retry: attempts": schedule_activity("a", queue_name, retry=retry_policy(attempts=-1)),
        "priority": schedule_activity("a", queue_name, priority=common.Priority(priority_key=-1)),
        "cancel unknown": cancel_activity(77),
        "cancel without id": cancel_activity(0),
        "cancel of another event": cancel_activity(2),
        "cancel no attributes": command.Command(
            command_type=enums.CommandType.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK
        ),
        "bad timeout type": schedule_activity(
            "a", queue_name, retry=retry_policy(non_retryable=("TemporalTimeout:Nonsense",))
        ),
    }
    for label, bad in cases.items():
        await _bad_activity(ctx, label, bad)
