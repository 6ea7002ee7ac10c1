"""Routes of the Nexus protocol: for callers outside of this server, and for completions of their operations."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.nexus import http, outcomes
from perdure.core.nexus.http import Asked, Reply
from perdure.server.nexus_http import NexusHttp, RequestRefused

_CANCEL: Final = "cancel"
_VERBS: Final = ("POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Which are answered in the words of this protocol; it uses the first."""


def routes(nexus: NexusHttp) -> list[Route]:
    """The routes, to be mounted at the root of an application.

    Args:
        nexus: serves them.
    """

    async def by_endpoint(request: Request) -> Response:
        return await _operate(request, nexus, 5)

    async def by_queue(request: Request) -> Response:
        return await _operate(request, nexus, 6)

    async def complete(request: Request) -> Response:
        asked = await _read(request)
        if isinstance(asked, Reply):
            return _response(asked)
        if request.method != "POST":
            return _other_verb(asked, request.method)
        return _response(await nexus.complete(asked, request.path_params.get("namespace")))

    queue = "/namespaces/{namespace}/task-queues/{task_queue:path}/nexus-services/{rest:path}"
    return [
        Route("/nexus/endpoints/{endpoint}/services/{rest:path}", by_endpoint, methods=_VERBS),
        Route(queue, by_queue, methods=_VERBS),
        Route("/namespaces/{namespace}/nexus/callback", complete, methods=_VERBS),
        Route("/nexus/callback", complete, methods=_VERBS),
    ]


async def _operate(request: Request, nexus: NexusHttp, service_at: int) -> Response:
    """Serves a start or a cancellation.

    Args:
        request: the request.
        nexus: serves it.
        service_at: which part of the path names the service; the ones before say whose it is.
    """
    asked = await _read(request)
    if isinstance(asked, Reply):
        return _response(asked)
    parts = _parts(request)
    named, rest = parts[:service_at], parts[service_at:]
    try:
        if named[1] == "nexus":
            queue, name = nexus.by_endpoint(named[3])
        else:
            queue, name = nexus.by_queue(named[2], named[4])
    except RequestRefused as error:
        return _response(http.refusal(error.refused, whole=asked.wants_whole_failures))
    if request.method != "POST":
        return _other_verb(asked, request.method)
    is_cancel = len(rest) in (3, 4) and rest[-1] == _CANCEL
    if len(rest) != 2 and not is_cancel:
        return _refusal(asked, "NOT_FOUND", "not found")
    token: str | None = None
    if is_cancel:
        by_header = asked.headers.get(http.TOKEN, "") or asked.query.get("token", "")
        token = rest[2] if len(rest) == 4 else by_header
        if not token:
            return _refusal(asked, "BAD_REQUEST", "missing operation token")
    return _response(await nexus.operate(asked, queue, name, rest[0], rest[1], token))


def _parts(request: Request) -> list[str]:
    """The parts of the path as they were meant: a slash that is escaped does not divide it."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    path = raw.partition(b"?")[0].decode("ascii", "replace")
    return [unquote(part) for part in path.removeprefix(request.scope.get("root_path", "")).split("/")]


async def _read(request: Request) -> Asked | Reply:
    """The request, or the answer to one that is too large."""
    headers = {name.lower(): ",".join(request.headers.getlist(name)) for name in request.headers}
    query = dict(request.query_params)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > http.MAX_BODY_BYTES:
            refused = outcomes.refused("BAD_REQUEST", "http: request body too large")
            return http.refusal(refused, whole=Asked(headers).wants_whole_failures)
    return Asked(headers, query, bytes(body))


def _other_verb(asked: Asked, verb: str) -> Response:
    return _refusal(asked, "BAD_REQUEST", f'invalid request method: expected POST, got "{verb}"')


def _refusal(asked: Asked, kind: str, message: str) -> Response:
    return _response(http.refusal(outcomes.refused(kind, message), whole=asked.wants_whole_failures))


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    for name, value in reply.headers:
        response.headers.append(name, value)
    return response
