"""The server: an engine over a store, the service handlers around it, and the doors that lead in.

runtime       the clock and the source of ids; the only place time and randomness come from (time_skipping: a clock that
              is moved on)
engine/       load, apply the core, commit, hand over; run cache, matching, timers, queries
service/      one object, one async method per RPC: typed request in, typed response out, typed error raised
doors/        thin adapters: gRPC, JSON over HTTP, Nexus over HTTP
registry      what is held in memory whole: namespaces (attribute_removals), deployments, nexus_endpoints, queue_configs
nexus         everything of Nexus on one engine; nexus_http: callers elsewhere; nexus_remote: handlers elsewhere, by
              http_calls, as callback_addresses are reached; nexus_system: the server's own endpoint
config        what a server can be told
server        puts the parts together, starts and stops them in order
embedding     engines inside a process, opened by address and shared (addresses: what an address means)
lifetime      `Server`, an engine of this process with an explicit lifetime
collector     how often the garbage collector of such a process works
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.server.lifetime import Server

__all__ = ["Server"]


def __getattr__(name: str) -> object:
    # Not imported with the package: most of its modules, such as the configuration, are light and used alone.
    if name == "Server":
        from perdure.server.lifetime import Server

        return Server
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
