"""Schedules: when they act (`spec`), and what they do then (`machine`).

Pure: a state, an input and the time in, a state and effects out. May not live here: stores, runs, the clock, how a
workflow is started.
"""
