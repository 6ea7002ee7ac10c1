"""The gRPC door: bytes to a request, a call of the service, bytes or a status back."""

from __future__ import annotations

import logging
from collections.abc import Callable

from google.protobuf.message import DecodeError

from perdure.server.addresses import host_and_port
from perdure.server.config import ServerConfig
from perdure.server.doors.http2.calls import Routes, UnaryRoute
from perdure.server.doors.http2.grpc_messages import StatusError
from perdure.server.doors.http2.headers import RequestHeaders
from perdure.server.doors.http2.health import Health
from perdure.server.doors.http2.limits import Limits
from perdure.server.doors.http2.reflection import Reflection
from perdure.server.doors.http2.server import Http2Server
from perdure.server.doors.ports import PortError, why
from perdure.server.doors.status import INVALID_ARGUMENT, answer_to
from perdure.server.service.call import Call
from perdure.server.service.service import Method, Service


class GrpcDoor:
    """A gRPC server over a service.

    Args:
        service: what is served.
        config: address, message size, pings, concurrency.
        new_id: makes ids by which a masked error is found in the log.
    """

    def __init__(self, service: Service, config: ServerConfig, new_id: Callable[[], str]) -> None:
        self._config = config
        self._new_id = new_id
        self._service = service
        self._health: Health | None = None
        self._server: Http2Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Binds the address and serves.

        Raises:
            PortError: it cannot be bound; the message says why.
        """
        config = self._config
        # The library writes decoded headers, credentials among them, to its log at this level.
        logging.getLogger("hpack").setLevel(logging.INFO)
        health = Health(self._service.names)
        unary = {path: _route(self._service, method) for path, method in self._service.methods.items()}
        routes = Routes(unary | health.unary, health.stream | Reflection().stream, self._translate)
        limits = Limits(config.max_receive_bytes, config.min_ping_interval_s, config.max_concurrent_calls)
        server = Http2Server(routes, limits)
        try:
            await server.start(config.host, config.port)
        except (OSError, OverflowError, UnicodeError) as error:
            raise PortError(
                f"cannot listen on {host_and_port(config.host, config.port)}: {why(error)}"
            ) from error
        self._health, self._server, self.port = health, server, server.port

    def turn_away(self) -> None:
        """Answers new calls with UNAVAILABLE from now on; those under way go on."""
        if self._server is not None:
            self._server.turn_away()

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, lets those under way finish for `grace_s` seconds, then cancels them."""
        server, self._server = self._server, None
        if server is None or self._health is None:
            return
        server.turn_away()
        self._health.stop()
        await server.stop(grace_s)

    def _translate(self, error: Exception, path: str) -> StatusError:
        if isinstance(error, StatusError):
            return error
        status = answer_to(error, path, self._new_id)
        return StatusError(status.code, status.message, status.details)


def _route(service: Service, method: Method) -> UnaryRoute:
    """The route of one method."""
    path, parse, call_service = method.path, method.request.FromString, service.call

    async def serve(message: bytes, headers: RequestHeaders) -> bytes:
        try:
            request = parse(message)
        except DecodeError as error:
            text = f"the request is not a {method.request.__name__}: {error}"
            raise StatusError(INVALID_ARGUMENT, text) from error
        response = await call_service(path, request, Call(headers.timeout_s, headers.metadata))
        return response.SerializeToString()

    return serve
