"""Workers that say how they are, in both namespaces by the same names: some crash, some shut down, some go on.

And a client that lists them meanwhile. They take no tasks: what they say of themselves is all that they do.
"""

from __future__ import annotations

import math
from random import Random
from typing import TypeVar

from google.protobuf.message import Message

from perdure.api.enums.v1 import WorkerStatus
from perdure.api.worker.v1 import WorkerHeartbeat
from perdure.api.workflowservice.v1 import (
    CountWorkersRequest,
    CountWorkersResponse,
    DescribeWorkerRequest,
    DescribeWorkerResponse,
    ListWorkersRequest,
    ListWorkersResponse,
    RecordWorkerHeartbeatRequest,
    RecordWorkerHeartbeatResponse,
    ShutdownWorkerRequest,
    ShutdownWorkerResponse,
)
from perdure.server.engine.worker_registry import REMEMBERED_S
from tests.simulation.context import Context
from tests.simulation.fleet_oracle import Said
from tests.simulation.loop import Node
from tests.simulation.model import check
from tests.simulation.network import CallFailed

Response = TypeVar("Response", bound=Message)
SHARE = 0.03
"""Of the seeds, in so many there are such workers."""
_SETTLED_S = 30.0
"""After the end of the faults, no late copy of a request arrives."""
_ENDS_WITHIN_S = 80.0
"""Those that end do so by then, but for what is under way."""
_LATE_WITHIN_S = 12.0
"""A copy of a heartbeat may be so late."""
_RUNNING = WorkerStatus.Value("WORKER_STATUS_RUNNING")
_SHUTDOWN = WorkerStatus.Value("WORKER_STATUS_SHUTDOWN")
_QUEUE = "fleet"


class Fleet:
    """The client that lists workers, and the workers, each a process.

    Args:
        context: the world.
        node: the client's process.
        namespaces: where workers are.
    """

    def __init__(self, context: Context, node: Node, namespaces: tuple[str, ...]) -> None:
        self._context = context
        self._loop = context.loop
        self._random: Random = context.stream("fleet")
        self._copies: Random = context.stream("fleet copies")
        self._oracle = context.oracle.fleet
        self._namespaces = namespaces
        self._nodes: list[Node] = []
        self.unfinished = 1
        for number in range(self._random.randint(3, 6)):
            worker = self._loop.new_node(f"fleet worker {number}")
            self._nodes.append(worker)
            # Two of one name, in two namespaces, must never meet.
            context.start(worker, self._work(worker, namespaces[number % 2], f"key{number // 2}"))
        context.start(node, self._watch())

    def _server(self) -> str:
        """The process that listens; calls between two equal answers were answered by it."""
        server = self._context.network.server
        return server.node.name if server is not None else ""

    async def _call(self, request: Message, response: type[Response], *allowed: str) -> Response | CallFailed:
        """Calls until there is an answer; errors whose names are allowed are answers too."""
        while True:
            try:
                return await self._context.network.call(request, response)
            except CallFailed as error:
                self._context.accept(error, *allowed)
                if not error.is_unknown:
                    return error
                await self._loop.sleep(self._random.uniform(0.05, 2.0))

    # --- a worker

    async def _work(self, node: Node, namespace: str, key: str) -> None:
        random = self._context.stream(f"{node.name}")
        every_s, fate = random.uniform(1, 10), random.choice(("crash", "shutdown", "go on"))
        ends_s = self._loop.time() + random.uniform(5, _ENDS_WITHIN_S)
        while fate == "go on" or self._loop.time() < ends_s:
            await self._say(namespace, key)
            await self._loop.sleep(every_s)
        self._oracle.ended(namespace, key)  # a goodbye may have arrived long before its answer does
        if fate == "shutdown":
            request = ShutdownWorkerRequest(namespace=namespace, worker_instance_key=key)
            request.worker_heartbeat.CopyFrom(self._heartbeat(namespace, key, _SHUTDOWN))
            try:
                server = self._server()
                await self._context.network.call(request, ShutdownWorkerResponse, 2.0)
                if server == self._server():
                    self._oracle.left(namespace, key, server)
            except CallFailed as error:
                self._context.accept(error)

    async def _say(self, namespace: str, key: str) -> None:
        heartbeat = self._heartbeat(namespace, key, _RUNNING)
        server, sent_s = self._server(), self._loop.time()
        request = RecordWorkerHeartbeatRequest(namespace=namespace, worker_heartbeat=[heartbeat])
        if self._copies.random() < self._context.faults.duplication:
            self._context.start(self._loop.world, self._copy(request))
        try:
            await self._context.network.call(request, RecordWorkerHeartbeatResponse)
        except CallFailed as error:
            self._context.accept(error)
            return
        if server == self._server():
            said = Said(heartbeat.total_sticky_cache_hit, server, sent_s)
            self._oracle.acknowledged(namespace, key, said)

    async def _copy(self, request: RecordWorkerHeartbeatRequest) -> None:
        """A copy of a heartbeat that comes when others have come, whatever became of the worker."""
        await self._loop.sleep(self._copies.uniform(1, _LATE_WITHIN_S))
        try:
            await self._context.network.call(request, RecordWorkerHeartbeatResponse)
        except CallFailed as error:
            self._context.accept(error)
        else:
            self._context.trace.reach("fleet: late heartbeat")

    def _heartbeat(self, namespace: str, key: str, status: WorkerStatus.ValueType) -> WorkerHeartbeat:
        heartbeat = WorkerHeartbeat(
            worker_instance_key=key,
            worker_identity=f"{key} in {namespace}",
            task_queue=_QUEUE,
            status=status,
            total_sticky_cache_hit=self._oracle.sends(namespace, key),
        )
        heartbeat.heartbeat_time.FromNanoseconds(self._context.clock.now_ns())
        return heartbeat

    # --- the client

    async def _watch(self) -> None:
        context, random = self._context, self._random
        over_s = self._loop.time() + _ENDS_WITHIN_S + _SETTLED_S
        while self._loop.time() < max(over_s, (context.calm_since_s or math.inf) + _SETTLED_S):
            await self._loop.sleep(random.uniform(0.5, 5))
            await self._look(random.choice(self._namespaces))
        await self._loop.sleep(REMEMBERED_S + 1)
        for namespace in self._namespaces:
            self._oracle.check_end(namespace, await self._look(namespace))
        context.trace.reach("fleet: the silent are forgotten")
        for node in self._nodes:
            self._loop.kill(node)
            context.network.drop_client(node)
        self.unfinished = 0

    async def _look(self, namespace: str) -> list[WorkerHeartbeat]:
        """Lists the workers, page by page, and checks what comes."""
        oracle, context = self._oracle, self._context
        server = self._server()
        known, gone = oracle.known(namespace), oracle.gone(namespace)
        request = ListWorkersRequest(namespace=namespace, page_size=self._random.choice((0, 1, 2)))
        request.query = self._random.choice(("", f"TaskQueue = '{_QUEUE}'"))
        listed: list[WorkerHeartbeat] = []
        while True:
            page = await self._call(request, ListWorkersResponse)
            assert isinstance(page, ListWorkersResponse)
            listed += [info.worker_heartbeat for info in page.workers_info]
            request.next_page_token = page.next_page_token
            if not request.next_page_token:
                break
            context.trace.reach("fleet: list in pages")
        oracle.check_origin(namespace, listed)
        if server and server == self._server():
            oracle.check_list(
                listed,
                {key: said for key, said in known.items() if key in oracle.known(namespace)},
                gone,
                server,
                self._loop.time(),
                clock_was_set=context.oracle.clock_set_back or context.clock.offset_ns != 0,
            )
        await self._look_closer(namespace, request.query)
        return listed

    async def _look_closer(self, namespace: str, query: str) -> None:
        count = await self._call(CountWorkersRequest(namespace=namespace, query=query), CountWorkersResponse)
        assert isinstance(count, CountWorkersResponse)
        most = self._oracle.count(namespace)
        check(count.count <= most, "no more workers are counted than there were", (count.count, most))
        key = f"key{self._random.randint(0, 3)}"
        described = await self._call(
            DescribeWorkerRequest(namespace=namespace, worker_instance_key=key),
            DescribeWorkerResponse,
            "NotFoundError",
        )
        if isinstance(described, DescribeWorkerResponse):
            self._oracle.check_origin(namespace, [described.worker_info.worker_heartbeat])
