"""A standalone activity as the server keeps it: one execution of an activity that no workflow scheduled.

    state.py     what is stored of it      machine.py   what workers and time do to it
    control.py   what clients and operators do to it     messages.py  how descriptions and lists show it
    invariants.py   what must always hold

Pure: a state, an input and the time in, a transition out. What an attempt is, is `core/run/attempts.py`, as for the
activities of workflows. May not live here: histories (there is none), stores, the clock, policies about ids.
"""
