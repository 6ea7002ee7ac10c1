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

from perdure.client import Client, Interceptor, Plugin, WorkflowHandle
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
from perdure.testing._processes import Program, dev_server_program_of, free_port
from perdure.testing._skipping import AutoSkipping, SkippingInterceptor
from perdure.testing._time_skipper import _SKIPPING, TimeSkipper, TimeSkippingConfig

if TYPE_CHECKING:
    from perdure.api.common.v1 import TimeSkippingInfo
    from perdure.api.nexus.v1 import Endpoint

_LONGEST = timedelta(days=365)
"""Limit of a call that sleeps: as good as none."""


_NO_CLOCKS = (
    "{} needs a server with a clock for each workflow: see WorkflowEnvironment.start_time_skipping_v2(). "
    "Where all workflows share a clock, sleep() moves it"
)


class WorkflowEnvironment:
    """A server for tests, and a client of it.

    `start_time_skipping` and `start_local` run Perdure's own server inside the process; `from_client` takes a server
    that is there. Use it with `async with`, or call `shutdown`. An `assert` that fails in a workflow of this
    environment's client fails the workflow, or the update that it handles.

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
        dev_server_startup_timeout: timedelta | None = None,
        ui_port: int | None = None,
    ) -> WorkflowEnvironment:
        """Start a server whose time is real.

        It runs in the process, on the event loop that calls this, and the client reaches it without a network. Others
        reach it at `client.service_client.config.target_host`, a `host:port`.

        Arguments that are not listed are those of `Client.connect`. Nothing is downloaded: `download_dest_dir`,
        `dev_server_download_version` and `dev_server_download_ttl` are without effect. `ui`, `ui_port`,
        `dev_server_log_format` and `dev_server_log_level` are for a program only.

        Args:
            namespace: Namespace of the client; it is created.
            tls: Has to be false: the server speaks plain text.
            ip: Address that the server listens on.
            port: Port that it listens on; None takes a free one.
            search_attributes: Search attributes to define.
            dev_server_existing_path: Start this program with the arguments of `temporal server start-dev` instead.
            dev_server_database_filename: SQLite file to keep everything in; in memory by default.
            dev_server_extra_args: Its flags; here `--dynamic-config-value`, `--search-attribute`, `--namespace` count.
            dev_server_startup_timeout: How long a program may take to start; a minute by default.

        Returns:
            The environment; it stops the server when it ends.

        Raises:
            ValueError: An argument cannot be what it is.
            PortError: The port cannot be listened on.
        """
        if tls:
            raise ValueError("tls: the server of a test environment speaks plain text; leave tls out")
        arguments = locals()
        client_options, extra = client_options_in(arguments), dev_server_extra_args
        if dev_server_existing_path is not None:
            program = dev_server_program_of(arguments)
            return await _ProgramEnvironment._start(
                program, namespace, client_options, dev_server_startup_timeout, time_skipping=False
            )
        attributes = typed_attributes(search_attributes)
        config = with_arguments(ServerConfig(namespaces=(namespace,), search_attributes=attributes), extra)
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
        test_server_startup_timeout: timedelta | None = None,
    ) -> WorkflowEnvironment:
        """Start a server whose time skips.

        It is the server of `start_local` with another clock. While somebody waits for the result of a workflow that
        this environment's client started, time moves to the next deadline as soon as nothing runs: no workflow task,
        and no activity, waits for a worker or is with one. Otherwise time is real; `sleep` moves it by hand. Arguments
        that are not listed are those of `Client.connect`. Nothing is downloaded: `download_dest_dir`,
        `test_server_download_version` and `test_server_download_ttl` are without effect.

        Args:
            port: Port that the server listens on; None takes a free one.
            test_server_existing_path: Start this program, with the port as its argument, instead.
            test_server_startup_timeout: How long a program may take until it accepts connections; a minute by default.
            test_server_extra_args: Further arguments of the program; inside the process see `start_local`.

        Returns:
            The environment; it stops the server when it ends.

        Raises:
            ValueError: An argument cannot be what it is.
            PortError: The port cannot be listened on.
        """
        client_options = client_options_in(locals())
        ip = "127.0.0.1"
        if test_server_existing_path is not None:
            port = port or free_port(ip)
            program = Program(test_server_existing_path, [str(port), *test_server_extra_args], ip, port)
            return await _ProgramEnvironment._start(
                program, "default", client_options, test_server_startup_timeout, time_skipping=True
            )
        config = with_arguments(ServerConfig(time_skipping=True), test_server_extra_args)
        return await _EmbeddedEnvironment._start(
            ServerOptions(config, None, ip, port or 0), "default", client_options
        )

    @classmethod
    async def start_time_skipping_v2(
        cls, *, ts_config: TimeSkippingConfig = _SKIPPING, **options: Any
    ) -> WorkflowEnvironment:
        """Start a server program that has a clock for each workflow, and skips it (experimental).

        The workflows that this environment's client starts skip time by themselves; `fast_forward` moves the clock of
        one. It takes a Temporal dev server: give `dev_server_existing_path`, and in `dev_server_extra_args`
        `--dynamic-config-value frontend.WorkflowTimeSkippingEnabled=true`.

        Args:
            ts_config: How time skips for workflows that are started.
            **options: See `start_local`.

        Raises:
            ValueError: no program is given: the server inside the process has one clock for all workflows, see
                `start_time_skipping`.
        """
        if options.get("dev_server_existing_path") is None:
            raise ValueError(
                "start_time_skipping_v2 needs a server with a clock for each workflow, and the server inside the "
                "process has one for all: use start_time_skipping(), or give dev_server_existing_path"
            )
        return _PerWorkflowEnvironment(await cls.start_local(**options), ts_config)

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

    async def connect_client(self, **options: Any) -> Client:
        """Connect another client to this environment's server.

        Args:
            **options: See `Client.connect`. Namespace and credentials are those of this environment's client, unless
                said otherwise here.
        """
        own = self._client.service_client.config
        known = {
            "namespace": self._client.namespace,
            "api_key": own.api_key,
            "tls": own.tls,
            "rpc_metadata": own.rpc_metadata,
            "runtime": own.runtime,
        }
        return await Client.connect(own.target_host, **{**known, **options})

    async def shutdown(self) -> None:
        """Stop what this environment started. Twice is fine."""

    async def sleep(self, duration: timedelta | float) -> None:
        """Let time pass: skipped where time skips, else really.

        Args:
            duration: How much, in seconds if a number.
        """
        await asyncio.sleep(_timedelta(duration).total_seconds())

    async def get_current_time(self, handle: WorkflowHandle[Any, Any] | None = None) -> datetime:
        """Return the time of the server, in UTC; the system's where time does not skip.

        Args:
            handle: Of a workflow, where each has its own time (`start_time_skipping_v2`); otherwise without effect.
        """
        return datetime.now(UTC)

    @property
    def supports_time_skipping(self) -> bool:
        """Whether time skips here."""
        return self.supports_time_skipping_v1 or self.supports_time_skipping_v2

    @property
    def supports_time_skipping_v1(self) -> bool:
        """Whether all workflows here share a clock that skips."""
        return False

    @property
    def supports_time_skipping_v2(self) -> bool:
        """Whether each workflow here has a clock that skips (experimental)."""
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

    # For environments where each workflow has its own clock

    async def fast_forward(
        self, handle: WorkflowHandle[Any, Any], duration: timedelta | float | None = None, /
    ) -> bool:
        """Move the clock of a workflow; see `TimeSkipper.fast_forward`.

        Raises:
            RuntimeError: Workflows have no clocks of their own here.
        """
        raise RuntimeError(_NO_CLOCKS.format("fast_forward"))

    async def get_time_skipping_info(self, handle: WorkflowHandle[Any, Any]) -> TimeSkippingInfo | None:
        """Return what the server knows of a workflow's clock; None if it never skipped.

        Raises:
            RuntimeError: Workflows have no clocks of their own here.
        """
        raise RuntimeError(_NO_CLOCKS.format("get_time_skipping_info"))

    def with_time_skipping_disabled(self) -> AbstractContextManager[None]:
        """In this block, workflows are started whose time is real. Without effect where they have no own clocks."""
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
        try:
            await self._client.close()
        finally:  # also when cancelled: nobody else would stop it
            await self._server.stop()

    @property
    def supports_time_skipping_v1(self) -> bool:
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

    async def get_current_time(self, handle: WorkflowHandle[Any, Any] | None = None) -> datetime:
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
        cls,
        program: Program,
        namespace: str,
        client_options: ClientOptions,
        start_limit: timedelta | None,
        *,
        time_skipping: bool,
    ) -> WorkflowEnvironment:
        program.start_limit = start_limit or program.start_limit
        await program.start()
        try:
            client = await Client.connect(program.address, namespace=namespace, **client_options)
            program.check()
            return cls(client, program, time_skipping=time_skipping)
        except BaseException:  # also when cancelled: nobody else would stop it
            await program.stop()
            raise


class _PerWorkflowEnvironment(WorkflowEnvironment):
    """An environment whose server has a clock for each workflow.

    Args:
        inner: The server and a client of it.
        config: How time skips for workflows that are started.
    """

    def __init__(self, inner: WorkflowEnvironment, config: TimeSkippingConfig) -> None:
        self._inner = inner
        self._skipper = TimeSkipper(inner.client, config=config)
        super().__init__(self._skipper.client)

    async def shutdown(self) -> None:
        await self._inner.shutdown()

    @property
    def supports_time_skipping_v2(self) -> bool:
        return True

    async def sleep(self, duration: timedelta | float) -> None:
        raise RuntimeError(
            "Each workflow has its own time here: use fast_forward(handle, duration), not sleep"
        )

    async def get_current_time(self, handle: WorkflowHandle[Any, Any] | None = None) -> datetime:
        if handle is None:
            raise RuntimeError("Each workflow has its own time here: give get_current_time a workflow handle")
        return await self._skipper.get_current_time(handle)

    def auto_time_skipping_disabled(self) -> AbstractContextManager[None]:
        raise RuntimeError(
            "Time does not skip because somebody waits here: use with_time_skipping_disabled(), "
            "not auto_time_skipping_disabled()"
        )

    async def fast_forward(
        self, handle: WorkflowHandle[Any, Any], duration: timedelta | float | None = None, /
    ) -> bool:
        return await self._skipper.fast_forward(handle, duration)

    async def get_time_skipping_info(self, handle: WorkflowHandle[Any, Any]) -> TimeSkippingInfo | None:
        return await self._skipper.get_time_skipping_info(handle)

    def with_time_skipping_disabled(self) -> AbstractContextManager[None]:
        return self._skipper.with_time_skipping_disabled()


def _timedelta(duration: timedelta | float) -> timedelta:
    return duration if isinstance(duration, timedelta) else timedelta(seconds=duration)


def _with_interceptors(client: Client, *interceptors: Interceptor) -> Client:
    config = client.config()
    config["interceptors"] = [*config["interceptors"], *interceptors]
    return Client(**config)
