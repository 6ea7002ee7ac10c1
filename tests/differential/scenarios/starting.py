"""Starting runs: every recorded field, id policies, request-id dedup, delay, eager start, signal with start."""

from __future__ import annotations

from itertools import product
from typing import Any

from tests.differential.context import LATE_S, POLL_TIMEOUT_S, Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    cancel_workflow,
    complete_workflow,
    duration,
    fail_workflow,
    header,
    keyword,
    memo,
    payloads,
    queue,
    retry_policy,
    user_metadata,
)
from tests.support.proto import common, enums, taskqueue, workflow, workflowservice

Reuse = enums.WorkflowIdReusePolicy
Conflict = enums.WorkflowIdConflictPolicy

REUSE_POLICIES = {
    "unspecified": Reuse.WORKFLOW_ID_REUSE_POLICY_UNSPECIFIED,
    "allow": Reuse.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
    "failed only": Reuse.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
    "reject": Reuse.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
    "terminate": Reuse.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING,
}
CONFLICT_POLICIES = {
    "unspecified": Conflict.WORKFLOW_ID_CONFLICT_POLICY_UNSPECIFIED,
    "fail": Conflict.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
    "existing": Conflict.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
    "terminate": Conflict.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
}


@scenario
async def start_plain(ctx: Context) -> None:
    """A start with nothing optional: defaults as recorded, first task, completion."""
    response = await ctx.attempt("start", ctx.client.start(ctx.id("wf"), ctx.id("queue")))
    run = Run(ctx, ctx.id("wf"), response.run_id, ctx.id("queue"))
    ctx.record("describe before the first task", await run.describe())
    task = await run.poll()
    ctx.record("first task", task)
    ctx.record("describe during the first task", await run.describe())
    ctx.record("completion", await run.complete(task, complete_workflow(payloads("done"))))
    await run.record_history()
    ctx.record("describe after", await run.describe())


@scenario
async def start_with_every_field(ctx: Context) -> None:
    """Timeouts, memo, search attributes, header, metadata, priority, links: all preserved."""
    run = await ctx.start(
        input=payloads("one", "two"),
        workflow_execution_timeout=duration(100),
        workflow_run_timeout=duration(90),
        workflow_task_timeout=duration(7),
        memo=memo({"m": "memo"}),
        header=header({"h": "header"}),
        search_attributes=common.SearchAttributes(indexed_fields={"Shade": keyword("blue")}),
        user_metadata=user_metadata("summary", "details"),
        priority=common.Priority(priority_key=2),
        links=[
            common.Link(
                workflow_event=common.Link.WorkflowEvent(
                    namespace="default", workflow_id="other", run_id="0190c7a8-0000-7000-8000-000000000001"
                )
            )
        ],
        last_completion_result=payloads("last"),
        continued_failure=application_failure("earlier"),
    )
    task = await run.poll()
    ctx.record("first task", task)
    await run.complete(task, complete_workflow(payloads("done")))
    await run.record_history()
    ctx.record("describe", await run.describe())


@scenario
async def start_retry_policy(ctx: Context) -> None:
    """A retry policy of the whole run: completed with the defaults, and ending after its only attempt."""
    queue_name = ctx.id("queue")
    policy = retry_policy(attempts=3)
    await ctx.attempt("partly given", ctx.client.start(ctx.id("wf"), queue_name, retry_policy=policy))
    await ctx.attempt("history", ctx.client.history_page(ctx.id("wf")))
    only_one = retry_policy(attempts=1)
    await ctx.attempt("one attempt", ctx.client.start(ctx.id("one"), ctx.id("one"), retry_policy=only_one))
    task = await ctx.client.poll_workflow_task(ctx.id("one"), timeout_s=POLL_TIMEOUT_S)
    if task.task_token:
        await ctx.client.complete_workflow_task(task.task_token, [fail_workflow(application_failure())])
    await ctx.attempt("history of one attempt", ctx.client.history_page(ctx.id("one")))


@scenario
async def start_timeouts_capped(ctx: Context) -> None:
    """Run timeout above the execution timeout, huge task timeout: what is recorded."""
    cases = {
        "run above execution": {"workflow_execution_timeout": 50, "workflow_run_timeout": 60},
        "only execution": {"workflow_execution_timeout": 50},
        "only run": {"workflow_run_timeout": 40},
        "task above the cap": {"workflow_task_timeout": 500},
        "task above run": {"workflow_run_timeout": 5, "workflow_task_timeout": 60},
    }
    for label, values in cases.items():
        fields: dict[str, Any] = {name: duration(seconds) for name, seconds in values.items()}
        run = await ctx.start(label.replace(" ", "-"), **fields)
        await run.record_history(label)


@scenario
async def start_validation(ctx: Context) -> None:
    """Each way a start request can be wrong, with code, message and details."""
    long_id = "x" * 1001
    cases: dict[str, dict[str, Any]] = {
        "no workflow id": {"workflow_id": ""},
        "long workflow id": {"workflow_id": long_id},
        "no type": {"workflow_type": None},
        "empty type": {"workflow_type": common.WorkflowType()},
        "long type": {"workflow_type": common.WorkflowType(name=long_id)},
        "no queue": {"task_queue": None},
        "empty queue": {"task_queue": taskqueue.TaskQueue()},
        "long queue": {"task_queue": queue(long_id)},
        "reserved queue": {"task_queue": queue("/_sys/mine")},
        "long request id": {"request_id": long_id},
        "no request id": {"request_id": ""},
        "long identity": {"identity": long_id},
        "negative execution timeout": {"workflow_execution_timeout": duration(-1)},
        "negative run timeout": {"workflow_run_timeout": duration(-1)},
        "negative task timeout": {"workflow_task_timeout": duration(-1)},
        "negative delay": {"workflow_start_delay": duration(-1)},
        "delay and cron": {"workflow_start_delay": duration(1), "cron_schedule": "* * * * *"},
        "bad cron": {"cron_schedule": "nonsense"},
        "retry: no initial interval": {"retry_policy": retry_policy(initial_s=-1)},
        "retry: coefficient": {"retry_policy": retry_policy(initial_s=1, coefficient=0.5)},
        "retry: maximum interval": {"retry_policy": retry_policy(initial_s=1, maximum_s=-1)},
        "retry: maximum below initial": {"retry_policy": retry_policy(initial_s=5, maximum_s=1)},
        "retry: attempts": {"retry_policy": retry_policy(attempts=-1)},
        "reuse terminate + conflict": {
            "workflow_id_reuse_policy": Reuse.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING,
            "workflow_id_conflict_policy": Conflict.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
        },
        "reject + terminate existing": {
            "workflow_id_reuse_policy": Reuse.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
            "workflow_id_conflict_policy": Conflict.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
        },
        "unknown search attribute": {
            "search_attributes": common.SearchAttributes(indexed_fields={"Nope": keyword("x")})
        },
        "search attribute type": {
            "search_attributes": common.SearchAttributes(indexed_fields={"Count": keyword("x")})
        },
        "bad priority": {"priority": common.Priority(priority_key=-1)},
        "unknown namespace": {"namespace": "no-such-namespace"},
        "no namespace": {"namespace": ""},
        "unknown reuse policy": {"workflow_id_reuse_policy": 77},
        "unknown conflict policy": {"workflow_id_conflict_policy": 77},
        "long fairness key": {"priority": common.Priority(fairness_key="k" * 65)},
        "links": {"links": [common.Link()] * 11},
        "metadata too big": {"user_metadata": user_metadata("s" * 500, "d")},
    }
    for label, fields in cases.items():
        workflow_id = ctx.id(label.replace(" ", "-").replace(":", ""))
        request = ctx.client.start_request(workflow_id, ctx.id("queue"), **fields)
        await ctx.attempt(label, request)


@scenario
async def start_payload_too_big(ctx: Context) -> None:
    """Input, memo and header above the limits are refused."""
    big = payloads("x" * (2 * 1024 * 1024))
    await ctx.attempt("input", ctx.client.start(ctx.id("a"), ctx.id("queue"), input=big))
    await ctx.attempt(
        "memo", ctx.client.start(ctx.id("b"), ctx.id("queue"), memo=memo({"m": "x" * 2_200_000}))
    )
    await ctx.attempt(
        "search attribute",
        ctx.client.start(
            ctx.id("c"),
            ctx.id("queue"),
            search_attributes=common.SearchAttributes(indexed_fields={"Shade": keyword("x" * 3000)}),
        ),
    )


async def _policy_case(ctx: Context, label: str, run: Run, reuse: int, conflict: int) -> None:
    """Start again over an existing run; record the answer and, if the first was ended, how."""
    await ctx.attempt(
        label,
        ctx.client.start(
            run.workflow_id,
            run.task_queue,
            workflow_id_reuse_policy=reuse,
            workflow_id_conflict_policy=conflict,
        ),
    )
    described = await run.describe()
    ctx.record(f"{label}: status of the first run", int(described.workflow_execution_info.status))


@scenario
async def start_policies_over_running(ctx: Context) -> None:
    """Reuse × conflict policy over a run that is open: answers, errors with details, fate of the first run."""
    for (reuse_name, reuse), (conflict_name, conflict) in product(
        REUSE_POLICIES.items(), CONFLICT_POLICIES.items()
    ):
        label = f"{reuse_name} × {conflict_name}"
        run = await ctx.start(f"{reuse_name}-{conflict_name}".replace(" ", "-"))
        await _policy_case(ctx, label, run, reuse, conflict)


@scenario
async def start_policies_over_closed(ctx: Context) -> None:
    """Reuse policies over runs that completed, failed, were cancelled or terminated."""
    endings = {
        "completed": complete_workflow(),
        "failed": fail_workflow(application_failure()),
        "canceled": cancel_workflow(),
        "terminated": None,
    }
    for (ending, closing), (reuse_name, reuse) in product(endings.items(), REUSE_POLICIES.items()):
        run = await ctx.start(f"{ending}-{reuse_name}".replace(" ", "-"))
        if closing is None:
            await ctx.client.terminate(run.workflow_id)
        else:
            await run.step(closing)
        await _policy_case(ctx, f"{ending} × {reuse_name}", run, reuse, 0)


@scenario
async def start_terminate_existing_history(ctx: Context) -> None:
    """TERMINATE_EXISTING: the history of the run that gave way and of the one that replaced it."""
    run = await ctx.start()
    response = await ctx.client.start(
        run.workflow_id,
        run.task_queue,
        workflow_id_conflict_policy=Conflict.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
    )
    await run.record_history("old")
    await Run(ctx, run.workflow_id, response.run_id, run.task_queue).record_history("new")


@scenario
async def start_request_id_dedup(ctx: Context) -> None:
    """The same request id starts once: while open, after the task began, and after the run closed."""
    fields = {"request_id": f"{ctx.id('request')}"}
    run = await ctx.start(**fields)
    again = ctx.client.start_request(run.workflow_id, run.task_queue, **fields)
    await ctx.attempt("while open", again)
    await run.step()
    await ctx.attempt("after the first task", again)
    await ctx.client.terminate(run.workflow_id)
    await ctx.attempt("after closing", again)
    await run.record_history()


@scenario
async def start_use_existing_attach(ctx: Context) -> None:
    """USE_EXISTING with on_conflict_options attaches the request id by an options event."""
    run = await ctx.start()
    options = workflow.OnConflictOptions(attach_request_id=True)
    request = ctx.client.start_request(
        run.workflow_id,
        run.task_queue,
        workflow_id_conflict_policy=Conflict.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
        on_conflict_options=options,
    )
    await ctx.attempt("second start", request)
    await ctx.attempt("same request again", request)
    await run.record_history()


@scenario
async def start_delay(ctx: Context) -> None:
    """A start delay holds back the first workflow task; a plain signal does not bring it forward."""
    clock = ctx.clock()
    run = await ctx.start(workflow_start_delay=duration(2))
    await run.signal("early")
    ctx.record("describe", await run.describe())
    task = await run.poll()
    ctx.record_about("delay", clock, 1.95, LATE_S)
    ctx.record("task", task)
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def start_delay_terminate_and_cancel(ctx: Context) -> None:
    """Terminating and cancelling a run whose first task is still held back."""
    delayed: dict[str, Any] = {"workflow_start_delay": duration(60)}
    terminated = await ctx.start("terminated", **delayed)
    await ctx.client.terminate(terminated.workflow_id)
    await terminated.record_history("terminated")
    canceled = await ctx.start("canceled", **delayed)
    await ctx.client.request_cancel(canceled.workflow_id)
    await canceled.record_history("canceled")


@scenario
async def start_eager(ctx: Context) -> None:
    """An eager start returns the first workflow task inline."""
    response = await ctx.client.start(ctx.id("wf"), ctx.id("queue"), request_eager_execution=True)
    ctx.record("start", response)
    run = Run(ctx, ctx.id("wf"), response.run_id, ctx.id("queue"))
    await run.complete(response.eager_workflow_task, complete_workflow(payloads("done")))
    await run.record_history()


@slow_scenario
async def start_eager_task_times_out(ctx: Context) -> None:
    """An eager first task that nobody completes times out and is dispatched to the queue."""
    response = await ctx.client.start(
        ctx.id("wf"), ctx.id("queue"), request_eager_execution=True, workflow_task_timeout=duration(2)
    )
    run = Run(ctx, ctx.id("wf"), response.run_id, ctx.id("queue"))
    task = await run.poll()
    ctx.record("task", task)
    await run.complete(task, complete_workflow())
    await ctx.attempt("late completion", run.complete(response.eager_workflow_task, complete_workflow()))
    await run.record_history()


@scenario
async def start_eager_with_delay(ctx: Context) -> None:
    """Eager execution together with a start delay: the task is not inline."""
    await ctx.attempt(
        "start",
        ctx.client.start(
            ctx.id("wf"), ctx.id("queue"), request_eager_execution=True, workflow_start_delay=duration(1)
        ),
    )


def _signal_with_start(
    ctx: Context, label: str, **fields: Any
) -> workflowservice.SignalWithStartWorkflowExecutionRequest:
    values: dict[str, Any] = {
        "namespace": "default",
        "workflow_id": ctx.id(label),
        "workflow_type": common.WorkflowType(name="flow"),
        "task_queue": queue(ctx.id(f"{label}-queue")),
        "identity": "differential",
        "request_id": ctx.id("request"),
        "signal_name": "go",
        "signal_input": payloads("hello"),
    }
    return workflowservice.SignalWithStartWorkflowExecutionRequest(**(values | fields))


@scenario
async def signal_with_start_new(ctx: Context) -> None:
    """Signal with start where nothing runs: started, signalled, one task."""
    response = await ctx.attempt("response", _signal_with_start(ctx, "wf", header=header({"h": "x"})))
    run = Run(ctx, ctx.id("wf"), response.run_id, ctx.id("wf-queue"))
    ctx.record("task", await run.poll())
    await run.record_history()


@scenario
async def signal_with_start_existing(ctx: Context) -> None:
    """Signal with start on an open run signals it, on a closed run starts another; dedup by request id."""
    run = await ctx.start()
    request = _signal_with_start(ctx, "wf")
    await ctx.attempt("open run", request)
    await ctx.attempt("same request", request)
    await run.record_history()
    await ctx.client.terminate(run.workflow_id)
    response = await ctx.attempt("closed run", _signal_with_start(ctx, "wf", request_id="fresh"))
    await Run(ctx, run.workflow_id, response.run_id, run.task_queue).record_history("next")


@scenario
async def signal_with_start_delayed(ctx: Context) -> None:
    """Signal with start on a run in its start delay ends the delay; with its own delay it does not."""
    run = await ctx.start("running", workflow_start_delay=duration(60))
    request = _signal_with_start(ctx, "running", task_queue=queue(run.task_queue))
    await ctx.attempt("response", request)
    ctx.record("task", await run.poll())
    await run.record_history()
    response = await ctx.attempt(
        "delayed", _signal_with_start(ctx, "delayed", workflow_start_delay=duration(60))
    )
    await Run(ctx, ctx.id("delayed"), response.run_id, "").record_history("delayed history")


@scenario
async def signal_with_start_policies(ctx: Context) -> None:
    """Signal with start: conflict and reuse policies, bad names."""
    run = await ctx.start("wf")
    for name in ("fail", "terminate"):
        request = _signal_with_start(
            ctx, "wf", workflow_id_conflict_policy=CONFLICT_POLICIES[name], request_id=name
        )
        await ctx.attempt(f"conflict {name}", request)
    ctx.record("first run", int((await run.describe()).workflow_execution_info.status))
    await ctx.client.terminate(run.workflow_id)
    for name in ("failed only", "reject"):
        request = _signal_with_start(
            ctx, "wf", workflow_id_reuse_policy=REUSE_POLICIES[name], request_id=name
        )
        await ctx.attempt(f"reuse {name}", request)
    await ctx.attempt("no signal name", _signal_with_start(ctx, "x", signal_name=""))
    await ctx.attempt("long signal name", _signal_with_start(ctx, "x", signal_name="s" * 1001))
    await ctx.attempt("no workflow id", _signal_with_start(ctx, "x", workflow_id=""))
    await ctx.attempt("no queue", _signal_with_start(ctx, "x", task_queue=None))
    await ctx.attempt("no type", _signal_with_start(ctx, "x", workflow_type=None))


@slow_scenario
async def run_timeout(ctx: Context) -> None:
    """A run times out while its workflow task waits, and while one is started."""
    waiting = await ctx.start("waiting", workflow_run_timeout=duration(2))
    started = await ctx.start("started", workflow_run_timeout=duration(2))
    # The task's own timeout is cut to the run's; taken later, it ends later.
    await ctx.pause(0.5)
    task = await started.poll()
    await waiting.until_closed()
    await started.until_closed()
    await ctx.attempt("late completion", started.complete(task, complete_workflow()))
    await waiting.record_history("waiting")
    await started.record_history("started")
    ctx.record("describe", await waiting.describe())


@slow_scenario
async def execution_timeout(ctx: Context) -> None:
    """An execution timeout closes the run as timed out."""
    run = await ctx.start(workflow_execution_timeout=duration(2))
    await run.step()
    await run.until_closed()
    await run.record_history()
