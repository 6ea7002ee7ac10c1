"""What to do about a connection that could not be made, by what the transport said.

May live here: words. May not: connecting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.service._config import ConnectConfig, ConnectionSettings
from perdure.service._errors import RPCError, RPCStatusCode
from perdure.service.transport import SCHEMES, scheme_of

_BY_STATUS: Final[Mapping[RPCStatusCode, str]] = {
    RPCStatusCode.UNAUTHENTICATED: "The server does not accept the credentials: check the API key or certificate.",
    RPCStatusCode.PERMISSION_DENIED: "The server does not let these credentials in: check the API key or certificate.",
    RPCStatusCode.UNAVAILABLE: "Check the address, that a server runs there (`perdure server start-dev` starts one), "
    "and that both sides use TLS or neither does.",
    RPCStatusCode.DEADLINE_EXCEEDED: "Something accepts connections there but does not answer: check the address and "
    "that both sides use TLS or neither does.",
}
_NOT_TRUSTED: Final = (
    "No authority that this client trusts has signed the server's certificate: give the authority's certificate as "
    "TLSConfig.server_root_ca_cert, or set SSL_CERT_FILE to its file."
)
# Parts of grpcio's messages about handshakes, the more telling ones first.
_BY_WORDS_OF_TLS: Final[Mapping[str, str]] = {
    "Hostname Verification Check failed": "The server's certificate is for another name than the address: check the "
    "address, or give the certificate's name as TLSConfig.domain.",
    "certificate has expired": "The server's certificate has expired: it must be renewed, or this machine's clock is "
    "wrong.",
    "certificate is not yet valid": "The server's certificate is not valid yet: is this machine's clock right?",
    "CERTIFICATE_VERIFY_FAILED": _NOT_TRUSTED,
    "certificate signature failure": _NOT_TRUSTED,
    "WRONG_VERSION_NUMBER": "What answers there does not use TLS, and both sides use TLS or neither does: check the "
    "port, or give tls=False (an API key turns TLS on).",
    "ALPN": "What answers there uses TLS and is no gRPC server: check the port.",
    "Failed to create security handshaker": "The certificates in TLSConfig cannot be used: each must be a whole PEM "
    "file, and client_private_key must be the key of client_cert.",
}
_ENDED_BY_THE_SERVER: Final = ("Socket closed", "Connection reset", "Broken pipe")


def connect_advice(config: ConnectConfig, settings: ConnectionSettings, error: RPCError) -> str:
    """Return the whole message of a connection that was not made.

    Args:
        config: What the user gave.
        settings: What that comes to.
        error: What connecting ended in.
    """
    said = f"Failed client connect: {config.target_host}: {error.status.name}: {error.message.rstrip('.')}."
    if scheme_of(config.target_host) in SCHEMES:
        return f"{said} The engine is this program's own: its log says more."
    return f"{said} {_advice(settings, error)}"


def _advice(settings: ConnectionSettings, error: RPCError) -> str:
    proxy = settings.http_connect_proxy_config
    if error.status is RPCStatusCode.UNAVAILABLE and settings.tls_config is not None:
        for words, advice in _BY_WORDS_OF_TLS.items():
            if words in error.message:
                return advice
        if proxy is None and any(words in error.message for words in _ENDED_BY_THE_SERVER):
            return _refused_after_handshake(settings)
    advice = _BY_STATUS.get(error.status, "Check that a Perdure or Temporal server answers at this address.")
    if proxy is None:
        return advice
    return (
        f"The connection goes through the proxy {proxy.target_host}: check that it runs there, lets this client in "
        f"(basic_auth) and reaches the server. {advice}"
    )


def _refused_after_handshake(settings: ConnectionSettings) -> str:
    own = settings.tls_config is not None and settings.tls_config.client_cert is not None
    wanted = (
        "it may not accept TLSConfig.client_cert (expired, or signed by an authority it does not trust)"
        if own
        else "it may want a certificate of the client: give TLSConfig.client_cert and client_private_key"
    )
    return f"The server ended the connection after it had begun TLS: {wanted}."
