"""What operators set of task queues: kept in the store, held in memory whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from perdure.core.errors import ResourceExhaustedError, StoreError, UnavailableError, VersionConflictError
from perdure.core.queues.config import QueueConfig
from perdure.core.run.records import QueueKey
from perdure.core.run.state import encode
from perdure.server.engine.matching import Matching
from perdure.store.protocol import Store, StoredQueueConfig

MAX_CONFIGS: Final = 10_000
"""Queues that can be configured: they are all in memory."""
_DECODER = msgspec.json.Decoder(QueueConfig)
_NOT_SET = QueueConfig()


class QueueConfigs:
    """The configurations of all task queues of a store, in memory, by their plain names.

    Args:
        store: where they are kept.

    Attributes:
        on_change: called with the queue whose configuration changed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
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
            ResourceExhaustedError: too many queues are configured.
            UnavailableError: the store cannot write now.
        """
        async with self._lock:
            version, before = self._kept.get(queue, (0, _NOT_SET))
            if not version and len(self._kept) >= MAX_CONFIGS:
                raise ResourceExhaustedError(f"reached maximum of configured task queues ({MAX_CONFIGS})")
            after = change(before)
            await self._put(StoredQueueConfig(queue, version + 1, encode(after)))
            self._kept[queue] = (version + 1, after)
            self.on_change(queue)
            return after

    async def delete_all(self, namespace_id: str) -> None:
        """Removes the configurations of a namespace that is being removed."""
        async with self._lock:
            for queue in [queue for queue in self._kept if queue.namespace_id == namespace_id]:
                try:
                    await self._store.delete_queue_config(queue)
                except StoreError as error:
                    raise UnavailableError(str(error)) from error
                del self._kept[queue]
                self.on_change(queue)

    async def _put(self, stored: StoredQueueConfig) -> None:
        try:
            await self._store.put_queue_config(stored)
        except VersionConflictError as error:
            await self.load()
            raise UnavailableError("the task queue was configured at the same time; try again") from error
        except StoreError as error:
            raise UnavailableError(str(error)) from error
