"""Engines in processes of their own: started by the first client of a file, shared, started anew when they are killed.

Each has a thread of this process, which starts it, hands on what it logs and waits for its end. It ends when the last
client is closed, and with this process whatever becomes of that.

May live here: processes. May not: calls (`perdure.service.process_transport`).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from multiprocessing.spawn import get_executable
from typing import IO, Any, Final, cast
from weakref import WeakSet

from perdure.server.addresses import Place

logger = logging.getLogger(__name__)

END_S: Final = 15.0
"""How long an engine may take to finish what is under way; it is killed then, which loses nothing acknowledged."""
_PROGRAM: Final = "perdure.server.engine_process"


class EngineStartError(Exception):
    """The engine's process did not start, or could not use the database; the message says why."""


class EngineEndingError(Exception):
    """The engine's process is ending or has ended; `EngineProcess.ended` says when another may be started."""


class EngineProcess:
    """One process, from its start to its end. Its methods may be called from any thread.

    Args:
        place: where the data is.
        previous: the process that had the data before, and may have it yet.

    Raises:
        EngineStartError: there are no sockets left for it.
    """

    def __init__(self, place: Place, previous: EngineProcess | None = None) -> None:
        self.ready: Future[EngineProcess] = _promise()
        """This process, once it serves; an EngineStartError if it cannot."""
        self.ended: Future[None] = _promise()
        """Is done when it has ended, or did not start."""
        self._place = place
        self._previous = previous
        self._lock = threading.Lock()
        self._is_told_to_end = False
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._control, self._theirs = socket.socketpair()
        except OSError as error:
            raise _cannot_start(error) from error
        _living.add(self)

    @property
    def pid(self) -> int:
        """Its number, once it is ready; 0 before there is one."""
        return self._process.pid if self._process is not None else 0

    @property
    def is_over(self) -> bool:
        """Whether it ends or has ended."""
        return self._is_told_to_end or self.ended.done()

    def live(self) -> None:
        """Run it, from its start to its end, in the thread that calls this."""
        try:
            process = self._start()
            self._wait_until_ready(process)
        except Exception as error:  # Whatever it is, somebody waits to hear of it.
            self._close()
            self.ended.set_result(None)
            self.ready.set_exception(error if isinstance(error, EngineStartError) else _cannot_start(error))
            return
        self.ready.set_result(self)
        self._follow(process)
        self.ended.set_result(None)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._previous is not None:
            with contextlib.suppress(TimeoutError):  # then it is for the new one to say who has the file
                self._previous.ended.result(END_S)
            self._previous = None
        if self._is_told_to_end:
            raise EngineStartError("nobody needs the engine any more")
        told = {
            "path": str(self._place.path),
            "pragmas": dict(self._place.pragmas),
            "control": self._theirs.fileno(),
            "user_pid": os.getpid(),
            "log_level": logging.getLogger("perdure").getEffectiveLevel(),
        }
        process = self._process = subprocess.Popen(
            [_python(), "-P", "-m", _PROGRAM, json.dumps(told)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": _search_path()},
            pass_fds=(self._theirs.fileno(),),
        )
        self._theirs.close()
        return process

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        for said in _lines(process):
            if "ready" in said:
                return
            if "failed" in said:
                raise EngineStartError(said["failed"])
        code = self._close()
        raise EngineStartError(
            f"the engine's process ended at its start ({_reason(code)}); see its standard error"
        )

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        """Hand on what it logs until it has ended."""
        for _ in _lines(process):
            pass
        code = self._close()
        if not self._is_told_to_end:
            logger.warning(
                "The process %d of the engine ended by itself (%s); the next call starts it anew. Nothing that was "
                "acknowledged is lost.",
                *(process.pid, _reason(code)),
            )

    def _close(self) -> int:
        """Let go of it, wait until it has ended and return its exit code. Twice is fine."""
        with self._lock:
            self.forget()
        process = self._process
        if process is None:
            return 0
        cast(IO[bytes], process.stdout).close()
        return process.wait()

    def connect(self) -> socket.socket:
        """A new connection to it.

        Raises:
            EngineEndingError: it is about to end.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise EngineEndingError from error
        ours.setblocking(False)
        return ours

    def end(self) -> None:
        """Tell it that nobody needs it any more: it finishes what is under way. `ended` says when it has."""
        with self._lock:
            self._is_told_to_end = True
            self._control.close()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            logger.warning("The process %d of the engine did not end in %d s and is killed", self.pid, END_S)
            self._process.kill()

    def forget(self) -> None:
        """Close what tells the process that somebody needs it: also in a child of this one, which has copies."""
        self._control.close()
        self._theirs.close()


class SharedEngine:
    """The engine of a file for all clients of this process, running or not.

    Args:
        place: where the data is.
        previous: the process that had the data before, and may have it yet.
    """

    def __init__(self, place: Place, previous: EngineProcess | None = None) -> None:
        self.place = place
        self.users = 0
        self._lock = threading.Lock()
        self._process = previous
        self._is_over = False

    def running(self) -> Future[EngineProcess]:
        """Its process, which is started if there is none. The future fails with an EngineStartError.

        Raises:
            EngineEndingError: nobody uses this engine any more.
            EngineStartError: there is nothing to start it with.
        """
        with self._lock:
            if self._is_over:
                raise EngineEndingError
            process = self._process
            if process is None or process.is_over:
                process = EngineProcess(self.place, process)
                try:
                    threading.Thread(target=process.live, name="perdure engine process", daemon=True).start()
                except RuntimeError as error:
                    process.forget()
                    raise _cannot_start(error) from error
                self._process = process
            return process.ready

    def end(self) -> EngineProcess | None:
        """Tell its process to end, for good; return it, if there is one that has not ended."""
        with self._lock:
            self._is_over = True
            process = self._process
        if process is None or process.ended.done():
            return None
        process.end()
        return process


def _python() -> str:
    executable = os.fsdecode(get_executable() or "")
    # A frozen program is no Python: it would start itself again.
    if not executable or (getattr(sys, "frozen", False) and executable == sys.executable):
        raise EngineStartError(
            "this program does not know its Python, which the engine's process would run with: tell it with "
            "multiprocessing.set_executable, or leave engine=process out of the address"
        )
    return executable


def _search_path() -> str:
    """Where this process finds its modules, so that the other one finds the same; an empty entry is where it stands."""
    found: list[object] = list(sys.path)
    entries = [entry for entry in found if isinstance(entry, str)]  # imports ignore what is none, too
    try:
        return os.pathsep.join(entry or os.getcwd() for entry in entries)
    except FileNotFoundError:  # the folder where it stands is gone, and what was in it
        return os.pathsep.join(entry for entry in entries if entry)


def _promise() -> Future[Any]:
    """A future that one who waits for it in a task cannot cancel: others wait for it, too."""
    promise: Future[Any] = Future()
    promise.set_running_or_notify_cancel()
    return promise


def _cannot_start(error: Exception) -> EngineStartError:
    return EngineStartError(f"the engine's process cannot be started: {error}")


def _lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """What a process says on standard output, but for what it logs."""
    for line in cast(IO[bytes], process.stdout):
        try:
            said = json.loads(line)
        except ValueError:
            logger.warning("The engine's process printed: %s", line.decode(errors="replace").rstrip())
            continue
        if "log" in said:
            _log(*said["log"])
        else:
            yield said


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _log(name: str, level: int, message: str, traceback: str | None) -> None:
    log = logging.getLogger(name)
    if log.isEnabledFor(level):
        record = log.makeRecord(name, level, "", 0, message, (), None)
        record.exc_text = traceback
        with contextlib.suppress(Exception):  # A filter of the user's must not end the thread that waits.
            log.handle(record)


# --- the registry

_lock = threading.Lock()
_engines: dict[tuple[str, str], SharedEngine] = {}
_ending: dict[tuple[str, str], EngineProcess] = {}
"""The last process of a file that no client has: it may not have ended yet."""
_living: WeakSet[EngineProcess] = WeakSet()
_inherited: list[object] = []
"""Of the parent process, after a fork: kept so that nothing of it is finalised, and never used."""


def of_this_process() -> list[SharedEngine]:
    """The engines that clients of this process have."""
    with _lock:
        return list(_engines.values())


def join(place: Place) -> SharedEngine:
    """The engine of a place, for one more user. `leave` it afterwards.

    Raises:
        EngineStartError: it has other users, with other options.
    """
    with _lock:
        engine = _engines.get(place.key)
        if engine is None:
            engine = _engines[place.key] = SharedEngine(place, _ending.pop(place.key, None))
        if place.pragmas and place.pragmas != engine.place.pragmas:
            raise EngineStartError(
                f"The database {place.path} is open in this process with other options; close it first, or leave them "
                "out."
            )
        engine.users += 1
        return engine


def leave(engine: SharedEngine) -> EngineProcess | None:
    """One user less. Returns the process that ends now, if this was the last."""
    with _lock:
        engine.users -= 1
        if engine.users or _engines.get(engine.place.key) is not engine:
            return None
        del _engines[engine.place.key]
        for key in [key for key, process in _ending.items() if process.ended.done()]:
            del _ending[key]
        process = engine.end()
        if process is not None:
            _ending[engine.place.key] = process
        return process


def _end_all() -> None:
    """When this process ends with clients open: the files are free once it is gone."""
    left = [process for engine in of_this_process() if (process := engine.end()) is not None]
    with _lock:
        left += _ending.values()
    for process in left:
        try:
            process.ended.result(END_S)
        except TimeoutError:
            process.kill()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _inherited.extend((*_engines.values(), *_ending.values()))
    _engines.clear()
    _ending.clear()
    for process in list(_living):
        process.forget()
    _living.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_after_fork)
