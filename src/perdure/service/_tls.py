"""Credentials of TLS connections: whose certificates are trusted, and whether what a user gave can be one.

May live here: settings and files become grpcio's credentials. May not: connecting, or what a failed handshake means
(`_connect_advice`).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import grpc

from perdure.service._config import TLSSettings

_PEM: Final = b"-----BEGIN "
_OWN_BUNDLE_OF_GRPC: Final = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
_COMMON_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS, the BSDs
)


def credentials_of(tls: TLSSettings | None) -> grpc.ChannelCredentials | None:
    """Return grpcio's credentials; None for a connection without TLS.

    Raises:
        ValueError: The settings contradict each other, or hold what is no PEM.
        TypeError: They hold a text or a path.
    """
    if tls is None:
        return None
    if (tls.client_cert is None) != (tls.client_private_key is None):
        raise ValueError(
            "Must have both client cert and private key or neither: set client_cert and client_private_key"
        )
    if tls.verification_server_name is not None and tls.server_root_ca_cert is None:
        raise ValueError(
            "Must have server root CA cert when verification server name is set: set server_root_ca_cert"
        )
    for name in ("server_root_ca_cert", "client_cert", "client_private_key"):
        _check_pem(name, getattr(tls, name))
    trusted = tls.server_root_ca_cert
    return grpc.ssl_channel_credentials(
        root_certificates=system_roots() if trusted is None else trusted,
        private_key=tls.client_private_key,
        certificate_chain=tls.client_cert,
    )


def _check_pem(name: str, content: object) -> None:
    if content is None:
        return
    advice = f"{name} must be the content of a PEM file: Path(...).read_bytes()"
    if not isinstance(content, bytes):
        raise TypeError(f"{advice}, not {type(content).__name__}")
    if _PEM not in content:
        raise ValueError(f"{advice}; what is given holds no {_PEM.decode()}")


def system_roots() -> bytes | None:
    """Return the certificates (PEM) that this system trusts; None means those that grpcio brings along.

    Left to itself grpcio takes its own: what an organisation adds to its machines would not be trusted.

    Raises:
        ValueError: One of those variables is set and no certificate is there.
    """
    if of_grpc := os.environ.get(_OWN_BUNDLE_OF_GRPC, ""):
        # grpcio reads it, too, but only once in a process: perhaps before it was set.
        found = _certificates([Path(of_grpc)])
        if not found:
            raise ValueError(
                f"{_OWN_BUNDLE_OF_GRPC}={of_grpc!r} says which authorities are trusted, and no certificate can be read "
                "there: correct or unset it, or give server_root_ca_cert (in a command, --tls-ca-path)"
            )
        return found
    file, folder = os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")
    if file or folder:
        folders = [Path(part) for part in folder.split(os.pathsep) if part]
        named = [Path(file)] if file else []
        found = _certificates(
            [*named, *(entry for part in folders if part.is_dir() for entry in part.iterdir())]
        )
        if not found:
            raise ValueError(
                f"SSL_CERT_FILE={file!r} and SSL_CERT_DIR={folder!r} say which authorities are trusted, and no "
                "certificate can be read there: correct or unset them, or give server_root_ca_cert (in a command, "
                "--tls-ca-path)"
            )
        return found
    for bundle in system_bundles():
        if found := _certificates([Path(bundle)]):
            return found
    # Windows has no file: there the ssl module reads the system's store.
    stored = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, stored)).encode() or None


def system_bundles() -> tuple[str, ...]:
    """Return where this system may keep the certificates it trusts, the likeliest first."""
    return (*_COMMON_BUNDLES, ssl.get_default_verify_paths().openssl_cafile)


def _certificates(files: Iterable[Path]) -> bytes:
    """The PEM files among these, one after the other."""
    found = []
    for file in files:
        try:
            content = file.read_bytes()
        except OSError:
            continue
        if _PEM in content:
            found.append(content)
    return b"\n".join(found)
