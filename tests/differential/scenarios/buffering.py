"""Timers, signals and cancellation, and the order of what arrives while a workflow task is started."""

from __future__ import annotations

from tests.differential.context import LATE_S, Context
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    cancel_timer,
    cancel_workflow,
    canceled_failure,
    complete_workflow,
    fail_workflow,
    header,
    payloads,
    schedule_activity,
    start_timer,
    user_metadata,
)
from tests.support.proto import common, enums

FIRED = enums.EventType.EVENT_TYPE_TIMER_FIRED
# Longer than a one-second timer takes to fire on a busy machine.
TIMER_PAUSE_S = 4


@slow_scenario
async def timer_fires(ctx: Context) -> None:
    """A timer fires once, not early, and causes a workflow task; its metadata is kept."""
    run = await ctx.start()
    task = await run.poll()
    clock = ctx.clock()
    await run.complete(task, start_timer("t", 1, user_metadata=user_metadata("sum", "det")))
    task = await run.poll()
    ctx.record_about("fired after", clock, 0.95, LATE_S)
    ctx.record("task", task)
    await run.complete(task, complete_workflow())
    await run.record_history()


@slow_scenario
async def timers_in_order(ctx: Context) -> None:
    """Two timers of different length fire in their order, not that of their start."""
    run = await ctx.start()
    await run.step(start_timer("long", 2), start_timer("short", 1))
    await run.step()
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def timer_zero(ctx: Context) -> None:
    """Timers of zero duration, of an unset one and of a negative one."""
    for label, seconds in (("zero", 0.0), ("unset", None), ("negative", -1.0)):
        run = await ctx.start(label)
        task = await run.poll()
        await ctx.attempt(f"{label}: answer", run.complete(task, start_timer("t", seconds)))
        next_task = await run.poll()
        await run.complete(next_task, complete_workflow())
        await run.record_history(f"{label}: history")


@scenario
async def timer_duplicate_id(ctx: Context) -> None:
    """A timer id that is running, in one task and in two; free again once cancelled."""
    run = await ctx.start()
    task = await run.poll()
    await ctx.attempt("same task", run.complete(task, start_timer("t", 60), start_timer("t", 50)))
    await run.record_history("after the same task")
    await run.step(start_timer("t", 60))
    await run.signal()
    task = await run.poll()
    await ctx.attempt("later task", run.complete(task, start_timer("t", 60)))
    await run.step(cancel_timer("t"), start_timer("t", 70))
    await run.record_history()


@scenario
async def timer_cancel(ctx: Context) -> None:
    """Cancelled in a later task and in the task that started it; an unknown one fails the task."""
    run = await ctx.start()
    await run.step(start_timer("a", 60), start_timer("b", 60), cancel_timer("b"))
    await run.signal()
    await run.step(cancel_timer("a"))
    await run.signal()
    task = await run.poll()
    await ctx.attempt("cancelled already", run.complete(task, cancel_timer("a")))
    await run.record_history()


@slow_scenario
async def timer_cancel_fired_buffered(ctx: Context) -> None:
    """A timer that fired into the buffer is cancelled: the firing disappears and the cancel wins."""
    run = await ctx.start()
    await run.step(start_timer("t", 1))
    await run.signal("before")
    task = await run.poll()
    await ctx.pause(TIMER_PAUSE_S)
    await ctx.attempt("answer", run.complete(task, cancel_timer("t")))
    await run.record_history()


@slow_scenario
async def timer_cancel_fired_buffered_with_signal(ctx: Context) -> None:
    """As above with a signal in the same buffer, which stays and causes the next task."""
    run = await ctx.start()
    await run.step(start_timer("t", 1))
    await run.signal("before")
    task = await run.poll()
    await run.signal("buffered before")
    await ctx.pause(TIMER_PAUSE_S)
    await run.signal("buffered after")
    await run.complete(task, cancel_timer("t"))
    await run.record_history()


@slow_scenario
async def timer_cancel_buffered_then_close(ctx: Context) -> None:
    """Cancelling a buffered firing empties the buffer, so the run may close in the same task."""
    run = await ctx.start()
    await run.step(start_timer("t", 1))
    await run.signal("before")
    task = await run.poll()
    await ctx.pause(TIMER_PAUSE_S)
    await ctx.attempt("answer", run.complete(task, cancel_timer("t"), complete_workflow()))
    await run.record_history()


@slow_scenario
async def timer_fired_then_cancel(ctx: Context) -> None:
    """Cancelling a timer whose firing is in the history already."""
    run = await ctx.start()
    await run.step(start_timer("t", 1))
    task = await run.poll()
    await ctx.attempt("answer", run.complete(task, cancel_timer("t")))
    await run.record_history()


@slow_scenario
async def timer_fires_during_task(ctx: Context) -> None:
    """A firing behind a started task is written after it and causes another task."""
    run = await ctx.start()
    await run.step(start_timer("t", 1))
    await run.signal()
    task = await run.poll()
    await ctx.pause(TIMER_PAUSE_S)
    ctx.record("history during", list(await run.events()))
    await run.complete(task)
    await run.step(complete_workflow())
    await run.record_history()


@slow_scenario
async def buffer_of_many_kinds(ctx: Context) -> None:
    """Signals, an activity's completion and failure and a firing behind one task: the order they are written in."""
    run = await ctx.start()
    await run.step(
        start_timer("t", 1), schedule_activity("a", run.task_queue), schedule_activity("b", run.task_queue)
    )
    tasks = {task.activity_id: task for task in [await run.poll_activity(), await run.poll_activity()]}
    await run.signal("wake")
    workflow_task = await run.poll()
    await run.signal("one")
    await ctx.client.complete_activity(tasks["a"].task_token, payloads("a"))
    await run.signal("two")
    await ctx.pause(TIMER_PAUSE_S)
    await ctx.client.fail_activity(tasks["b"].task_token, application_failure(non_retryable=True))
    await ctx.client.request_cancel(run.workflow_id, reason="because")
    await run.signal("three")
    ctx.record("history during", list(await run.events()))
    await run.complete(workflow_task, start_timer("later", 60))
    await run.record_history("history after")
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def signals_before_and_during(ctx: Context) -> None:
    """Signals before the first task, during it and between tasks; input, header, identity kept."""
    run = await ctx.start()
    await run.signal("before", input=payloads("1"), header=header({"h": "x"}), identity="someone")
    task = await run.poll()
    ctx.record("task", task)
    await run.signal("during", input=payloads("2", "3"))
    await run.complete(task)
    await run.signal("after")
    await run.step()
    await run.signal("between")
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def signal_dedup(ctx: Context) -> None:
    """The same request id signals once: written, buffered, and after the task; ids of others do not clash."""
    run = await ctx.start()
    await ctx.attempt("first", ctx.client.signal(run.workflow_id, request_id="same"))
    await ctx.attempt("again", ctx.client.signal(run.workflow_id, request_id="same"))
    task = await run.poll()
    await run.signal("buffered", request_id="buffered")
    await run.signal("buffered", request_id="buffered")
    await run.complete(task)
    await run.signal("buffered", request_id="buffered")
    await run.signal("other", request_id="other")
    await run.record_history()


@scenario
async def signal_errors(ctx: Context) -> None:
    """Signals to nothing, to a closed run, without a name, with over-long names, too big, in other namespaces."""
    run = await ctx.start()
    client = ctx.client
    missing_run = "0190c7a8-0000-7000-8000-000000000001"
    await ctx.attempt("unknown workflow", client.signal("no-such-workflow"))
    await ctx.attempt("unknown run", client.signal(run.workflow_id, run_id=missing_run))
    await ctx.attempt("bad run id", client.signal(run.workflow_id, run_id="not-a-uuid"))
    await ctx.attempt("no workflow id", client.signal(""))
    await ctx.attempt("long workflow id", client.signal("w" * 1001))
    await ctx.attempt("no execution", client.signal("x", workflow_execution=None))
    await ctx.attempt("no name", client.signal(run.workflow_id, ""))
    await ctx.attempt("long name", client.signal(run.workflow_id, "s" * 1001))
    await ctx.attempt("long request id", client.signal(run.workflow_id, request_id="r" * 1001))
    await ctx.attempt("too big", client.signal(run.workflow_id, input=payloads("x" * 2_200_000)))
    await ctx.attempt("unknown namespace", client.signal(run.workflow_id, namespace="no-such-namespace"))
    await client.terminate(run.workflow_id)
    await ctx.attempt("closed", client.signal(run.workflow_id))
    await ctx.attempt("closed by run id", client.signal(run.workflow_id, run_id=run.run_id))
    await run.record_history()


@scenario
async def cancel_request(ctx: Context) -> None:
    """A cancel request is written with its reason and causes a task; the run confirms it."""
    run = await ctx.start()
    await run.step(start_timer("t", 60))
    await ctx.attempt(
        "answer",
        ctx.client.request_cancel(
            run.workflow_id, reason="because", request_id="request", identity="someone"
        ),
    )
    await run.step(cancel_timer("t"), cancel_workflow(payloads("details")))
    await run.record_history()
    ctx.record("describe", await run.describe())


@scenario
async def cancel_request_before_task(ctx: Context) -> None:
    """A cancel request before the first task is taken, and another one with other ids."""
    run = await ctx.start()
    await ctx.attempt("first", ctx.client.request_cancel(run.workflow_id, request_id="one"))
    await ctx.attempt("same id", ctx.client.request_cancel(run.workflow_id, request_id="one"))
    await ctx.attempt("other id", ctx.client.request_cancel(run.workflow_id, request_id="two"))
    await ctx.attempt("no id", ctx.client.request_cancel(run.workflow_id))
    await run.step(cancel_workflow())
    await ctx.attempt("closed", ctx.client.request_cancel(run.workflow_id))
    await ctx.attempt("closed by run id", ctx.client.request_cancel(run.workflow_id, run_id=run.run_id))
    await run.record_history()


@scenario
async def cancel_request_during_task(ctx: Context) -> None:
    """Signal and cancel request behind a started task; twice; then the run completes anyway."""
    run = await ctx.start()
    task = await run.poll()
    await run.signal("one")
    await ctx.client.request_cancel(run.workflow_id, reason="first")
    await ctx.attempt("second", ctx.client.request_cancel(run.workflow_id, reason="second"))
    await run.signal("two")
    await ctx.attempt("closing is unhandled", run.complete(task, complete_workflow()))
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def cancel_request_errors(ctx: Context) -> None:
    """Cancel requests to nothing, with a wrong first run id, with bad ids."""
    run = await ctx.start()
    client = ctx.client
    missing_run = "0190c7a8-0000-7000-8000-000000000001"
    await ctx.attempt("unknown workflow", client.request_cancel("no-such-workflow"))
    await ctx.attempt("unknown run", client.request_cancel(run.workflow_id, run_id=missing_run))
    await ctx.attempt("bad run id", client.request_cancel(run.workflow_id, run_id="not-a-uuid"))
    await ctx.attempt("no workflow id", client.request_cancel(""))
    await ctx.attempt(
        "wrong first run", client.request_cancel(run.workflow_id, first_execution_run_id=missing_run)
    )
    await ctx.attempt(
        "right first run", client.request_cancel(run.workflow_id, first_execution_run_id=run.run_id)
    )
    await ctx.attempt("long reason", client.request_cancel(run.workflow_id, reason="r" * 1001))
    await run.record_history()


@scenario
async def workflow_fails(ctx: Context) -> None:
    """The failures a run may end with, as recorded."""
    endings = {
        "application": application_failure(),
        "non retryable": application_failure(non_retryable=True),
        "canceled": canceled_failure(),
    }
    for label, failed in endings.items():
        run = await ctx.start(label.replace(" ", "-"))
        await run.step(fail_workflow(failed))
        await run.record_history(label)


@scenario
async def terminate(ctx: Context) -> None:
    """Terminate with reason and details before and during a task, twice, and nothing."""
    client = ctx.client
    waiting = await ctx.start("waiting")
    await ctx.attempt(
        "waiting",
        client.terminate(waiting.workflow_id, reason="why", details=payloads("x"), identity="someone"),
    )
    await waiting.record_history("waiting: history")
    during = await ctx.start("during")
    await during.poll()
    await during.signal("buffered")
    await ctx.attempt("during", client.terminate(during.workflow_id, reason="why"))
    await during.record_history("during: history")
    ctx.record("describe", await during.describe())
    await ctx.attempt("again", client.terminate(during.workflow_id))
    await ctx.attempt("again by run id", client.terminate(during.workflow_id, run_id=during.run_id))
    await ctx.attempt("unknown", client.terminate("no-such-workflow"))
    await ctx.attempt("bad run id", client.terminate(during.workflow_id, run_id="not-a-uuid"))
    await ctx.attempt("no workflow id", client.terminate(""))
    other = await ctx.start("other")
    wrong = "0190c7a8-0000-7000-8000-000000000001"
    await ctx.attempt("wrong first run", client.terminate(other.workflow_id, first_execution_run_id=wrong))
    await ctx.attempt("long reason", client.terminate(other.workflow_id, reason="r" * 1001))
    ctx.record("other", int((await other.describe()).workflow_execution_info.status))


@scenario
async def terminate_with_pending(ctx: Context) -> None:
    """Terminating a run with a timer, a started and a waiting activity: the events and what is left pending."""
    run = await ctx.start()
    await run.step(
        start_timer("t", 60),
        schedule_activity("a", run.task_queue),
        schedule_activity("b", ctx.id("nobody")),
    )
    await run.poll_activity()
    await ctx.client.terminate(run.workflow_id)
    await run.record_history()
    ctx.record("describe", await run.describe())


@scenario
async def links_on_client_events(ctx: Context) -> None:
    """Links sent with a signal, a cancel request and a termination are kept in their events."""
    run = await ctx.start()
    link = common.Link(
        workflow_event=common.Link.WorkflowEvent(
            namespace="default",
            workflow_id="other",
            run_id="0190c7a8-0000-7000-8000-000000000001",
            event_ref=common.Link.WorkflowEvent.EventReference(
                event_id=3, event_type=enums.EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
            ),
        )
    )
    await run.signal(links=[link])
    await ctx.client.request_cancel(run.workflow_id, links=[link])
    await ctx.client.terminate(run.workflow_id, links=[link])
    await run.record_history()
    too_many = ctx.client.signal(run.workflow_id, links=[link] * 11)
    await ctx.attempt("too many links", too_many)
    empty = common.Link(workflow_event=common.Link.WorkflowEvent(namespace="default"))
    await ctx.attempt("incomplete link", ctx.client.signal(run.workflow_id, links=[empty]))
