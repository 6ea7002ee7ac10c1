"""The simulated network between clients or workers and the server: messages as bytes that are late, lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from google.protobuf.message import Message

from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, Rpc, rpcs
from perdure.core.errors import MultiOperationError, OperationAbortedError, ServiceError
from tests.simulation.faults import Faults
from tests.simulation.loop import Node, SimLoop
from tests.simulation.trace import Trace

Response = TypeVar("Response", bound=Message)
Serve = Callable[[str, bytes, float], Awaitable[bytes]]
"""The server's door: RPC name, serialised request, seconds until the caller's deadline; raises ServiceError."""

RPCS: dict[str, tuple[str, Rpc]] = {
    rpc.name: (service, rpc) for service in (OPERATOR_SERVICE, WORKFLOW_SERVICE) for rpc in rpcs(service)
}
_MS = 1_000_000


class CallFailed(Exception):
    """A call that was not answered with a response.

    Attributes:
        error: the class name of the server's error, or "Unavailable" or "DeadlineExceeded" from the network.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(f"{error}: {message}")
        self.error = error
        self.message = message

    @property
    def is_unknown(self) -> bool:
        """Whether the request may have taken effect all the same, so that it must be repeated."""
        return self.error in (
            "Unavailable",
            "DeadlineExceeded",
            "UnavailableError",
            "AbortedError",
            "DeadlineExceededError",
            "ResourceExhaustedError",
        )


@dataclass(slots=True, eq=False)
class _Call:
    number: int
    rpc: str
    request: bytes
    deadline_ns: int
    client: Node
    reply: asyncio.Future[bytes]
    serving: list[tuple[Node, asyncio.Task[None]]] = field(default_factory=list)
    gone: bool = False


@dataclass(slots=True)
class Server:
    """A server process that listens."""

    node: Node
    serve: Serve


class Network:
    """All connections.

    Args:
        loop: the world.
        random: decides the fate of each message.
        faults: the rates that hold now.
        trace: what happened.
    """

    def __init__(self, loop: SimLoop, random: Random, faults: Callable[[], Faults], trace: Trace) -> None:
        self._loop = loop
        self._random = random
        self._faults = faults
        self._trace = trace
        self._calls = 0
        self._open: dict[_Call, None] = {}
        self.server: Server | None = None
        """The process that listens now."""

    async def call(self, request: Message, response: type[Response], timeout_s: float = 10.0) -> Response:
        """Calls an RPC from the running node; which one follows from the request's class.

        Raises:
            CallFailed: the server's error, or the network's.
        """
        rpc = type(request).__name__.removesuffix("Request")
        self._calls += 1
        now_ns = self._loop.now_ns
        call = _Call(
            self._calls,
            rpc,
            request.SerializeToString(),
            now_ns + int(timeout_s * 1e9),
            self._loop.node,
            self._loop.create_future(),
        )
        self._open[call] = None
        timer = self._loop.call_later(timeout_s, self._fail, call, "DeadlineExceeded", "no answer in time")
        try:
            self._send(call)
            return response.FromString(await call.reply)
        finally:
            timer.cancel()
            self._hang_up(call)

    def drop_client(self, node: Node) -> None:
        """A client process died: the server notices some of its broken connections."""
        for call in [call for call in self._open if call.client is node]:
            self._hang_up(call)

    # --- there

    def _delay_ns(self) -> int:
        faults = self._faults()
        if self._random.random() < faults.slow_message:
            return int(self._random.uniform(0, faults.slow_message_s) * 1e9)
        return int(self._random.uniform(0.1, 3.0) * _MS)

    def _send(self, call: _Call) -> None:
        faults, random, world = self._faults(), self._random, self._loop.world
        copies = 2 if random.random() < faults.duplication else 1
        if copies == 2:
            self._trace.reach("request duplicated")
        for _ in range(copies):
            if random.random() < faults.request_loss:
                self._trace.reach("request lost")
                self._note_loss(call)
                continue
            self._loop.run_in(world, self._delay_ns(), self._arrive, call)
        if random.random() < faults.connection_death:
            self._loop.run_in(world, int(random.uniform(0, 8) * 1e9), self._break, call)

    def _note_loss(self, call: _Call) -> None:
        """A lost message is noticed as a broken connection soon, or only by the deadline."""
        if self._random.random() < 0.8:
            delay_ns = int(self._random.uniform(0.1, 3.0) * 1e9)
            self._loop.run_in(call.client, delay_ns, self._fail, call, "Unavailable", "connection reset")

    def _arrive(self, call: _Call) -> None:
        server = self.server
        if server is None or not server.node.alive:
            self._trace.reach("server down")
            self._loop.run_in(
                call.client, self._delay_ns(), self._fail, call, "Unavailable", "connection refused"
            )
            return
        self._loop.run_in(server.node, 0, self._begin, call, server)

    def _begin(self, call: _Call, server: Server) -> None:
        task = self._loop.spawn(server.node, self._serve(call, server))
        call.serving.append((server.node, task))
        if call.gone and self._random.random() < 0.5:
            self._loop.run_in(server.node, self._delay_ns(), task.cancel)

    async def _serve(self, call: _Call, server: Server) -> None:
        remaining_s = max((call.deadline_ns - self._loop.now_ns) / 1e9, 0.0)
        try:
            answer = await server.serve(call.rpc, call.request, remaining_s)
        except ServiceError as error:
            name, message = _told(error)
            self._trace.add(self._loop.now_ns, "net", f"#{call.number} {call.rpc} -> {name}: {message}")
            self._reply(call, lambda: self._fail(call, name, message))
            return
        self._trace.add(self._loop.now_ns, "net", f"#{call.number} {call.rpc} -> {len(answer)} bytes")
        self._reply(call, lambda: self._succeed(call, answer))

    # --- and back

    def _reply(self, call: _Call, deliver: Callable[[], None]) -> None:
        if self._random.random() < self._faults().response_loss:
            self._trace.reach("response lost")
            self._note_loss(call)
            return
        self._loop.run_in(call.client, self._delay_ns(), deliver)

    def _succeed(self, call: _Call, answer: bytes) -> None:
        if not call.reply.done():
            call.reply.set_result(answer)

    def _fail(self, call: _Call, error: str, message: str) -> None:
        if not call.reply.done():
            call.reply.set_exception(CallFailed(error, message))
            call.reply.exception()  # nobody has to read it: the caller may be dead

    def _break(self, call: _Call) -> None:
        """The connection of a waiting call dies: each side notices on its own."""
        if call.gone:
            return
        self._trace.reach("connection died")
        self._loop.run_in(call.client, self._delay_ns(), self._fail, call, "Unavailable", "connection lost")
        self._hang_up(call, certainly=self._random.random() < 0.7)

    def _hang_up(self, call: _Call, *, certainly: bool = True) -> None:
        """The client is gone: the server cancels what it does for it, as the transport would."""
        call.gone = True
        self._open.pop(call, None)
        for node, task in call.serving:
            if not task.done() and (certainly or self._random.random() < 0.5):
                self._trace.reach("serving cancelled")
                self._loop.run_in(node, self._delay_ns(), task.cancel)


def _told(error: ServiceError) -> tuple[str, str]:
    """What a caller hears of an error: its name and message, or those of the operation that was the reason."""
    parts = error.errors if isinstance(error, MultiOperationError) else ()
    reasons = [part for part in parts if part is not None and not isinstance(part, OperationAbortedError)]
    found = reasons[0] if reasons else error
    return type(found).__name__, str(found)
