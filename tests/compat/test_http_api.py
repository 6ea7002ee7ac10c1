"""The HTTP/JSON API: the same requests to the official server and to ours, with the same answers."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple

import pytest

from examples.ports import free_port
from tests.support.servers import PerdureServer, RealServer

pytestmark = pytest.mark.xdist_group("http-api")

REQUEST_TIMEOUT_S: Final = 20.0
START: Final = {"workflowType": {"name": "T"}, "taskQueue": {"name": "q"}, "requestId": "r1"}
LONG_NULL: Final = {"metadata": {"encoding": "YmluYXJ5L251bGw="}}
LONG_BINARY: Final = {"metadata": {"encoding": "YmluYXJ5L3BsYWlu"}, "data": "AAE="}
LONG_TYPED: Final = {"metadata": {"encoding": "anNvbi9wbGFpbg==", "k": "YQ=="}, "data": "MQ=="}
LONG_PROTO: Final = {
    "metadata": {
        "encoding": "anNvbi9wcm90b2J1Zg==",
        "messageType": "dGVtcG9yYWwuYXBpLmNvbW1vbi52MS5Xb3JrZmxvd0V4ZWN1dGlvbg==",
    },
    "data": "eyJ3b3JrZmxvd0lkIjoieCJ9",
}
SHORT_PROTO: Final = {"_protoMessageType": "temporal.api.common.v1.WorkflowExecution", "workflowId": "x"}


class Step(NamedTuple):
    """One request; `body` None sends none."""

    verb: str
    path: str
    body: Any = None


def _start(workflow_id: str, **fields: Any) -> Step:
    return Step("POST", f"/namespaces/default/workflows/{workflow_id}", {**START, **fields})


def _history(workflow_id: str, query: str = "") -> Step:
    return Step("GET", f"/namespaces/default/workflows/{workflow_id}/history{query}")


def _inputs(workflow_id: str, value: Any) -> list[Step]:
    return [
        _start(workflow_id, input=value),
        _history(workflow_id),
        _history(workflow_id, "?noPayloadShorthand"),
    ]


W = "/namespaces/default/workflows"
SCENARIOS: Final[dict[str, list[Step]]] = {
    "a workflow's life": [
        _start("life", memo={"fields": {"k": "v"}}),
        Step("GET", f"{W}/life"),
        Step("POST", f"{W}/life/signal/go", {"input": ["x", 5]}),
        Step("POST", f"{W}/life/cancel"),
        Step("POST", f"{W}/life/terminate", {"reason": "enough", "details": [1]}),
        Step("GET", f"/api/v1{W}/life/history"),
        Step("GET", f"{W}/life/history-reverse?maximumPageSize=2"),
        Step("POST", f"{W}/life/terminate", {}),
        Step("POST", f"{W}/life/signal/late", {}),
    ],
    "short payloads": _inputs("short", [1, {"a": [2, 3]}, "é", True, [1]]),
    "long payloads": _inputs("long", [LONG_NULL, LONG_BINARY, LONG_TYPED, LONG_PROTO]),
    "both": _inputs("both", {"payloads": [1, None, LONG_BINARY, SHORT_PROTO]}),
    "messages": _inputs("messages", [SHORT_PROTO]),
    "values that look like payloads": _inputs(
        "alike",
        [
            {"metadata": 1},
            {"data": {"a": 1}},
            {"data": "***"},
            {"data": "MQ==", "metadata": {"encoding": "json/plain!"}},
        ],
    ),
    "no input": _inputs("none", None),
    "short names of enum values": [
        _start("enums"),
        _start("enums", requestId="r2", workflowIdConflictPolicy="Fail"),
        _start("enums", requestId="r3", workflowIdConflictPolicy="WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING"),
        _start("enums", requestId="r4", workflowIdConflictPolicy=2),
    ],
    "the path wins": [
        _start("path", namespace="other", workflowId="body"),
        Step("GET", f"{W}/path"),
        Step("GET", f"{W}/body"),
    ],
    "names of either kind": [
        _start("proto_names", workflow_execution_timeout="60s"),
        Step("GET", f"{W}/proto_names"),
    ],
    "what is not there": [
        Step("GET", f"{W}/nobody"),
        Step("GET", "/nothing/here"),
        Step("GET", f"{W}/nobody/"),
        Step("GET", "/"),
        Step("PUT", "/system-info"),
        Step("GET", "/namespaces/nowhere/workflow-count"),
        Step("DELETE", f"{W}/nobody"),
    ],
    "fields in the query": [
        Step("GET", f"{W}?query=WorkflowId%3D%22nobody%22&pageSize=3"),
        Step("GET", f"{W}?bogus=1&query=WorkflowId%3D%22nobody%22"),
        Step("GET", f"{W}/nobody?execution.runId=zz"),
        Step("GET", f"{W}/nobody?execution.run_id=zz"),
        Step("GET", "/namespaces/default/workflow-count?query=WorkflowId%3D%22nobody%22"),
        Step("GET", "/namespaces/default/workflow-count?query=foo%20bar"),
        Step("GET", f"{W}/nobody/history?waitNewEvent=1"),
    ],
    "schedules": [
        Step(
            "POST",
            "/namespaces/default/schedules/s",
            {
                "schedule": {
                    "spec": {"interval": [{"interval": "3600s"}]},
                    "action": {
                        "startWorkflow": {
                            "workflowId": "w",
                            "workflowType": {"name": "T"},
                            "taskQueue": {"name": "q"},
                            "input": ["x"],
                        }
                    },
                    "state": {"paused": True},
                },
                "requestId": "r",
            },
        ),
        Step("DELETE", "/namespaces/default/schedules/s"),
    ],
}

REFUSED: Final = {
    "broken JSON": b'{"workflowId',
    "no object": b"[]",
    "an unknown field": b'{"unknownField": 1}',
    "a wrong type": b'{"workflowType": 5}',
    "a wrong list": b'{"links": 5}',
    "a wrong map": b'{"memo": {"fields": []}}',
    "a wrong number": b'{"workflowIdConflictPolicy": 1.5}',
    "a wrong duration": b'{"workflowRunTimeout": "soon"}',
    "too deep": b'{"input":' * 200 + b"1" + b"}" * 200,
    "not a number": b'{"workflowIdConflictPolicy": NaN}',
    "no text": b"\xff\xfe\x00",
}
TYPE_AND_QUEUE: Final = '"workflowType": {"name": "T"}, "taskQueue": {"name": "q"}'
REFUSED_BESIDE: Final = {
    "a field twice": '"requestId": "a", "requestId": "b"',
    "a field by both of its names": '"requestId": "a", "request_id": "b"',
    "a field twice, once without value": '"requestId": null, "requestId": "b"',
    "a field of a field twice": '"retryPolicy": {"maximumAttempts": 1, "maximumAttempts": 2}',
    "a key twice": '"memo": {"fields": {"a": 1, "a": 2}}',
    "a list of payloads twice": '"input": [1], "input": [2]',
    "an enum's number in quotes": '"workflowIdConflictPolicy": "2"',
    "half of a character": r'"input": ["\ud800"]',
    "half of a character in a key": r'"input": [{"\ud800": 1}]',
    "a number too large": '"input": [1E400]',
}
"""Fields beside which a start would be as it should be."""
REFUSED_ENCODINGS: Final = ("utf-8-sig", "utf-16", "utf-32")
REFUSED_IN_QUERY: Final = {
    "a field twice": f"{W}?pageSize=5&pageSize=6",
    "no base64": f"{W}?nextPageToken=***",
    "no number": f"{W}?pageSize=x",
    "an enum's unknown number": f"{W}/x/history?historyEventFilterType=99",
    "an enum's unknown name": f"{W}/x/history?historyEventFilterType=Nope",
    "a field that has fields": f"{W}/x/history?execution=x",
    "no truth": f"{W}/x/history?waitNewEvent=maybe",
}


class Target(NamedTuple):
    """One of the two servers."""

    name: str
    http_port: int


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Target, Target]]:
    """Ours and the official one."""
    port = free_port()
    ours, real = PerdureServer(extra_args=("--http-port", str(port))), RealServer()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            for server in (ours, real):
                runner.run(stack.enter_async_context(server))
            yield Target(ours.name, port), Target(real.name, real.http_port)
        finally:
            runner.run(stack.aclose())


def _send(port: int, verb: str, path: str, body: bytes | None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, method=verb, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


_RUN_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME: Final = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_POSITION: Final = re.compile(r"at position \d+")
_OWN_KEYS: Final = frozenset(
    {"taskId", "historySizeBytes", "conflictToken", "nextPageToken", "pollers", "identity", "autoResetPoints"}
)
"""Numbers and tokens that each server counts and makes in its own way, and a known difference."""


def _normal(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _normal(item, names) for key, item in value.items() if key not in _OWN_KEYS}
    if isinstance(value, list):
        return [_normal(item, names) for item in value]
    if isinstance(value, str):
        value = _POSITION.sub("at position N", _TIME.sub("TIME", value))
        return _RUN_ID.sub(lambda found: names.setdefault(found.group(), f"id {len(names) + 1}"), value)
    return value


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_requests_have_the_same_answers(servers: tuple[Target, Target], name: str) -> None:
    names: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for step in SCENARIOS[name]:
        body = None if step.body is None else json.dumps(step.body).encode()
        answers = []
        for server, known in zip(servers, names, strict=True):
            status, answer = _send(server.http_port, step.verb, step.path, body)
            answers.append((status, _normal(json.loads(answer), known)))
        assert answers[0] == answers[1], step


@pytest.mark.parametrize("name", REFUSED)
def test_bodies_that_cannot_be_read_are_refused_by_both(servers: tuple[Target, Target], name: str) -> None:
    for server in servers:
        status, answer = _send(server.http_port, "POST", f"{W}/bad", REFUSED[name])
        assert (status, json.loads(answer)["code"]) == (400, 3), server.name


@pytest.mark.parametrize("name", REFUSED_BESIDE)
def test_bodies_that_could_be_read_as_something_else_are_refused_by_both(
    servers: tuple[Target, Target], name: str
) -> None:
    body = f"{{{TYPE_AND_QUEUE}, {REFUSED_BESIDE[name]}}}".encode()
    for server in servers:
        status, answer = _send(server.http_port, "POST", f"{W}/ambiguous", body)
        assert (status, json.loads(answer)["code"]) == (400, 3), server.name


@pytest.mark.parametrize("encoding", REFUSED_ENCODINGS)
def test_bodies_in_another_encoding_are_refused_by_both(
    servers: tuple[Target, Target], encoding: str
) -> None:
    for server in servers:
        body = f"{{{TYPE_AND_QUEUE}}}".encode(encoding)
        status, answer = _send(server.http_port, "POST", f"{W}/encoded", body)
        assert (status, json.loads(answer)["code"]) == (400, 3), server.name


@pytest.mark.parametrize("name", REFUSED_IN_QUERY)
def test_queries_that_cannot_be_read_are_refused_by_both(servers: tuple[Target, Target], name: str) -> None:
    for server in servers:
        status, answer = _send(server.http_port, "GET", REFUSED_IN_QUERY[name], None)
        assert (status, json.loads(answer)["code"]) == (400, 3), server.name


def test_a_key_may_come_twice_in_a_value(servers: tuple[Target, Target]) -> None:
    body = b'{"workflowType":{"name":"T"},"taskQueue":{"name":"q"},"input":[{"a":1,"a":2}]}'
    for server in servers:
        assert _send(server.http_port, "POST", f"{W}/twice", body)[0] == 200, server.name
        _, answer = _send(server.http_port, "GET", f"{W}/twice/history", None)
        started = json.loads(answer)["history"]["events"][0]["workflowExecutionStartedEventAttributes"]
        assert started["input"] == [{"a": 2}], server.name


COMPLETED: Final = {"Nexus-Operation-State": "succeeded", "Content-Type": "application/json"}
TOKENS: Final = {
    "none": None,
    "empty": "",
    "text": "abc",
    "an empty object": "{}",
    "broken JSON": '{"v":',
    "an old version": '{"v":0,"d":""}',
    "a version to come": '{"v":2,"d":"YQ"}',
    "without data": '{"v":1}',
    "data in no base64": '{"v":1,"d":"***"}',
    "data that is no message": '{"v":1,"d":"__8"}',
    "a list": "[]",
    "a number": "5",
    "very long": "a" * 5000,
}


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("path", ["/nexus/callback", "/namespaces/default/nexus/callback"])
def test_completions_with_a_wrong_token_have_the_same_answers(
    servers: tuple[Target, Target], path: str, name: str
) -> None:
    token = TOKENS[name]
    headers = COMPLETED if token is None else {**COMPLETED, "Nexus-Callback-Token": token}
    answers = [_send(server.http_port, "POST", path, b"1", **headers) for server in servers]
    assert answers[0][0] == 400
    assert (answers[0][0], json.loads(answers[0][1])) == (answers[1][0], json.loads(answers[1][1]))


@pytest.mark.parametrize("verb", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nexus_has_one_method_and_says_so_in_its_own_words(servers: tuple[Target, Target], verb: str) -> None:
    nowhere = "/nexus/endpoints/0190c7a8-0000-7000-8000-000000000001/services"
    queue = "/namespaces/default/task-queues/q/nexus-services"
    for path in (f"{queue}/s/o", f"{queue}/s", f"{nowhere}/s/o"):
        ours, real = (_send(server.http_port, verb, path, None) for server in servers)
        assert (ours[0], json.loads(ours[1])) == (real[0], json.loads(real[1])), path
    for path in ("/nexus/callback", "/namespaces/default/nexus/callback"):
        ours, real = (_send(server.http_port, verb, path, None) for server in servers)
        assert (ours[0], json.loads(ours[1])["details"]) == (real[0], json.loads(real[1])["details"]), path


def test_answers_are_pretty_when_asked(servers: tuple[Target, Target]) -> None:
    for server in servers:
        for path, headers in (
            ("/system-info?pretty", {}),
            ("/system-info", {"Accept": "application/json+pretty"}),
        ):
            _, answer = _send(server.http_port, "GET", path, None, **headers)
            assert answer.startswith(b'{\n  "serverVersion"'), server.name


def test_too_large_a_body_is_refused_by_both(servers: tuple[Target, Target]) -> None:
    body = json.dumps({**START, "input": ["x" * (4 * 1024 * 1024)]}).encode()
    for server in servers:
        status, answer = _send(server.http_port, "POST", f"{W}/large", body)
        assert status == 400, server.name
        assert "large" in json.loads(answer)["message"]
