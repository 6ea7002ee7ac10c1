"""The services of a server, as a client calls them: connection, metadata, retries, errors, one method per RPC.

May live here: whatever is needed to make one RPC well. May not: what workflows, schedules or activities mean
(`perdure.client`). Behind `ServiceClient` is one seam, `perdure.service.transport.Transport`; the address decides
which transport carries the calls.
"""

from perdure import __version__
from perdure.service._client import ServiceClient
from perdure.service._config import (
    ConnectConfig,
    DnsLoadBalancingConfig,
    GrpcCompression,
    HttpConnectProxyConfig,
    KeepAliveConfig,
    PayloadLimitsConfig,
    RetryConfig,
    TLSConfig,
)
from perdure.service._errors import ClientClosedError, ClientConnectError, RPCError, RPCStatusCode
from perdure.service._methods import (
    CloudService,
    HealthService,
    OperatorService,
    TestService,
    WorkflowService,
)
from perdure.service.transport import Transport

__all__ = [
    "ClientClosedError",
    "ClientConnectError",
    "CloudService",
    "ConnectConfig",
    "DnsLoadBalancingConfig",
    "GrpcCompression",
    "HealthService",
    "HttpConnectProxyConfig",
    "KeepAliveConfig",
    "OperatorService",
    "PayloadLimitsConfig",
    "RPCError",
    "RPCStatusCode",
    "RetryConfig",
    "ServiceClient",
    "TLSConfig",
    "TestService",
    "Transport",
    "WorkflowService",
    "__version__",
]
