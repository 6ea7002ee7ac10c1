"""Who may reach this server over HTTP: by which names, and pages of whom. One on this machine is for its users, not for
the pages that they happen to look at."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

ANYTHING: Final = "*"
_HOST_REFUSAL: Final = b'{"code":7,"message":"Host not allowed"}'
_ORIGIN_REFUSAL: Final = b'{"code":7,"message":"Origin not allowed"}'
_SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))


class AllowedHosts:
    """Refuses requests whose Host header is not allowed, and those that would change something and come from a web page
    of another host, before anything of them is read. Browsers send such requests for any page, without asking.

    Args:
        app: gets the others.
        patterns: what the header may be; `*` stands for anything. Pages of hosts that are allowed by name are, too.
    """

    def __init__(self, app: ASGIApp, patterns: Sequence[str]) -> None:
        self._app = app
        self._patterns = tuple(pattern.lower() for pattern in patterns)
        self._named = tuple(pattern for pattern in self._patterns if pattern != ANYTHING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            refused = Response(refusal, status_code=403, media_type="application/json")
            await refused(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> bytes | None:
        host = headers.get("host", "").lower()
        if not _matches(host, self._patterns):
            return _HOST_REFUSAL
        origin = headers.get("origin")
        if origin is None or method in _SAFE_METHODS:
            return None
        page = _host_of(origin)
        return None if page and (page == host or _matches(page, self._named)) else _ORIGIN_REFUSAL


def _matches(host: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(host, pattern) for pattern in patterns)


def _host_of(origin: str) -> str:
    """The host, and the port if it has one, of a page; empty for a page of nobody (`null`)."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
