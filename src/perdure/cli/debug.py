"""`perdure debug`: replays a history here, in pdb, with the user's code, and stops at each workflow task."""

from __future__ import annotations

import asyncio
import pdb
import site
import sys
import sysconfig
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
from perdure.cli.history_files import History, read_history
from perdure.cli.session import Session
from perdure.cli.show import time_of
from perdure.client import WorkflowHistory
from perdure.worker import Replayer
from perdure.worker._workflow_programs import RegisteredPrograms
from perdure.worker.workflow_code import program as programs

_LIBRARIES: Final = tuple(
    {
        str(Path(path).resolve())
        for path in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            *site.getsitepackages(),
            str(Path(__file__).parents[1]),
        )
    }
)
_HELP: Final = """
Commands besides pdb's:
  task (t)     go on to the next workflow task, that is to what the next events bring
  events (ev)  show the events that this task brings
  history      show all events; the arrow is where the replay stands
"""


class HistoryDebugger(pdb.Pdb):
    """pdb that knows where in a history the replay stands, and stops in the user's code only.

    Args:
        events: of the history.
    """

    def __init__(self, events: Sequence[Any]) -> None:
        super().__init__(skip=["perdure.*"], nosigint=True)
        self.prompt = "(perdure) "
        self.botframe = None
        self._events = events
        self._shown = 0
        self._until = 0

    def is_skipped_module(self, module_name: str | None) -> bool:
        """Whether a module is not the user's."""
        module = sys.modules.get(module_name or "")
        path = getattr(module, "__file__", None)
        return path is None or str(Path(path).resolve()).startswith(_LIBRARIES)

    def begin_task(self, history_length: int) -> None:
        """A workflow task brings its events to the code: say which, and stop at the next line that runs."""
        self._shown, self._until = self._until, history_length
        self.do_events("")
        if self.botframe is None:
            self.reset()
            self.botframe = sys._getframe(1)
        self.set_step()
        sys.settrace(self.trace_dispatch)

    def do_events(self, arg: str) -> None:
        """Show the events that this task brings."""
        self.message(f"--- workflow task: events {self._shown + 1} to {self._until} of {len(self._events)}")
        for event in self._events[self._shown : self._until]:
            self.message(f"    {self._line(event)}")

    do_ev = do_events

    def do_history(self, arg: str) -> None:
        """Show all events."""
        for event in self._events:
            arrow = "->" if event.event_id == self._until else "  "
            self.message(f" {arrow} {self._line(event)}")

    def do_task(self, arg: str) -> bool:
        """Go on to the next workflow task."""
        self.set_continue()
        # `continue` takes the tracing away where there are no breakpoints; the next task brings it back.
        return True

    do_t = do_task

    def _line(self, event: Any) -> str:
        at = time_of(event.event_time)
        return f"{event.event_id:>5}  {at.isoformat() if at else '':<32}  {histories.label(event)}"


class _Watched(programs.WorkflowProgram):
    """Workflow code that says when a workflow task begins."""

    debugger: HistoryDebugger

    def activate(self, activation: Any) -> Any:
        """Tells the debugger, then runs the code."""
        self.debugger.begin_task(activation.history_length)
        return super().activate(activation)


class _SteppingReplayer(Replayer):
    """A replayer whose programs tell a debugger when a workflow task begins."""

    def __init__(self, debugger: HistoryDebugger, workflows: Sequence[type]) -> None:
        super().__init__(workflows=workflows, debug_mode=True)
        self._debugger = debugger

    def _programs(self) -> RegisteredPrograms:
        made = super()._programs()
        create, debugger = made.create, self._debugger

        def watched(workflow_type: str, workflow_id: str, run_id: str) -> Any:
            program = create(workflow_type, workflow_id, run_id)
            program.__class__ = _Watched
            program.debugger = debugger  # type: ignore[attr-defined]
            return program

        made.create = watched  # type: ignore[method-assign]
        return made


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
    """Replay a workflow here, step by step, under pdb with your code.

    Nothing is sent anywhere: the history is read once, and your code runs with what it recorded. The debugger stops
    at the first line that each workflow task runs; `t` goes on to the next task, `ev` shows its events.
    """
    found = await _read(session, flags)
    await session.close()
    workflows = load(flags.code).workflows
    debugger = HistoryDebugger(found.events)
    replayer = _SteppingReplayer(debugger, workflows)
    debugger.message(f"{found.workflow_id}: {len(found.events)} events.{_HELP}")
    history = WorkflowHistory(found.workflow_id, found.events)

    result = await _beside(
        lambda: asyncio.run(replayer.replay_workflow(history, raise_on_replay_failure=False))
    )
    if debugger.quitting:
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
