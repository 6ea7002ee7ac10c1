"""The same application on several systems: an order with one step, or with ten steps one after the other.

Each module beside this one is one system's program, run in a process of its own; `compare.py` starts what it needs,
runs all of them in turn in the same rounds and compares. A system that is not installed is left out and named.
"""
