"""Plugins of workers: they change how workers and replayers are configured and run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.client import WorkflowHistory
    from perdure.worker._config import WorkerConfig
    from perdure.worker._replayer import Replayer, ReplayerConfig, WorkflowReplayResult
    from perdure.worker._worker import Worker


class Plugin(ABC):
    """Base class for plugins of workers. Plugins of the client that derive from it apply to its workers too."""

    def name(self) -> str:
        """Return the plugin's name: by default its class's full name."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @abstractmethod
    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Return the configuration a worker is made with.

        Args:
            config: The configuration so far; it may be changed and returned.
        """

    @abstractmethod
    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run a worker, doing something around it.

        Args:
            worker: The worker.
            next: Runs it; returns when it has shut down.
        """

    @abstractmethod
    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Return the configuration a replayer is made with: what `configure_worker` does, as far as replay sees it.

        Args:
            config: The configuration so far; it may be changed and returned.
        """

    @abstractmethod
    def run_replayer(
        self,
        replayer: Replayer,
        histories: AsyncIterator[WorkflowHistory],
        next: Callable[
            [Replayer, AsyncIterator[WorkflowHistory]],
            AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]],
        ],
    ) -> AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]]:
        """Run a replayer, doing something around it.

        Args:
            replayer: The replayer.
            histories: What it replays.
            next: Runs it.
        """
