"""What operators set of task queues: kept in the store, held in memory whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from perdure.core.errors import ResourceExhaustedError
from perdure.core.queues.config import QueueConfig
from perdure.core.run.records import QueueKey
from perdure.core.run.state import encode
from perdure.server.engine.matching import Matching
from perdure.server.namespaces import Namespaces
from perdure.server.registry import Registry
from perdure.store.protocol import Store, StoredQueueConfig

MAX_CONFIGS: Final = 10_000
"""Queues that can be configured: they are all in memory."""
_DECODER = msgspec.json.Decoder(QueueConfig)
_NOT_SET = QueueConfig()


class QueueConfigs(Registry):
    """The configurations of all task queues of a store, in memory, by their plain names.

    Args:
        store: where they are kept.
        namespaces: a deleted one has none.

    Attributes:
        on_change: called with the queue whose configuration changed.
    """

    def __init__(self, store: Store, namespaces: Namespaces) -> None:
        super().__init__("task queue's configuration")
        self._store = store
        self._namespaces = namespaces
        self._kept: dict[QueueKey, tuple[int, QueueConfig]] = {}
        self._lock = asyncio.Lock()
        self.on_change: Callable[[QueueKey], None] = lambda queue: None

    def applied_to(self, matching: Matching) -> QueueConfigs:
        """Has matching do what is set. Returns this."""
        matching.config_of, self.on_change = self.get, matching.configured
        return self

    async def load(self) -> None:
        """Reads every configuration; called once at start."""
        self._kept = {
            stored.queue: (stored.version, _DECODER.decode(stored.data))
            for stored in await self._store.list_queue_configs()
        }

    async def _reload(self) -> None:
        before = self._kept
        await self.load()
        for queue in {**before, **self._kept}:
            if before.get(queue) != self._kept.get(queue):
                self.on_change(queue)

    def find(self, queue: QueueKey) -> QueueConfig | None:
        """What is set of a queue; None if nothing ever was."""
        found = self._kept.get(queue)
        return found[1] if found is not None else None

    def get(self, queue: QueueKey) -> QueueConfig:
        """What is set of a queue; an empty configuration if nothing is."""
        return self.find(queue) or _NOT_SET

    async def change(self, queue: QueueKey, change: Callable[[QueueConfig], QueueConfig]) -> QueueConfig:
        """Changes a queue's configuration; it is in force when this returns.

        Args:
            queue: by its plain name.
            change: from what is set to what will be; what it raises is raised, and nothing has changed.

        Raises:
            NamespaceNotFoundError: the namespace was deleted meanwhile.
            ResourceExhaustedError: too many queues are configured.
            UnavailableError: the store cannot write now.
        """
        return await self._finished(self._change(queue, change))

    async def _change(self, queue: QueueKey, change: Callable[[QueueConfig], QueueConfig]) -> QueueConfig:
        async with self._lock:
            await self._without_doubt()
            version, before = self._kept.get(queue, (0, _NOT_SET))
            if not version and len(self._kept) >= MAX_CONFIGS:
                raise ResourceExhaustedError(f"reached maximum of configured task queues ({MAX_CONFIGS})")
            after = change(before)
            self._namespaces.check_exists(queue.namespace_id, queue.namespace_id)
            stored = StoredQueueConfig(queue, version + 1, encode(after))
            await self._written(self._store.put_queue_config(stored))
            self._kept[queue] = (version + 1, after)
            self.on_change(queue)
            return after

    async def delete_all(self, namespace_id: str) -> None:
        """Removes the configurations of a namespace that is being removed.

        Raises:
            UnavailableError: the store cannot now.
        """
        async with self._lock:
            await self._without_doubt()
            for queue in [queue for queue in self._kept if queue.namespace_id == namespace_id]:
                await self._written(self._store.delete_queue_config(queue))
                del self._kept[queue]
                self.on_change(queue)
