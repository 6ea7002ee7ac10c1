"""What one unary RPC costs a Python gRPC server: CPU µs in the server, by server kind, event loop and option.

The server answers raw bytes with raw bytes; besides the load it holds many pending long polls, as matching
does. Server and client are separate processes; the server's CPU is read from /proc before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import grpc.aio

from benchmarks.procstat import usage
from benchmarks.wire import Method, connect

REPLY = b"r" * 120
REQUEST = b"q" * 160
CASES: dict[str, tuple[str, dict[str, str], list[tuple[str, int]]]] = {
    "aio": ("aio", {}, []),
    "aio, reads metadata and deadline": ("aio-time", {}, []),
    "aio uvloop": ("aio-uvloop", {}, []),
    "aio uvloop, reuseport off": ("aio-uvloop", {}, [("grpc.so_reuseport", 0)]),
    "aio uvloop, fork support off": ("aio-uvloop", {"GRPC_ENABLE_FORK_SUPPORT": "0"}, []),
    "aio uvloop, poll strategy poll": ("aio-uvloop", {"GRPC_POLL_STRATEGY": "poll"}, []),
    "aio uvloop, no bdp probe, optimise latency": (
        "aio-uvloop",
        {},
        [("grpc.http2.bdp_probe", 0), ("grpc.optimization_target", 2)],
    ),
    "aio uvloop, minimal stack": ("aio-uvloop", {}, [("grpc.minimal_stack", 1)]),
    "aio uvloop, no event-engine listener": (
        "aio-uvloop",
        {"GRPC_EXPERIMENTS": "-event_engine_listener"},
        [],
    ),
    "aio uvloop, switch interval 0.1 ms": ("aio-uvloop", {"PERDURE_BENCH_SWITCH_S": "0.0001"}, []),
    "aio uvloop, switch interval 50 ms": ("aio-uvloop", {"PERDURE_BENCH_SWITCH_S": "0.05"}, []),
    "sync 16 threads": ("sync", {}, []),
}


def generic_handler(call: Callable[..., Any], poll: Callable[..., Any]) -> grpc.GenericRpcHandler:
    """Route /b/Call and /b/Poll to raw-bytes unary handlers."""
    return grpc.method_handlers_generic_handler(
        "b",
        {
            "Call": grpc.unary_unary_rpc_method_handler(call),
            "Poll": grpc.unary_unary_rpc_method_handler(poll),
        },
    )


async def serve_aio(options: list[tuple[str, int]], read_time: bool) -> None:
    """Serve with grpc.aio until killed; the port goes to stdout."""
    forever = asyncio.Event()

    async def call(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if read_time:
            context.time_remaining()
            context.invocation_metadata()
        return REPLY

    async def poll(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await forever.wait()
        return REPLY

    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((generic_handler(call, poll),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def serve_sync(options: list[tuple[str, int]], pending: int) -> None:
    """Serve with the thread-pool server until killed; the port goes to stdout."""
    forever = threading.Event()

    def call(request: bytes, context: grpc.ServicerContext) -> bytes:
        return REPLY

    def poll(request: bytes, context: grpc.ServicerContext) -> bytes:
        forever.wait()
        return REPLY

    server = grpc.server(futures.ThreadPoolExecutor(16 + pending), options=options)
    server.add_generic_rpc_handlers((generic_handler(call, poll),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def serve(kind: str, options: list[tuple[str, int]], pending: int) -> None:
    """Run the server of one case (in a process of its own)."""
    if "PERDURE_BENCH_SWITCH_S" in os.environ:
        sys.setswitchinterval(float(os.environ["PERDURE_BENCH_SWITCH_S"]))
    if kind == "sync":
        serve_sync(options, pending)
    elif kind == "aio-uvloop":
        import uvloop

        uvloop.run(serve_aio(options, read_time=False))
    else:
        asyncio.run(serve_aio(options, read_time=kind == "aio-time"))


async def load(port: int, pid: int, calls: int, concurrency: int, pending: int) -> tuple[float, float, float]:
    """Drive `calls` RPCs; return (calls per second, server CPU µs per call, client CPU µs per call)."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/b/Call")
        poll: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/b/Poll")
        polls = [asyncio.ensure_future(poll(REQUEST)) for _ in range(pending)]
        for _ in range(200):
            await unary(REQUEST)

        async def one(count: int) -> None:
            for _ in range(count):
                await unary(REQUEST)

        before, client_before, started = usage(pid).cpu_s, time.process_time(), time.perf_counter()
        await asyncio.gather(*(one(calls // concurrency) for _ in range(concurrency)))
        elapsed = time.perf_counter() - started
        done = calls // concurrency * concurrency
        server_us = (usage(pid).cpu_s - before) / done * 1e6
        client_us = (time.process_time() - client_before) / done * 1e6
        for task in polls:
            task.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
    return done / elapsed, server_us, client_us


async def load_raw(
    port: int, pid: int, calls: int, concurrency: int, pending: int
) -> tuple[float, float, float]:
    """The same load through the benchmark's own frames, which cost the client next to nothing."""
    address = f"127.0.0.1:{port}"
    channel = await connect(address)
    unary, poll = Method("/b/Call", address, 60), Method("/b/Poll", address, 600)
    for _ in range(pending):
        channel.call(poll, REQUEST, lambda reply, error: None)
    for _ in range(200):
        await channel.unary(unary, REQUEST)

    async def one(count: int) -> None:
        for _ in range(count):
            await channel.unary(unary, REQUEST)

    before, client_before, started = usage(pid).cpu_s, time.process_time(), time.perf_counter()
    await asyncio.gather(*(one(calls // concurrency) for _ in range(concurrency)))
    elapsed, done = time.perf_counter() - started, calls // concurrency * concurrency
    server_us = (usage(pid).cpu_s - before) / done * 1e6
    client_us = (time.process_time() - client_before) / done * 1e6
    channel.close()
    return done / elapsed, server_us, client_us


def run_case(name: str, client: str, calls: int, concurrency: int, pending: int) -> None:
    """Start the server of case `name`, load it, print one line."""
    _, environment, _ = CASES[name]
    command = [sys.executable, "-m", "benchmarks.micro.rpc_cost", "--serve", name, "--pending", str(pending)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        if process.stdout is None:
            raise RuntimeError("the server's output is not piped")
        port = int(process.stdout.readline())
        rate, server_us, client_us = asyncio.run(
            (load if client == "grpc" else load_raw)(port, process.pid, calls, concurrency, pending)
        )
        print(
            f"{name:<45} c={concurrency:<3} {rate:>8,.0f} calls/s  server {server_us:6.1f} us  "
            f"client {client_us:6.1f} us  threads {usage(process.pid).threads}",
            flush=True,
        )
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Run the cases, or (with --serve) be the server of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=CASES)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--client", choices=("grpc", "raw"), default="grpc")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 50])
    parser.add_argument("--pending", type=int, default=100, help="long polls held open during the load")
    arguments = parser.parse_args()
    if arguments.serve:
        kind, _, options = CASES[arguments.serve]
        serve(kind, options, arguments.pending)
        return
    for name in arguments.cases:
        for concurrency in arguments.concurrency:
            calls = arguments.calls if concurrency > 1 else arguments.calls // 4
            run_case(name, arguments.client, calls, concurrency, arguments.pending)


if __name__ == "__main__":
    main()
