"""The picture of a run over time: `build` makes a model of a history, `layout` places it, `svg` draws it.

Everything here is pure: events, the range of time and "now" come in, values come out. Nothing here calls a server.
"""
