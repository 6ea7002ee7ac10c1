"""Updates at a reset: brought again by events, with what the workflow then says of them; left out on request."""

from __future__ import annotations

from typing import Any

from perdure.api.protocol.v1 import Message
from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.resets import Exclude, do_reset
from tests.differential.scenarios.updates import _answer, _brought, _waiting
from tests.support.builders import complete_workflow
from tests.support.updates import Stage, acceptance, poll_request, rejection, response

_COMPLETED = Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
_NO_STAGE = Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_UNSPECIFIED
_FIRST_TASK = 4


async def _updated(ctx: Context) -> Run:
    """A run that has completed the update `u` and accepted the update `v` after its first workflow task."""
    run = await _waiting(ctx)
    for update_id, completes in (("u", True), ("v", False)):
        sent, task = await _brought(run, update_id)
        (message,) = task.messages
        words = [acceptance(message), *([response(message)] if completes else [])]
        await _answer(run, task, *words)
        sent.cancel()
    return run


async def message_brought_again(run: Run, update_id: str) -> Message:
    """The message that would have brought an update, made from the event that did."""
    for event in await run.events():
        request = event.workflow_execution_update_admitted_event_attributes.request
        if request.meta.update_id == update_id:
            message = Message(
                id=f"{update_id}/request", protocol_instance_id=update_id, event_id=event.event_id
            )
            message.body.Pack(request)
            return message
    raise AssertionError(f"{update_id} was not brought")


async def _ask(run: Run, label: str, update_id: str, stage: Any = _COMPLETED) -> None:
    request = poll_request(run.client.namespace, run.execution, update_id, stage)
    await run.context.attempt(label, request)


@scenario
async def reset_brings_updates_again(ctx: Context) -> None:
    """Both updates come again; the workflow completes one and rejects the other."""
    new = await do_reset(await _updated(ctx), _FIRST_TASK)
    await new.record_history("new")
    await _ask(new, "brought", "u", _NO_STAGE)
    task = await new.poll()
    ctx.record("messages", [message.id for message in task.messages])
    first, second = await message_brought_again(new, "u"), await message_brought_again(new, "v")
    await _answer(new, task, acceptance(first), response(first), rejection(second))
    await _ask(new, "completed", "u")
    await new.signal("s", request_id=ctx.id("s"))
    await new.step(complete_workflow())
    await new.record_history("new, closed")


@scenario
async def reset_leaves_updates_out(ctx: Context) -> None:
    """Updates are excluded: nothing of them is in the new run."""
    new = await do_reset(
        await _updated(ctx),
        _FIRST_TASK,
        reset_reapply_exclude_types=[Exclude.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE],
    )
    await new.record_history("new")
    await _ask(new, "unknown", "u", _NO_STAGE)


@scenario
async def reset_again_brings_updates_once(ctx: Context) -> None:
    """A reset of a reset run whose workflow has accepted one of the updates that were brought again."""
    first = await do_reset(await _updated(ctx), _FIRST_TASK)
    task = await first.poll()
    words = [acceptance(await message_brought_again(first, update_id)) for update_id in ("u", "v")]
    await _answer(first, task, *words)
    second = await do_reset(first, _FIRST_TASK, "again", request_id=ctx.id("another"))
    await second.record_history("new")


@scenario
async def reset_updates_without_a_word(ctx: Context) -> None:
    """The worker says nothing of the updates that were brought again."""
    new = await do_reset(await _updated(ctx), _FIRST_TASK)
    task = await new.poll()
    await _answer(new, task)
    await new.record_history("new")
