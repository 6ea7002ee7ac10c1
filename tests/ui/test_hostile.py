"""What users, workers, newer servers and other sites may send, and no page may break by, hang at or give away."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode

import pytest

from perdure.api.common.v1 import Payload
from perdure.api.history.v1 import HistoryEvent
from perdure.cli.ui_door import UiDoor, UiPlace
from perdure.service import ConnectConfig
from perdure.ui import UiApp, UiConfig, app
from perdure.ui import codec as codecs
from perdure.ui import preferences as prefs
from perdure.ui.forms import FieldError, read_duration, read_time
from perdure.ui.plain import iso, plain
from perdure.ui.timeline.scale import round_step
from perdure.ui.timeline.svg import say
from perdure.ui.views.history import event_view
from tests.ui.test_app import FORM, Answer, Server, ask, get

RUN = "/namespaces/default/workflows/order/run"
MARK = b"decoded:"
Fill = Callable[[Any], None]


class Answering(Server):
    """Answers some calls with more than nothing, and keeps the requests."""

    def __init__(self, **fills: Fill) -> None:
        super().__init__()
        self.fills = fills
        self.requests: dict[str, Any] = {}

    async def _rpc_call(self, rpc: str, req: Any, resp_type: Any, **more: Any) -> Any:
        answer = await super()._rpc_call(rpc, req, resp_type, **more)
        self.requests[rpc] = req
        if rpc in self.fills:
            self.fills[rpc](answer)
        return answer


class _Codec(BaseHTTPRequestHandler):
    """A codec whose `decode` shows what is encrypted, and whose `encode` encrypts."""

    def do_POST(self) -> None:
        """One call."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        for one in asked["payloads"]:
            is_decoding = self.path.endswith("/decode")
            one["metadata"]["encoding"] = "anNvbi9wbGFpbg==" if is_decoding else "YmluYXJ5L2VuY3J5cHRlZA=="
        body = json.dumps(asked).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def codec() -> Iterator[Any]:
    """A codec server; `paths` are those that were asked for."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Codec)
    server.paths = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _config(server: Any, path: str = "") -> UiConfig:
    return UiConfig(codec_endpoint=f"http://127.0.0.1:{server.server_port}{path}")


def _encrypted(text: str) -> Payload:
    return Payload(metadata={"encoding": b"binary/encrypted"}, data=json.dumps(text).encode())


# --- what is encrypted stays so ---


def _schedule(answer: Any) -> None:
    action = answer.schedule.action.start_workflow
    action.workflow_type.name, action.task_queue.name = "Order", "orders"
    action.input.payloads.append(_encrypted("input"))
    action.memo.fields["note"].CopyFrom(_encrypted("memo"))
    action.header.fields["trace"].CopyFrom(_encrypted("header"))
    answer.schedule.spec.interval.add().interval.FromTimedelta(timedelta(hours=1))


def test_changing_a_schedule_leaves_what_the_form_does_not_show_encrypted() -> None:
    server = Answering(describe_schedule=_schedule)
    entered = {"intervals": "1h", "workflow_type": "Order", "task_queue": "orders", "overlap": "SKIP"}
    body = urlencode({**entered, "workflow_id": "w", "input": '"input"'}).encode()
    with codec() as served:
        answer = get(
            "/namespaces/default/schedules/s/edit",
            server,
            _config(served),
            method="POST",
            headers=FORM,
            body=body,
        )
    assert answer.status == 303
    action = server.requests["update_schedule"].schedule.action.start_workflow
    assert action.memo.fields["note"] == _encrypted("memo")
    assert action.header.fields["trace"] == _encrypted("header")
    assert action.input.payloads[0] == _encrypted("input")


def test_the_memo_of_a_workflow_that_is_started_is_encrypted_like_its_input() -> None:
    server = Answering()
    entered = {
        "workflow_id": "w",
        "workflow_type": "Order",
        "task_queue": "orders",
        "reuse": "ALLOW_DUPLICATE",
    }
    more = {
        "conflict": "FAIL",
        "input": '"i"',
        "memo": '{"note": "m"}',
        "search_attributes": '{"City": "Faro"}',
    }
    with codec() as served:
        get(
            "/namespaces/default/start-workflow",
            server,
            _config(served),
            method="POST",
            headers=FORM,
            body=urlencode({**entered, **more}).encode(),
        )
    request = server.requests["start_workflow_execution"]
    assert request.input.payloads[0] == _encrypted("i")
    assert request.memo.fields["note"] == _encrypted("m")
    # The server reads these.
    assert request.search_attributes.indexed_fields["City"].metadata["encoding"] == b"json/plain"


def test_a_namespace_stays_inside_its_part_of_the_codecs_address() -> None:
    def secret(answer: Any) -> None:
        answer.executions.add().memo.fields["note"].CopyFrom(_encrypted("memo"))

    with codec() as served:
        path = "/namespaces/..%2F..%2Fother%3F/workflows"
        get(path, Answering(list_workflow_executions=secret), _config(served, "/of/{namespace}"))
    assert served.paths == ["/of/..%2F..%2Fother%3F/decode"]


def test_a_codec_that_goes_on_for_ever_holds_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads are few, and the process waits for them at its end."""
    monkeypatch.setattr(codecs, "TIMEOUT_S", 0.5)
    ended = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while not ended.wait(0.05):
                    self.wfile.write(b" ")
            except OSError:
                ended.set()  # nobody reads any more

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    async def call() -> None:
        found = codecs.RemoteCodec(f"http://127.0.0.1:{server.server_port}", "default")
        with pytest.raises(codecs.CodecError, match="cannot be reached"):
            await found.apply("decode", [_encrypted("x")])

    try:
        asyncio.run(call())
        assert ended.wait(10)
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("place", "may_choose"),
    [
        (UiPlace("127.0.0.1", 0), True),
        (UiPlace("0.0.0.0", 0), False),
        (UiPlace("127.0.0.1", 0, names=("ui.example",)), False),
        (UiPlace("127.0.0.1", 0, public_path="/ui"), False),
    ],
)
def test_behind_a_proxy_others_reach_it_so_that_they_choose_no_codec(
    place: UiPlace, may_choose: bool
) -> None:
    """The codec's address is one that this process sends requests to."""
    assert UiDoor(place, ConnectConfig(target_host="x:1"), "x")._config.is_local == may_choose


# --- what others wrote into histories ---


def _deep(depth: int) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=b"[" * depth + b"]" * depth)


@pytest.mark.parametrize("depth", [150, 960, 100_000])
@pytest.mark.parametrize("twin", ["", ".json"])
def test_json_that_is_nested_too_deeply_breaks_no_page(depth: int, twin: str) -> None:
    def nested(answer: Any) -> None:
        answer.executions.add().memo.fields["note"].CopyFrom(_deep(depth))

    def begun(answer: Any) -> None:
        started = answer.history.events.add(event_id=1, event_type=1)
        started.workflow_execution_started_event_attributes.input.payloads.append(_deep(depth))

    columns = prefs.write(prefs.Preferences(columns=("id", "memo")))
    headers = {"cookie": f"{prefs.COOKIE}={columns}", "if-none-match": '"none"'}
    server = Answering(list_workflow_executions=nested, get_workflow_execution_history=begun)
    for page in ("/namespaces/default/workflows", RUN, f"{RUN}/history"):
        assert get(page + twin, server, headers=headers).status == 200


def test_a_page_that_cannot_be_written_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a template ends in the error page, as one in a handler does."""

    def html(request: Any, context: Any, page: Any) -> bytes:
        if page.template != "error.html":
            raise RuntimeError("a mistake")
        return written(request, context, page)

    written = app._html
    monkeypatch.setattr(app, "_html", html)
    answer = get("/namespaces")
    assert answer.status == 500
    assert b"because of a mistake in Perdure" in answer.body


def test_moments_beyond_the_calendar_are_its_ends() -> None:
    assert iso(400_000_000_000 * 10**9) == "9999-12-31T23:59:59.999999Z"
    assert iso(-400_000_000_000 * 10**9) == "0001-01-01T00:00:00.000000Z"


def _sleeps_for_ever(answer: Any) -> None:
    started = answer.history.events.add(event_id=1, event_type=1)
    started.workflow_execution_started_event_attributes.workflow_type.name = "Order"
    timer = answer.history.events.add(event_id=2, event_type=17)
    timer.timer_started_event_attributes.start_to_fire_timeout.seconds = 300_000_000_000
    timer.timer_started_event_attributes.timer_id = "for ever"
    mark = answer.history.events.add(event_id=3, event_type=25)
    mark.marker_recorded_event_attributes.marker_name = "LocalActivity"
    mark.marker_recorded_event_attributes.details["data"].payloads.append(_deep(100_000))


@pytest.mark.parametrize("query", ["", "?from=-1e300&to=1e300", "?from=nan&to=inf", "?fold=1&to=1e300"])
def test_a_run_that_sleeps_for_ten_thousand_years_has_a_page(query: str) -> None:
    server = Answering(get_workflow_execution_history=_sleeps_for_ever)
    answer = get(RUN + query, server, headers={"if-none-match": '"none"'})
    assert answer.status == 200
    assert b"9999-12-31" in answer.body


@pytest.mark.parametrize("digits", [19, 400, 6000])
def test_a_failure_that_looks_like_a_moment_is_written_out(digits: int) -> None:
    assert "9" in say("\x01" + "9" * digits)


@pytest.mark.parametrize("least_ns", [10**19, 10**30, 10**300])
def test_an_axis_of_any_length_has_few_ticks(least_ns: int) -> None:
    """With a range of the address's choosing, the server would count ticks until its end."""
    assert round_step(least_ns) >= least_ns


def test_an_event_of_a_newer_server_is_shown() -> None:
    shown = event_view(HistoryEvent(event_id=7, event_type=9_999))  # type: ignore[arg-type]
    assert shown["type"] == "EventType9999"
    assert plain(HistoryEvent(event_id=7, event_type=9_999))["event_type"] == "9999"  # type: ignore[arg-type]


def test_links_to_runs_of_a_type_have_no_way_out_of_their_quotes() -> None:
    def named(answer: Any) -> None:
        answer.workflow_execution_info.type.name = "it's"

    answer = get(f"{RUN}/queries", Answering(describe_workflow_execution=named))
    assert b"query=WorkflowType+%3D+%27it%5C%27s%27" in answer.body
    assert b"query=TaskQueue+%3D+%27it%5C%27s%27" in get("/namespaces/default/task-queues/it's").body


# --- what is typed ---


@pytest.mark.parametrize(
    ("text", "seconds"), [("5min", 300), ("1 h 5 min", 3900), ("2 d 4 h", 187_200), ("3m", 180)]
)
def test_durations_are_read_as_the_pages_write_them(text: str, seconds: int) -> None:
    assert read_duration(text, "x").ToSeconds() == seconds


@pytest.mark.parametrize("text", ["0001-01-01T00:00+05:00", "9999-12-31T23:59-05:00"])
def test_a_moment_before_or_after_all_time_is_refused(text: str) -> None:
    with pytest.raises(FieldError):
        read_time(text, "x")


def _reset(**fields: str) -> Answer:
    body = urlencode({"reason": "r", **fields}).encode()
    return get(f"{RUN}/actions/reset", method="POST", headers=FORM, body=body)


@pytest.mark.parametrize("number", ["9" * 12, "9" * 30, "9" * 5000])
def test_a_number_that_is_too_large_is_refused_where_it_was_entered(number: str) -> None:
    answer = _reset(event_id=number)
    assert answer.status == 400
    assert b"at most 2147483647" in answer.body


@pytest.mark.parametrize("depth", [990, 100_000])
def test_an_input_that_is_nested_too_deeply_is_refused_where_it_was_entered(depth: int) -> None:
    body = urlencode({"name": "s", "input": "[" * depth + "]" * depth}).encode()
    answer = get(f"{RUN}/actions/signal", method="POST", headers=FORM, body=body)
    assert answer.status == 400
    assert b"field-error" in answer.body


@pytest.mark.parametrize("token", ["x" * 4000, "ключ"])
def test_a_token_that_could_not_be_kept_or_sent_is_refused(token: str) -> None:
    """It would be dropped without a word, and every call be made without credentials."""
    answer = get("/settings/token", method="POST", headers=FORM, body=urlencode({"token": token}).encode())
    assert answer.status == 400
    assert "set-cookie" not in answer.headers


def test_settings_that_do_not_fit_are_refused_in_words() -> None:
    body = urlencode({"codec_endpoint": "http://localhost/" + "x" * 4000}).encode()
    answer = get("/settings", method="POST", headers=FORM, body=body)
    assert answer.status == 400
    assert b"no room" in answer.body


# --- what stands in addresses and cookies ---


def test_a_damaged_address_is_told_in_words_inside_the_frame_as_well() -> None:
    answer = get(f"{RUN}/history?page=%25")
    assert b"is damaged" in answer.body
    assert b"mistake in Perdure" not in answer.body


def test_no_address_of_a_page_leads_to_another_site() -> None:
    answer = get("//evil.example/namespaces")
    assert answer.status == 404
    assert b'"//evil.example' not in answer.body


def test_a_cookie_that_is_nested_too_deeply_is_the_default() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    assert prefs.read(deep) == prefs.Preferences()


def test_behind_a_public_path_other_applications_of_the_host_get_no_token() -> None:
    async def call() -> Answer:
        application = UiApp(Server(), UiConfig(public_path="/perdure"))
        return await ask(
            application, "/perdure/settings/token", method="POST", headers=FORM, body=b"token=secret"
        )

    answer = asyncio.run(call())
    assert "Path=/perdure;" in answer.headers["set-cookie"]
