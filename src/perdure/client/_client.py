"""The client: what it is made of, how it connects, and the way to everything else.

May live here: connecting, configuration, closing. May not: what a client can do (`_client_workflows` and its like), or
how (`_impl`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from perdure.client._client_activities import ActivityMethods
from perdure.client._client_operations import OperationMethods
from perdure.client._client_others import OtherMethods
from perdure.client._client_workflows import WorkflowMethods
from perdure.client._config import ClientConfig
from perdure.client._impl import _ClientImpl
from perdure.client._interceptor import Interceptor, OutboundInterceptor
from perdure.client._plugin import Plugin
from perdure.common import HeaderCodecBehavior, QueryRejectCondition
from perdure.converter import DataConverter
from perdure.service import (
    ConnectConfig,
    DnsLoadBalancingConfig,
    GrpcCompression,
    HttpConnectProxyConfig,
    KeepAliveConfig,
    OperatorService,
    PayloadLimitsConfig,
    RetryConfig,
    ServiceClient,
    TestService,
    TLSConfig,
    WorkflowService,
)

if TYPE_CHECKING:
    from perdure.runtime import Runtime

Connector = Callable[[ConnectConfig], Awaitable[ServiceClient]]
_DEFAULT_LIMITS = PayloadLimitsConfig()


class Client(WorkflowMethods, ActivityMethods, OperationMethods, OtherMethods):
    """A client of one namespace. `Client.connect` makes one; `Client(...)` makes another one on the same connection.

    A client is used from the event loop it was connected in. It can be closed, or used with `async with`.

    Args:
        service_client: The connection.
        namespace: The namespace of all calls.
        data_converter: Converts all values.
        plugins: Change the configuration; the first one is the outermost.
        interceptors: See all calls; the first one is the outermost.
        default_workflow_query_reject_condition: Applies to queries that have none.
        header_codec_behavior: Whether headers go through the payload codec.
    """

    @classmethod
    async def connect(
        cls,
        target_host: str,
        *,
        namespace: str = "default",
        api_key: str | None = None,
        data_converter: DataConverter = DataConverter.default,
        plugins: Sequence[Plugin] = [],
        interceptors: Sequence[Interceptor] = [],
        default_workflow_query_reject_condition: QueryRejectCondition | None = None,
        tls: bool | TLSConfig | None = None,
        retry_config: RetryConfig | None = None,
        keep_alive_config: KeepAliveConfig | None = KeepAliveConfig.default,
        connect_timeout: timedelta | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        identity: str | None = None,
        lazy: bool = False,
        runtime: Runtime | None = None,
        http_connect_proxy_config: HttpConnectProxyConfig | None = None,
        dns_load_balancing_config: DnsLoadBalancingConfig | None = None,
        grpc_compression: GrpcCompression = GrpcCompression.GZIP,
        payload_limits: PayloadLimitsConfig = _DEFAULT_LIMITS,
        header_codec_behavior: HeaderCodecBehavior = HeaderCodecBehavior.NO_CODEC,
    ) -> Self:
        """Connect to a server, or open an engine inside this process.

        Args:
            target_host: `host:port` of a Perdure or Temporal server or of Temporal Cloud; or `sqlite:///orders.db`
                (the engine runs in this process on that file) or `sqlite://` (in memory).
            namespace: Namespace of all calls.
            api_key: Sent as bearer token; turns TLS on unless `tls` says otherwise.
            data_converter: And all others: see `ClientConnectConfig`.

        Raises:
            ClientConnectError: No server answers there, or it does not accept the connection.
            ValueError: The arguments contradict each other.
        """
        config = ConnectConfig(
            target_host=target_host,
            api_key=api_key,
            tls=tls,
            retry_config=retry_config,
            keep_alive_config=keep_alive_config,
            connect_timeout=connect_timeout,
            rpc_metadata=rpc_metadata,
            identity=identity or "",
            lazy=lazy,
            runtime=runtime,
            http_connect_proxy_config=http_connect_proxy_config,
            dns_load_balancing_config=dns_load_balancing_config,
            grpc_compression=grpc_compression,
            payload_limits=payload_limits,
        )
        service = await _connector(plugins)(config)
        try:
            return cls(
                service,
                namespace=namespace,
                data_converter=data_converter,
                interceptors=interceptors,
                default_workflow_query_reject_condition=default_workflow_query_reject_condition,
                header_codec_behavior=header_codec_behavior,
                plugins=plugins,
            )
        except BaseException:
            # A plugin or an interceptor refused: nobody else knows of this connection.
            await service.close()
            raise

    def __init__(
        self,
        service_client: ServiceClient,
        *,
        namespace: str = "default",
        data_converter: DataConverter = DataConverter.default,
        plugins: Sequence[Plugin] = [],
        interceptors: Sequence[Interceptor] = [],
        default_workflow_query_reject_condition: QueryRejectCondition | None = None,
        header_codec_behavior: HeaderCodecBehavior = HeaderCodecBehavior.NO_CODEC,
    ) -> None:
        config = ClientConfig(
            service_client=service_client,
            namespace=namespace,
            data_converter=data_converter,
            plugins=plugins,
            interceptors=interceptors,
            default_workflow_query_reject_condition=default_workflow_query_reject_condition,
            header_codec_behavior=header_codec_behavior,
        )
        self._initial_config = config.copy()
        for plugin in plugins:
            config = plugin.configure_client(config)
        self._init_from_config(config)

    def _init_from_config(self, config: ClientConfig) -> None:
        self._config = config
        self._impl: OutboundInterceptor = _ClientImpl(self)
        for interceptor in reversed(list(config["interceptors"])):
            self._impl = interceptor.intercept_client(self._impl)

    def config(self, *, active_config: bool = False) -> ClientConfig:
        """Return a copy of what this client was made with.

        Args:
            active_config: As the plugins have changed it.
        """
        config = (self._config if active_config else self._initial_config).copy()
        config["interceptors"] = list(config["interceptors"])
        return config

    async def close(self) -> None:
        """Close the connection, for all clients that share it. An embedded engine is shut down with its last client."""
        await self.service_client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def service_client(self) -> ServiceClient:
        """The connection, with one method per RPC."""
        return self._config["service_client"]

    @property
    def workflow_service(self) -> WorkflowService:
        """The RPCs about workflows, activities, schedules and namespaces."""
        return self._config["service_client"].workflow_service

    @property
    def operator_service(self) -> OperatorService:
        """The RPCs for operators."""
        return self._config["service_client"].operator_service

    @property
    def test_service(self) -> TestService:
        """The RPCs of servers whose time can be skipped."""
        return self._config["service_client"].test_service

    @property
    def namespace(self) -> str:
        """Namespace of all calls."""
        return self._config["namespace"]

    @property
    def identity(self) -> str:
        """Who this client says it is."""
        return self._config["service_client"].config.identity

    @property
    def data_converter(self) -> DataConverter:
        """Converts all values."""
        return self._config["data_converter"]

    @property
    def rpc_metadata(self) -> Mapping[str, str | bytes]:
        """Sent with all calls. Do not change the mapping; set another one.

        Raises:
            TypeError: A value that is set is neither str nor bytes.
            ValueError: A key that is set does not fit its value.
        """
        return self.service_client.config.rpc_metadata

    @rpc_metadata.setter
    def rpc_metadata(self, value: Mapping[str, str | bytes]) -> None:
        # First what may raise.
        self.service_client.update_rpc_metadata(value)
        self.service_client.config.rpc_metadata = value

    @property
    def api_key(self) -> str | None:
        """Sent with all calls as bearer token, unless the metadata has an `authorization`."""
        return self.service_client.config.api_key

    @api_key.setter
    def api_key(self, value: str | None) -> None:
        # First what may raise.
        self.service_client.update_api_key(value)
        self.service_client.config.api_key = value


def _connector(plugins: Sequence[Plugin]) -> Connector:
    """Return what connects, with all plugins around it."""

    def around(plugin: Plugin, next: Connector) -> Connector:
        return lambda config: plugin.connect_service_client(config, next)

    connector: Connector = ServiceClient.connect
    for plugin in reversed(plugins):
        connector = around(plugin, connector)
    return connector
