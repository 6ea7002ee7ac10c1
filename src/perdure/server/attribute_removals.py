"""Removed search attributes: their values are taken out of the lists before their names may be used again.

A removal is a note in the namespace's own row, made together with the removal of the attribute; so what a crash
interrupts goes on at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from perdure.core.errors import PerdureError, UnavailableError
from perdure.server.namespaces import Namespace, Namespaces
from perdure.store.protocol import Store

PAGE: Final = 500
"""Values that one transaction takes out."""

WAIT_S: Final = 5.0
"""How long a caller waits for a removal; what takes longer goes on behind him."""

logger = logging.getLogger(__name__)


class AttributeRemovals:
    """Takes the values of removed search attributes out, in the background.

    Args:
        store: where the values are.
        namespaces: where it is noted which are to be removed.
    """

    def __init__(self, store: Store, namespaces: Namespaces) -> None:
        self._store = store
        self._namespaces = namespaces
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Goes on with what was not finished when the process ended."""
        for namespace in self._namespaces.all():
            if namespace.retired_attributes:
                self._task(namespace.namespace_id)

    async def stop(self) -> None:
        """Stops; the rest is done after the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self, namespace: Namespace) -> None:
        """Removes what is to be removed of a namespace, and waits for it, but not for ever."""
        if namespace.retired_attributes:
            await asyncio.wait({self._task(namespace.namespace_id)}, timeout=WAIT_S)

    def check_free(self, namespace: Namespace, name: str) -> None:
        """Refuses a name whose old values are still there.

        Raises:
            UnavailableError: they are.
        """
        if name in namespace.retired_attributes:
            raise UnavailableError(f"Search attribute {name} is still being removed; try again later.")

    def _task(self, namespace_id: str) -> asyncio.Task[None]:
        task = self._tasks.get(namespace_id)
        if task is None:
            task = asyncio.create_task(
                self._remove(namespace_id), name=f"remove attributes of {namespace_id}"
            )
            self._tasks[namespace_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(namespace_id, None))
        return task

    async def _remove(self, namespace_id: str) -> None:
        try:
            while (namespace := self._namespaces.by_id(namespace_id)) and namespace.retired_attributes:
                name = namespace.retired_attributes[0]
                while await self._store.purge_attribute(namespace_id, name, PAGE):
                    pass
                namespace = self._namespaces.by_id(namespace_id)
                if namespace is not None:
                    kept = tuple(other for other in namespace.retired_attributes if other != name)
                    await self._namespaces.update(replace(namespace, retired_attributes=kept))
        except PerdureError as error:
            logger.warning("search attributes of namespace %s are not removed yet: %s", namespace_id, error)
