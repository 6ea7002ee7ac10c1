"""`perdure debug`: replays a history here, in pdb, with the user's code, from event to event."""

from __future__ import annotations

import asyncio
import sys
import termios
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, Final

import click

from perdure.cli import flags as f
from perdure.cli import histories
from perdure.cli.code import load
from perdure.cli.command import Command, Flags
from perdure.cli.errors import UnsuccessfulError, WrongUsageError
from perdure.cli.history_debugger import HistoryDebugger
from perdure.cli.history_files import History, read_history
from perdure.cli.session import Session
from perdure.client import WorkflowHistory
from perdure.core.replay.run import WorkflowRun
from perdure.core.replay.steps import Step
from perdure.worker import Replayer
from perdure.worker.workflow_code.program import WorkflowProgram


class _SteppingReplayer(Replayer):
    """A replayer that a debugger watches."""

    def __init__(self, debugger: HistoryDebugger, workflows: Sequence[type]) -> None:
        super().__init__(workflows=workflows, debug_mode=True)
        self._debugger = debugger

    async def _run(self, run: WorkflowRun, *others: Any) -> Step:
        if isinstance(run.program, WorkflowProgram):
            self._debugger.begin(run, run.program)
        step = await super()._run(run, *others)
        self._debugger.end(step)
        return step


async def _read(session: Session, flags: Flags) -> History:
    if flags.history:
        return read_history(Path(flags.history), flags.workflow_id or "")
    if not flags.workflow_id:
        raise WrongUsageError("a workflow id or --history is needed")
    found = [event async for event in histories.events(session, flags.workflow_id, flags.run_id or "")]
    return History(flags.workflow_id, flags.run_id or "", found)


async def _beside(work: Callable[[], Any]) -> Any:
    """Runs what needs a loop of its own in a thread; Ctrl-C does not wait for it, it may wait for a key."""
    done: Future[Any] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # told where it is awaited
            done.set_exception(error)

    before = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    Thread(target=run, daemon=True).start()
    try:
        return await asyncio.wrap_future(done)
    finally:
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def _debug(session: Session, flags: Flags) -> None:
    """Replay a workflow here, event by event, under pdb with your code.

    Nothing is sent anywhere: the history is read once, and your code runs with what it recorded. At the prompt `n`
    applies the next event and shows what it did, what the code asked for, and where its tasks wait; `s` stops at the
    first line that it runs, `until 12` and `c` go on, `b orders.py:20` sets a breakpoint, `p self` looks, `h` shows the
    rest. An event by itself may run no code: like a worker, the debugger brings the code what one workflow task
    brought it all at once. Commands may come from a pipe.
    """
    found = await _read(session, flags)
    await session.close()
    workflows = load(flags.code).workflows
    debugger = HistoryDebugger(found.events, workflows)
    replayer = _SteppingReplayer(debugger, workflows)
    history = WorkflowHistory(found.workflow_id, found.events)

    result = await _beside(
        lambda: asyncio.run(replayer.replay_workflow(history, raise_on_replay_failure=False))
    )
    if debugger.has_left:
        session.out.note("Left before the end of the history")
        return
    if result.replay_failure is not None:
        raise UnsuccessfulError(f"the code does not fit the history: {result.replay_failure}")
    session.out.note("The replay has reached the end of the history; the code fits it")


debug: Final = Command(
    "debug",
    _debug,
    (
        click.Argument(
            ("workflow_id",),
            required=False,
            metavar="[WORKFLOW_ID]",
            shell_complete=f.complete_workflow_ids,
        ),
        f.text("--code", required=True, metavar="MODULE[:NAME]", help="Where the workflows are."),
        f.text("--run-id", "-r", metavar="ID", help="Id of one run; without it the latest."),
        f.text("--history", metavar="PATH", help="File with the history, instead of a server."),
    ),
    "perdure debug order-1 --code orders",
)
