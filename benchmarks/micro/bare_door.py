"""A gRPC door reduced to HTTP/2 frames on asyncio, to know what the grpc library costs above that.

An experiment, not a server: unary calls of real gRPC clients, no limits, no deadlines, no TLS.
"""

from __future__ import annotations

import asyncio
import struct

from hpack import Decoder

from benchmarks import wire

RESPONSE_HEADERS = wire.literal(b":status", b"200") + wire.literal(b"content-type", b"application/grpc")
TRAILERS = wire.literal(b"grpc-status", b"0")


class BareConnection(wire.FrameProtocol):
    """One connection: /b/Call is answered at once in a task of its own, /b/Poll never."""

    def __init__(self, reply: bytes) -> None:
        super().__init__()
        self.body = struct.pack(">BI", 0, len(reply)) + reply
        self.decoder = Decoder()
        self.paths: dict[bytes, bytes] = {}
        self.path_of: dict[int, bytes] = {}
        self.messages: dict[int, bytes] = {}
        self.buffer_skip = len(wire.PREFACE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open with a header table of size 0: from then on equal blocks mean equal headers."""
        super().connection_made(transport)
        self.send(wire.opening_frames())

    def data_received(self, data: bytes) -> None:
        """Drop the client preface, then frames."""
        if self.buffer_skip:
            dropped = min(self.buffer_skip, len(data))
            self.buffer_skip -= dropped
            data = data[dropped:]
        super().data_received(data)

    def on_headers(self, stream: int, block: bytes, end: int) -> None:
        """Decode a block once while no dynamic table is in use."""
        path = self.paths.get(block)
        if path is None:
            headers = dict(self.decoder.decode(block, raw=True))
            path = headers[b":path"]
            if (
                not self.decoder.header_table.dynamic_entries
                and block[0] & 0xE0 != 0x20
                and len(self.paths) < 1000
            ):
                self.paths[block] = path
        self.path_of[stream] = path

    def on_data(self, stream: int, data: bytes, end: int) -> None:
        """Gather the request; at its end start a task, as a real handler would need."""
        message = self.messages.pop(stream, b"") + data
        if not end:
            self.messages[stream] = message
        elif self.path_of.pop(stream) == b"/b/Call":
            self.loop.create_task(self.answer(stream))

    async def answer(self, stream: int) -> None:
        """The handler."""
        self.send_data(
            wire.frame(wire.HEADERS, wire.FLAG_END_HEADERS, stream, RESPONSE_HEADERS)
            + wire.frame(wire.DATA, 0, stream, self.body)
            + wire.frame(wire.HEADERS, wire.FLAG_END_HEADERS | wire.FLAG_END_STREAM, stream, TRAILERS),
            len(self.body),
        )

    def on_reset(self, stream: int, code: int) -> None:
        """Forget the stream."""
        self.path_of.pop(stream, None)


async def serve_bare(reply: bytes) -> None:
    """Serve until killed; the port goes to stdout."""
    server = await asyncio.get_running_loop().create_server(lambda: BareConnection(reply), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
