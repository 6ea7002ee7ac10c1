"""The application: finds the handler of a path, gives it a context, and writes what it answers."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.service import ClientConnectError, RPCError, ServiceClient
from perdure.ui import preferences as prefs
from perdure.ui.config import LIVE_INTERVAL_MS, MAX_FORM_BYTES, MAX_UPLOAD_BYTES, UiConfig
from perdure.ui.context import Context
from perdure.ui.page import Answer, Download, Later, Page, Redirect, RefusedError
from perdure.ui.problems import http_status, problem
from perdure.ui.rendering import assets, environment
from perdure.ui.routes import find
from perdure.ui.security import HEADERS, SAFE_METHODS, is_allowed_host, is_same_origin

logger = logging.getLogger("perdure.ui")

_MEDIA_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_GZIP_FROM_BYTES: Final = 2_000
_MAIN: Final = b'<main id="main"'
"""Where the frame of a page ends and its contents begin."""
_MISTAKE: Final = "This page failed because of a mistake in Perdure; its log says more."
_YEAR_S: Final = 365 * 86_400
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_UPLOAD_TYPE: Final = "multipart/form-data"
_MOST_PARTS: Final = 100
"""Files, and other fields, of a form with files in it."""
_MOST_BYTES: Final = {_FORM_TYPE: MAX_FORM_BYTES, _UPLOAD_TYPE: MAX_UPLOAD_BYTES}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, read: its path without public path and `.json`, and whether JSON is wanted."""

    path: str
    is_json: bool


class UiApp:
    """The web UI as an ASGI application.

    Args:
        client: calls the server; the UI neither connects nor closes it.
        config: how it is set up.
        now_ns: the clock.
    """

    def __init__(
        self, client: ServiceClient, config: UiConfig, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._client = client
        self._config = config
        self._now_ns = now_ns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response: ASGIApp
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        raw = request.scope.get("raw_path") or quote(request.url.path).encode()
        path = raw.decode("latin-1").partition("?")[0].removeprefix(self._config.public_path)
        # Pages have links to themselves: with two slashes they would lead to another host.
        path = "/" + path.lstrip("/")
        if path.startswith("/static/"):
            return self._asset(path.removeprefix("/static/"))
        if path == "/favicon.ico":  # browsers ask for it beside pages that are not HTML
            return self._asset("icon.svg")
        wants_json = path.endswith(".json")
        asked = _Asked(
            path.removesuffix(".json") or "/",
            wants_json or request.headers.get("accept", "").startswith("application/json"),
        )
        preferences = prefs.read(request.cookies.get(prefs.COOKIE, ""))
        context: Context | None = None
        try:
            self._check(request)
            handler, names = find(request.method, asked.path)
            context = await self._context(request, asked, names, preferences)
            answer = await handler(context)
            if isinstance(answer, Later) and not _may_stream(request, context):
                answer = await answer.whole()
            return self._write(request, context, answer)
        except ClientDisconnect:
            raise
        except Exception as error:  # The boundary of the application: whatever it is becomes a page.
            answer = _page_of(error, asked.path)
        if context is None:
            context = self._plain_context(request, asked, preferences)
        return self._write(request, context, answer)

    def _check(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if not is_allowed_host(host, self._config.hosts):
            raise RefusedError(
                421,
                f"This UI is not reached by the name {host!r}; the one who runs it can allow that (--allow-host).",
            )
        if request.method not in SAFE_METHODS and not is_same_origin(request.headers):
            raise RefusedError(403, "This request came from another site's page and was refused.")

    async def _context(
        self, request: Request, asked: _Asked, names: dict[str, str], preferences: prefs.Preferences
    ) -> Context:
        form: dict[str, list[str]] = {}
        if request.method not in SAFE_METHODS:
            form = await _read_form(request)
        return self._plain_context(request, asked, preferences, names, form)

    def _plain_context(
        self,
        request: Request,
        asked: _Asked,
        preferences: prefs.Preferences,
        names: dict[str, str] | None = None,
        form: dict[str, list[str]] | None = None,
    ) -> Context:
        authorization = request.headers.get("authorization", "")
        token = unquote(request.cookies.get(prefs.TOKEN_COOKIE, ""))
        if not authorization and token:
            authorization = f"Bearer {token}"
        return Context(
            self._client,
            self._config,
            names=names or {},
            query=dict(request.query_params),
            form=form or {},
            preferences=preferences,
            metadata={"authorization": authorization} if _is_header_value(authorization) else {},
            path=asked.path,
            now_ns=self._now_ns(),
            is_json=asked.is_json,
            method=request.method,
        )

    def _write(self, request: Request, context: Context, answer: Answer) -> Response:
        response: Response
        if isinstance(answer, Page):
            response = _page(request, context, answer)
        elif isinstance(answer, Later):
            response = _later(request, context, answer)
        elif isinstance(answer, Redirect):
            response = self._redirect(context, answer)
        else:
            response = _download(answer)
        response.headers.update(HEADERS)
        return response

    def _redirect(self, context: Context, answer: Redirect) -> Response:
        if context.is_json:
            response = _json({"done": answer.done, "url": answer.url}, 200)
        else:
            response = Response(status_code=303, headers={"Location": answer.url})
            if answer.done:
                _set_cookie(response, context, prefs.FLASH_COOKIE, quote(answer.done), max_age_s=30)
        if answer.preferences is not None:
            _set_cookie(response, context, prefs.COOKIE, prefs.write(answer.preferences), max_age_s=_YEAR_S)
        if answer.token is not None:
            _set_cookie(
                response,
                context,
                prefs.TOKEN_COOKIE,
                quote(answer.token),
                max_age_s=None if answer.token else 0,
            )
        return response

    def _asset(self, name: str) -> Response:
        data = assets().get(name)
        if data is None:
            return Response("not found", status_code=404, headers=HEADERS)
        media_type = _MEDIA_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        headers = {**HEADERS, "Cache-Control": f"public, max-age={_YEAR_S}, immutable"}
        return Response(data, media_type=media_type, headers=headers)


def _is_header_value(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()


async def _read_form(request: Request) -> dict[str, list[str]]:
    content_type = request.headers.get("content-type", _FORM_TYPE)
    most = next((most for kind, most in _MOST_BYTES.items() if content_type.startswith(kind)), None)
    if most is None:
        raise RefusedError(415, f"Forms are sent as {' or '.join(_MOST_BYTES)}.")
    body = _limited(request, most)
    try:
        if content_type.startswith(_UPLOAD_TYPE):
            return await _read_upload(request, body)
        whole = b"".join([chunk async for chunk in body])
        return parse_qs(whole.decode(), keep_blank_values=True, max_num_fields=2_000)
    except (ValueError, MultiPartException) as error:
        raise RefusedError(400, f"The form cannot be read: {_reason(error)}.") from error


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body of a request; one that is too large is not read to its end."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise RefusedError(413, f"The form is larger than {most} bytes, the most that is accepted.")
        yield chunk


class _UploadParser(MultiPartParser):
    """Keeps files in memory: nothing of them is ever written."""

    spool_max_size = MAX_UPLOAD_BYTES


async def _read_upload(request: Request, body: AsyncGenerator[bytes, None]) -> dict[str, list[str]]:
    """The fields of a form and the contents of its files, as texts."""
    parser = _UploadParser(
        request.headers, body, max_files=_MOST_PARTS, max_fields=_MOST_PARTS, max_part_size=MAX_UPLOAD_BYTES
    )
    found: dict[str, list[str]] = {}
    for name, part in (await parser.parse()).multi_items():
        # A file may be anything at all; what is no text is found out by who reads it.
        text = (await part.read()).decode("utf-8-sig", "replace") if isinstance(part, UploadFile) else part
        found.setdefault(name, []).append(text)
    return found


def _reason(error: ValueError | MultiPartException) -> str:
    return error.message.rstrip(".") if isinstance(error, MultiPartException) else str(error)


def _error_page(status: int, shown: dict[str, Any]) -> Page:
    return Page("error.html", "Error", {"error": {"status": status, **shown}}, status)


def _page_of(error: Exception, path: str) -> Page:
    """The page that tells an error; one that nobody foresaw is a line of the log as well."""
    match error:
        case RefusedError():
            return _error_page(error.status, {"message": str(error)})
        case RPCError():
            return _error_page(http_status(error), problem(error))
        case ClientConnectError():
            return _error_page(503, {"message": str(error)})
        case prefs.PreferencesTooLargeError():
            return _error_page(400, {"message": str(error)})
    logger.error("the page %s failed", path, exc_info=error)
    return _error_page(500, {"message": _MISTAKE})


def _json(value: Any, status: int) -> Response:
    body = json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "replace")
    return Response(
        body, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _page(request: Request, context: Context, page: Page) -> Response:
    if context.is_json:
        return _json(page.data, page.status)
    done = unquote(request.cookies.get(prefs.FLASH_COOKIE, ""))
    body = _html(request, context, page)
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept, Cookie, Accept-Encoding"}
    if not done and page.status == 200 and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if len(body) >= _GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    response = Response(body, status_code=page.status, media_type="text/html", headers=headers)
    if done:
        _set_cookie(response, context, prefs.FLASH_COOKIE, "", max_age_s=0)
    return response


def _may_stream(request: Request, context: Context) -> bool:
    """Whether a page may come in two parts: one that is compared with an earlier one has to be whole."""
    return not context.is_json and "if-none-match" not in request.headers and request.method == "GET"


def _later(request: Request, context: Context, answer: Later) -> Response:
    """Sends the frame of a page, then its contents when they are made."""
    frame, _, _ = _html(request, context, answer.frame).partition(_MAIN)
    packer = zlib.compressobj(1, wbits=31) if "gzip" in request.headers.get("accept-encoding", "") else None

    def packed(part: bytes, *, is_last: bool) -> bytes:
        if packer is None:
            return part
        return packer.compress(part) + packer.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)

    async def parts() -> AsyncIterator[bytes]:
        yield packed(frame, is_last=False)
        try:
            page = await answer.whole()
        except (
            Exception
        ) as error:  # The boundary of the application: the status is sent, so the page says it.
            page = _page_of(error, context.path)
        _, marker, rest = _html(request, context, page).partition(_MAIN)
        yield packed(marker + rest, is_last=True)

    headers = {"Cache-Control": "no-store", "Vary": "Accept, Cookie, Accept-Encoding"}
    if packer is not None:
        headers["Content-Encoding"] = "gzip"
    response = StreamingResponse(parts(), media_type="text/html", headers=headers)
    if prefs.FLASH_COOKIE in request.cookies:
        _set_cookie(response, context, prefs.FLASH_COOKIE, "", max_age_s=0)
    return response


def _html(request: Request, context: Context, page: Page) -> bytes:
    template = environment().get_template(page.template)
    done = unquote(request.cookies.get(prefs.FLASH_COOKIE, ""))
    shown = {**page.data, **page.only_html}
    return template.render(**shown, title=page.title, ui=context, done=done, live_ms=LIVE_INTERVAL_MS).encode(
        "utf-8", "replace"
    )


def _download(answer: Download) -> Response:
    return StreamingResponse(
        answer.parts,
        media_type=answer.media_type,
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(answer.name, safe='')}"},
    )


def _set_cookie(response: Response, context: Context, name: str, value: str, max_age_s: int | None) -> None:
    """Sets a cookie for the UI alone: other applications may be on the same host beside its public path."""
    path = context.config.public_path or "/"
    response.set_cookie(name, value, max_age=max_age_s, path=path, httponly=True, samesite="strict")
