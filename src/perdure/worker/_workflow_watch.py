"""The watch over calls that run workflow code: finds one that does not return, and interrupts it and nothing else.

`run_watched` makes a call; the watchdog is one thread per process that looks at what every thread is at. How the two
agree on who may still throw is decision record 24. Nothing here knows event loops or workflow tasks.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from time import monotonic, sleep  # bound here: the guards of workflow code put others into the module
from types import CodeType, FrameType
from typing import Protocol, TypeVar

from perdure.core.errors import PerdureError
from perdure.worker._thread_cancel import raise_in_thread, take_back
from perdure.worker.workflow_code.guards.state import armed

T = TypeVar("T")

logger = logging.getLogger("perdure.worker")

_LONGEST_TICK_S = 0.1
_SHORTEST_TICK_S = 0.005
_LOOKS_PER_LIMIT = 10
_PARK_AFTER_S = 1.0
_THROW_EVERY_S = 0.5
_PATIENT_THROWS = 4
_THROW_STUBBORN_EVERY_S = 0.02
"""Code that swallows every exception, round and round, is left at the one moment at which it does not."""
_FIRST_REPEAT_S = 10.0
_LAST_REPEAT_S = 60.0
_ANYWHERE_AFTER_S = 2.0
_DEBUGGERS = frozenset({"bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy", "IPython"})
_DELICATE = frozenset({"logging", "importlib", "_frozen_importlib", "linecache", "traceback"})
"""Modules that hold locks of the whole process for a moment: the exception is held back while code is in them."""


class DeadlockError(PerdureError):
    """Workflow code kept its thread for too long.

    Attributes:
        advice: What to do, and where the code stands.
        is_running: The code may still be inside; a thread of its own ends it.
    """

    is_running = False

    def __init__(self, limit_s: float, frame: FrameType | None) -> None:
        # The code in brackets is that of the official SDKs: people look it up and tools match it.
        seconds = int(limit_s) if limit_s == int(limit_s) else limit_s
        super().__init__(
            f"[TMPRL1101] Potential deadlock detected: workflow didn't yield within {seconds} second(s)."
        )
        self.advice = (
            "Workflow code has to await within that time: move blocking calls and long computations into an activity "
            "(or a local activity). To step through it in a debugger, use Worker(debug_mode=True) or TEMPORAL_DEBUG=1. "
            f"It stands here:\n{_stack(frame)}"
        )


class InterruptDeadlock(SystemExit):
    """Thrown into workflow code that does not return.

    A `SystemExit`, because asyncio keeps every other exception in the task or the callback that raised it.
    """


class Progress(Protocol):
    """What a call does, as the watchdog sees it."""

    @property
    def activation_count(self) -> int:
        """Grows while the call gets on, such as with each activation of a long replay."""
        ...


class NoProgress:
    """A call that is one step."""

    activation_count = 0


NO_PROGRESS = NoProgress()


class Watched:
    """What one thread is at.

    Attributes:
        thread_id: Of the thread.
        job: Number of the call under way; 0 while there is none. Written by the thread alone.
        count: Of calls so far.
        progress: Of the call.
        limit_s: Seconds for which the call may stand still.
        on_deadlock: Called in the watchdog's thread when it has stood still for too long.
        is_firing: The watchdog is about to throw. Written by the watchdog alone, like those that follow.
        has_fired: It has thrown, or tried to: the outcome of the call is not to be used. Taken back by the thread.
        error: What the call fails with.
        seen: The call and its progress when the watchdog looked last, and since when that is so.
    """

    __slots__ = (
        "__weakref__", "blocked_at", "compare_at_s", "count", "error", "has_fired", "is_firing", "job", "limit_s",
        "on_deadlock", "progress", "repeat_s", "seen", "since_s", "thread_id", "throw_at_s", "throws", "warn_at_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.thread_id = threading.get_ident()
        self.job = 0
        self.count = 0
        self.progress: Progress = NO_PROGRESS
        self.limit_s = 0.0
        self.on_deadlock: Callable[[DeadlockError], None] | None = None
        self.is_firing = False
        self.has_fired = False
        self.error: DeadlockError | None = None
        self.seen: tuple[int, int] | None = None
        self.since_s = 0.0
        self.throws = 0
        self.throw_at_s = 0.0
        self.compare_at_s = 0.0
        self.blocked_at: tuple[int, int] | None = None
        self.warn_at_s = 0.0
        self.repeat_s = 0.0


class Watchdog:
    """The thread that looks. It begins with the first call and stands still while there are none.

    Attributes:
        is_parked: It waits to be woken; whoever begins a call asks.
        looks: How often it has looked.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.is_parked = True
        self.looks = 0
        self._waking = threading.Lock()
        self._awake = threading.Event()
        self._records: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._busy_at_s = 0.0
        self._counts = 0

    def after_fork(self) -> None:
        """Begin anew in a child process, which has this thread only."""
        self._reset()
        armed.watched = None

    def record(self) -> Watched:
        """Return the record of the calling thread."""
        record = armed.watched
        if not isinstance(record, Watched):
            record = armed.watched = Watched()
            with self._waking:
                self._records.add(record)
        return record

    def wake(self) -> None:
        """See to it that the watchdog looks."""
        with self._waking:
            self.is_parked = False
            if self._thread is None:
                # A daemon: it must not keep the process alive.
                self._thread = threading.Thread(target=self._watch, name="perdure-watchdog", daemon=True)
                self._thread.start()
            self._awake.set()

    def _watch(self) -> None:
        while True:
            with self._waking:
                records = list(self._records)
            now_s = monotonic()
            tick_s = _LONGEST_TICK_S
            for record in records:
                if record.job:
                    shortest_s = (
                        _THROW_STUBBORN_EVERY_S if record.has_fired else record.limit_s / _LOOKS_PER_LIMIT
                    )
                    tick_s = min(tick_s, max(_SHORTEST_TICK_S, shortest_s))
                try:
                    _look(record, now_s)
                except (
                    Exception
                ):  # a log handler is the user's code; without the watch a block would be for ever
                    logger.exception("The watch over workflow code failed")
            self.looks += 1
            counts = sum(record.count for record in records)
            if counts != self._counts or any(record.job for record in records):
                self._counts, self._busy_at_s = counts, now_s
            del records
            if now_s - self._busy_at_s < _PARK_AFTER_S:
                sleep(tick_s)
            else:
                self._park()

    def _park(self) -> None:
        self._awake.clear()
        self.is_parked = True
        # Who began in the meantime may have found it awake.
        with self._waking:
            is_idle = sum(record.count for record in self._records) == self._counts
        if is_idle:
            self._awake.wait()
        self.is_parked = False
        self._busy_at_s = monotonic()


watchdog = Watchdog()
os.register_at_fork(after_in_child=watchdog.after_fork)


def run_watched(
    call: Callable[[], T],
    progress: Progress,
    limit_s: float | None,
    on_deadlock: Callable[[DeadlockError], None] | None = None,
) -> T:
    """Make a call that must not stand still for longer than a limit.

    Args:
        call: Runs workflow code.
        progress: Of the call.
        limit_s: Seconds without progress; None for no limit.
        on_deadlock: Called in the watchdog's thread as soon as it has stood still for too long.

    Raises:
        DeadlockError: It stood still for longer, and has ended since.
        RuntimeError: The thread is in such a call already.
    """
    if limit_s is None:
        return call()
    record = watchdog.record()
    if record.job:
        raise RuntimeError("Workflow code cannot run inside workflow code")
    record.progress, record.limit_s, record.on_deadlock = progress, limit_s, on_deadlock
    record.count = number = record.count + 1
    result: T | None = None
    failure: BaseException | None = None
    try:
        record.job = number
        if watchdog.is_parked:
            watchdog.wake()
        result = call()
        record.job = 0
    except BaseException as error:  # that of the watch among them; any other is raised below
        record.job = 0
        if not (record.is_firing or record.has_fired):
            raise
        failure = error
    if record.is_firing or record.has_fired:
        # One exception may be on its way, and the watchdog may be throwing a last one: each `except` is for one.
        try:
            try:
                deadlock = _settle(record)
            except InterruptDeadlock:
                deadlock = _settle(record)
        except InterruptDeadlock:
            deadlock = _settle(record)
        if deadlock is not None:
            raise deadlock
        if failure is not None:
            raise failure
    return result  # type: ignore[return-value] # of the call, whatever it may be


def _settle(record: Watched) -> DeadlockError | None:
    """Wait until the watchdog throws no more, and take back what has not been raised.

    What was thrown may be raised before that, and never after it: up to there it can be repeated.
    """
    while record.is_firing:
        sleep(0)
    take_back()
    error = record.error
    if record.has_fired:
        record.has_fired = False
        return error
    return None


def _look(record: Watched, now_s: float) -> None:
    job = record.job
    if not job:
        record.seen = record.blocked_at = None
        return
    if record.seen is None or record.seen[0] != job:
        record.error = None
    seen = (job, record.progress.activation_count)
    # Once interrupted, it has to end: what it does from then on is of no use.
    if seen != record.seen and record.error is None:
        record.seen, record.since_s = seen, now_s
        return
    if now_s - record.since_s < record.limit_s:
        return
    frame = sys._current_frames().get(record.thread_id)
    if _is_in(frame, _DEBUGGERS):
        record.since_s = now_s
        return
    if record.error is None:
        _begin_to_throw(record, frame, now_s)
    if now_s >= record.throw_at_s:
        _throw(record, job, frame, now_s)


def _begin_to_throw(record: Watched, frame: FrameType | None, now_s: float) -> None:
    record.error = DeadlockError(record.limit_s, frame)
    record.throw_at_s = record.compare_at_s = now_s
    record.throws = 0
    record.blocked_at = None
    record.repeat_s = _FIRST_REPEAT_S


def _throw(record: Watched, job: int, frame: FrameType | None, now_s: float) -> None:
    is_late = now_s - record.since_s >= record.limit_s + _ANYWHERE_AFTER_S
    if not is_late and frame is not None and _module(frame) in _DELICATE:
        return
    record.is_firing = True
    try:
        # Only now: from here on the thread waits for `is_firing` before it leaves.
        if record.job == job:
            is_first, record.has_fired = not record.has_fired, True
            raise_in_thread(record.thread_id, InterruptDeadlock)
            if is_first and record.on_deadlock is not None and record.error is not None:
                record.on_deadlock(record.error)
    finally:
        record.is_firing = False
    record.throws += 1
    is_patient = record.throws <= _PATIENT_THROWS
    record.throw_at_s = now_s + (_THROW_EVERY_S if is_patient else _THROW_STUBBORN_EVERY_S)
    if now_s >= record.compare_at_s:
        record.compare_at_s = now_s + _THROW_EVERY_S
        _complain_of_block(record, frame, now_s)


def _complain_of_block(record: Watched, frame: FrameType | None, now_s: float) -> None:
    """Log code that has not moved since the exception was thrown: it is inside C code."""
    place = (id(frame), frame.f_lasti) if frame is not None else None
    before, record.blocked_at = record.blocked_at, place
    if place is None or before != place:
        record.warn_at_s = now_s
        return
    if now_s < record.warn_at_s:
        return
    record.warn_at_s = now_s + record.repeat_s
    record.repeat_s = min(2 * record.repeat_s, _LAST_REPEAT_S)
    logger.error(
        "Workflow code has blocked its thread for %.1f s in a call that cannot be interrupted, and with it everything "
        "else on that thread. Move the call into an activity; until then "
        "Worker(workflow_task_executor=ThreadPoolExecutor(...)) runs workflow code in threads of their own. "
        "It stands here:\n%s",
        now_s - record.since_s,
        _stack(frame),
    )


_OWN_CODE: CodeType = run_watched.__code__


def _stack(frame: FrameType | None) -> str:
    """Return the stack of the user's code, without what led to it."""
    if frame is None:
        return "(its stack is not available)"
    frames = list(traceback.walk_stack(frame))
    for index, (current, _) in enumerate(frames):
        if current.f_code is _OWN_CODE:
            frames = frames[:index] or frames
            break
    own = [_module(current) in ("perdure", "asyncio") for current, _ in frames]
    if not all(own):
        # What led to the user's code says nothing about it.
        frames = frames[: len(own) - own[::-1].index(False)]
    return "".join(traceback.StackSummary.extract(iter(reversed(frames))).format())


def _is_in(frame: FrameType | None, modules: frozenset[str]) -> bool:
    while frame is not None and frame.f_code is not _OWN_CODE:
        if _module(frame) in modules:
            return True
        frame = frame.f_back
    return False


def _module(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__") or ""
    return name.partition(".")[0]
