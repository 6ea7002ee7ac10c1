"""Ways to connect: TLS, mutual TLS, another name than the host's, through a proxy; and how each fails."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from perdure.api.workflowservice.v1 import GetSystemInfoRequest, GetSystemInfoResponse
from perdure.service import (
    ClientConnectError,
    ConnectConfig,
    DnsLoadBalancingConfig,
    GrpcCompression,
    HttpConnectProxyConfig,
    RPCError,
    RPCStatusCode,
    ServiceClient,
    TLSConfig,
)
from perdure.service.grpc_transport import GrpcTransport, open_grpc

LIMIT_S = 30.0
CERTIFICATES = Path(__file__).parent / "certificates"
"""Made for these tests and used nowhere else; the authority's key was thrown away."""

SERVER_NAME = "server.test"
SERVICE = "temporal.api.workflowservice.v1.WorkflowService"


def _read(name: str) -> bytes:
    return (CERTIFICATES / name).read_bytes()


def _run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario

    asyncio.run(bounded())


class Seen:
    """What a server saw of the last call."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.peer = ""
        self.port = 0

    @property
    def target(self) -> str:
        """Its address."""
        return f"localhost:{self.port}"


@asynccontextmanager
async def _server(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[Seen]:
    """A server that answers GetSystemInfo and nothing else."""
    seen = Seen()

    async def answer(request: GetSystemInfoRequest, context: Any) -> GetSystemInfoResponse:
        seen.metadata = dict(context.invocation_metadata())
        seen.peer = str(context.auth_context().get("x509_common_name", ""))
        return GetSystemInfoResponse(server_version="test")

    handler = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=GetSystemInfoRequest.FromString,
        response_serializer=GetSystemInfoResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"GetSystemInfo": handler}),)
    )
    address = "127.0.0.1:0"
    seen.port = (
        server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    )
    await server.start()
    try:
        yield seen
    finally:
        await server.stop(None)


def _tls_credentials(*, mutual: bool = False) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(_read("server.key"), _read("server.pem"))],
        root_certificates=_read("ca.pem") if mutual else None,
        require_client_auth=mutual,
    )


def test_tls_checks_the_servers_name_or_the_one_it_is_told() -> None:
    """The certificate is not for `localhost`: only with the name it is for, the connection is made."""

    async def scenario() -> None:
        async with _server(_tls_credentials()) as seen:
            named = TLSConfig(server_root_ca_cert=_read("ca.pem"), domain=SERVER_NAME)
            async with await ServiceClient.connect(ConnectConfig(seen.target, tls=named, api_key="key")):
                assert seen.metadata["authorization"] == "Bearer key"
            for tls, says in (
                (TLSConfig(server_root_ca_cert=_read("ca.pem")), "for another name"),
                (True, "server_root_ca_cert"),
                (False, "both sides use TLS or neither"),
            ):
                with pytest.raises(ClientConnectError, match=says) as caught:
                    await ServiceClient.connect(ConnectConfig(seen.target, tls=tls))
                assert seen.target in str(caught.value)

    _run(scenario())


@pytest.mark.parametrize("domain", [None, "other.test"])
def test_a_pinned_name_is_what_the_certificate_must_carry(domain: str | None) -> None:
    """Whatever host and domain say; the authority stays theirs."""

    async def scenario() -> None:
        async with _server(_tls_credentials()) as seen:
            trusted = TLSConfig(server_root_ca_cert=_read("ca.pem"), domain=domain)
            pinned = replace(trusted, verification_server_name=SERVER_NAME)
            async with await ServiceClient.connect(ConnectConfig(seen.target, tls=pinned)):
                assert seen.metadata
            for wrong in (
                trusted,
                replace(pinned, domain=SERVER_NAME, verification_server_name="other.test"),
            ):
                with pytest.raises(ClientConnectError):
                    await ServiceClient.connect(ConnectConfig(seen.target, tls=wrong))

    _run(scenario())


def test_tls_to_a_server_without_is_an_error_that_says_so() -> None:
    """And not a call that hangs."""

    async def scenario() -> None:
        async with _server() as seen:
            with pytest.raises(ClientConnectError, match="both sides use TLS or neither"):
                await ServiceClient.connect(ConnectConfig(seen.target, tls=True))

    _run(scenario())


def test_mutual_tls_shows_the_clients_certificate() -> None:
    """Without one the server does not answer."""

    async def scenario() -> None:
        async with _server(_tls_credentials(mutual=True)) as seen:
            trusted = {"server_root_ca_cert": _read("ca.pem"), "domain": SERVER_NAME}
            own = TLSConfig(
                **trusted,  # type: ignore[arg-type]  # keys and values as the fields are
                client_cert=_read("client.pem"),
                client_private_key=_read("client.key"),
            )
            async with await ServiceClient.connect(ConnectConfig(seen.target, tls=own)):
                assert "client.test" in seen.peer
            with pytest.raises(ClientConnectError):
                await ServiceClient.connect(
                    ConnectConfig(seen.target, tls=TLSConfig(**trusted))  # type: ignore[arg-type]
                )

    _run(scenario())


@asynccontextmanager
async def _proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP proxy that can only CONNECT; what it was asked, line by line."""
    asked: list[str] = []
    tunnels: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.extend(head.splitlines())
        host, _, port = head.split()[1].rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for pair in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(copy(*pair))
            tunnels.add(task)
            task.add_done_callback(tunnels.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in list(tunnels):
            task.cancel()


def test_a_proxy_is_gone_through_with_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """By CONNECT to the server's address; a proxy of the environment is not used unless it is configured."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def scenario() -> None:
        async with _server() as seen, _proxy() as (address, asked):
            proxy = HttpConnectProxyConfig(address, basic_auth=("user", "pass"))
            config = ConnectConfig(f"127.0.0.1:{seen.port}", http_connect_proxy_config=proxy)
            async with await ServiceClient.connect(config):
                pass
            assert f"CONNECT 127.0.0.1:{seen.port}" in asked[0]
            login = base64.b64encode(b"user:pass").decode()
            assert any(line.lower() == f"proxy-authorization: basic {login}".lower() for line in asked)
            async with await ServiceClient.connect(ConnectConfig(f"127.0.0.1:{seen.port}")):
                assert len([line for line in asked if line.startswith("CONNECT")]) == 1

    _run(scenario())


@pytest.mark.parametrize("compression", [GrpcCompression.GZIP, GrpcCompression.NONE])
def test_compression_and_balancing_are_options_of_the_connection(compression: GrpcCompression) -> None:
    """Calls work with each; without compression none is offered."""

    async def scenario() -> None:
        async with _server() as seen:
            config = ConnectConfig(
                seen.target,
                grpc_compression=compression,
                dns_load_balancing_config=DnsLoadBalancingConfig(resolution_interval_millis=1000),
            )
            async with await ServiceClient.connect(config) as service:
                await service.workflow_service.get_system_info(
                    GetSystemInfoRequest(), metadata={"long": "x" * 3000}
                )
            assert seen.metadata["user-agent"].startswith("perdure-python/")

    _run(scenario())


def test_a_cancelled_answer_in_the_clean_up_of_a_cancelled_task_is_an_error() -> None:
    """The task was cancelled long ago; this call was not. grpcio says the same of both."""

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.CANCELLED, "the server says no")
        raise AssertionError

    async def clean_up(transport: GrpcTransport) -> RPCError:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        with pytest.raises(RPCError) as caught:
            await transport.call(
                SERVICE,
                f"/{SERVICE}/X",
                GetSystemInfoRequest(),
                GetSystemInfoResponse,
                metadata={},
                timeout=20,
            )
        return caught.value

    async def scenario() -> None:
        server = grpc.aio.server()
        methods: dict[str, Any] = {"X": grpc.unary_unary_rpc_method_handler(refuse)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        transport = await open_grpc(ConnectConfig(f"127.0.0.1:{port}")._to_bridge_config())
        task = asyncio.create_task(clean_up(transport))
        await asyncio.sleep(0)
        task.cancel()
        error = await task
        assert (error.status, error.message) == (RPCStatusCode.CANCELLED, "the server says no")
        await transport.close()
        await server.stop(None)

    _run(scenario())
