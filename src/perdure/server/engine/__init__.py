"""The engine: loads a run, applies the core, commits, hands tasks over; matching, timers, queries, history reads.

It knows runs, tasks and the store, no request of the wire's service and no transport.
"""
