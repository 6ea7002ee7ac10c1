"""The gRPC door: bytes to a request, a call of the service, bytes or a status back.

Requests are taken raw and parsed here, so that a malformed or oversized one gets a typed answer. All methods are
generic handlers: grpc's asyncio server waits on every registered method separately, so each call would cost more the
more methods there are.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from perdure.core.errors import PerdureError
from perdure.server.config import ServerConfig
from perdure.server.doors.standard_services import StandardServices
from perdure.server.doors.status import (
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    Status,
    internal,
    status_of,
)
from perdure.server.service.call import Call
from perdure.server.service.service import Method, Service

logger = logging.getLogger(__name__)

TRANSPORT_RECEIVE_BYTES: Final = 128 * 1024 * 1024
"""What the transport takes in. Above the real limit, because clients look for a text that only we can send."""
KEEPALIVE_TIME_S: Final = 60
KEEPALIVE_TIMEOUT_S: Final = 10
_DETAILS_KEY: Final = "grpc-status-details-bin"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

FLUSH_S: Final = 0.1
"""How long the last answers may take to leave when the door stops."""
_STOPPING: Final = Status(UNAVAILABLE, "the server is stopping", b"")

Serve = Callable[[bytes, Any], Awaitable[bytes]]


class PortError(PerdureError):
    """The address cannot be listened on: in use, not ours, or not an address."""


class GrpcDoor:
    """A gRPC server over a service.

    Args:
        service: what is served.
        config: address, message size, pings, concurrency.
        new_id: makes ids by which a masked error is found in the log.
    """

    def __init__(self, service: Service, config: ServerConfig, new_id: Callable[[], str]) -> None:
        self._config = config
        self._standard = StandardServices()
        self._under_way = _CallsUnderWay()
        self._server: grpc.aio.Server | None = None
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            path: grpc.unary_unary_rpc_method_handler(
                _server_function(service, method, config, new_id, self._under_way)
            )
            for path, method in service.methods.items()
        }
        self.port = 0

    async def start(self) -> None:
        """Binds the address and serves.

        Raises:
            PortError: it cannot be bound; the message says why.
        """
        self._server = grpc.aio.server(
            options=_options(self._config), maximum_concurrent_rpcs=self._config.max_concurrent_calls
        )
        self._server.add_generic_rpc_handlers((_Methods(self._handlers), self._standard))
        address = await _bindable_address(self._config.host, self._config.port)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise PortError(f"cannot listen on {address}: {error}") from error
        await self._standard.start()
        await self._server.start()

    def turn_away(self) -> None:
        """Answers new calls with UNAVAILABLE from now on; those under way go on."""
        self._under_way.stopping = True

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, lets those under way finish for `grace_s` seconds, then cancels them."""
        server, self._server = self._server, None
        if server is None:
            return
        self.turn_away()
        await self._standard.stop()
        # grpc would cancel calls that come in while it stops, and clients do not repeat a cancelled call.
        await self._under_way.drain(grace_s)
        await server.stop(FLUSH_S)


class _CallsUnderWay:
    """Counts calls, so that a stopping door knows when the last one is done."""

    def __init__(self) -> None:
        self.count = 0
        self.stopping = False
        self._idle = asyncio.Event()

    def done(self) -> None:
        """One call less."""
        self.count -= 1
        if self.stopping and self.count == 0:
            self._idle.set()

    async def drain(self, grace_s: float) -> None:
        """Waits until there is none, at most `grace_s` seconds. New ones must be turned away already."""
        if self.count:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), grace_s)


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a method path."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]) -> None:
        self._handlers = handlers

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(handler_call_details.method)


class Metadata(Mapping[str, str]):
    """A call's headers, made into a dictionary when first asked for: most calls never are.

    Of a header that came more than once, the last value counts; binary headers are left out.
    """

    __slots__ = ("_context", "_values")

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._values: dict[str, str] | None = None

    def _loaded(self) -> dict[str, str]:
        if self._values is None:
            pairs: Any = self._context.invocation_metadata() or ()
            self._values = {key: value for key, value in pairs if isinstance(value, str)}
        return self._values

    def __getitem__(self, key: str) -> str:
        return self._loaded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


def _server_function(
    service: Service,
    method: Method,
    config: ServerConfig,
    new_id: Callable[[], str],
    under_way: _CallsUnderWay,
) -> Serve:
    """The function that serves one method."""
    path, parse, max_bytes = method.path, method.request.FromString, config.max_receive_bytes
    call_service = service.call

    async def serve(data: bytes, context: Any) -> bytes:
        under_way.count += 1
        try:
            if len(data) > max_bytes:
                status = _too_large(len(data), max_bytes)
            elif under_way.stopping:
                status = _STOPPING
            else:
                request = parse(data)
                response = await call_service(
                    path, request, Call(context.time_remaining(), Metadata(context))
                )
                return response.SerializeToString()
        except DecodeError as error:
            status = Status(INVALID_ARGUMENT, f"the request is not a {method.request.__name__}: {error}", b"")
        except (
            Exception
        ) as error:  # Whatever a handler raises must become one answer, and the server stays up.
            status = status_of(error) or _log_bug(error, path, new_id)
        finally:
            under_way.done()
        await _abort(context, status)
        return b""

    return serve


def _too_large(size: int, max_bytes: int) -> Status:
    # The SDKs' core recognises this text and fails the task instead of repeating the request.
    text = f"grpc: received message larger than max ({size} vs. {max_bytes})"
    return Status(RESOURCE_EXHAUSTED, text, b"")


def _log_bug(error: Exception, path: str, new_id: Callable[[], str]) -> Status:
    error_id = new_id()[:8]
    logger.error("%s failed, error id %s", path, error_id, exc_info=error)
    return internal(error_id)


async def _abort(context: Any, status: Status) -> None:
    trailing = ((_DETAILS_KEY, status.details),) if status.details else ()
    await context.abort(_CODES[status.code], status.message, trailing)


def _options(config: ServerConfig) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", max(TRANSPORT_RECEIVE_BYTES, config.max_receive_bytes)),
        ("grpc.max_send_message_length", -1),
        # Without this a second server on the same port would start and take half of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", round(config.min_ping_interval_s * 1000)),
    )


async def _bindable_address(host: str, port: int) -> str:
    """The one address to listen on: a host name may mean several, of which grpc would be content with any.

    Raises:
        PortError: the host is unknown, or the port is taken or forbidden.
    """
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise PortError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    except UnicodeError as error:
        raise PortError(f"cannot listen on {host}:{port}: this is not a host name") from error
    family, kind, protocol, _, address = min(infos, key=lambda info: info[0] != socket.AF_INET)
    # grpc says only "failed to bind" and logs the reason; the system's own error is what a person can act on.
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise PortError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"
