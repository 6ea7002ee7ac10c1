"""How to connect: address, TLS, retries, keep-alive, proxy, compression, warnings about sizes.

May live here: values a user sets and what follows from them alone. May not: anything that opens a connection.
"""

from __future__ import annotations

import os
import re
import socket
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from perdure.service._errors import ClientConnectError
from perdure.service.transport import SCHEMES, scheme_of

if TYPE_CHECKING:
    from perdure.runtime import Runtime

CLIENT_NAME = "perdure-python"
"""What the client calls itself to a server (header `client-name`)."""


@dataclass(frozen=True)
class TLSSettings:
    """Checked TLS settings, as a transport takes them."""

    server_root_ca_cert: bytes | None
    domain: str | None
    client_cert: bytes | None
    client_private_key: bytes | None
    verification_server_name: str | None


@dataclass
class TLSConfig:
    """How a TLS connection is made and what is trusted."""

    server_root_ca_cert: bytes | None = None
    """Certificates (PEM) that may have signed the server's; None means those the system trusts (its bundle, or that
    of `SSL_CERT_FILE` and `SSL_CERT_DIR`)."""

    domain: str | None = None
    """Name sent to the server (SNI and HTTP/2 authority) and checked against its certificate, instead of the host's."""

    client_cert: bytes | None = None
    """The client's own certificate (PEM) for mutual TLS; needs `client_private_key`."""

    client_private_key: bytes | None = None
    """Private key (PEM) of `client_cert`."""

    verification_server_name: str | None = None
    """Name the server's certificate must carry, instead of `domain` or the host's, which stay the authority. Needs
    `server_root_ca_cert`. grpcio can only check the name that it asks for, so it sends this name as SNI too."""

    def _to_bridge_config(self) -> TLSSettings:
        return TLSSettings(
            server_root_ca_cert=self.server_root_ca_cert,
            domain=self.domain,
            client_cert=self.client_cert,
            client_private_key=self.client_private_key,
            verification_server_name=self.verification_server_name,
        )


@dataclass
class RetryConfig:
    """How failed calls are repeated."""

    initial_interval_millis: int = 100
    """Wait before the first repetition, in milliseconds."""
    randomization_factor: float = 0.2
    """Each wait is changed at random by up to this part of it."""
    multiplier: float = 1.5
    """Each wait is this many times the one before."""
    max_interval_millis: int = 5000
    """Longest wait, in milliseconds."""
    max_elapsed_time_millis: int | None = 10000
    """No repetition starts later than this after the first try, in milliseconds; None means no limit."""
    max_retries: int = 10
    """Most tries of one call; 0 means no limit."""


# What applies when a user sets nothing; it differs from `RetryConfig()` in the multiplier, as in the official SDK.
DEFAULT_RETRY = RetryConfig(multiplier=1.7)


@dataclass(frozen=True)
class KeepAliveConfig:
    """When the connection is checked and when it counts as dead."""

    interval_millis: int = 30000
    """Milliseconds between pings."""
    timeout_millis: int = 15000
    """Milliseconds in which a ping must be answered, or the connection is closed."""
    default: ClassVar[KeepAliveConfig]
    """What applies when nothing is set."""


KeepAliveConfig.default = KeepAliveConfig()


@dataclass(frozen=True)
class HttpConnectProxyConfig:
    """An HTTP proxy that connections go through by `CONNECT`."""

    target_host: str
    """`host:port` of the proxy."""
    basic_auth: tuple[str, str] | None = None
    """User and password for the proxy."""


@dataclass(frozen=True)
class DnsLoadBalancingConfig:
    """Spread calls over all addresses of the target's name. Not used together with a proxy."""

    resolution_interval_millis: int = 30000
    """Milliseconds between look-ups of the name."""
    default: ClassVar[DnsLoadBalancingConfig]
    """The default look-up interval."""


DnsLoadBalancingConfig.default = DnsLoadBalancingConfig()


class GrpcCompression(ABC):
    """Compression of gRPC messages; the modes are constants of this class."""

    NONE: ClassVar[GrpcCompression]
    """Requests are not compressed, and compressed answers are not asked for."""

    GZIP: ClassVar[GrpcCompression]
    """Requests that are worth it are compressed with gzip, and answers may be."""

    @abstractmethod
    def _to_bridge_config(self) -> str:
        """The mode's name."""


@dataclass(frozen=True)
class _NoGrpcCompression(GrpcCompression):
    def _to_bridge_config(self) -> str:
        return "none"


@dataclass(frozen=True)
class _GzipGrpcCompression(GrpcCompression):
    def _to_bridge_config(self) -> str:
        return "gzip"


GrpcCompression.NONE = _NoGrpcCompression()
GrpcCompression.GZIP = _GzipGrpcCompression()


@dataclass(frozen=True)
class PayloadLimitsConfig:
    """Sizes beyond which a warning is logged; what is too big for the server is the server's to refuse."""

    payloads_warn_size: int = 512 * 1024
    """Bytes of one field of payloads; 0 means no warning."""

    memo_warn_size: int = 2 * 1024
    """Bytes of a memo; 0 means no warning."""


@dataclass(frozen=True)
class ConnectionSettings:
    """What a `ConnectConfig` comes to: everything decided, ready for a transport."""

    target_url: str
    tls_config: TLSSettings | None
    retry_config: RetryConfig
    keep_alive_config: KeepAliveConfig | None
    http_connect_proxy_config: HttpConnectProxyConfig | None
    dns_load_balancing_config: DnsLoadBalancingConfig | None
    grpc_compression: str
    connect_timeout: timedelta | None

    @property
    def target(self) -> str:
        """The address without `http://` or `https://`."""
        return self.target_url.partition("://")[2]


@dataclass
class ConnectConfig:
    """Everything needed to connect to a server or to open an embedded engine."""

    target_host: str
    """`host:port` of a server, or the address of an embedded engine such as `sqlite:///orders.db`."""
    api_key: str | None = None
    """Sent as bearer token in `authorization`, unless the metadata has that key."""
    tls: bool | TLSConfig | None = None
    """None: TLS exactly if there is an API key. True: TLS with defaults. False: no TLS."""
    retry_config: RetryConfig | None = None
    keep_alive_config: KeepAliveConfig | None = KeepAliveConfig.default
    rpc_metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    """Sent with every call; keys of binary values end in `-bin`."""
    identity: str = ""
    """Who the client says it is; by default process id and host name."""
    lazy: bool = False
    """Connect with the first call instead of at once."""
    runtime: Runtime | None = None
    http_connect_proxy_config: HttpConnectProxyConfig | None = None
    dns_load_balancing_config: DnsLoadBalancingConfig | None = None
    grpc_compression: GrpcCompression = GrpcCompression.GZIP
    payload_limits: PayloadLimitsConfig = field(default_factory=PayloadLimitsConfig)
    connect_timeout: timedelta | None = None
    """How long connecting may take; None means as long as any other call, 30 seconds."""

    def __post_init__(self) -> None:
        """Fill in the identity."""
        if not self.identity:
            self.identity = f"{os.getpid()}@{socket.gethostname()}"

    def _to_bridge_config(self) -> ConnectionSettings:
        target_url, tls = self._target_and_tls()
        proxy = self.http_connect_proxy_config
        if proxy is not None and not _HOST_AND_PORT.fullmatch(proxy.target_host):
            raise ValueError(
                f"target_host of a proxy must be HOST:PORT, without a scheme: {proxy.target_host!r}"
            )
        if not isinstance(self.connect_timeout, timedelta | None):
            raise TypeError(f"connect_timeout must be a timedelta, not {type(self.connect_timeout).__name__}")
        return ConnectionSettings(
            target_url=target_url,
            tls_config=tls,
            retry_config=self.retry_config or DEFAULT_RETRY,
            keep_alive_config=self.keep_alive_config,
            http_connect_proxy_config=proxy,
            dns_load_balancing_config=None if proxy else self.dns_load_balancing_config,
            grpc_compression=self.grpc_compression._to_bridge_config(),
            connect_timeout=self.connect_timeout,
        )

    def _target_and_tls(self) -> tuple[str, TLSSettings | None]:
        if not isinstance(self.target_host, str):
            raise TypeError(
                "target_host must be a text such as 'localhost:7233' or 'sqlite:///orders.db', not "
                f"{type(self.target_host).__name__}"
            )
        tls = self.tls._to_bridge_config() if isinstance(self.tls, TLSConfig) else None
        wants_tls = bool(self.tls) or (self.tls is None and self.api_key is not None)
        scheme = scheme_of(self.target_host)
        _check_address(self.target_host, scheme, wants_tls)
        if scheme is not None:
            if scheme not in SCHEMES:
                warnings.warn(
                    f"The address {self.target_host!r} should be given as host:port, without {scheme}://; "
                    "this will be an error in a later version.",
                    stacklevel=6,  # who called `Client.connect`
                )
                if scheme == "https" and tls is None:
                    tls = TLSConfig()._to_bridge_config()
            return self.target_host, tls
        if not wants_tls:
            return f"http://{self.target_host}", None
        return f"https://{self.target_host}", tls or TLSConfig()._to_bridge_config()


_HTTP = frozenset({"http", "https"})
_ENGINE_WITHOUT_SLASHES = re.compile(r"(sqlite|postgresql)\d*:", re.IGNORECASE)
_LARGEST_PORT = 65_535
_NUMBER = re.compile(r"-?\d+")
_HOST_AND_PORT = re.compile(r"[^/\s]+:\d+")


def _check_address(address: str, scheme: str | None, wants_tls: bool) -> None:
    """Refuse what would end at another place than it says, or in a message about something else.

    Raises:
        ClientConnectError: It is no address; the message says what one looks like.
    """
    wrong = None
    shown = address
    if scheme is None:
        if _ENGINE_WITHOUT_SLASHES.match(address):
            wrong = (
                "the address of an engine in this process is sqlite:///FILE, or sqlite:// for one in memory"
            )
        elif not wants_tls and ":" not in address:
            wrong = f"it has no port; a server usually listens on 7233: {address or 'localhost'}:7233"
    elif scheme == "unix":
        wrong = "a socket in the file system is unix:/PATH, without //"
    elif scheme not in SCHEMES and scheme not in _HTTP:
        shown = f"{scheme}://..."  # the rest may hold a password
        meant = " (for PostgreSQL it is postgresql://)" if scheme == "postgres" else ""
        wrong = f"nothing is known about {scheme}://{meant}; write HOST:PORT of a server, or sqlite:///FILE"
    port = address.rpartition(":")[2]
    if scheme not in SCHEMES:
        if _NUMBER.fullmatch(port) and not 0 < int(port) <= _LARGEST_PORT:
            wrong = f"there is no port {port}"
        if address != address.strip():
            wrong = (
                "it begins or ends with a space or a line break, as what is read from a file may: strip it"
            )
    if wrong is not None:
        raise ClientConnectError(f"Failed client connect: {shown!r} is no address: {wrong}.")
