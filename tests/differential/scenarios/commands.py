"""Markers, search attributes, memo, and what a bad command does to its workflow task."""

from __future__ import annotations

from tests.differential.context import Context
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    bare_command,
    cancel_timer,
    complete_workflow,
    duration,
    fail_workflow,
    header,
    keyword,
    memo,
    modify_memo,
    payload,
    payload_map,
    payloads,
    record_marker,
    schedule_activity,
    start_timer,
    upsert_search_attributes,
    user_metadata,
)
from tests.support.proto import command, common, enums

CommandType = enums.CommandType


@scenario
async def markers(ctx: Context) -> None:
    """Markers as local activities and patches write them: details, header, failure."""
    run = await ctx.start()
    await run.step(
        record_marker("core_local_activity", {"data": payloads("meta"), "result": payloads("out")}),
        record_marker("core_patch", {"patch-data": payloads("id")}, header=header({"h": "x"})),
        record_marker("failed", cause=application_failure()),
        complete_workflow(),
    )
    await run.record_history()


@scenario
async def upsert_attributes(ctx: Context) -> None:
    """Search attributes set, changed and removed; what describe shows."""
    initial = common.SearchAttributes(indexed_fields={"Shade": keyword("blue")})
    run = await ctx.start(search_attributes=initial)
    number = common.Payload(metadata={"encoding": b"json/plain", "type": b"Int"}, data=b"7")
    await run.step(upsert_search_attributes({"Shade": keyword("red"), "Count": number}))
    ctx.record("describe after one", (await run.describe()).workflow_execution_info.search_attributes)
    await run.signal()
    nothing = common.Payload(metadata={"encoding": b"binary/null"})
    await run.step(upsert_search_attributes({"Shade": nothing, "Note": payload("some words")}))
    ctx.record("describe after two", (await run.describe()).workflow_execution_info.search_attributes)
    await run.record_history()


@scenario
async def upsert_without_type(ctx: Context) -> None:
    """Values without type metadata get it filled in, on start and on upsert."""
    plain = common.Payload(metadata={"encoding": b"json/plain"}, data=b'"blue"')
    listed = common.Payload(metadata={"encoding": b"json/plain"}, data=b'["one"]')
    run = await ctx.start(search_attributes=common.SearchAttributes(indexed_fields={"Shade": plain}))
    await run.step(upsert_search_attributes({"Shade": plain, "TemporalChangeVersion": listed}))
    await run.record_history()
    ctx.record("describe", (await run.describe()).workflow_execution_info.search_attributes)


@scenario
async def modify_memo_fields(ctx: Context) -> None:
    """Memo fields added, changed and removed; what describe shows."""
    run = await ctx.start(memo=memo({"keep": "k", "change": "c", "remove": "r"}))
    nothing = common.Payload(metadata={"encoding": b"binary/null"})
    await run.step(modify_memo({**payload_map({"change": "C", "new": "n"}), "remove": nothing}))
    ctx.record("describe", (await run.describe()).workflow_execution_info.memo)
    await run.record_history()


@scenario
async def bad_attributes(ctx: Context) -> None:
    """Each way the attributes of the other commands can be wrong: answer and failed event."""
    long_text = "x" * 1001
    wrong_type = common.Payload(metadata={"encoding": b"json/plain"}, data=b'"words"')
    cases: dict[str, command.Command] = {
        "timer: no attributes": bare_command(CommandType.COMMAND_TYPE_START_TIMER),
        "timer: no id": start_timer("", 1),
        "timer: long id": start_timer(long_text, 1),
        "timer: negative": start_timer("t", -1),
        "cancel timer: no attributes": bare_command(CommandType.COMMAND_TYPE_CANCEL_TIMER),
        "cancel timer: no id": cancel_timer(""),
        "cancel timer: long id": cancel_timer(long_text),
        "cancel timer: unknown": cancel_timer("unknown"),
        "complete: no attributes": bare_command(CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION),
        "fail: no attributes": bare_command(CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION),
        "fail: no failure": fail_workflow(None),
        "cancel: no attributes": bare_command(CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION),
        "marker: no attributes": bare_command(CommandType.COMMAND_TYPE_RECORD_MARKER),
        "marker: no name": record_marker(""),
        "marker: long name": record_marker(long_text),
        "upsert: no attributes": bare_command(CommandType.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES),
        "upsert: empty": upsert_search_attributes({}),
        "upsert: unknown": upsert_search_attributes({"Nope": keyword("x")}),
        "upsert: wrong type": upsert_search_attributes({"Count": wrong_type}),
        "upsert: system": upsert_search_attributes({"WorkflowId": keyword("x")}),
        "upsert: too long": upsert_search_attributes({"Shade": keyword("x" * 3000)}),
        "memo: no attributes": bare_command(CommandType.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES),
        "memo: empty": modify_memo({}),
        "unknown command": command.Command(command_type=99),  # type: ignore[arg-type]
        "no command type": command.Command(),
    }
    for label, bad in cases.items():
        run = await ctx.start(label.replace(" ", "-").replace(":", ""))
        task = await run.poll()
        await ctx.attempt(f"{label}: answer", run.complete(task, bad))
        ctx.record(f"{label}: events", list((await run.events())[3:]))


@scenario
async def bad_command_among_good_ones(ctx: Context) -> None:
    """One bad command fails the whole task: nothing of the others is written."""
    run = await ctx.start()
    task = await run.poll()
    await ctx.attempt(
        "answer", run.complete(task, start_timer("t", 60), record_marker("m"), cancel_timer("unknown"))
    )
    await run.record_history("after")
    await run.step(start_timer("t", 60), record_marker("m"))
    await run.record_history()


@slow_scenario
async def bad_command_twice(ctx: Context) -> None:
    """A bad command on the second attempt: refused, nothing written, the task times out."""
    run = await ctx.start(workflow_task_timeout=duration(1))
    for attempt in (1, 2):
        task = await run.poll()
        await ctx.attempt(f"attempt {attempt}", run.complete(task, cancel_timer("unknown")))
        ctx.record(f"history after {attempt}", list(await run.events()))
    task = await run.poll()
    ctx.record("third attempt", {"attempt": task.attempt, "started": task.started_event_id})
    await run.complete(task, complete_workflow())
    await run.record_history()


@scenario
async def bad_command_with_buffered_signal(ctx: Context) -> None:
    """A bad command while a signal is buffered: the order of failure, signal and new task."""
    run = await ctx.start()
    task = await run.poll()
    await run.signal("one")
    await ctx.attempt("answer", run.complete(task, cancel_timer("unknown")))
    await run.record_history()


@scenario
async def bad_command_inline(ctx: Context) -> None:
    """A bad command with return_new_workflow_task."""
    run = await ctx.start()
    task = await run.poll()
    await ctx.attempt("answer", run.complete(task, cancel_timer("unknown"), return_new_workflow_task=True))
    await run.record_history()


@scenario
async def commands_too_big(ctx: Context) -> None:
    """Payloads above the limit in commands end the run, each in its way."""
    big = payloads("x" * (2 * 1024 * 1024))
    queue = ctx.id("activities")
    cases = {
        "activity input": schedule_activity("a", queue, input=big),
        "marker": record_marker("m", {"d": big}),
        "result": complete_workflow(big),
        "memo": modify_memo(payload_map({"m": "x" * 2_200_000})),
        "failure": fail_workflow(application_failure("x" * 2_200_000)),
    }
    for label, too_big in cases.items():
        run = await ctx.start(label.replace(" ", "-"))
        task = await run.poll()
        await ctx.attempt(f"{label}: answer", run.complete(task, start_timer("t", 60), too_big))
        ctx.record(f"{label}: events", list((await run.events())[3:]))


@scenario
async def many_commands(ctx: Context) -> None:
    """Commands of all kinds in one task: events in the order of the commands, with their metadata."""
    run = await ctx.start()
    await run.step(
        record_marker("m1"),
        start_timer("t1", 60, user_metadata=user_metadata("timer", "one")),
        schedule_activity("a1", run.task_queue, user_metadata=user_metadata("activity", "one")),
        upsert_search_attributes({"Shade": keyword("red")}),
        modify_memo(payload_map({"m": "x"})),
        cancel_timer("t1"),
        start_timer("t1", 50),
        record_marker("m2"),
        schedule_activity("a2", run.task_queue),
    )
    await run.record_history()
    described = await run.describe()
    ctx.record("pending", sorted(entry.activity_id for entry in described.pending_activities))


@scenario
async def empty_completion(ctx: Context) -> None:
    """A completion without commands leaves the run waiting, with nothing pending."""
    run = await ctx.start()
    await run.step()
    await run.record_history()
    ctx.record("describe", await run.describe())
