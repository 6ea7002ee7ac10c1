"""What a client is made of, as dictionaries: for plugins, and for connecting again.

May live here: the two dictionaries. May not: checks of their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Required, TypedDict

from perdure.common import HeaderCodecBehavior, QueryRejectCondition
from perdure.converter import DataConverter
from perdure.service import (
    DnsLoadBalancingConfig,
    GrpcCompression,
    HttpConnectProxyConfig,
    KeepAliveConfig,
    PayloadLimitsConfig,
    RetryConfig,
    ServiceClient,
    TLSConfig,
)

if TYPE_CHECKING:
    from perdure.client._interceptor import Interceptor
    from perdure.client._plugin import Plugin
    from perdure.runtime import Runtime


class ClientConnectConfig(TypedDict, total=False):
    """Arguments of `Client.connect`."""

    target_host: str
    """`host:port` of a Perdure or Temporal server or of Temporal Cloud; or `sqlite:///orders.db` (the engine
    runs in this process on that file) or `sqlite://` (in memory)."""
    namespace: str
    """Namespace of all calls."""
    api_key: str | None
    """Sent as bearer token; turns TLS on unless `tls` says otherwise."""
    data_converter: DataConverter
    """Converts all values to payloads and back."""
    plugins: Sequence[Plugin]
    """Change the configuration and the connection; the first one is the outermost. Those that are plugins of
    workers too apply to workers of this client."""
    interceptors: Sequence[Interceptor]
    """See all calls; the first one is the outermost. Those that are interceptors of workers too apply to
    workers of this client."""
    default_workflow_query_reject_condition: QueryRejectCondition | None
    """Applies to queries that have none."""
    tls: bool | TLSConfig | None
    """None means TLS if there is an API key; otherwise whether and how TLS is used."""
    retry_config: RetryConfig | None
    """How failed calls are repeated."""
    keep_alive_config: KeepAliveConfig | None
    """How a dead connection is noticed; None turns that off."""
    connect_timeout: timedelta | None
    """How long connecting may take."""
    rpc_metadata: Mapping[str, str | bytes]
    """Sent with all calls."""
    identity: str | None
    """Who this client says it is; None means process id and host name."""
    lazy: bool
    """Connect with the first call."""
    runtime: Runtime | None
    """Where logs and metrics go; None means the default runtime."""
    http_connect_proxy_config: HttpConnectProxyConfig | None
    """A proxy for the connection."""
    dns_load_balancing_config: DnsLoadBalancingConfig | None
    """Spread calls over all addresses of the host's name."""
    grpc_compression: GrpcCompression
    """How messages are compressed."""
    payload_limits: PayloadLimitsConfig
    """Sizes that are warned about."""
    header_codec_behavior: HeaderCodecBehavior
    """Whether headers go through the payload codec."""


class ClientConfig(TypedDict, total=False):
    """Arguments of `Client`."""

    service_client: Required[ServiceClient]
    namespace: Required[str]
    data_converter: Required[DataConverter]
    plugins: Required[Sequence[Plugin]]
    interceptors: Required[Sequence[Interceptor]]
    default_workflow_query_reject_condition: Required[QueryRejectCondition | None]
    header_codec_behavior: Required[HeaderCodecBehavior]
