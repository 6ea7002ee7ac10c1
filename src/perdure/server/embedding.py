"""Engines inside a process: opened by address, shared by all who name the same one, closed by the last.

An engine lives on the event loop that opened it. Here live the registry of open engines and what ends them: the last
user, an explicit owner, or the end of their loop. How calls reach an engine from a client is not known here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from perdure.core.errors import FailedPreconditionError, PerdureError, StoreOpenError, UnavailableError
from perdure.server.addresses import Place, parse_address
from perdure.server.config import ServerConfig
from perdure.server.runtime import Runtime, SystemRuntime
from perdure.server.server import Server
from perdure.server.service.service import HandlerFunction
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SqliteStore

logger = logging.getLogger(__name__)

DRAIN_S = 5.0
"""How long calls under way may take when an engine is closed."""

LOOP_CHECK_S = 1.0
"""How often a call from another loop looks whether the engine's loop is still there."""

Result = TypeVar("Result")


class EngineGoneError(FailedPreconditionError):
    """The engine was closed, or the event loop it ran on has ended."""


class LoopEndedError(EngineGoneError):
    """The event loop of the engine ended while a call from another loop was on its way."""


class _State(Enum):
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is told when it is opened.

    Attributes:
        config: the server's; its address only matters when a port is opened.
        drain_s: how long calls under way may take when it is closed, seconds.
        user_pid: the program that uses it, if that is another process than this.
    """

    config: ServerConfig = field(default_factory=ServerConfig)
    drain_s: float = DRAIN_S
    user_pid: int | None = None


class EmbeddedEngine:
    """One engine of this process: a server without a port, on one event loop.

    Made by `open_engine` and `own_engine` only.

    Args:
        place: where its data is.
        options: what it is told.
        loop: where it runs.
    """

    def __init__(self, place: Place, options: EngineOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.place = place
        self.loop = loop
        self.users = 0
        self.ended_with_loop = False
        """Its loop ended before anybody closed it: what is in a file may be opened anew."""
        self._options = options
        self._state = _State.OPENING
        runtime: Runtime = SystemRuntime()
        self._store = _new_store(place, options, runtime)
        self.server = Server(
            self._store,
            replace(options.config, namespaces=(*options.config.namespaces, *place.namespaces)),
            runtime,
            place.store_name,
            listens=False,
        )
        self.new_id = runtime.new_id
        self._handler: Callable[[str], HandlerFunction] = self.server.service.handler
        self._in_flight = 0
        self._drained: asyncio.Event | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._guard: AsyncGenerator[None, None] | None = None

    # --- calls

    def begin(self, path: str) -> HandlerFunction:
        """Let a call in; `end` says that it is over. On the engine's loop only.

        Args:
            path: of the RPC.

        Returns:
            What serves it. The request belongs to the engine from then on.

        Raises:
            ServiceError: it is not served, or not at the moment.
        """
        if self._state is not _State.OPEN:
            raise self._refusal()
        handler = self._handler(path)
        self._in_flight += 1
        return handler

    def end(self) -> None:
        """A call that was let in is over."""
        self._in_flight -= 1
        if self._drained is not None and not self._in_flight:
            self._drained.set()

    def _refusal(self) -> PerdureError:
        if self._state is _State.CLOSED or self.is_abandoned:
            return EngineGoneError("The engine was closed; connect again to open it anew.")
        return UnavailableError(f"the engine is {self._state.value}")

    async def on_loop(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run `work` on the engine's loop, from whichever loop this is.

        Raises:
            EngineGoneError: that loop does not run, or ended meanwhile.
        """
        if asyncio.get_running_loop() is self.loop:
            return await work()

        async def working() -> Result:
            return await work()

        if not self.loop.is_running():
            ended = "has ended" if self.loop.is_closed() else "does not run at the moment"
            raise EngineGoneError(
                f"The engine runs on the event loop that opened it, and that {ended}. Connect on a loop that runs as "
                "long as the engine is needed."
            )
        passed = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(working(), self.loop))
        try:
            # A loop that is about to end may take a coroutine and never run it.
            while not (await asyncio.wait((passed,), timeout=LOOP_CHECK_S))[0]:
                if self.loop.is_closed():
                    raise LoopEndedError("The event loop of the engine ended during the call.")
        finally:
            passed.cancel()
        if passed.cancelled():
            raise LoopEndedError("The event loop of the engine ended during the call.")
        return passed.result()

    # --- life

    @property
    def is_abandoned(self) -> bool:
        """Whether the loop has ended and nobody closed the engine."""
        return self._state is not _State.CLOSED and self.loop.is_closed()

    @property
    def is_closed(self) -> bool:
        """Whether nothing of it is open any more."""
        return self._state is _State.CLOSED

    @property
    def is_closing(self) -> bool:
        """Whether it takes no new users."""
        return self._state in (_State.CLOSING, _State.CLOSED)

    async def ready(self) -> None:
        """Wait until it is open; the first to come opens it. On its loop only.

        Raises:
            StoreOpenError: the database cannot be used.
            InvalidArgumentError: a namespace cannot be made.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="open engine")
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        try:
            await self.server.start()
        except BaseException:  # whatever it was: the next who asks begins anew
            self._state = _State.CLOSED
            _forget(self)
            raise
        self._state = _State.OPEN
        guard = self._guard = self._until_loop_ends()
        await anext(guard)

    async def _until_loop_ends(self) -> AsyncGenerator[None, None]:
        """Closes what is still open when the loop shuts its generators down, as `asyncio.run` does at its end."""
        try:
            yield
        finally:
            if self._state is not _State.CLOSED:
                self.ended_with_loop = True
                self._state = _State.CLOSING
                await self._shut_down(0)

    async def close(self) -> None:
        """End long polls empty, let calls under way finish, close the store. On its loop only; twice is fine."""
        if self._closing is None:
            if self._state is _State.CLOSED or self.ended_with_loop:
                return
            self._state = _State.CLOSING
            self._closing = asyncio.create_task(self._close(), name="close engine")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
            self._state = _State.CLOSING
        self.server.turn_away()
        if self._in_flight:
            drained = self._drained = asyncio.Event()
            try:
                await asyncio.wait_for(drained.wait(), self._options.drain_s)
            except TimeoutError:
                logger.warning(
                    "%d calls did not end in time; the engine closes without them", self._in_flight
                )
        await self._shut_down(self._options.drain_s)
        if self._guard is not None:
            await self._guard.aclose()

    async def _shut_down(self, grace_s: float) -> None:
        try:
            await self.server.stop(grace_s)
        finally:
            self._state = _State.CLOSED
            _forget(self)

    def abandon(self) -> None:
        """Let go of the data of an engine whose loop has ended without closing it."""
        self._state = _State.CLOSED
        _forget(self)
        if not isinstance(self._store, MemoryStore):
            self._store.abandon()


def _new_store(place: Place, options: EngineOptions, runtime: Runtime) -> MemoryStore | SqliteStore:
    if place.path is None:
        return MemoryStore(runtime.new_id())
    return SqliteStore(place.path, place.pragmas, runtime.new_id, user_pid=options.user_pid)


# --- the registry

_lock = threading.Lock()
_engines: dict[tuple[str, str], EmbeddedEngine] = {}
_reserved: dict[tuple[str, str], EngineOptions] = {}
_inherited: list[EmbeddedEngine] = []
"""Engines of the parent process, after a fork: kept so that nothing of them is finalised, and never used."""


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _inherited.extend(_engines.values())
    _engines.clear()


os.register_at_fork(after_in_child=_after_fork)


def _forget(engine: EmbeddedEngine) -> None:
    with _lock:
        if _engines.get(engine.place.key) is engine:
            del _engines[engine.place.key]


def _find(place: Place) -> EmbeddedEngine | None:
    """The open engine of a place; one whose loop has ended is put away first."""
    with _lock:
        engine = _engines.get(place.key)
    if engine is not None and engine.is_abandoned:
        engine.abandon()
        return None
    return engine


def reserve(address: str, options: EngineOptions) -> None:
    """Say how the engine of an address is opened when somebody first connects to it; `release` it afterwards.

    Raises:
        AddressError: it is no address of an engine.
    """
    with _lock:
        _reserved[parse_address(address).key] = options


def release(address: str) -> None:
    """End a reservation, and whatever engine was opened under it; on no event loop, or another than the engine's."""
    place = parse_address(address)
    with _lock:
        _reserved.pop(place.key, None)
        engine = _engines.get(place.key)
    if engine is None:
        return
    loop = engine.loop
    if loop.is_closed():
        engine.abandon()
    elif loop.is_running():
        asyncio.run_coroutine_threadsafe(engine.close(), loop).result(2 * DRAIN_S)
    else:
        loop.run_until_complete(engine.close())


async def open_engine(address: str) -> EmbeddedEngine:
    """Open the engine of an address, or join those who use it already in this process. `leave` it afterwards.

    Raises:
        AddressError: it is no address of an engine.
        StoreOpenError: the database cannot be used; if another process has it, the message names that.
        EngineGoneError: it runs on a loop that does not run now.
    """
    place = parse_address(address)
    while True:
        engine = _join(place)
        if engine.is_closing:
            await _wait_until_closed(engine)
            continue
        try:
            await engine.on_loop(lambda engine=engine: _prepare(engine, place))  # type: ignore[misc]
        except BaseException:  # also when cancelled: whoever does not get it does not use it
            await leave(engine)
            raise
        return engine


def _join(place: Place) -> EmbeddedEngine:
    _find(place)
    with _lock:
        engine = _engines.get(place.key)
        if engine is None:
            options = _reserved.get(place.key) or EngineOptions()
            engine = _engines[place.key] = EmbeddedEngine(place, options, asyncio.get_running_loop())
        if not engine.is_closing:
            engine.users += 1
        return engine


async def _wait_until_closed(engine: EmbeddedEngine) -> None:
    try:
        await engine.on_loop(engine.close)
    except LoopEndedError:
        pass  # then it is closed too
    else:
        await asyncio.sleep(0)


async def own_engine(place: Place, options: EngineOptions) -> EmbeddedEngine:
    """Open an engine that lives until its owner closes it, however many use it meanwhile.

    Raises:
        StoreOpenError: the database cannot be used, or is open in this process already.
        EngineGoneError: it is open in this process, on a loop that does not run now.
    """
    while (found := _find(place)) is not None and found.is_closing:
        await _wait_until_closed(found)
    with _lock:
        if place.key in _engines:
            raise StoreOpenError(
                f"{place} is open in this process already, by a client that connected to it. Start the server before "
                "its clients connect."
            )
        engine = _engines[place.key] = EmbeddedEngine(place, options, asyncio.get_running_loop())
        engine.users += 1
    try:
        await engine.ready()
    except BaseException:  # also when cancelled: it opens all the same, and nobody else would close it
        await leave(engine)
        raise
    return engine


async def _prepare(engine: EmbeddedEngine, place: Place) -> None:
    if place.pragmas and place.pragmas != engine.place.pragmas:
        raise StoreOpenError(
            f"The database {place.path} is open in this process with other options; close it first, or leave them out."
        )
    await engine.ready()
    await engine.server.ensure_namespaces(place.namespaces)


async def leave(engine: EmbeddedEngine) -> None:
    """End a use of an engine; the last one closes it, unless somebody owns it."""
    with _lock:
        engine.users -= 1
        is_last = engine.users == 0
    if engine.is_abandoned:
        engine.abandon()
    elif is_last and not engine.is_closed:
        await engine.on_loop(engine.close)
