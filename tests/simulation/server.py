"""A simulated server process: the real engine and service over a faulty view of the store, without its doors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from perdure.core.errors import (
    InvariantViolation,
    PerdureError,
    ServiceError,
    StoreUnavailableError,
    UnavailableError,
)
from perdure.core.run.invariants import check_transition
from perdure.core.run.records import QueueKey
from perdure.core.run.state import RunHeader, clone, encode
from perdure.server.config import Capabilities, ServerConfig
from perdure.server.server import Server
from perdure.server.service.call import Call
from perdure.store.memory import MemoryStore
from tests.simulation import network
from tests.simulation.answers import Answers
from tests.simulation.context import Context
from tests.simulation.interpreter import ATTRIBUTE
from tests.simulation.loop import Node
from tests.simulation.model import Broken, check
from tests.simulation.oracle import watched
from tests.simulation.outside import RULE, Outside
from tests.simulation.runtime import SimRuntime
from tests.simulation.store import SimStore
from tests.simulation.worker import SimWorker

Response = TypeVar("Response", bound=Message)

NAMESPACES = ("alpha", "beta")
_KEYWORD = 2


class _NoDoor:
    """Stands for the doors: calls come from the simulated network."""

    port = 0

    async def start(self) -> None:
        pass

    def turn_away(self) -> None:
        pass

    async def stop(self, grace_s: float) -> None:
        pass


def server_config(random: Random, *, clock_jumps: bool) -> ServerConfig:
    """The configuration of a seed's servers: small caches in many of them."""
    return ServerConfig(
        namespaces=NAMESPACES,
        search_attributes={ATTRIBUTE: _KEYWORD},
        retention_s=2 * 86_400 if clock_jumps else random.choice((600, 86_400)),
        cached_runs=random.choice((1, 4, 4_000)),
        callback_addresses=(RULE,),
        capabilities=Capabilities(workflow_update_callbacks=True),
    )


class LocalNetwork:
    """Stands for the network where there is none: a worker in the server's own process.

    Args:
        server: the process.
        context: the world.
    """

    def __init__(self, server: SimServer, context: Context) -> None:
        self._server = server
        self._context = context
        self._random = context.stream(f"inside {server.node.name}")

    async def call(self, request: Message, response: type[Response], timeout_s: float = 10.0) -> Response:
        """See `Network.call`."""
        await self._context.loop.sleep(self._random.uniform(0, 0.0005))
        if self._server.turned_away:  # as an engine that is being closed refuses calls of its process
            raise network.CallFailed("UnavailableError", "the server is being stopped")
        try:
            return cast(Response, await self._server.serve_local(request, timeout_s))
        except (ServiceError, StoreUnavailableError) as error:
            self._context.trace.reach("call inside a process failed")
            known = error if isinstance(error, ServiceError) else UnavailableError(str(error))
            raise network.CallFailed(type(known).__name__, str(known)) from error


class SimServer:
    """One server process.

    Args:
        context: the world.
        durable: what outlives the process.
        config: of the server.
        number: which incarnation.
        crash: ends the process now.
    """

    def __init__(
        self,
        context: Context,
        durable: MemoryStore,
        config: ServerConfig,
        number: int,
        crash: Callable[[Node], None],
    ) -> None:
        self._context = context
        self.node: Node = context.loop.new_node(f"server{number}")
        random = context.stream(f"server {number}")
        self._runtime = SimRuntime(context.clock, random)
        store = SimStore(
            durable,
            self.node,
            context.loop,
            random,
            lambda: context.faults,
            context.trace,
            context.oracle,
            self._runtime.now_ns,
            lambda: crash(self.node),
            context.fail,
            lambda: context.store_is_down,
        )
        self.server = Server(store.as_store(), config, self._runtime, "memory")
        self.server._door = _NoDoor()  # nothing real may listen...
        self.server._remote._calls = Outside(context, random)  # type: ignore[assignment]  # ...or be called
        self._cached_runs = config.cached_runs
        self._answers = Answers(context.oracle, context.namespace_ids)
        self._watch()

    def _watch(self) -> None:
        """Checks each transition before it is committed, and counts what only the engine's inside shows."""
        engine, trace = self.server.engine, self._context.trace
        commits = engine.commits
        write = commits._write
        give_back = engine.matching.give_back

        def checked_write(pending: Any) -> Any:
            written = write(pending)
            set_back = self._context.oracle.clock_set_back
            try:
                watched(lambda: check_transition(pending.tx, written), clock_set_back=set_back)
            except InvariantViolation as error:
                self._context.fail(error)
            return written

        def counted_give_back(item: Any) -> None:
            if item is not None:
                trace.reach(f"given back: {type(item).__name__}")
            give_back(item)

        commits._write = checked_write  # type: ignore[method-assign]
        engine.matching.give_back = counted_give_back  # type: ignore[method-assign]

    def now_ns(self) -> int:
        """The process's clock."""
        return self._runtime.now_ns()

    @property
    def turned_away(self) -> bool:
        """Whether the server is being stopped: what is under way ends, and nothing begins."""
        return self.server.engine.matching._closed

    def has_waiting_poller(self, key: QueueKey) -> bool:
        """Whether a poll waits on a queue."""
        queue = self.server.engine.matching._queues.get(key)
        return queue is not None and any(not poller.future.done() for poller in queue.pollers)

    async def boot(self) -> bool:
        """Starts the server. Returns whether it could."""
        try:
            await self.server.start()
        except PerdureError as error:
            self._context.trace.reach("start failed")
            self._context.note(self.node.name, f"start failed: {error}")
            return False
        self._context.network.server = network.Server(self.node, self.serve)
        self._context.oracle.removals.server_started()
        return True

    def employ(self, namespace: str, task_queue: str, name: str) -> None:
        """Starts a worker inside this process: its calls are calls, and it dies with the server."""
        inside = copy.copy(self._context)
        inside.network = LocalNetwork(self, self._context)  # type: ignore[assignment]  # what a worker needs of it
        SimWorker(inside, self.node, namespace, task_queue, name)

    async def serve_local(self, request: Message, deadline_s: float) -> Message:
        """Answers a call from inside the process."""
        rpc = type(request).__name__.removesuffix("Request")
        own = type(request)()
        own.CopyFrom(request)
        call = Call(deadline_s, is_local=True)
        answer = await self.server.service.call(f"/{network.RPCS[rpc][0]}/{rpc}", own, call)
        self._look(rpc, request, answer, is_local=True)
        return answer

    async def serve(self, rpc: str, data: bytes, deadline_s: float) -> bytes:
        """Answers one call, as a door does."""
        service_name, description = network.RPCS[rpc]
        request: Any = description.request.FromString(data)
        try:
            answer = await self.server.service.call(f"/{service_name}/{rpc}", request, Call(deadline_s))
        except ServiceError:
            raise
        except StoreUnavailableError as error:  # the doors answer both the same way
            raise UnavailableError(str(error)) from error
        except Exception as error:  # a door would have to call it an internal error
            self._context.fail(error)
            raise
        self._look(rpc, request, answer, is_local=False)
        return answer.SerializeToString()

    def _look(self, rpc: str, request: Any, answer: Any, *, is_local: bool) -> None:
        try:
            self._answers.look(rpc, request, answer, is_local=is_local)
        except Broken as error:
            self._context.fail(error)

    def check_memory(self) -> None:
        """Checks what the server holds in memory when nothing is under way: bounded, and equal to what is stored."""
        runs = self.server.engine.runs
        schedules = self.server.schedules
        check(
            not (schedules._slots or schedules._watched or schedules._watching),
            "no deleted schedule is remembered",
            schedules,
        )
        check(len(runs) <= self._cached_runs + 16, "caches are bounded", len(runs))
        self._check_gone()
        for slot in runs.slots():
            check(not slot.pins, "nobody holds a run for ever", slot.key)
            check(not slot.waiters and not slot.query_futures, "nobody waits for ever", slot.key)
            state = slot.state
            if state is None:
                continue
            stored = self._context.oracle.states.get(slot.key)
            check(stored is not None, "the cache is what is stored", slot.key)
            assert stored is not None
            header = state.header
            if slot.updates is not None:
                # Speculative workflow tasks come and go without a write; only the task's own fields tell of them.
                header = _without_task(header, stored.header)
            same = state.version == stored.version and encode(header) == encode(stored.header)
            check(same, "the cache is what is stored", slot.key)
            items = (
                state.activities,
                state.timers,
                state.buffered,
                state.signal_request_ids,
                state.blobs,
                state.children,
                state.externals,
            )
            others = (
                stored.activities,
                stored.timers,
                stored.buffered,
                stored.signal_request_ids,
                stored.blobs,
                stored.children,
                stored.externals,
            )
            check(items == others, "the cache is what is stored", slot.key)

    def _check_gone(self) -> None:
        """Checks that nothing is remembered of namespaces that are gone."""
        deployments, configs = self.server.deployments, self.server.queue_configs
        held = {*deployments._kept, *deployments._routes, *(queue.namespace_id for queue in configs._kept)}
        gone = held & self._context.oracle.removals.gone
        check(not gone, "nothing is remembered of a removed namespace", gone)


def _without_task(header: RunHeader, stored: RunHeader) -> RunHeader:
    """The header with the stored one's workflow task and stickiness."""
    plain = clone(header)
    for name in vars_of(header):
        if name.startswith(("task_", "sticky_")):
            setattr(plain, name, getattr(stored, name))
    return plain


def vars_of(header: RunHeader) -> tuple[str, ...]:
    """The names of a header's fields."""
    return header.__struct_fields__
