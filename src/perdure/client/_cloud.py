"""The client of Temporal Cloud's operations service.

May live here: connecting to it. May not: its RPCs, which are those of `cloud_service`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perdure.service import (
    CloudService,
    ConnectConfig,
    DnsLoadBalancingConfig,
    GrpcCompression,
    HttpConnectProxyConfig,
    KeepAliveConfig,
    RetryConfig,
    ServiceClient,
    TLSConfig,
)

if TYPE_CHECKING:
    from perdure.runtime import Runtime

_VERSION_KEY = "temporal-cloud-api-version"


class CloudOperationsClient:
    """Client of Temporal Cloud's operations service: accounts, users, namespaces in the cloud.

    Args:
        service_client: The connection; `connect` makes one.
    """

    @staticmethod
    async def connect(
        *,
        api_key: str | None = None,
        version: str | None = None,
        target_host: str = "saas-api.tmprl.cloud:443",
        tls: bool | TLSConfig = True,
        retry_config: RetryConfig | None = None,
        keep_alive_config: KeepAliveConfig | None = KeepAliveConfig.default,
        rpc_metadata: Mapping[str, str | bytes] = {},
        identity: str | None = None,
        lazy: bool = False,
        runtime: Runtime | None = None,
        http_connect_proxy_config: HttpConnectProxyConfig | None = None,
        dns_load_balancing_config: DnsLoadBalancingConfig | None = None,
        grpc_compression: GrpcCompression = GrpcCompression.GZIP,
    ) -> CloudOperationsClient:
        """Connect to Temporal Cloud's operations service.

        Args:
            api_key: An API key of the account.
            version: Version of that service's API, sent with all calls.
            target_host: `host:port` of the service.
            tls: Whether and how TLS is used.
            retry_config: How failed calls are repeated.
            keep_alive_config: How a dead connection is noticed.
            rpc_metadata: Sent with all calls.
            identity: Who this client says it is.
            lazy: Connect with the first call.
            runtime: Where logs and metrics go.
            http_connect_proxy_config: A proxy for the connection.
            dns_load_balancing_config: Spread calls over all addresses.
            grpc_compression: How messages are compressed.

        Raises:
            ClientConnectError: No connection could be made.
        """
        if version:
            rpc_metadata = {**rpc_metadata, _VERSION_KEY: version}
        config = ConnectConfig(
            target_host=target_host,
            api_key=api_key,
            tls=tls,
            retry_config=retry_config,
            keep_alive_config=keep_alive_config,
            rpc_metadata=rpc_metadata,
            identity=identity or "",
            lazy=lazy,
            runtime=runtime,
            http_connect_proxy_config=http_connect_proxy_config,
            dns_load_balancing_config=dns_load_balancing_config,
            grpc_compression=grpc_compression,
        )
        return CloudOperationsClient(await ServiceClient.connect(config))

    def __init__(self, service_client: ServiceClient) -> None:
        self._service_client = service_client

    @property
    def service_client(self) -> ServiceClient:
        """The connection."""
        return self._service_client

    @property
    def cloud_service(self) -> CloudService:
        """The RPCs."""
        return self._service_client.cloud_service

    @property
    def identity(self) -> str:
        """Who this client says it is."""
        return self._service_client.config.identity

    @property
    def rpc_metadata(self) -> Mapping[str, str | bytes]:
        """Sent with all calls. Do not change the mapping; set another one."""
        return self._service_client.config.rpc_metadata

    @rpc_metadata.setter
    def rpc_metadata(self, value: Mapping[str, str | bytes]) -> None:
        self._service_client.update_rpc_metadata(value)
        self._service_client.config.rpc_metadata = value

    @property
    def api_key(self) -> str | None:
        """Sent with all calls as bearer token."""
        return self._service_client.config.api_key

    @api_key.setter
    def api_key(self, value: str | None) -> None:
        self._service_client.config.api_key = value
        self._service_client.update_api_key(value)
