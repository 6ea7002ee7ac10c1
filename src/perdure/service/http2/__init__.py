"""gRPC over HTTP/2 on asyncio, the client's side: for connections without TLS, where grpcio costs ten times as much.

messages     what a call sends and what its answer means: header blocks, statuses, the message itself
connection   one connection: frames, windows, streams
transport    the `Transport`: connecting, deadlines, one connection per event loop

Frames' layout and gRPC's message format come from the server's door (`perdure.server.doors.http2`). Nothing here knows
RPCs.
"""
