"""The application without a browser: who may ask, what JSON it gives, how errors are told, whose credentials count."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.api.common.v1 import Payload
from perdure.api.schedule.v1 import Range, StructuredCalendarSpec
from perdure.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient
from perdure.ui import UiApp, UiConfig
from perdure.ui import preferences as prefs
from perdure.ui.forms import FieldError, duration_text, read_duration, read_time, read_values
from perdure.ui.plain import editable, payload, read_payload
from perdure.ui.routes import paths
from perdure.ui.security import is_allowed_host, is_same_origin
from perdure.ui.views.schedules import cron_of
from perdure.ui.views.workflows import built, conjunction, quoted


@dataclass
class Answer:
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def ask(
    app: UiApp,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] = {},
    body: bytes | Sequence[bytes] = b"",
) -> Answer:
    """One request, as a server of ASGI makes it; a body may come in pieces."""
    raw, _, query = path.partition("?")
    sent: list[dict[str, Any]] = []
    given = {"host": "127.0.0.1:8233", **headers}

    pieces = [body] if isinstance(body, bytes) else list(body)
    unread = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    unread[-1]["more_body"] = False
    unread.reverse()

    async def receive() -> dict[str, Any]:
        if not unread:
            await asyncio.Event().wait()  # the client stays until it has the answer
        return unread.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": raw, "raw_path": raw.encode(), "query_string": query.encode(),
        "headers": [(name.lower().encode(), text.encode()) for name, text in given.items()], "scheme": "http",
        "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8233),
    }  # fmt: skip
    await app(cast(Any, scope), cast(Any, receive), cast(Any, send))
    found = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


class Server(ServiceClient):
    """Notes the metadata of calls, and answers all of them in one way."""

    def __init__(self, error: RPCError | None = None) -> None:
        super().__init__(ConnectConfig(target_host="x:1"))
        self.error = error
        self.metadata: list[dict[str, Any]] = []

    async def _rpc_call(
        self, rpc: str, req: Any, resp_type: Any, *, metadata: Mapping[str, Any], **_: Any
    ) -> Any:
        self.metadata.append(dict(metadata))
        if self.error is not None:
            raise self.error
        answer = resp_type()
        if rpc == "describe_workflow_execution":
            answer.workflow_execution_info.execution.CopyFrom(req.execution)
        return answer

    @property
    def worker_service_client(self) -> ServiceClient:
        return self

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        """Not called."""

    def update_api_key(self, api_key: str | None) -> None:
        """Not called."""


def get(path: str, server: Server | None = None, config: UiConfig | None = None, **options: Any) -> Answer:
    """One request to an application of its own."""
    return asyncio.run(ask(UiApp(server or Server(), config or UiConfig()), path, **options))


FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_pages_come_with_a_strict_policy_and_hold_nothing_inline() -> None:
    answer = get("/namespaces")
    assert answer.status == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert b"<script>" not in answer.body
    assert b" style=" not in answer.body
    assert b"onclick" not in answer.body


@pytest.mark.parametrize("host", ["evil.example:8233", "", "127.0.0.1.evil.example", "[::1"])
def test_a_name_that_is_not_this_machines_is_refused(host: str) -> None:
    """A page of an attacker whose name points here (DNS rebinding) reaches nothing."""
    server = Server()
    assert get("/namespaces", server, headers={"host": host}).status == 421
    assert server.metadata == []


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1:8233", "[::1]:8233", "10.1.2.3", "ui.example:80"])
def test_addresses_and_names_that_were_allowed_reach_it(host: str) -> None:
    assert is_allowed_host(host, ("ui.example",))


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({"origin": "http://127.0.0.1:8233"}, True),
        ({"origin": "http://127.0.0.1:9999"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8233"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({}, True),
    ],
)
def test_what_changes_something_must_come_from_its_own_pages(
    headers: dict[str, str], is_allowed: bool
) -> None:
    assert is_same_origin({"host": "127.0.0.1:8233", **headers}) == is_allowed
    server = Server()
    body = urlencode({"name": "n", "retention": "3d"}).encode()
    answer = get("/create-namespace", server, method="POST", headers={**FORM, **headers}, body=body)
    assert answer.status == (303 if is_allowed else 403)
    assert bool(server.metadata) == is_allowed


def test_the_users_own_credentials_go_with_every_call() -> None:
    server = Server()
    get("/namespaces", server, headers={"authorization": "Bearer mine"})
    get("/namespaces", server, headers={"cookie": f"{prefs.TOKEN_COOKIE}=from%20cookie"})
    get("/namespaces", server)
    sent = [metadata.get("authorization") for metadata in server.metadata[::2]]
    assert sent == ["Bearer mine", "Bearer from cookie", None]


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        (RPCStatusCode.NOT_FOUND, 404, "deleted"),
        (RPCStatusCode.PERMISSION_DENIED, 403, "credentials"),
        (RPCStatusCode.UNAVAILABLE, 503, "reloaded"),
        (RPCStatusCode.UNIMPLEMENTED, 501, "does not have"),
        (RPCStatusCode.INTERNAL, 502, ""),
    ],
)
def test_an_error_of_the_server_is_told_in_words(code: RPCStatusCode, status: int, advice: str) -> None:
    server = Server(RPCError("no such <thing>", code, b""))
    page = get("/namespaces", server)
    assert page.status == status
    assert b"No such &lt;thing&gt;." in page.body
    twin = get("/namespaces.json", server)
    assert twin.status == status
    assert twin.json()["error"]["code"] == code.name
    assert advice in twin.json()["error"]["advice"]


def test_every_page_has_a_json_twin_by_path_and_by_header() -> None:
    by_path = get("/namespaces.json")
    by_header = get("/namespaces", headers={"accept": "application/json"})
    assert by_path.json() == by_header.json()
    assert by_path.headers["content-type"] == "application/json"


def test_a_form_that_cannot_be_sent_keeps_what_was_entered() -> None:
    body = urlencode({"name": "", "description": "kept <b>", "retention": "soon"}).encode()
    answer = get("/create-namespace", method="POST", headers=FORM, body=body)
    assert answer.status == 400
    assert b"Name is needed." in answer.body
    assert b"kept &lt;b&gt;" in answer.body
    twin = get("/create-namespace.json", method="POST", headers=FORM, body=body)
    assert twin.json()["form"]["fields"][0]["error"] == "Name is needed."


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/nothing", {}, 404),
        ("/namespaces/a/workflows/b/c/d/e", {}, 404),
        ("/namespaces", {"method": "POST", "headers": FORM}, 405),
        ("/namespaces", {"method": "DELETE"}, 405),
        ("/create-namespace", {"method": "POST", "headers": {"content-type": "text/plain"}}, 415),
        ("/create-namespace", {"method": "POST", "headers": FORM, "body": b"x=" + b"y" * (4 << 20)}, 413),
        ("/create-namespace", {"method": "POST", "headers": FORM, "body": b"\xff"}, 400),
        ("/namespaces?page=%25", {}, 400),
        ("/static/../app.py", {}, 404),
        ("/static/ui.css", {}, 200),
    ],
)
def test_odd_requests_get_an_answer_in_words(path: str, options: dict[str, Any], status: int) -> None:
    assert get(path, **options).status == status


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_path_and_cookie_gets_an_answer(path: str, cookie: str) -> None:
    """No request raises out of the application, and none is answered with a mistake of ours."""
    clean = "/" + path.encode("utf-8", "replace").decode("latin-1").replace("?", "")
    headers = {"cookie": f"{prefs.COOKIE}={cookie.encode('unicode_escape').decode()}"}
    answer = get(clean.encode("ascii", "replace").decode(), headers=headers)
    assert answer.status in (200, 303, 400, 404)


def test_what_did_not_change_is_not_sent_again() -> None:
    server = Server()
    app = UiApp(server, UiConfig(), now_ns=lambda: 0)
    first = asyncio.run(ask(app, "/namespaces"))
    again = asyncio.run(ask(app, "/namespaces", headers={"if-none-match": first.headers["etag"]}))
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("page", ["", "/history"])
@pytest.mark.parametrize("headers", [{}, {"accept-encoding": "gzip"}])
def test_the_frame_of_a_run_comes_first_and_the_page_is_the_same(headers: dict[str, str], page: str) -> None:
    """What is sent in two parts is what would be sent at once."""
    app = UiApp(Server(), UiConfig(), now_ns=lambda: 0)
    path = f"/namespaces/default/workflows/order/run{page}"
    parts = asyncio.run(ask(app, path, headers=headers))
    whole = asyncio.run(ask(app, path, headers={**headers, "if-none-match": '"none"'}))
    assert "etag" not in parts.headers
    assert "etag" in whole.headers
    bodies = [zlib.decompress(one.body, wbits=31) if headers else one.body for one in (parts, whole)]
    assert bodies[0] == bodies[1]
    assert b"</html>" in bodies[0]


def test_addresses_follow_the_public_path() -> None:
    answer = get("/ui/namespaces", config=UiConfig(public_path="/ui"))
    assert answer.status == 200
    assert b'href="/ui/static/ui.css' in answer.body


def test_a_codec_of_the_users_own_needs_a_ui_that_only_this_machine_reaches() -> None:
    """Otherwise anybody could have this process send requests."""
    body = urlencode({"codec_endpoint": "http://10.0.0.1"}).encode()
    answer = get("/settings", method="POST", headers=FORM, body=body, config=UiConfig(is_local=False))
    assert answer.status == 400
    assert "set-cookie" not in answer.headers


def test_preferences_survive_their_cookie() -> None:
    kept = prefs.Preferences(theme="dark", times="utc").with_view("mine", "WorkflowId = 'ü'")
    assert prefs.read(prefs.write(kept)) == kept
    with pytest.raises(prefs.PreferencesTooLargeError):
        prefs.write(kept.with_view("long", "x" * 5000))


@given(st.text(max_size=80))
def test_any_cookie_is_some_preferences(text: str) -> None:
    assert prefs.read(text).theme in prefs.THEMES


def test_filters_are_built_without_a_way_out_of_their_quotes() -> None:
    query = {
        "b_id": "it's",
        "b_type": "Ord*",
        "b_from": "2026-01-02T03:04",
        "b_name": "Price",
        "b_op": ">",
        "b_value": "5",
    }
    assert built(query) == (
        r"WorkflowId = 'it\'s' AND WorkflowType STARTS_WITH 'Ord' AND StartTime >= '2026-01-02T03:04:00Z' AND Price > 5"
    )
    assert conjunction("A = 1 OR B = 2", "", "C = 3") == "(A = 1 OR B = 2) AND C = 3"
    assert quoted("a\\'") == r"'a\\\''"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_json_becomes_a_payload_and_back(value: Any) -> None:
    made = read_payload(value)
    assert payload(made)["value"] == value
    assert read_payload(json.loads(editable(made))) == made or value is None


@given(
    st.binary(max_size=40),
    st.dictionaries(st.text(min_size=1, max_size=8), st.binary(max_size=8), max_size=3),
)
def test_any_payload_is_shown_and_edited_without_loss(data: bytes, metadata: dict[str, bytes]) -> None:
    made = Payload(metadata={**metadata, "encoding": b"binary/encrypted"}, data=data)
    assert payload(made)["size_bytes"] == len(data)
    assert read_payload(json.loads(editable(made))) == made


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h 30m", 5400), ("45", 45), ("250ms", 0.25), ("2d", 172_800), ("365d", 31_536_000)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    duration = read_duration(text, "x")
    assert duration.ToNanoseconds() == seconds * 1e9
    assert read_duration(duration_text(duration), "x") == duration


@pytest.mark.parametrize("text", ["soon", "1x", "h", "1h later", "9" * 30])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(FieldError):
        read_duration(text, "x")


def test_moments_are_read_in_utc_unless_they_say_otherwise() -> None:
    assert read_time("2026-01-31 12:00", "x").ToJsonString() == "2026-01-31T12:00:00Z"
    assert read_time("2026-01-31T12:00:00+02:00", "x").ToJsonString() == "2026-01-31T10:00:00Z"
    with pytest.raises(FieldError):
        read_time("tomorrow", "x")


def test_values_follow_each_other_and_mistakes_say_where() -> None:
    assert read_values('"a" {"b": 1}\n3, null', "x") == ["a", {"b": 1}, 3, None]
    with pytest.raises(FieldError, match="line 2, column 1"):
        read_values("1\nhello", "x")
    with pytest.raises(FieldError, match="NaN is not JSON"):
        read_values("NaN", "x")


def test_every_address_is_written_in_the_documentation() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "ui.md").read_text()
    missing = [path for path in paths() if f"`{path}`" not in text]
    assert missing == []


@pytest.mark.parametrize("cron", ["30 4 * * *", "0 12 1-15/2 * 1-5", "*/15 9,17 * 1,7 0", "0 0 1 1 0"])
def test_a_calendar_is_read_back_as_the_cron_expression_it_was(cron: str) -> None:
    fields = [_ranges(text, least, most) for text, (least, most) in zip(cron.split(), _BOUNDS, strict=True)]
    names = ("minute", "hour", "day_of_month", "month", "day_of_week")
    calendar = StructuredCalendarSpec(second=[Range()])
    for name, ranges in zip(names, fields, strict=True):
        getattr(calendar, name).extend(ranges)
    assert cron_of(calendar) == cron
    calendar.year.append(Range(start=2030))
    assert cron_of(calendar) == ""


_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def _ranges(text: str, least: int, most: int) -> list[Range]:
    found = []
    for one in text.split(","):
        span, _, step = one.partition("/")
        start, _, end = (f"{least}-{most}" if span == "*" else span).partition("-")
        found.append(Range(start=int(start), end=int(end or start), step=int(step or 1)))
    return found
