"""A plugin that is made from values instead of a class: what to add to clients, workers and replayers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias, TypeVar, cast

import perdure.client
import perdure.worker
from perdure.client import ClientConfig, WorkflowHistory
from perdure.converter import DataConverter
from perdure.service import ConnectConfig, ServiceClient
from perdure.worker import (
    Replayer,
    ReplayerConfig,
    Worker,
    WorkerConfig,
    WorkflowReplayResult,
    WorkflowRunner,
)

T = TypeVar("T")

PluginParameter: TypeAlias = T | Callable[[T | None], T] | None
"""A value, or a function from the value so far to the one wanted, or nothing."""

_Interceptors: TypeAlias = Sequence[perdure.client.Interceptor | perdure.worker.Interceptor]


class SimplePlugin(perdure.client.Plugin, perdure.worker.Plugin):
    """A plugin that adds or replaces parts of the configuration of whatever it is given to."""

    def __init__(
        self,
        name: str,
        *,
        data_converter: PluginParameter[DataConverter] = None,
        interceptors: _Interceptors | None = None,
        activities: PluginParameter[Sequence[Callable[..., Any]]] = None,
        nexus_service_handlers: PluginParameter[Sequence[Any]] = None,
        workflows: PluginParameter[Sequence[type]] = None,
        workflow_runner: PluginParameter[WorkflowRunner] = None,
        workflow_failure_exception_types: PluginParameter[Sequence[type[BaseException]]] = None,
        run_context: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    ) -> None:
        """Create a plugin. Except for the name and `run_context`, a function may stand for each value.

        Args:
            name: Name of the plugin.
            data_converter: Replaces that of clients and replayers.
            interceptors: Added to clients, workers and replayers, to each those that are of its kind. One that is
                of both kinds is added to the client, whose workers have it from there.
            activities: Added to workers.
            nexus_service_handlers: Added to workers.
            workflows: Added to workers and replayers.
            workflow_runner: Replaces that of workers and replayers.
            workflow_failure_exception_types: Added to workers and replayers.
            run_context: Returns what is entered while a worker or a replayer runs.
        """
        self._name = name
        self.data_converter = data_converter
        self.interceptors = interceptors
        self.activities = activities
        self.nexus_service_handlers = nexus_service_handlers
        self.workflows = workflows
        self.workflow_runner = workflow_runner
        self.workflow_failure_exception_types = workflow_failure_exception_types
        self.run_context = run_context

    def name(self) -> str:
        """Return the plugin's name."""
        return self._name

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """See the base class."""
        _replace(config, "data_converter", self.data_converter)
        _append(config, "interceptors", self.interceptors)
        _keep(config, perdure.client.Interceptor)
        return config

    async def connect_service_client(
        self, config: ConnectConfig, next: Callable[[ConnectConfig], Awaitable[ServiceClient]]
    ) -> ServiceClient:
        """See the base class."""
        return await next(config)

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """See the base class."""
        _append(config, "activities", self.activities)
        _append(config, "nexus_service_handlers", self.nexus_service_handlers)
        self._configure_workflows(config)
        if self.interceptors is not None:
            # A worker takes those of its client by itself.
            from_client: Sequence[object] = config["client"].config(active_config=True)["interceptors"]
            own = [
                interceptor
                for interceptor in self.interceptors
                if isinstance(interceptor, perdure.worker.Interceptor) and interceptor not in from_client
            ]
            _append(config, "interceptors", own)
        return config

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """See the base class."""
        _replace(config, "data_converter", self.data_converter)
        self._configure_workflows(config)
        _append(config, "interceptors", self.interceptors)
        _keep(config, perdure.worker.Interceptor)
        return config

    def _configure_workflows(self, config: WorkerConfig | ReplayerConfig) -> None:
        _append(config, "workflows", self.workflows)
        _replace(config, "workflow_runner", self.workflow_runner)
        _append(config, "workflow_failure_exception_types", self.workflow_failure_exception_types)

    def _context(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self.run_context is None else self.run_context()

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """See the base class."""
        async with self._context():
            await next(worker)

    @asynccontextmanager
    async def run_replayer(
        self,
        replayer: Replayer,
        histories: AsyncIterator[WorkflowHistory],
        next: Callable[
            [Replayer, AsyncIterator[WorkflowHistory]],
            AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]],
        ],
    ) -> AsyncIterator[AsyncIterator[WorkflowReplayResult]]:
        """See the base class."""
        async with self._context(), next(replayer, histories) as results:
            yield results


def _replace(config: Any, name: str, parameter: Any) -> None:
    """Put a value, or what a function makes of the one so far, into a configuration."""
    value = parameter(config.get(name)) if callable(parameter) else parameter
    if value is not None:
        config[name] = value


def _append(config: Any, name: str, parameter: Any) -> None:
    """Add values to those of a configuration, or let a function make others of them."""
    if parameter is not None and not callable(parameter):
        parameter = [*(config.get(name) or ()), *parameter]
    _replace(config, name, parameter)


def _keep(config: Any, kind: type) -> None:
    """Keep only the interceptors of one kind."""
    interceptors = cast(Sequence[object] | None, config.get("interceptors"))
    if interceptors is not None:
        config["interceptors"] = [
            interceptor for interceptor in interceptors if isinstance(interceptor, kind)
        ]
