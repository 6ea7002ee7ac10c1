"""gRPC over HTTP/2 on asyncio: a door made of bytes, because the grpc library costs ten times as much per call.

frames         layout and numbers of HTTP/2 frames, the two kinds of protocol error
limits         what a peer may make us do or keep, each limit with a name
headers        header blocks: requests read (and remembered), answers written
connection     one connection as a pure state machine: bytes and times in, calls of an observer and bytes out
outbox         its sending half: windows of the peer, order and fairness of answers
grpc_messages  what gRPC adds to HTTP/2: message prefix, compression, timeouts, status trailers
calls          streams to calls: one task each, deadlines, cancellation
server         listening, transports, keepalive, stopping in order
health, reflection  the two services every gRPC server is expected to have
door           the door itself: the service's methods as routes

Nothing here decides what a call means. No module but calls, server, health, reflection and door knows asyncio.
"""
