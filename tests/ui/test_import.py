"""Histories from files: any tool's spelling is read, nothing is kept, and what is no history is said in words."""

from __future__ import annotations

import html
import json
import random
import re
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.api.registry import POOL
from perdure.ui.config import HISTORY_PAGE_EVENTS, MAX_UPLOAD_BYTES
from tests.ui.test_app import FORM, Answer, Server, get

PAGE = "/namespaces/default/import-history"
KIND = "multipart/form-data; boundary=the-line-between"
_KINDS = sorted(kind for kind in EventType.values() if kind)


def form(**parts: str | bytes) -> bytes:
    """A form as browsers send it."""
    texts = {name: part.encode() if isinstance(part, str) else part for name, part in parts.items()}
    head = 'Content-Disposition: form-data; name="%s"; filename="a \\"b\\".json"\r\nContent-Type: text/plain'
    lines = [
        f"--the-line-between\r\n{head % name}\r\n\r\n".encode() + text + b"\r\n"
        for name, text in texts.items()
    ]
    return b"".join(lines) + b"--the-line-between--\r\n"


def send(text: str | bytes, path: str = PAGE, server: Server | None = None, **fields: str) -> Answer:
    """What the page says of a file."""
    return get(
        path, server, method="POST", headers={"content-type": KIND}, body=form(file=text, text="", **fields)
    )


def event(number: int, kind: str, **attributes: Any) -> dict[str, Any]:
    """An event as tools write it."""
    words = kind.lower().split("_")
    name = words[0] + "".join(word.capitalize() for word in words[1:])
    return {
        "eventId": str(number),
        "eventTime": f"2026-01-31T12:00:{number % 60:02}Z",
        "eventType": f"EVENT_TYPE_{kind}",
        f"{name}EventAttributes": attributes,
    }


STARTED = event(
    1,
    "WORKFLOW_EXECUTION_STARTED",
    workflowType={"name": "Order"},
    workflowId="order-7",
    originalExecutionRunId="run-7",
    input={"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "ImxhbXAi"}]},
)


def history(length: int) -> str:
    """A history with so many events, most of them signals."""
    some = [event(number, "WORKFLOW_EXECUTION_SIGNALED", signalName="poke") for number in range(2, length)]
    failed = event(length, "WORKFLOW_EXECUTION_FAILED", failure={"message": "<b>no lamp</b>"})
    return json.dumps({"events": [STARTED, *some, failed]})


def test_what_came_in_and_out_and_the_timeline_of_a_file_are_there() -> None:
    found = send(history(5), f"{PAGE}.json").json()
    assert found["workflow"]["execution"] == {"workflow_id": "order-7", "run_id": "run-7"}
    assert found["workflow"]["status"] == found["result"]["status"] == "Failed"
    assert [one["value"] for one in found["input"]["input"]] == ["lamp"]
    assert [one["event_id"] for one in found["events"]] == [1, 2, 3, 4, 5]
    assert len(found["timeline"]["items"]) == 5


def test_nothing_of_a_file_is_markup_and_no_server_is_asked() -> None:
    """The page holds the text itself, too: that is how it is kept."""
    server = Server()
    body = send(history(3).replace("order-7", "</textarea><script>"), server=server).body.decode()
    assert "<b>no lamp" not in body
    assert "<script>" not in body
    assert body.count("</textarea>") == 1
    assert "&lt;b&gt;no lamp&lt;/b&gt;" in body
    assert server.metadata == []


def test_a_long_file_is_shown_a_page_at_a_time() -> None:
    text = history(3 * HISTORY_PAGE_EVENTS)
    assert send(text, f"{PAGE}.json?page=3").json()["events"][0]["event_id"] == 2 * HISTORY_PAGE_EVENTS + 1
    assert send(text, f"{PAGE}.json?page=99").json()["page"] == 3
    found = send(text, f"{PAGE}.json", event="101").json()
    assert (found["page"], found["event"]) == (2, 101)
    assert send(text, f"{PAGE}.json", event="9" * 30).json()["event"] == 3 * HISTORY_PAGE_EVENTS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Choose a file"),
        ("   ", "Choose a file"),
        ("{", "is no history: Expecting property name"),
        (b"\x89PNG\r\n\x1a\n", "is no history"),
        ("7", "is no history"),
        ('{"events": 7}', "is no history"),
        ('{"events": []}', "does not begin with its start"),
        (json.dumps([event(1, "TIMER_STARTED")]), "does not begin with its start"),
        (json.dumps([STARTED, event(3, "TIMER_STARTED")]), "event 2 is not where it should be"),
        (json.dumps([STARTED, {**event(2, "TIMER_FIRED"), "eventType": 1}]), "damaged: event 2 says it is"),
        (json.dumps([STARTED, {"eventId": "2", "eventType": "TimerFired"}]), "holds nothing"),
        (json.dumps([{**STARTED, "eventTime": "yesterday"}]), "is no history"),
        (json.dumps([{**STARTED, "eventId": {"a": [1]}}]), "is no history"),
        (json.dumps([{**STARTED, "eventType": "\ud800"}]), "is no history: 'utf-8' codec can't encode"),
        ("[" * 100_000, "is no history"),
    ],
)
def test_what_is_no_history_is_said_in_words(text: str | bytes, says: str) -> None:
    answer = send(text, f"{PAGE}.json")
    assert answer.status == 400
    assert says in answer.json()["error"]
    page = send(text)
    assert page.status == 400
    assert b'role="alert"' in page.body


def test_a_file_that_is_too_large_is_refused_before_it_is_read() -> None:
    answer = send(b" " * MAX_UPLOAD_BYTES)
    assert answer.status == 413
    assert str(MAX_UPLOAD_BYTES).encode() in answer.body


def test_a_file_is_taken_from_the_uis_own_pages_only() -> None:
    headers = {"content-type": KIND, "origin": "https://evil.example"}
    assert get(PAGE, method="POST", headers=headers, body=form(file=history(3))).status == 403


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", form(file="x")),
        (KIND, b""),
        (KIND, b"--the-line-between\r\n"),
        (KIND, form(file="x")[:-6]),
        (KIND, b"--the-line-between\r\n\r\nx\r\n--the-line-between--"),
        (KIND, form(**{f"f{number}": "x" for number in range(200)})),
        (FORM["content-type"], b"\xff\xff"),
    ],
)
def test_a_damaged_form_is_refused(kind: str, body: bytes) -> None:
    assert get(PAGE, method="POST", headers={"content-type": kind}, body=body).status == 400


@settings(max_examples=30)
@given(st.text(), st.booleans())
def test_a_form_is_read_as_it_was_sent(text: str, is_file: bool) -> None:
    """What is no history comes back in the page, where it can be put right."""
    named = "file" if is_file else "text"
    answer = get(PAGE, method="POST", headers={"content-type": KIND}, body=form(**{named: f"[{text}"}))
    assert answer.status == 400
    area = re.search(r"<textarea[^>]*>\n(.*)</textarea>", answer.body.decode(), re.DOTALL)
    assert area is not None
    assert html.unescape(area[1]) == f"[{text}"


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_form_may_come_in_pieces(size: int) -> None:
    """However the network cuts it: between two characters of the line between the parts, too."""
    body = form(file=history(9), text="")
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    found = get(f"{PAGE}.json", method="POST", headers={"content-type": KIND}, body=pieces).json()
    assert len(found["events"]) == 9


def _filled(random_: random.Random, number: int) -> dict[str, Any]:
    """An event of any type with fields of their types, which need not fit together."""
    event = HistoryEvent(event_id=number, event_type=random_.choice(_KINDS))
    event.event_time.FromNanoseconds(random_.randrange(-(10**18), 10**19))
    name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower() + "_event_attributes"
    attributes = getattr(event, name)
    attributes.SetInParent()
    number_of = [0, 1, number - 1, number, 2**31 - 1]
    for field in attributes.DESCRIPTOR.fields:
        if field.is_repeated or random_.random() < 0.4:
            continue
        if field.message_type is not None:
            getattr(attributes, field.name).SetInParent()
        elif field.type == field.TYPE_STRING:
            setattr(attributes, field.name, f"\x01{random_.choice(number_of)}<")
        elif field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
            setattr(attributes, field.name, random_.choice(number_of))
    return MessageToDict(event, descriptor_pool=POOL)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_whatever_fits_the_protocol_has_a_page(random_: random.Random, length: int) -> None:
    """Events in an order, at times and with numbers that no server writes."""
    text = json.dumps([STARTED, *(_filled(random_, number) for number in range(2, length + 2))])
    for path in (PAGE, f"{PAGE}?fold=1&width=400", f"{PAGE}.json"):
        answer = send(text, path)
        assert answer.status == 200, answer.body[:2_000]


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.data())
def test_whatever_is_changed_in_a_file_has_words_or_a_page(
    random_: random.Random, data: st.DataObject
) -> None:
    """One value anywhere is replaced by one of another kind."""
    value: Any = {"events": [STARTED, *(_filled(random_, number) for number in range(2, 6))]}
    place = value
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 9)) == 0:
            place[key] = data.draw(
                st.sampled_from([None, True, -1, 1e400, "x", "\ud800", [], [[]], {}, {"a": 1}])
            )
            break
        place = place[key]
    assert send(json.dumps(value)).status in (200, 400)
