"""Deleted namespaces: everything in them is removed in the background at once, their rows after the delay asked for.

What is to be done stands in the namespace's own row, so it goes on after the next start. How a namespace comes to be
deleted (its state, its new name) does not live here.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import Final

from perdure.core.errors import PerdureError, StoreError, UnavailableError
from perdure.core.run.records import RunKind
from perdure.server.config import SECOND_NS
from perdure.server.deployments import Deployments
from perdure.server.engine.batches import Batches
from perdure.server.engine.engine import Engine
from perdure.server.engine.schedules import Schedules
from perdure.server.namespaces import Namespace, Namespaces
from perdure.server.queue_configs import QueueConfigs

RETRY_S: Final = 5.0
"""How long a removal rests when the store cannot go on with it."""
LOOK_S: Final = 60.0
"""How often the clock is looked at during a delay: it may be set, and stand still while the machine sleeps."""
PAGE: Final = 100
"""Runs listed at a time."""

logger = logging.getLogger(__name__)


class NamespaceRemovals:
    """Removes deleted namespaces. To a clock that is skipped it is a source that has no deadline of its own.

    Args:
        namespaces: their rows.
        engine, schedules, batches, deployments, queue_configs: what is in them.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        engine: Engine,
        schedules: Schedules,
        batches: Batches,
        deployments: Deployments,
        queue_configs: QueueConfigs,
    ) -> None:
        self._namespaces = namespaces
        self._engine = engine
        self._schedules = schedules
        self._batches = batches
        self._deployments = deployments
        self._queue_configs = queue_configs
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._woken: dict[str, asyncio.Event] = {}
        """By namespace: its delay may have changed, or be over."""

    def start(self) -> None:
        """Goes on with what was not finished when the process ended, and begins what is deleted from now on."""
        self._namespaces.on_removal = self.begin
        for namespace in self._namespaces.all():
            if namespace.is_being_removed:
                self.begin(namespace)

    def begin(self, namespace: Namespace) -> None:
        """Removes a namespace in the background; one that is being removed already has got another delay."""
        key = namespace.namespace_id
        if key in self._tasks:
            self._woken[key].set()
            return
        self._woken[key] = asyncio.Event()
        task = asyncio.create_task(self._remove(key), name=f"remove {namespace.name}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._forget(key))

    async def stop(self) -> None:
        """Stops; the rest is done after the next start."""
        self._namespaces.on_removal = lambda namespace: None
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what the skipping of time asks for

    def running(self) -> int:
        """Nothing that time must wait for."""
        return 0

    def next_ns(self) -> int | None:
        """Never: as to the end of a retention, time is not skipped to the end of a delay."""
        return None

    def clock_moved(self) -> None:
        """A delay may be over."""
        for woken in self._woken.values():
            woken.set()

    # --- how it is done

    def _forget(self, namespace_id: str) -> None:
        del self._tasks[namespace_id], self._woken[namespace_id]

    async def _remove(self, namespace_id: str) -> None:
        """Removes a deleted namespace, however long the store cannot."""
        while namespace := self._namespaces.by_id(namespace_id):
            try:
                await self._remove_contents(namespace_id)
                await self._remove_row(namespace_id)
                return
            except (UnavailableError, StoreError) as error:
                logger.warning("namespace %s cannot be removed now: %s", namespace.name, error)
            except PerdureError as error:
                logger.error("namespace %s could not be removed: %s", namespace.name, error)
                return
            await asyncio.sleep(RETRY_S)

    async def _remove_contents(self, namespace_id: str) -> None:
        """Removes what a deleted namespace has.

        Nothing new is begun in it from now on (`Namespaces.check_exists`), and what is on its way to the store is
        waited for, so that it is found. Schedules come first, so that none of them starts a run behind the removal's
        back.
        """
        if under_way := set(self._engine.working):
            await asyncio.wait(under_way)
        await self._schedules.delete_all(namespace_id)
        await self._batches.delete_all(namespace_id)
        for kind in RunKind:
            while rows := (await self._engine.store.list_runs(namespace_id, None, PAGE, None, kind)).rows:
                for row in rows:
                    await self._engine.delete_run(row.run)
        await self._deployments.delete_all(namespace_id)
        await self._queue_configs.delete_all(namespace_id)

    async def _remove_row(self, namespace_id: str) -> None:
        """Removes the row, after the delay; that begins now, unless it has begun before the process was restarted."""
        woken = self._woken[namespace_id]
        while namespace := self._namespaces.by_id(namespace_id):
            woken.clear()
            now_ns = self._engine.runtime.now_ns()
            if namespace.removal_delay_ns and not namespace.removal_ns:
                removal_ns = now_ns + namespace.removal_delay_ns
                await self._namespaces.update(replace(namespace, removal_ns=removal_ns))
            elif namespace.removal_ns > now_ns:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min((namespace.removal_ns - now_ns) / SECOND_NS, LOOK_S)):
                        await woken.wait()
            else:
                await self._namespaces.delete(namespace)
