"""Histories as commands read and show them: events page by page, the event that closed a run, results."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from perdure.api.common import v1 as common
from perdure.api.enums import v1 as enums
from perdure.api.history import v1 as history
from perdure.api.workflowservice import v1 as service
from perdure.cli import payloads, show
from perdure.cli.errors import CommandError, UnsuccessfulError
from perdure.cli.session import Session

LONG_POLL_S: Final = 70.0
_MOVED_ON: Final = "workflow_execution_continued_as_new_event_attributes"

_STATES: Final = {
    enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "COMPLETED",
    enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "FAILED",
    enums.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "TIMEOUT",
    enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "CANCELED",
}
"""What a run ended as, in the official command's words."""
_TERMINATED: Final = "TERMINATED"

_COLOURS: Final = (
    ("Failed", "red"), ("TimedOut", "yellow"), ("Canceled", "magenta"), ("ExecutionCompleted", "green"),
    ("ExecutionStarted", "blue"),
)  # fmt: skip
"""End of an event type's name to its colour."""


def label(event: history.HistoryEvent) -> str:
    """`TimerStarted` for a timer's first event."""
    found = enums.EventType.DESCRIPTOR.values_by_number.get(event.event_type)
    # A newer server may have types that have no name here.
    return show.enum_label(found.name if found is not None else f"Type_{event.event_type}", "EventType")


def colour(name: str) -> str | None:
    """The colour of an event type on a terminal."""
    return next((style for ending, style in _COLOURS if name.endswith(ending)), None)


def attributes(event: history.HistoryEvent) -> Any:
    """The attributes of an event, None if it has none."""
    name = event.WhichOneof("attributes")
    return getattr(event, name) if name else None


async def events(
    session: Session,
    workflow_id: str,
    run_id: str = "",
    *,
    follows: bool = False,
    is_reversed: bool = False,
    only_closing: bool = False,
) -> AsyncIterator[history.HistoryEvent]:
    """The events of a run, asked for page by page.

    Args:
        session: the call's.
        workflow_id, run_id: which run; without a run id the latest.
        follows: wait for new events until the run is closed, and go on with the run that continues it.
        is_reversed: newest first.
        only_closing: only the event that closes the run.
    """
    token = b""
    while True:
        execution = common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
        asked: Any
        if is_reversed:
            asked = service.GetWorkflowExecutionHistoryReverseRequest(
                execution=execution, next_page_token=token
            )
        else:
            asked = service.GetWorkflowExecutionHistoryRequest(
                execution=execution,
                next_page_token=token,
                wait_new_event=follows,
                history_event_filter_type=enums.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
                if only_closing
                else enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT,
            )
        page = await session.call(asked, timeout_s=LONG_POLL_S if follows else None)
        moved = ""
        for event in page.history.events:
            yield event
            if event.WhichOneof("attributes") == _MOVED_ON:
                moved = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        token = page.next_page_token
        if not token and follows and moved:
            run_id = moved
        elif not token:
            return


async def close_event(
    session: Session, workflow_id: str, run_id: str = "", *, waits: bool = False
) -> history.HistoryEvent:
    """The event that closed a run; waited for, and along the chain of runs, if asked.

    Raises:
        CommandError: there is none.
    """
    found = None
    with session.out.progress(f"Waiting for {workflow_id}"):
        async for event in events(session, workflow_id, run_id, follows=waits, only_closing=True):
            found = event
    if found is None:
        raise CommandError("the run has no event that closed it")
    return found


def state_of(event: history.HistoryEvent) -> str:
    """What a closing event means, `<unknown>` for kinds without a word."""
    return _STATES.get(event.event_type, "<unknown>")


def result_of(event: history.HistoryEvent) -> common.Payloads | None:
    """The result in a closing event."""
    if not event.HasField("workflow_execution_completed_event_attributes"):
        return None
    completed = event.workflow_execution_completed_event_attributes
    return completed.result if completed.HasField("result") else None


def outcome(session: Session, closed: history.HistoryEvent) -> dict[str, Any]:
    """What JSON says of how a run ended."""
    short = session.out.has_short_payloads
    found = {"status": state_of(closed), "closeEvent": show.to_json(closed, has_short_payloads=short)}
    if closed.event_type == enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
        found["result"] = payloads.friendly(result_of(closed), short)
    return found


def show_outcome(session: Session, closed: history.HistoryEvent, **before: Any) -> None:
    """How a run ended, for people."""
    out = session.out
    if not out.is_text:
        return
    out.heading("Results:")
    shown: dict[str, Any] = {**before, "Status": label(closed).removeprefix("WorkflowExecution")}
    if closed.event_type == enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
        result = result_of(closed)
        shown["Result"] = json.dumps(payloads.friendly(result, True), ensure_ascii=False)
        if result is not None and result.payloads:
            shown["ResultEncoding"] = (
                result.payloads[0].metadata.get("encoding", b"").decode(errors="replace")
            )
    found = attributes(closed)
    if found is not None and "failure" in found.DESCRIPTOR.fields_by_name:
        shown["Failure"] = show.failure_text(found.failure)
    if found is not None and "reason" in found.DESCRIPTOR.fields_by_name:
        shown["Reason"] = found.reason
    out.card(shown)


def check_completed(closed: history.HistoryEvent) -> None:
    """Refuses a run that ended otherwise than completed.

    Raises:
        UnsuccessfulError: it did.
    """
    if closed.event_type != enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
        ended = label(closed).removeprefix("WorkflowExecution")
        raise UnsuccessfulError(f"the workflow did not complete: {ended}")


def as_json(found: Sequence[history.HistoryEvent]) -> Any:
    """A history in the form that replayers read."""
    return show.to_json(history.History(events=found), has_short_payloads=False)


async def show_events(
    session: Session, found: AsyncIterator[history.HistoryEvent], *, is_detailed: bool
) -> history.HistoryEvent | None:
    """Events for people as they come, a line each or all of each; returns the last one."""
    last = None
    console = session.out.console
    async for event in found:
        if last is None and not is_detailed:
            console.print(f"{'ID':>5}  {'Time':<24}  Type", style="magenta")
        last, name = event, label(event)
        if not is_detailed:
            moment = show.time_of(event.event_time)
            at = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else ""
            console.print(f"{event.event_id:>5}  {at:<24}  {name}", style=colour(name))
            continue
        console.print(f"--------------- [{event.event_id}] {name} ---------------", style=colour(name))
        for field, value in sorted(_flat(event).items()):
            console.print(f"{field}: {value}")
        console.print()
    return last


def _flat(event: history.HistoryEvent) -> dict[str, Any]:
    """All of an event as dotted names and values."""
    value = show.to_json(event)
    for name in ("eventId", "eventType"):
        value.pop(name, None)
    for name in [name for name in value if name.endswith("Attributes")]:
        value.update(value.pop(name))
    return dict(_flattened("", value))


def _flattened(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [
            pair
            for name, each in value.items()
            for pair in _flattened(f"{prefix}.{name}" if prefix else name, each)
        ]
    if isinstance(value, list):
        return [pair for index, each in enumerate(value) for pair in _flattened(f"{prefix}[{index}]", each)]
    return [(prefix, value)]
