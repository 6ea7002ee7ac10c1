"""From Django's threads to the client: one event loop per process, in a thread of its own, with one client on it.

May live here: that loop, the client, and their end. May not: what is called.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from perdure.client import Client
from perdure.contrib.django.settings import perdure_settings

Result = TypeVar("Result")

_STOP_TIMEOUT_S = 10.0


class _Bridge:
    """The loop and the client of one process."""

    def __init__(self) -> None:
        self.process_id = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._client: Client | None = None
        self._connecting: asyncio.Lock | None = None
        self._thread = threading.Thread(target=self._run, name="perdure-django", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    async def client(self) -> Client:
        """The client; the first to ask connects, and whoever asks after a failure tries again."""
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._client is None:
                self._client = await connect()
            return self._client

    def stop(self) -> None:
        """Closes the client and ends the loop."""

        async def close() -> None:
            client, self._client = self._client, None
            if client is not None:
                await client.close()

        asyncio.run_coroutine_threadsafe(close(), self.loop).result(_STOP_TIMEOUT_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_STOP_TIMEOUT_S)


async def connect() -> Client:
    """Connect a client of one's own as the settings say; close it when done.

    Raises:
        ClientConnectError: No server answers there, or the database is in use.
    """
    given = perdure_settings()
    return await Client.connect(
        given.address,
        namespace=given.namespace,
        api_key=given.api_key or None,
        data_converter=given.converter(),
    )


_lock = threading.Lock()
_bridge: _Bridge | None = None


def _current() -> _Bridge:
    global _bridge
    with _lock:
        # A web server may fork after it has loaded the application: the child has no such thread.
        if _bridge is None or _bridge.process_id != os.getpid():
            _bridge = _Bridge()
        return _bridge


def run(call: Callable[[Client], Awaitable[Result]], timeout_s: float | None = None) -> Result:
    """Make calls with the process's client from synchronous code, such as a view.

    Args:
        call: Gets the connected client, on the event loop of this module; what it awaits may be anything of Perdure.
        timeout_s: After which to give up, seconds; None waits.

    Returns:
        What `call` returned.

    Raises:
        TimeoutError: It took too long. What was asked of the server may have happened.
        ClientConnectError: No server answers.
        RuntimeError: Called on the bridge's own loop, where it would wait for itself.
    """
    bridge = _current()

    async def calling() -> Result:
        return await call(await bridge.client())

    if threading.current_thread() is bridge._thread:
        raise RuntimeError(
            "perdure.contrib.django.run waits for its own event loop here: await the call instead."
        )
    future = asyncio.run_coroutine_threadsafe(calling(), bridge.loop)
    try:
        return future.result(timeout_s)
    except FutureTimeoutError as error:
        if not future.done():
            future.cancel()
        raise TimeoutError(str(error) or f"no answer within {timeout_s} s") from error


def compute(work: Coroutine[Any, Any, Result]) -> Result:
    """Run what needs an event loop and no server, such as a payload codec, from synchronous code."""
    return asyncio.run_coroutine_threadsafe(work, _current().loop).result()


async def connected_client() -> Client:
    """Return the client that code run by `run` uses; on the bridge's loop only."""
    return await _current().client()


def stop() -> None:
    """Close this process's client and end its loop; the next call begins anew. For tests, and at the end."""
    global _bridge
    with _lock:
        bridge, _bridge = _bridge, None
    if bridge is not None and bridge.process_id == os.getpid():
        bridge.stop()


atexit.register(stop)
