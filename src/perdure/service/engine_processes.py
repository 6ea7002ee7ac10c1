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

    Raises:
        EngineStartError: the system does not let a process begin.
    """

    def __init__(self, place: Place) -> None:
        self.ended: Future[int] = Future()
        """Its exit code, once it has ended."""
        self._lock = threading.Lock()
        self._is_told_to_end = False
        self._control, theirs = socket.socketpair()
        told = {
            "path": str(place.path),
            "pragmas": dict(place.pragmas),
            "control": theirs.fileno(),
            "log_level": logging.getLogger("perdure").getEffectiveLevel(),
        }
        try:
            self._process = subprocess.Popen(
                [_python(), "-P", "-m", _PROGRAM, json.dumps(told)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": _search_path()},
                pass_fds=(theirs.fileno(),),
            )
        except OSError as error:
            self._control.close()
            raise EngineStartError(f"the engine's process cannot be started: {error}") from error
        finally:
            theirs.close()
        self._said = cast(IO[bytes], self._process.stdout)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Wait until it serves.

        Raises:
            EngineStartError: it cannot.
        """
        for said in self._lines():
            if "ready" in said:
                return
            if "failed" in said:
                self._wait()
                raise EngineStartError(said["failed"])
        code = self._wait()
        raise EngineStartError(
            f"the engine's process ended at its start ({_reason(code)}); see its standard error"
        )

    def follow(self) -> None:
        """Hand on what it logs until it has ended."""
        for _ in self._lines():
            pass
        code = self._wait()
        if not self._is_told_to_end:
            logger.warning(
                "The process %d of the engine ended by itself (%s); the next call starts it anew. Nothing that was "
                "acknowledged is lost.",
                *(self._process.pid, _reason(code)),
            )
        self.ended.set_result(code)

    def _wait(self) -> int:
        """The exit code of a process that says nothing any more."""
        self._said.close()
        code = self._process.wait()
        with self._lock:
            self._control.close()
        return code

    def _lines(self) -> Iterator[dict[str, Any]]:
        """What it says on standard output, but for what it logs."""
        for line in self._said:
            try:
                said = json.loads(line)
            except ValueError:
                logger.warning("The engine's process printed: %s", line.decode(errors="replace").rstrip())
                continue
            if "log" in said:
                _log(*said["log"])
            else:
                yield said

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
        logger.warning(
            "The process %d of the engine did not end in %d s and is killed", self._process.pid, END_S
        )
        self._process.kill()

    def forget(self) -> None:
        """Let go of it in a child of this process, which would keep it alive."""
        self._control.close()


class SharedEngine:
    """The engine of a file for all clients of this process, running or not.

    Args:
        place: where the data is.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.users = 0
        self._lock = threading.Lock()
        self._attempt: Future[EngineProcess] | None = None

    def running(self) -> Future[EngineProcess]:
        """Its process, which is started if there is none. The future fails with an EngineStartError."""
        with self._lock:
            if self._attempt is None or _has_ended(self._attempt):
                self._attempt = Future()
                life = threading.Thread(
                    target=_live, args=(self.place, self._attempt), name="perdure engine process", daemon=True
                )
                life.start()
            return self._attempt

    def end(self) -> Future[int] | None:
        """Tell its process to end, if there is one; return what says that it has."""
        process = self._process()
        if process is None:
            return None
        process.end()
        return process.ended

    def kill(self) -> None:
        """End its process at once."""
        process = self._process()
        if process is not None:
            process.kill()

    def forget(self) -> None:
        """See `EngineProcess.forget`."""
        if self._attempt is not None and self._attempt.done() and self._attempt.exception() is None:
            self._attempt.result().forget()

    def _process(self) -> EngineProcess | None:
        with self._lock:
            attempt = self._attempt
        if attempt is None:
            return None
        try:
            return attempt.result()
        except EngineStartError:
            return None


def _live(place: Place, attempt: Future[EngineProcess]) -> None:
    try:
        process = EngineProcess(place)
        process.wait_until_ready()
    except EngineStartError as error:
        attempt.set_exception(error)
        return
    attempt.set_result(process)
    process.follow()


def _has_ended(attempt: Future[EngineProcess]) -> bool:
    return attempt.done() and (attempt.exception() is not None or attempt.result().ended.done())


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
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


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
_inherited: list[SharedEngine] = []
"""Of the parent process, after a fork: kept so that nothing of them is finalised, and never used."""


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
        engine = _engines.setdefault(place.key, SharedEngine(place))
        if place.pragmas and place.pragmas != engine.place.pragmas:
            raise EngineStartError(
                f"The database {place.path} is open in this process with other options; close it first, or leave them "
                "out."
            )
        engine.users += 1
        return engine


def leave(engine: SharedEngine) -> bool:
    """One user less. Returns whether it was the last: then the engine is nobody's, and is to be ended."""
    with _lock:
        engine.users -= 1
        is_last = engine.users == 0
        if is_last and _engines.get(engine.place.key) is engine:
            del _engines[engine.place.key]
        return is_last


def _end_all() -> None:
    """When this process ends with clients open: the files are free once it is gone."""
    for ended in [engine.end() for engine in of_this_process()]:
        if ended is not None:
            try:
                ended.result(END_S)
            except TimeoutError:
                pass  # it ends by itself, later


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _inherited.extend(_engines.values())
    for engine in _engines.values():
        engine.forget()
    _engines.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_after_fork)
