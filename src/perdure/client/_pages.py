"""Lists that a server gives page by page, as async iterators.

May live here: paging itself. May not: any list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class PageIterator(ABC, Generic[T]):
    """Asks for one page after the other while it is iterated over. Nothing is asked before that.

    Args:
        page_size: Entries per page.
        next_page_token: Where to begin; None is the beginning.
        limit: Most entries in all; None means no limit.
    """

    def __init__(self, page_size: int, next_page_token: bytes | None, limit: int | None = None) -> None:
        self._page_size = page_size
        self._next_page_token = next_page_token
        self._limit = limit
        self._current_page: Sequence[T] | None = None
        self._current_page_index = 0
        self._yielded = 0

    @property
    def current_page_index(self) -> int:
        """Index in the current page of the entry that comes next."""
        return self._current_page_index

    @property
    def current_page(self) -> Sequence[T] | None:
        """The current page; None before the first one was asked for."""
        return self._current_page

    @property
    def next_page_token(self) -> bytes | None:
        """Where the next page begins; None if there is none (or none was asked for yet)."""
        return self._next_page_token

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        """Ask for the next page and make it the current one.

        Args:
            page_size: Entries on it; None means what was set for the list.
        """
        size = page_size or self._page_size
        if self._limit is not None:
            size = min(size, self._limit - self._yielded)
        self._current_page, token = await self._fetch(size, self._next_page_token or b"")
        self._current_page_index = 0
        self._next_page_token = token or None

    @abstractmethod
    async def _fetch(self, page_size: int, token: bytes) -> tuple[Sequence[T], bytes]:
        """Return the page that begins at `token`, and where the next one begins (empty if there is none)."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._limit is not None and self._yielded >= self._limit:
            raise StopAsyncIteration
        while self._current_page is None or self._current_page_index >= len(self._current_page):
            if self._current_page is not None and self._next_page_token is None:
                raise StopAsyncIteration
            await self.fetch_next_page()
        entry = self._current_page[self._current_page_index]
        self._current_page_index += 1
        self._yielded += 1
        return entry
