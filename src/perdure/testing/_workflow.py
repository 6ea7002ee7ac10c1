"""`WorkflowEnvironment`: a server for tests and a client of it.

The server runs inside the process, on the test's event loop; nothing is downloaded or spawned. It listens on a port
too, so that the command line and workers in other processes can join a test.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack

from perdure.client import Client, Interceptor, Plugin
from perdure.common import QueryRejectCondition, SearchAttributeKey
from perdure.converter import DataConverter
from perdure.runtime import Runtime
from perdure.server import Server
from perdure.server.config import ServerConfig
from perdure.server.embedding import EngineOptions, release, reserve
from perdure.service import RetryConfig, TestService, TLSConfig
from perdure.testing._assertions import AssertionInterceptor
from perdure.testing._options import (
    ClientOptions,
    ServerOptions,
    client_options_in,
    typed_attributes,
    with_arguments,
)
from perdure.testing._processes import Program, dev_server_program, free_port
from perdure.testing._skipping import AutoSkipping, SkippingInterceptor

if TYPE_CHECKING:
    from perdure.api.nexus.v1 import Endpoint

_LONGEST = timedelta(days=365)
"""Limit of a call that sleeps: as good as none."""


class WorkflowEnvironment:
    """A server for tests, and a client of it.

    `start_time_skipping` and `start_local` run Perdure's own server inside the process; `from_client` takes a server
    that is there. Use it with `async with`, or call `shutdown`. An `assert` that fails in a workflow of this
    environment's client fails the workflow.

    Args:
        client: The client; `from_client` is what most tests want.
    """

    @classmethod
    def from_client(cls, client: Client) -> Self:
        """Make an environment of a client's server. Its time is real.

        Args:
            client: The client; the environment's is a copy with an interceptor for assertions.
        """
        return cls(_with_interceptors(client, AssertionInterceptor()))

    @classmethod
    async def start_local(
        cls,
        *,
        namespace: str = "default",
        data_converter: DataConverter = DataConverter.default,
        interceptors: Sequence[Interceptor] = [],
        plugins: Sequence[Plugin] = [],
        default_workflow_query_reject_condition: QueryRejectCondition | None = None,
        retry_config: RetryConfig | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        identity: str | None = None,
        tls: bool | TLSConfig = False,
        ip: str = "127.0.0.1",
        port: int | None = None,
        download_dest_dir: str | None = None,
        ui: bool = False,
        runtime: Runtime | None = None,
        search_attributes: Sequence[SearchAttributeKey[Any]] = (),
        dev_server_existing_path: str | None = None,
        dev_server_database_filename: str | None = None,
        dev_server_log_format: str = "pretty",
        dev_server_log_level: str | None = "warn",
        dev_server_download_version: str = "default",
        dev_server_extra_args: Sequence[str] = [],
        dev_server_download_ttl: timedelta | None = None,
        ui_port: int | None = None,
    ) -> WorkflowEnvironment:
        """Start a server whose time is real.

        It runs in the process, on the event loop that calls this, and the client reaches it without a network. Others
        reach it at `client.service_client.config.target_host`, a `host:port`.

        Args:
            namespace: Namespace of the client; it is created.
            data_converter, interceptors, plugins, default_workflow_query_reject_condition, retry_config, rpc_metadata,
                identity, runtime: See `Client.connect`.
            tls: Has to be false: the server speaks plain text.
            ip, port: Where the server listens; port None takes a free one.
            search_attributes: Search attributes to define.
            dev_server_existing_path: Start this program with the arguments of `temporal server start-dev` instead.
            dev_server_database_filename: SQLite file to keep everything in; in memory by default.
            dev_server_extra_args: Its flags; here `--dynamic-config-value`, `--search-attribute`, `--namespace` count.
            ui, ui_port, dev_server_log_format, dev_server_log_level: For a program only.
            download_dest_dir, dev_server_download_version, dev_server_download_ttl: Nothing is downloaded.

        Raises:
            ValueError: An argument cannot be what it is.
            PortError: The port cannot be listened on.
        """
        if tls:
            raise ValueError("tls: the server of a test environment speaks plain text; leave tls out")
        client_options = client_options_in(locals())
        if dev_server_existing_path is not None:
            program = dev_server_program(
                dev_server_existing_path,
                namespace=namespace,
                ip=ip,
                port=port,
                ui=ui_port or ui,
                database=dev_server_database_filename,
                log=(dev_server_log_format, dev_server_log_level),
                search_attributes=search_attributes,
                extra=dev_server_extra_args,
            )
            return await _ProgramEnvironment._start(program, namespace, client_options, time_skipping=False)
        config = ServerConfig(namespaces=(namespace,), search_attributes=typed_attributes(search_attributes))
        config = with_arguments(config, dev_server_extra_args)
        server = ServerOptions(config, dev_server_database_filename, ip, port or 0)
        return await _EmbeddedEnvironment._start(server, namespace, client_options)

    @classmethod
    async def start_time_skipping(
        cls,
        *,
        data_converter: DataConverter = DataConverter.default,
        interceptors: Sequence[Interceptor] = [],
        plugins: Sequence[Plugin] = [],
        default_workflow_query_reject_condition: QueryRejectCondition | None = None,
        retry_config: RetryConfig | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        identity: str | None = None,
        port: int | None = None,
        download_dest_dir: str | None = None,
        runtime: Runtime | None = None,
        test_server_existing_path: str | None = None,
        test_server_download_version: str = "default",
        test_server_extra_args: Sequence[str] = [],
        test_server_download_ttl: timedelta | None = None,
    ) -> WorkflowEnvironment:
        """Start a server whose time skips.

        It is the server of `start_local` with another clock. While somebody waits for the result of a workflow that
        this environment's client started, time moves to the next deadline as soon as nothing runs: no workflow task,
        and no activity, waits for a worker or is with one. Otherwise time is real; `sleep` moves it by hand.

        Args:
            data_converter, interceptors, plugins, default_workflow_query_reject_condition, retry_config, rpc_metadata,
                identity, runtime: See `Client.connect`.
            port: Port that the server listens on; None takes a free one.
            test_server_existing_path: Start this program, with the port as its argument, instead.
            test_server_extra_args: Further arguments of the program; inside the process see `start_local`.
            download_dest_dir, test_server_download_version, test_server_download_ttl: Nothing is downloaded.

        Raises:
            ValueError: An argument cannot be what it is.
            PortError: The port cannot be listened on.
        """
        client_options = client_options_in(locals())
        ip = "127.0.0.1"
        if test_server_existing_path is not None:
            port = port or free_port(ip)
            program = Program(test_server_existing_path, [str(port), *test_server_extra_args], ip, port)
            return await _ProgramEnvironment._start(program, "default", client_options, time_skipping=True)
        config = with_arguments(ServerConfig(time_skipping=True), test_server_extra_args)
        return await _EmbeddedEnvironment._start(
            ServerOptions(config, None, ip, port or 0), "default", client_options
        )

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    @property
    def client(self) -> Client:
        """The client of this environment's server."""
        return self._client

    async def shutdown(self) -> None:
        """Stop what this environment started. Twice is fine."""

    async def sleep(self, duration: timedelta | float) -> None:
        """Let time pass: skipped where time skips, else really.

        Args:
            duration: How much, in seconds if a number.
        """
        await asyncio.sleep(_timedelta(duration).total_seconds())

    async def get_current_time(self) -> datetime:
        """Return the time of the server, in UTC; the system's where time does not skip."""
        return datetime.now(UTC)

    @property
    def supports_time_skipping(self) -> bool:
        """Whether time skips here."""
        return False

    async def create_nexus_endpoint(self, endpoint_name: str, task_queue: str) -> Endpoint:
        """Create a Nexus endpoint whose operations are handled on a task queue of the client's namespace.

        Args:
            endpoint_name: Its name.
            task_queue: Where its handlers poll.
        """
        from perdure.api.nexus.v1 import EndpointSpec, EndpointTarget
        from perdure.api.operatorservice.v1 import CreateNexusEndpointRequest

        worker = EndpointTarget.Worker(namespace=self._client.namespace, task_queue=task_queue)
        spec = EndpointSpec(name=endpoint_name, target=EndpointTarget(worker=worker))
        response = await self._client.operator_service.create_nexus_endpoint(
            CreateNexusEndpointRequest(spec=spec)
        )
        endpoint: Endpoint = response.endpoint
        return endpoint

    async def delete_nexus_endpoint(self, endpoint: Endpoint) -> None:
        """Delete a Nexus endpoint.

        Args:
            endpoint: As `create_nexus_endpoint` returned it.
        """
        from perdure.api.operatorservice.v1 import DeleteNexusEndpointRequest

        await self._client.operator_service.delete_nexus_endpoint(
            DeleteNexusEndpointRequest(id=endpoint.id, version=endpoint.version)
        )

    def auto_time_skipping_disabled(self) -> AbstractContextManager[None]:
        """In this block, waiting for a result does not let time skip. Without effect where time does not skip."""
        return nullcontext()


class _Stoppable(Protocol):
    async def stop(self) -> None: ...


class _ServerEnvironment(WorkflowEnvironment):
    """An environment with a server of its own.

    Args:
        client: Of the server.
        server: Stopped at the end.
        time_skipping: Whether its time skips.
    """

    def __init__(self, client: Client, server: _Stoppable, *, time_skipping: bool) -> None:
        self._skipping = AutoSkipping(client.test_service) if time_skipping else None
        own: list[Interceptor] = [AssertionInterceptor()]
        if self._skipping is not None:
            own.append(SkippingInterceptor(self._skipping))
        super().__init__(_with_interceptors(client, *own))
        self._server = server

    async def shutdown(self) -> None:
        await self._client.close()
        await self._server.stop()

    @property
    def supports_time_skipping(self) -> bool:
        return self._skipping is not None

    @property
    def _clock(self) -> TestService:
        return self._client.test_service

    async def sleep(self, duration: timedelta | float) -> None:
        if self._skipping is None:
            await super().sleep(duration)
            return
        from perdure.api.testservice.v1 import SleepRequest

        request = SleepRequest()
        request.duration.FromTimedelta(_timedelta(duration))
        await self._clock.unlock_time_skipping_with_sleep(request, timeout=_LONGEST)

    async def get_current_time(self) -> datetime:
        if self._skipping is None:
            return await super().get_current_time()
        from perdure.api.protobuf import Empty

        response = await self._clock.get_current_time(Empty())
        now: datetime = response.time.ToDatetime(UTC)
        return now

    def auto_time_skipping_disabled(self) -> AbstractContextManager[None]:
        if self._skipping is None:
            return super().auto_time_skipping_disabled()
        return self._skipping.disabled()


class _EmbeddedEnvironment(_ServerEnvironment):
    """An environment whose server runs in the process."""

    @classmethod
    async def _start(
        cls, options: ServerOptions, namespace: str, client_options: ClientOptions
    ) -> WorkflowEnvironment:
        address = f"sqlite://?name=test-{uuid.uuid4()}"
        if options.database is not None:
            address = f"sqlite:///{options.database}"
        server = Server(address, config=options.config)
        await server.start()
        try:
            target_host = await server.listen(options.ip, options.port)
            client = await Client.connect(server.address, namespace=namespace, **client_options)
            # Where others reach the server; the client itself is connected.
            client.service_client.config = replace(client.service_client.config, target_host=target_host)
            return cls(client, server, time_skipping=options.config.time_skipping)
        except BaseException:  # also when cancelled: nobody else would stop it
            await server.stop()
            raise


class LazyEnvironment(_ServerEnvironment):
    """An environment whose server starts with the first call of its client, on the event loop of that call.

    It can be made and ended where no loop runs, as fixtures are. It opens no port.

    Args:
        client: Connects lazily to a reserved address.
        address: That address.
        time_skipping: Whether its time skips.
    """

    def __init__(self, client: Client, address: str, *, time_skipping: bool) -> None:
        super().__init__(client, _Nothing(), time_skipping=time_skipping)
        self._address = address

    @classmethod
    def make(
        cls, config: ServerConfig, namespace: str = "default", **client_options: Unpack[ClientOptions]
    ) -> LazyEnvironment:
        """Make one with a fresh engine in memory.

        Args:
            config: Of the server.
            namespace: Of the client; it is created.
            **client_options: Of the client.
        """
        address = f"sqlite://?name=test-{uuid.uuid4()}"
        reserve(address, EngineOptions(replace(config, namespaces=(*config.namespaces, namespace))))
        connecting = Client.connect(address, namespace=namespace, lazy=True, **client_options)
        try:
            connecting.send(None)
        except StopIteration as made:
            client: Client = made.value
        else:
            connecting.close()
            release(address)
            raise RuntimeError(
                "A plugin of the client waits for something, so it cannot be made without a loop."
            )
        # It connects by itself with the first call; workers, which refuse lazy clients, need not care.
        client.service_client.config = replace(client.service_client.config, lazy=False)
        return cls(client, address, time_skipping=config.time_skipping)

    def end(self) -> None:
        """Stop the server, wherever its loop is by now."""
        release(self._address)


class _Nothing:
    async def stop(self) -> None:
        pass


class _ProgramEnvironment(_ServerEnvironment):
    """An environment whose server is a program that the test named."""

    @classmethod
    async def _start(
        cls, program: Program, namespace: str, client_options: ClientOptions, *, time_skipping: bool
    ) -> WorkflowEnvironment:
        await program.start()
        try:
            client = await Client.connect(program.address, namespace=namespace, **client_options)
            return cls(client, program, time_skipping=time_skipping)
        except BaseException:  # also when cancelled: nobody else would stop it
            await program.stop()
            raise


def _timedelta(duration: timedelta | float) -> timedelta:
    return duration if isinstance(duration, timedelta) else timedelta(seconds=duration)


def _with_interceptors(client: Client, *interceptors: Interceptor) -> Client:
    config = client.config()
    config["interceptors"] = [*config["interceptors"], *interceptors]
    return Client(**config)
