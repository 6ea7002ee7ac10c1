"""The order application of "How durable execution works", and a driver that crashes everything around it.

`workflows`, `activities` and `worker` are an ordinary application of the official SDK; `demo` starts, kills and
restarts processes around it; `timeline` and `checks` read the event history. Run `python -m examples.order_demo`.
"""
