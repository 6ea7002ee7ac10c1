"""`perdure history`: histories as files, to keep, to replay and to compare."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import click

from perdure.api.common import v1 as common
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import histories
from perdure.cli.command import Flags, Group
from perdure.cli.errors import EXIT_NOT_FOUND, CommandError, UnsuccessfulError, WrongUsageError
from perdure.cli.history_files import History, read_history, text_of
from perdure.cli.session import Session

history = Group("history", "Keep histories in files, replay them, compare them.")

_DIRECTORY: Final = f.text(
    "--directory", metavar="PATH", help="Folder for the files.", default="histories", show_default=True
)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_MAX_NAME: Final = 120
_DIFFERS: Final = frozenset(
    {
        "taskId", "eventTime", "requestId", "runId", "newExecutionRunId", "firstExecutionRunId",
        "originalExecutionRunId", "identity", "workflowId", "historySizeBytes", "version", "buildId",
    }
)  # fmt: skip
"""Members that differ from run to run by nature."""


def _file_name(found: History) -> str:
    # Both may come from a foreign file, which must not say where it is written.
    name = _UNSAFE.sub("_", found.workflow_id)[:_MAX_NAME] or "workflow"
    run = _UNSAFE.sub("_", found.run_id)[:_MAX_NAME] or "run"
    return f"{name}.{run}.json"


def _write(directory: str, found: History) -> Path:
    path = Path(directory, _file_name(found))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text_of(found), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CommandError(f"{path} cannot be written: {error}") from error
    return path


async def _fetch(session: Session, workflow_id: str, run_id: str) -> History:
    described = await session.call(
        service.DescribeWorkflowExecutionRequest(
            execution=common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
        )
    )
    execution = described.workflow_execution_info.execution
    events = [event async for event in histories.events(session, workflow_id, execution.run_id)]
    return History(workflow_id, execution.run_id, events)


async def _found_by(session: Session, query: str) -> AsyncIterator[tuple[str, str]]:
    request = service.ListWorkflowExecutionsRequest(query=query)
    while True:
        page = await session.call(request)
        for info in page.executions:
            yield info.execution.workflow_id, info.execution.run_id
        request.next_page_token = page.next_page_token
        if not page.next_page_token:
            return


@history.add(
    "export", _DIRECTORY, f.LIMIT,
    f.text("--workflow-id", "-w", **f.WORKFLOW_ID),
    f.text("--run-id", "-r", metavar="ID", help="Id of one run; without it the latest."),
    f.text("--query", "-q", metavar="FILTER", help="Export all workflows that this finds."),
    example="perdure history export --query \"WorkflowType = 'Order'\" --limit 100 --directory histories",
)  # fmt: skip
async def export(session: Session, flags: Flags) -> None:
    """Write histories to files that replayers read, one for each run."""
    if bool(flags.workflow_id) == bool(flags.query):
        raise WrongUsageError("either --workflow-id or --query is needed")
    if flags.workflow_id:
        wanted = [(flags.workflow_id, flags.run_id or "")]
    else:
        wanted = []
        async for pair in _found_by(session, flags.query):
            wanted.append(pair)
            if flags.limit and len(wanted) >= flags.limit:
                break
    with session.out.listing(), session.out.progress("Exporting", len(wanted)) as progress:
        for number, (workflow_id, run_id) in enumerate(wanted, 1):
            found = await _fetch(session, workflow_id, run_id)
            _show_file(session, _write(flags.directory, found), found)
            progress.update(number, len(wanted))


def _show_file(session: Session, path: Path, found: History) -> None:
    shown = {
        "file": str(path),
        "workflowId": found.workflow_id,
        "runId": found.run_id,
        "events": len(found.events),
    }
    if session.out.is_json:
        session.out.json(shown)
    session.out.table([shown], ["file", "workflowId", "runId", "events"])


@history.add(
    "import", _DIRECTORY,
    click.Argument(("files",), nargs=-1, required=True, metavar="FILE..."),
    f.text("--workflow-id", "-w", metavar="ID", help="Id of the workflow, if the file does not have it."),
    example="perdure history import downloaded.json --workflow-id order-1",
)  # fmt: skip
def import_files(session: Session, flags: Flags) -> None:
    """Take over histories that other tools have saved, in any spelling, into files for replaying.

    They are checked to be whole, and written in one form. No server takes in foreign histories.
    """
    with session.out.listing(), session.out.progress("Importing", len(flags.files)) as progress:
        for number, file in enumerate(flags.files, 1):
            found = read_history(Path(file), flags.workflow_id or "")
            _show_file(session, _write(flags.directory, found), found)
            progress.update(number, len(flags.files))


async def _named(session: Session, name: str) -> History:
    """A history by file, or by id of a workflow, with `/` and a run id or without."""
    if os.path.isfile(name):  # noqa: ASYNC240 - nobody else waits in this process
        return read_history(Path(name), "")
    workflow_id, _, run_id = name.partition("/")
    return await _fetch(session, workflow_id, run_id)


@history.add(
    "diff",
    click.Argument(("first",), metavar="FILE|ID[/RUN]"),
    click.Argument(("second",), metavar="FILE|ID[/RUN]"),
    f.switch("--all", help="Compare also what differs by nature: times, ids, workers."),
    example="perdure history diff order-1 order-2",
)
async def diff(session: Session, flags: Flags) -> None:
    """Compare two histories, each a file or a workflow, event by event.

    The exit code is 6 if they differ.
    """
    first, second = await _named(session, flags.first), await _named(session, flags.second)
    old, new = (_lines(each, is_whole=flags.all) for each in (first, second))
    lines = list(difflib.unified_diff(old, new, flags.first, flags.second, lineterm="", n=4))
    if session.out.is_json:
        session.out.json({"differ": bool(lines), "diff": lines})
    for line in lines:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        session.out.line(line, style=style)
    if lines:
        raise UnsuccessfulError("the histories differ")
    session.out.note("The histories say the same")


def _lines(found: History, *, is_whole: bool) -> list[str]:
    """A history as lines, one for each value of each event."""
    lines = []
    for event in histories.as_json(found.events).get("events", []):
        lines.append(f"{event['eventId']} {event['eventType'].removeprefix('EVENT_TYPE_')}")
        for name, value in sorted(_flat("", event)):
            if is_whole or name.rpartition(".")[2] not in _DIFFERS:
                lines.append(f"    {name} = {json.dumps(value, ensure_ascii=False)}")
    return lines


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [
            pair
            for name, each in value.items()
            if prefix or name not in ("eventId", "eventType")
            for pair in _flat(f"{prefix}.{name}" if prefix else name, each)
        ]
    if isinstance(value, list):
        return [pair for index, each in enumerate(value) for pair in _flat(f"{prefix}[{index}]", each)]
    return [(prefix, value)]


def _files(path: Path) -> list[Path]:
    """A file, or those of a folder."""
    return sorted(path.glob("*.json")) if path.is_dir() else [path]


@history.add(
    "replay",
    click.Argument(("files",), nargs=-1, required=True, metavar="FILE..."),
    f.text("--code", required=True, metavar="MODULE[:NAME]", help="Where the workflows are."),
    example="perdure history replay histories --code orders",
)
async def replay(session: Session, flags: Flags) -> None:
    """Replay histories from files or folders with the code of today, and say which it no longer fits.

    The exit code is 6 if one does not fit.
    """
    from perdure.cli.code import load
    from perdure.client import WorkflowHistory
    from perdure.worker import Replayer

    replayer = Replayer(workflows=load(flags.code).workflows)
    files = [path for name in flags.files for path in _files(Path(name))]
    if not files:
        raise CommandError("there are no histories to replay", EXIT_NOT_FOUND)
    failed = 0
    with session.out.listing(), session.out.progress("Replaying", len(files)) as progress:
        for number, path in enumerate(files, 1):
            found = read_history(path, "")
            result = await replayer.replay_workflow(
                WorkflowHistory(found.workflow_id, found.events), raise_on_replay_failure=False
            )
            error = result.replay_failure
            failed += error is not None
            shown = {"file": str(path), "fits": error is None} | ({"error": str(error)} if error else {})
            if session.out.is_json:
                session.out.json(shown)
            session.out.line(
                f"{'ok  ' if error is None else 'FAIL'} {path}", style="green" if error is None else "red"
            )
            if error is not None:
                session.out.line(str(error))
            progress.update(number, len(files))
    if failed:
        raise UnsuccessfulError(f"{failed} of {len(files)} histories do not fit the code")
