"""Sends waiting tasks where the routes of worker versions lead, after a change of routes and after a restart.

Each task is one transition of its run, which does nothing if the task waits in the right place already: doing it again,
or not getting to the end of it before the process ends, does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from perdure.core.deployment.routes import queue_name
from perdure.core.errors import NotFoundError, PerdureError, UnavailableError
from perdure.core.run import versioning
from perdure.core.run.records import QueueKey, RunKind, Task
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.deployments import Deployments, RouteChange
from perdure.server.engine.engine import Engine

logger = logging.getLogger(__name__)

_PAGE = 100
"""Tasks sent on at once."""
RETRY_S: Final = 1.0
"""How long a queue rests whose tasks cannot be sent on now."""


class Rerouting:
    """Watches the routes of an engine's namespaces.

    Args:
        engine: whose tasks wait.
        deployments: the routes.

    Attributes:
        listeners: told at once of the queues of a namespace whose routes changed.
    """

    def __init__(self, engine: Engine, deployments: Deployments) -> None:
        self._engine = engine
        self._deployments = deployments
        self._under_way: set[asyncio.Task[None]] = set()
        engine.before_stop.append(self._stop)
        deployments.on_routes = self._begin
        self.listeners: list[Callable[[str, Sequence[RouteChange]], None]] = []

    def start(self) -> None:
        """Looks at every queue with versions: the process may have ended before its tasks were sent on."""
        for namespace_id, queues in self._deployments.all_routes():
            self._begin(namespace_id, queues)

    async def _stop(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _begin(self, namespace_id: str, changed: Sequence[RouteChange]) -> None:
        for listener in self.listeners:
            listener(namespace_id, changed)
        task = asyncio.create_task(self._send_on(namespace_id, changed), name="reroute tasks")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _send_on(self, namespace_id: str, changed: Sequence[RouteChange]) -> None:
        for change in changed:
            name, kind = change.queue
            for version in sorted(change.versions):
                queue = QueueKey(namespace_id, queue_name(name, version), kind)
                while not await self._is_empty(queue):
                    await asyncio.sleep(RETRY_S)

    async def _is_empty(self, queue: QueueKey) -> bool:
        """Sends on what waits in a queue. Returns whether that is done; False: the store cannot do it now."""
        try:
            await self._empty(queue)
        except UnavailableError as error:
            logger.warning("tasks of queue %s have to wait to be sent on: %s", queue.name, error)
            return False
        except PerdureError as error:
            logger.error("tasks of queue %s wait for a version that is not theirs: %s", queue.name, error)
        return True

    async def _empty(self, queue: QueueKey) -> None:
        engine, cursor = self._engine, None
        while True:
            rows = await engine.reading(engine.store.read_tasks(queue, cursor, _PAGE))
            if not rows:
                return
            cursor = rows[-1][0]
            await asyncio.gather(*(self._send(task) for _, task in rows))

    async def _send(self, task: Task) -> None:
        if task.run.kind is not RunKind.WORKFLOW:
            await self._engine.activity_runs.reroute(task)
            return
        routes = self._engine.routes(task.run.namespace_id)

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            tx = Transition(state, now_ns)
            return (tx if versioning.redispatch(tx, task.key, routes) else None), None

        try:
            await self._engine.transact(task.run, apply)
        except NotFoundError:
            pass  # the run is gone, and its task with it
