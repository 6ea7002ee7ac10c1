"""Load generators and measurements: Perdure against the real dev server, run as `python -m benchmarks`.

What lives here measures a server from outside, over its socket; it may import `perdure.api` and the store
protocol (for seeding a large database), never the engine. Nothing in `src/` imports it.
"""
