"""The transport over gRPC, on grpcio's asyncio API.

May live here: channels, their options, and the translation of gRPC's errors. May not: retries, metadata rules.
This module is imported by the first client that connects to a gRPC address, because grpcio takes long to import.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

import grpc
import grpc.aio
from google.protobuf.message import Message

from perdure import __version__
from perdure.service._config import CLIENT_NAME, ConnectionSettings, HttpConnectProxyConfig
from perdure.service._errors import (
    ClientClosedError,
    NoGrpcAnswerError,
    RPCError,
    RPCStatusCode,
    closed_under_way,
)
from perdure.service._received import max_receive_bytes, read_message
from perdure.service._tls import credentials_of

ResponseT = TypeVar("ResponseT", bound=Message)

# Smaller requests hardly shrink, and compressing them costs more than sending them.
_COMPRESS_FROM_BYTES: Final = 1024
_RECONNECT_MIN_MS: Final = 100
_RECONNECT_MAX_MS: Final = 5000
_CONNECT_ATTEMPT_MS: Final = 20_000
_DETAILS_KEY: Final = "grpc-status-details-bin"
_IDENTITY_ONLY: Final = 1
_HTTP_STATUS: Final = "Received http2 header with status: "
"""How grpcio begins what it says of an answer that has an HTTP status and none of gRPC's."""


# grpcio's threads do not survive a fork: the process that used it first is the only one that can.
_process: int | None = None


async def open_grpc(settings: ConnectionSettings) -> GrpcTransport:
    """Return a transport to a server. The connection itself is made with the first call.

    Raises:
        ValueError: The TLS settings contradict themselves, or hold what is no certificate.
        TypeError: They hold something else than bytes.
        AssertionError: This process was forked from one that had connected.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    _check_process("create")
    return GrpcTransport(settings)


def _check_process(verb: str) -> None:
    if _process != os.getpid():
        # The class is the official SDK's choice.
        raise AssertionError(
            f"Cannot {verb} client across forks: this process was forked from one that had connected. "
            "Fork before connecting, or start processes with the method spawn."
        )


class GrpcTransport:
    """Calls over one connection per event loop: grpcio's channels belong to the loop they were made in.

    Args:
        settings: Where and how to connect.

    Raises:
        ValueError: The TLS settings contradict themselves, or hold what is no certificate.
        TypeError: They hold something else than bytes.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._credentials = credentials_of(settings.tls_config)
        self._options = _channel_options(settings)
        self._compresses = settings.grpc_compression == "gzip"
        self._channels: dict[asyncio.AbstractEventLoop, _Channel] = {}
        self._current: _Channel | None = None
        self._closed = False
        # Metadata and its items, in one attribute: calls of several threads may swap it.
        self._known: tuple[Mapping[str, str | bytes], tuple[tuple[str, str | bytes], ...]] = ({}, ())

    async def call(
        self,
        service: str,
        rpc_path: str,
        request: Message,
        response_type: type[ResponseT],
        *,
        metadata: Mapping[str, str | bytes],
        timeout: float | None,
    ) -> ResponseT:
        """Make one call; see `perdure.service.transport.Transport.call`."""
        if self._closed:
            raise ClientClosedError
        _check_process("use")
        loop = asyncio.get_running_loop()
        channel = self._current
        if channel is None or channel.loop is not loop:
            channel = self._channel_of(loop)
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        known = self._known
        if known[0] is not metadata:
            known = self._known = (metadata, tuple(metadata.items()))
        data = request.SerializeToString()
        gzip = self._compresses and len(data) >= _COMPRESS_FROM_BYTES
        call = channel.method(rpc_path)(
            data,
            timeout=timeout,
            metadata=known[1],
            compression=grpc.Compression.Gzip if gzip else None,
        )
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from None
        except asyncio.CancelledError:
            # grpcio says the same whether this task was cancelled, the server answered so, or the channel was closed.
            if task is not None and task.cancelling() > before:
                raise
            if channel.closed:
                raise closed_under_way() from None
            raise RPCError(await call.details() or "cancelled", RPCStatusCode.CANCELLED, b"") from None
        return read_message(rpc_path, response_type, answer)

    async def close(self) -> None:
        """Close the connections. Those of other event loops are closed with the loops."""
        self._closed = True
        self._current = None
        loop = asyncio.get_running_loop()
        channel = self._channels.pop(loop, None)
        self._channels.clear()
        if channel is not None:
            await channel.close()

    def _channel_of(self, loop: asyncio.AbstractEventLoop) -> _Channel:
        # A copy: other threads add their loops meanwhile.
        for other in [other for other in list(self._channels) if other.is_closed()]:
            self._channels.pop(other, None)
        channel = self._channels.get(loop)
        if channel is None:
            channel = self._channels[loop] = _Channel(
                loop, _target(self._settings), self._credentials, self._options
            )
        self._current = channel
        return channel


class _Channel:
    """A grpcio channel and its methods, made on first use."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: str,
        credentials: grpc.ChannelCredentials | None,
        options: list[tuple[str, Any]],
    ) -> None:
        self.loop = loop
        self.closed = False
        self._methods: dict[str, Any] = {}
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=options)

    def method(self, path: str) -> Any:
        """Return what calls the method of that path with bytes and returns bytes."""
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        return method

    async def close(self) -> None:
        """Close the connection at once; calls in flight are cancelled."""
        self.closed = True
        await self._channel.close(grace=None)


def _target(settings: ConnectionSettings) -> str:
    return f"dns:///{settings.target}" if settings.dns_load_balancing_config else settings.target


def _channel_options(settings: ConnectionSettings) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", f"{CLIENT_NAME}/{__version__}"),
        ("grpc.max_receive_message_length", max_receive_bytes()),
        ("grpc.max_send_message_length", -1),
        # Clients do not share connections, nor the waits after failed ones.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_ATTEMPT_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MS),
        # Repeating calls is the service client's affair.
        ("grpc.enable_retries", 0),
    ]
    keep_alive = settings.keep_alive_config
    if keep_alive is not None:
        options += [
            ("grpc.keepalive_time_ms", keep_alive.interval_millis),
            ("grpc.keepalive_timeout_ms", keep_alive.timeout_millis),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ]
    tls = settings.tls_config
    if tls is not None:
        name = tls.verification_server_name or tls.domain
        if name is not None:
            # Without the second one, the first would be the authority too. gRPC accepts no port in it here.
            authority = tls.domain or settings.target.rpartition(":")[0] or settings.target
            options += [("grpc.ssl_target_name_override", name), ("grpc.default_authority", authority)]
    if settings.grpc_compression == "none":
        options.append(("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY))
    proxy = settings.http_connect_proxy_config
    # Without a proxy of its own a client goes directly, whatever the environment says.
    options.append(("grpc.http_proxy", _proxy_url(proxy)) if proxy else ("grpc.enable_http_proxy", 0))
    balancing = settings.dns_load_balancing_config
    if balancing is not None:
        options += [
            ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
            ("grpc.dns_min_time_between_resolutions_ms", balancing.resolution_interval_millis),
        ]
    return options


def _proxy_url(proxy: HttpConnectProxyConfig) -> str:
    login = ""
    if proxy.basic_auth is not None:
        login = ":".join(quote(part, safe="") for part in proxy.basic_auth) + "@"
    return f"http://{login}{proxy.target_host}"


def _rpc_error(error: grpc.aio.AioRpcError) -> RPCError:
    raw = b""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            raw = value if isinstance(value, bytes) else value.encode()
    number: int = error.code().value[0]
    text = error.details() or ""
    if text.startswith(_HTTP_STATUS):
        return NoGrpcAnswerError(f"{text}: what answers there is no gRPC server", RPCStatusCode(number), raw)
    return RPCError(text, RPCStatusCode(number), raw)
