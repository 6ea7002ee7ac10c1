"""A workflow run as a worker re-executes it: event history in, commands out. Pure: no I/O, no clock, no event loop.

`activation.py` says what happens to a workflow's code, `instructions.py` what the code asks for; both are data. The
run between them (`run.py`) holds history against instructions: it knows events and commands, never user code. What
executes the code (an event loop, a debugger, a test) implements `Program` and lives outside the core.
"""
