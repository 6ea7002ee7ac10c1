"""The server: puts store, namespaces, engine, service and doors together; starts and stops them in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from time import monotonic
from typing import Protocol

from google.protobuf.message import Message

from perdure.api.namespace.v1 import NamespaceInfo
from perdure.api.services import WORKFLOW_SERVICE, method_path
from perdure.core.visibility.attributes import AttributeType
from perdure.server import collector
from perdure.server.addresses import host_and_port
from perdure.server.attribute_removals import AttributeRemovals
from perdure.server.config import DAY_S, ServerConfig
from perdure.server.deployments import Deployments
from perdure.server.engine.batches import Batches
from perdure.server.engine.engine import Engine, EngineLimits
from perdure.server.engine.histories import Histories
from perdure.server.engine.rerouting import Rerouting
from perdure.server.engine.schedules import Schedules
from perdure.server.engine.starts import Starts
from perdure.server.namespace_removals import NamespaceRemovals
from perdure.server.namespaces import REGISTERED, Namespace, Namespaces
from perdure.server.nexus import Nexus
from perdure.server.nexus_remote import HttpRemote
from perdure.server.queue_configs import QueueConfigs
from perdure.server.runtime import Runtime
from perdure.server.service.call import Call
from perdure.server.service.groups import engine_groups
from perdure.server.service.namespace_rpcs import NamespaceRpcs, new_config
from perdure.server.service.quotas import QuotaKeeper
from perdure.server.service.refused_rpcs import RefusedRpcs
from perdure.server.service.search_attributes import SearchAttributeRpcs, check_attribute, with_attributes
from perdure.server.service.service import Service
from perdure.server.service.system import System
from perdure.server.service.test_service import TestService
from perdure.server.service.visibility_rpcs import VisibilityRpcs
from perdure.server.time_skipping import SkippingRuntime, TimeSkipping
from perdure.store.protocol import Store

logger = logging.getLogger(__name__)

DEFAULT_NAMESPACE = "default"
SKIPPING_RETENTION_S = 100 * 365 * DAY_S


class Door(Protocol):
    """A way in from outside the process."""

    port: int

    async def start(self) -> None:
        """Accepts calls; raises PortError when it cannot."""

    def turn_away(self) -> None:
        """Answers new calls with UNAVAILABLE from now on; those under way go on."""

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, lets those under way finish for `grace_s` seconds, then cancels them."""


class Server:
    """One server over one store.

    Args:
        store: not yet opened; the server opens and closes it.
        config: what it is told.
        runtime: clock and ids.
        store_name: what GetClusterInfo calls the store, such as `sqlite`.
        listens: opens the gRPC door at start; without one, calls come from inside the process, and `listen` may open
            the door later.
    """

    def __init__(
        self, store: Store, config: ServerConfig, runtime: Runtime, store_name: str, *, listens: bool = True
    ) -> None:
        self._store = store
        if config.time_skipping:
            runtime = SkippingRuntime(runtime)
            config = replace(config, retention_s=SKIPPING_RETENTION_S)
        self._config = config
        self._runtime = runtime
        self._store_name = store_name
        self.namespaces = Namespaces(store)
        self._removals = AttributeRemovals(store, self.namespaces)
        limits = replace(config.limits, update_callbacks=config.capabilities.workflow_update_callbacks)
        self.deployments = Deployments(store, runtime, self.namespaces)
        self.engine = Engine(
            store,
            self.namespaces,
            runtime,
            self.deployments.routes,
            EngineLimits(cached_runs=config.cached_runs, run=limits),
        )
        self.engine.departures.is_enabled = config.capabilities.worker_poll_complete_on_shutdown
        self._remote = HttpRemote()
        self.nexus = Nexus(
            self.engine,
            self._remote,
            config.callback_addresses,
            records_cancellations=config.records_nexus_cancellations,
        )
        self.queue_configs = QueueConfigs(store, self.namespaces)
        self._rerouting = Rerouting(self.engine, self.deployments)
        self._rerouting.listeners.append(self.nexus.tasks.reroute)
        self.schedules = Schedules(self.engine, Starts(self.engine), Histories(self.engine))
        self.batches = Batches(self.engine)
        self.namespace_removals = NamespaceRemovals(
            self.namespaces, self.engine, self.schedules, self.batches, self.deployments, self.queue_configs
        )
        self.time_skipping: TimeSkipping | None = None
        if isinstance(runtime, SkippingRuntime):
            self.time_skipping = TimeSkipping(self.engine, runtime)
            self.time_skipping.add_source(self.schedules)
            self.time_skipping.add_source(self.namespace_removals)
            self.schedules.on_change = self.time_skipping.notice
        self.service = Service(
            self._groups(),
            TestService(self.time_skipping) if self.time_skipping is not None else None,
            QuotaKeeper(config.quotas, self.namespaces.has, monotonic).limited,
        )
        self.batches.serve, self.batches.has = self._serve, self._has
        self._door: Door | None = None
        if listens:
            self._door = self._new_door(config)
        self._http_door: Door | None = None
        if listens and config.http_port is not None:
            self._http_door = self._new_http_door(config.host, config.http_port)
        self._has_started = False

    def _groups(self) -> list[object]:
        """The handler groups; the first that has a method for an RPC serves it."""
        return [
            System(self._store, self._config, self._store_name),
            RefusedRpcs(self.namespaces),
            NamespaceRpcs(self.namespaces, self._config, self._runtime, self.nexus.endpoints),
            SearchAttributeRpcs(self.namespaces, self._removals),
            VisibilityRpcs(self._store, self.namespaces, self._config),
            *engine_groups(
                self.engine,
                long_poll_s=self._config.long_poll_s,
                history_wait_s=self._config.history_wait_s,
                history_page_batches=self._config.history_page_batches,
                query_wait_s=self._config.query_wait_s,
                list_page_size=self._config.list_page_size,
                schedules=self.schedules,
                nexus=self.nexus,
                deployments=self.deployments,
                configs=self.queue_configs,
                batches=self.batches,
            ),
        ]

    async def _serve(self, name: str, request: Message) -> Message:
        """Serves one of the server's own requests, to which no quota applies."""
        return await self.service.call_without_quota(method_path(WORKFLOW_SERVICE, name), request, Call())

    def _has(self, name: str) -> bool:
        """Whether an RPC is served."""
        return self.service.methods[method_path(WORKFLOW_SERVICE, name)].serve is not None

    @property
    def port(self) -> int:
        """The port of the gRPC door, once started; 0 without one."""
        return self._door.port if self._door is not None else 0

    async def start(self) -> None:
        """Opens the store and serves; returns when calls are accepted. What was begun is undone when it fails.

        Raises:
            StoreOpenError: the database cannot be used.
            PortError: the address cannot be listened on.
            InvalidArgumentError: a requested namespace or search attribute is not possible.
        """
        await self._store.open()
        collector.started()
        self._has_started = True
        try:
            await self.namespaces.load()
            await self.nexus.endpoints.load()
            await self.deployments.load()
            await self.queue_configs.load()
            await self._prepare_namespaces()
            self._removals.start()
            await self.engine.start()
            self._rerouting.start()
            await self.schedules.start(track_deadlines=self.time_skipping is not None)
            if self.time_skipping is not None:
                await self.time_skipping.start()
            await self.batches.start()
            for door in self._doors():
                await door.start()
            self._name_callbacks()
        except BaseException:  # Also when cancelled: what was opened is closed before anybody hears of it.
            await self.stop(0)
            raise
        self.namespace_removals.start()

    async def listen(self, host: str, port: int) -> None:
        """Opens the gRPC door of a started server that has none; does nothing if it has one.

        Raises:
            PortError: the address cannot be listened on.
        """
        if self._door is not None:
            return
        door = self._door = self._new_door(replace(self._config, host=host, port=port))
        try:
            await door.start()
        except BaseException:  # Also when cancelled: another address may be tried.
            self._door = None
            raise

    def _new_door(self, config: ServerConfig) -> Door:
        # Imported where it is needed: an engine that nobody reaches by network does without.
        from perdure.server.doors.http2.door import GrpcDoor

        return GrpcDoor(self.service, config, self._runtime.new_id)

    async def listen_http(self, host: str, port: int) -> None:
        """Opens the HTTP door of a started server that has none; does nothing if it has one.

        Raises:
            PortError: the address cannot be listened on.
        """
        if self._http_door is not None:
            return
        door = self._http_door = self._new_http_door(host, port)
        try:
            await door.start()
        except BaseException:  # Also when cancelled: another address may be tried.
            self._http_door = None
            raise
        self._name_callbacks()

    def _new_http_door(self, host: str, port: int) -> Door:
        from perdure.server.doors.http import nexus
        from perdure.server.doors.http.app import HttpApp
        from perdure.server.doors.http.door import HttpDoor

        config = self._config
        app = HttpApp(self.service, config.max_receive_bytes, self._runtime.new_id)
        routes = [*nexus.routes(self.nexus.http), *app.routes()]
        return HttpDoor(routes, host, port, config.http_allowed_hosts)

    def _name_callbacks(self) -> None:
        """Says where handlers that are reached by URL complete operations: as told, or at the HTTP door."""
        host = self._config.host if self._config.host not in ("0.0.0.0", "::", "") else "127.0.0.1"
        own = f"http://{host_and_port(host, self.http_port)}"
        door = f"{own}/namespaces/{{{{.NamespaceName}}}}/nexus/callback" if self.http_port else ""
        self.nexus.requests.callback_template = self._config.callback_template or door

    def _doors(self) -> list[Door]:
        return [door for door in (self._door, self._http_door) if door is not None]

    @property
    def http_port(self) -> int:
        """The port of the HTTP door, once started; 0 without one."""
        return self._http_door.port if self._http_door is not None else 0

    def turn_away(self) -> None:
        """Takes no new calls through the doors and ends long polls with empty answers."""
        for door in self._doors():
            door.turn_away()
        self.engine.end_long_polls()
        if self.time_skipping is not None:
            self.time_skipping.end_sleeps()

    async def stop(self, grace_s: float) -> None:
        """Ends long polls with empty answers, finishes calls under way, closes the store.

        Args:
            grace_s: seconds that calls under way get before they are cancelled.
        """
        self.turn_away()
        await asyncio.gather(*(door.stop(grace_s) for door in self._doors()))
        await self.namespace_removals.stop()
        if self.time_skipping is not None:
            await self.time_skipping.stop()
        await self.batches.stop()
        await self.schedules.stop()
        await self._removals.stop()
        await self.engine.stop()
        self._remote.close()
        for registry in (self.namespaces, self.nexus.endpoints, self.deployments, self.queue_configs):
            await registry.settled()
        if self._has_started:
            self._has_started = False
            collector.stopped()
        await self._store.close()

    async def _prepare_namespaces(self) -> None:
        attributes = {}
        for name, number in self._config.search_attributes.items():
            check_attribute(name, number)
            attributes[name] = AttributeType(number)
        names = (DEFAULT_NAMESPACE, *self._config.namespaces)
        await self.ensure_namespaces(names)
        for name in dict.fromkeys(names):
            namespace = self.namespaces.get(name)
            if not attributes.keys() <= namespace.search_attributes.keys():
                await self.namespaces.update(
                    with_attributes(namespace, {**attributes, **namespace.search_attributes})
                )

    async def ensure_namespaces(self, names: Iterable[str]) -> None:
        """Creates those of the namespaces that are not there.

        Raises:
            InvalidArgumentError: a name is not possible.
        """
        for name in dict.fromkeys(names):
            if not self.namespaces.has(name):
                config = new_config(self._config.retention_s)
                await self.namespaces.create(
                    Namespace(self._runtime.new_run_id(), name, NamespaceInfo(state=REGISTERED), config)
                )
