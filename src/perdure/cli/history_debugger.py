"""pdb for a history: steps from event to event, and into the workflow's code where an event makes it run.

May live here: what the debugger shows and the commands it takes. May not: where history and code come from.
"""

from __future__ import annotations

import bdb
import linecache
import os
import pdb
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType, FunctionType, MappingProxyType, TracebackType
from typing import Any, Final

from perdure.cli import histories
from perdure.cli.show import time_of
from perdure.core.replay import activation as jobs
from perdure.core.replay.activation import Activation, Job
from perdure.core.replay.errors import NondeterminismError
from perdure.core.replay.events import COMMAND_EVENTS
from perdure.core.replay.instructions import Answer
from perdure.core.replay.machines.base import Machine
from perdure.core.replay.run import WorkflowRun
from perdure.core.replay.steps import Step, TaskFailure
from perdure.core.replay.window import window_end
from perdure.worker.workflow_code.program import WorkflowProgram

_LIBRARIES: Final = tuple(
    sorted(
        {
            str(Path(path).resolve())
            for path in (
                *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
                *site.getsitepackages(),
                str(Path(__file__).parents[1]),
            )
        }
    )
)
_EVENTS_AROUND: Final = 5
_TASKS_SHOWN: Final = 10
HELP: Final = """
At an event, shown by a prompt such as (event 3):
  n(ext)              apply the next event; if it makes the code run, it runs as far as it can
  s(tep)              the same, but stop at the first line of your code that runs
  t(ask)              go on to the end of the next workflow task
  unt(il) ID          go on until the event with this id is applied
  c(ont(inue))        go on to the end of the history, or to a breakpoint
  l(ist) [ID]         the events around here, or around ID; -> is the last one applied
  ll, history         all events
  w(here)             where each task of the workflow waits, with the way there
  p, pp, u, d, b ...  as in pdb, where the oldest task waits: p EXPRESSION, b FILE:LINE, !STATEMENT
  h(elp), q(uit)
In your code, shown by the prompt (code), all commands are pdb's; c goes on with the history.
"""
_CONTINUES: Final = -1
"""`stoplineno` of a debugger that stops at breakpoints only."""

_BRINGS: Final[Mapping[type, Callable[[Any], str]]] = MappingProxyType(
    {
        jobs.InitializeWorkflow: lambda job: "the start of the workflow",
        jobs.UpdateRandomSeed: lambda job: "a new random seed",
        jobs.NotifyHasPatch: lambda job: f"that patch {job.patch_id!r} was on",
        jobs.SignalWorkflow: lambda job: f"signal {job.name!r}",
        jobs.DoUpdate: lambda job: f"update {job.name!r}",
        jobs.CancelWorkflow: lambda job: "the request to cancel",
        jobs.FireTimer: lambda job: f"timer {job.seq}",
        jobs.ResolveActivity: lambda job: f"{_outcome(job)} of activity {job.seq}",
        jobs.ResolveChildWorkflowStart: lambda job: f"the start of child workflow {job.seq}",
        jobs.ResolveChildWorkflow: lambda job: f"{_outcome(job)} of child workflow {job.seq}",
        jobs.ResolveSignalExternal: lambda job: f"that signal {job.seq} to another workflow is done",
        jobs.ResolveCancelExternal: lambda job: f"that request {job.seq} to cancel another workflow is done",
        jobs.ResolveNexusOperationStart: lambda job: f"the start of Nexus operation {job.seq}",
        jobs.ResolveNexusOperation: lambda job: f"{_outcome(job)} of Nexus operation {job.seq}",
    }
)


def _outcome(job: Any) -> str:
    if job.is_canceled:
        return "the cancellation"
    return "the failure" if job.failure is not None else "the result"


def _told(told: Iterable[Job]) -> str:
    return ", ".join(_BRINGS[type(job)](job) for job in told if type(job) in _BRINGS)


class HistoryDebugger(pdb.Pdb):
    """Stands between the events of a replay, and in the code that they make run.

    Args:
        events: of the history.
        workflows: the classes that may run; their modules are the user's, wherever they are installed.
    """

    def __init__(self, events: Sequence[Any], workflows: Sequence[type]) -> None:
        super().__init__(skip=["perdure.*"], nosigint=True)
        self.reset()
        self._events = events
        self._modules = [sys.modules[each.__module__] for each in workflows]
        self._own_files = {getattr(module, "__file__", None) for module in self._modules}
        self._run: WorkflowRun | None = None
        self._program: WorkflowProgram | None = None
        self._applied = 0
        self._stop_at = 0
        self._steps_in = False
        self._is_at_event = False
        self._outcome: Step | None = None
        self._frames: list[tuple[FrameType, int]] = []
        self._commands_before: Sequence[tuple[Machine, int]] = ()
        self._jobs_before: Sequence[Job] = ()
        self._told: list[Job] = []
        self._is_run = False

    @property
    def has_left(self) -> bool:
        """Whether somebody left before the end of the history."""
        return bool(self.quitting) and self._outcome is None

    # --- what the replay calls ---

    def begin(self, run: WorkflowRun, program: WorkflowProgram) -> None:
        """A replay begins: watch its events and its code."""
        self._run, self._program = run, program
        run.watch(self._before_event)
        run.program = _Watched(program, self)

    def end(self, outcome: Step) -> None:
        """The replay is over: all events are applied, or something is wrong with the next one."""
        if self.quitting:
            return
        self._outcome = outcome
        while not self.quitting:
            self._stand()
            if not isinstance(outcome, TaskFailure):
                return

    def activating(self, activation: Activation) -> None:
        """Events make the code run: stop in it, if that was asked for."""
        self._is_run = True
        self._told.extend(activation.jobs)
        if self.botframe is None:
            self.botframe = sys._getframe(1)
            self.set_continue()
        if self._steps_in:
            self.set_step()
            self._steps_in = False
        if self.stoplineno != _CONTINUES or self.breaks:
            sys.settrace(self.trace_dispatch)

    def _before_event(self, event: Any) -> None:
        if self._applied >= self._stop_at:
            self._stand()
            if self.quitting:
                raise bdb.BdbQuit
        run = self._run
        self._commands_before = run.waiting_commands if run is not None else ()
        self._jobs_before = run.waiting_jobs if run is not None else ()
        self._told, self._is_run = [], False
        self._applied = event.event_id

    # --- standing at an event ---

    def _stand(self) -> None:
        """Shows what the last event did, and takes commands until one of them goes on."""
        sys.settrace(None)
        self._frames = self._frames_here()
        self._report()
        self._is_at_event, self.prompt = True, f"(event {self._applied}) "
        try:
            self.interaction(self._frames[-1][0], None)
        finally:
            self._is_at_event, self.prompt = False, "(code) "
        self._frames = []

    def _report(self) -> None:
        total, outcome = len(self._events), self._outcome
        if self._applied == 0:
            self.message(f"--- before event 1 of {total}; nothing has run. h shows the commands")
            return
        self.message(f"--- {_line(self._events[self._applied - 1]).strip()}  ({self._applied} of {total})")
        if isinstance(outcome, TaskFailure):
            self._report_failure(outcome)
        else:
            self.message(f"    {self._effect()}")
        if self._run is not None:
            for machine, kind in self._run.waiting_commands:
                verb = "asks for" if self._is_run else "has asked for"
                self.message(f"    It {verb} {machine.asked(kind)}{_at(machine.source)}")
        waiting = self._waiting()
        for name, frames in waiting[:_TASKS_SHOWN]:
            self.message(f"    {name} waits at {_place(frames[-1])}")
        if len(waiting) > _TASKS_SHOWN:
            self.message(f"    {len(waiting) - _TASKS_SHOWN} more tasks wait; w shows them")
        if outcome is not None and not isinstance(outcome, TaskFailure):
            self.message("    This is the end of the history; the code fits it.")

    def _report_failure(self, failure: TaskFailure) -> None:
        error = failure.error
        if isinstance(error, NondeterminismError):
            self.message(
                f"    The code does not fit event {error.event_id}.\n      history: {error.recorded}"
            )
            self.message(f"      the code asked for: {error.asked}{_at(error.source)}")
        else:
            self.message(f"    The code failed, and not in a way that ends the workflow: {failure.message}")
        self.message("    The replay cannot go on. p and w still work; q leaves.")

    def _effect(self) -> str:
        """What the last event that was applied did."""
        event, run = self._events[self._applied - 1], self._run
        if self._is_run:
            return f"The code has run with {_told(self._told) or 'nothing new'}."
        after = list(run.waiting_commands) if run is not None else []
        if event.event_type in COMMAND_EVENTS:
            for machine, kind in self._commands_before:
                if (machine, kind) not in after and kind == event.event_type:
                    return f"It records what the code asked for: {machine.asked(kind)}{_at(machine.source)}"
        brought = list(run.waiting_jobs)[len(self._jobs_before) :] if run is not None else []
        if not brought:
            return "By itself it runs no code."
        end = self._window_end()
        when = f"It runs with the workflow task that starts at event {end}" if end else "It has not run yet"
        return f"It brings the code {_told(brought)}. {when}."

    def _window_end(self) -> int:
        """Id of the event at which the code runs next; 0 if there is none."""
        end = window_end([event.event_type for event in self._events], self._applied - 1) + 1
        return end if end > self._applied else 0

    # --- places in the code ---

    def is_skipped_module(self, module_name: str | None) -> bool:
        """Whether a module is not the user's."""
        path = getattr(sys.modules.get(module_name or ""), "__file__", None)
        return path is None or not self._is_own(path)

    def _is_own(self, path: str) -> bool:
        return path in self._own_files or not (
            path.startswith("<") or str(Path(path).resolve()).startswith(_LIBRARIES)
        )

    def _own(self, frames: Iterable[FrameType]) -> list[FrameType]:
        return [frame for frame in frames if self._is_own(frame.f_code.co_filename)]

    def _waiting(self) -> list[tuple[str, list[FrameType]]]:
        """The tasks that wait, with the frames of the user's code; what Perdure's own tasks wait for is not told."""
        found = self._program.waiting() if self._program is not None else []
        own = [(name.partition(" (workflow: ")[0], self._own(frames)) for name, frames in found]
        return [(name, frames) for name, frames in own if frames]

    def _frames_here(self) -> list[tuple[FrameType, int]]:
        """The frames that `p` sees: where the code failed, else where its oldest task waits, else its module."""
        error = self._outcome.error if isinstance(self._outcome, TaskFailure) else None
        failed = [
            (frame, line)
            for frame, line in traceback.walk_tb(error.__traceback__ if error is not None else None)
            if self._is_own(frame.f_code.co_filename)
        ]
        if failed:
            return failed
        for _, frames in self._waiting():
            return [(frame, frame.f_lineno) for frame in frames]
        return [_frame_of_module(self._modules[0])]

    # --- pdb ---

    def get_stack(
        self, f: FrameType | None, t: TracebackType | None
    ) -> tuple[list[tuple[FrameType, int]], int]:
        """The frames of the user's code."""
        if self._is_at_event:
            return self._frames, len(self._frames) - 1
        stack, index = super().get_stack(f, t)
        own = [entry for entry in stack if self._is_own(entry[0].f_code.co_filename)]
        return (own, len(own) - 1) if own else (stack, index)

    def print_stack_entry(self, frame_lineno: tuple[FrameType, int], prompt_prefix: str = "\n-> ") -> None:
        """The line where the code stands; at an event it has been shown."""
        if not (self._is_at_event and not self._has_moved):
            super().print_stack_entry(frame_lineno, prompt_prefix)

    _has_moved = False

    def onecmd(self, line: str) -> bool:
        """Commands that mean something else at an event than in the code are taken here."""
        word, _, argument = line.strip().partition(" ")
        self._has_moved = True
        action = _AT_EVENT.get(word) if self._is_at_event else None
        if action is None or self.commands_defining:
            return bool(super().onecmd(line))
        self.lastcmd = line
        return bool(action(self, argument.strip()))

    def interaction(self, frame: FrameType | None, *arguments: Any) -> None:
        """Takes commands until one of them goes on."""
        self._has_moved = False
        super().interaction(frame, *arguments)

    # --- commands at an event; True goes on ---

    def _go_on(self, until: int, *, steps_in: bool = False) -> bool:
        if isinstance(self._outcome, TaskFailure):
            self.error("the replay cannot go on after this; q leaves")
            return False
        self._stop_at, self._steps_in = until, steps_in
        self.set_continue()
        return True

    def _next(self, argument: str) -> bool:
        return self._go_on(self._applied + 1)

    def _step(self, argument: str) -> bool:
        return self._go_on(self._applied + 1, steps_in=True)

    def _continue(self, argument: str) -> bool:
        return self._go_on(len(self._events))

    def _until(self, argument: str) -> bool:
        first, last = self._applied + 1, len(self._events)
        if not argument.isdecimal() or not first <= int(argument) <= last:
            self.error(f"until needs the id of an event that is still to come: {first} to {last}")
            return False
        return self._go_on(int(argument))

    def _task(self, argument: str) -> bool:
        types = [event.event_type for event in self._events]
        return self._go_on(window_end(types, self._applied) + 1)

    def _list(self, argument: str) -> bool:
        if argument and not argument.isdecimal():
            self.error("list takes the id of an event")
            return False
        middle = int(argument or self._applied)
        self._show(max(0, middle - _EVENTS_AROUND - 1), middle + _EVENTS_AROUND)
        return False

    def _list_all(self, argument: str) -> bool:
        self._show(0, len(self._events))
        return False

    def _show(self, start: int, end: int) -> None:
        for event in self._events[start:end]:
            arrow = "->" if event.event_id == self._applied else "  "
            self.message(f"{arrow} {_line(event)}")

    def _where(self, argument: str) -> bool:
        waiting = self._waiting()
        if not waiting:
            self.message("No task of the workflow waits.")
        for name, frames in waiting:
            self.message(f"{name}:")
            for frame in frames:
                self.message(f"  {_place(frame)}")
        return False

    def _help(self, argument: str) -> bool:
        if argument:
            self.do_help(argument)
        else:
            self.message(HELP)
        return False

    def _only_in_code(self, argument: str) -> bool:
        self.error("this works in your code only: s goes there with the next event that makes it run")
        return False


_AT_EVENT: Final[Mapping[str, Callable[[HistoryDebugger, str], bool]]] = MappingProxyType(
    {
        word: action
        for words, action in (
            ("n next", HistoryDebugger._next),
            ("s step", HistoryDebugger._step),
            ("c cont continue", HistoryDebugger._continue),
            ("unt until", HistoryDebugger._until),
            ("t task", HistoryDebugger._task),
            ("l list", HistoryDebugger._list),
            ("ll longlist history", HistoryDebugger._list_all),
            ("w where bt", HistoryDebugger._where),
            ("h help ?", HistoryDebugger._help),
            ("r return j jump run restart", HistoryDebugger._only_in_code),
        )
        for word in words.split()
    }
)


class _Watched:
    """A workflow's code that tells a debugger before it runs."""

    def __init__(self, program: WorkflowProgram, debugger: HistoryDebugger) -> None:
        self._program = program
        self._debugger = debugger

    def activate(self, activation: Activation) -> Answer:
        """Tells the debugger, then runs the code."""
        self._debugger.activating(activation)
        try:
            return self._program.activate(activation)
        finally:
            sys.settrace(None)


def _frame_of_module(module: Any) -> tuple[FrameType, int]:
    """A frame in which a module's names are known although nothing of it runs."""
    code = compile(
        "def nothing():\n    yield", getattr(module, "__file__", None) or "<module>", "exec"
    ).co_consts[0]
    return FunctionType(code, vars(module))().gi_frame, 1


def _line(event: Any) -> str:
    at = time_of(event.event_time)
    return f"{event.event_id:>5}  {at.isoformat() if at else '':<32}  {histories.label(event)}"


def _place(frame: FrameType) -> str:
    file, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, line, frame.f_globals).strip()
    return f"{_short(file)}({line}){frame.f_code.co_name}()\n        -> {text}"


def _at(source: str | None) -> str:
    return f", at {_short(source)}" if source else ""


def _short(path: str) -> str:
    """A path as seen from here, if it is below here."""
    return path.removeprefix(os.getcwd() + os.sep)
