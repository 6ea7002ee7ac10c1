"""Worker deployments, pure: what is kept of one, how it changes, and which version a task goes to.

No I/O, clock or randomness; what a run keeps of versions is in `core/run/versioning.py`.
"""
