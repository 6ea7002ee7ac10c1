"""Activities that no workflow scheduled: start and its policies, attempts, outcomes, cancellation, lists."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.context import IDLE_POLL_S, LATE_S, Context
from tests.differential.registry import scenario
from tests.support.builders import (
    application_failure,
    duration,
    header,
    keyword,
    payloads,
    queue,
    retry_policy,
    schedule_activity,
    user_metadata,
)
from tests.support.proto import common, enums, failure, workflowservice

Start = workflowservice.StartActivityExecutionRequest
Describe = workflowservice.DescribeActivityExecutionRequest
Poll = workflowservice.PollActivityExecutionRequest
Cancel = workflowservice.RequestCancelActivityExecutionRequest
Terminate = workflowservice.TerminateActivityExecutionRequest
Delete = workflowservice.DeleteActivityExecutionRequest
List = workflowservice.ListActivityExecutionsRequest
Count = workflowservice.CountActivityExecutionsRequest
Reuse = enums.ActivityIdReusePolicy
Conflict = enums.ActivityIdConflictPolicy


def queue_of(ctx: Context) -> str:
    """The queue of a scenario's activities."""
    return ctx.id("queue")


def start(ctx: Context, label: str = "a", **fields: Any) -> Start:
    """A request to start an activity that may take a minute."""
    values: dict[str, Any] = {
        "namespace": ctx.client.namespace,
        "identity": "client",
        "request_id": ctx.id(f"{label}-request"),
        "activity_id": ctx.id(label),
        "activity_type": common.ActivityType(name="work"),
        "task_queue": queue(queue_of(ctx)),
        "start_to_close_timeout": duration(60),
        "retry_policy": retry_policy(initial_s=1, coefficient=1),
    }
    return Start(**{name: value for name, value in (values | fields).items() if value is not None})


def about(ctx: Context, label: str = "a", **fields: Any) -> dict[str, Any]:
    """The fields that name an activity."""
    return {"namespace": ctx.client.namespace, "activity_id": ctx.id(label), **fields}


async def describe(
    ctx: Context, record: str, label: str = "a", **fields: Any
) -> workflowservice.DescribeActivityExecutionResponse:
    """Describes an activity with everything there is, and records it."""
    response = await ctx.client.call(
        Describe(
            **about(ctx, label, **fields),
            include_input=True,
            include_outcome=True,
            include_heartbeat_details=True,
            include_last_failure=True,
        ),
        workflowservice.DescribeActivityExecutionResponse,
    )
    ctx.record(record, response)
    return response


def link(workflow_id: str) -> common.Link:
    """A link to the start of a workflow."""
    event = common.Link.WorkflowEvent(namespace="n", workflow_id=workflow_id, run_id="r")
    event.event_ref.event_id = 1
    event.event_ref.event_type = enums.EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
    return common.Link(workflow_event=event)


async def outcome(ctx: Context, record: str = "outcome", label: str = "a") -> None:
    """Waits for an activity's outcome and records it."""
    await ctx.attempt(record, Poll(**about(ctx, label)))


@scenario
async def standalone_completes(ctx: Context) -> None:
    """Everything that a start can say shows in the task and the description; a result is the outcome."""
    await ctx.attempt(
        "start",
        start(
            ctx,
            input=payloads("in"),
            header=header({"h": "v"}),
            search_attributes=common.SearchAttributes(indexed_fields={"Shade": keyword("red")}),
            user_metadata=user_metadata("short", "long"),
            priority=common.Priority(priority_key=2),
            links=[link("x")],
            schedule_to_close_timeout=duration(300),
            heartbeat_timeout=duration(30),
        ),
    )
    await describe(ctx, "scheduled")
    task = await ctx.poll_activity(queue_of(ctx))
    ctx.record("task", task)
    await describe(ctx, "started")
    ctx.record("heartbeat", await ctx.client.heartbeat_activity(task.task_token, payloads("p")))
    await describe(ctx, "after a heartbeat")
    await ctx.attempt("complete", ctx.client.complete_activity(task.task_token, payloads("out")))
    await describe(ctx, "completed")
    await outcome(ctx)
    await ctx.attempt("complete again", ctx.client.complete_activity(task.task_token, payloads("out")))
    await ctx.attempt("heartbeat after the end", ctx.client.heartbeat_activity(task.task_token, None))


@scenario
async def standalone_minimal(ctx: Context) -> None:
    """What is not said has defaults; a completion without result is an outcome all the same."""
    await ctx.attempt(
        "start",
        start(ctx, retry_policy=None, start_to_close_timeout=None, schedule_to_close_timeout=duration(9)),
    )
    await describe(ctx, "scheduled")
    task = await ctx.poll_activity(queue_of(ctx))
    ctx.record("task", task)
    await ctx.client.complete_activity(task.task_token, None)
    await describe(ctx, "completed")
    await outcome(ctx)


@scenario
async def standalone_retries(ctx: Context) -> None:
    """A failure is retried after the policy's interval; the last one allowed is the outcome."""
    policy = retry_policy(initial_s=1, coefficient=1, attempts=2)
    await ctx.client.invoke(start(ctx, retry_policy=policy))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.heartbeat_activity(task.task_token, payloads("p"))
    await ctx.client.fail_activity(task.task_token, application_failure("first"))
    await describe(ctx, "backing off")
    await ctx.attempt("heartbeat of the first", ctx.client.heartbeat_activity(task.task_token, None))
    task = await ctx.poll_activity(queue_of(ctx))
    ctx.record("second task", task)
    await describe(ctx, "second attempt")
    await ctx.client.fail_activity(task.task_token, application_failure("second"))
    await describe(ctx, "failed")
    await outcome(ctx)


@scenario
async def standalone_not_retried(ctx: Context) -> None:
    """Failures that are not retried: by their own word, by the policy, without retries, or without saying why."""
    cases: dict[str, tuple[common.RetryPolicy, failure.Failure]] = {
        "own word": (retry_policy(initial_s=1), application_failure(non_retryable=True)),
        "policy": (retry_policy(initial_s=1, non_retryable=("Boom",)), application_failure()),
        "no retries": (retry_policy(attempts=1), application_failure()),
        "no time": (retry_policy(initial_s=100), application_failure()),
    }
    for label, (policy, failed) in cases.items():
        await ctx.client.invoke(
            start(ctx, label, retry_policy=policy, schedule_to_close_timeout=duration(50))
        )
        task = await ctx.poll_activity(queue_of(ctx))
        await ctx.client.fail_activity(task.task_token, failed)
        await outcome(ctx, f"{label}: outcome", label)
    await describe(ctx, "no time", "no time")


@scenario
async def standalone_fails_without_failure(ctx: Context) -> None:
    """A worker that does not say why."""
    await ctx.client.invoke(start(ctx, retry_policy=retry_policy(attempts=1)))
    task = await ctx.poll_activity(queue_of(ctx))
    request = workflowservice.RespondActivityTaskFailedRequest(
        namespace=ctx.client.namespace, task_token=task.task_token, identity="w"
    )
    await ctx.attempt("fail", request)
    await outcome(ctx)
    await describe(ctx, "failed")


@scenario
async def standalone_worker_delay(ctx: Context) -> None:
    """The worker may choose the next interval; heartbeat details may come with a failure."""
    await ctx.client.invoke(start(ctx))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.fail_activity(
        task.task_token, application_failure(next_retry_delay_s=30), last_heartbeat_details=payloads("late")
    )
    await describe(ctx, "backing off")
    await ctx.attempt("terminate", Terminate(**about(ctx, reason="enough", identity="op")))
    await describe(ctx, "terminated")


@scenario
async def standalone_start_to_close(ctx: Context) -> None:
    """Start-to-close times an attempt out, which is retried; without retries it is the outcome."""
    await ctx.client.invoke(
        start(
            ctx,
            start_to_close_timeout=duration(1),
            retry_policy=retry_policy(initial_s=1, coefficient=1, attempts=2),
        )
    )
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.heartbeat_activity(task.task_token, payloads("p"))
    second = await ctx.poll_activity(queue_of(ctx))
    ctx.record("second", second)
    await outcome(ctx)
    await describe(ctx, "timed out")


@scenario
async def standalone_no_time_for_retry(ctx: Context) -> None:
    """A time-out whose retry would come too late ends as a schedule-to-close timeout."""
    await ctx.client.invoke(
        start(
            ctx,
            start_to_close_timeout=duration(1),
            schedule_to_close_timeout=duration(20),
            retry_policy=retry_policy(initial_s=60, coefficient=1),
        )
    )
    await ctx.poll_activity(queue_of(ctx))
    await outcome(ctx)
    await describe(ctx, "timed out")


@scenario
async def standalone_heartbeat_timeout(ctx: Context) -> None:
    """Without a heartbeat in time the attempt is over."""
    await ctx.client.invoke(start(ctx, heartbeat_timeout=duration(1), retry_policy=retry_policy(attempts=1)))
    await ctx.poll_activity(queue_of(ctx))
    await outcome(ctx)
    await describe(ctx, "timed out")


@scenario
async def standalone_schedule_timeouts(ctx: Context) -> None:
    """Schedule-to-start and schedule-to-close end what no worker takes, or what takes too long."""
    await ctx.client.invoke(start(ctx, schedule_to_start_timeout=duration(1)))
    await ctx.client.invoke(start(ctx, "b", schedule_to_close_timeout=duration(1)))
    await outcome(ctx)
    await describe(ctx, "schedule to start")
    await outcome(ctx, "outcome b", "b")
    await describe(ctx, "schedule to close", "b")
    await ctx.client.invoke(
        start(
            ctx,
            "c",
            task_queue=queue(ctx.id("other")),
            schedule_to_close_timeout=duration(3),
            retry_policy=retry_policy(initial_s=1, coefficient=1),
        )
    )
    task = await ctx.poll_activity(ctx.id("other"))
    await ctx.client.fail_activity(task.task_token, application_failure())
    await ctx.poll_activity(ctx.id("other"))
    await outcome(ctx, "outcome c", "c")
    await describe(ctx, "schedule to close with a worker", "c")


@scenario
async def standalone_start_delay(ctx: Context) -> None:
    """A delayed first attempt waits; schedule-to-close runs from when it is due."""
    clock = ctx.clock()
    await ctx.attempt("start", start(ctx, start_delay=duration(2), schedule_to_close_timeout=duration(100)))
    await describe(ctx, "delayed")
    task = await ctx.poll_activity(queue_of(ctx))
    ctx.record_about("wait", clock, 1.95, LATE_S)
    await ctx.client.complete_activity(task.task_token, None)
    await describe(ctx, "completed")


@scenario
async def standalone_cancel_running(ctx: Context) -> None:
    """A worker is told of a cancellation by heartbeat and confirms it."""
    await ctx.client.invoke(start(ctx))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.attempt("confirmed too early", ctx.client.cancel_activity(task.task_token, payloads("d")))
    await ctx.attempt("cancel", Cancel(**about(ctx, identity="op", request_id="c", reason="why")))
    await describe(ctx, "requested")
    await ctx.attempt("same again", Cancel(**about(ctx, identity="op", request_id="c")))
    await ctx.attempt("another", Cancel(**about(ctx, identity="op", request_id="d")))
    ctx.record("heartbeat", await ctx.client.heartbeat_activity(task.task_token, None))
    await ctx.client.cancel_activity(task.task_token, payloads("d"))
    await describe(ctx, "canceled")
    await outcome(ctx)
    await ctx.attempt("same after the end", Cancel(**about(ctx, identity="op", request_id="c")))
    await ctx.attempt("another after the end", Cancel(**about(ctx, identity="op", request_id="d")))


@scenario
async def standalone_cancel_waiting(ctx: Context) -> None:
    """What no worker has is canceled at once; so is what waits for its next attempt."""
    await ctx.client.invoke(start(ctx))
    await ctx.attempt("cancel", Cancel(**about(ctx, identity="op", request_id="c", reason="why")))
    await describe(ctx, "canceled")
    await outcome(ctx)
    ctx.record("nothing to do", await ctx.poll_activity(queue_of(ctx), timeout_s=IDLE_POLL_S, expect=False))
    await ctx.client.invoke(start(ctx, "b", retry_policy=retry_policy(initial_s=60)))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.fail_activity(task.task_token, application_failure())
    await ctx.attempt("cancel b", Cancel(**about(ctx, "b", identity="op", request_id="c")))
    await describe(ctx, "canceled between attempts", "b")


@scenario
async def standalone_cancel_and_other_ends(ctx: Context) -> None:
    """A cancellation that was requested: a failure is not retried, a result still counts."""
    for label in ("fails", "completes"):
        await ctx.client.invoke(start(ctx, label))
        task = await ctx.poll_activity(queue_of(ctx))
        await ctx.client.invoke(Cancel(**about(ctx, label, identity="op", request_id="c")))
        if label == "fails":
            await ctx.client.fail_activity(task.task_token, application_failure())
        else:
            await ctx.client.complete_activity(task.task_token, payloads("r"))
        await describe(ctx, label, label)


@scenario
async def standalone_terminate(ctx: Context) -> None:
    """Terminated with a worker at it; a repeated request is recognised."""
    await ctx.client.invoke(start(ctx))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.attempt("terminate", Terminate(**about(ctx, reason="why", identity="op", request_id="t")))
    await describe(ctx, "terminated")
    await outcome(ctx)
    await ctx.attempt("same again", Terminate(**about(ctx, reason="why", identity="op", request_id="t")))
    await ctx.attempt("another", Terminate(**about(ctx, reason="why", identity="op", request_id="u")))
    await ctx.attempt("cancel", Cancel(**about(ctx, identity="op", request_id="c")))
    await ctx.attempt("late completion", ctx.client.complete_activity(task.task_token, None))
    await ctx.client.invoke(start(ctx, "done"))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.complete_activity(task.task_token, None)
    await ctx.attempt("terminate a completed one", Terminate(**about(ctx, "done", request_id="t")))


@scenario
async def standalone_delete(ctx: Context) -> None:
    """Deleted while it runs and after its end; nothing is left."""
    await ctx.client.invoke(start(ctx))
    await ctx.attempt("delete", Delete(**about(ctx)))

    async def gone() -> bool:
        try:
            await ctx.client.invoke(Describe(**about(ctx)))
        except Exception:  # whatever the answer is: it is recorded below
            return True
        return False

    await ctx.until("deleted", gone, bool)
    await ctx.attempt("describe", Describe(**about(ctx)))
    await ctx.attempt("delete again", Delete(**about(ctx)))
    await ctx.attempt("start anew", start(ctx, request_id=ctx.id("new")))


@scenario
async def standalone_ids(ctx: Context) -> None:
    """Which executions an id may have, by conflict and reuse policy and by request id."""
    first = await ctx.attempt("start", start(ctx))
    await ctx.attempt("same request", start(ctx))
    await ctx.attempt("conflict", start(ctx, request_id=ctx.id("other")))
    using = Conflict.ACTIVITY_ID_CONFLICT_POLICY_USE_EXISTING
    await ctx.attempt("use existing", start(ctx, request_id=ctx.id("third"), id_conflict_policy=using))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.complete_activity(task.task_token, None)
    rejecting = Reuse.ACTIVITY_ID_REUSE_POLICY_REJECT_DUPLICATE
    await ctx.attempt("reject", start(ctx, request_id=ctx.id("4"), id_reuse_policy=rejecting))
    failed_only = Reuse.ACTIVITY_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
    await ctx.attempt("only failed ones", start(ctx, request_id=ctx.id("5"), id_reuse_policy=failed_only))
    await ctx.attempt("same request after the end", start(ctx))
    await ctx.attempt("allow", start(ctx, request_id=ctx.id("6")))
    await ctx.client.invoke(Terminate(**about(ctx, request_id="t")))
    await ctx.attempt("failed now", start(ctx, request_id=ctx.id("7"), id_reuse_policy=failed_only))
    assert first is not None
    await describe(ctx, "first run", run_id=first.run_id)
    await describe(ctx, "current run")


@scenario
async def standalone_links_attached(ctx: Context) -> None:
    """Links of a start that finds a running execution are attached to it, once per request."""
    options = common.OnConflictOptions(attach_request_id=True, attach_links=True)
    using = Conflict.ACTIVITY_ID_CONFLICT_POLICY_USE_EXISTING
    again = start(
        ctx,
        request_id=ctx.id("second"),
        id_conflict_policy=using,
        links=[link("b")],
        on_conflict_options=options,
    )
    await ctx.client.invoke(start(ctx, links=[link("a")]))
    await ctx.attempt("attach", again)
    await ctx.attempt("attach again", again)
    await describe(ctx, "attached")
    await ctx.attempt(
        "nothing to attach",
        start(ctx, request_id=ctx.id("3"), id_conflict_policy=using, on_conflict_options=options),
    )
    await ctx.attempt(
        "callbacks without request id",
        start(
            ctx,
            request_id=ctx.id("4"),
            on_conflict_options=common.OnConflictOptions(attach_completion_callbacks=True),
        ),
    )
    nexus = common.Callback(nexus=common.Callback.Nexus(url="http://localhost/x"))
    await ctx.attempt("callbacks", start(ctx, "callbacks", completion_callbacks=[nexus]))


@scenario
async def standalone_by_id(ctx: Context) -> None:
    """Answers by id: heartbeat, failure, completion; also of what no worker has."""
    client = ctx.client
    namespace: dict[str, Any] = {"namespace": client.namespace, "identity": "other"}
    await client.invoke(start(ctx))
    by_id = {**namespace, "activity_id": ctx.id("a")}
    await ctx.attempt(
        "heartbeat before the start", workflowservice.RecordActivityTaskHeartbeatByIdRequest(**by_id)
    )
    await ctx.attempt(
        "failure before the start",
        workflowservice.RespondActivityTaskFailedByIdRequest(**by_id, failure=application_failure()),
    )
    await ctx.poll_activity(queue_of(ctx))
    await ctx.attempt(
        "heartbeat",
        workflowservice.RecordActivityTaskHeartbeatByIdRequest(**by_id, details=payloads("p")),
    )
    await ctx.attempt(
        "fail", workflowservice.RespondActivityTaskFailedByIdRequest(**by_id, failure=application_failure())
    )
    await ctx.poll_activity(queue_of(ctx))
    await ctx.attempt(
        "complete", workflowservice.RespondActivityTaskCompletedByIdRequest(**by_id, result=payloads("r"))
    )
    await describe(ctx, "completed")
    await client.invoke(start(ctx, "b"))
    other = {**namespace, "activity_id": ctx.id("b")}
    await ctx.attempt(
        "complete unstarted",
        workflowservice.RespondActivityTaskCompletedByIdRequest(**other, result=payloads("r")),
    )
    await describe(ctx, "completed unstarted", "b")
    await client.invoke(start(ctx, "c"))
    third = {**namespace, "activity_id": ctx.id("c")}
    await client.invoke(Cancel(**about(ctx, "c", request_id="c")))
    await ctx.attempt("cancel", workflowservice.RespondActivityTaskCanceledByIdRequest(**third))
    nobody = {**namespace, "activity_id": ctx.id("nobody")}
    await ctx.attempt("unknown", workflowservice.RespondActivityTaskCompletedByIdRequest(**nobody))
    await ctx.attempt(
        "bad run id", workflowservice.RespondActivityTaskCompletedByIdRequest(**by_id, run_id="x")
    )


@scenario
async def standalone_long_polls(ctx: Context) -> None:
    """A poll for the outcome and one for a change of state wait, and answer empty when nothing comes."""
    await ctx.client.invoke(start(ctx))
    described = await describe(ctx, "described")
    waiting = asyncio.create_task(ctx.client.invoke(Poll(**about(ctx))))
    change = Describe(
        **about(ctx, run_id=described.run_id), long_poll_token=described.long_poll_token, include_input=True
    )
    changing = asyncio.create_task(ctx.client.invoke(change))
    task = await ctx.poll_activity(queue_of(ctx))
    ctx.record("changed", await changing)
    await ctx.client.complete_activity(task.task_token, payloads("r"))
    ctx.record("outcome", await waiting)
    await ctx.attempt("old token", change)
    await ctx.client.invoke(start(ctx, "b"))
    await ctx.attempt("no outcome", Poll(**about(ctx, "b")), timeout_s=5)
    current = await describe(ctx, "described b", "b")
    await ctx.attempt(
        "no change",
        Describe(**about(ctx, "b", run_id=current.run_id), long_poll_token=current.long_poll_token),
        timeout_s=5,
    )
    await ctx.attempt(
        "token of another",
        Describe(**about(ctx, "b", run_id=current.run_id), long_poll_token=described.long_poll_token),
    )
    await ctx.attempt(
        "garbled token", Describe(**about(ctx, "b", run_id=current.run_id), long_poll_token=b"nonsense")
    )
    await ctx.attempt("without run id", Describe(**about(ctx, "b"), long_poll_token=current.long_poll_token))


@scenario
async def standalone_lists(ctx: Context) -> None:
    """Filters, counts and groups of standalone activities; lists of workflows do not show them."""
    client = ctx.client
    shade = common.SearchAttributes(indexed_fields={"Shade": keyword(ctx.id("red"))})
    await client.invoke(start(ctx, "one", search_attributes=shade))
    task = await ctx.poll_activity(queue_of(ctx))
    await client.complete_activity(task.task_token, None)
    for label in ("two", "three"):
        await client.invoke(start(ctx, label, search_attributes=shade))
    mine = f"Shade = '{ctx.id('red')}'"

    async def count(query: str) -> int:
        found = await client.call(
            Count(namespace=client.namespace, query=query), workflowservice.CountActivityExecutionsResponse
        )
        return found.count

    await ctx.until("listed", lambda: count(mine), lambda found: found == 3)
    await ctx.until(
        "closed", lambda: count(f"{mine} AND ExecutionStatus = 'Completed'"), lambda found: found == 1
    )
    for label, query in (
        ("all", mine),
        ("by id", f"ActivityId = '{ctx.id('two')}'"),
        ("by type", f"{mine} AND ActivityType = 'work'"),
        ("by another type", f"{mine} AND ActivityType = 'play'"),
        ("by queue", f"TaskQueue = '{queue_of(ctx)}'"),
        ("running", f"{mine} AND ExecutionStatus = 'Running'"),
        ("completed", f"{mine} AND ExecutionStatus = 'Completed'"),
        ("closed", f"{mine} AND CloseTime IS NOT NULL"),
        ("status in", f"{mine} AND ExecutionStatus IN ('Running', 'Failed')"),
        ("no such status", f"{mine} AND ExecutionStatus = 'ContinuedAsNew'"),
        ("unknown status", f"{mine} AND ExecutionStatus = 'Nonsense'"),
        ("workflow id", f"{mine} AND WorkflowId = '{ctx.id('two')}'"),
        ("workflow type", f"{mine} AND WorkflowType = 'work'"),
        ("history length", f"{mine} AND HistoryLength > 0"),
        ("started", f"{mine} AND StartTime > '2020-01-01T00:00:00Z'"),
        ("execution time", f"{mine} AND ExecutionTime > '2020-01-01T00:00:00Z'"),
        ("transitions", f"{mine} AND StateTransitionCount > 0"),
        ("duration", f"{mine} AND ExecutionDuration >= 0"),
        ("unknown attribute", "Nonsense = 'x'"),
        ("syntax", "ActivityType ="),
        ("grouped by type", f"{mine} GROUP BY ActivityType"),
    ):
        await ctx.attempt(f"count: {label}", Count(namespace=client.namespace, query=query))
    grouped = await client.call(
        Count(namespace=client.namespace, query=f"{mine} GROUP BY ExecutionStatus"),
        workflowservice.CountActivityExecutionsResponse,
    )
    ctx.record("grouped", sorted((group.group_values[0].data, group.count) for group in grouped.groups))
    ids = {"open": f"{mine} AND ExecutionStatus = 'Running' AND ActivityId = '{ctx.id('two')}'"}
    ids["closed"] = f"{mine} AND ExecutionStatus = 'Completed'"
    for label, query in ids.items():
        await ctx.attempt(f"list: {label}", List(namespace=client.namespace, query=query))
    workflows = workflowservice.CountWorkflowExecutionsRequest(namespace=client.namespace, query=mine)
    await ctx.attempt("workflows", workflows)


@scenario
async def standalone_start_refused(ctx: Context) -> None:
    """Starts that are refused, and the words."""
    long = "x" * 1001
    cases: dict[str, dict[str, Any]] = {
        "no id": {"activity_id": ""},
        "long id": {"activity_id": long},
        "no type": {"activity_type": None},
        "long type": {"activity_type": common.ActivityType(name=long)},
        "no queue": {"task_queue": None},
        "empty queue": {"task_queue": queue("")},
        "reserved queue": {"task_queue": queue("/_sys/x")},
        "no timeouts": {"start_to_close_timeout": None},
        "negative timeout": {"start_to_close_timeout": duration(-1)},
        "negative heartbeat": {"heartbeat_timeout": duration(-1)},
        "negative delay": {"start_delay": duration(-1)},
        "retry: negative": {"retry_policy": retry_policy(initial_s=-1)},
        "retry: coefficient": {"retry_policy": retry_policy(coefficient=0.5)},
        "retry: attempts": {"retry_policy": retry_policy(attempts=-1)},
        "priority": {"priority": common.Priority(priority_key=-1)},
        "long request id": {"request_id": long},
        "long identity": {"identity": long},
        "big input": {"input": payloads("x" * 2_100_000)},
        "long summary": {"user_metadata": user_metadata("x" * 500, "")},
        "long details": {"user_metadata": user_metadata("", "x" * 20_100)},
        "unknown attribute": {
            "search_attributes": common.SearchAttributes(indexed_fields={"Nope": keyword("x")})
        },
        "attribute of a wrong type": {
            "search_attributes": common.SearchAttributes(indexed_fields={"Count": keyword("x")})
        },
        "unknown namespace": {"namespace": "no-such-namespace"},
        "no namespace": {"namespace": ""},
        "unknown reuse policy": {"id_reuse_policy": 77},
        "unknown conflict policy": {"id_conflict_policy": 77},
        "links": {"links": [common.Link()] * 11},
        "bad link": {"links": [common.Link()]},
    }
    for label, fields in cases.items():
        await ctx.attempt(label, start(ctx, **fields))


@scenario
async def standalone_requests_refused(ctx: Context) -> None:
    """Requests about activities that are not there, or that say too little or too much."""
    unknown = "00000000-0000-4000-8000-000000000000"
    await ctx.client.invoke(start(ctx))
    for kind in (Describe, Poll, Cancel, Terminate, Delete):
        name = kind.DESCRIPTOR.name.removesuffix("ActivityExecutionRequest")
        namespace = ctx.client.namespace
        await ctx.attempt(f"{name}: no id", kind(namespace=namespace))
        await ctx.attempt(f"{name}: long id", kind(namespace=namespace, activity_id="x" * 1001))
        await ctx.attempt(f"{name}: unknown", kind(**about(ctx, "nobody")), timeout_s=5)
        await ctx.attempt(f"{name}: unknown run", kind(**about(ctx, run_id=unknown)), timeout_s=5)
        await ctx.attempt(f"{name}: bad run id", kind(**about(ctx, run_id="x")))
        await ctx.attempt(f"{name}: unknown namespace", kind(namespace="nope", activity_id="a"))
    for kind in (Cancel, Terminate):
        name = kind.DESCRIPTOR.name.removesuffix("ActivityExecutionRequest")
        await ctx.attempt(f"{name}: long request id", kind(**about(ctx, request_id="x" * 1001)))
        await ctx.attempt(f"{name}: long identity", kind(**about(ctx, identity="x" * 1001)))
        await ctx.attempt(f"{name}: long reason", kind(**about(ctx, reason="x" * 2_100_000)))
    for listing in (List, Count):
        name = listing.DESCRIPTOR.name
        await ctx.attempt(f"{name}: unknown namespace", listing(namespace="nope"))
        await ctx.attempt(f"{name}: no namespace", listing())
    await ctx.attempt("bad page", List(namespace=ctx.client.namespace, next_page_token=b"x"))


@scenario
async def standalone_shares_queue(ctx: Context) -> None:
    """An activity of a workflow and a standalone one of the same id wait in the same queue and do not meet."""
    run = await ctx.start()
    await run.step(schedule_activity(ctx.id("a"), queue_of(ctx)))
    await ctx.client.invoke(start(ctx))
    tasks = [await ctx.poll_activity(queue_of(ctx)) for _ in range(2)]
    workflows, standalone = sorted(tasks, key=lambda task: task.activity_run_id)
    ctx.record("of a workflow", workflows)
    ctx.record("standalone", standalone)
    await ctx.client.complete_activity(workflows.task_token, payloads("w"))
    await ctx.client.complete_activity(standalone.task_token, payloads("s"))
    await outcome(ctx)
    await run.record_history()


@scenario
async def standalone_worker_library(ctx: Context) -> None:
    """A description says with which library the last attempt was taken."""
    await ctx.client.invoke(start(ctx))
    poll = workflowservice.PollActivityTaskQueueRequest(
        namespace=ctx.client.namespace, task_queue=queue(queue_of(ctx)), identity="w"
    )
    await ctx.client.invoke(poll, metadata=(("client-name", "temporal-python"), ("client-version", "1.31.0")))
    await describe(ctx, "started")
