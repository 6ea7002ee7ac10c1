"""Nexus tasks: requests to handlers that poll a task queue. Questions with a deadline, never stored.

Whoever asks waits; the task is handed to a poller, or waits in memory for one until its time is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from perdure.api.enums.v1 import ResourceExhaustedCause
from perdure.api.nexus.v1 import Request
from perdure.core.deployment.routes import plain_name, queue_name
from perdure.core.errors import NotFoundError, ResourceExhaustedError
from perdure.core.nexus.outcomes import Answer
from perdure.core.run.records import QueueKey
from perdure.server.deployments import RouteChange
from perdure.server.engine.deliveries import NexusDelivery
from perdure.server.engine.engine import Engine

WAITING_LIMIT = 1_000
"""Requests to the handlers of one queue that are under way at once."""
NEXUS_TASK = "nexus"
"""The kind of token of these tasks: namespace id, task queue, task id."""
NOT_WAITED_FOR = "Nexus task not found or already expired"
_CONCURRENT = ResourceExhaustedCause.Value("RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT")


class NexusTasks:
    """Requests to handlers that are under way.

    Args:
        engine: for its matching.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked: dict[str, asyncio.Future[Answer]] = {}
        self._deliveries: dict[str, NexusDelivery] = {}
        self._waiting: Counter[QueueKey] = Counter()

    @property
    def under_way(self) -> int:
        """How many requests wait for an answer."""
        return len(self._asked)

    async def ask(
        self, queue: QueueKey, request: Request, timeout_s: float, operation_timeout_s: float = 0.0
    ) -> Answer | None:
        """Asks a handler.

        Args:
            queue: where handlers poll.
            request: what is asked.
            timeout_s: how long to wait for the answer.
            operation_timeout_s: how long the operation may take, 0 for no limit; the handler is told.

        Returns:
            the answer; None when none came in time.

        Raises:
            ResourceExhaustedError: too many requests to these handlers are under way.
        """
        if self._waiting[queue] >= WAITING_LIMIT:
            raise ResourceExhaustedError(
                f"{WAITING_LIMIT} Nexus requests wait at task queue {queue.name} already", _CONCURRENT
            )
        loop = asyncio.get_running_loop()
        task_id = self._engine.runtime.new_id()
        operation_deadline_s = loop.time() + operation_timeout_s if operation_timeout_s else 0.0
        future: asyncio.Future[Answer] = loop.create_future()
        self._deliveries[task_id] = NexusDelivery(
            self._routed(queue, task_id),
            task_id,
            request,
            loop.time() + timeout_s,
            operation_deadline_s,
            answer=future,
        )
        self._asked[task_id] = future
        self._waiting[queue] += 1
        try:
            self._engine.matching.ask(self._deliveries[task_id])
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return None
        finally:
            del self._asked[task_id]
            self._waiting[queue] -= 1
            if not self._waiting[queue]:
                del self._waiting[queue]
            self._engine.matching.withdraw(self._deliveries.pop(task_id))

    def reroute(self, namespace_id: str, changed: Sequence[RouteChange]) -> None:
        """Sends what waits where the routes of worker versions lead now; what a worker has stays with it."""
        queues = {change.queue for change in changed}
        for task_id, delivery in list(self._deliveries.items()):
            plain = delivery.queue._replace(name=plain_name(delivery.queue.name))
            wanted = self._routed(plain, task_id)
            if plain.namespace_id != namespace_id or (plain.name, plain.kind) not in queues:
                continue
            if wanted != delivery.queue and self._engine.matching.withdraw(delivery):
                self._deliveries[task_id] = replace(delivery, queue=wanted)
                self._engine.matching.give_back(self._deliveries[task_id])

    def _routed(self, queue: QueueKey, task_id: str) -> QueueKey:
        """The queue of the version that a request goes to; with a ramp that is left to chance."""
        route = self._engine.routes(queue.namespace_id).route(queue.name, queue.kind)
        return queue._replace(name=queue_name(queue.name, route.target(task_id)[0]))

    def answer(self, task_id: str, answer: Answer) -> None:
        """A worker answers.

        Raises:
            NotFoundError: nobody waits for it any more.
        """
        future = self._asked.get(task_id)
        if future is None or future.done():
            raise NotFoundError(NOT_WAITED_FOR)
        future.set_result(answer)
