"""A standalone Nexus operation as the server keeps it: one execution of an operation that no workflow scheduled.

    state.py     what is stored of it      machine.py   what handlers, clients and time do to it
    messages.py  how descriptions and lists show it      invariants.py   what must always hold

Pure: a state, an input and the time in, a transition out. What an attempt is, is `core/run/nexus_attempts.py`, as for
the operations of workflows. May not live here: histories (there is none), stores, the clock, policies about ids.
"""
