"""The HTTP/JSON door over a real connection: hosts, callers that go away, the end of a server, the description."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.server.config import ServerConfig
from perdure.server.doors.http import openapi
from perdure.server.doors.http.messages import read_request
from perdure.server.doors.http.routes import NoRouteError, Routes
from perdure.server.doors.ports import PortError
from perdure.server.lifetime import Server

LIMIT_S = 20
ROUTES = Routes()
HISTORY = "/namespaces/default/workflows/w/history"
START = b'{"workflowType":{"name":"T"},"taskQueue":{"name":"q"}}'


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


def with_server(scenario: Callable[[Server], Awaitable[None]], **options: Any) -> None:
    """Runs a scenario with an engine in this process and its HTTP door."""

    async def run() -> None:
        async with asyncio.timeout(LIMIT_S), Server(http="127.0.0.1:0", **options) as server:
            await scenario(server)

    asyncio.run(run())


async def connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to its door."""
    host, _, port = server.http_address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


def request(verb: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request."""
    fields = {"Host": "localhost", "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"{verb} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def send(server: Server, verb: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """Sends a request and reads the answer."""
    reader, writer = await connect(server)
    writer.write(request(verb, path, body, **headers))
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    return Answer(
        int(status.split()[1]),
        json.loads(answer) if answer else None,
        dict(line.lower().split(": ", 1) for line in lines),
    )


def test_only_allowed_hosts_are_answered() -> None:
    """A page of somebody else's must not reach a server on this machine through a name that it made up."""

    async def scenario(server: Server) -> None:
        for host in ("localhost", "LOCALHOST", "a.example.org"):
            assert (await send(server, "GET", "/system-info", Host=host)).status == 200
        refused = await send(server, "GET", "/system-info", Host="evil.example.com")
        assert (refused.status, refused.body["code"]) == (403, 7)
        operation = "/nexus/endpoints/e/services/s/o"
        assert (await send(server, "POST", operation, Host="evil.example.com")).status == 403

    with_server(scenario, config=ServerConfig(http_allowed_hosts=("localhost", "*.example.org")))


@pytest.mark.parametrize(
    ("patterns", "origin", "is_served"),
    [
        (("*",), "http://localhost", True),
        (("*",), "https://evil.example.com", False),
        (("*",), "http://localhost:8080", False),
        (("*",), "null", False),
        (("*",), "http://[", False),
        (("localhost", "*.example.org"), "https://pages.example.org", True),
        (("localhost", "*.example.org"), "https://example.com", False),
    ],
)
def test_what_a_page_of_another_host_sends_changes_nothing(
    patterns: tuple[str, ...], origin: str, is_served: bool
) -> None:
    """A browser sends a POST of text for any page, without asking the server; only the answer is kept from that."""

    async def scenario(server: Server) -> None:
        path = "/namespaces/default/workflows/w"
        started = await send(server, "POST", path, START, Origin=origin, Content_Type="text/plain")
        assert started.status == (200 if is_served else 403)
        found = await send(server, "GET", path, Origin=origin)
        assert found.status == (200 if is_served else 404)

    with_server(scenario, config=ServerConfig(http_allowed_hosts=patterns))


def test_a_long_poll_ends_when_its_caller_goes_and_when_the_server_stops() -> None:
    async def scenario(server: Server) -> None:
        assert (await send(server, "POST", "/namespaces/default/workflows/w", START)).status == 200
        waiting = request("GET", f"{HISTORY}?waitNewEvent=true&historyEventFilterType=2")
        gone_reader, gone_writer = await connect(server)
        gone_writer.write(waiting)
        reader, writer = await connect(server)
        writer.write(waiting)
        await writer.drain()
        gone_writer.close()
        await gone_writer.wait_closed()
        await server.stop()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        assert await gone_reader.read() == b""
        writer.close()

    with_server(scenario)


def test_a_deadline_of_the_caller_is_kept() -> None:
    async def scenario(server: Server) -> None:
        await send(server, "POST", "/namespaces/default/workflows/w", START)
        started = asyncio.get_running_loop().time()
        path = f"{HISTORY}?waitNewEvent=true&historyEventFilterType=2"
        answer = await send(server, "GET", path, Grpc_Timeout="1S")
        assert answer.status in (200, 504)
        assert asyncio.get_running_loop().time() - started < LIMIT_S / 2
        for text in ("soon", "999999999S", "9" * 4_000 + "S", "9" * 5_000 + "S", "-1S", "S"):
            assert (await send(server, "GET", "/system-info", Grpc_Timeout=text)).status == 400
        assert (await send(server, "GET", "/system-info", Grpc_Timeout="99999999H")).status == 200

    with_server(scenario)


def test_a_port_in_use_is_a_typed_error_and_nothing_is_left_open() -> None:
    async def scenario(server: Server) -> None:
        with pytest.raises(PortError, match="cannot listen for HTTP"):
            await Server("sqlite://?name=second", http=server.http_address).start()
        async with Server("sqlite://?name=second"):
            pass

    with_server(scenario)


def test_a_defect_is_masked_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: Server) -> None:
        async def broken(*_: object) -> None:
            raise ZeroDivisionError("secret")

        assert server._engine is not None
        monkeypatch.setattr(server._engine.server.service, "call", broken)
        answer = await send(server, "GET", "/system-info")
        assert (answer.status, answer.body["code"]) == (500, 13)
        assert "secret" not in json.dumps(answer.body)
        assert "secret" in caplog.text

    with_server(scenario)


def test_every_route_is_described() -> None:
    description = json.loads(openapi.describe(ROUTES.all))
    assert {(verb.upper(), path) for path, verbs in description["paths"].items() for verb in verbs} == {
        (route.verb, route.template) for route in ROUTES.all
    }
    assert len(ROUTES.all) > 200
    schemas = description["components"]["schemas"]
    assert set(_references(description)) <= {f"#/components/schemas/{name}" for name in schemas}
    operation = description["paths"]["/namespaces/{namespace}/workflows/{execution.workflow_id}"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]][:2] == [
        "namespace",
        "execution.workflow_id",
    ]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for item in value.values() for found in _references(item)]
    return [found for item in value for found in _references(item)] if isinstance(value, list) else []


@pytest.mark.parametrize("route", ROUTES.all, ids=lambda route: f"{route.verb} {route.template}")
def test_every_route_is_found_by_a_path_of_its_own(route: Any) -> None:
    texts = [segment if isinstance(segment, str) else "a%2Fb%20" for segment in route.segments]
    found, values = ROUTES.find(route.verb, "/" + "/".join(texts))
    assert found.path == route.path
    assert set(values.values()) <= {"a/b "}
    message = read_request(found.request, b"", values, ())
    for fields in values:
        item: Any = message
        for each in fields:
            item = getattr(item, each.name)
        assert item == "a/b "


def test_a_path_that_is_none_says_whether_another_method_would_do() -> None:
    for verb, path, is_other_verb in (("PUT", "/system-info", True), ("GET", "/system", False)):
        with pytest.raises(NoRouteError) as raised:
            ROUTES.find(verb, path)
        assert raised.value.is_other_verb is is_other_verb


@pytest.mark.parametrize("depth", [150, 100_000])
def test_nesting_is_bounded(depth: int) -> None:
    route, values = ROUTES.find("POST", "/namespaces/default/workflows/w")
    body = b'{"continuedFailure":' + b'{"cause":' * depth + b"{}" + b"}" * depth + b"}"
    with pytest.raises(InvalidArgumentError):
        read_request(route.request, body, values, ())
