"""Serves the routes: one request is one call of the service, cancelled when its caller goes away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as AppRoute

from perdure.core.errors import InvalidArgumentError
from perdure.server.doors.http import openapi
from perdure.server.doors.http.messages import read_request, write_message, write_status
from perdure.server.doors.http.routes import NoRouteError, Routes
from perdure.server.doors.status import Status, answer_to
from perdure.server.service.call import Call
from perdure.server.service.service import Service

CONTENT_TYPE: Final = "application/json"
CLIENT_CLOSED_REQUEST: Final = 499
VERBS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
HTTP_STATUSES: Final = {
    1: CLIENT_CLOSED_REQUEST, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400,
    12: 501, 13: 500, 14: 503, 15: 500, 16: 401,
}  # fmt: skip
"""gRPC code to HTTP status, as the gateway of the official server has it."""
_NOT_FOUND: Final = Status(5, "Not Found", b"")
_OTHER_VERB: Final = Status(12, "Method Not Allowed", b"")
_METADATA_PREFIX: Final = "grpc-metadata-"
_ACCEPT_PRETTY, _ACCEPT_LONG = "+pretty", "+no-payload-shorthand"


class HttpApp:
    """The requests of the HTTP/JSON door.

    Args:
        service: what is served.
        max_body_bytes: largest body of a request.
        new_id: makes ids by which a masked error is found in the log.
    """

    def __init__(
        self,
        service: Service,
        max_body_bytes: int,
        new_id: Callable[[], str],
    ) -> None:
        self._service = service
        self._max_body_bytes = max_body_bytes
        self._new_id = new_id
        self._routes = Routes()
        self._description: bytes | None = None

    def routes(self) -> list[BaseRoute]:
        """Its routes; the last one matches everything, so that whatever else is served comes before them."""
        return [
            AppRoute("/openapi.json", self._openapi),
            AppRoute("/openapi.yaml", self._openapi),
            AppRoute("/{path:path}", self._serve, methods=VERBS),
        ]

    async def _serve(self, request: Request) -> Response:
        is_pretty, has_short_payloads = _form_of_answer(request)
        try:
            message = await self._answer(request)
            body = write_message(message, is_pretty=is_pretty, has_short_payloads=has_short_payloads)
        except NoRouteError as error:
            return _failure(_OTHER_VERB if error.is_other_verb else _NOT_FOUND, is_pretty)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except Exception as error:  # The door's boundary: every error becomes an answer, bugs a masked one.
            return _failure(answer_to(error, request.url.path, self._new_id), is_pretty)
        return Response(body, media_type=CONTENT_TYPE)

    async def _answer(self, request: Request) -> Message:
        raw_path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1")
        route, path_values = self._routes.find(request.method, raw_path)
        body = await self._body(request) if route.has_body else b""
        query = () if route.has_body else request.query_params.multi_items()
        message = read_request(route.request, body, path_values, query)
        call = Call(_timeout_s(request), _metadata(request))
        return await _until_caller_goes(request, self._service.call(route.path, message, call))

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._max_body_bytes:
                raise InvalidArgumentError(
                    f"the body is larger than {self._max_body_bytes} bytes, the most that is accepted"
                )
        return bytes(body)

    async def _openapi(self, request: Request) -> Response:
        if self._description is None:
            self._description = openapi.describe(self._routes.all)
        # JSON is YAML, too.
        is_yaml = request.url.path.endswith(".yaml")
        return Response(self._description, media_type="application/yaml" if is_yaml else CONTENT_TYPE)


def _failure(status: Status, is_pretty: bool) -> Response:
    http_status = HTTP_STATUSES.get(status.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    return Response(write_status(status, is_pretty), status_code=http_status, media_type=CONTENT_TYPE)


def _form_of_answer(request: Request) -> tuple[bool, bool]:
    """Whether the answer is to be pretty, and whether payloads are to be short."""
    accept, query = request.headers.get("accept", ""), request.query_params
    return "pretty" in query or _ACCEPT_PRETTY in accept, not (
        "noPayloadShorthand" in query or _ACCEPT_LONG in accept
    )


def _metadata(request: Request) -> dict[str, str]:
    return {name.removeprefix(_METADATA_PREFIX): value for name, value in request.headers.items()}


_NUMBER: Final = re.compile("[0-9]{1,8}")
_UNITS_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def _timeout_s(request: Request) -> float | None:
    text = request.headers.get("grpc-timeout", "")
    if not text:
        return None
    number, unit = text[:-1], _UNITS_S.get(text[-1])
    if unit is None or not _NUMBER.fullmatch(number):
        raise InvalidArgumentError(f"invalid grpc-timeout: {text}")
    return int(number) * unit


async def _until_caller_goes(request: Request, call: Coroutine[Any, Any, Message]) -> Message:
    """What the call returns; it is cancelled when the connection is closed before."""
    serving = asyncio.ensure_future(call)
    leaving = asyncio.ensure_future(_caller_gone(request))
    try:
        await asyncio.wait((serving, leaving), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            return serving.result()
        raise ClientDisconnect
    finally:
        for task in (serving, leaving):
            task.cancel()
        await asyncio.gather(serving, leaving, return_exceptions=True)


async def _caller_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
