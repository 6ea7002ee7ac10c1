"""The order application of "How durable execution works", and a driver that crashes everything around it.

`workflows`, `activities` and `worker` are an ordinary application with the engine embedded in its one process; `demo`
starts, kills and restarts that process; `timeline` and `checks` read the event history. Run
`python -m examples.order_demo`.
"""
