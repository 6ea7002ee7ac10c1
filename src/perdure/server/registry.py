"""What the registries of this server have in common: rows of the store that are held in memory whole.

Lives here: how a row is written so that memory and store agree, whoever stops waiting and whatever the store answers.
May not: what the rows are.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from perdure.core.errors import StoreError, UnavailableError, VersionConflictError

Result = TypeVar("Result")


class Registry(ABC):
    """A registry.

    Args:
        what: a row is called in messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._under_way: set[asyncio.Task[Any]] = set()
        self._is_in_doubt = False
        """A write had an unknown outcome, and the rows could not be read since."""

    @abstractmethod
    async def load(self) -> None:
        """Reads every row; called once at start. What is in memory is replaced in one step, once all are read."""

    async def settled(self) -> None:
        """Returns when no write is under way: the store is about to close."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _reload(self) -> None:
        """Reads every row while others work with them."""
        await self.load()

    async def _finished(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs a write and what follows from it in memory to the end, even if the caller is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # read here, because a caller that is gone will not

    async def _written(self, write: Coroutine[Any, Any, Result]) -> Result:
        """Awaits a write. If it fails, memory is made to show what the store holds.

        Raises:
            UnavailableError: somebody else changed the row meanwhile, or the store cannot write now: whether it has is
                not known.
        """
        try:
            return await write
        except VersionConflictError as error:
            await self._settle_doubt()
            raise UnavailableError(f"the {self._what} was changed at the same time; try again") from error
        except StoreError as error:
            await self._settle_doubt()
            raise UnavailableError(str(error)) from error

    async def _settle_doubt(self) -> None:
        """Reads what the store holds; if it cannot be read now, whoever writes next begins with that."""
        self._is_in_doubt = True
        with suppress(StoreError):
            await self._reload()
            self._is_in_doubt = False

    async def _without_doubt(self) -> None:
        """Returns once memory shows what the store holds.

        Raises:
            UnavailableError: the store cannot be read now.
        """
        if self._is_in_doubt:
            await self._settle_doubt()
        if self._is_in_doubt:
            raise UnavailableError(f"whether the {self._what} was changed cannot be read now; try again")
