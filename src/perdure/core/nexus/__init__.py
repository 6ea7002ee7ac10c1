"""What Nexus speaks, without any transport: links, failures, contents of requests, and outcomes of operations. Pure.

Nothing here knows a run; `core/run/nexus_operation.py` and `core/run/callback.py` use it.
"""
