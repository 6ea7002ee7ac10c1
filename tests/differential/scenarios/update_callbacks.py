"""Callbacks that come with updates: checked, kept in the events, called by nobody (as configured by default)."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.resets import do_reset
from tests.differential.scenarios.update_with_start import POLICIES, _multi
from tests.differential.scenarios.updates import Response, _answer, _signaled, _waiting
from tests.support.builders import complete_workflow
from tests.support.proto import common, update, workflowservice
from tests.support.updates import ACCEPTED, acceptance, rejection, response, update_request

SYSTEM = "temporal://system"
_CALLER = "3f2504e0-4f89-41d3-9a0c-0305e82c33{:02d}"


def _link(workflow_id: str) -> common.Link:
    link = common.Link()
    link.workflow_event.namespace, link.workflow_event.workflow_id = "default", workflow_id
    link.workflow_event.run_id = _CALLER.format(99)
    return link


def callback(url: str = SYSTEM, *links: common.Link, **header: str) -> common.Callback:
    """A callback, with the header and links that its sender gave it."""
    return common.Callback(nexus=common.Callback.Nexus(url=url, header=header), links=links)


def request(
    run: Run, *callbacks: common.Callback, number: int = 1, update_id: str = "u", **fields: Any
) -> workflowservice.UpdateWorkflowExecutionRequest:
    """An update with callbacks; the request id is made of `number`, none for 0."""
    made = update_request(run.client.namespace, run.execution, update_id, **fields)
    made.request.request_id = _CALLER.format(number) if number else ""
    made.request.completion_callbacks.extend(callbacks)
    return made


def _sent(ctx: Context, made: workflowservice.UpdateWorkflowExecutionRequest) -> asyncio.Task[Response]:
    return asyncio.create_task(ctx.client.call(made, Response))


async def _transitions(run: Run) -> int:
    return int((await run.describe()).workflow_execution_info.state_transition_count)


async def _record_ids(run: Run, label: str) -> None:
    described = await run.describe()
    infos = described.workflow_extended_info.request_id_infos
    numbers = [number for number in range(1, 9) if _CALLER.format(number) in infos]
    run.context.record(label, {f"request {number}": infos[_CALLER.format(number)] for number in numbers})
    run.context.record(f"{label}: callbacks", list(described.callbacks))


@scenario
async def update_callback_kept(ctx: Context) -> None:
    """The callback is in the worker's message and in the Accepted event; a link that it brings is not kept twice."""
    run = await _waiting(ctx)
    made = request(run, callback(SYSTEM, _link("a"), Name="Value"))
    made.request.links.extend([_link("a"), _link("b")])
    sent = _sent(ctx, made)
    task = await run.poll()
    (message,) = task.messages
    brought = update.Request()
    message.body.Unpack(brought)
    ctx.record("brought", brought)
    await _answer(run, task, acceptance(message))
    await _record_ids(run, "accepted")
    await _answer(run, await _signaled(run), response(message))
    ctx.record("answer", await sent)
    await _record_ids(run, "completed")
    await run.signal()
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def update_callback_attached(ctx: Context) -> None:
    """Others ask for the same update with callbacks of their own: while it is sent, accepted, completed.

    The first of them makes the workflow task that is under way one that is written.
    """
    run = await _waiting(ctx)
    sent = [_sent(ctx, request(run, callback(name="first"), stage=ACCEPTED))]
    task = await run.poll()
    before = await _transitions(run)
    sent.append(_sent(ctx, request(run, callback(name="sent"), number=2, stage=ACCEPTED)))
    await ctx.until("it is attached", lambda: _transitions(run), lambda now: now > before)
    (message,) = task.messages
    await _answer(run, task, acceptance(message))
    ctx.record("answers", [await answer for answer in sent])
    await _record_ids(run, "sent")
    for number in (2, 3, 3, 1):
        made = request(run, callback(name=f"accepted {number}"), number=number, stage=ACCEPTED)
        await ctx.attempt(f"again {len(ctx.records)}", made)
    await ctx.attempt("no callback, another request", request(run, number=5, stage=ACCEPTED))
    await ctx.attempt("accepted, no request id", request(run, callback(), number=0, stage=ACCEPTED))
    await _record_ids(run, "accepted")
    await _answer(run, await _signaled(run), response(message))
    await ctx.attempt("late", request(run, callback(name="late"), number=6))
    await ctx.attempt("late, no request id", request(run, callback(name="late"), number=0))
    await _record_ids(run, "completed")
    await run.signal()
    await run.step(complete_workflow())
    await ctx.attempt("closed", request(run, callback(name="later"), number=7))
    await run.record_history()


@scenario
async def update_callback_rejected(ctx: Context) -> None:
    """A rejected update leaves nothing of its callbacks."""
    run = await _waiting(ctx)
    sent = _sent(ctx, request(run, callback()))
    task = await run.poll()
    await _answer(run, task, rejection(task.messages[0]))
    ctx.record("answer", await sent)
    await _record_ids(run, "rejected")
    await run.record_history()


@scenario
async def update_callback_reset(ctx: Context) -> None:
    """A reset brings the updates again with their callbacks, and what others attached."""
    run = await _waiting(ctx)
    sent = _sent(ctx, request(run, callback(), stage=ACCEPTED))
    task = await run.poll()
    await _answer(run, task, acceptance(task.messages[0]))
    await sent
    await ctx.attempt("attached", request(run, callback(name="x"), number=2, stage=ACCEPTED))
    new = await do_reset(run, 4)
    await _record_ids(new, "known")
    await new.record_history("new")


@scenario
async def update_callback_unchecked(ctx: Context) -> None:
    """Callbacks that a start is refused for are let in, since nobody calls them; only the request id is needed."""
    run = await _waiting(ctx)
    cases = {
        "odd scheme": [callback("ftp://localhost")],
        "long": [callback("http://localhost/" + "x" * 1000)],
        "large header": [callback(k="v" * 8192)],
        "nothing": [common.Callback()],
        "too many": [callback(str(number)) for number in range(2001)],
        "odd link": [callback(SYSTEM, common.Link())],
        "many links": [callback(SYSTEM, *(_link(str(number)) for number in range(11)))],
    }
    for number, (label, callbacks) in enumerate(cases.items(), 1):
        sent = _sent(ctx, request(run, *callbacks, number=number, update_id=label, stage=ACCEPTED))
        task = await run.poll()
        await _answer(run, task, acceptance(task.messages[0]))
        ctx.record(label, await sent)
    await ctx.attempt("no request id", request(run, callback(), number=0, update_id="another"))
    missing = request(run, callback(), number=0)
    missing.workflow_execution.workflow_id = ctx.id("missing")
    await ctx.attempt("no workflow, no request id", missing)
    await run.record_history()


@scenario
async def update_callback_with_start(ctx: Context) -> None:
    """An update-with-start brings a callback to a new run; a second one attaches its own; none comes without an id."""
    for label, number in (("new", 1), ("attached", 2), ("no request id", 0)):
        made = _multi(ctx, "wf", workflow_id_conflict_policy=POLICIES["existing"])
        sent = made.operations[1].update_workflow.request
        sent.completion_callbacks.append(callback(name=label))
        sent.request_id = _CALLER.format(number) if number else ""
        if number == 1:
            answer = asyncio.create_task(ctx.attempt(label, made))
            run = Run(ctx, ctx.id("wf"), "", ctx.id("wf-queue"))
            task = await run.poll()
            await _answer(run, task, acceptance(task.messages[0]))
            await answer
        else:
            await ctx.attempt(label, made)
    await run.record_history()
