"""An HTTP CONNECT proxy on loopback that counts its tunnels, for programs that are told to go through one."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from types import TracebackType
from typing import Final, Self

CONNECT_TIMEOUT_S: Final = 10.0
CHUNK: Final = 65_536


class _Handler(socketserver.StreamRequestHandler):
    """One connection: CONNECT host:port, then bytes both ways."""

    server: _Server

    def handle(self) -> None:
        """Answer the request and pass on until either side ends."""
        method, target, *_ = self.rfile.readline().decode("latin-1").split()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        if method != "CONNECT":
            self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S) as upstream:
            upstream.settimeout(None)
            self.server.count()
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(upstream, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, upstream)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            sink.sendall(chunk)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self.tunnels = 0

    def count(self) -> None:
        """One tunnel more."""
        with self._lock:
            self.tunnels += 1


class ConnectProxy:
    """The proxy, running inside of a `with`."""

    def __init__(self) -> None:
        self._server = _Server()

    @property
    def address(self) -> str:
        """Where it listens: host:port."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def tunnels(self) -> int:
        """How many tunnels it has made."""
        return self._server.tunnels

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
