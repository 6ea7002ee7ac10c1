"""What a client says when TLS fails: whose certificate, why, and what to change; and whom it trusts by default."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from examples.ports import free_port
from perdure.api.workflowservice.v1 import GetSystemInfoRequest, GetSystemInfoResponse
from perdure.service import (
    ClientConnectError,
    ConnectConfig,
    HttpConnectProxyConfig,
    ServiceClient,
    TLSConfig,
)

LIMIT_S = 30.0
SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs certificates; made anew for each run of the tests."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
        self.certificate = self._signed(self._name, self._key.public_key(), "ca.test", is_authority=True)

    def identity(
        self, host: str = "localhost", *, begins: timedelta = -YEAR, ends: timedelta = YEAR
    ) -> Identity:
        """Return a new identity for a host, valid from and to so long from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Identity(self._signed(name, key.public_key(), host, begins=begins, ends=ends), pem)

    def _signed(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        host: str,
        *,
        begins: timedelta = -YEAR,
        ends: timedelta = YEAR,
        is_authority: bool = False,
    ) -> bytes:
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """One for all tests here."""
    return Authority()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def _server(identity: Identity | None, clients: bytes | None = None) -> AsyncIterator[str]:
    """A server that answers GetSystemInfo; with `clients`, only those whose certificates that authority signed."""

    async def answer(request: GetSystemInfoRequest, context: object) -> GetSystemInfoResponse:
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
    if identity is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials(
                [(identity.key, identity.certificate)],
                root_certificates=clients,
                require_client_auth=clients is not None,
            ),
        )
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(None)


async def _connect(address: str, tls: TLSConfig | bool, proxy: HttpConnectProxyConfig | None = None) -> None:
    async with asyncio.timeout(LIMIT_S):
        config = ConnectConfig(address, tls=tls, http_connect_proxy_config=proxy)
        async with await ServiceClient.connect(config):
            pass


async def _refusal(address: str, tls: TLSConfig | bool, proxy: HttpConnectProxyConfig | None = None) -> str:
    with pytest.raises(ClientConnectError) as caught:
        await _connect(address, tls, proxy)
    assert address in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("host", "begins", "ends", "advice"),
    [
        ("other.test", -YEAR, YEAR, "certificate is for another name"),
        ("localhost", -2 * YEAR, -YEAR, "certificate has expired"),
        ("localhost", YEAR, 2 * YEAR, "not valid yet"),
    ],
)
def test_a_servers_certificate_that_is_not_accepted_is_named(
    authority: Authority, host: str, begins: timedelta, ends: timedelta, advice: str
) -> None:
    """And not the address, or whether a server runs there: it does."""

    async def scenario() -> None:
        async with _server(authority.identity(host, begins=begins, ends=ends)) as address:
            said = await _refusal(address, TLSConfig(server_root_ca_cert=authority.certificate))
        assert advice in said
        assert "start-dev" not in said

    asyncio.run(scenario())


def test_a_server_of_an_unknown_authority_asks_for_the_authoritys_certificate(authority: Authority) -> None:
    """By the name of the setting."""

    async def scenario() -> None:
        async with _server(authority.identity()) as address:
            for tls in (True, TLSConfig(server_root_ca_cert=Authority().certificate)):
                said = await _refusal(address, tls)
                assert "server_root_ca_cert" in said
                assert "start-dev" not in said

    asyncio.run(scenario())


def test_a_server_that_wants_a_certificate_of_the_client_says_what_to_give(authority: Authority) -> None:
    """Without one, and with one that the server does not accept."""

    async def scenario() -> None:
        own, expired = authority.identity(), authority.identity(ends=timedelta(days=-1), begins=-YEAR)
        async with _server(authority.identity(), clients=authority.certificate) as address:
            trusted = TLSConfig(server_root_ca_cert=authority.certificate)
            assert "client_cert" in await _refusal(address, trusted)
            late = TLSConfig(
                server_root_ca_cert=authority.certificate,
                client_cert=expired.certificate,
                client_private_key=expired.key,
            )
            assert "client_cert" in await _refusal(address, late)
            mixed = TLSConfig(
                server_root_ca_cert=authority.certificate,
                client_cert=own.certificate,
                client_private_key=expired.key,
            )
            assert "client_private_key must be the key of client_cert" in await _refusal(address, mixed)

    asyncio.run(scenario())


def test_tls_to_what_has_none_says_so(authority: Authority) -> None:
    """An API key turns TLS on, which surprises."""

    async def scenario() -> None:
        async with _server(None) as address:
            said = await _refusal(address, tls=True)
        assert "does not use TLS" in said
        assert "tls=False" in said

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("tls", "named"),
    [
        (TLSConfig(server_root_ca_cert=b"/etc/ca.pem"), "server_root_ca_cert"),
        (TLSConfig(server_root_ca_cert="ca.pem"), "server_root_ca_cert"),  # type: ignore[arg-type]
        (TLSConfig(client_cert=b"cert.pem", client_private_key=b"key.pem"), "client_cert"),
        (
            TLSConfig(client_cert=b"-----BEGIN CERTIFICATE-----", client_private_key=b"key.pem"),
            "client_private_key",
        ),
    ],
)
def test_what_is_no_pem_is_refused_by_the_settings_name(tls: TLSConfig, named: str) -> None:
    """A path where the content belongs is the usual mistake; it ended in words about handshakers."""
    with pytest.raises((ValueError, TypeError), match=f"{named} must be .*read_bytes"):
        asyncio.run(_connect("localhost:1", tls))


def test_the_systems_authorities_are_trusted(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, and not only those that grpcio brings along."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate)

    async def scenario() -> None:
        async with _server(authority.identity()) as address:
            monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
            await _connect(address, tls=True)
            monkeypatch.delenv("SSL_CERT_FILE")
            monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
            await _connect(address, tls=True)
            monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "missing"))
            with pytest.raises(ValueError, match="SSL_CERT_DIR"):
                await _connect(address, tls=True)
            monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(bundle))
            await _connect(address, tls=True)

    asyncio.run(scenario())


def test_where_no_bundle_is_known_the_one_of_openssl_is_looked_for() -> None:
    """The places are those of the common systems and of Python's own OpenSSL."""
    from perdure.service._tls import system_bundles

    assert ssl.get_default_verify_paths().openssl_cafile in system_bundles()


def test_a_proxy_that_fails_is_named() -> None:
    """What it says of itself, or that nothing listens there, would be taken for the server's words."""

    async def scenario() -> None:
        proxy = HttpConnectProxyConfig(f"127.0.0.1:{free_port()}")
        said = await _refusal("server.invalid:7233", tls=False, proxy=proxy)
        assert f"through the proxy {proxy.target_host}" in said

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            proxy = HttpConnectProxyConfig(f"127.0.0.1:{port}", basic_auth=("user", "secret"))
            said = await _refusal("server.invalid:7233", tls=False, proxy=proxy)
        assert "407" in said
        assert "basic_auth" in said
        assert "secret" not in said

    asyncio.run(scenario())


@pytest.mark.parametrize("wrong", ["http://127.0.0.1:8080", "127.0.0.1", "proxy.test", "proxy.test:", ""])
def test_an_address_of_a_proxy_is_host_and_port(wrong: str) -> None:
    """With a scheme the name server was asked for `http:`; without a port it was 443."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        asyncio.run(_connect("localhost:1", tls=False, proxy=HttpConnectProxyConfig(wrong)))
