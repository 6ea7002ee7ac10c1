"""Which names this server may be reached by over HTTP: a page of somebody else's must not reach one on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_REFUSAL: Final = b'{"code":7,"message":"Host not allowed"}'


class AllowedHosts:
    """Refuses requests whose Host header is not allowed, before anything of them is read.

    Args:
        app: gets the others.
        patterns: what the header may be; `*` stands for anything.
    """

    def __init__(self, app: ASGIApp, patterns: Sequence[str]) -> None:
        self._app = app
        self._patterns = tuple(pattern.lower() for pattern in patterns)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        host = Request(scope).headers.get("host", "").lower()
        if any(fnmatchcase(host, pattern) for pattern in self._patterns):
            await self._app(scope, receive, send)
        else:
            refusal = Response(_REFUSAL, status_code=403, media_type="application/json")
            await refusal(scope, receive, send)
