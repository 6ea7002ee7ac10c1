"""Pure state machines and languages.

May live here: code whose result depends on its arguments alone. May not: any input or output, any clock, randomness,
thread, event loop, network or database. Ids, times and random numbers enter as data. A test enforces it.
"""
