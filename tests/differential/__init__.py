"""Differential tests: the same scenario against the official dev server and against Perdure, compared.

`scenarios/` says what is done, `context` is what a scenario talks through, `normalise` turns what a server answered
into comparable data, `compare` finds differences, `known_differences` lists the accepted ones, `runner` runs many
scenarios at once. `python -m tests.differential --help` runs scenarios by hand.
"""
