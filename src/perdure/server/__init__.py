"""The server: an engine over a store, the service handlers around it, and the doors that lead in.

runtime       the clock and the source of ids; the only place time and randomness come from
engine/       load, apply the core, commit, hand over; run cache, matching, timers, queries
namespaces    the namespaces and their search attributes
service/      one object, one async method per RPC: typed request in, typed response out, typed error raised
doors/        thin adapters: gRPC (later HTTP/JSON)
server        puts the parts together, starts and stops them in order
"""
